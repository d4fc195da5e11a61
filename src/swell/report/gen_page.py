"""The page of a generated set: its verdict, what it cost, how its training went, and pictures beside real samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from swell import __version__
from swell.console import duration
from swell.data.gen import read_manifest
from swell.data.source import Source
from swell.files import read_json
from swell.generators.generate import first_samples
from swell.generators.neighbours import AROUND, nearest_real
from swell.generators.registry import split_held_out
from swell.ledger import Cost, Ledger
from swell.report.copies import copy_flags
from swell.report.page import Cell, Chart, Column, Page, Pairs, Series, Table, write_report

TOLD = ("objective", "sampler", "evaluations", "pipeline", "scheduler", "bandwidth")  # of the sampler's settings
ADVICE = {
    "good": "hard to tell from real samples: worth mixing in.",
    "usable": "clearly not real to a classifier, but not absurd: mix them in with a weight, and compare with real data "
    "alone.",
    "poor": "easy to tell from real samples: mixing them in will more likely hurt than help.",
}
SPACES = {
    "reference": "encoder trained on the real samples",
    "random_network": "network with random weights",
    "pca": "principal components",
    "user": "the user's own features",
}


def write_gen_report(gen: Path, real: Source) -> None:
    """Write GEN/report.html; `real` is what the generator learnt from."""
    quality, manifest = read_json(gen / "quality.json"), read_manifest(gen)
    verdict = quality["verdict"]
    written, provenance = read_json(gen / "ledger.json"), manifest["provenance"]
    ledger = Ledger.from_dict(written)
    train = real.samples[split_held_out(len(real), manifest["seed"])[0]]
    generated = first_samples(gen, manifest["shards"], 5000)
    write_report(
        gen / "report.html",
        Page(
            title=f"Generated samples: {gen.resolve().name}",
            verdict=f"{verdict.capitalize()}: {ADVICE[verdict]} Why: {quality['verdict_reason']}.",
            facts=[
                ("made by", _maker_words(manifest["generator"], written["parameters"], quality)),
                ("samples", f"{manifest['count']:,} of {' x '.join(map(str, manifest['shape']))}"),
                ("training", _cost_words(ledger.generator_training)),
                ("sampling", _sampling_words(ledger.sampling)),
                *[(name, str(manifest["sampler"][name])) for name in TOLD if name in manifest["sampler"]],
            ],
            notices=_notices(provenance, quality),
            tables=[_spaces_table(quality), _copies_table(quality)],
            curves=_curves(quality["training"]),
            pairs=_pairs(generated, train, quality) if real.is_images else None,
            recipe=tomli_w.dumps(_without_none(manifest["settings"])),
            footer=f"swell {__version__}",
        ),
    )


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in value.items() if v is not None}


def _maker_words(generator: str, parameters: int, quality: dict[str, Any]) -> str:
    size = f" of {parameters:,} parameters" if parameters else ""
    return f"{generator}{size}, set against {quality['real'] - quality['held_out']:,} training samples"


def _cost_words(cost: Cost) -> str:
    if cost.seconds == 0:
        return "not known"
    return f"{duration(cost.seconds)}, {cost.samples_real:,} samples shown, {cost.flops / 1e12:,.1f} TFLOP"


def _sampling_words(cost: Cost) -> str:
    if not cost.samples_generated:
        return "not known"
    each = 1000 * cost.seconds / cost.samples_generated
    flops = cost.flops / cost.samples_generated / 1e9
    return f"{duration(cost.seconds)}: {each:.2f} s for 1,000 samples, {flops:.3f} GFLOP each"


def _notices(provenance: dict[str, Any], quality: dict[str, Any]) -> list[str]:
    told = []
    if provenance["labels_used"]:
        told.append("Labels helped to make these samples: no encoder trained on them is label-free.")
    if provenance["filtered"]:
        told.append("The samples were filtered: what is told here holds for those that were kept.")
    return [*told, *([quality["note"]] if quality["note"] else [])]


def _spaces_table(quality: dict[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, space in quality["spaces"].items():
        numbers: dict[str, Cell] = {key: space[key] for key in space if key in quality["meaning"]}
        rows.append({"name": SPACES[name], **numbers, "c2st": 100 * space["c2st"]})
    meaning, columns = quality["meaning"], [Column("name", "seen by", better=None)]
    columns.append(Column("c2st", "told apart", meaning["c2st"], "%", better=None))
    for key, word in (
        ("frechet_ratio", "Frechet"),
        ("kernel_distance_ratio", "kernel"),
        ("density_ratio", "density"),
        ("coverage_ratio", "coverage"),
        ("effective_rank_ratio", "rank"),
    ):
        columns.append(Column(key, word, meaning[key], better=None))
    return Table(
        "How like real samples are they?",
        columns,
        rows,
        "All but the first are ratios to what real samples get against real ones: 1 is as good as real. 50 % told "
        "apart means that a classifier can only guess.",
    )


def _copies_table(quality: dict[str, Any]) -> Table:
    names = ("copy_excess", "copy_distance_ratio", "exact_copies", "duplicates", "duplicates_real")
    columns = [Column("name", "samples", better=None)]
    columns += [Column(name, name.replace("_", " "), quality["meaning"][name], better=None) for name in names]
    row: dict[str, Cell] = {"name": "generated", **{name: quality[name] for name in names}}
    return Table("Are they copies?", columns, [row])


def _curves(history: list[dict[str, float]]) -> list[Chart]:
    """Held-out loss by noise level, where the generator told it; else its one held-out number."""
    keys = [key for key in (history[-1] if history else {}) if key.startswith("held_out")]
    lines = [Series(_line(key), [h["step"] for h in history], [h[key] for h in history]) for key in keys]
    note = "On samples never learnt from. Where the lines rise, the generator begins to copy; the best point is kept."
    return [Chart("Training of the generator", "step", "held-out loss", lines, note=note)] if lines else []


def _line(key: str) -> str:
    return "all" if key == "held_out_loss" else f"noise level {key.rsplit('_', 1)[1]}"


def _pairs(generated: np.ndarray, train: np.ndarray, quality: dict[str, Any]) -> Pairs:
    closest = np.array(quality["nearest_pairs"])  # [n, 2]
    index, distance = nearest_real(generated[closest[:, 0]], train, AROUND)
    return Pairs(
        "The generated samples that are closest to a training sample",
        generated[closest[:, 0]],
        train[index[:, 0]],
        distance[:, 0],
        "If the generator copies, these are the copies: each is shown beside the real sample nearest to it. Marked are "
        "pairs that are the same, or closer than all but one in a hundred training samples are to another one.",
        copy_flags(distance, train),
    )
