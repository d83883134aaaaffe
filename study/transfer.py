"""One network's adversarial examples shown to the others, where weights and data are here.

Decided here: on which images, and where the outcome is kept: with the record of the network that sees them.
Not here: what it says of a network (checks.py).
"""

from contextlib import suppress

import torch

import bnat_utils as bnat
from study import checks, datasets, records
from study.experiments import EVALUATION
from study.processes import ReadOnly, lock
from study.records import folders, read_record
from study.weights import digest, trained


def transfer(targets, source, images):
    """Which of the first test images the networks of `targets` still get right when PGD-20 attacks `source`.

    Experiments: {label: target}, source; ε is the profile's. Returns {label: bool [n]} of those that the
    targets' records hold, or that can be measured because data and weights are here; these are then
    written. Trains nothing.
    """
    eps, known = source.held_out_epsilon / 255, read_record(*folders(source))
    if known is None:
        return {}
    name = f"transfer_eps{255 * eps:g}_n{images}_{known['weights'][:10]}"
    found = {label: read_record(*folders(exp)) for label, exp in targets.items()}
    flags = {}
    for label, record in found.items():
        if record and name in record["evaluations"]:
            flags[label] = record["evaluations"][name]["robust"]
    missing = {label: record for label, record in found.items() if record and label not in flags}
    network_of = {label: trained(targets[label]) for label in missing}
    attacked = trained(source) if any(network_of.values()) else None
    if attacked is None or digest(attacked) != known["weights"]:
        return flags
    try:
        data = datasets.load(source.run["data"], source.data_dir, download=False)
    except ValueError:  # no data here
        return flags
    torch.manual_seed(source.run["seed"])
    x, y = (t[:images] for t in data["test"])
    adv = checks.adversarial(attacked, x, y, eps=eps)
    settings = dict(
        kind="transfer", epsilon=255 * eps, images=images, source=source.name, generation=EVALUATION
    )
    for label, model in network_of.items():
        if model is not None and digest(model) == missing[label]["weights"]:
            robust, exp = bnat.evaluate(model, adv, y, eps=0)["clean"], targets[label]
            content = dict(
                robust=records.encode(robust), settings=settings, weights=missing[label]["weights"]
            )
            with suppress(ReadOnly), lock(exp):
                records.write_anew(exp.out / "records" / exp.name / f"{name}.json", content)
            flags[label] = robust.numpy()
    return flags
