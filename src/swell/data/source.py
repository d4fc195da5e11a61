"""A source: where samples come from, real or generated, and what is known about their origin."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from swell.errors import InputError

if TYPE_CHECKING:
    from swell.data.preparation import Preparation
    from swell.data.sparse import Index

_HASHED = 4096  # rows at a time, which sparse ones are dense for


@dataclass(frozen=True)
class Provenance:
    """Where the samples come from. Travels with them into every run and report.

    `labels_used` is true when the generator saw labels (class-conditional) or a supervised model filtered its output.
    """

    kind: Literal["real", "generated"]
    origin: str  # a path, builtin:NAME or "array"
    generator: str = ""  # registry name, generated sources only
    trained_on: str = ""  # fingerprint of the data the generator saw
    conditional: bool = False
    filtered: bool = False
    labels_used: bool = False
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        printable = str(self.origin).encode("utf-8", "backslashreplace").decode()  # paths may hold any byte
        object.__setattr__(self, "origin", printable)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Source:
    """Samples: images uint8 [N, C, H, W], or vectors float32 [N, D], as an array, as `SparseRows` or as `PackedImages`.

    Vectors are prepared: `preparation` says how, so that a run can do the same to later data.
    `labels` [N] int64 are present only when they were asked for (``swell.open(data, labels=True)``); nothing in
    pre-training, generation or selection reads them.
    """

    samples: Any  # np.ndarray, swell.data.sparse.SparseRows or swell.data.packed.PackedImages
    provenance: Provenance
    labels: np.ndarray | None = None
    classes: Sequence[str] = ()
    skipped: Sequence[str] = field(default_factory=tuple)  # "path: reason" of every unreadable file
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        a = self.samples
        image = a.ndim == 4 and a.dtype == np.uint8
        vector = a.ndim == 2 and a.dtype == np.float32
        if not (image or vector):
            raise InputError(f"samples {a.dtype}{list(a.shape)}", "images uint8 [N, C, H, W] or vectors float32 [N, D]")
        if self.labels is not None and len(self.labels) != len(a):
            given = f"{self.provenance.origin}: {len(self.labels)} labels for {len(a)} samples"
            raise InputError(given, "one label a sample")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def is_images(self) -> bool:
        return self.samples.ndim == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W) or (D,)."""
        return tuple(self.samples.shape[1:])

    @property
    def fingerprint(self) -> str:
        """sha256 of shape and contents (first 16 hex digits); equal data give equal fingerprints wherever they lie."""
        cached: str | None = self.__dict__.get("_fingerprint") or getattr(self.samples, "fingerprint", None)
        if cached is None:
            h = hashlib.sha256(f"{self.samples.dtype}{self.samples.shape}".encode())
            for start in range(0, len(self.samples), _HASHED):
                h.update(np.ascontiguousarray(self.samples[start : start + _HASHED]).tobytes())
            cached = h.hexdigest()[:16]
            object.__setattr__(self, "_fingerprint", cached)
        return cached

    def subset(self, index: Index) -> Source:
        """The rows `index`, labels along with them; sparse ones stay sparse."""
        labels = None if self.labels is None else self.labels[index]
        dense = isinstance(self.samples, np.ndarray)
        return replace(self, samples=self.samples[index] if dense else self.samples.subset(index), labels=labels)

    def unlabelled(self) -> Source:
        return replace(self, labels=None, classes=())
