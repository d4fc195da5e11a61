"""The page of a comparison, and the folder that holds it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from swell import __version__
from swell.errors import InputError
from swell.evaluation.compare import BUDGETS, BY, FORMAT
from swell.files import new_folder, read_json, write_json, write_text
from swell.report.compare_text import SCORES, bag_of, headers, kinds_of_bags, markdown
from swell.report.page import Cell, Chart, Column, Page, Series, Table, render
from swell.report.svg import line_chart, point_key
from swell.report.tables import count, seconds

FILES = ("compare.json", "table.md", "report.html")
COST_COLUMNS = (
    Column("seconds", "time", "Time on the clock of pre-training alone. Compares on one and the same machine only.",
           "s", None),
    Column("flops", "FLOPs", "", "flop", None),
    Column("views", "views", "Distorted versions of samples (patches, where they are small) that were made.", "count",
           None),
    Column("samples", "samples", "How many times a sample, real or generated, was drawn.", "count", None),
    Column("forwards", "student forwards", "How many views went through the network that is trained.", "count", None),
    Column("teacher_forwards", "teacher forwards", "How many views went through a teacher, a slowly moving copy of it.",
           "count", None),
    Column("pixels", "pixels", "Pixels of all that went through either.", "count", None),
    Column("memory", "peak memory", "The most memory its process had in use, the probe included; the largest of the "
           "runs.", "bytes", None),
    Column("generator_seconds", "generator", "Time to train the generator, to sample from it and to search, on top of "
           "the rest.", "s", None),
    Column("steps", "steps", "How often the optimiser changed the weights.", "count", None),
    Column("epochs", "epochs", "Samples drawn, in multiples of the real samples there were.", better=None),
)  # fmt: skip


def refuse_to_replace(out: Path, force: bool) -> None:
    """Raises InputError where `out` holds something: an earlier comparison without `force`, or anything else."""
    if not os.path.exists(out):
        return
    if not os.path.isdir(out):
        raise InputError(f"--out {out} (a file)", "a folder to create", "choose another --out")
    held = sorted(os.listdir(out))
    if not held:
        return
    strangers = [name for name in held if name not in FILES] if FILES[0] in held else held
    if strangers or not _is_comparison(out / FILES[0]):
        given = f"--out {out} (holds {', '.join((strangers or held)[:3])})"
        raise InputError(given, "a new folder, or one with an earlier comparison alone", "choose another --out")
    if not force:
        raise InputError(f"--out {out} (holds an earlier comparison)", "a new folder", "--force replaces it")


def _is_comparison(path: Path) -> bool:
    try:
        value = read_json(path)
    except InputError:
        return False
    return isinstance(value, dict) and value.get("format") == FORMAT


def write_comparison(out: Path, result: Mapping[str, Any]) -> None:
    """Write compare.json, table.md and report.html to the folder `out`, all or none, in place of what it holds."""
    out = Path(os.path.abspath(out))
    html, table = render_comparison(result), markdown(result)
    with new_folder(out) as made:
        write_json(made / "compare.json", result)
        write_text(made / "table.md", table)
        write_text(made / "report.html", html)


def render_comparison(result: Mapping[str, Any]) -> str:
    """The page as one self-contained HTML file."""
    arms, data, basis = result["arms"], result["data"], result["basis"]
    machine = result["machine"]
    facts = [
        ("compared", f"{len(result['runs'])} runs in {len(arms)} arms; runs of an arm differ in their seed only"),
        ("pre-trained on", ", ".join(f"{name} ({print_})" for print_, name in data["pretrained_on"].items())),
        (
            "probed by",
            f"{result['probe']} on {data['origin']}: {data['n_train']:,} labelled samples, {data['n_test']:,} for "
            "the test",
        ),
        ("ranked by", BY[result["by"]] if basis else "nothing: no budget is equal" if len(arms) > 1 else "nothing"),
        ("at equal", BUDGETS[basis] if basis else "–"),
        (
            "machine",
            ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
            if machine
            else "several, see above",
        ),
    ]
    tables = [_score_table(result), _cost_table(arms)]
    if len(arms) > 1:
        tables.append(_budget_table(result))
    if result["pairs"]:
        tables.append(_pair_table(result))
    if label_free := _label_free_table(arms):
        tables.append(label_free)
    if len(arms) > 1:
        tables.append(_settings_table(arms))
    tables.append(_run_table(result))
    html = render(
        Page(
            title=f"Comparison of {len(arms)} arms" if len(arms) > 1 else "Comparison of the seeds of one arm",
            verdict=result["verdict"],
            facts=facts,
            notices=result["notices"],
            tables=tables,
            footer=f"swell {__version__}",
        )
    )
    return html.replace("</main>", f"{_scatter_section(result)}</main>")  # of which a page has one


def _cell(value: Mapping[str, Any], factor: float = 1.0) -> Cell:
    return factor * value["mean"] if value["sd"] is None else (factor * value["mean"], factor * value["sd"])


def _score_table(result: Mapping[str, Any]) -> Table:
    arms, rows = result["arms"], []
    bags = kinds_of_bags(arms)
    for arm in arms:
        rank: Cell = "n = 1" if arm["rank"] is None else arm["rank"]
        row: dict[str, Cell] = {"name": arm["name"], "n": arm["n"], "rank": rank}
        row |= {key: _cell(arm["scores"][key], 100) for key in headers(arms)}
        for i, bag in enumerate(bags):
            own = bag_of(arm, bag)
            row |= {f"bag_{key}_{i}": _cell(own[key], 100) if own else None for key in ("knn", "linear")}
        rows.append(row)
    rank_hint = (
        "One more than the number of arms that are clearly better, so arms that chance alone could tell apart share a "
        "rank. Single runs have none."
    )
    columns = [
        Column("name", "arm", better=None),
        Column("n", "n", "How many runs, which differ in their seed only.", "count", None),
        *([Column("rank", "rank", rank_hint, "count", None)] if result["basis"] else []),
        *(Column(key, label, unit="%", better=None) for key, label in headers(arms).items()),
        *(
            Column(
                f"bag_{key}_{i}",
                f"{SCORES[key]}, {patches} {mode} patches",
                f"The same with the mean over {patches} patches of each sample: that many times the work to encode.",
                "%",
                None,
            )
            for i, (patches, mode) in enumerate(bags)
            for key in ("knn", "linear")
        ),
    ]
    note = "" if result["basis"] else "In the order given: without an equal budget there is no ranking."
    return Table("How good are the features?", columns, rows, note)


def _cost_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    columns = [c for c in COST_COLUMNS if any(arm["costs"][c.key] for arm in arms)]
    rows = [{"name": arm["name"], **{c.key: arm["costs"][c.key] for c in columns}} for arm in arms]
    return Table(
        "What did pre-training cost?",
        [Column("name", "arm", better=None), *columns],
        rows,
        "The mean over the runs of an arm. Evaluation is left out: it was the same for all.",
    )


def _budget_table(result: Mapping[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, told in result["budgets"].items():
        if told["max"]:
            written = seconds if name == "seconds" else count
            words = "equal" if told["equal"] else "not equal"
            if name == "seconds" and result["machines_differ_in"]:
                words = "different machines"
            rows.append(
                {
                    "name": BUDGETS[name],
                    "equal": words + ("; ranked at this" if name == result["basis"] else ""),
                    "least": f"{written(told['min'])} ({told['least']})",
                    "most": f"{written(told['max'])} ({told['most']})",
                    "ratio": "–" if told["ratio"] is None else f"{told['ratio']:.3g}",
                }
            )
    labels = {"name": "budget", "equal": "over all arms", "least": "least", "most": "most", "ratio": "most / least"}
    return Table(
        "Which budgets are equal?",
        [Column(key, label, better=None) for key, label in labels.items()],
        rows,
        f"Equal means that the largest mean of an arm is at most {100 * result['tolerance']:.0f} % above the smallest.",
    )


def _pair_table(result: Mapping[str, Any]) -> Table:
    """Every arm against the one with the highest mean; all pairs are in compare.json."""
    top = result["arms"][0]["name"]
    rows: list[dict[str, Cell]] = []
    for pair in result["pairs"]:
        if pair["a"] == top:
            known, interval = pair["mean"] is not None, pair["low"] is not None
            rows.append(
                {
                    "name": pair["b"],
                    "points": f"{-pair['mean']:+.1f}" if known else "–",
                    "interval": f"{-pair['high']:+.1f} to {-pair['low']:+.1f}" if interval else f"n = {pair['n']}",
                    "n": pair["n"],
                    "clear": "clear" if pair["clear"] else "within noise" if interval else "no claim",
                }
            )
    columns = [
        Column("name", "arm", better=None),
        Column("points", "points", f"Mean difference to {top}, paired by seed.", better=None),
        Column(
            "interval", "95 % interval", "If it holds 0, chance may be all there is to the difference.", better=None
        ),
        Column("n", "common seeds", unit="count", better=None),
        Column("clear", "the difference is", better=None),
    ]
    total = len(result["pairs"])
    note = (
        "Student's t over the paired differences. An interval narrower than one test sample counts as noise: a few "
        "seeds may agree that well by chance."
        + (
            f" Each of the {total} pairs has its 95 % for itself: about one in 20 looks clear by chance."
            if total > 1
            else ""
        )
    )
    return Table(f"How sure is it? {BY[result['by']].capitalize()} against {top}", columns, rows, note)


def _label_free_table(arms: Sequence[Mapping[str, Any]]) -> Table | None:
    keys = [key for key in arms[0]["label_free"] if key != "rows" and all(key in arm["label_free"] for arm in arms)]
    if not keys:
        return None
    rows = [{"name": arm["name"], **{key: _cell(arm["label_free"][key]) for key in keys}} for arm in arms]
    columns = [Column("name", "arm", better=None), *(Column(k, k.replace("_", " "), better=None) for k in keys)]
    note = "They compare between encoders of equally many features only, and none of them alone says which is better."
    return Table("What do the features look like without labels?", columns, rows, note)


def _settings_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for arm in arms for key in arm["settings"]))
    differing = [key for key in keys if any(arm["settings"].get(key) != arms[0]["settings"].get(key) for arm in arms)]
    rows = [
        {"name": key, **{f"arm{i}": _setting(arm["settings"].get(key)) for i, arm in enumerate(arms)}}
        for key in differing
    ]
    columns = [Column(f"arm{i}", arm["name"], better=None) for i, arm in enumerate(arms)]
    note = "Every setting of the recipes, and fingerprints of the data, that are not the same in all arms."
    return Table("What differs between the arms?", [Column("name", "setting", better=None), *columns], rows, note)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_setting, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _run_table(result: Mapping[str, Any]) -> Table:
    told = headers(result["arms"])
    rows: list[dict[str, Cell]] = [
        {
            "name": run["path"],
            "group": run["arm"],
            "seed": str(run["seed"]),
            **{f"run_{key}": 100 * run["scores"][key] for key in told},
            **{f"run_{key}": run["costs"][key] for key in ("seconds", "flops", "views")},
        }
        for run in result["runs"]
    ]
    columns = [
        Column("name", "run", better=None),
        Column("seed", "seed", better=None),
        *(Column(f"run_{key}", label, unit="%", better=None) for key, label in told.items()),
        *(
            replace(c, key=f"run_{c.key}", hint="")  # explained above
            for c in COST_COLUMNS
            if c.key in ("seconds", "flops", "views")
        ),
    ]
    return Table("Every run", columns, rows)


def _scatter_section(result: Mapping[str, Any]) -> Markup:
    """Accuracy of every run against each of its costs."""
    keys = [key for key in BUDGETS if result["budgets"][key]["max"]]
    explain = (
        "Each dot is one run. Up is better, left is cheaper; an arm that lies higher only because it lies further to "
        "the right has bought its lead."
    )
    head = Markup('\n<section id="costs">\n<h2>Accuracy against cost</h2>\n<p class="explain">{}</p>\n').format(explain)
    figures = Markup("\n").join(_scatter(result, key) for key in keys)
    return head + Markup('<div class="charts">\n{}\n</div>\n</section>\n').format(figures)


def _scatter(result: Mapping[str, Any], key: str) -> Markup:
    arms, by = [arm["name"] for arm in result["arms"]], result["by"]
    series = []
    for name in arms:
        runs = [run for run in result["runs"] if run["arm"] == name]
        x = np.repeat([run["costs"][key] for run in runs], 2)
        y = np.stack([[100 * run["scores"][by] for run in runs], np.full(len(runs), np.nan)], 1)  # NaN: no line
        series.append(Series(name, x, y.ravel()))
    keys = [point_key(name, i) for i, name in enumerate(arms)]
    svg, marks = line_chart(Chart(BUDGETS[key].capitalize(), BUDGETS[key], f"{BY[by]}, %", series)), iter(keys)

    def as_dots(_: re.Match[str]) -> str:
        mark = next(marks)
        return f'class="mark dots s{mark.shape} k{mark.colour}"'

    drawing = Markup(re.sub(r'class="mark line k\d"', as_dots, svg))  # a text in it has its quotes escaped
    swatch = Markup(
        '<li><button type="button" aria-pressed="false"><svg class="swatch small" viewBox="0 0 10 10" '
        'aria-hidden="true"><path class="dots s{} k{}" d="M5 5h.01"/></svg> {}</button></li>'
    )
    legend = Markup("\n").join(swatch.format(mark.shape, mark.colour, mark.name) for mark in keys)
    title = BUDGETS[key][0].upper() + BUDGETS[key][1:]
    return Markup(
        '<figure class="chart">\n<figcaption><h3>{}</h3></figcaption>\n{}\n'
        '<ul class="legend" aria-label="Arms in this chart">\n{}\n</ul>\n</figure>'
    ).format(title, drawing, legend)
