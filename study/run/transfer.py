"""One network's adversarial examples shown to the others, where weights and data are here.

Decided here: on which images, and where the outcome is kept: with the record of the network that sees them.
Not here: what it says of a network (decide/trust.py).
"""

from contextlib import suppress

import torch

import bnat_utils as bnat
from study.define.experiment import experiment
from study.define.parameters import PROFILES
from study.define.rows import ROWS
from study.measure.attacks import adversarial
from study.measure.plan import EVALUATION
from study.run import datasets, records
from study.run.processes import ReadOnly, lock
from study.run.records import folders, read_record
from study.run.weights import digest, trained


def between(networks, parameters):
    """PGD-20 examples made on each row's network, {key: record}, shown to all of these.

    parameters: those of a reading notebook. Returns {source: {target: bool [n]}}, by key.
    """
    images = PROFILES[parameters["profile"]]["curve_images"]
    own = {
        key: experiment(ROWS[key].step, **ROWS[key].among(parameters) | dict(seed=record["run"]["seed"]))
        for key, record in networks.items()
    }
    return {source: transfer(own, exp, images) for source, exp in own.items()}


def transfer(targets, source, images):
    """Which of the first test images the networks of `targets` still get right when PGD-20 attacks `source`.

    Experiments: {key: target}, source; ε is the profile's. Returns {key: bool [n]} of those that the
    targets' records hold, or that can be measured because data and weights are here; these are then
    written. Trains nothing.
    """
    images = min(images, bnat.DATASETS[source.run["data"]]["test"])
    eps, known = source.held_out_epsilon / 255, read_record(*folders(source))
    if known is None:
        return {}
    name = f"transfer_eps{255 * eps:g}_n{images}_{known['weights'][:10]}"
    known_of = {key: read_record(*folders(exp)) for key, exp in targets.items()}
    flags = {}
    for key, record in known_of.items():
        if record and name in record["evaluations"]:
            flags[key] = record["evaluations"][name]["robust"]
    missing = {key: record for key, record in known_of.items() if record and key not in flags}
    network_of = {key: trained(targets[key]) for key in missing}
    attacked = trained(source) if any(model is not None for model in network_of.values()) else None
    if attacked is None or digest(attacked) != known["weights"]:
        return flags
    try:
        data = datasets.load(source.run["data"], source.data_dir, download=False)
    except ValueError:  # no data here
        return flags
    torch.manual_seed(source.run["seed"])
    x, y = (t[:images] for t in data["test"])
    adv = adversarial(attacked, x, y, eps=eps)
    settings = dict(
        kind="transfer", epsilon=255 * eps, images=images, source=source.name, generation=EVALUATION
    )
    for key, model in network_of.items():
        if model is not None and digest(model) == missing[key]["weights"]:
            robust, exp = bnat.evaluate(model, adv, y, eps=0)["clean"], targets[key]
            content = dict(robust=records.encode(robust), settings=settings, weights=missing[key]["weights"])
            with suppress(ReadOnly), lock(exp):
                records.write_anew(exp.out / "records" / exp.name / f"{name}.json", content)
            flags[key] = robust.numpy()
    return flags
