"""What the columns mean, for somebody who never read a paper; used where a column has no hint of its own."""

from __future__ import annotations

import re

_WORDS = {
    "knn": (
        "Share of test samples named correctly when each takes the label of the training samples that the "
        "encoder finds most like it. Nothing is trained, so this measures the encoder alone."
    ),
    "linear": (
        "Share of test samples named correctly by the simplest trainable classifier (one linear layer) on "
        "top of the frozen encoder, using every training label."
    ),
    "ari": (
        "How well groups found without labels match the true classes. The highest value is a perfect match, "
        "0 is chance."
    ),
    "nmi": (
        "How much groups found without labels tell about the true classes. The highest value is everything, "
        "0 is nothing."
    ),
    "seconds": "Time on the clock for all the work behind the row.",
    "samples_real": "How many times a real sample was shown to the network.",
    "samples_generated": "How many times a generated sample was made or shown to the network.",
    "flops": ("Arithmetic done (floating-point operations): the cost that does not depend on how fast the machine is."),
    "memory": "The most memory in use at any moment.",
    "rankme": (
        "How many directions of its output the encoder really uses. No labels needed. Near 1 means that "
        "every sample looks alike to it."
    ),
    "alpha_req": (
        "How fast the spectrum falls. No labels needed. Values near 1 are usually good; much larger ones "
        "mean that a few directions carry everything."
    ),
    "lidar": (
        "How many directions tell samples apart after allowing for distortions of the same sample. No labels needed."
    ),
    "alignment": (
        "How far apart two distorted versions of one sample land. Small is good, unless everything lands together."
    ),
    "uniformity": "How evenly samples spread over the space of descriptions. More negative is more even.",
    "feature_std": (
        "How much the encoder's output varies between samples. Near 0 means that it has collapsed to one answer."
    ),
}
_SAME = {"real": "samples_real", "generated": "samples_generated", "time": "seconds"}
_SHOT = re.compile(r"(?:few_)?shot_?(\d+)|(\d+)_?shot")


def hint_for(key: str) -> str:
    """The explanation of a column named `key`, or an empty string.

    >>> hint_for("few_shot_1").startswith("Accuracy when the classifier gets only 1 labelled example")
    True
    """
    word = key.lower().replace("-", "_")
    shot = _SHOT.fullmatch(word)
    if shot:
        count = int(shot[1] or shot[2])
        given = "1 labelled example" if count == 1 else f"{count} labelled examples"
        return (
            f"Accuracy when the classifier gets only {given} of each class: what you can expect with "
            "almost no labelling work."
        )
    return _WORDS.get(_SAME.get(word, word), "")
