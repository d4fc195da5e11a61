"""Scenes from a folder of images and a folder of masks beside it.

The mask of ``street/0001.jpg`` is ``street/0001.png`` in the masks' folder: a grey or palette PNG of the image's
height and width, as the image is shown (after its EXIF orientation). A pixel's value, or its palette index, is its
class; 255 is no class. Image and mask are cut to the centre square and resized together: the image as everywhere, the
mask to the nearest pixel, because the mean of two classes is a third one.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from swell.console import Progress
from swell.data.folder_listing import ImageFile, list_images
from swell.data.images import DAMAGED, content_of, decode, refuse_bomb, square
from swell.data.mosaics import IGNORE
from swell.errors import InputError

UNLABELLED = 255  # in a mask's file
_GREY, _PALETTE = 0, 3  # colour types of a PNG


@dataclass(frozen=True)
class Masked:
    """Images uint8 [M, C, H, W] and maps int16 [M, H, W] in memory; a slice of it is what `Scenes` promises."""

    images: np.ndarray
    maps: np.ndarray
    classes: Sequence[str]
    origin: str

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return self.images[rows], self.maps[rows]

    def subset(self, index: np.ndarray) -> Masked:
        return replace(self, images=self.images[index], maps=self.maps[index])

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256(f"{self.images.shape}".encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.maps).data)
        return {"source": "masks", "origin": self.origin, "fingerprint": digest.hexdigest()[:16]}


def open_masks(images: Path | str, masks: Path | str, size: int, channels: int = 3, *, quiet: bool = False) -> Masked:
    """The images at any depth of the folder `images` with their masks, as squares of side `size`.

    Raises:
        InputError: no such folder, fewer than two images, an unreadable image or mask, a mask that is missing, has
            another size than its image or is no PNG of 8-bit grey or a palette; one class in all masks together.
    """
    root, beside = (Path(os.path.expanduser(folder)) for folder in (images, masks))
    for folder, what in ((root, "images"), (beside, "masks")):
        if not os.path.isdir(folder):
            raise InputError(f"{folder} (no folder)", f"a folder of {what}", "masks go with images in a folder")
    files, _ = list_images(root)
    if len(files) < 2:
        raise InputError(f"{root} holds {len(files)} images", "at least two images with masks", "check the folder")
    names = [str(Path(file.path).with_suffix(".png")) for file in files]
    if missing := [name for name in names if not os.path.isfile(beside / name)]:
        given = f"{beside}: {len(missing):,} of {len(files):,} masks are missing, the first {missing[0]}"
        raise InputError(given, "a PNG of the same relative name for every image", "add them or move the images away")
    pictures = np.empty((len(files), channels, size, size), np.uint8)
    maps = np.empty((len(files), size, size), np.int16)
    with Progress("opening masks", len(files), "images", quiet=quiet) as bar:
        for i, (file, name) in enumerate(zip(files, names, strict=True)):
            pictures[i], upright = _image(root, file, size, channels)
            maps[i] = _mask(beside / name, upright, size)
            bar.update(i + 1)
    held = np.unique(maps[maps != IGNORE])
    if len(held) < 2:
        told = f"the class {held[0]} alone" if len(held) else "no class at all"
        raise InputError(f"{beside}: masks that hold {told}", "at least two classes", "choose other masks")
    classes = [str(k) for k in range(int(held[-1]) + 1)]
    return Masked(pictures, maps, classes, str(beside).encode("utf-8", "backslashreplace").decode())


def split_masks(scenes: Masked, test_share: float = 0.3, seed: int = 0) -> tuple[Masked, Masked]:
    """Train and test scenes, the latter a random `test_share`, fixed by the seed."""
    order = np.random.default_rng(seed).permutation(len(scenes))
    held = min(max(1, round(test_share * len(scenes))), len(scenes) - 1)
    return scenes.subset(np.sort(order[held:])), scenes.subset(np.sort(order[:held]))


def of_same_classes(train: Masked, test: Masked) -> tuple[Masked, Masked]:
    """Both with the classes of the one that has more."""
    classes = max(train.classes, test.classes, key=len)
    return replace(train, classes=classes), replace(test, classes=classes)


def has_class_folders(images: Path | str) -> bool:
    """Whether every image of the folder lies in a sub-folder, which names its class where labels are asked for."""
    files, _ = list_images(Path(os.path.expanduser(images)))
    return all("/" in file.path for file in files)


def _image(root: Path, file: ImageFile, size: int, channels: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The image, uint8 [C, S, S], and the width and height it is shown at."""
    try:
        content = content_of(root, file)
        pixels = decode(content, size, channels)
        with Image.open(io.BytesIO(content)) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return pixels, (image.height, image.width) if turned else image.size
    except DAMAGED as error:
        todo = "mend it or remove it and its mask"
        raise InputError(f"{root / file.path} ({_reason(error)})", "a readable image", todo) from None


def _mask(path: Path, upright: tuple[int, int], size: int) -> np.ndarray:
    """Classes int16 [S, S]."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG",)) as mask:
            refuse_bomb(mask, len(content))
            mask.load()
    except DAMAGED as error:
        todo = "mend it or remove it and its image"
        raise InputError(f"{path} ({_reason(error)})", "a readable PNG", todo) from None
    bits, kind = content[24], content[25]  # of the header, which comes first in every PNG
    if (bits, kind) not in ((8, _GREY), (1, _GREY)) and kind != _PALETTE:  # grey of 2 or 4 bits would be stretched to 8
        raise InputError(f"{path} (a PNG of mode {mask.mode}, {bits} bits)", "8-bit grey or a palette", "convert it")
    if mask.size != upright:
        sides = [f"{width} x {height} pixels" for width, height in (mask.size, upright)]
        raise InputError(f"{path} ({sides[0]})", f"its image's {sides[1]}", "make masks of the images' size")
    indices = Image.fromarray(np.asarray(mask).astype(np.uint8))
    values = np.asarray(square(indices, size, Image.Resampling.NEAREST)).astype(np.int16)
    return np.where(values == UNLABELLED, np.int16(IGNORE), values)


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not recognised as one"
    return (str(error) or type(error).__name__).splitlines()[0]
