"""The report of a single run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from swell import __version__
from swell.console import duration
from swell.data.source import Source
from swell.evaluation.dense import DensePictures
from swell.gallery import Gallery
from swell.recipes import Recipe
from swell.report.again import environment_facts, run_commands
from swell.report.copies import pairs
from swell.report.evaluation_tables import evaluation_charts, evaluation_tables
from swell.report.galleries import galleries_of, neighbour_gallery
from swell.report.label_free_table import label_free_table
from swell.report.map_making import GENERATED, Encoded, embedding_map, encode_some, keep_map
from swell.report.maps import EmbeddingMap
from swell.report.page import Cell, Page, write_report
from swell.report.phase_log import phase_notices, phase_tables
from swell.report.sections import (
    BASELINES,
    cost_table,
    costs,
    dense_table,
    finetune_table,
    loss_chart,
    probe_table,
    scores,
    spectrum_chart,
)
from swell.training.machine import cpu_name
from swell.training.phases import read_phase_log
from swell.views.plan import Group, ViewGroup

if TYPE_CHECKING:
    from swell.run import Run

HARDER = "Here it rises where a phase begins whose positives are harder to match: that is no fault."


def write_run_report(
    run: Run,
    shown: Source,
    evaluation: Mapping[str, Any] | None = None,
    real: Source | None = None,
    generated: Source | None = None,
    dense: DensePictures | None = None,
) -> None:
    """Write RUN/report.html: before the probe without scores, after it with them, and with RUN/map.npz beside it.

    Args:
        shown: the samples of the map and the spectrum.
        real, generated: what the run was trained on, where it is at hand; shown beside each other.
        dense: test scenes with what the dense probe takes every pixel for.
    """
    recipe, ledger = run.recipe, run.ledger
    some = encode_some(run.encoder, shown)
    made = None if generated is None or not len(generated) else encode_some(run.encoder, generated, GENERATED)
    chart = embedding_map(recipe.method, some, made)
    origin = {name: str(where.get("origin", "")) for name, where in run.provenance.items()}
    cost = ledger.pretraining
    seen = cost.samples_real + cost.samples_generated
    facts = [
        ("pre-trained on", f"{origin.get('real', 'unknown')}, {_size(shown)}"),
        (
            "method",
            f"{recipe.method}, {recipe.backbone} at width {recipe.width:g}, {run.encoder.features} features",
        ),
        ("budget", f"{run.metrics[-1]['step'] + 1:,} steps of {recipe.batch_size}, {duration(cost.seconds)}"),
        ("views", _views(recipe)),
        (
            "mixture",
            f"{cost.samples_real:,} real and {cost.samples_generated:,} generated samples drawn"
            + (
                f" from {origin.get('generated', 'unknown')}, weight {recipe.weight:g}"
                if cost.samples_generated
                else ""
            ),
        ),
        (
            "rate",
            f"{seen / max(cost.seconds, 1e-9):,.0f} samples/s on "
            + (cpu_name() if run.encoder.mean.device.type == "cpu" else "a GPU"),
        ),
        ("seed", str(recipe.seed)),
        ("map and pictures of" if shown.is_images else "map of", _whose(run, shown)),
    ]
    phases = read_phase_log(run.path)
    notices = phase_notices(phases)
    if run.provenance.get("generated", {}).get("labels_used"):
        notices.append("The generated samples were made with the help of labels, so this run is not label-free.")
    tables = []
    trained = f"{recipe.method} on {origin.get('real', 'unknown')} without labels, {duration(cost.seconds)} of training"
    verdict = f"The encoder is trained: {trained}. Probe it with `swell evaluate` to see how good its features are."
    if evaluation is not None:
        if "linear" in evaluation:
            facts.append(
                ("probed on", f"{evaluation['n_train']:,} labelled samples, {evaluation['n_test']:,} for the test")
            )
            row: dict[str, Cell] = {"name": "this encoder", **scores(evaluation), **costs(ledger)}
            tables.append(probe_table([row], evaluation.get("baselines", {})))
            if "acr" in evaluation["label_free"]:
                tables.append(label_free_table(evaluation["label_free"]))
        if "dense" in evaluation:
            tables.append(dense_table(evaluation["dense"]))
        if "finetune" in evaluation:
            tables.append(finetune_table(evaluation["finetune"]))
        tables += evaluation_tables(evaluation)
        verdict = f"{_verdict(evaluation)} It comes from {trained}."
        if evaluation.get("protocol"):
            keep_map(run.path, chart, some)
    tables += [cost_table(ledger), *phase_tables(phases, recipe.generator_positives)]
    write_report(
        run.path / "report.html",
        Page(
            title=f"Pre-training run: {run.path.resolve().name}",
            verdict=verdict,
            facts=facts,
            notices=notices,
            tables=tables,
            sections=evaluation_charts(evaluation or {}),
            curves=[loss_chart({recipe.method: run.metrics}, HARDER if phases else "")],
            spectra=[spectrum_chart({"encoder": some.features})],
            galleries=[*_neighbours(chart, some, made), *galleries_of(run, shown, dense)],
            pairs=pairs(generated, real),
            maps=[chart],
            recipe=(run.path / "recipe.toml").read_text(encoding="utf-8"),
            commands=run_commands(run, evaluation),
            environment=environment_facts(run.path),
            footer=f"swell {__version__}",
        ),
    )


def _neighbours(chart: EmbeddingMap, some: Encoded, made: Encoded | None) -> list[Gallery]:
    """Chosen samples and their neighbours; of vectors there is nothing to show."""
    near = chart.layouts[0].near
    if not some.source.is_images or not near.shape[1]:
        return []
    images = some.source.samples if made is None else np.concatenate([some.source.samples, made.source.samples])
    kind = next((c for c in chart.colourings if c.name == "label"), None)
    codes = np.full(len(images), -1) if kind is None else kind.codes
    return [neighbour_gallery(near[: len(some.source)], images, codes, [] if kind is None else kind.names)]


def _whose(run: Run, shown: Source) -> str:
    if shown.fingerprint == run.data_fingerprints.get("real"):
        return "the samples it was trained on"
    return f"{len(shown):,} samples of {shown.provenance.origin}"


def _size(source: Source) -> str:
    if source.is_images:
        return f"samples of {' x '.join(map(str, source.shape))}"
    prepared = "" if source.preparation is None else f" ({source.preparation.describe()})"
    return f"vectors of {source.shape[0]:,} features{prepared}"


def _views(recipe: Recipe) -> str:
    assert not isinstance(recipe.views, str)
    parts = [f"{g.count} {g.role}{' of a positive' * (g.of == 'positive')}, {_done(g)}" for g in recipe.views.groups]
    text = f"{recipe.views.count} of each sample ({'; '.join(parts)}) at strength {recipe.strength:g}"
    if recipe.positives:
        return f"{text}; {100 * recipe.replace:.3g} % of positives from {recipe.positives}"
    return f"{text}; positives as the phases say" if recipe.phases else text


def _done(group: Group) -> str:
    if isinstance(group, ViewGroup):
        size = "full size" if group.size is None else f"{group.size} pixels"
        return f"{size}, area {group.scale[0]:g} to {group.scale[1]:g}"
    names = ("mask", "swap", "noise", "mix", "crossover")
    return ", ".join(f"{name} {getattr(group, name):g}" for name in names if getattr(group, name)) or "as it is"


def _verdict(evaluation: Mapping[str, Any]) -> str:
    """The first score in words, beside its best baseline."""
    if "linear" not in evaluation:
        dense = evaluation["dense"]
        text = f"A linear classifier on its cells is right about {100 * dense['accuracy']:.1f} % of all pixels"
        own = 100 * dense["accuracy"]
        others = {name: 100 * value["accuracy"] for name, value in dense.get("baselines", {}).items()}
    else:
        own = scores(evaluation)["shot_10"]
        text = f"With 10 labels a class a linear classifier on these features is right {own:.1f} % of the time"
        others = {name: scores(value)["shot_10"] for name, value in evaluation.get("baselines", {}).items()}
    if not others:
        return text + "."
    name, best = max(others.items(), key=lambda item: item[1])
    words = "better than" if own > best else "as good as" if own == best else "worse than"
    return f"{text}, {words} the best baseline ({BASELINES.get(name, name)}, {best:.1f} %)."
