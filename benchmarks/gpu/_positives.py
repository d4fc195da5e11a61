"""Generated positives on CIFAR-10 with ResNet-18, each arm for as many minutes: an item of run.py for each arm.

Minutes are of encoder and generator together, so an arm with a generator trains its encoder for half of them; what making the
positives took comes on top and is told beside them. Nothing rolls back.
"""

from __future__ import annotations

from typing import Any

from swell.recipes import Recipe

MINUTES, NEEDS = 6.0, 9.0  # of an arm's training, and of all of it
COUNT = 2  # positives of every image
SIMCLR: dict[str, Any] = {"method": "simclr", "method_options": {"temperature": 0.2}}
MOCO: dict[str, Any] = {"method": "mocov2"}
CONDITIONAL = {"generator_positives": "conditional"}
DIFFAUG: dict[str, Any] = {"method": "diffaug"}
ARMS: dict[str, dict[str, Any]] = {
    "simclr-alone": SIMCLR,
    "simclr-generated": {**SIMCLR, **CONDITIONAL},
    "moco-alone": MOCO,
    "moco-generated": {**MOCO, **CONDITIONAL},
    "diffaug-0": {**DIFFAUG, "generator_positives": "none"},
    "diffaug-half": {**DIFFAUG, **CONDITIONAL, "replace": 0.5},
    "diffaug-1": {**DIFFAUG, **CONDITIONAL},
    "diffaug-zeros": {**DIFFAUG, "generator_positives": "zeros", "replace": 0.5},
    **{
        f"renoised-{strength:g}": {**SIMCLR, "generator_positives": "diffusion", "positive_strength": strength}
        for strength in (0.25, 0.5, 0.75)
    },
}


def recipe_of(arm: str, tiny: bool) -> Recipe:
    """The arm's recipe; `tiny` makes the generator too small to learn."""
    given = dict(ARMS[arm])
    if given.get("generator_positives") in ("conditional", "diffusion"):
        small = {"width": 8, "depth": 1, "batch": 16, "evaluations": 2}
        given |= {"generator_options": small if tiny else {}, "positive_count": COUNT}
    return Recipe(preset="small", minutes=MINUTES, roll_back=False, **given)
