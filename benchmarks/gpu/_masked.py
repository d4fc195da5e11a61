"""Masked modelling and SimCLR on the same ViT-tiny, 200 epochs of CIFAR-10 each: an item of run.py for each arm."""

from __future__ import annotations

from typing import Any

from swell.data.source import Source
from swell.evaluation.dense import evaluate_dense, mosaics_of
from swell.evaluation.finetune import finetune
from swell.recipes import Recipe
from swell.run import Run

EPOCHS, NEEDS = 200.0, 12.0  # of an arm, and the minutes of all of it
FRACTION = 0.1  # of the labels, for fine-tuning
ARMS: dict[str, dict[str, Any]] = {
    "vit-mae": {"method": "mae"},
    "vit-mixed-ae": {"method": "mixed_ae"},
    "vit-naive": {
        "method": "mixed_ae",
        "method_options": {"homologous": False, "contrast": 0.0, "segments": False},
    },
    "vit-simclr": {"method": "simclr", "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
}


def recipe_of(arm: str, tiny: bool) -> Recipe:
    """The arm's recipe; `tiny` makes the net shallow."""
    options = {"patch": 4, **({"depth": 2} if tiny else {})}
    recipe = Recipe(preset="small", backbone="vit_tiny", backbone_options=options, **ARMS[arm])
    return recipe.with_budget(epochs=EPOCHS)


def dense_and_tuned(run: Run, train: Source, test: Source) -> dict[str, float]:
    """Mean IoU on mosaics, and accuracy fine-tuned on a tenth of the labels, in per cent."""
    dense, _ = evaluate_dense(run.encoder, *mosaics_of(train, test), baselines=False)
    tuned = finetune(run.encoder, train, test, quiet=True, fraction=FRACTION)
    return {"dense_miou": 100 * dense["miou"], "finetune": 100 * tuned["accuracy"]}
