"""The demo's table, its verdict in plain words, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from swell import __version__
from swell.console import duration
from swell.data.gen import open_gen
from swell.data.source import Source
from swell.evaluation.statistics import paired, summarise
from swell.ledger import Ledger
from swell.report.copies import pairs
from swell.report.map_making import several_layouts
from swell.report.page import Column, Page, Table, write_report
from swell.report.sections import (
    costs,
    loss_chart,
    probe_table,
    scores,
    spectrum_chart,
)
from swell.report.tables import Cell
from swell.training.folder import read_metrics
from swell.training.machine import cpu_name

if TYPE_CHECKING:
    from swell.run import Run

HEADLINE = (("shot_1", "1 label a class"), ("shot_10", "10 labels a class"))
ARM_WORDS = {"none": "strong views", "weak": "the same weak views"}
ADAINF, REAL_ONLY, WEAK_ONLY = "generated + weight + weak", "none", "weak"


def arm_scores(result: dict[str, Any], arm: str) -> dict[str, list[float]]:
    """Score of every seed, by column key."""
    runs = next(a["runs"] for a in result["arms"] if a["name"] == arm)
    per_run = [scores(run) for run in runs]
    return {key: [s[key] for s in per_run] for key in per_run[0]}


def arm_costs(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean cost of an arm's runs, generator and sampling included where it used them."""
    all_costs = [costs(Ledger.from_dict({k: v for k, v in run["ledger"].items() if k != "total"})) for run in runs]
    return {key: sum(c[key] for c in all_costs) / len(all_costs) for key in all_costs[0]}


@dataclass(frozen=True)
class Comparison:
    """AdaInf's arm less an arm of real data alone, in points, paired by seed; low and high end the 95 % interval."""

    shots: str
    other: str
    mean: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """+1 or -1 where the interval leaves 0 out, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def interval(self) -> str:
        return "one seed, no interval" if self.low is None else f"{self.low:+.1f} to {self.high:+.1f}"


def comparisons(result: dict[str, Any]) -> list[Comparison]:
    """Fixed beforehand: the arm with generated data, weight and weak views against both arms of real data alone."""
    out = []
    for key, shots in HEADLINE:
        for other in (REAL_ONLY, WEAK_ONLY):
            difference = paired(arm_scores(result, ADAINF)[key], arm_scores(result, other)[key])
            low, high = difference["low"], difference["high"]
            out.append(Comparison(shots, other, float(difference["mean"] or 0), low, high))
    return out


def verdict(result: dict[str, Any]) -> str:
    """Whether the generated data helped, with few labels, in plain words.

    Helped means clearly better than real data with strong views and than real data with the same weak views: against
    the first alone, the views could be the reason.
    """
    helped, hurt, views_alone = [], [], []
    for _, shots in HEADLINE:
        strong, weak = (c.sign for c in comparisons(result) if c.shots == shots)
        if min(strong, weak) > 0:
            helped.append(shots)
        elif min(strong, weak) < 0:
            hurt.append(shots)
        elif strong > 0:
            views_alone.append(shots)
    if helped:
        text = f"Generated data helped here with {' and with '.join(helped)}."
        return text + (f" They hurt with {' and with '.join(hurt)}." if hurt else "")
    if hurt:
        return f"Generated data did not help here; they hurt with {' and with '.join(hurt)}."
    reason = "the differences are within the spread of the seeds"
    if views_alone:
        reason = f"the weaker views alone do as well with {' and with '.join(views_alone)}"
    return f"Generated data did not clearly help here: {reason}."


def summary(result: dict[str, Any], out: Path) -> str:
    """The table and the verdict as text."""
    lines = [
        f"{'arm':28s}{'1-shot':>13s}{'10-shot':>13s}{'kNN':>13s}{'linear':>13s}"
        f"{'time':>8s}{'real':>10s}{'generated':>11s}"
    ]
    for arm in result["arms"]:
        s, c = arm_scores(result, arm["name"]), arm_costs(arm["runs"])
        cells = "".join(f"{_spread(s[key]):>13s}" for key in ("shot_1", "shot_10", "knn", "linear"))
        lines.append(f"{arm['name']:28s}{cells}{duration(c['seconds']):>8s}{c['real']:>10,.0f}{c['generated']:>11,.0f}")
    for name, value in _baselines(result).items():
        s1 = scores(value)
        cells = "".join(f"{s1[key]:8.1f}     " for key in ("shot_1", "shot_10", "knn", "linear"))
        lines.append(f"{'(' + name.replace('_', ' ') + ')':28s}{cells}")
    seeds = result["settings"]["seeds"]
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"Mean ± sd over {seeds} seeds, per cent of {result['data']['test']} test digits right; time "
            "includes the generator's where it is used.",
            verdict(result),
            f"{ADAINF}, difference in points with its 95 % interval:",
            *(f"  with {c.shots:17s} against {c.other:5s} {c.mean:+.1f}  [{c.interval}]" for c in comparisons(result)),
            f"Took {result['took']}. Look at {out / 'report.html'}",
        ]
    )


def _spread(values: Sequence[float]) -> str:
    mean, sd = summarise(values)
    return f"{mean:.1f} ± {sd:.1f}" if sd is not None else f"{mean:.1f}"


def _cell(values: Sequence[float]) -> Cell:
    mean, sd = summarise(values)
    return (mean, sd) if sd is not None else mean


def _baselines(result: dict[str, Any]) -> dict[str, Any]:
    return dict(next(run["baselines"] for arm in result["arms"] for run in arm["runs"] if "baselines" in run))


def write_demo_report(
    out: Path, result: dict[str, Any], runs: dict[str, Run], train: Source, test: Source, made: Path
) -> None:
    """Write `report.html` of the demo in `out`; `runs` are the arms' runs with the first seed, by the arm's name."""
    rows: list[dict[str, Cell]] = []
    for arm in result["arms"]:
        per_score = {key: _cell(values) for key, values in arm_scores(result, arm["name"]).items()}
        rows.append({"name": arm["name"], **per_score, **arm_costs(arm["runs"])})
    features = {name: run.encoder.encode(test.samples) for name, run in runs.items()}
    settings, quality = result["settings"], result["quality"]
    recipe = runs[ADAINF].recipe
    facts = [
        (
            "data",
            f"{result['data']['train']:,} handwritten digits of 8 x 8 pixels without labels, from scikit-learn; "
            f"{result['data']['test']} others for the test",
        ),
        ("generator", f"diffusion, trained from scratch on the same digits; {settings['samples']:,} samples"),
        ("quality", _quality_words(quality)),
        (
            "method",
            f"{recipe.method}, {recipe.backbone}, {settings['steps']} steps of {recipe.batch_size} in every arm",
        ),
        ("seeds", f"{settings['seeds']} an arm"),
        ("probe", "swell-probe-1: frozen features of whole clean images, labels only here"),
        ("machine", f"{cpu_name()}; {result['took']} in all"),
    ]
    shown = (REAL_ONLY, ADAINF)
    note = (
        "Every arm trains for equal steps. Time and FLOPs include the generator's training and sampling where it is "
        "used. "
        "Real and generated are samples shown to the encoder. Mean ± sd over seeds."
    )
    write_report(
        out / "report.html",
        Page(
            title="Do generated data help an encoder of handwritten digits?",
            verdict=verdict(result),
            facts=facts,
            tables=[probe_table(rows, _baselines(result), note), _comparison_table(result)],
            curves=[loss_chart({name: read_metrics(run.path) for name, run in runs.items()})],
            spectra=[spectrum_chart(features)],
            pairs=pairs(open_gen(made), train),
            maps=[several_layouts("Map of the test digits", {name: features[name] for name in shown}, test)],
            commands=[("To run all of it again.", "swell demo --out swell-demo-again")],
            recipe=tomli_w.dumps(recipe.to_dict()),
            footer=f"swell {__version__}",
        ),
    )


def _comparison_table(result: dict[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = [
        {"labels": c.shots, "other": ARM_WORDS[c.other], "difference": f"{c.mean:+.1f}", "interval": c.interval}
        for c in comparisons(result)
    ]
    columns = [
        Column("labels", "labels", better=None),
        Column("other", "against", better=None),
        Column("difference", "points", "Mean difference over the seeds, paired by seed.", better=None),
        Column(
            "interval", "95 % interval", "If it holds 0, chance may be all there is to the difference.", better=None
        ),
    ]
    note = "Generated data helped only where both differences are clearly above 0; else weaker views may be the reason."
    return Table("Generated, weighted, weak views against real data alone", columns, rows, note)


def _quality_words(quality: dict[str, Any]) -> str:
    c2st = quality.get("c2st", {})
    value = c2st.get("accuracy") if isinstance(c2st, dict) else c2st
    return (
        f"a classifier tells generated from real with accuracy {value:.2f} (0.50 would be chance)"
        if value
        else "see quality.json"
    )
