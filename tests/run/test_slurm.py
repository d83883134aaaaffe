"""A sweep of twelve jobs on a real Slurm: a controller and two virtual nodes here, one drained half way."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, run

NEEDED = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch")
SWEEP = """
report: [{notebook: 02_bn_finetune}]
twelve:
  - notebook: 03_bn_scratch
    epsilon: [0, 16]
    trainable: [bn, bn+head, head]
    seed: [0, 1]
    epochs: 2
    eval_images: 100
    margin_images: 0
    aa_images: 0
    check_images: 0
"""
MARK = "# of tests/run/test_slurm.py, process "
CONF = """{mark}
ClusterName=trial
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={munge}
SlurmctldPort={port}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool.%n
SlurmctldPidFile={place}/ctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/ctld.log
SlurmdLogFile={place}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=7200
NodeName=one NodeHostName={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=4000
NodeName=two NodeHostName={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=4000
PartitionName=trial Nodes=one,two Default=YES MaxTime=60 State=UP
"""


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def alive(process):
    return Path(f"/proc/{process}").exists()


def clear(conf):
    """Remove a slurm.conf that a killed test has left, with its daemons and its folder; no other's."""
    first = conf.read_text().split("\n")[0] if conf.exists() else ""
    if not first.startswith(MARK):
        return
    owner = int(first.removeprefix(MARK))
    if alive(owner):
        return
    place = Path("/tmp") / f"slurm{owner}"
    for file in place.glob("*.pid"):
        daemon = int(file.read_text())
        command = Path(f"/proc/{daemon}/comm")
        if alive(daemon) and command.read_text().strip() in NEEDED:  # not another's process of that number
            os.kill(daemon, signal.SIGTERM)
    shutil.rmtree(place, ignore_errors=True)
    conf.unlink()


def test_what_a_killed_test_left_is_cleared(tmp_path):
    conf, over = tmp_path / "slurm.conf", subprocess.Popen(["true"])
    over.wait()
    kept, left = ("ClusterName=ours", f"{MARK}{os.getpid()}"), f"{MARK}{over.pid}"
    for first in (*kept, left):
        conf.write_text(f"{first}\nClusterName=trial\n")
        clear(conf)
        assert conf.exists() == (first in kept), first


def wait_for_nodes(place):
    for _ in range(300):
        shown = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %t"], capture_output=True, text=True).stdout
        if {"one idle", "two idle"} <= set(shown.split("\n")):
            return
        time.sleep(1)
    said = [path.read_text()[-1500:] for path in place.glob("*.log")]
    pytest.fail("the nodes do not come up: " + "".join(said))


@pytest.fixture
def slurm(tmp_path_factory):
    """A Slurm that runs, or a skip with the reason."""
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        pytest.skip(f"no Slurm here: {', '.join(missing)} not found (Debian: apt install slurm-wlm)")
    if os.geteuid():
        pytest.skip("a Slurm of one's own needs root here: its daemons run jobs as other users")
    place = Path("/tmp") / f"slurm{os.getpid()}"  # a short path: sockets have at most 107 characters
    (place / "state").mkdir(parents=True, mode=0o755)
    munge, host, ports = place / "munge", socket.gethostname().split(".")[0], free_ports(3)
    conf = Path("/etc/slurm/slurm.conf")  # where srun looks inside a job, which does not see $SLURM_CONF
    clear(conf)
    if conf.exists():
        pytest.skip(f"{conf} is there: this machine belongs to a cluster")
    conf.parent.mkdir(exist_ok=True)
    files = {"key-file": "key", "pid-file": "munged.pid", "seed-file": "seed", "log-file": "munged.log"}
    own = [f"--{option}={place / file}" for option, file in files.items()]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={munge}", *own],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D", "-N", "one"],
        ["slurmd", "-D", "-N", "two"],
    ]
    numbers = dict(zip(("port", "first", "second"), ports, strict=True))
    running = []
    try:
        names = dict(mark=f"{MARK}{os.getpid()}", host=host, user=getpass.getuser(), munge=munge, place=place)
        conf.write_text(CONF.format(**names, **numbers))
        subprocess.run(["mungekey", "--create", f"--keyfile={place}/key"], check=True)
        for daemon in daemons:
            running.append(subprocess.Popen(daemon, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        wait_for_nodes(place)
        yield
    finally:
        conf.unlink(missing_ok=True)
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            process.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)


def repository(folder):
    for name in ("notebooks", "profiles", "study"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bnat_utils.py", "Snakefile"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "sweeps.yaml").write_text(SWEEP)
    return folder


def records(folder):
    """{file: content} of all records, without what the machine says of itself."""
    files = [path for path in (folder / "out").rglob("records/*/*") if path.name != "machine.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def done_on(node, folder):
    """How many jobs have come to their end on a node."""
    shown = run("squeue", "-h", "-t", "COMPLETED", "-o", "%N", cwd=folder, check=False).stdout
    return shown.split().count(node)


def test_a_sweep_on_slurm_makes_the_records_of_a_local_one(slurm, tmp_path):
    there = repository(tmp_path / "slurm")
    snakemake = [sys.executable, "-m", "snakemake"]
    target = ["--config", "profile=quick", "--", "twelve"]
    resources = ["slurm_partition=trial", "runtime=30", "mem_mb=2000", "cpus_per_task=1"]
    there_only = ["--profile", "profiles/slurm", "--default-resources", *resources, "--latency-wait", "5"]
    there_only += ["--slurm-no-account", "--slurm-init-seconds-before-status-checks", "5"]
    there_only += ["--slurm-status-command", "squeue"]  # no accounting database here
    said = tmp_path / "said"
    sweep = subprocess.Popen(
        [*snakemake, *there_only, *target], cwd=there, stdout=said.open("w"), stderr=subprocess.STDOUT
    )
    drained = None
    while sweep.poll() is None:
        if drained is None and done_on("two", there):  # at least five rounds of jobs are still to come
            run("scontrol", "update", "nodename=two", "state=drain", "reason=trial", cwd=there)
            drained = len(list((there / "out" / "quick").glob("*.ipynb")))
        time.sleep(0.2)
    assert sweep.returncode == 0, said.read_text()[-6000:]
    assert drained is not None and drained < 12, "node two was not drained while the sweep ran"
    states = run("sinfo", "-h", "-N", "-o", "%N %t", cwd=there).stdout
    assert "two drain" in states and "one idle" in states, states
    jobs = run("scontrol", "-o", "show", "jobs", cwd=there).stdout
    counts = [jobs.count(what) for what in ("JobState=COMPLETED", "NodeList=one", "NodeList=two")]
    print("{} Slurm jobs, {} on node one, {} on node two,".format(*counts), "drained after", drained)
    assert jobs.count("JobState=COMPLETED") == 12 and "NodeList=two" in jobs

    here = repository(tmp_path / "local")
    run(*snakemake, "--cores", "2", *target, cwd=here)
    assert len(records(here)) == 12 * 4  # run.json, weights.safetensors, PGD, its curve
    assert records(there) == records(here)
    again = run(*snakemake, "--cores", "2", *target, cwd=there).stderr
    assert "Nothing to be done" in again, "a finished sweep was done again"
