"""The report's tables, each a pandas DataFrame made from records, and how they are written and shown.

Decided here: columns and their formats. Not here: the numbers' meaning (statistics.py), verdicts
(claims.py, checks.py).
"""

import numpy as np
import pandas as pd
from IPython.display import HTML
from scipy.stats import entropy

from study import records
from study.checks import trust
from study.experiments import ROWS, experiment
from study.statistics import mean_sd, paired, percent, proportion
from study.sweeps import CONTROLS, control

pd.options.display.max_colwidth = None
TINTS = {
    "contradicted": "#f7c9ae", "suspect": "#f7c9ae", "undecided": "#fbe3d3", "confirmed": "#d6e9f6",
    "as expected": "#d6e9f6", "constant": "#eeeeee", "not yet run": "#eeeeee",
}  # fmt: skip


def tint(cell):
    """The background of a cell that is a verdict."""
    colour = TINTS.get(str(cell).split(" (")[0])
    return f"background-color: {colour}; color: black" if colour else ""


def save(table, exp, name):
    """Write a table to out/<profile>/figures/<name>.csv; return it styled for a notebook."""
    with records.lock(exp, "figures"):  # runs side by side may write one table
        records.write(exp.out / "figures" / f"{name}.csv", table.to_csv().encode())
    style = table.style.format(precision=1).set_uuid(name).map(tint)  # an id of its own, the same each time
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return HTML(style.set_table_styles(left).to_html())


def settings(exp):
    """What decides a run's weights, a row each."""
    return pd.Series(exp.run, name="value").rename_axis("setting").to_frame()


def rate(record, kind, key="robust"):
    """An outcome of a record as text: percent, interval, n; "not yet run" where it was not measured."""
    return percent(proportion(record[kind][key]) if record and record[kind] else None)


def results(found):
    """A row a record of {label: record or None}: rates in percent [95 % Wilson interval] (n), settings.

    R: what survives PGD-20 and multi-targeted PGD. classes: effective number of labels that the images
    attacked with PGD get, the exponential of their entropy.
    """
    table = {}
    for label, record in found.items():
        row = {"clean % (n)": rate(record, "pgd", "clean"), "PGD % (n)": rate(record, "pgd")}
        row |= {"R % (n)": rate(record, "margin"), "AutoAttack % (n)": rate(record, "autoattack")}
        if record:
            run = record["run"]
            row |= {"trained": run["trainable"], "train ε": f"{run['epsilon']:g}/255"}
            row |= {"epochs": str(run["epochs"]), "lr": f"{run['lr']:g}", "seed": str(run["seed"])}
        if record and record["pgd"]:
            pgd = record["pgd"]
            counts, attack = pgd["adversarial_predictions"], pgd["settings"]
            row |= {"test ε": f"{attack['epsilon']:g}/255", "PGD": f"{attack['steps']}x{attack['restarts']}"}
            row["top class %"] = f"{100 * max(counts) / sum(counts):.0f}"
            row["classes"] = f"{np.exp(entropy(counts)):.1f}"
            shared = same_images(record, "pgd")
            if shared is not None:
                row["PGD %, its images"] = f"{100 * shared.mean():.1f}"
        table[label] = row
    columns = ["trained", "train ε", "epochs", "lr", "seed", "test ε", "PGD", "clean % (n)", "PGD % (n)"]
    columns += ["R % (n)", "AutoAttack % (n)", "PGD %, its images", "top class %", "classes"]
    table = pd.DataFrame.from_dict(table, orient="index", columns=columns, dtype=object)
    return table.fillna("–").rename_axis("model")


def same_images(record, kind, flags="robust"):
    """The outcomes under `kind` on the images that AutoAttack saw: bool [n], None if it saw others."""
    if not (record["autoattack"] and record[kind]):
        return None
    settings, outcomes = record["autoattack"]["settings"], record[kind][flags]
    seen = np.array(settings.get("index", range(settings["images"])))
    return outcomes[seen] if seen.max() < outcomes.size else None


def head(rows, kind, title):
    """A column's title with its number of images, of all records that have it."""
    sizes = {r[kind]["robust"].size for seeds in rows.values() for r in seeds.values() if r[kind]}
    if not sizes:
        return f"{title} %"
    where = ", ".join(f"{n:,}" for n in sorted(sizes))
    random = any("index" in r[kind]["settings"] for s in rows.values() for r in s.values() if r[kind])
    which = ("random " if random else "first ") if kind == "autoattack" else ""
    return f"{title} % ({which}{where} images)"


def main(rows):
    """The main table: mean ± sd over seeds (number of seeds) of {row key: {seed: record}}."""
    columns = {"clean": ("pgd", "clean"), "PGD-20": ("pgd", "robust"), "R": ("margin", "robust")}
    columns["AutoAttack"] = ("autoattack", "robust")
    table = {}
    for key, seeds in rows.items():
        epochs = {record["run"]["epochs"] for record in seeds.values()}
        table[ROWS[key][0]] = {"epochs": "/".join(map(str, sorted(epochs))) or "–"} | {
            head(rows, kind, title): mean_sd([100 * r[kind][flags].mean() for r in seeds.values() if r[kind]])
            for title, (kind, flags) in columns.items()
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("mean ± sd (seeds)")


def by_seed(rows):
    """{label: record} of every row and seed."""
    return {f"{ROWS[k][0]} (seed {seed})": r for k, seeds in rows.items() for seed, r in seeds.items()}


def difference(a, b, kind):
    """Two records on the same images: {difference in points with its interval, McNemar p, n}."""
    if not (a and b and a[kind] and b[kind]):
        return {"difference (points)": "not yet run", "McNemar p": "–", "n": 0}
    n = min(r[kind]["robust"].size for r in (a, b))
    moved, low, high, p = paired(a[kind]["robust"][:n], b[kind]["robust"][:n])
    text = f"{100 * moved:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return {"difference (points)": text, "McNemar p": f"{p:.2g}" if p else "< 1e-300", "n": n}


PAIRS = (("finetuned", "standard"), ("finetuned", "random"), ("at", "finetuned"), ("random", "bn_clean"))


def pairs(rows):
    """Pairs of rows compared image by image under each attack, a row a pair and seed; p is not corrected."""
    kinds = {"PGD": "pgd", "R": "margin", "AutoAttack": "autoattack"}
    table = {}
    for a, b in PAIRS:
        for seed in sorted(rows[a].keys() & rows[b].keys()):
            both = rows[a][seed], rows[b][seed]
            table[f"{ROWS[a][0]} − {ROWS[b][0]}, seed {seed}"] = {
                f"{name}: {key}": value
                for name, kind in kinds.items()
                for key, value in difference(*both, kind).items()
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("pair")


def autoattack(found):
    """What AutoAttack's parts leave, in their order, beside clean accuracy, PGD and R on the same images."""
    names = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}
    table = {}
    for label, record in found.items():
        if record and same_images(record, "pgd") is not None:
            rates = {"clean": same_images(record, "pgd", "clean"), "PGD": same_images(record, "pgd")}
            rates["R"] = same_images(record, "margin")
            rates |= {name: record["autoattack"][key] for key, name in names.items()}
            rates = {name: flags for name, flags in rates.items() if flags is not None}
            table[label] = {"n": rates["clean"].size} | {k: f"{100 * v.mean():.1f}" for k, v in rates.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("accuracy (%) after")


def trusted(found, transfers=None):
    """The checks against gradient masking side by side: (table, {label: its own table of `trust`})."""
    own = {label: trust(r, (transfers or {}).get(label, ())) for label, r in found.items() if r}
    marks = {"as expected": " ✓", "suspect": " ✗", "not yet run": "not yet run", "constant": " constant"}
    table = {label: c.measured.replace("–", "") + c.verdict.map(marks) for label, c in own.items()}
    table = pd.DataFrame(table)
    if own:
        table.insert(0, "expected", next(iter(own.values())).expected)
        table.insert(1, "n", pd.concat([c.n for c in own.values()], axis=1).max(axis=1))
    return table.rename_axis("check"), own


def claims(decided):
    """The claims with their rules and verdicts, a row each."""
    table = {}
    for c in decided:
        interval = "–"
        if c.mean is not None and np.isfinite([c.mean, c.low, c.high]).all():
            interval = f"{c.mean:+.1f} [{c.low:+.1f}, {c.high:+.1f}]"
        verdict = f"{c.verdict} ({c.size})" if c.size else c.verdict
        table[c.key] = {"statement": c.statement, "rule": c.rule, "statistic": c.statistic}
        table[c.key] |= {"points [95 %]": interval, "seeds": len(c.seeds), "verdict": verdict}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("claim")


def costs(found):
    """What every run cost on the machine that made it."""
    table = {}
    for name, record in found.items():
        if record["machine"]:
            m = record["machine"]
            table[name] = {key: m[key] for key in ("device", "torch", "precision")}
            table[name]["images/s, training"] = f"{m['images_per_second']:,.0f}"
            table[name]["minutes"] = f"{sum(m['seconds']) / 60:.1f}"
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("run")


# ---------------------------------------------------------------------------------- controls of 06_features
def controls(profile, labels, seed=0, **given):
    """{label: record or None} of controls at a profile. given: data, arch."""
    found = {}
    for label in labels:
        step, own = control(label, profile, seed=seed)
        exp = experiment(step, profile=profile, **given | own)
        record = records.read_record(*records.folders(exp), wanted=exp.evaluations)
        found[label] = record and records.at_epsilon(
            record, experiment("pretrain", profile=profile).run["epsilon"]
        )
    return found


def against_base(found):
    """`results` of controls, each with its difference to the first on the same images under PGD."""
    base = next(iter(found.values()))
    table = results(found).drop(columns=["PGD", "seed"])
    compared = {k: difference(r, base, "pgd") for k, r in found.items() if r is not base and r and base}
    table["PGD, difference to BN"] = pd.Series(
        {k: c["difference (points)"] for k, c in compared.items()}, dtype=object
    )
    table["McNemar p"] = pd.Series({k: c["McNemar p"] for k, c in compared.items()}, dtype=object)
    return table.fillna("–").rename_axis("trained part")


def learning_rates(profile, held_out, **given):
    """The sweep of learning rates after the control epochs, judged on the held-out images, a row a rate."""
    table = {}
    for name in ("BN", "BN, random features", "head", "as many random convolution weights"):
        labels = [label for label in CONTROLS if label == name or label.startswith(f"{name}, lr x")]
        found = controls(profile, labels, **given)
        rates = {label: experiment(s, profile=profile, **given | own).run["lr"] for label in labels
                 for s, own in [control(label, profile)]}  # fmt: skip
        for label in sorted(labels, key=rates.get):
            last = found[label]["history"][-1] if found[label] else None
            table[f"{name}, lr {rates[label]:g}"] = {
                f"{kind} % (held-out n)": percent(
                    proportion(np.arange(held_out) < round(held_out * last[key])) if last else None
                )
                for key, kind in (("held_out_clean", "clean"), ("held_out_robust", "PGD-10"))
            } | {"the runs use": "x" if label == name else ""}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("trained part")


def dose(found, parents):
    """BN-only AT over features of networks trained for so many epochs; {epochs: record}, {epochs: parent}."""
    table = {}
    for epochs, record in found.items():
        table[epochs] = {
            "before: clean % (n)": rate(parents[epochs], "pgd", "clean") if epochs else "random features",
            "lr of BN": f"{record['run']['lr']:g}",
            "after: clean % (n)": rate(record, "pgd", "clean"),
            "after: PGD % (n)": rate(record, "pgd"),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("epochs of pre-training")
