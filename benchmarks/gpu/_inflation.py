"""The 2 x 2 x 2 of inflation on CIFAR-10 with ResNet-18, 20,000 steps of 512: an item of run.py for each arm.

Published with an online probe, labels in sight during training: 91.56 without, 91.38 with generated samples added, 93.42 with
weight 10 and weak views (AdaInf). Weak views on real samples alone is the arm that the paper lacks.
"""

from __future__ import annotations

from typing import Any

from swell.recipes import Recipe

COUNT, WEIGHT, WEAK = 100_000, 10.0, 0.5
STEPS, BATCH, NEEDS = 20_000, 512, 22.0  # of an arm, and the minutes of all of it
ARMS: dict[str, tuple[bool, float, float]] = {  # with generated samples, weight of the real ones, strength of the views
    "inflate-none": (False, 1.0, 1.0),
    "inflate-weak-only": (False, 1.0, WEAK),
    "inflate-vanilla": (True, 1.0, 1.0),
    "inflate-vanilla-weak": (True, 1.0, WEAK),
    "inflate-weighted": (True, WEIGHT, 1.0),
    "inflate-adainf": (True, WEIGHT, WEAK),
}


def recipe_of(arm: str) -> Recipe:
    """The arm's recipe."""
    inflated, weight, strength = ARMS[arm]
    given: dict[str, Any] = {"weight": weight} if inflated else {}
    recipe = Recipe(method="simclr", preset="small", views="simclr", strength=strength, batch_size=BATCH, **given)
    return recipe.with_budget(steps=STEPS)
