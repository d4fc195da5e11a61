"""The report of an adaptive search: what was tried, what was chosen and why, how sure that is and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from swell import __version__
from swell.adaptive.candidates import ADAINF, BASELINE, Candidate
from swell.adaptive.state import FILE, read_state
from swell.console import duration
from swell.ledger import Cost, Ledger, read_ledger
from swell.recipes import read_recipe
from swell.report.page import Cell, Chart, Column, Page, Series, Table, write_report
from swell.report.sections import loss_chart
from swell.training.folder import read_metrics

NAMES = {"learnability": "learnability", "rankme": "RankMe", "lidar": "LiDAR", "rotation": "rotation",
         "masked_columns": "masked columns", "acr": "ACR"}  # fmt: skip
HINTS = {
    "lidar": "How many directions tell samples apart after allowing for distortions of the same sample.",
    "rotation": "How well a linear rule on the features tells which way up a sample was turned. 25 % is chance.",
    "masked_columns": "How well hidden features of a sample are told from the encoding of the others.",
    "learnability": "How well a sample's neighbour predicts the groups that the other candidates see. 0 is chance.",
    "rankme": "How many directions of its output the encoder really uses.",
    "acr": "Share of distorted samples that the encoder takes for another sample. Small is good.",
}
IN_POINTS = ("rotation", "masked_columns", "learnability")  # shares, so that a difference of 0.01 is a point


def write_adapt_report(out: Path) -> None:
    """Write OUT/adapt/report.html from what a finished `swell adapt` has left in OUT."""
    found, _ = read_state(out / "adapt" / FILE)
    recipe, _, provenance = read_recipe(out / "recipe.toml")
    ledger = read_ledger(out / "ledger.json")
    tried = {row["name"]: Candidate(**row) for row in found["plan"]["candidates"]}
    choice, plan = found["choice"], found["plan"]
    own, search = ledger.pretraining, ledger.search
    facts = [
        ("data", f"{provenance.get('real', {}).get('origin', 'unknown')}, no labels were read"),
        ("held out", f"{plan['held_out']:,} samples, which generator and candidates never saw and all scores are of"),
        ("chosen", f"{choice['name']}: {tried[choice['name']].words}"),
        ("why", " ".join(choice["reasons"])),
        ("how sure", _sure(found)),
        ("method", f"{recipe.method}, {recipe.backbone}, {plan['final_steps']:,} steps in the final run"),
        ("search", _rungs(plan)),
        (
            "it cost",
            f"{duration(search.seconds)}, which is {_ratio(search.seconds, own.seconds)} final runs by the clock and "
            f"{_ratio(search.flops, own.flops)} by FLOPs; {plan['budget_runs']:.2g} were allowed",
        ),
    ]
    write_report(
        out / "adapt" / "report.html",
        Page(
            title=f"Adaptive inflation: {out.resolve().name}",
            verdict=_verdict(choice, tried),
            facts=facts,
            notices=_notices(found, recipe.seed, tried),
            tables=[
                _rank_table(found, tried),
                _score_table(found, tried),
                _wrong_table(found, tried, own),
                _prior_table(found),
                _cost_table(ledger),
            ],
            curves=[chart for chart in (_losses(out, choice), _place_chart(found), _amount_chart(found)) if chart],
            recipe=(out / "recipe.toml").read_text(encoding="utf-8"),
            footer=f"swell {__version__}",
        ),
    )


# ---- words -----------------------------------------------------------------------------------------------


def _verdict(choice: Mapping[str, Any], tried: Mapping[str, Candidate]) -> str:
    one = tried[choice["name"]]
    if one.generated:
        head = f"Generated data help here: trained with {one.words}."
    elif any(candidate.generated for candidate in tried.values()):
        head = f"Generated data do not clearly help here, so the encoder was trained without them: {one.words}."
    else:
        head = f"The generated data cannot be used, so the encoder was trained without them: {one.words}."
    return head


def _sure(found: Mapping[str, Any]) -> str:
    choice, places = found["choice"], [found[name]["places"] for name in sorted(found) if _is_rung(name)]
    votes = len(next(iter(choice["ranks"].values())))
    where = "where they agree least, " if places else ""
    said = [
        f"{where}the {votes} scores agree with W = {choice['agreement']:.2f} (chance {1 / votes:.2f}, 1 is unanimous)"
    ]
    if choice["margin"] is not None and choice["leader"] != choice["baseline"]:
        noise = "unknown" if choice["noise"] is None else f"{100 * choice['noise']:.0f}"
        said.append(
            f"{choice['leader']} leads by {100 * choice['margin']:.0f} places in 100, noise between seeds {noise}"
        )
    if places:
        before = min(places[-1], key=lambda name: places[-1][name])
        same = "led in the rung before too" if before == choice["leader"] else f"in the rung before {before} led"
        said.append(f"{choice['leader']} {same}" if before == choice["leader"] else same)
    return "; ".join(said)


def _rungs(plan: Mapping[str, Any]) -> str:
    told = [f"{rung['count']} candidates to step {rung['steps']:,}" for rung in plan["rungs"]]
    return f"{', then '.join(told)}, the last with {plan['seeds']} seeds each; {plan['scored']:,} samples scored"


def _notices(found: Mapping[str, Any], seed: int, tried: Mapping[str, Candidate]) -> list[str]:
    plan, said = found["plan"], []
    said.append(
        f"Candidates and generator were trained on {plan['trained_on']:,} of "
        f"{plan['trained_on'] + plan['held_out']:,} samples; the final run trained on all of them again."
    )
    said.append(
        "Scores without labels are hints, not accuracies. With some labels, `swell evaluate` tells whether the choice "
        "was right; short runs favour weak views."
    )
    if found["copies"]:
        said.append(f"{found['copies'].capitalize()}, so no candidate was trained on them.")
    amount = found["priors"]["amount"]
    if not amount["saturated"]:
        said.append(f"More generated samples might help: {amount['reason']}.")
    return said


# ---- tables ----------------------------------------------------------------------------------------------


def _rows(found: Mapping[str, Any], number: int) -> dict[str, dict[str, list[float]]]:
    """Scores of rung `number` by candidate and score, a value a seed; what is no number is left out."""
    out: dict[str, dict[str, list[float]]] = {}
    learnt = found.get(f"learnability{number + 1}", {"scores": {}})["scores"]
    for key, by_rung in found["results"].items():
        result = by_rung.get(str(number))
        if result is None or result["failed"]:
            continue
        scores = {**result["scores"], **({"learnability": learnt[key]} if key in learnt else {})}
        mine = out.setdefault(key.partition(".seed")[0], {})
        for name, value in scores.items():
            if value is not None:
                mine.setdefault(name, []).append(value)
    return out


def _votes(found: Mapping[str, Any]) -> list[str]:
    ranks = found["choice"]["ranks"]
    return [name for name in NAMES if name in next(iter(ranks.values()))]


def _row_head(one: Candidate, chosen: str) -> dict[str, Cell]:
    return {
        "name": f"{one.name} (chosen)" if one.name == chosen else one.name,
        "weight": one.weight if one.generated else "–",
        "strength": one.strength,
        "amount": one.amount if one.generated else "–",
    }


HEAD = [
    Column("name", "candidate", better=None),
    Column("weight", "weight", "One real sample counts as this many generated ones.", better=None),
    Column("strength", "views", "How hard the views distort: 0.5 is AdaInf's weak, 1 the usual strong.", better=None),
    Column("amount", "generated", "Generated samples in the mixture.", "count", None),
]


def _rank_table(found: Mapping[str, Any], tried: Mapping[str, Candidate]) -> Table:
    """Finalists by the last rung's ranks; then those that went out, by the places they had."""
    choice, votes = found["choice"], _votes(found)
    rows: list[dict[str, Cell]] = []
    for name in sorted(choice["places"], key=lambda name: choice["places"][name]):
        row = _row_head(tried[name], choice["name"])
        rows.append({**row, **choice["ranks"][name], "place": 100 * choice["places"][name]})
    for number in range(len(found["plan"]["rungs"]) - 1, 0, -1):
        rung = found[f"rung{number}"]
        gone = [name for name in rung["places"] if name not in rung["kept"]]
        for name in sorted(gone, key=lambda name: rung["places"][name]):
            head = _row_head(tried[name], choice["name"])
            rows.append({**head, "group": f"Out after rung {number}", "place": 100 * rung["places"][name]})
    rows += [
        {**_row_head(tried[name], choice["name"]), "group": "Not considered", "place": why}
        for name, why in choice["vetoed"].items()
        if name in tried
    ]
    columns = [Column(name, NAMES[name], HINTS[name], better="low") for name in votes]
    place = Column("place", "place", "Mean rank over all scores: 0 is first on each, 100 last.", better=None)
    note = (
        "Rank of each candidate on each score among the runs of the last rung (mean over seeds, 1 is best). Each score "
        "can be met by a bad encoder, so their mean counts, and only where they agree. Places of those that went out "
        "earlier are among the candidates of that rung."
    )
    return Table("Which candidate ranks best?", [HEAD[0], place, *HEAD[1:], *columns], rows, note)


def _score_table(found: Mapping[str, Any], tried: Mapping[str, Candidate]) -> Table:
    votes, last = _votes(found), len(found["plan"]["rungs"]) - 1
    chosen = found["choice"]["name"]
    known = {score for number in range(last + 1) for scores in _rows(found, number).values() for score in scores}
    shown = [*votes, *(name for name in NAMES if name in known and name not in votes)]
    rows: list[dict[str, Cell]] = []
    for number in range(last, -1, -1):
        for name, scores in _rows(found, number).items():
            group = "" if number == last else f"Rung {number + 1}"
            values = {score: _spread(scores[score]) for score in shown if score in scores}
            rows.append({**_row_head(tried[name], chosen), "group": group, **values})
    columns = [
        Column(score, NAMES[score], HINTS[score], "share" if score in (*IN_POINTS, "acr") else "", None)
        for score in shown
    ]
    note = (
        "The scores behind the ranks, with the standard deviation over seeds, of the last rung first. Values of "
        "different rungs do not compare: later ones are of longer training."
    )
    if others := ", ".join(NAMES[name] for name in shown if name not in votes):
        note += f" {others} have no vote: with theirs, choices on sets with labels were worse."
    return Table("The scores", [HEAD[0], *columns], rows, note)


def _wrong_table(found: Mapping[str, Any], tried: Mapping[str, Candidate], own: Cost) -> Table:
    """What each alternative would have meant, by the same scores; of AdaInf's recipe where it was last."""
    choice, last, chosen = found["choice"], len(found["plan"]["rungs"]) - 1, found["choice"]["name"]
    votes = [name for name in _votes(found) if name in IN_POINTS]

    def row(name: str, number: int, places: Mapping[str, float], group: str = "") -> dict[str, Cell]:
        scores = _rows(found, number)
        made: dict[str, Cell] = {"name": _about(name), "group": group}
        if chosen in places:
            made["place"] = 100 * (places[name] - places[chosen])
        for score in votes:
            if score in scores.get(name, {}) and score in scores.get(chosen, {}):
                made[score] = 100 * (fmean(scores[name][score]) - fmean(scores[chosen][score]))
        return made

    places = choice["places"]
    rows = [row(name, last, places) for name in sorted(places, key=lambda name: places[name]) if name != chosen]
    for number in range(last):
        rung = found[f"rung{number + 1}"]
        if ADAINF in rung["places"] and ADAINF not in rung["kept"]:
            rows.append(row(ADAINF, number, rung["places"], f"Out after rung {number + 1}, by the scores of that rung"))
    columns = [
        Column("name", "had it been", better=None),
        Column("place", "places", "Change of its place in 100; above 0 is worse.", better=None),
        *(Column(name, NAMES[name], f"Difference in points to the chosen one. {HINTS[name]}", better=None)
          for name in votes),
    ]  # fmt: skip
    note = (
        "Each alternative minus the chosen one, at the end of the last rung. If the choice is wrong, that is noticed "
        f"by one more final run ({duration(own.seconds)}) and some labels; the search itself is then lost."
    )
    return Table("What would it have cost to be wrong?", columns, rows, note)


def _about(name: str) -> str:
    return {BASELINE: "no inflation (none)", ADAINF: "AdaInf's fixed recipe (adainf)"}.get(name, name)


def _prior_table(found: Mapping[str, Any]) -> Table:
    priors = found["priors"]
    told = priors["divergence"]
    weight, table, overlap, amount = (priors[name] for name in ("weight", "table", "overlap", "amount"))
    distance = f"{told['value']:.2f} ({told['low']:.2f} to {told['high']:.2f})"
    said = {
        "distance of generated from real samples": distance,
        "weight": "no inflation" if weight["weight"] is None else f"{weight['weight']:.2g}",
        "views, by published optima": _strength(table),
        "views, by equal overlap": _strength(overlap),
        "generated samples": f"{amount['count']:,}",
    }
    why = {
        "Distance": f"a classifier tells them apart with accuracy {told['accuracy']:.2f}; 0 is the same, 1 disjoint",
        "Weight": weight["reason"],
        "Views, by published optima": table["reason"],
        "Views, by equal overlap": overlap["reason"],
        "Generated samples": amount["reason"],
    }
    note = (
        "Derived from theory and guesses before anything was trained: where the search began, not where it ended. "
        + " ".join(f"{name}: {reason}." for name, reason in why.items())
    )
    columns = [Column("name", "prior", better=None), Column("said", "said", better=None)]
    return Table("What did the priors say?", columns, [{"name": k, "said": v} for k, v in said.items()], note)


def _strength(prior: Mapping[str, Any]) -> str:
    return f"{prior['strength']:.2f}" if prior["use"] else "no inflation"


def _cost_table(ledger: Ledger) -> Table:
    own = ledger.pretraining
    parts = {
        "generator, training": ledger.generator_training,
        "generator, sampling": ledger.sampling,
        "search": ledger.search,
        "final run": own,
    }
    rows: list[dict[str, Cell]] = [
        {
            "name": name,
            "seconds": cost.seconds,
            "runs": _share(cost.seconds, own.seconds),
            "flops": cost.flops,
            "work": _share(cost.flops, own.flops),
            "real": cost.samples_real,
            "generated": cost.samples_generated,
        }
        for name, cost in parts.items()
    ]
    columns = [
        Column("name", "part", better=None),
        Column("seconds", "time", unit="s", better=None),
        Column("runs", "in final runs", "Time in units of the final run's.", better=None),
        Column("flops", "FLOPs", unit="flop", better=None),
        Column("work", "in final runs", "FLOPs in units of the final run's.", better=None),
        Column("real", "real", unit="count", better=None),
        Column("generated", "generated", unit="count", better=None),
    ]
    note = (
        "The search holds all training of candidates, decays that were done again included, their scores and the "
        "priors; FLOPs are those of training."
    )
    return Table("What did it cost?", columns, rows, note)


# ---- pictures --------------------------------------------------------------------------------------------


def _is_rung(name: str) -> bool:
    return name.startswith("rung")


def _losses(out: Path, choice: Mapping[str, Any]) -> Chart:
    """Of the finalists and the final run."""
    short = {name: read_metrics(out / "adapt" / name) for name in choice["places"]}
    return loss_chart({"final run": read_metrics(out), **short})


def _place_chart(found: Mapping[str, Any]) -> Chart | None:
    """Every candidate's place from rung to rung."""
    places = [found[f"rung{i + 1}"]["places"] for i in range(len(found["plan"]["rungs"]) - 1)]
    places.append(found["choice"]["places"])
    steps = [rung["steps"] for rung in found["plan"]["rungs"]]
    if len(steps) < 2:
        return None
    series = []
    for name in dict.fromkeys(name for rung in places for name in rung):
        there = [i for i, rung in enumerate(places) if name in rung]
        series.append(Series(name, [steps[i] for i in there], [100 * (1 - places[i][name]) for i in there]))
    note = "100 is first on every score, 0 last, among the candidates that were left. A single dot went out there."
    return Chart("Who led when?", "steps", "standing", series, note=note)


def _amount_chart(found: Mapping[str, Any]) -> Chart | None:
    curve = found["priors"]["amount"]["curve"]
    if len(curve) < 2:
        return None
    counts = [point["count"] for point in curve]
    lines = [
        Series("coverage of unseen real samples", counts, [100 * point["coverage"] for point in curve]),
        Series("overlap of views", counts, [100 * point["overlap"] for point in curve]),
    ]
    note = "Where neither line rises any more, more generated samples change nothing."
    return Chart("How many generated samples?", "generated samples", "%", lines, note=note)


# ---- numbers ---------------------------------------------------------------------------------------------


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _ratio(part: float, whole: float) -> str:
    return f"{_share(part, whole):.2f}"
