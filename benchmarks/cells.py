"""Views, positives and their controls on six labelled sets of single cells; then one cross-validated probe.

    python benchmarks/cells.py [--seeds 3] [--sets paul15,pbmc4k] [--only pca,simclr_mask] [--sweep]

Every arm trains its encoder for as many steps on all cells of a set, without labels; then logistic regression, kNN and
k-means on its features are cross-validated, 5 folds a seed and the same ones for every arm. An arm with a learnt
generator trains that besides, and its seconds and FLOPs say so; a control generator learns nothing. `zeros`, `shuffled`
and `copies` are DiffAug at lambda 0.5 with positives that hold nothing, nothing of the sample, or nothing new; the last is
lambda 0 to the last digit, so one seed shows it. Nothing rolls back, so that an arm is what its name says. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

import numpy as np  # noqa: E402

import swell  # noqa: E402
from _arms import Job, Rows  # noqa: E402
from _cells import COMPONENTS, FOLDS, SCORES, SETS, cells_source, class_kept, components_of, cross_validated  # noqa: E402
from _common import claim, device_line  # noqa: E402
from swell.data.source import Provenance, Source  # noqa: E402
from swell.evaluation.label_free import label_free  # noqa: E402
from swell.evaluation.statistics import summarise  # noqa: E402
from swell.generators import GENERATORS  # noqa: E402
from swell.ledger import Cost, peak_memory  # noqa: E402
from swell.recipes import Recipe  # noqa: E402
from swell.training.phases import FIRST_SHARE, Phase, default_phases, read_phase_log  # noqa: E402
from swell.views.plan import VectorGroup, ViewPlan  # noqa: E402

STEPS, GENERATOR_STEPS = 300, 600
MASK = 0.5  # share of the genes, of arms that do not say; the preset `cells` has since taken what came out best
GENERATED, WEIGHT = 4, 2.0  # AdaInf: so many generated cells for each real one, which counts as so many of them
DIFFAUG = {"method": "diffaug", "generator_positives": "conditional"}
HALF = {**DIFFAUG, "replace": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "genes": {},
    "pca": {},
    "simclr_mask": {},
    "simclr_mask75": {"mask": 0.75},
    "vicreg_mask": {"method": "vicreg"},
    "neighbour_mix": {"views": "neighbour_mix"},
    "mask_neighbours": {"positives": "neighbours"},
    "mask75_neighbours": {"mask": 0.75, "positives": "neighbours"},
    "simclr_generated": {"generator_positives": "conditional"},
    "adainf": {"weight": WEIGHT, "strength": 0.5},
    "diffaug_0": {"method": "diffaug", "generator_positives": "none"},
    "diffaug_half": HALF,
    "diffaug_1": DIFFAUG,
    "zeros": {**HALF, "generator_positives": "zeros"},
    "shuffled": {**HALF, "generator_positives": "shuffled"},
    "copies": {**HALF, "generator_positives": "copies"},
}
SWEEP: dict[str, dict[str, Any]] = {  # what makes or breaks DiffAug, and how long and how hard to train the others
    "half_strength_0.7": {**HALF, "positive_strength": 0.7},
    "half_strength_0.5": {**HALF, "positive_strength": 0.5},
    "half_guidance_2": {**HALF, "generator_options": {"guidance": 2.0}},
    "diffaug_1_strength_0.5": {**DIFFAUG, "positive_strength": 0.5},
    "half_first_0.2": {**HALF, "first": 0.2},
    "half_first_0.7": {**HALF, "first": 0.7},
    "half_generator_x3": {**HALF, "generator_steps": 3 * GENERATOR_STEPS},
    "half_wide": {**HALF, "generator_options": {"width": 512}},
    "half_soft_0": {**HALF, "method_options": {"soft": 0.0}},
    "half_renoised": {**HALF, "generator_positives": "diffusion", "positive_strength": 0.5},
    "half_vae": {**HALF, "generator_positives": "vae", "positive_strength": 0.5},
    "diffaug_0_soft_0": {"method": "diffaug", "generator_positives": "none", "method_options": {"soft": 0.0}},
    "diffaug_0_soft_0.4": {"method": "diffaug", "generator_positives": "none", "method_options": {"soft": 0.4}},
    "half_mask75": {**HALF, "mask": 0.75},
    "diffaug_0_mask75": {"method": "diffaug", "generator_positives": "none", "mask": 0.75},
    "diffaug_neighbours": {"method": "diffaug", "positives": "neighbours"},
    "simclr_mask85": {"mask": 0.85},
    "neighbours_half": {"positives": "neighbours", "replace": 0.5},
    "simclr_mask_x4": {"steps": 4 * STEPS},
    "mask_neighbours_x4": {"positives": "neighbours", "steps": 4 * STEPS},
}
ALL = {**ARMS, **SWEEP}
TRAINED = tuple(arm for arm in ALL if arm not in ("genes", "pca"))
RECIPES = tuple(arm for arm in ARMS if arm not in ("genes", "pca", "zeros", "shuffled", "copies"))
CONTROLS = ("diffaug_0", "zeros", "shuffled", "copies")  # of diffaug_half
HEAD = ("linear", "knn")


def recipe_of(arm: str) -> Recipe:
    """The arm's recipe: SimCLR on cells of which half is masked, but for what ARMS says."""
    given = {"method": "simclr", "steps": STEPS, **ALL[arm]}
    mask, first = given.pop("mask", MASK), given.pop("first", FIRST_SHARE)
    learning = given.pop("generator_steps", GENERATOR_STEPS)
    if "views" not in given:
        given["views"] = ViewPlan((VectorGroup(count=2, mask=mask),))
    if given.get("generator_positives", "none") != "none":
        phases = phases_of(round(first * STEPS), learning, given.get("replace", 1.0))
        given |= {"phases": tuple(phase.to_dict() for phase in phases), "roll_back": False}
    return Recipe(**given)


def phases_of(first: int, learning: int, replace: float) -> tuple[Phase, ...]:
    """The default phases, but for how long the first one and the generator train."""
    last = default_phases("steps", STEPS, learning, replace=replace)[-1]
    return Phase("encoder", first), Phase("generator", learning), dataclasses.replace(last, steps=STEPS - first)


def main(seeds: int, sets: str, only: str, sweep: bool) -> None:
    settings = {"arms": ALL, "steps": STEPS, "generator_steps": GENERATOR_STEPS, "folds": FOLDS}
    rows = Rows("cells", {**settings, "generated": GENERATED})
    chosen, arms = (
        given.split(",") if given else list(known) for given, known in ((sets, SETS), (only, SWEEP if sweep else ARMS))
    )
    jobs: list[Job] = [
        (f"{data}/{arm}/{seed}", made, (data, arm, seed))
        for seed in range(seeds)
        for data in chosen
        for arm in arms
        if arm != "copies" or seed == 0
    ]
    rows.make(jobs, lambda: told(rows), together=2)
    print("\n".join(shown(told(rows))))


# ---- a row -----------------------------------------------------------------------------------------------


def made(data: str, arm: str, seed: int) -> dict[str, Any]:
    """The scores of an arm on a set, fold by fold, and what it cost."""
    begun = time.perf_counter()
    source = cells_source(data)
    features, row = untrained(source, arm) if arm in ("genes", "pca") else trained(source, arm, seed)
    assert source.labels is not None
    folds = cross_validated(features, source.labels, seed)
    scores = {name: float(np.mean(values)) for name, values in folds.items()}
    return {**scores, "folds": folds, **row, "wall_seconds": time.perf_counter() - begun}


def untrained(source: Source, arm: str) -> tuple[np.ndarray, dict[str, Any]]:
    begun = time.perf_counter()
    features = components_of(source) if arm == "pca" else np.asarray(source.samples[:])
    return features, {"seconds": time.perf_counter() - begun, "teraflops": 0.0, "peak_memory_bytes": peak_memory()}


def trained(source: Source, arm: str, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    cells, mixed, inflated = source.unlabelled(), Cost(), None
    if arm == "adainf":
        generator = GENERATORS["diffusion"]()
        generator.fit(np.asarray(cells.samples[:]), seed=seed, steps=GENERATOR_STEPS, quiet=True)
        inflated = Source(generator.sample(GENERATED * len(cells), seed), Provenance("generated", "diffusion"))
        mixed.add(generator.cost)
        mixed.add(generator.sampling_cost)
    with tempfile.TemporaryDirectory() as folder:
        run = swell.pretrain(
            cells, Path(folder) / "run", recipe=recipe_of(arm), inflate=inflated, seed=seed, quiet=True, report=False
        )
        ledger, recipe, features, log = run.ledger, run.recipe, run.encode(cells), read_phase_log(run.path)
        replaced = run.metrics[-1].get("replaced", 0.0)
        kept = run.path / "phase-02" / "positives"
        seen = class_kept(kept, source) if kept.exists() else {}
    parts = {
        "encoder": ledger.pretraining,
        "generator": ledger.generator_training,
        "sampling": ledger.sampling,
        "mixed_in": mixed,
    }
    whole = Cost()
    for part in parts.values():
        whole.add(part)
    return features, {
        "rankme": label_free(features)["rankme"],
        **seen,
        "alarms": [line["alarm"] for line in log if line["alarm"]],
        "in_code": next((line["in_code"] for line in log if "in_code" in line), None),
        "replaced": replaced,
        "seconds": whole.seconds,
        "teraflops": whole.flops / 1e12,
        "seconds_of": {name: part.seconds for name, part in parts.items() if part.seconds},
        "peak_memory_bytes": ledger.peak_memory_bytes,
        "recipe": {k: v for k, v in recipe.to_dict().items() if k != "views"},
    }


# ---- all rows --------------------------------------------------------------------------------------------


def told(rows: Rows) -> dict[str, Any]:
    """The tables and, once every set has its baseline and one recipe, the claim."""
    by_set = {data: found for data in SETS if "pca" in (found := finished(rows, data))}
    table = {data: {arm: columns(arms, arm) for arm in arms} for data, arms in by_set.items()}
    out: dict[str, Any] = {"table": table, "device": device_line("two rows at a time, a thread each")}
    everywhere = [arm for arm in TRAINED if table and all(arm in arms for arms in table.values())]
    overall = {arm: over_sets([arms[arm]["less_pca"] for arms in table.values()]) for arm in everywhere}
    whole = [arm for arm in everywhere if arm in RECIPES]
    if not whole or len(table) < 2:
        return out
    best = max(whole, key=lambda arm: sum(overall[arm][score]["mean"] for score in HEAD))
    out |= {"against_pca": overall, "best": best, "left_out": left_out(table, whole)}
    over = {other: over_sets(kept) for other in CONTROLS if (kept := less_control(by_set, other))}
    out["diffaug_over"] = over
    told_of = {"zeros": "its zeros control", "diffaug_0": "lambda 0"}
    control = "".join(
        f"; DiffAug at lambda 0.5 over {words} {over[other]['linear']['mean']:+.1f} and {over[other]['knn']['mean']:+.1f}, by "
        f"more than the spread on {over[other]['linear']['clearly_ahead']} and {over[other]['knn']['clearly_ahead']}"
        for other, words in told_of.items()
        if other in over
    )
    won, honest = overall[best], out["left_out"]
    detail = (
        f"kNN {won['knn']['mean']:+.1f}; ahead on {won['linear']['ahead']} and {won['knn']['ahead']} of {len(table)} sets; "
        f"the recipe chosen on the other sets {honest['linear']['mean']:+.1f} and {honest['knn']['mean']:+.1f}, ahead on "
        f"{honest['linear']['ahead']} and {honest['knn']['ahead']}{control}"
    )
    first = f"{best} less PCA-{COMPONENTS}, logistic regression on cells"
    mean, sd = won["linear"]["mean"], won["linear"]["sd"]
    threads = "two rows at a time, a thread each"
    out["claim"] = claim(first, mean, sd, len(table), rows.seconds, unit="points", detail=detail, threads=threads)
    return out


Arms = dict[str, dict[str, dict[str, Any]]]  # rows by arm and seed


def finished(rows: Rows, data: str) -> Arms:
    """What a set has of rows so far, of seeds that PCA has too; a diverged row has no scores."""
    arms: Arms = {}
    for key, row in rows.rows.items():
        of, arm, seed = key.split("/")
        if of == data and "folds" in row and f"{data}/pca/{seed}" in rows.rows:
            arms.setdefault(arm, {})[seed] = row
    return {arm: arms[arm] for arm in ALL if arm in arms}


def columns(arms: Arms, arm: str) -> dict[str, Any]:
    """Mean and sd over seeds of the scores, their paired difference to PCA, and the mean costs."""
    found = list(arms[arm].values())
    out: dict[str, Any] = {score: summarise([row[score] for row in found]) for score in SCORES}
    out["less_pca"] = minus(arms, arm, "pca")
    for name in ("seconds", "teraflops", "peak_memory_bytes", "class_of_positives", "class_of_anchors"):
        values = [row[name] for row in found if name in row]
        out |= {name: summarise(values)[0]} if values else {}
    return out | {"seeds": len(found), "alarms": sorted({alarm for row in found for alarm in row.get("alarms", [])})}


def minus(arms: Arms, a: str, b: str) -> dict[str, Any]:
    """Differences of two arms with the same folds: mean and sd over the seeds both have, and the sd over all folds."""
    pairs = [(row, arms[b][seed]) for seed, row in arms[a].items() if seed in arms[b]]
    out = {}
    for score in SCORES:
        mean, sd = summarise([x[score] - y[score] for x, y in pairs])
        folds = [p - q for x, y in pairs for p, q in zip(x["folds"][score], y["folds"][score], strict=True)]
        out[score] = {"mean": mean, "sd": sd, "sd_of_folds": summarise(folds)[1]}
    return out


def less_control(by_set: dict[str, Arms], other: str) -> list[dict[str, Any]]:
    """DiffAug at lambda 0.5 less `other`, set by set; empty until every set has both."""
    pairs = [(arms.get("diffaug_half", {}), arms.get(other, {})) for arms in by_set.values()]
    if not all(a.keys() & b.keys() for a, b in pairs):
        return []
    return [minus(arms, "diffaug_half", other) for arms in by_set.values()]


def clearly(difference: dict[str, Any]) -> bool:
    """Whether a difference is above 0 by more than its spread over seeds."""
    return difference["sd"] is not None and difference["mean"] > difference["sd"]


def over_sets(differences: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sd over sets of differences, on how many sets they are above 0, and on how many clearly."""
    out = {}
    for score in SCORES:
        values = [d[score]["mean"] for d in differences]
        mean, sd = summarise(values)
        ahead, clear = sum(v > 0 for v in values), sum(clearly(d[score]) for d in differences)
        out[score] = {"mean": mean, "sd": sd, "ahead": ahead, "clearly_ahead": clear}
    return out


def left_out(table: dict[str, Any], recipes: Sequence[str]) -> dict[str, Any]:
    """For every set the recipe that is best on the others, by logistic regression and kNN; how it does on this one."""
    chosen = {}
    for data in table:
        rest = [other for other in table if other != data]
        chosen[data] = max(
            recipes,
            key=lambda arm: sum(table[other][arm]["less_pca"][score]["mean"] for other in rest for score in HEAD),
        )
    return {"chosen": chosen, **over_sets([table[data][arm]["less_pca"] for data, arm in chosen.items()])}


def shown(result: dict[str, Any]) -> list[str]:
    """The tables for a person."""
    lines = []
    for data, arms in result["table"].items():
        titles = "".join(f"{name:>14s}" for name in SCORES)
        lines += ["", f"{data:18s}{titles}   linear - pca     kNN - pca  seconds  TFLOP"]
        for arm, row in arms.items():
            scores = "".join(f"{spread(*row[name]):>14s}" for name in SCORES)
            less = "".join(f"{difference(row['less_pca'][name]):>14s}" for name in HEAD)
            lines.append(f"{arm:18s}{scores}{less}{row['seconds']:9.1f}{row['teraflops']:7.2f}")
    for title, part in (("less pca", "against_pca"), ("diffaug_half less", "diffaug_over")):
        lines += [
            "",
            f"{title:18s}        linear           kNN   sets ahead  clearly (over {len(result['table'])} sets)",
        ]
        for name, row in result.get(part, {}).items():
            counts = [" and ".join(str(row[score][key]) for score in HEAD) for key in ("ahead", "clearly_ahead")]
            means = "".join(f"{difference(row[score]):>14s}" for score in HEAD)
            lines.append(f"{name:18s}{means}{counts[0]:>13s}{counts[1]:>9s}")
    return [*lines, "", result.get("claim", "")]


def spread(mean: float, sd: float | None) -> str:
    return f"{mean:.1f}" + ("" if sd is None else f" ± {sd:.1f}")


def difference(of: dict[str, Any]) -> str:
    return f"{of['mean']:+.1f}" + ("" if of["sd"] is None else f" ± {of['sd']:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default="", help=f"some of {', '.join(SETS)}")
    parser.add_argument("--only", default="", help="arms, separated by commas")
    parser.add_argument("--sweep", action="store_true", help="settings of DiffAug and of the views, one at a time")
    main(**vars(parser.parse_args()))
