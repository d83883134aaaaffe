# The DAG: a job is one papermill call, its output the executed notebook; 04_robustness follows the report's.
# A finished run is never trained again, whatever happens to its notebook: run_experiment finds its record.
#   snakemake --cores 2 report                                          what `make report` does
#   snakemake --cores 2 --config profile=cpu -- seeds                   a table of sweeps.yaml
#   snakemake --profile profiles/slurm --config profile=paper -- report     on a cluster, a GPU a job
import itertools
import json
import re
import shlex
import sys
import time
from pathlib import Path

import yaml

workdir: workflow.basedir

sys.path.insert(0, workflow.basedir)
import bnat_utils as bnat

PROFILE, SWEEPS_FILE = config.get("profile", "quick"), config.get("sweeps", "sweeps.yaml")
OUT, STARTED = f"out/{PROFILE}", time.time()
STEPS = {"01_pretrain": "pretrain", "02_bn_finetune": "finetune", "03_bn_scratch": "scratch"}
# the notebook of a call that failed, or still runs, lies beside its log; two calls of one job do not write one file
PAPERMILL = (f"{shlex.quote(sys.executable)} -m papermill --stdout-file - --stderr-file - {{input[0]:q}} {{log:q}}.$$.ipynb -p profile {PROFILE} "
             "{params} 2>&1 | tee {log:q}"
             " && mv {log:q}.$$.ipynb {output:q}")
JOBS = {}  # name: (notebook, its parameters, the names of the jobs before it)


def parameters_of(notebook):
    """The names in the parameters cell of a notebook."""
    cells = json.loads(Path("notebooks", f"{notebook}.ipynb").read_text())["cells"]
    return re.findall(r"^(\w+) *=", next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])), re.MULTILINE)


def job(notebook=None, **parameters):
    """Add a papermill call, and before it the training of the network it starts from; its name."""
    name = "-".join([str(notebook), *(f"{key}={value}".replace("/", "_") for key, value in sorted(parameters.items()))])
    if JOBS.get(name, (notebook, parameters))[:2] != (notebook, parameters):
        sys.exit(f"{SWEEPS_FILE}: two rows would both be named {name}")
    if name not in JOBS:
        try:  # refused here, not in the middle of a sweep
            if notebook not in STEPS:
                raise ValueError(f"notebook must be one of {', '.join(STEPS)}; got {notebook!r}")
            if unknown := parameters.keys() - set(parameters_of(notebook)):
                raise ValueError(f"{', '.join(map(str, unknown))}: not among its parameters, {', '.join(parameters_of(notebook))}")
            bnat.experiment(STEPS[notebook], profile=PROFILE, **parameters)
        except ValueError as error:
            sys.exit(f"{SWEEPS_FILE}: {notebook} {parameters}: {error}")
        before = []
        if notebook == "02_bn_finetune" and not parameters.get("pretrain_weights"):  # weights from elsewhere are not trained
            kept = {key: value for key, value in parameters.items() if key in (
                "data", "data_dir", "arch", "seed", "eval_epsilon", "eval_steps", "eval_restarts", "eval_images", "aa_images", "check_images")}
            if parameters.get("epsilon"):  # the parent is judged at the child's ε
                kept.setdefault("eval_epsilon", parameters["epsilon"])
            if "pretrain_epochs" in parameters:
                kept["epochs"] = parameters["pretrain_epochs"]
            before = [job("01_pretrain", epsilon=parameters.get("pretrain_epsilon", 0), **kept)]
        JOBS[name] = notebook, parameters, before
    return name


def jobs(table):
    """The names of a table's jobs: every combination of the lists in its rows."""
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        sys.exit(f"{SWEEPS_FILE}: a table must be a list of rows, like [{{notebook: 02_bn_finetune, seed: [0, 1]}}]; got {table!r}")
    for row in table:
        columns = [[(key, value) for value in (values if isinstance(values, list) else [values])] for key, values in row.items()]
        for combination in itertools.product(*columns):
            yield job(**dict(combination))


def controls():
    """The table of 04_robustness' controls."""
    notebooks = {step: notebook for notebook, step in STEPS.items()}
    for label in bnat.CONTROLS:
        step, parameters = bnat.control(label, PROFILE)
        yield dict(parameters, notebook=notebooks[step])


try:
    SWEEPS = {name: list(jobs(table)) for name, table in dict(yaml.safe_load(Path(SWEEPS_FILE).read_text())).items()}
except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
    sys.exit(f"{SWEEPS_FILE}: not a file of tables: {' '.join(str(error).split())}")
SWEEPS["controls"] = list(jobs(list(controls())))
if (SWEEP := config.get("sweep")) and SWEEP not in SWEEPS:
    sys.exit(f"{SWEEPS_FILE}: no table {SWEEP}; there are {', '.join(SWEEPS)}")


wildcard_constraints:
    name="|".join(map(re.escape, JOBS))


rule report:
    default_target: True
    input: f"{OUT}/04_robustness.ipynb"


for table, names in SWEEPS.items():
    if table != "report":
        rule:
            name: table
            input: [f"{OUT}/{name}.ipynb" for name in names]


rule analysis:
    input: "notebooks/04_robustness.ipynb", "bnat_utils.py", [f"{OUT}/{name}.ipynb" for name in SWEEPS["report"]]
    output: f"{OUT}/04_robustness.ipynb"
    log: f"{OUT}/logs/04_robustness.log"
    params: ""
    shell: PAPERMILL


rule run:
    input: lambda w: [f"notebooks/{JOBS[w.name][0]}.ipynb", "bnat_utils.py", *(f"{OUT}/{name}.ipynb" for name in JOBS[w.name][2])]
    output: f"{OUT}/{{name}}.ipynb"
    log: f"{OUT}/logs/{{name}}.log"
    params: lambda w: shlex.join(word for key, value in JOBS[w.name][1].items() for word in ("-p", key, str(value)))
    threads: config.get("threads", 1)  # the same on every machine: another number rounds differently
    resources: gpu=int(PROFILE == "paper" or bnat.DEVICE.type == "cuda")
    shell: PAPERMILL


onsuccess:
    if SWEEP:  # what has come of it, in the order of its table
        found = {}
        for name in SWEEPS[SWEEP]:
            notebook, parameters, _ = JOBS[name]
            default = {"epsilon": 0} if notebook == "01_pretrain" else {}  # what its parameters cell says
            found[name] = bnat.load_record(bnat.experiment(STEPS[notebook], profile=PROFILE, **default | parameters))
        print(bnat.results_table(found)[["clean % (n)", "PGD % (n)", "AutoAttack % (n)"]].to_string())


onerror:  # what failed, once more, where it is seen
    for name in [*JOBS, "04_robustness"]:
        log = Path(OUT, "logs", f"{name}.log")
        if log.exists() and log.stat().st_mtime > STARTED and not Path(OUT, f"{name}.ipynb").exists():
            lines = log.read_text().strip().splitlines() or ["it has said nothing"]
            print(f"FAILED: {name}\n  {lines[-1]}\n  log: {log}", file=sys.stderr)
