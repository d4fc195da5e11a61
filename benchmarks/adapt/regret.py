"""What choosing without labels costs: regret of every chooser on the grid, and how far each score follows the probe.

    python benchmarks/adapt/regret.py [--held-out]

Reads the newest adapt-grid result. Regret is the probe accuracy of the best configuration less that of the chosen one, in
points, both means over seeds; choosers see the label-free scores alone. What is fitted (weights of the votes) is fitted
on the other sets. And the 2 x 2 x 2: does generated data help once views are weak? --held-out: the same of the sets on
which nothing of the chooser was settled; what is fitted is fitted on all of the others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from _panels import ROOT, Line, Panel, claim, draw, write_result
from grid import GRID, WEIGHTS
from scipy.optimize import minimize
from scipy.stats import kendalltau, t
from tables import inflation_block, regret_block, tau_block

from quote import newest
from swell.adaptive.choose import VOTERS, Row, choose, rank, survivors, voters_of
from swell.adaptive.plan import FINALISTS, how_many
from swell.evaluation.scores import SCORES

Table = Mapping[str, list[Row]]  # configuration -> a row of scores for each seed
Truth = Mapping[str, Mapping[str, float]]  # set -> configuration -> accuracy
MOST_VOTERS = 4
PLANNED = ("lidar", "rotation", "masked_columns", "learnability", "rankme", "acr")  # who voted before this was measured
GENERATED = tuple(name for name, (_, _, amount) in GRID.items() if amount)
DRAWN, DRAWS = "swell, eight candidates drawn", 200
CANDIDATES, ALWAYS = how_many(2), ("none", "weak_only", "adainf")
GOAL, WORST = 0.5, 1.5  # points: mean regret, and how much worse than `none` a choice may be on any set


def main(held_out: bool) -> None:
    suffix = "-held-out" if held_out else ""
    folder, stored = result_of(f"adapt-grid{suffix}")
    rows, grid = stored["rows"], list(stored["settings"]["grid"])
    sets = [name for name in stored["settings"]["sets"] if complete(rows, name, grid)]
    tables = {name: scores_of(rows, name, grid) for name in sets}
    truth = {name: {c: mean([r["linear"] for r in of(rows, f"{name}/{c}")]) for c in grid} for name in sets}
    if held_out:
        weights = dict.fromkeys(sets, result_of("adapt-regret")[1]["weights_of_all"])
    else:
        weights = {name: fitted({s: tables[s] for s in sets if s != name}, truth) for name in sets}
    measured = {score for table in tables.values() for found in table.values() for row in found for score in row}
    choosers = CHOOSERS | {f"{score} alone": by_score(score) for score in SCORES if score in measured}
    chosen = {who: {name: how(name, tables, rows, weights) for name in sets} for who, how in choosers.items()}
    groups = [v for k in range(1, MOST_VOTERS + 1) for v in combinations(sorted(measured & {*SCORES}), k)]
    choices = {voters: {s: by_voters(s, tables, rows, voters) for s in sets} for voters in groups}
    if held_out:
        voters = dict.fromkeys(sets, tuple(result_of("adapt-regret")[1]["voters_of_all"]))
    else:
        voters = {name: best_voters(choices, truth, [s for s in sets if s != name]) for name in sets}
    chosen["voters chosen elsewhere"] = {name: choices[voters[name]][name] for name in sets}
    regret = {who: {s: max(truth[s].values()) - truth[s][c] for s, c in by.items()} for who, by in chosen.items()}
    drawn = {name: searched(name, tables[name], rows) for name in sets}
    regret[DRAWN] = {s: max(truth[s].values()) - mean([truth[s][c] for c in by]) for s, by in drawn.items()}
    regret["random"] = {s: max(truth[s].values()) - mean(list(truth[s].values())) for s in sets}
    behind = {who: {s: truth[s]["none"] - truth[s][c] for s, c in by.items()} for who, by in chosen.items()}
    behind[DRAWN] = {s: truth[s]["none"] - mean([truth[s][c] for c in by]) for s, by in drawn.items()}
    taus = {
        score: {
            s: tau(tables[s], truth[s], score) for s in sets if all(score in r for c in tables[s].values() for r in c)
        }
        for score in SCORES
        if score in measured
    }
    strengths = {c: GRID[c][1] for c in grid}
    leans = {score: {s: tau(tables[s], strengths, score) for s in by} for score, by in taus.items()}
    effects = {name: inflation(rows, name) for name in sets}
    over_sets = {what: interval([effects[name][what][0] for name in sets]) for what in ASKED}
    own = list(regret["swell"].values())
    best = min((who for who in regret if who != "swell"), key=lambda who: mean(list(regret[who].values())))
    detail = (
        f"points of linear accuracy lost to the best of {len(grid)} configurations on {len(sets)} sets (goal {GOAL}); "
        f"adainf {mean(list(regret['adainf'].values())):.2f}, none {mean(list(regret['none'].values())):.2f}, random "
        f"{mean(list(regret['random'].values())):.2f}, next best chooser {best} {mean(list(regret[best].values())):.2f}; "
        f"at most {max(behind['swell'].values()):.2f} behind none (goal {WORST})"
    )
    line = claim(
        f"selection regret without labels{', on sets held out from settling the chooser' * held_out}",
        mean(own),
        float(np.std(own)),
        len(own),
        stored["seconds"],
        "",
        detail,
    )
    result = {
        "claim": line,
        "grid": folder,
        "sets": sets,
        "configurations": len(grid),
        "seeds": {name: len(of(rows, f"{name}/learnability")) for name in sets},
        "best": {name: max(by, key=by.__getitem__) for name, by in truth.items()},
        "chosen": chosen,
        "regret": regret,
        "behind_none": behind,
        "tau": taus,
        "lean": leans,
        "effects": effects,
        "effects_over_sets": over_sets,
        "why": {name: told_by_swell(name, tables, rows) for name in sets},
        "weights": weights,
        "weights_of_all": fitted(tables, truth),
        "voters": voters,
        "voters_of_all": best_voters(choices, truth, sets),
    }
    write_result(f"adapt-regret{suffix}", result)
    if not held_out:
        figure(rows, sets)
    for block in (regret_block, tau_block, inflation_block):
        print(block(lambda _: ("adapt-regret", result)), end="\n\n")
    for name, names in (voters | {"all": result["voters_of_all"]}).items():
        lost = {s: max(truth[s].values()) - truth[s][choices[names][s]] for s in sets}
        print(name, names, {s: round(v, 2) for s, v in lost.items()}, round(mean(list(lost.values())), 2))
    print(line)


def figure(rows: Mapping[str, Any], sets: list[str]) -> None:
    """Accuracy over the strength of the views, a line for each weight, of as many generated samples as there were."""
    most = max(amount for _, _, amount in GRID.values())
    panels = []
    for name in sets:
        lines = []
        for key, weight in enumerate((0.0, 1.0, *WEIGHTS)):
            points = []
            for config, (w, strength, amount) in GRID.items():
                if (w == weight and amount == most) or (weight == 0 and not amount):
                    found = [row["linear"] for row in of(rows, f"{name}/{config}")]
                    points.append((strength, mean(found), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0))
            lines.append(Line(f"{weight:g}", tuple(sorted(points)), key))
        panels.append(Panel(name, "strength of the views", "linear accuracy, %", tuple(lines), low=None))
    legend = {"generated": {0: "none", **{key: f"weight {w:g}" for key, w in enumerate((1.0, *WEIGHTS), 1)}}}
    note = f"Mean ± sd over seeds; {most} generated samples for each real one. Equal steps everywhere."
    draw(ROOT / "docs" / "adapt-grid.svg", panels, legend, note, columns=3)


def result_of(name: str) -> tuple[str, dict[str, Any]]:
    found = newest(name)
    if found is None:
        raise SystemExit(f"no result {name} yet")
    return found


def of(rows: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    return [row for key, row in rows.items() if key.rpartition("/")[0] == prefix]


def complete(rows: Mapping[str, Any], name: str, grid: list[str]) -> bool:
    return bool(of(rows, f"{name}/learnability")) and all(of(rows, f"{name}/{config}") for config in grid)


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def scores_of(rows: Mapping[str, Any], name: str, grid: list[str]) -> dict[str, list[Row]]:
    """Every configuration's label-free scores, seed by seed; a number that does not exist is stored as null."""
    learnt = [row["learnability"] for row in of(rows, f"{name}/learnability")]
    return {
        config: [
            {k.removeprefix("score_"): math.nan if v is None else v for k, v in row.items() if k.startswith("score_")}
            | {"learnability": learnt[i][config]}
            for i, row in enumerate(of(rows, f"{name}/{config}")[: len(learnt)])
        ]
        for config in grid
    }


# ---- choosers --------------------------------------------------------------------------------------------

Chooser = Callable[[str, Mapping[str, Table], Mapping[str, Any], Mapping[str, Any]], str]


def by_swell(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], _: Any) -> str:
    return choose(tables[name], generated=GENERATED, vetoed=copied(rows, name)).name


def by_swell_without_guard(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], _: Any) -> str:
    return choose(tables[name], generated=GENERATED, vetoed=copied(rows, name), least_agreement=0.0).name


def searched(name: str, table: Table, rows: Mapping[str, Any]) -> list[str]:
    """What a search chooses that has some candidates and not all, and as many seeds as it has: two rungs, all of one seed
    and three of two. The three it always tries, five of the others and the two seeds are drawn. Unlike in a search, the
    first rung is as long as the second, and learnability is by all of the grid's encoders.
    """
    random, vetoed, found = np.random.default_rng(0), copied(rows, name), []
    others = [c for c in table if c not in ALWAYS]
    for _ in range(DRAWS):
        tried = [
            c for c in (*ALWAYS, *random.choice(others, CANDIDATES - len(ALWAYS), replace=False)) if c not in vetoed
        ]
        first, second = random.permutation(len(table["none"]))[:2]
        ranked = rank({c: table[c][first] for c in tried})
        left = survivors(ranked.places, FINALISTS, GENERATED, {c: GRID[c][1] for c in tried})
        finals = {c: [table[c][first], table[c][second]] for c in left}
        found.append(choose(finals, generated=GENERATED, vetoed=vetoed, earlier=[ranked.agreement]).name)
    return found


def told_by_swell(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any]) -> dict[str, Any]:
    made = choose(tables[name], generated=GENERATED, vetoed=copied(rows, name))
    return {
        "agreement": made.agreement,
        "margin": made.margin,
        "noise": made.noise,
        "leader": made.leader,
        "reasons": list(made.reasons),
    }


def by_fitted_votes(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    vetoed, votes = copied(rows, name), weights[name]
    return choose(tables[name], generated=GENERATED, vetoed=vetoed, voters=PLANNED, weights=votes).name


def by_planned_votes(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], _: Any) -> str:
    return choose(tables[name], generated=GENERATED, vetoed=copied(rows, name), voters=PLANNED).name


def by_voters(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], voters: tuple[str, ...]) -> str:
    """As Swell chooses, with other voters; `none` where none of them has a meaning for these samples."""
    every = [row for found in tables[name].values() for row in found]
    if not voters_of(every, voters):
        return "none"
    return choose(tables[name], generated=GENERATED, vetoed=copied(rows, name), voters=voters).name


def best_voters(choices: Mapping[tuple[str, ...], Mapping[str, str]], truth: Truth, sets: list[str]) -> tuple[str, ...]:
    """The voters with the least mean regret on `sets`; of several the fewest."""

    def lost(voters: tuple[str, ...]) -> float:
        return mean([max(truth[s].values()) - truth[s][choices[voters][s]] for s in sets])

    return min(choices, key=lambda voters: (round(lost(voters), 6), len(voters), voters))


def by_ranks_alone(name: str, tables: Mapping[str, Table], *_: Any) -> str:
    """The best mean rank, with neither margin nor veto nor agreement."""
    places = places_of(tables[name], VOTERS)
    return min(places, key=places.__getitem__)


def by_score(score: str) -> Chooser:
    def pick(name: str, tables: Mapping[str, Table], *_: Any) -> str:
        if not all(score in row for found in tables[name].values() for row in found):
            return "none"  # it has no meaning for these samples
        places = places_of(tables[name], (score,))
        return min(places, key=places.__getitem__)

    return pick


def by_priors(name: str, tables: Mapping[str, Table], rows: Mapping[str, Any], __: Any) -> str:
    """The configuration nearest to what theory says before anything is trained."""
    found = [row["priors"] for row in of(rows, f"{name}/generator")]
    use = mean([float(p["weight"]["use"]) for p in found]) > 0.5
    if not use:
        return "none"
    weight = math.exp(mean([math.log(p["weight"]["weight"]) for p in found if p["weight"]["weight"]]))
    strength = mean([p["table"]["strength"] for p in found])
    most = max(amount for _, _, amount in GRID.values())

    def far(config: str) -> float:
        w, s, amount = GRID[config]
        return abs(math.log2(w / weight)) + 4 * abs(s - strength) if amount == most else math.inf

    return min(tables[name], key=far)


def fixed(config: str) -> Chooser:
    return lambda *_: config


CHOOSERS: dict[str, Chooser] = {
    "swell": by_swell,
    "swell, scores need not agree": by_swell_without_guard,
    "six equal votes": by_planned_votes,
    "six votes, weights fitted elsewhere": by_fitted_votes,
    "ranks alone": by_ranks_alone,
    "priors alone": by_priors,
    "adainf": fixed("adainf"),
    "none": fixed("none"),
    "weak_only": fixed("weak_only"),
}


def places_of(table: Table, voters: tuple[str, ...]) -> dict[str, float]:
    """Mean place of every configuration over its seeds."""
    flat = {f"{config}/{i}": row for config, found in table.items() for i, row in enumerate(found)}
    places = rank(flat, voters).places
    return {config: mean([places[f"{config}/{i}"] for i in range(len(found))]) for config, found in table.items()}


def copied(rows: Mapping[str, Any], name: str) -> dict[str, str]:
    why = next((row["copies"] for row in of(rows, f"{name}/generator") if row["copies"]), "")
    return dict.fromkeys(GENERATED, why) if why else {}


def fitted(tables: Mapping[str, Table], truth: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Weights of the votes, none negative, by pairwise logistic regression of which configuration the probe prefers."""
    pairs: list[np.ndarray] = []
    for name, table in tables.items():
        places = {s: places_of(table, (s,)) for s in PLANNED if all(s in row for f in table.values() for row in f)}
        for a in table:
            for b in table:
                if truth[name][a] > truth[name][b]:
                    pairs.append(np.array([places[s][b] - places[s][a] if s in places else 0.0 for s in PLANNED]))
    if not pairs:
        return dict.fromkeys(PLANNED, 1.0)
    x = np.stack(pairs)
    found = minimize(
        lambda w: float(np.logaddexp(0, -x @ w).mean() + 0.01 * w @ w),
        np.ones(len(PLANNED)),
        bounds=[(0, None)] * len(PLANNED),
    )
    return {score: float(w) for score, w in zip(PLANNED, found.x + 1e-6, strict=True)}


# ---- scores and effects ----------------------------------------------------------------------------------


def tau(table: Table, truth: Mapping[str, float], score: str) -> float:
    """Kendall's rank correlation of a score's merit, averaged over seeds, with the probe, or another number of each."""
    places = places_of(table, (score,))
    return float(kendalltau([-places[c] for c in places], [truth[c] for c in places]).statistic)


ASKED = {  # the 2 x 2 x 2: which difference answers which question
    "weak views alone": ("weak_only", "none"),
    "plain inflation, strong views": ("vanilla", "none"),
    "weighted, strong views": ("weighted", "none"),
    "plain inflation, weak views, over weak views alone": ("vanilla_weak", "weak_only"),
    "weighted, weak views (AdaInf), over weak views alone": ("adainf", "weak_only"),
    "AdaInf over none": ("adainf", "none"),
}


def inflation(rows: Mapping[str, Any], name: str) -> dict[str, tuple[float, float, float]]:
    """Differences of linear accuracy, paired by seed: mean and interval of Student's t at 95 %."""
    linear = {c: [row["linear"] for row in of(rows, f"{name}/{c}")] for pair in ASKED.values() for c in pair}
    return {
        what: interval(np.subtract(*(linear[c][: min(len(linear[c]) for c in pair)] for c in pair)))
        for what, pair in ASKED.items()
    }


def interval(differences: Any) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t; NaN for the interval of one value."""
    d = np.asarray(differences, np.float64)
    half = t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d)) if len(d) > 1 else math.nan
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", action="store_true", help="of the sets on which nothing was settled")
    main(**vars(parser.parse_args()))
