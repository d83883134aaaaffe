"""Sweeps: a YAML table becomes papermill calls, each a job, a job's parent before it.

Decided here: what a row of a table means, which jobs a table needs, what is refused before anything runs. Not
here: what runs when and where (Snakefile), the ranges of the parameters (define/parameters.py), the rows of
the report and the controls (define/rows.py), what came of a table (show/tables.py).
"""

import hashlib
import itertools
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from study.define.experiment import experiment, parent_of
from study.define.notebook import NOTEBOOKS, STARTS, names
from study.define.parameters import PROFILES
from study.define.rows import CONTROLS, EVERY

STEPS = {notebook: step for step, notebook in NOTEBOOKS.items()}
TAKEN = ("run", "analysis", "controls")  # names that are no table's of a file: rules, and the table below
LONGEST_NAME = 200  # a file name has at most 255 bytes, and a log's has a suffix


@dataclass(frozen=True)
class Job:
    """One papermill call."""

    name: str  # of its executed notebook, without .ipynb
    notebook: str  # a key of STEPS
    parameters: dict  # what its row says; the rest keeps its default
    before: tuple  # names of the jobs that must have run: its parent's, or none


def load(file, profile):
    """The sweeps of a YAML file at a profile, and the controls: ({table: [names of jobs]}, {name: Job}).

    A row that names another profile is left out, and so is a table without jobs, `report` apart. The jobs
    hold the parents too, each before its children. ValueError, one sentence that names the file and the row:
    no such file, not a file of tables, no table `report`, a row that cannot be run.
    """
    _a_profile(profile)
    tables = _tables(file)
    made = {}
    sweeps = {name: _jobs_of_table(table, made, file, profile) for name, table in tables.items()}
    sweeps = {name: jobs for name, jobs in sweeps.items() if jobs or name == "report"}
    controls = _jobs_of_table([dict(row=list(CONTROLS))], made, "study/define/rows.py", profile)
    return sweeps | {"controls": controls}, made


def run_of(job, profile):
    """The Experiment of a job: what its notebook makes of its parameters. ValueError: out of range."""
    step = STEPS[job.notebook]
    return experiment(step, profile=profile, **STARTS.get(step, {}) | job.parameters)


def arguments(job, profile):
    """A job's parameters as the end of a papermill command line, quoted for a shell."""
    words = []
    for name, value in {"profile": profile, **job.parameters}.items():
        if isinstance(value, dict):
            words += ["-y", json.dumps({name: value})]  # JSON is YAML
        else:
            words += ["-p", name, str(value)]
    return shlex.join(words)


def failures(notebooks, folder, since):
    """What has failed in `folder` since a time in s, as text: each name with its last line and its log.

    notebooks: names of executed notebooks. Failed is what has a log, but no notebook.
    """
    lines = []
    for name in notebooks:
        log = Path(folder, "logs", f"{name}.log")
        if log.exists() and log.stat().st_mtime > since and not Path(folder, f"{name}.ipynb").exists():
            said = log.read_text().strip().splitlines() or ["it has said nothing"]
            lines += [f"FAILED: {name}", f"  {said[-1]}", f"  log: {log}"]
    return "\n".join(lines)


def _tables(file):
    """The content of a YAML file, {name: table}, each table still as it is written."""
    try:
        tables = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: not a file of tables: {' '.join(str(error).split())}") from None
    if not isinstance(tables, dict) or "report" not in tables:
        raise ValueError(f"{file}: not a file of tables: it must map names to lists of rows, one is report")
    for name in tables:
        if not str(name).isidentifier() or name in TAKEN:
            raise ValueError(
                f"{file}: a table's name must be a word, none of {', '.join(TAKEN)}; got {name!r}"
            )
    return tables


def _a_profile(name):
    if name not in tuple(PROFILES):
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return name


def _jobs_of_table(table, made, file, profile):
    """The names of a table's jobs, which `made` then holds: every combination of the lists in its rows."""
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        example = "[{notebook: 02_bn_finetune, seed: [0, 1]}]"
        raise ValueError(f"{file}: a table must be a list of rows, like {example}; got {table!r}")
    jobs = []  # a row of another profile has none here
    for row in table:
        columns = [values if isinstance(values, list) else [values] for values in row.values()]
        for values in itertools.product(*columns):
            parameters = dict(zip(row, values, strict=True))
            notebook, key = parameters.pop("notebook", None), parameters.pop("row", None)
            try:
                if _a_profile(parameters.pop("profile", profile)) == profile:
                    job = (notebook, parameters) if key is None else _of_the_report(notebook, key, parameters)
                    jobs.append(_add(made, *job, profile))
            except ValueError as error:
                raise ValueError(f"{file}: {key or notebook} {parameters}: {error}") from None
    return jobs


def _of_the_report(notebook, key, parameters):
    """The notebook and the parameters of a row of the report; those beside it in the table win."""
    if key not in tuple(EVERY) or notebook is not None:
        raise ValueError(f"row must be one of {', '.join(EVERY)}, without notebook; got {key!r}")
    row = EVERY[key]
    usual = dict.fromkeys(STARTS.get(row.step, {}))  # the profile's, not what the notebook starts with
    return NOTEBOOKS[row.step], usual | row.parameters | parameters


def _add(made, notebook, parameters, profile):
    """Add a job to `made`, its parent's before it; its name. ValueError: it cannot be run."""
    if notebook not in tuple(STEPS):
        raise ValueError(f"notebook must be one of {', '.join(STEPS)}; got {notebook!r}")
    own = [name for name in names(STEPS[notebook]) if name != "profile"]
    unknown = [str(name) for name in parameters if name not in own]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not among its parameters, {', '.join(own)}")
    name = _name(notebook, parameters)
    if name in made and made[name].parameters != parameters:
        raise ValueError(f"two rows would both be named {name}")
    if name not in made:
        run_of(Job(name, notebook, parameters, ()), profile)  # refused here, not in the middle of a sweep
        before = ()
        if notebook == "02_bn_finetune" and not parameters.get("pretrain_weights"):
            step, parent = parent_of(parameters, PROFILES[profile]["epsilon"])
            before = (_add(made, NOTEBOOKS[step], parent, profile),)
        made[name] = Job(name, notebook, parameters, before)
    return name


def _name(notebook, parameters):
    """A file's name that says what a job is; where that is too long, its beginning and a hash of it all."""
    words = []
    for key, value in sorted(parameters.items()):
        shown = json.dumps(value).replace('"', "") if isinstance(value, dict) else str(value)
        words.append(f"{key}={shown}".replace("/", "_").replace("{", "(").replace("}", ")"))
    name = "-".join([notebook, *words])  # without braces, which would be a wildcard of Snakemake's
    if len(name.encode()) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
    return name
