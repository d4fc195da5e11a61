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
from swell.report.page import Cell, Page, write_report
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

if TYPE_CHECKING:
    from swell.run import Run


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
        ("pre-trained on", f"{origin.get('real', 'unknown')}, samples of {' x '.join(map(str, shown.shape))}"),
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
        ("map and pictures of", _whose(run, shown)),
    ]
    notices = []
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
        if "dense" in evaluation:
            tables.append(dense_table(evaluation["dense"]))
        if "finetune" in evaluation:
            tables.append(finetune_table(evaluation["finetune"]))
        verdict = _verdict(evaluation)
    write_report(
        run.path / "report.html",
        Page(
            title=f"Pre-training run: {run.path.resolve().name}",
            verdict=verdict,
            facts=facts,
            notices=notices,
            tables=tables,
            curves=[loss_chart({recipe.method: run.metrics})],
            spectra=[spectrum_chart({"encoder": features})],
            galleries=galleries_of(run, shown, dense),
            pairs=pairs(generated, real) if generated is not None and real is not None else None,
            maps=[embedding_map(recipe.method, features, some)],
            recipe=(run.path / "recipe.toml").read_text(encoding="utf-8"),
            footer=f"swell {__version__}",
        ),
    )


def _whose(run: Run, shown: Source) -> str:
    if shown.fingerprint == run.data_fingerprints.get("real"):
        return "the samples it was trained on"
    return f"{len(shown):,} samples of {shown.provenance.origin}"


def _views(recipe: Recipe) -> str:
    assert not isinstance(recipe.views, str)
    parts = [
        f"{group.count} {group.role} of {'the whole size' if group.size is None else f'{group.size} pixels'}, "
        f"area {group.scale[0]:g} to {group.scale[1]:g}"
        for group in recipe.views.groups
    ]
    return f"{recipe.views.count} of each sample ({'; '.join(parts)}) at strength {recipe.strength:g}"


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
