"""What every arm of the race shares: data, net, batch, views and heads. Standard library only, so that any tool's
environment can import it.

Views are those of solo-learn's CIFAR settings without the blur, which lightly's CIFAR example leaves out as well; heads
are those of lightly's examples. Both tools and Swell can be told all of it through their own options.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


@dataclass(frozen=True)
class Colour:
    """Jitter half-widths; every view also: area 0.08 to 1, jitter with p 0.8, grey 0.2, flip 0.5, no blur."""

    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class Setting:
    """One method: its colours, how often each of its two views is solarised, sizes of its heads, published settings.

    `rate` is the learning rate of each tool's CIFAR-10 settings for 256 samples a batch, by the name of the tool.
    """

    colour: Colour
    solarise: tuple[float, float]
    heads: dict[str, Any]
    rate: dict[str, float]


STRONG, MILD = Colour(0.8, 0.8, 0.8, 0.2), Colour(0.4, 0.4, 0.2, 0.1)
LIGHTLY_RATE = 0.12  # SGD, 0.06 for 128, momentum 0.9, weight decay 5e-4, cosine: the CIFAR-10 benchmark of its docs
METHODS = {
    "simclr": Setting(
        STRONG,
        (0.0, 0.0),
        {"hidden": 512, "outputs": 128, "temperature": 0.5},
        {"lightly": LIGHTLY_RATE, "solo": 0.4},
    ),
    "byol": Setting(MILD, (0.0, 0.2), {"hidden": 1024, "outputs": 256}, {"lightly": LIGHTLY_RATE, "solo": 1.0}),
    "barlow_twins": Setting(
        MILD, (0.0, 0.2), {"hidden": 2048, "outputs": 2048}, {"lightly": LIGHTLY_RATE, "solo": 0.3}
    ),
    "swav": Setting(
        STRONG, (0.0, 0.0), {"hidden": 512, "outputs": 128, "prototypes": 512}, {"lightly": LIGHTLY_RATE, "solo": 0.6}
    ),
}


def arguments(description: str) -> argparse.Namespace:
    """The command line of an arm."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="uint8 images [N, 3, 32, 32] in a .npy file")
    parser.add_argument("--method", choices=METHODS, default="simclr")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers (default 0)")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast and channels_last; without it fp32, NCHW")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--bound", action="store_true", help="bind OpenMP's threads; workers use all cores")
    parser.add_argument("--fp32", action="store_true", help="Swell in float32")
    parser.add_argument(
        "--as-peer", action="store_true", help="with --minutes: Swell with lightly's batch, views, rate"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="train for so long instead of taking turns")
    parser.add_argument("--test", help="more images in a .npy file, to write features of")
    parser.add_argument("--out", help=".npz for the features of both after --minutes")
    return parser.parse_args()
