"""Parts of a report made from runs and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from swell.evaluation.label_free import spectrum
from swell.ledger import Cost, Ledger
from swell.report.page import Chart, Column, Series, Table
from swell.report.tables import Cell, memory, seconds

SPECTRUM_ROWS = 2048

SCORE_COLUMNS = [
    Column("shot_1", "1-shot", unit="%"),
    Column("shot_10", "10-shot", unit="%"),
    Column("knn", "kNN", unit="%"),
    Column("linear", "linear", unit="%"),
    Column("nmi", "NMI", unit="%"),
]
COST_COLUMNS = [
    Column("seconds", "time", unit="s", better=None),
    Column("flops", "FLOPs", unit="flop", better=None),
    Column("real", "real", unit="count", better=None),
    Column("generated", "generated", unit="count", better=None),
    Column("memory", "memory", unit="bytes", better=None),
]


def scores(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The five headline numbers of the probe, in per cent, by column key."""
    return {
        "shot_1": 100 * evaluation["few_shot"]["1"],
        "shot_10": 100 * evaluation["few_shot"]["10"],
        "knn": 100 * evaluation["knn"]["accuracy"],
        "linear": 100 * evaluation["linear"]["accuracy"],
        "nmi": 100 * evaluation["clusters"]["nmi"],
    }


def costs(ledger: Ledger) -> dict[str, float]:
    """The cost columns: pre-training, with the generator's training and sampling where there was one, and a search."""
    own, made = ledger.pretraining, (ledger.generator_training, ledger.sampling, ledger.search)
    return {
        "seconds": own.seconds + sum(part.seconds for part in made),
        "flops": own.flops + sum(part.flops for part in made),
        "real": own.samples_real,
        "generated": own.samples_generated,
        "memory": ledger.peak_memory_bytes,
    }


BASELINES = {"pixels": "raw pixels", "features": "prepared features", "pca": "their principal components",
             "random_init": "untrained encoder",
             "commonest": "the commonest class everywhere"}  # fmt: skip


def probe_table(
    rows: Sequence[Mapping[str, Cell]], baselines: Mapping[str, Mapping[str, Any]], note: str = ""
) -> Table:
    """Rows of scores and costs, and the baselines by the same probe under them."""
    below: list[dict[str, Cell]] = [
        {"name": BASELINES.get(name, name), "group": "Baselines, by the same probe", **scores(value)}
        for name, value in baselines.items()
    ]
    return Table(
        "How good are the features?",
        [Column("name", "encoder", better=None), *SCORE_COLUMNS, *COST_COLUMNS],
        [*rows, *below],
        note,
    )


DENSE_COLUMNS = [
    Column("name", "encoder", better=None),
    Column("miou", "mean IoU", "Of the pixels that are of a class or are taken for it, the share that are both; the "
           "mean over classes. Stricter than accuracy: a class that is never named counts as 0.", "%", None),
    Column("accuracy", "accuracy", "Share of pixels named correctly.", "%", None),
]  # fmt: skip


def dense_table(dense: Mapping[str, Any]) -> Table:
    """The dense probe's scores, its baselines and the most that cells of this size allow."""

    def row(name: str, value: Mapping[str, Any], group: str = "") -> dict[str, Cell]:
        return {"name": name, "group": group, "miou": 100 * value["miou"], "accuracy": 100 * value["accuracy"]}

    height, width = dense["grid"]
    rows = [row("this encoder", dense)]
    for name, value in dense.get("baselines", {}).items():
        rows.append(row(BASELINES.get(name, name), value, "Baselines, by the same probe"))
    rows.append(row(f"all {height} x {width} cells right", dense["ceiling"], "The most that such cells allow"))
    made, count = dense["test"]["source"] == "mosaics", f"{dense['n_train']:,} scenes, {dense['n_test']:,} for the test"
    if made:
        tiles = dense["test"]["tiles"]
        what = f"{count}: mosaics of {tiles} x {tiles} labelled samples, so every pixel is of a class"
    else:
        what = f"{count}, with the masks given beside them"
    note = (
        f"A linear classifier on single cells of the feature map ({dense['features']} numbers each) names every pixel. "
        f"{what}. It took {seconds(dense['seconds'])} and {dense['forwards']:,} scenes encoded, the baselines aside."
    )
    return Table("Does it see what is where?", DENSE_COLUMNS, rows, note)


FINETUNE_COLUMNS = [
    Column("name", "encoder", better=None),
    Column("accuracy", "accuracy", "Share of test samples named correctly.", "%"),
    Column("balanced", "balanced", "The same with every class counting alike, however rare it is.", "%"),
    Column("labels", "labels", "Labelled samples to train on.", "count", None),
    Column("steps", "steps", unit="count", better=None),
    Column("seconds", "time", unit="s", better=None),
    Column("flops", "FLOPs", unit="flop", better=None),
]


def finetune_table(tuned: Mapping[str, Any]) -> Table:
    """Fine-tuning from the encoder and, where that was done too, from random weights."""

    def row(name: str, value: Mapping[str, Any]) -> dict[str, Cell]:
        return {
            "name": name,
            "accuracy": 100 * value["accuracy"],
            "balanced": 100 * value["balanced_accuracy"],
            "labels": value["n_labels"],
            "steps": value["steps"],
            "seconds": value["seconds"],
            "flops": value["flops"],
        }

    rows = [row("from this encoder", tuned)]
    note = (
        f"All layers are trained on {100 * tuned['fraction']:.3g} % of the labels ({tuned['n_labels']:,}) for "
        f"{tuned['epochs']:.3g} passes and tested on {tuned['n_test']:,} samples."
    )
    if "from_scratch" in tuned:
        rows.append(row("from random weights", tuned["from_scratch"]))
        note += " What pre-training is worth is the difference between the rows: the second learnt from labels alone."
    return Table("How good is it after fine-tuning?", FINETUNE_COLUMNS, rows, note)


def loss_chart(metrics: Mapping[str, Sequence[Mapping[str, Any]]], note: str = "") -> Chart:
    """Loss over steps, a line a run; `note` says what is special about it."""
    series = [Series(name, [m["step"] for m in lines], [m["loss"] for m in lines]) for name, lines in metrics.items()]
    return Chart(
        "Loss while training",
        "step",
        "loss",
        series,
        note="The loss of one batch. Weaker views make the task easier: a lower curve does not mean better features."
        + f" {note}" * bool(note),
    )


def spectrum_chart(features: Mapping[str, np.ndarray]) -> Chart:
    """Eigenvalues of the features' covariance, largest first and scaled to 1, a line an encoder."""
    series = []
    for name, z in features.items():
        rows = np.linspace(0, len(z) - 1, min(SPECTRUM_ROWS, len(z))).astype(int)
        values = np.square(spectrum(torch.from_numpy(z[rows])).numpy())
        series.append(Series(name, np.arange(1, len(values) + 1), values / values[0]))
    return Chart(
        "Spectrum of the features",
        "direction",
        "variance, share of the largest",
        series,
        log_y=True,
        note="Eigenvalues of the features' covariance. A line that falls off a cliff means that the encoder uses few "
        "of its directions (collapse).",
    )


PARTS = {
    "generator_training": "generator, training",
    "sampling": "generator, sampling",
    "search": "search",
    "pretraining": "pre-training",
    "evaluation": "evaluation",
}
PART_COLUMNS = [
    Column("name", "part", better=None),
    Column("seconds", "time", unit="s", better=None),
    Column("share", "of the time", "Share of the time of all parts.", "share", None),
    Column("flops", "FLOPs", "Arithmetic done (floating-point operations), where it was counted: not in evaluation.",
           "flop", None),
    Column("samples_real", "real", unit="count", better=None),
    Column("samples_generated", "generated", unit="count", better=None),
    Column("views", "views", "Distorted versions of samples that were made.", "count", None),
    Column("forwards", "forwards", "How many views or samples went through the network.", "count", None),
]  # fmt: skip


def cost_table(ledger: Ledger) -> Table:
    """What the time and the arithmetic went for, part by part."""
    total = ledger.total
    known = {words: getattr(ledger, part) for part, words in PARTS.items() if any(vars(getattr(ledger, part)).values())}
    rows: list[dict[str, Cell]] = [
        {"name": words, "share": cost.seconds / max(total.seconds, 1e-9), **_spent(cost)}
        for words, cost in known.items()
    ]
    if len(rows) > 1:
        rows.append({"name": "in all", "group": "Together", "share": 1.0, **_spent(total)})
    columns = [c for c in PART_COLUMNS if any(row.get(c.key) is not None for row in rows)]
    return Table("What did it cost?", columns, rows, f"Peak memory {memory(ledger.peak_memory_bytes)}.")


def _spent(cost: Cost) -> dict[str, Cell]:
    """The columns of a part; what it does not have is a gap."""
    return {key: value or None for key, value in vars(cost).items()}
