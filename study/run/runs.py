"""A run from its parameters to its record: parent, training with checkpoints, evaluation, weights.

Decided here: what is done again after a kill and what is not, on which images a network is judged, what a
user is told before a long training. Not here: how a network is trained or attacked (bnat_utils.py), what a
record looks like (records.py), where weights lie (weights.py).
"""

import copy
import io
import shutil
from functools import partial

import torch
from tqdm import tqdm

import bnat_utils as bnat
from study.define import brought
from study.measure import attacks, plan
from study.run import code_cache, datasets, machines, memory, optimizers, records
from study.run.memory import fits
from study.run.networks import load_foreign
from study.run.processes import lock
from study.run.records import folders, load_record, read, read_record
from study.run.terminal import say
from study.run.weights import blank, checkpoint, digest, prune, save_weights, trained

COMPILE_ABOVE = 8000  # steps of the training attack: three epochs of CIFAR-10 repay the compiling


def set_up():
    """What of this process decides its speed: freed memory is kept, compiled code has a folder."""
    memory.keep_freed()
    code_cache.keep()


# ------------------------------------------------------------------------------------------------- training
def settings_of(run, model):
    """What bnat.train wants to know of a run that trains `model`."""
    info = bnat.DATASETS[run["data"]]
    return optimizers.part(run, model) | dict(
        epochs=run["epochs"], lr=run["lr"], eps=run["epsilon"] / 255, step_size=run["attack_step_size"] / 255,
        steps=run["attack_steps"], batch_size=run["batch_size"], weight_decay=run["weight_decay"],
        schedule=run["schedule"], pad=info["pad"], flip=info["flip"], seed=run["seed"],
    )  # fmt: skip


def forecast(exp, model, images, labels, epochs):
    """Minutes that so many epochs take on this machine, at most: by a few updates of a copy."""
    run, few = exp.run, 3 * exp.run["batch_size"]
    if len(labels) * epochs < 100 * few:
        return 0
    with torch.random.fork_rng():
        trial = copy.deepcopy(model)
        settings = settings_of(run, trial) | dict(epochs=2)
        _, second = bnat.train(trial, images[:few], labels[:few], **settings)
    return second["seconds"] / few * len(labels) * epochs / 60


def announce(exp, minutes):
    """Tell a user what will happen, before a training of more than five minutes."""
    if minutes > 5:
        source = "scikit-learn" if exp.run["data"] == "digits" else bnat.data_folder(exp.data_dir)
        say(
            f"{exp.name}: its weights are not here, so it is trained: about {minutes:.0f} min on this "
            f"{bnat.DEVICE.type.upper()}, then evaluated; if interrupted it goes on from its last epoch.\n"
            f"Data: {exp.run['data']} from {source}.\n"
            "Faster: a GPU, -p profile quick, fewer epochs (-p epochs 1) or images (-p eval_images 1000)."
        )


def epochs_of(exp, model, images, labels, state):
    """What `bnat.train` yields of a run from `state` (None: the beginning) on, each with: was it compiled?

    The attacked network is compiled where that pays. Where it fails, as with a g++ without the headers of
    Python, the epoch begins again without: the same numbers but for rounding, slower.
    """
    run = exp.run
    updates = len(labels) // run["batch_size"]
    pays = updates * run["epochs"] * run["attack_steps"] > COMPILE_ABOVE
    if pays and shutil.which("g++"):
        code_cache.prune()
        first = copy.deepcopy(model.state_dict())
        try:
            settings = settings_of(run, model) | dict(state=state, progress=exp.name, compiled=True)
            for epoch in bnat.train(model, images, labels, **settings):
                state = epoch  # from here, should it fail later
                yield epoch, True
            return
        except torch._dynamo.exc.TorchDynamoException as error:
            why = str(error).strip().split("\n")[0]
            if "Python.h" in str(error):
                why = "g++ finds no headers of Python; Debian: apt install python3-dev"
            say(f"{exp.name}: its attack cannot be compiled ({why}); it runs without, about half as fast")
        model.load_state_dict(first)
    settings = settings_of(run, model) | dict(state=state, progress=exp.name)
    for epoch in bnat.train(model, images, labels, **settings):
        yield epoch, False


def on_held_out(exp, model, held_out):
    """Accuracies on the held-out images after an epoch: {name: share}."""
    with fits("BNAT_EVAL_BATCH", bnat.EVAL_BATCH):
        measured = bnat.evaluate(model, *held_out, eps=exp.held_out_epsilon / 255, steps=plan.EPOCH_STEPS)
    rates = {f"held_out_{key}": measured[key].float().mean().item() for key in ("clean", "robust")}
    if exp.run["step"] == "pretrain" and not exp.run["epsilon"]:  # how fragile, at which clean accuracy (C7)
        radius = exp.held_out_epsilon * plan.BY_EPOCH / 255
        small = bnat.evaluate(model, *held_out, eps=radius, steps=plan.EPOCH_STEPS)
        rates["held_out_small"] = small["robust"].float().mean().item()
    return rates


def shortest(parameter):
    """The float32 numbers of a parameter, each in as few digits as give it back: half as many as tolist()."""
    return [float(str(value)) for value in parameter.detach().cpu().numpy().flatten()]


def gammas_and_betas(model):
    """{path: {"gamma": [...], "beta": [...]}} of every normalisation layer that has both."""
    return {
        path: dict(gamma=shortest(m.weight), beta=shortest(m.bias))
        for path, m in model.named_modules()
        if isinstance(m, bnat.NORM) and m.weight is not None and m.bias is not None
    }


def train(exp, data):
    """Train the network of an experiment on what `load_data` returned, or take up its checkpoint.

    A checkpoint follows every epoch: a run cut off anywhere ends with the numbers of an uncut one. Returns
    (model in eval mode, what run.json says, what machine.json says).
    """
    run, path = exp.run, checkpoint(exp)
    saved = read(path, records.parse_checkpoint)
    model, by_order = blank(exp), False
    if exp.parent:  # for a checkpoint, too: what is kept in the end is the difference to it
        with lock(exp.parent):
            parent = trained(exp.parent)
            if parent is None:
                parent = train(exp.parent, data)[0]
        model.load_state_dict(parent.state_dict())
    elif exp.weights:
        by_order = load_foreign(model, exp.weights)
    idle = machines.with_speed([machines.here()], [], 0)
    saved = saved or dict(initial_weights=digest(model), history=[], seconds=[], machine=idle)
    history, seconds = saved["history"], saved["seconds"]
    images, labels = (t[: run["train_images"]] for t in data["train"])
    updates = len(labels) // run["batch_size"]
    if len(history) < run["epochs"]:
        if exp.note:
            say(f"{exp.name}: {exp.note}")
        with fits("batch_size", run["batch_size"]):
            minutes = forecast(exp, model, images, labels, run["epochs"] - len(history))
        announce(exp, minutes)
    state = dict(epoch=len(history), model=saved["model"], optimizer=saved["optimizer"]) if history else None
    ran_on = machines.seen(saved["machine"])
    with fits("batch_size", run["batch_size"]):
        for epoch, compiled in epochs_of(exp, model, images, labels, state):
            own = dict(train_loss=epoch["loss"], train_accuracy=epoch["accuracy"])
            history.append(dict(epoch=epoch["epoch"]) | own | on_held_out(exp, model, data["held_out"]))
            seconds.append(epoch["seconds"])
            saved.update(model=epoch["model"], optimizer=epoch["optimizer"])
            ran_on = machines.joined(ran_on, machines.here(compiled))
            saved["machine"] = machines.with_speed(ran_on, seconds, updates * run["batch_size"])
            buffer = io.BytesIO()  # torch.save on a full disk would say something else
            torch.save(saved, buffer)
            records.write(path, buffer.getbuffer())
    if history:
        model.load_state_dict(saved["model"])
    record = dict(name=exp.name, run=run, weights=digest(model), bn=gammas_and_betas(model), history=history)
    record |= brought.described(run["data"])
    if by_order:
        say(f"{exp.weights}: no name in it is the network's, so its tensors fill the network in their order")
        record["filled_by"] = "order"
    return model.eval(), record | dict(initial_weights=saved["initial_weights"]), saved["machine"]


# ----------------------------------------------------------------------------------------------- evaluation
def in_parts(state, seed, attack, x, y, *, part, name):
    """{key: bool [N]} of an attack on `part` images at a time; what is done is kept in the file `state`.

    Each part has its own random start, so that what is gone on with ends as what was not cut off.
    """
    done = read(state, records.parse_json) or {}
    for first in tqdm(range(0, len(y), part), desc=name, delay=3):
        if str(first) not in done:
            torch.manual_seed(seed + first)
            left = attack(x[first : first + part], y[first : first + part])
            done[str(first)] = {key: flags.tolist() for key, flags in left.items()}
            records.write_json(state, done)
    return {key: torch.tensor([flag for one in done.values() for flag in one[key]]) for key in done["0"]}


def say_left_out(measured):
    """Tell a user which components of AutoAttack cannot attack a network of so few classes."""
    if left_out := [component for component in attacks.AUTOATTACK if component not in measured]:
        ran = [component for component in attacks.AUTOATTACK if component in measured]
        say(f"AutoAttack: {', '.join(ran)}; not {', '.join(left_out)}, which needs more classes")


def record_of(exp, weights):
    """The record of an experiment whose network has these weights, committed or made here, or None.

    Two trainings may have left other weights under one name.
    """
    for order in (folders(exp), folders(exp)[::-1]):
        record = read_record(*order)
        if record and record["weights"] == weights:
            return record
    return None


def evaluate(exp, model, weights, data):
    """Make and write the evaluations of an experiment that its record does not have yet."""
    home, wanted = exp.out / "records" / exp.name, plan.evaluations(exp)
    earlier = dict(record_of(exp, weights)["evaluations"])
    for name, settings in wanted.items():
        if name in earlier:
            continue
        state = exp.out / "checkpoints" / f"{exp.name}.{name}.{weights[:10]}.{plan.EVALUATION}.json"
        torch.manual_seed(exp.run["seed"])
        with fits("BNAT_EVAL_BATCH", bnat.EVAL_BATCH):
            kept = partial(in_parts, state, exp.run["seed"])
            measured = plan.measure(model, data, settings, earlier=earlier, in_parts=kept)
        if settings["kind"] == "autoattack":
            say_left_out(measured)
        encoded = {key: records.encode(value) for key, value in measured.items()}
        content = encoded | dict(settings=settings, weights=weights)
        records.write_anew(home / f"{name}.json", content)
        earlier[name] = records.decode(content)
    # they are made: what was kept on the way, of other weights or code too, goes
    for name in wanted:
        for state in (exp.out / "checkpoints").glob(f"{exp.name}.{name}.*.json"):
            state.unlink()


def make(exp, data):
    """Train the network of an experiment and write its record, without evaluations: (model, record)."""
    model, record, ran_on = train(exp, data)
    home = folders(exp)[1]
    start = trained(exp.parent) if exp.parent else blank(exp)
    records.write_json(home / "machine.json", ran_on)
    save_weights(model, start.state_dict(), home / "weights.safetensors")
    records.write_anew(home / "run.json", record)
    return model, record


def run(exp):
    """The record of an experiment: loaded, or trained (a parent first), evaluated and written."""
    set_up()
    if exp.parent:
        run(exp.parent)
    if record := load_record(exp):
        prune(exp)  # a kill may have come before
        return record
    if exp.run["data"] == "digits":  # so small that a second thread only waits for the first
        torch.set_num_threads(1)
    data = datasets.load(exp.run["data"], exp.data_dir)
    with lock(exp):
        if record := load_record(exp):  # by now: the process that held the lock has made it
            return record
        model = trained(exp)
        known = None if model is None else record_of(exp, digest(model))
        if known is None:
            model, known = make(exp, data)
        prune(exp)
        evaluate(exp, model, known["weights"], data)
        return load_record(exp)
