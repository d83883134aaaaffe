"""Sweeps without Snakemake: what a table becomes, and what is refused before anything runs."""

import json
import sys
from pathlib import Path

import pytest
from conftest import OWN_NETWORK, REPOSITORY, copy, run

from study.decide.claims import planned
from study.define.experiment import experiment
from study.define.notebook import names
from study.define.parameters import PROFILES
from study.define.rows import CONTROLS, EVERY, NORMALISED
from study.measure.plan import evaluations
from study.run import sweeps
from study.show.tables import accuracies


def load(folder, table, profile="quick"):
    """The jobs of a file with an empty report and one more table, in YAML: ([names], {name: Job})."""
    file = folder / "mine.yaml"
    file.write_text(f"report: []\nmine: {table}\n")
    tables, jobs = sweeps.load(file, profile)
    return tables.get("mine", []), jobs


@pytest.fixture(scope="module", params=PROFILES)
def committed(request):
    """The repository's own sweeps at a profile: (profile, tables, jobs)."""
    return request.param, *sweeps.load(REPOSITORY / "sweeps.yaml", request.param)


def test_lists_multiply_out(tmp_path):
    found, jobs = load(
        tmp_path, "[{notebook: 03_bn_scratch, seed: [0, 1, 2], epsilon: [0, null], epochs: 2}]"
    )
    assert len(set(found)) == 6
    made = {(jobs[name].parameters["seed"], jobs[name].parameters["epsilon"]) for name in found}
    assert made == {(seed, epsilon) for seed in (0, 1, 2) for epsilon in (0, None)}
    assert all(jobs[name].parameters["epochs"] == 2 for name in found)


def test_a_row_of_the_report_brings_its_notebook_and_its_parameters(tmp_path):
    """01 starts with ε = 0 unless told otherwise; the row of AT has the profile's."""
    names, jobs = load(tmp_path, "[{row: [at, linear_clean], seed: 3}, {row: linear_clean, lr: 0.5}]")
    at, clean, other = (jobs[name] for name in names)
    assert at.notebook == "01_pretrain" and at.parameters == dict(epsilon=None, seed=3)
    assert clean.parameters == EVERY["linear_clean"].parameters | dict(seed=3)
    assert other.parameters["lr"] == 0.5 and other.parameters["arch"] == "linear"


def test_a_parent_is_a_job_before_its_children_and_shared(tmp_path):
    rows = (
        "[{notebook: 02_bn_finetune, lr: [0.1, 0.2], seed: 3}, {notebook: 01_pretrain, epsilon: 0, seed: 3}]"
    )
    found, jobs = load(tmp_path, rows)
    (parent,) = {name for child in found[:2] for name in jobs[child].before}
    assert parent == found[2] == "01_pretrain-epsilon=0-seed=3"
    order = list(jobs)
    assert all(order.index(parent) < order.index(child) for child in found[:2])
    assert jobs[parent].before == ()


@pytest.mark.parametrize(
    "row",
    [
        "epsilon: 16",
        "epsilon: 0",
        "epsilon: null",
        "pretrain_epsilon: 16",
        "pretrain_epsilon: null",
        "pretrain_epsilon: 16, epsilon: 16",
        "pretrain_epsilon: 32, epsilon: 4",
        "pretrain_epochs: 3, pretrain_images: 500",
        "pretrain_trainable: bn",
        "pretrain_trainable: bn, pretrain_epochs: 3, pretrain_images: 500, epsilon: 8",
        "pretrain_trainable: bn, eval_split: tuning, train_images: 500, pretrain_images: 500",
        "seed: 5, arch: resnet20, data: cifar10",
        "seed: null, pretrain_epochs: null",
        "eval_epsilon: 4, eval_steps: 3, eval_restarts: 1, eval_images: 100, margin_images: 50",
        "aa_images: 10, check_images: 0",
        "eval_split: tuning, train_images: 500, pretrain_images: 500, eval_images: 20",
        "lr: 0.5, epochs: 2, batch_size: 32, weight_decay: 0, schedule: steps, trainable: head",
    ],
)
def test_a_parent_s_job_makes_the_network_and_the_evaluations_that_its_child_wants(tmp_path, row):
    (name,), jobs = load(tmp_path, f"[{{notebook: 02_bn_finetune, {row}}}]")
    (before,) = jobs[name].before
    made, wanted = sweeps.run_of(jobs[before], "quick"), sweeps.run_of(jobs[name], "quick").parent
    assert (made.name, evaluations(made)) == (wanted.name, evaluations(wanted))


def test_every_parent_s_job_of_the_committed_sweeps_makes_what_its_child_wants(committed):
    profile, _, jobs = committed
    for job in jobs.values():
        for before in job.before:
            made, wanted = sweeps.run_of(jobs[before], profile), sweeps.run_of(job, profile).parent
            assert (made.name, evaluations(made)) == (wanted.name, evaluations(wanted)), job.name


def test_weights_from_elsewhere_have_no_parent_s_job(tmp_path):
    (tmp_path / "theirs.pt").write_bytes(b"weights")
    row = f"{{notebook: 02_bn_finetune, pretrain_weights: {tmp_path / 'theirs.pt'}}}"
    (name,), jobs = load(tmp_path, f"[{row}]")
    assert jobs[name].before == ()


def test_a_job_s_command_has_the_profile_and_what_its_row_says(tmp_path):
    row = "{notebook: 01_pretrain, epsilon: null, data_dir: 'my data'}"
    (name,), jobs = load(tmp_path, f"[{row}]")
    assert sweeps.arguments(jobs[name], "quick") == "-p profile quick -p epsilon None -p data_dir 'my data'"
    assert name == "01_pretrain-data_dir=my data-epsilon=None"


def test_a_job_of_standard_training_is_what_its_notebook_runs(tmp_path):
    (name,), jobs = load(tmp_path, "[{notebook: 01_pretrain}]")
    assert sweeps.run_of(jobs[name], "quick").run["epsilon"] == 0


def test_a_name_is_never_too_long_for_a_file_and_still_of_its_own(tmp_path):
    row = {name: "null" for name in names("finetune") if name not in ("profile", "seed")}
    text = ", ".join(f"{name}: {value}" for name, value in row.items())
    found, jobs = load(tmp_path, f"[{{notebook: 02_bn_finetune, seed: [0, 1], {text}}}]")
    assert len(set(found)) == 2 and max(len(name.encode()) for name in jobs) <= sweeps.LONGEST_NAME


@pytest.fixture(scope="module")
def runs_of_the_study():
    """The names of all runs that the study's tables make at profile cpu."""
    _, made = sweeps.load(REPOSITORY / "sweeps.yaml", "cpu")
    return {sweeps.run_of(job, "cpu").name for job in made.values()}


@pytest.mark.parametrize("key", EVERY)
def test_every_row_of_the_report_is_a_job_of_some_table(runs_of_the_study, key):
    """One that is no job of any would read *not yet run* for ever."""
    row = EVERY[key]
    assert experiment(row.step, **row.among(dict(seed=10))).name in runs_of_the_study


def test_every_run_of_the_study_is_a_job_of_some_table(runs_of_the_study):
    """But for the first study's, whose seeds are 0 to 2 and which saw all but the held-out images."""
    files = list(REPOSITORY.glob("records/*/run.json"))
    assert len(files) > 100
    for file in files:
        content = json.loads(file.read_text())
        run = content["run"]
        if run["seed"] >= 10 or run["train_images"] == 45000:
            assert content["name"] in runs_of_the_study


@pytest.mark.slow
def test_a_row_with_options_of_a_network_is_a_job_of_snakemake_s(tmp_path):
    folder = copy(tmp_path)
    (folder / "my_models.py").write_text(OWN_NETWORK)
    small = "epochs: 1, batch_size: 64, eval_images: 20, margin_images: 0, aa_images: 0, check_images: 0"
    own = "arch: 'my_models:make', arch_options: [{width: 4}, {width: 8}]"
    row = f"{{notebook: 03_bn_scratch, {own}, {small}}}"
    (folder / "mine.yaml").write_text(f"report: []\nmine: [{row}]\n")
    config = ["--config", "profile=quick", "sweeps=mine.yaml", "--", "mine"]
    run(sys.executable, "-m", "snakemake", "--cores", "1", *config, cwd=folder)
    names = sorted(path.name for path in (folder / "out" / "quick").glob("*.ipynb"))
    assert ["(width: 4)" in names[0], "(width: 8)" in names[1], len(names)] == [True, True, 2]


def test_a_row_of_another_profile_is_left_out(tmp_path):
    table = "[{notebook: 03_bn_scratch, profile: cpu, train_images: 45000}]"
    assert load(tmp_path, table) == ([], load(tmp_path, "[]")[1])
    (name,), jobs = load(tmp_path, table, "cpu")
    assert jobs[name].parameters == {"train_images": 45000}


@pytest.mark.parametrize(
    "table, said",
    [
        ("[{notebook: 02_bn_finetune, seed: -1}]", ["02_bn_finetune {'seed': -1}", "seed must be"]),
        ("[{notebook: 02_bn_finetune, seed: [0, -1]}]", ["02_bn_finetune {'seed': -1}", "seed must be"]),
        ("[{notebook: 02_bn_finetune, lr: .nan}]", ["02_bn_finetune {'lr': nan}", "lr must be"]),
        ("[{notebook: 02_bn_finetune, epochs: [[1, 2]]}]", ["{'epochs': [1, 2]}", "epochs must be"]),
        ("[{notebook: 02_bn_finetune, pretrain_epsilon: -1}]", ["{'pretrain_epsilon': -1}", "must be"]),
        ("[{notebook: 02_bn_finetune, eps: 8}]", ["{'eps': 8}", "eps: not among its parameters, data, "]),
        ("[{notebook: 03_bn_scratch, pretrain_epochs: 8}]", ["pretrain_epochs: not among its parameters"]),
        ("[{notebook: 01_pretrain, 1: 8}]", ["{1: 8}", "1: not among its parameters"]),
        (
            "[{notebook: 03_bn_scratch, profile: fast}]",
            ["03_bn_scratch", "profile must be one of quick, cpu"],
        ),
        ("[{notebook: 04_robustness}]", ["04_robustness {}", "notebook must be one of 01_pretrain, "]),
        ("[{seed: 3}]", ["{'seed': 3}", "notebook must be one of 01_pretrain, "]),
        ("[{row: bn, seed: 3}]", ["bn {'seed': 3}", "row must be one of standard, at, ", "got 'bn'"]),
        ("[{row: at, notebook: 01_pretrain}]", ["at {}", "row must be one of", "without notebook"]),
        ("[{notebook: {a: 1}}]", ["{'a': 1}", "notebook must be one of 01_pretrain, "]),
        ("[{notebook: 01_pretrain, data_dir: [a/b, a_b]}]", ["two rows would both be named", "data_dir=a_b"]),
        (
            "{notebook: 02_bn_finetune}",
            ["a table must be a list of rows, like [{notebook:", "got {'notebook'"],
        ),
        ("02_bn_finetune", ["a table must be a list of rows", "got '02_bn_finetune'"]),
        ("[02_bn_finetune]", ["a table must be a list of rows", "got ['02_bn_finetune']"]),
        ("[", ["not a file of tables"]),
        (
            "[]\ncontrols: []",
            ["a table's name must be a word, none of run, analysis, controls; got 'controls'"],
        ),
        ("[]\ntwo words: []", ["a table's name must be a word", "got 'two words'"]),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence_that_names_the_file_and_the_row(tmp_path, table, said):
    with pytest.raises(ValueError) as error:
        load(tmp_path, table)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'mine.yaml'}: ") and "\n" not in message
    assert [part for part in said if part not in message] == [], message


@pytest.mark.parametrize("content", [None, b"", b"- a\n- b", b"mine: []", b"\xff\xfe\x00"])
def test_a_file_without_tables_is_refused_in_one_sentence(tmp_path, content):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.yaml: not a file of tables: [^\n]+$"):
        sweeps.load(file, "quick")


def test_an_unknown_profile_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="^profile must be one of quick, cpu, paper, got 'fast'$"):
        sweeps.load(REPOSITORY / "sweeps.yaml", "fast")


def test_failures_are_named_with_their_last_word(tmp_path):
    (tmp_path / "logs").mkdir()
    for name, said in (
        ("done", "all is well"),
        ("broken", "Traceback\nValueError: seed must"),
        ("silent", ""),
    ):
        (tmp_path / "logs" / f"{name}.log").write_text(said)
    (tmp_path / "done.ipynb").touch()
    found = sweeps.failures(["done", "broken", "silent", "never"], tmp_path, 0).splitlines()
    assert found[:2] == ["FAILED: broken", "  ValueError: seed must"] and Path(found[2][7:]).is_file()
    assert found[3:5] == ["FAILED: silent", "  it has said nothing"] and len(found) == 6


def test_a_sweep_ends_with_what_it_asked_for(committed):
    profile, tables, jobs = committed
    found = [jobs[name] for name in tables["report"]]
    table = accuracies(found, profile).splitlines()
    assert len(table) == 1 + len(found) and "clean % (n)" in table[0]
    if profile == "cpu":  # committed, on all test images
        assert "(10,000)" in table[1]


def test_the_controls_of_the_report_are_a_sweep_at_the_budget_of_its_rows(committed):
    profile, tables, jobs = committed
    runs = [sweeps.run_of(jobs[name], profile).run for name in tables["controls"]]
    assert len(runs) == len(CONTROLS)
    assert {run["epochs"] for run in runs} == {PROFILES[profile]["finetune_at"][0]}


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_the_further_seeds_of_the_main_table_are_seeds_that_count(profile):
    tables, jobs = sweeps.load(REPOSITORY / "sweeps.yaml", profile)
    found = {sweeps.run_of(jobs[name], profile).run["seed"] for name in tables["seeds"]}
    first = PROFILES[profile]["seed"]
    assert found | {first} == set(planned(("at",), profile))


def test_the_sweeps_of_c7_make_the_networks_of_its_rows():
    tables, jobs = sweeps.load(REPOSITORY / "sweeps.yaml", "cpu")
    names = tables["norms"] + tables["norms_second"] + tables["norms_third"]
    made = {sweeps.run_of(jobs[name], "cpu").name for name in names}
    compared = [row for key, row in NORMALISED.items() if key != "norm_weight"]
    assert made == {
        experiment(row.step, **row.parameters, seed=seed).name for row in compared for seed in (10, 11, 12)
    }


@pytest.mark.parametrize("norm", ["group", "layer", "instance", "weight"])
def test_at_of_affine_parameters_starts_from_the_network_that_c7_looks_at(norm):
    parent = experiment("finetune", norm=norm, trainable="norm").parent
    parent_of_row = experiment("pretrain", **NORMALISED[f"norm_{norm}"].parameters)
    assert parent.name == parent_of_row.name
