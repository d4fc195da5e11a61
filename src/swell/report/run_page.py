"""The report of a single run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from swell import __version__
from swell.console import duration
from swell.data.source import Source
from swell.evaluation.dense import DensePictures
from swell.recipes import Recipe
from swell.report.galleries import galleries_of
from swell.report.label_free_table import label_free_table
from swell.report.page import Cell, Page, write_report
from swell.report.phase_log import phase_notices, phase_tables
from swell.report.sections import (
    BASELINES,
    costs,
    dense_table,
    embedding_map,
    encode_some,
    finetune_table,
    loss_chart,
    pairs,
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
    """Write RUN/report.html: before the probe without scores, after it with them.

    Args:
        shown: the samples of the map and the spectrum.
        real, generated: what the run was trained on, where it is at hand; shown beside each other.
        dense: test scenes with what the dense probe takes every pixel for.
    """
    recipe, ledger = run.recipe, run.ledger
    some, features = encode_some(run.encoder, shown)
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
    verdict = "The encoder is trained. Probe it with `swell evaluate` to see how good its features are."
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
        verdict = _verdict(evaluation)
    tables += phase_tables(phases, recipe.generator_positives)
    write_report(
        run.path / "report.html",
        Page(
            title=f"Pre-training run: {run.path.resolve().name}",
            verdict=verdict,
            facts=facts,
            notices=notices,
            tables=tables,
            curves=[loss_chart({recipe.method: run.metrics}, HARDER if phases else "")],
            spectra=[spectrum_chart({"encoder": features})],
            galleries=galleries_of(run, shown, dense),
            pairs=pairs(generated, real),
            maps=[embedding_map(recipe.method, features, some)],
            recipe=(run.path / "recipe.toml").read_text(encoding="utf-8"),
            footer=f"swell {__version__}",
        ),
    )


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
        size = "whole" if group.size is None else f"{group.size} pixels"
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
    words = "better than" if own > best else "no better than"
    return f"{text}, {words} the best baseline ({BASELINES.get(name, name)}, {best:.1f} %)."
