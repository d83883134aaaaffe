"""A user's own network and weights: by import path, by file."""

import json
import re
import sys
import warnings

import pytest
import torch
from conftest import FAST, OWN_NETWORK, bnat, copy, execute, run
from safetensors.torch import save_file
from torch import nn

from study.define import brought
from study.define.experiment import experiment
from study.define.normalisations import NORMS
from study.run import networks, records, runs
from study.run.weights import digest, network
from study.show import elsewhere

MINE = (
    "import torch"
    + OWN_NETWORK
    + """
def plain(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def coloured(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, num_classes))

def tied(num_classes):
    hidden, again = nn.Linear(64, 64), nn.Linear(64, 64)
    again.weight = hidden.weight
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), again, nn.ReLU(), nn.Linear(64, num_classes))

class Auxiliary(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.fc(x.flatten(1))
        return (x, x) if self.training else x

class Constant(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(x.flatten(1)) @ torch.eye(10)

def strided(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 1, stride=2), nn.Flatten(), nn.Linear(64, num_classes))

def dropping(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, num_classes))

class Twice(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.layers, self.fc = nn.ModuleList([self.conv, self.bn]), nn.Linear(144, num_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().flatten(1))
"""
)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module that a user wrote, importable."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def made(step, **changes):
    exp = experiment(step, **FAST | dict(epochs=1) | changes)
    return exp, runs.run(exp)


def test_bn_only_at_of_a_user_s_own_network(root, mine):
    exp, _ = made("finetune", arch=f"{mine}:make", pretrain_epochs=1)
    start, end = (network(name, trust_code=True).state_dict() for name in (exp.parent.name, exp.name))
    moved = {key for key in start if not torch.equal(start[key], end[key])}
    assert {key.rpartition(".")[2] for key in moved if key.startswith("net.1")} >= {"weight", "bias"}
    assert all(key.startswith("net.1.") for key in moved), "more than BN moved"
    assert re.fullmatch(rf"finetune_{mine}-make_bn_eps32_seed0_\w{{10}}", exp.name)


def test_a_user_s_own_network_takes_options(root, mine):
    wide, usual = (
        experiment("pretrain", profile="quick", arch=f"{mine}:make", arch_options=options)
        for options in (dict(width=8), None)
    )
    assert networks.build(wide.run).net[0].out_channels == 8 and wide.name != usual.name


@pytest.mark.filterwarnings("ignore:1 of 1 BN are not folded")
@pytest.mark.parametrize("function", ["tied", "Twice"])
def test_a_network_with_a_tensor_under_two_names_is_kept_whole(root, mine, function):
    exp, record = made("pretrain", arch=f"{mine}:{function}")
    assert digest(network(exp.name, trust_code=True)) == record["weights"]
    assert not list((exp.out / "checkpoints").glob("*.pt"))


def test_another_source_makes_another_run(root, mine, tmp_path):
    names = []
    for text in (MINE, MINE + "\n# changed\n"):
        (tmp_path / f"{mine}.py").write_text(text)
        names.append(experiment("pretrain", profile="quick", arch=f"{mine}:make").name)
    assert names[0] != names[1]


@pytest.mark.parametrize(
    "function, sentence",
    [
        ("three", "arch must give 10 logits an image, got '.*:three': (3,)"),
        ("coloured", "arch must take images of digits, got '.*:coloured': .*channels"),
        ("nn.functional", "arch must be a function or class of a Python file, got .*: <module"),
        ("missing", "arch must be importable, got '.*:missing': module .* has no attribute 'missing'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_a_sentence(root, mine, function, sentence):
    with pytest.raises(ValueError, match="^" + sentence.replace("(3,)", r"\(3,\)")):
        made("pretrain", arch=f"{mine}:{function}")


def test_a_network_is_tried_as_it_will_be_trained_and_attacked(root, mine, monkeypatch):
    monkeypatch.setattr(bnat, "fast_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(bnat, "train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(
        ValueError, match="^arch must give 10 logits an image in train mode, got '.*': tuple$"
    ):
        made("pretrain", arch=f"{mine}:Auxiliary")
    with pytest.raises(ValueError, match="^arch must take images of digits as it is attacked, got '.*dtype"):
        made("pretrain", arch=f"{mine}:Constant")
    judged = experiment("pretrain", **FAST | dict(arch=f"{mine}:Auxiliary")).run | dict(epochs=0)
    assert isinstance(networks.build(judged).net, nn.Module)


def test_a_user_s_own_network_gets_images_in_the_memory_format_that_is_safe_for_it(root, mine):
    formats = {"strided": torch.contiguous_format, "Twice": torch.channels_last}
    for function, expected in formats.items():
        model = networks.build(experiment("pretrain", **FAST | dict(arch=f"{mine}:{function}")).run)
        assert model.normalize.memory_format is expected


def test_trying_a_network_draws_nothing(root, mine):
    drawn = []
    for epochs in (0, 1):  # without epochs train mode is not tried
        run = experiment("pretrain", **FAST | dict(arch=f"{mine}:dropping")).run | dict(epochs=epochs)
        networks.build(run)
        drawn.append(torch.rand(1))
    assert drawn[0] == drawn[1]


def test_trying_a_network_does_not_repeat_the_warning_of_its_training(root, mine):
    run = experiment("pretrain", **FAST | dict(arch=f"{mine}:Twice")).run
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(3):
            bnat.fold_bn(networks.build(run))
    assert len(said) == 1 and "1 of 1 BN are not folded" in str(said[0].message)


def test_bn_only_training_of_a_network_without_bn_says_what_it_has(root, mine):
    with pytest.raises(ValueError, match="^trainable='bn': the network has no such layers, but Linear$"):
        made("scratch", arch=f"{mine}:plain")


@pytest.mark.parametrize("arch", ["torchvision.models:mobilenet_v2", "torchvision.models:resnet18"])
def test_a_network_of_torchvision_is_built_for_the_classes_of_the_data(arch):
    exp = experiment("pretrain", arch=arch)
    x = torch.zeros(2, 3, 32, 32, device=bnat.DEVICE)
    assert networks.build(exp.run).eval()(x).shape == (2, 10)


def test_gamma_starts_at_zero_at_the_end_of_each_residual_branch_alone():
    exp = experiment("pretrain", profile="quick", epsilon=0, gamma_start="zero")
    model = networks.build(exp.run)
    at_0 = {path for path, m in model.named_modules() if isinstance(m, bnat.BN) and not m.weight.any()}
    assert at_0 == {path for path, m in model.named_modules() if path.endswith("bn2")}
    usual = experiment("pretrain", profile="quick", epsilon=0)
    assert exp.name != usual.name and networks.build(usual.run).layer1_0.bn2.weight.all()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_network_that_somebody_else_trained_is_evaluated_alone(root, mine, suffix):
    torch.manual_seed(1)
    theirs = brought.resolve(f"{mine}:make")(10)
    if suffix == ".pt":
        torch.save(theirs.state_dict(), root / "theirs.pt")
    else:
        save_file(theirs.state_dict(), root / "theirs.safetensors")
    given = dict(arch=f"{mine}:make", pretrain_weights=root / f"theirs{suffix}", epochs=0, margin_images=20)
    exp, record = made("pretrain", **given)
    assert record["history"] == [] and record["margin"] is not None
    assert digest(network(exp.name, trust_code=True).net) == digest(theirs)


@pytest.mark.parametrize("path", ["os:getcwd", "os:name", "functools:reduce", "math:pi"])
def test_what_is_no_function_of_a_python_file_is_refused_in_a_sentence(path):
    with pytest.raises(ValueError, match=f"^arch must be a function or class of a Python file, got '{path}'"):
        experiment("pretrain", arch=path)


def test_weights_that_fill_a_network_in_their_order_say_so(root, mine, capsys):
    theirs = brought.resolve(f"{mine}:make")(10).state_dict()
    other = {f"layer{number}": tensor for number, tensor in enumerate(theirs.values())}
    for name, state in (("by_name.pt", theirs), ("by_order.pt", other)):
        torch.save(state, root / name)
        given = dict(arch=f"{mine}:make", pretrain_weights=root / name, epochs=0, eval_images=20)
        exp, record = made("pretrain", **given)
        said, shown = capsys.readouterr().out, elsewhere.screen(exp, record)
        assert ("fill the network in their order" in said) == (name == "by_order.pt")
        assert ("filled in their order" in shown) == (name == "by_order.pt")


def test_a_screen_says_that_masking_was_not_looked_for(root, mine):
    torch.save(brought.resolve(f"{mine}:make")(10).state_dict(), root / "theirs.pt")
    given = dict(arch=f"{mine}:make", pretrain_weights=root / "theirs.pt", epochs=0, eval_images=0)
    shown = elsewhere.screen(*made("pretrain", **given))
    assert shown.endswith("Gradient masking: not looked for; check_images asks for it.")
    assert "clean" not in shown and "  R  " not in shown


def test_a_screen_of_images_kept_for_tuning_says_so_and_has_its_numbers(root, mine):
    torch.save(brought.resolve(f"{mine}:make")(10).state_dict(), root / "theirs.pt")
    given = dict(arch=f"{mine}:make", pretrain_weights=root / "theirs.pt", epochs=0, eval_split="tuning")
    exp, record = made("pretrain", **given, train_images=1000, eval_images=20, margin_images=20)
    shown = elsewhere.screen(exp, record)
    assert "  clean " in shown and "  R  " in shown and "(training images kept for tuning)" in shown


def test_the_code_of_a_decorated_function_is_its_own_and_not_the_decorator_s(tmp_path, monkeypatch):
    (tmp_path / "wrapping.py").write_text(
        "import functools\n"
        "def wrapped(f):\n"
        "    @functools.wraps(f)\n"
        "    def call(*a, **k):\n"
        "        return f(*a, **k)\n"
        "    return call\n"
    )
    mine = tmp_path / "decorated.py"
    mine.write_text("import wrapping\n@wrapping.wrapped\ndef make(num_classes):\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert brought.source("decorated:make") == brought.sha256(mine)


def test_papermill_shows_one_screen_of_somebody_else_s_network(tmp_path):
    folder = copy(tmp_path)
    (folder / "my_models.py").write_text(MINE)
    made_there = "import torch, my_models; torch.save(my_models.make(10).state_dict(), 'mine.pt')"
    run(sys.executable, "-c", made_there, cwd=folder)
    small = FAST | dict(epochs=0, eval_images=40, margin_images=40, aa_images=4, pretrain_weights="mine.pt")
    given = [word for name, value in small.items() for word in ("-p", name, str(value))]
    words = ["papermill", "notebooks/01_pretrain.ipynb", "out.ipynb", "-p", "arch", "my_models:make", *given]
    # what a kernel does with the terminal depends on whether it sees itself tested
    said = run("env", "-u", "PYTEST_CURRENT_TEST", *words, cwd=folder).stdout
    rate = r"\d+\.\d \[\d+\.\d, \d+\.\d\]"
    lines = [
        r"my_models:make with the weights of mine.pt, on digits, ε = 32/255:",
        rf"  clean       {rate} \(40\)",
        rf"  PGD-20      {rate} \(40\)",
        rf"  R           {rate} \(40\)",
        rf"  AutoAttack  {rate} \(4\), of apgd-ce, apgd-t, fab-t, square",
        r"  in percent .*",
        r"Gradient masking: .+\.",
    ]
    assert re.search("\n".join(lines), said), said


def test_the_first_tensor_that_does_not_fit_is_named(root, mine):
    state = brought.resolve(f"{mine}:make")(10).state_dict()
    del state["1.running_mean"]
    torch.save(state, root / "theirs.pt")
    with pytest.raises(ValueError, match=r"theirs.pt': 1.running_mean is missing, not \[4\]$"):
        made("pretrain", arch=f"{mine}:make", pretrain_weights=root / "theirs.pt", epochs=0)


def test_papermill_trains_a_network_of_the_working_directory(tmp_path):
    folder = copy(tmp_path)
    (folder / "my_models.py").write_text(MINE)
    small = dict(FAST, epochs=1, arch="my_models:make")
    given = [word for name, value in small.items() for word in ("-p", name, str(value))]
    run("papermill", "notebooks/01_pretrain.ipynb", "out.ipynb", *given, cwd=folder)
    record = next((folder / "out").rglob("pretrain_my_models-make_*/run.json"))
    assert json.loads(record.read_text())["run"]["arch"] == "my_models:make"


# ----------------------------------------------------------------------------------- code that records name
TRAP = """
from pathlib import Path
Path({ran!r}).touch()  # as if it were something worse

def make(num_classes):
    raise AssertionError("called")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose import leaves a file, (its name, that file); its function stands in a module of it."""
    name, ran = f"trap_{tmp_path.name.replace('-', '_')}", tmp_path / "ran"
    (tmp_path / name).mkdir()
    (tmp_path / name / "inner.py").write_text(TRAP.format(ran=str(ran)))
    (tmp_path / name / "__init__.py").write_text("from .inner import make\n" + TRAP.format(ran=str(ran)))
    monkeypatch.syspath_prepend(tmp_path)
    return name, ran


def record_of(root, arch, **own):
    """The name of a record that somebody else has written, for a network of an import path."""
    name = "pretrain_theirs"
    run = dict(experiment("pretrain", profile="quick").run, arch=arch, arch_options={}, **own)
    content = dict(name=name, run=run, weights="0" * 64)
    records.write_json(root / "records" / name / "run.json", content)
    (root / "records" / name / "weights.safetensors").write_bytes(b"")
    return name


@pytest.mark.parametrize("module", ["{}", "{}.inner"])
def test_a_record_s_code_is_not_run_unless_it_is_trusted(root, package, module):
    arch = f"{module.format(package[0])}:make"
    name = record_of(root, arch, source="0" * 64)
    with pytest.raises(ValueError, match=rf"made by code of its own, '{arch}' .* trust_code=True"):
        network(name)
    assert not package[1].exists()


@pytest.mark.parametrize("module", ["{}", "{}.inner"])
def test_trusted_code_of_another_source_is_not_even_imported(root, package, module):
    name = record_of(root, f"{module.format(package[0])}:make", source="0" * 64)
    with pytest.raises(ValueError, match="^arch must be the code that the record was made with"):
        network(name, trust_code=True)
    assert not package[1].exists()


@pytest.mark.parametrize("arch", ["sys:exit", "posix:getcwd", "__main__:x", "no_such_module:make"])
def test_trusted_code_without_a_file_is_not_called(root, arch):
    name = record_of(root, arch, source="0" * 64)
    with pytest.raises(ValueError, match="^arch must be the code that the record was made with"):
        network(name, trust_code=True)


def test_trusted_code_is_not_called_where_another_file_of_its_package_is_the_recorded_one(root, package):
    other = root / package[0] / "other.py"
    other.write_text("# somebody's\n")
    name = record_of(root, f"{package[0]}.inner:make", source=brought.sha256(other))
    with pytest.raises(ValueError, match="^arch must be the code that the record was made with"):
        network(name, trust_code=True)


def test_a_network_of_torchvision_comes_back_when_its_code_is_trusted(root):
    """Its function stands in another file than the module that the path names."""
    exp = experiment("pretrain", profile="quick", arch="torchvision.models:resnet18")
    networks.refuse_other_source(exp.run)


def test_a_user_s_own_run_is_taken_up_without_a_word_of_trust(root, mine, monkeypatch):
    """The parameter `arch` is the user's own word; what the record names is not called."""
    exp, first = made("finetune", arch=f"{mine}:make", pretrain_epochs=1)
    for checkpoint in (exp.out / "checkpoints").glob("*.pt"):
        checkpoint.unlink()
    monkeypatch.setattr(bnat, "train_step", lambda *_, **__: pytest.fail("it was trained again"))
    again = made("finetune", arch=f"{mine}:make", pretrain_epochs=1, eval_images=50)[1]
    assert again["weights"] == first["weights"] and len(again["evaluations"]) == 4


# ------------------------------------------------------------------------------------------- normalisations
@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_a_network_with_another_normalisation_trains_and_is_judged(root, norm):
    exp, record = made("pretrain", norm=norm, epsilon=0, epochs=12, lr=0.2, check_images=10)
    model = network(exp.name)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert exp.run["norm"] == norm and record["norms"] and record["pgd"]["clean"].mean() > 0.5


@pytest.mark.parametrize("norm", ["group", "layer", "instance", "weight"])
def test_the_affine_parameters_of_any_normalisation_train_alone(root, norm):
    exp, _ = made("finetune", norm=norm, trainable="norm", pretrain_epochs=1)
    start, end = (network(name) for name in (exp.parent.name, exp.name))
    moved = {
        key for key, value in end.state_dict().items() if not torch.equal(value, start.state_dict()[key])
    }
    affine = {
        f"{path}.{key}"
        for path, m in end.named_modules()
        if isinstance(m, (nn.GroupNorm, nn.InstanceNorm2d))
        for key in ("weight", "bias")
    }
    assert moved == affine


def test_frozen_statistics_stay_while_gamma_and_beta_move(root):
    exp, _ = made("finetune", trainable="bn_affine", pretrain_epochs=1)
    start, end = (network(name).state_dict() for name in (exp.parent.name, exp.name))
    moved = {key.rpartition(".")[2] for key in start if not torch.equal(start[key], end[key])}
    assert moved == {"weight", "bias"}


def test_a_run_with_bn_keeps_its_identity():
    assert "norm" not in experiment("pretrain").run
    assert records.read_record(*records.folders(experiment("finetune", epsilon=8))) is not None


def test_every_notebook_reads_a_user_s_own_network(root, mine):
    """Its run stands in the tables; rows that it cannot have, as of another norm, are not yet run."""
    few = dict(eval_images=100, eval_restarts=1, margin_images=0, aa_images=0, check_images=0)
    own = dict(profile="quick", arch=f"{mine}:make")
    made = runs.run(experiment("finetune", **own, **few))
    shown = {"04_robustness": "04_networks", "05_trust": "05_checks", "06_features": "06_controls"}
    shown |= {"07_norms": "07_decay", "08_inside": "08_bn"}
    missing = dict.fromkeys(shown, "not yet run") | {"04_robustness": "not measured", "08_inside": "channels"}
    for notebook, table in shown.items():
        execute(notebook, **own)
        text = (root / "out" / "quick" / "figures" / f"{table}.csv").read_text()
        assert "BN-only AT, trained" in text and missing[notebook] in text, table
    text = (root / "out" / "quick" / "figures" / "04_all_records.csv").read_text()
    assert made["name"] in text


def test_fine_tuning_the_affine_parameters_of_another_normalisation_renders(tmp_path):
    folder = copy(tmp_path)
    small = dict(FAST, epochs=1, pretrain_epochs=1, norm="layer", trainable="norm")
    given = [word for name, value in small.items() for word in ("-p", name, str(value))]
    run("papermill", "notebooks/02_bn_finetune.ipynb", "out.ipynb", *given, cwd=folder)
    assert "median |change|" in (folder / "out.ipynb").read_text()
