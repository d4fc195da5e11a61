"""Whether generated images have red and blue the wrong way round.

Files written through OpenCV are often in BGR order, and nothing in them says so. Mixed in with RGB images they teach an
encoder that the sky is orange. What tells the two orders apart is whatever of an image changes its sign when red and
blue change places: here six such numbers an image, so that their means a (real) and b (generated) agree where the order
is right and b = -a where it is wrong.
"""

from __future__ import annotations

import numpy as np

from swell.errors import InputError

__all__ = ["check_channel_order"]

MOST = 5000  # images looked at in either set, evenly spaced
FEWEST = 50  # different images in either set: fewer do not tell how much images differ
CHUNK = 256  # images in floating point at once
FINEST = 4 / 255  # any generator is wrong by a few grey levels: finer differences prove nothing
CURVATURE = 0.05  # difference of red and blue, of a range of 1, from which on only its sign counts
SURE = 6.0  # standard errors that a must be from 0
CLEAR = 0.4  # standard deviations of single images that a must be from 0
CLOSE = 0.5  # of a's own length: how far b may be from -a to be called its opposite


def check_channel_order(generated: np.ndarray, real: np.ndarray) -> None:
    """Refuse generated images uint8 [N, 3, H, W] that fit the real ones [M, 3, H, W] only with red and blue exchanged.

    Lengths are measured in standard deviations over the real images, |x|^2 = x' S^-1 x with S their covariance. The set
    is refused where the real images have a red side and a blue side beyond doubt and beyond grey levels, |a| > SURE
    sqrt(1/N + 1/M) and |a| > CLEAR, and the generated ones have them exchanged, |b + a| < CLOSE |a|. That takes the
    agreement of all six numbers: mean, sign of the mean, spread, covariance with green, covariance with brightness from
    image to image, top against bottom. A colour cast or a preference for some kind of images moves one or two. Sets
    without three channels pass, for they have no such order, and so do sets of fewer than FEWEST different images.

    Raises:
        InputError: red and blue are exchanged.
    """
    if generated.ndim != 4 or real.ndim != 4 or generated.shape[1] != 3 or real.shape[1] != 3:
        return
    rows, others = _signed(real), _signed(generated)
    seen, made = _different(rows), _different(others)
    if min(seen, made) < FEWEST:
        return
    spread = np.cov(rows.T) + FINEST**2 * np.eye(rows.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    a, b = whiten @ rows.mean(0), whiten @ others.mean(0)
    length = float(np.linalg.norm(a))
    error = np.sqrt(1 / seen + 1 / made)
    if length > max(SURE * error, CLEAR) and np.linalg.norm(a + b) < CLOSE * length:
        raise InputError(
            "generated images whose colours fit the real ones only with red and blue exchanged",
            "images in RGB order, as the real ones",
            "give --channel-order bgr",
        )


def _signed(images: np.ndarray) -> np.ndarray:
    """float64 [n, 6] of images uint8 [N, 3, H, W]: numbers that change their sign, and nothing else, when red and blue
    change places; all in units of the range of brightness.
    """
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), MOST)).astype(np.int64)]
    within = np.concatenate([_within(chosen[i : i + CHUNK]) for i in range(0, len(chosen), CHUNK)])  # [n, 5]
    mean, brightness = within[:, 0], within[:, -1]
    between = mean * (brightness - brightness.mean()) / (brightness.std() + FINEST)
    bent = CURVATURE * np.tanh(mean / CURVATURE)
    return np.column_stack([mean, bent, between, within[:, 1:-1]]).astype(np.float64)


def _within(images: np.ndarray) -> np.ndarray:
    """[n, 5] of images [n, 3, H, W], with d = red - blue: mean of d, std of red - std of blue, covariance of green
    with d over the std of green, d in the upper half - d in the lower half, and the brightness.
    """
    x = images.astype(np.float32) / 255
    pixels = x.reshape(*x.shape[:2], -1)  # [n, 3, H W]
    std = pixels.std(2)
    green = pixels[:, 1] - pixels[:, 1].mean(1, keepdims=True)
    d = x[:, 0] - x[:, 2]  # [n, H, W]
    half = max(d.shape[1] // 2, 1)
    return np.stack(
        [
            d.mean((1, 2)),
            std[:, 0] - std[:, 2],
            (green * d.reshape(len(d), -1)).mean(1) / (std[:, 1] + FINEST),
            d[:, :half].mean((1, 2)) - d[:, -half:].mean((1, 2)),
            pixels.mean((1, 2)),
        ],
        axis=1,
    )


def _different(rows: np.ndarray) -> int:
    """How many rows differ: repeated images are no further evidence."""
    return len(np.unique(rows, axis=0))
