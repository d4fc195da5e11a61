"""`swell evaluate` and `swell embed`: what encoders are good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from swell.commands import Result
from swell.options import argument, option


@dataclass(frozen=True)
class Evaluate:
    """Probe a frozen encoder on labelled DATA: kNN, linear, few labels, clusters, and the baselines beside it."""

    run: str = argument("RUN folder")
    data: Sequence[str] = argument("labelled data to probe with; further ones are for transfer", nargs="+")
    test: Sequence[str] = option("labelled test data of the first DATA, then of the next; - for a part of DATA", (),
                                 "their own test split, or a fixed part", many=True)  # fmt: skip
    labels: Sequence[str] = option("key of the labels, an array of an .npz or a column of a table or obs: of all DATA, "
                                   "or of each; - for the usual", (), "labels, label or y", many=True)  # fmt: skip
    no_baselines: bool = option("leave out pixels, PCA and a random encoder", False)
    retrieval: bool = option("also retrieval: mean average precision and recall at 1, 5 and 10", False)
    few_labels: str | None = option(
        "also the linear probe with shares of the labels, or so many a class: 1%,10%,5", None
    )
    corruptions: bool = option("also the probe on test samples with noise, blur, less contrast, pixels", False)
    full: bool = option("all three of these, few labels being 1%,10%", False)
    ood: Sequence[str] = option("data of another kind, to be told from the test samples by the distance to DATA", (),
                                many=True)  # fmt: skip
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
        from swell.evaluation.few_labels import BUDGETS
        from swell.report.evaluate_text import summary
        from swell.run import Run

        tests: list[str | None] = [None if path == "-" else path for path in self.test] or [None]
        run, own = Run(self.run), ("run", "data", "test", "labels", "no_baselines", "full", "json_")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        if self.full:
            given |= {"retrieval": True, "corruptions": True, "few_labels": self.few_labels or BUDGETS}
        result = run.evaluate(
            self.data[0],
            tests[0],
            [True if key == "-" else key for key in self.labels] or True,
            transfer=self.data[1:],
            transfer_tests=tests[1:],
            baselines=not self.no_baselines,
            **given,
        )
        return result, summary(result, run.path)
