# A job is one papermill call, its output the executed notebook. What a row becomes: study/run/sweeps.py.
# A finished run is never trained again, whatever happens to its notebook: study/run/runs.py finds its record.
#   snakemake --cores 2 report                                              what `make report` does
#   snakemake --cores 2 --config profile=cpu -- seeds                       a table of sweeps.yaml
#   snakemake --profile profiles/slurm --config profile=paper -- report     on a cluster, a GPU a job
import re, shlex, sys, time
from pathlib import Path
workdir: workflow.basedir
from study.define.notebook import READING  # study: that of this folder, which Snakemake puts first
from study.run import sweeps
from study.show import tables
import bnat_utils as bnat

PROFILE, FILE = config.get("profile", "quick"), config.get("sweeps", "sweeps.yaml")
OUT, SWEEP, STARTED = f"out/{PROFILE}", config.get("sweep"), time.time()
try:
    TABLES, JOBS = sweeps.load(FILE, PROFILE)
except ValueError as error:
    sys.exit(str(error))
if SWEEP and SWEEP not in TABLES:
    sys.exit(f"{FILE}: no table {SWEEP}; there are {', '.join(TABLES)} at profile {PROFILE}")
CODE = ["bnat_utils.py", *sorted(map(str, Path("study").rglob("*.py")))]
# the notebook of a call that failed, or still runs, lies beside its log; two calls do not write one file.
# Once a call succeeds, those that earlier ones have left half run are of no use
PAPERMILL = (f"{shlex.quote(sys.executable)} -m papermill --stderr-file - {{input[0]:q}} {{log:q}}.$$.ipynb"
             " {params} 2>&1 | tee {log:q} && mv {log:q}.$$.ipynb {output:q} && rm -f {log:q}.*.ipynb")
made = lambda names: [f"{OUT}/{name}.ipynb" for name in names]

wildcard_constraints: name="|".join(map(re.escape, JOBS)), reading="|".join(READING)

rule report:
    default_target: True
    input: made(READING)

for table, names in TABLES.items():
    if table != "report":
        rule:
            name: table
            input: made(names)

rule analysis:
    input: "notebooks/{reading}.ipynb", CODE, made(TABLES["report"])
    output: f"{OUT}/{{reading}}.ipynb"
    log: f"{OUT}/logs/{{reading}}.log"
    params: f"-p profile {PROFILE}"
    shell: PAPERMILL

rule run:
    input: lambda w: [f"notebooks/{JOBS[w.name].notebook}.ipynb", *CODE, *made(JOBS[w.name].before)]
    output: f"{OUT}/{{name}}.ipynb"
    log: f"{OUT}/logs/{{name}}.log"
    params: lambda w: sweeps.arguments(JOBS[w.name], PROFILE)
    threads: config.get("threads", 1)  # the same on every machine: another number rounds differently
    resources: gpu=1 if PROFILE == "paper" or bnat.DEVICE.type == "cuda" else 0
    shell: PAPERMILL

onsuccess:  # what has come of the table, in its order
    if SWEEP:
        print(tables.accuracies([JOBS[name] for name in TABLES[SWEEP]], PROFILE))

onerror:  # what failed, once more, where it is seen
    print(sweeps.failures([*JOBS, *READING], OUT, STARTED), file=sys.stderr)
