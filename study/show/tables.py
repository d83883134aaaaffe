"""The report's tables, each a pandas DataFrame made from records, and how they are written and shown.

Decided here: columns and their formats; labels are printed here, for the keys that come. Not here: the
numbers' meaning (decide/statistics.py), tables of claims (claim_tables.py), of the checks (trust_tables.py)
and of BN (bn_tables.py, norm_tables.py, other_norms.py).
"""

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from scipy.stats import entropy

from study.decide import axes, rates, take_off, trust
from study.decide.statistics import mean_sd, paired, percent, proportion, share
from study.define.experiment import BEFORE
from study.define.parameters import Parameters
from study.define.rows import GAMMA_SETTINGS, label
from study.measure import plan
from study.run import machines, records, sweeps

SETTINGS = {  # what decides a run's weights and is no parameter
    "name": "of the record; it ends in the hash of what follows",
    "generation": "of the code; raised when the same settings make other weights",
    "step": "pretrain: from random weights; scratch: a part alone; finetune: a part, from the parent",
    "parent": "the run to start from",
    "source": "SHA-256 of the file of arch",
}
TINTS = {
    "contradicted": "#f7c9ae",
    trust.SUSPECT: "#f7c9ae",
    "undecided": "#fbe3d3",
    "confirmed": "#d6e9f6",
    trust.EXPECTED: "#d6e9f6",
    "exploratory": "#eeeeee",
} | dict.fromkeys((trust.CONSTANT, trust.BROKEN, *trust.UNJUDGED), "#eeeeee")


def tint(cell):
    """The background of a cell that is a verdict."""
    colour = TINTS.get(cell)
    return f"background-color: {colour}; color: black" if colour else ""


def save(table, exp, name):
    """Write a table to out/<profile>/figures/<name>.csv; return it for a notebook."""
    records.keep(exp, {f"{name}.csv": table.to_csv().encode()})
    return styled(table, name)


def listed(table, exp, name):
    """Write a table that is long to out/<profile>/figures/<name>.csv; return a line that says where it is."""
    records.keep(exp, {f"{name}.csv": table.to_csv().encode()})
    rows = "1 row" if len(table) == 1 else f"{len(table)} rows"
    return Markdown(f"{rows}: [figures/{name}.csv](../figures/{name}.csv)")


def by_row(table, title):
    """{row: {column: cell}} as a table; a row that says so where there is none. title: of its rows."""
    return pd.DataFrame.from_dict(table or {"not yet run": {}}, orient="index").rename_axis(title)


def styled(table, name, verdicts=None):
    """A table as a notebook shows it. verdicts: of the rows, where the column `verdict` says more."""
    table = table.rename_axis(index=None, columns=table.index.name)  # in the corner, not in a row of its own
    style = table.style.format(precision=1).set_uuid(name).map(tint)  # an id of its own, the same each time
    if verdicts is not None:
        style.apply(lambda column: [tint(verdict) for verdict in verdicts], subset=["verdict"])
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return HTML(style.set_table_styles(left).to_html())


def settings(exp):
    """A run's name, which its record has, and what decides its weights, a row each."""
    described = {name: field.description for name, field in Parameters.model_fields.items()} | SETTINGS
    rows = {
        name: {"value": str(value), "what it is": described[name]}  # whole: not 0.0 for 0.0005
        for name, value in ({"name": exp.name} | exp.run).items()
    }
    return styled(by_row(rows, "setting"), "settings")


def rate(record, kind, key="robust"):
    """An outcome of a record as text: percent, interval, n; or that it was not measured."""
    if not record:
        return "not yet run"
    return percent(proportion(record[kind][key])) if record[kind] else "not measured"


ON_ITS_IMAGES = ", AutoAttack's images"  # of an accuracy on the images that AutoAttack saw
ACCURACIES = {
    "clean % (n)": rates.CLEAN,
    "PGD % (n)": rates.PGD,
    "R % (n)": rates.ROBUST,
    "AutoAttack % (n)": ("autoattack", "robust"),
}
NORMALISATION = {"norm": "normalisation"} | GAMMA_SETTINGS


def result(networks):
    """What one looks for first: the accuracies of `results`, a row each, a column a network {key: record}."""
    shown = ["test ε", *ACCURACIES, f"R %{ON_ITS_IMAGES}"]
    return results(networks)[shown].T.rename_axis("% [95 %] (images)")


def results(networks):
    """A row a record of {key: record or None}: rates in percent [95 % Wilson interval] (n), settings.

    R: what survives PGD-20 and multi-targeted PGD. judged on: test images, or training images kept for
    tuning where a run has no others. classes: effective number of labels that the images attacked with PGD
    get, the exponential of their entropy.
    """
    table = {}
    for key, record in networks.items():
        of_tuning = records.prefix("tuning")
        tuning = of_tuning if record and not record["pgd"] and record[f"{of_tuning}pgd"] else ""
        pgd, margin = f"{tuning}pgd", f"{tuning}margin"
        row = {"clean % (n)": rate(record, pgd, "clean"), "PGD % (n)": rate(record, pgd)}
        row |= {"R % (n)": rate(record, margin), "AutoAttack % (n)": rate(record, "autoattack")}
        if tuning:
            row["AutoAttack % (n)"] = "–"
        if record:
            if record[pgd]:
                row["judged on"] = "images kept for tuning" if tuning else "test images"
            run = record["run"]
            row |= {"trained": run["trainable"], "train ε": f"{run['epsilon']:g}/255"}
            row |= {"epochs": str(run["epochs"]), "lr": f"{run['lr']:g}", "seed": str(run["seed"])}
            row |= {"network": run["arch"], "starts from": run["parent"] or "random weights"}
            row |= {"weight decay": f"{run['weight_decay']:g}"}
            row |= {title: run.get(name, BEFORE[name]) for name, title in NORMALISATION.items()}
        if record and record["pgd"]:
            counts, attack = record["pgd"]["adversarial_predictions"], record["pgd"]["settings"]
            row |= {"test ε": f"{attack['epsilon']:g}/255", "PGD": f"{attack['steps']}x{attack['restarts']}"}
            row["top class %"] = f"{100 * max(counts) / sum(counts):.0f}"
            row["classes"] = f"{np.exp(entropy(counts)):.1f}"
            for name, kind in (("PGD", "pgd"), ("R", "margin")):
                shared = rates.same_images(record, kind)
                if shared is not None:
                    row[f"{name} %{ON_ITS_IMAGES}"] = f"{100 * shared.mean():.1f}"
        table[label(key)] = row
    columns = ["network", *NORMALISATION.values(), "starts from", "trained", "train ε", "epochs", "lr"]
    columns += ["weight decay", "seed", "judged on", "test ε", "PGD", *ACCURACIES]
    columns += [f"PGD %{ON_ITS_IMAGES}", f"R %{ON_ITS_IMAGES}", "top class %", "classes"]
    table = pd.DataFrame.from_dict(table, orient="index", columns=columns, dtype=object)
    return table.fillna("–").rename_axis("model")


def head(rows, kind, title):
    """A column's title with its number of images, of all records that have it."""
    sizes = {r[kind]["robust"].size for seeds in rows.values() for r in seeds.values() if r[kind]}
    if not sizes:
        return f"{title} %"
    where = ", ".join(f"{n:,}" for n in sorted(sizes))
    random = any("index" in r[kind]["settings"] for s in rows.values() for r in s.values() if r[kind])
    which = ""
    if kind == "autoattack":
        which = "random " if random else "first "
    return f"{title} % ({which}{where} images)"


def main(rows):
    """The main table: mean ± sd over seeds (number of seeds) of {row key: {seed: record}}.

    R as `rates.robust_accuracy` has it; beside it the two-phase estimate of what also survives AutoAttack.
    """
    table = {}
    for key, seeds in rows.items():
        epochs = {record["run"]["epochs"] for record in seeds.values()}
        row = table[label(key)] = {"epochs, last stage": "/".join(map(str, sorted(epochs))) or "–"}
        for title, measure in axes.TEST.items():
            row[head(rows, measure[0], title)] = rates.text(seeds, measure)
        estimates = [rates.after_autoattack(record) for record in seeds.values()]
        estimates = [100 * estimate.rate for estimate in estimates if estimate]
        row[head(rows, "autoattack", "R and AutoAttack, two-phase")] = mean_sd(estimates)
    return by_row(table, "mean ± sd (seeds)")


def controls(rows, others):
    """Both arms, L and those controls {key: {seed: record}} that ran: the main table, and differences."""
    shown = {key: rows[key] for key in ("finetuned", "random", "linear")}
    shown |= {key: seeds for key, seeds in others.items() if seeds}
    table = main(shown)
    for base, title in (("linear", "R − R(L)"), ("finetuned", "R − R(BN-only AT, trained)")):
        table[f"{title}, points [95 %] (seeds)"] = [
            rates.points(rates.differences(seeds, rows[base])) if key != base else ""
            for key, seeds in shown.items()
        ]
    return table


def compared(a, b):
    """Two outcomes on the same images, bool [n]: {difference in points with its interval, McNemar p, n}."""
    if a is None or b is None:
        return {"difference (points)": "not yet run", "McNemar p": "–", "n": 0}
    *numbers, p = paired(a, b)
    moved, low, high = (round(100 * number, 6) for number in numbers)  # 0.55 is written alike everywhere
    text = f"{moved:+.1f} [{low:+.1f}, {high:+.1f}]"
    return {"difference (points)": text, "McNemar p": f"{p:.2g}" if p else "< 1e-300", "n": a.size}


PAIRS = (("finetuned", "standard"), ("finetuned", "random"), ("at", "finetuned"), ("random", "bn_clean"))


def pairs(rows):
    """Pairs of rows compared image by image under each attack, a row a pair and seed; p is not corrected."""
    kinds = {"PGD": "pgd", "R": "margin", "AutoAttack": "autoattack"}
    table = {}
    for a, b in PAIRS:
        for seed in sorted(rows[a].keys() & rows[b].keys()):
            row = table[f"{label(a)} − {label(b)}, seed {seed}"] = {}
            for name, kind in kinds.items():
                first, second = (rates.outcomes_of(rows[key][seed][kind], "robust") for key in (a, b))
                both = rates.on_shared(*first, *second) or (None, None)
                row |= {f"{name}: {column}": value for column, value in compared(*both).items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("pair")


def costs(every):
    """What every run cost on the machine that made it, or the machines, one after the other."""
    table, processors = {}, set()
    for name, record in every.items():
        if record["machine"]:
            m = record["machine"]
            seen = machines.seen(m)
            processors |= {each["cpu"] for each in seen if "cpu" in each}
            table[name] = {key: m[key] for key in ("device", "torch", "precision")}
            if seen:
                table[name]["device"] = "; then ".join(machines.described(each) for each in seen)
            table[name]["images/s, training"] = f"{m['images_per_second']:,.0f}"
            table[name]["minutes"] = f"{sum(m['seconds']) / 60:.1f}"
    if len(processors) > 1:
        table["all"] = {"device": f"{len(processors)} processors: the speeds compare these, too"}
    return pd.DataFrame.from_dict(table, orient="index").fillna("–").rename_axis("run")


# -------------------------------------------------------------------------------------- 06_features, 07_norms
def axis(points_of, title, measures=axes.TEST):
    """An axis, {key: {value: {seed: record}}}: mean ± sd (seeds) at each of its points, in percent.

    A point is a run, so what it lacks is "not measured"; the first study's weights, for one, were not kept.
    """
    table = {}
    for key, points in points_of.items():
        for value, seeds in points.items():
            row = {
                name: rates.text(seeds, measure) if rates.of_seeds(seeds, measure) else "not measured"
                for name, measure in measures.items()
            }
            outcomes = [r[kind]["robust"] for r in seeds.values() for kind, _ in measures.values() if r[kind]]
            images = "/".join(sorted({f"{flags.size:,}" for flags in outcomes}))
            table[f"{label(key)}, {title} {value:g}"] = row | {"images": images}
    if not table:
        table["not yet run"] = dict.fromkeys([*measures, "images"], "–")
    return by_row(table, "% mean ± sd (seeds)")


def taken_off(trainings):
    """How many took off, a row a recipe and rate, with the Clopper-Pearson interval."""
    rows = {}
    for (name, lr), started in take_off.groups(trainings).items():
        count = started.count(True)
        started_share, low, high, n = share(count, len(started))
        text = f"{100 * started_share:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        rows[f"{name}, learning rate {lr:g}"] = {"took off": count, "of": n, "% [95 %]": text}
    if not rows:
        rows["not yet run"] = {"took off": "–", "of": "–", "% [95 %]": "–"}
    title = f"trainings of {take_off.STUDY_LENGTH} epochs or more"
    return by_row(rows, title)


# ------------------------------------------------------------------------------------------------ sweeps
def accuracies(jobs, profile):
    """What has come of jobs, in their order, as text: percent, 95 % interval, (n); a dash: not asked for."""
    rows = {}
    for job in jobs:
        exp = sweeps.run_of(job, profile)
        wanted = plan.evaluations(exp)
        record = records.load_record(exp) or {"evaluations": {}}
        asked = {e["settings"]["kind"]: e for name, e in record["evaluations"].items() if name in wanted}
        shown = (asked.get(kind, {}).get(key) for kind, key in ACCURACIES.values())
        rows[job.name] = ["–" if flags is None else percent(proportion(flags)) for flags in shown]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(ACCURACIES)).to_string()
