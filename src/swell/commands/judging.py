"""`swell evaluate`, `swell embed` and `swell compare`: what encoders are good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from swell.commands import Result
from swell.options import argument, option


@dataclass(frozen=True)
class Evaluate:
    """Probe a frozen encoder on labelled DATA: kNN, linear, few labels, clusters, and the baselines beside it."""

    run: str = argument("RUN folder")
    data: str = argument("labelled data to probe with")
    test: str | None = option("labelled test data; else a fixed part of DATA", None)
    labels: str | None = option("key of the labels: an array of an .npz, a column of a table or of obs", None)
    no_baselines: bool = option("leave out pixels, PCA and a random encoder", False)
    patches: int | None = option("also probe the mean features of this many patches of each sample", None)
    patch_mode: str | None = option("grid (the same patches every time) or random", None, "grid")
    draws: int | None = option("draws of random patches, for their sd", None, "5")
    dense: bool = option("also probe cells of the feature map: what does every pixel of mosaics of DATA show?", False)
    tiles: int | None = option("--dense: samples along a side of a mosaic, 2 to 4", None, "2")
    masks: str | None = option(
        "--dense: folder of PNG masks (pixel value = class) of the images in DATA", None, "mosaics"
    )
    test_masks: str | None = option("--masks: those of the images in --test", None, "a fixed part of --masks")
    finetune: bool = option("also fine-tune a copy of the encoder on the labels", False)
    label_fraction: float | None = option("--finetune: share of the labels to train on", None, "1")
    finetune_epochs: float | None = option("--finetune: passes over these", None, "20, or what 500 steps come to")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.report.evaluate_text import summary
        from swell.run import Run

        run, own = Run(self.run), ("run", "data", "labels", "no_baselines", "json_")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        result = run.evaluate(self.data, labels=self.labels or True, baselines=not self.no_baselines, **given)
        return result, summary(result, run.path)


@dataclass(frozen=True)
class Embed:
    """Write the features of DATA to a file: .npz, .parquet, or an .h5ad that is DATA with them in obsm["X_swell"]."""

    run: str = argument("RUN folder")
    data: str = argument("what to encode")
    out: str = option("file to write, ending in .npz, .parquet or .h5ad")
    patches: int | None = option("mean features of this many patches of each sample", None, "the whole sample")
    patch_mode: str | None = option("grid (the same patches every time) or random", None, "grid")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.verbs import embed

        shape = embed(self.run, self.data, self.out, patches=self.patches, patch_mode=self.patch_mode)
        return {"out": self.out, "shape": list(shape)}, f"features [{shape[0]:,}, {shape[1]}] in {self.out}"


@dataclass(frozen=True)
class Compare:
    """Compare evaluated RUN folders at equal budget: accuracy, costs and ranks that chance does not explain."""

    runs: Sequence[str] = argument("RUN folders; those that differ in their seed only are one arm", nargs="+")
    out: str = option("folder for compare.json, table.md and report.html")
    by: str = option("score to rank by: linear, knn, few_shot_1, few_shot_10, dense or finetune", "linear")
    budget: str | None = option(
        "what must be equal: seconds, flops, views, samples, forwards, teacher_forwards or pixels", None, "what is"
    )
    across_data: bool = option("accept runs that were pre-trained on different data", False)
    force: bool = option("replace an earlier comparison in --out", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.report.compare_text import summary
        from swell.verbs import compare

        result = compare(
            self.runs, self.out, by=self.by, budget=self.budget, across_data=self.across_data, force=self.force
        )
        return result, summary(result, Path(self.out))
