"""What `swell evaluate` was asked for beside the probe, as tables and charts: how sure, how robust, how few labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swell.report.page import Charts
from swell.report.sections import BASELINES, SCORE_COLUMNS, scores
from swell.report.svg import Chart, Series
from swell.report.tables import Cell, Column, Table, seconds

Found = Mapping[str, Any]
FEWEST = 10  # samples of a bin that is drawn
_LOW = Column("low", "from", "Lower end of the 95 % interval over the test samples.", "%", None)
_HIGH = Column("high", "to", "Upper end of the 95 % interval over the test samples.", "%", None)
_AMOUNTS = {"noise": "noise", "blur": "blur", "contrast": "less contrast", "pixelate": "coarser pixels",
            "missing": "missing features", "shift": "all samples shifted"}  # fmt: skip


def evaluation_tables(evaluation: Found) -> list[Table]:
    """All tables that this evaluation has something for."""
    sets = list(_sets(evaluation))
    found = [
        _transfer_table(evaluation.get("transfer", [])),
        _sure_table(sets, evaluation.get("finetune")),
        _calibration_table(sets),
        _few_table(sets),
        _retrieval_table(sets),
        _corruption_table(sets),
        _ood_table(evaluation.get("ood", [])),
        _bag_table(evaluation),
    ]
    return [table for table in found if table is not None]


def evaluation_charts(evaluation: Found) -> list[Charts]:
    """Reliability of the linear probe, and accuracy by the severity of corruptions."""
    charts = []
    if "calibration" in evaluation:
        charts.append(_reliability_chart(evaluation["calibration"]))
    if "corruptions" in evaluation:
        charts.append(_corruption_chart(evaluation))
    if not charts:
        return []
    explain = (
        "A classifier that knows when it may be wrong lies on the diagonal: of what it is 80 % sure of, 80 % is right. "
        "One that is robust keeps its accuracy when the test samples are spoilt in ways it never saw."
    )
    return [Charts("trust", "Trust and robustness", explain, charts)]


def _sets(evaluation: Found) -> Iterator[tuple[str, Found]]:
    """(name, scores) of each labelled data set; the first one's name is empty."""
    if "linear" in evaluation:
        yield "", evaluation
    for found in evaluation.get("transfer", []):
        yield f"transfer to {_name(found)}", found


def _name(found: Found) -> str:
    return "an array in memory" if found["name"] == "array" else str(found["name"])


def _percent(value: float, interval: Sequence[float] | None = None) -> dict[str, Cell]:
    row: dict[str, Cell] = {"value": 100 * value}
    return row | ({"low": 100 * interval[0], "high": 100 * interval[1]} if interval else {})


def _transfer_table(found: Sequence[Found]) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for each in found:
        group = f"{_name(each)}: {each['n_train']:,} labelled samples, {each['n_test']:,} for the test"
        rows.append({"name": "this encoder", "group": group, **scores(each)})
        for name, value in each.get("baselines", {}).items():
            rows.append({"name": BASELINES.get(name, name), "group": group, **scores(value)})
    note = "The encoder stays as it is; the probe is fitted anew on each set."
    columns = [Column("name", "encoder", better=None), *(_plain(column) for column in SCORE_COLUMNS)]
    return Table("How good is it on other data?", columns, rows, note) if rows else None


def _plain(column: Column) -> Column:
    """Without a mark for the best: rows of different data do not compare."""
    return Column(column.key, column.label, column.hint, column.unit, None)


def _sure_table(sets: Sequence[tuple[str, Found]], tuned: Found | None) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for group, found in sets:
        for key, name in (("linear", "linear"), ("knn", "kNN")):
            if "interval" in found[key]:
                told = _percent(found[key]["accuracy"], found[key]["interval"])
                rows.append({"name": name, "group": group, "n": found["n_test"], **told})
    if tuned is not None and "interval" in tuned:
        rows.append({"name": "fine-tuned", "n": tuned["n_test"], **_percent(tuned["accuracy"], tuned["interval"])})
    columns = [Column("name", "score", better=None), Column("value", "accuracy", unit="%", better=None), _LOW, _HIGH,
               Column("n", "test samples", unit="count", better=None)]  # fmt: skip
    note = (
        "How far each would move with other test samples. That another seed of the training gives another encoder is "
        "not in it: for that, train several and use `swell compare`."
    )
    return Table("How sure are these numbers?", columns, rows, note) if rows else None


def _calibration_table(sets: Sequence[tuple[str, Found]]) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for name, found in sets:
        if told := found.get("calibration"):
            by = 100 * told["overconfidence"]
            fits = told["ece"] <= told["ece_by_chance"]["p95"]
            rows.append(
                {
                    "name": name or "this data",
                    "says": "as sure as it is right" if fits else f"too {'sure' if by > 0 else 'modest'}",
                    "over": f"{by:+.1f}",
                    "ece": 100 * told["ece"],
                    "chance": 100 * told["ece_by_chance"]["mean"],
                    "brier": told["brier"],
                    "nll": told["nll"],
                }
            )
    columns = [
        Column("name", "data", better=None),
        Column("says", "it is", "Whether the error is above what chance alone would show.", better=None),
        Column("over", "points", "Mean confidence less accuracy.", better=None),
        Column("ece", "ECE", "Expected calibration error: how far confidence and accuracy lie apart, on average.", "%",
               None),
        Column("chance", "ECE by chance", "What perfect probabilities would show with so many samples.", "%", None),
        Column("brier", "Brier", "Squared error of the probabilities, 0 to 2. Small is good.", better=None),
        Column("nll", "NLL", "Mean surprise at the true class. Small is good.", better=None),
    ]  # fmt: skip
    return Table("Does the linear probe know how sure it may be?", columns, rows) if rows else None


def _few_table(sets: Sequence[tuple[str, Found]]) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for group, found in sets:
        for budget, own in found.get("few_labels", {}).get("budgets", {}).items():
            value: Cell = 100 * own["accuracy"] if own["sd"] is None else (100 * own["accuracy"], 100 * own["sd"])
            name = f"{budget} of them" if budget.endswith("%") else f"{budget} a class"
            rows.append({"name": name, "group": group, "labels": own["n_labels"], "value": value})
        if "few_labels" in found:
            rows.append({"name": "all", "group": group, "labels": found["n_train"],
                         "value": 100 * found["linear"]["accuracy"]})  # fmt: skip
    columns = [Column("name", "labels", better=None), Column("labels", "how many", unit="count", better=None),
               Column("value", "linear accuracy", unit="%", better=None)]  # fmt: skip
    note = "Mean ± sd over draws of the labels."
    return Table("How good is it with few labels?", columns, rows, note) if rows else None


def _retrieval_table(sets: Sequence[tuple[str, Found]]) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for group, found in sets:
        if told := found.get("retrieval"):
            rows.append({"name": "mean average precision", "group": group, **_percent(told["map"], told["interval"])})
            for k, value in told["recall"].items():
                row = _percent(value, told.get("recall_interval", {}).get(k))
                rows.append({"name": f"recall at {k}", "group": group, **row})
    columns = [Column("name", "score", better=None), Column("value", "value", unit="%", better=None), _LOW, _HIGH]
    note = (
        "Each test sample looks for train samples like it. Recall at k: in how many cases one of the k nearest is of "
        "its class; mean average precision: whether all of its class come before the others."
    )
    return Table("Are the nearest samples of the same class?", columns, rows, note) if rows else None


def _corruption_table(sets: Sequence[tuple[str, Found]]) -> Table | None:
    rows: list[dict[str, Cell]] = []
    for group, found in sets:
        told = found.get("corruptions")
        if not told:
            continue
        names, severities = list(told["settings"]["amounts"]), (1, 2, 3)
        keys = [(score, s) for score in ("linear", "knn") for s in severities]
        values = {(name, score, s): 100 * told[name][s - 1][score]["accuracy"] for name in names for score, s in keys}
        clean = {f"{score}{s}": 100 * found[score]["accuracy"] for score, s in keys}
        rows.append({"name": "nothing (clean)", "group": group, **clean})
        for name in names:
            own = {f"{score}{s}": values[name, score, s] for score, s in keys}
            rows.append({"name": _AMOUNTS.get(name, name), "group": group, **own})
        mean = {f"{score}{s}": sum(values[name, score, s] for name in names) / len(names) for score, s in keys}
        rows.append({"name": "mean of the spoilt", "group": group, **mean})
    columns = [Column("name", "test samples with", better=None)]
    words = {"linear": "linear", "knn": "kNN"}
    columns += [Column(f"{score}{s}", f"{word} at {s}", unit="%", better=None) for score, word in words.items()
                for s in (1, 2, 3)]  # fmt: skip
    note = "At severities 1, 2 and 3. The probes were fitted on clean samples."
    return Table("What survives when samples are spoilt?", columns, rows, note) if rows else None


def _ood_table(found: Sequence[Found]) -> Table | None:
    rows: list[dict[str, Cell]] = [
        {"name": _name(each), **_percent(each["auroc"], each["interval"]), "fpr": 100 * each["fpr95"]} for each in found
    ]
    columns = [
        Column("name", "other data", better=None),
        Column("value", "AUROC", "How often a test sample lies nearer to the train samples than one of the other data: "
               "50 % is chance, 100 % always.", "%", None),
        _LOW,
        _HIGH,
        Column("fpr", "pass unnoticed", "Of the other data, those that pass where 95 % of the test samples do.", "%",
               None),
    ]  # fmt: skip
    note = "By the distance to the 20th nearest train sample: nothing is trained, and no label is read."
    return Table("Does it notice samples of another kind?", columns, rows, note) if rows else None


def _bag_table(evaluation: Found) -> Table | None:
    bag = evaluation.get("bag_of_features")
    if bag is None:
        return None
    whole = evaluation["encoding"]

    def row(name: str, value: Found, cost: Found, sd: Found | None) -> dict[str, Cell]:
        accuracy = {
            key: (100 * value[key]["accuracy"], 100 * sd[key]) if sd and sd[key] else 100 * value[key]["accuracy"]
            for key in ("knn", "linear")
        }
        return {"name": name, **accuracy, "forwards": cost["forwards_per_sample"], "flops": cost["flops_per_sample"]}

    rows = [row("one view of the whole sample", evaluation, whole, None)]
    rows.append(row(f"mean of {bag['patches']} patches ({bag['mode']})", bag, bag, bag["sd"]))
    columns = [
        Column("name", "features", better=None),
        Column("knn", "kNN", unit="%", better=None),
        Column("linear", "linear", unit="%", better=None),
        Column("forwards", "forwards", "How often a sample goes through the net to be encoded.", "count", None),
        Column("flops", "FLOPs a sample", "Arithmetic to encode one sample.", "flop", None),
    ]
    note = f"One view of 1,000 whole samples took {seconds(whole['seconds_per_1000'])} to encode here."
    return Table("One view or many?", columns, rows, note)


def _reliability_chart(told: Found) -> Chart:
    bins = [b for b in told["bins"] if b["rows"] >= FEWEST] or told["bins"]
    sure, right = [100 * b["confidence"] for b in bins], [100 * b["accuracy"] for b in bins]
    ends = [min(sure), 100.0]
    note = (
        "Test samples in bins by how sure the linear probe is. Below the dashed line it is too sure, above too modest; "
        f"bins of fewer than {FEWEST} samples, which stray by chance, are left out."
    )
    return Chart("Is it right as often as it is sure?", "confidence, %", "right, %",
                 [Series("linear probe", sure, right), Series("as sure as right", ends, ends)], note=note)  # fmt: skip


def _corruption_chart(evaluation: Found) -> Chart:
    told, clean = evaluation["corruptions"], 100 * evaluation["linear"]["accuracy"]
    lines = []
    for name in told["settings"]["amounts"]:
        values = [100 * each["linear"]["accuracy"] for each in told[name]]
        lines.append(Series(_AMOUNTS.get(name, name), range(len(values) + 1), [clean, *values]))
    note = "0 is the clean test samples; severities 1 to 3 are those of the table above."
    return Chart("Accuracy on spoilt test samples", "severity", "linear accuracy, %", lines, note=note)
