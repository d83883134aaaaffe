"""What a run may be asked, what it is then, and that the notebooks say the same."""

import json
import subprocess
import sys

import nbformat
import pytest
from conftest import REPOSITORY, bnat

from study.define import notebook, parameters
from study.define.experiment import experiment, identity
from study.define.rows import EVERY
from study.measure.plan import epsilon_of, evaluations

NOTEBOOKS = {
    **notebook.NOTEBOOKS,
    "robustness": "04_robustness",
    "trust": "05_trust",
    "features": "06_features",
    "norms": "07_norms",
    "inside": "08_inside",
}
COUNTS = (
    "epochs",
    "batch_size",
    "attack_steps",
    "eval_steps",
    "eval_restarts",
    "pretrain_epochs",
    "train_images",
)
NONSENSE = [
    *[("epsilon", value) for value in (-1, 256, float("nan"), float("inf"), "eight", True, [8])],
    *[(name, value) for name in COUNTS for value in (-1, 1.5, "x", 10**12)],
    *[(name, 0) for name in COUNTS if name != "epochs"],
    *[("seed", value) for value in (-1, 0.5, "a", 2**31, 10**40)],
    *[("lr", value) for value in (0, -0.1, float("nan"))],
    ("profile", "fast"), ("arch", "vgg"), ("trainable", "weights"), ("schedule", "cosine"),
    ("weight_decay", -1),
    ("data", "imagenet"), ("pretrain_weights", ""), ("eval_epsilon", 0), ("attack_step_size", 0),
    ("aa_images", -1), ("eval_images", 10**6), ("margin_images", 10**6), ("pretrain_epsilon", -1),
    ("eval_split", "train"), ("arch", "nowhere:make"), ("norm", "batchnorm"), ("image_size", 4),
]  # fmt: skip


@pytest.mark.parametrize("name, value", NONSENSE)
def test_a_bad_value_is_refused_in_one_sentence(name, value):
    with pytest.raises(ValueError) as error:
        experiment("finetune", **{name: value})
    message = str(error.value)
    assert message.startswith(f"{name} must be") and f"got {value!r}" in message and "\n" not in message


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="a parameter must be one of .*; got 'eps'$"):
        experiment("finetune", eps=8)


def test_a_network_without_bn_is_refused_where_bn_is_trained():
    with pytest.raises(
        ValueError, match="^arch must be a network with BN where bn is trained, got 'linear'$"
    ):
        experiment("scratch", arch="linear")


@pytest.mark.parametrize(
    "step, changes, why",
    [
        ("finetune", dict(norm="none", trainable="norm"), "there is no such layer"),
        ("scratch", dict(norm="group", trainable="norm", gamma_start="uniform"), "where norm is group"),
        ("pretrain", dict(arch="linear", gamma_start="uniform"), "where arch has no BN"),
        ("finetune", dict(gamma_start="uniform"), "where a trained network is the start"),
        ("pretrain", dict(arch="a:make", gamma_start="zero"), "where arch is no ResNet of bnat's"),
    ],
)
def test_what_would_fail_after_a_training_or_change_nothing_is_refused_before(step, changes, why):
    with pytest.raises(ValueError, match=why):
        experiment(step, **changes)


@pytest.mark.parametrize("key", EVERY)
def test_every_row_of_the_catalogue_is_an_experiment(key):
    """The report leaves out a row that another network cannot have: of the study's own none may be."""
    row = EVERY[key]
    assert experiment(row.step, **row.among({})).name


def test_a_curve_ends_where_every_image_is_in_the_ball():
    asked = evaluations(experiment("scratch", epsilon=64)).values()
    curve = next(settings for settings in asked if settings["kind"] == "curve")
    assert curve["epsilons"][-1] == 128 and epsilon_of(curve) == 64


@pytest.mark.parametrize("images, n", [(200, None), (300, 256), (10000, 1280)])
def test_the_gap_is_measured_on_whole_batches_of_which_there_are_two(images, n):
    asked = evaluations(experiment("scratch", eval_images=images)).values()
    assert next((e["images"] for e in asked if e["kind"] == "gap"), None) == n


@pytest.mark.parametrize(
    "step, small, checks, looked",
    [
        ("pretrain", 0, 0, False),
        ("pretrain", 50, 0, True),
        ("pretrain", 0, 50, True),
        ("scratch", 50, 0, False),
    ],
)
def test_gradients_are_looked_at_with_the_checks_and_beside_the_small_radii(step, small, checks, looked):
    exp = experiment(step, epsilon=0, small_images=small, check_images=checks)
    assert any(e["kind"] == "norms" for e in evaluations(exp).values()) == looked


def test_tuning_on_images_that_were_trained_on_is_refused():
    with pytest.raises(ValueError, match="^train_images must be at most 45000 with"):
        experiment("scratch", eval_split="tuning")


@pytest.mark.parametrize(
    "changes", [dict(pretrain_images=60000), dict(eval_split="tuning", train_images=45000)]
)
def test_too_many_images_of_the_network_to_start_from_are_named_as_here(changes):
    with pytest.raises(ValueError, match="^pretrain_images must be at most 4[59]000"):
        experiment("finetune", **changes)


def test_of_two_bad_values_the_first_is_named_as_if_alone():
    with pytest.raises(ValueError, match="^epsilon must be greater than or equal to 0, got -1$"):
        experiment("scratch", epsilon=-1, lr=-1)


@pytest.mark.parametrize(
    "changes",
    [
        dict(pretrain_epochs=3),
        dict(pretrain_epsilon=8),
        dict(pretrain_images=500),
        dict(pretrain_trainable="bn"),
    ],
)
def test_weights_from_elsewhere_are_not_trained_here(changes):
    with pytest.raises(ValueError, match="must be left out with pretrain_weights"):
        experiment("finetune", pretrain_weights="pyautoattack", **changes)


def test_every_setting_is_part_of_the_identity():
    base = experiment("finetune", profile="quick")
    changes = dict(
        epsilon=4, pretrain_epsilon=8, pretrain_trainable="bn", pretrain_epochs=3,
        pretrain_images=900, seed=1, epochs=3,
        batch_size=32, lr=0.3, weight_decay=0, schedule="steps", attack_steps=3, attack_step_size=1,
        train_images=500,
        trainable="head", arch="resnet20",
    )  # fmt: skip
    names = {experiment("finetune", profile="quick", **{key: value}).name for key, value in changes.items()}
    assert len(names | {base.name}) == len(changes) + 1


def test_the_evaluation_is_no_part_of_the_identity():
    assert experiment("finetune", eval_images=10, aa_images=0).name == experiment("finetune").name


def test_without_an_attack_its_settings_decide_nothing():
    assert experiment("pretrain", epsilon=0, attack_steps=3).name == experiment("pretrain", epsilon=0).name


@pytest.mark.parametrize("data", bnat.DATASETS)
@pytest.mark.parametrize("profile", parameters.PROFILES)
def test_a_profile_takes_other_data_whole(profile, data):
    exp, info = experiment("scratch", profile=profile, data=data), bnat.DATASETS[data]
    assert exp.run["train_images"] == info["images"] - info["held_out"] and exp.run["data"] == data
    assert max(settings["images"] for settings in evaluations(exp).values()) <= info["test"]


def test_random_images_for_autoattack_are_the_same_for_all_and_nested():
    few, many = (
        next(s["index"] for s in evaluations(experiment(step, aa_images=n)).values() if "index" in s)
        for step, n in (("scratch", 200), ("finetune", 500))
    )
    assert len(few) == 200 and set(few) < set(many)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "records").glob("*/run.json")), ids=lambda p: p.parent.name
)
def test_committed_runs_keep_their_identity(path):
    run = json.loads(path.read_text())["run"]
    assert identity(run) == path.parent.name


def test_the_study_s_own_command_names_the_committed_run():
    assert (REPOSITORY / "records" / experiment("finetune", epsilon=8).name).is_dir()


@pytest.mark.parametrize("step, name", NOTEBOOKS.items())
def test_parameter_cells_are_the_model_s(step, name):
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4).cells
    cell = next(c for c in cells if "parameters" in c.metadata.get("tags", []))
    assert cell.source == notebook.cell(step)


@pytest.mark.parametrize("step", NOTEBOOKS)
def test_a_parameter_cell_sets_each_parameter_on_a_line_of_its_own(step):
    lines = notebook.cell(step).split("\n")
    assert [line.partition(" = ")[0] for line in lines] == notebook.names(step)
    assert all(len(line) <= notebook.LINE and "  # " in line for line in lines)
    namespace = {}
    exec(notebook.cell(step), namespace)
    assert set(notebook.names(step)) <= namespace.keys()


def test_no_comment_but_that_of_the_networks_is_cut_short():
    cut = [
        line.partition(" = ")[0]
        for step in NOTEBOOKS
        for line in notebook.cell(step).split("\n")
        if "…" in line
    ]
    assert set(cut) == {"arch"}


def test_papermill_s_help_shows_every_parameter_with_its_range():
    command = [sys.executable, "-m", "papermill", "--help-notebook", "notebooks/02_bn_finetune.ipynb"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert all(f"  {name}:" in said for name in notebook.names("finetune")) and "0 to 255" in said


def test_the_readme_has_the_parameters_of_the_model():
    assert parameters.table() in (REPOSITORY / "README.md").read_text()


def test_papermill_s_parameters_are_told_from_other_names():
    cells = [
        "",
        'profile = "quick"  # ...\nseed = 0  # ...\n',
        "# Parameters\nseed = 3\n",
        "import sys\nother = 1",
    ]
    assert notebook.parameters(cells, dict(profile="quick", seed=3, other=1)) == dict(profile="quick", seed=3)


def test_a_name_that_the_notebook_does_not_have_is_refused():
    cells = ['profile = "quick"\nseed = 0\n', "# Parameters\nsed = 3\n"]
    with pytest.raises(
        ValueError, match="^a parameter of this notebook must be one of profile, seed; got 'sed'$"
    ):
        notebook.parameters(cells, {})


def test_figures_of_unusual_runs_have_names_of_their_own():
    usual, other = experiment("finetune"), experiment("finetune", lr=0.3)
    assert notebook.figure_name(usual) == "02_finetune_bn_eps8"
    assert notebook.figure_name(other) == f"02_finetune_bn_eps8_{other.name[-10:]}"
    names = {notebook.figure_name(experiment("finetune", eval_epsilon=eps)) for eps in (8, 4, 2)}
    assert "02_finetune_bn_eps8" in names and len(names) == 3
