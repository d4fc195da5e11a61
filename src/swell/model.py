"""An encoder and the preparation of its samples: what a run and an exported file have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swell.data.open import open_data
from swell.data.preparation import Preparation
from swell.data.source import Source
from swell.data.stream import ROWS, WHOLE, Part, Share, Stream, ahead, of_source, stream_of
from swell.errors import InputError
from swell.nets.encoder import Encoder
from swell.views.plan import ViewGroup


@dataclass
class Clock:
    """Seconds of the encoder's own work, beside which reading and decoding should not show."""

    forward: float = 0.0


class Model(ABC):
    """Encodes anything `swell.open` takes, at the size and with the preparation of its pre-training.

    Attributes:
        path: where it was loaded from.
        encoder: the net, in eval mode.
        preparation: of vectors; images have none.
    """

    path: Path
    encoder: Encoder
    preparation: Preparation | None

    @property
    @abstractmethod
    def about(self) -> dict[str, str | int]:
        """In plain words and numbers what made the features, to write beside them."""

    @property
    @abstractmethod
    def patch(self) -> ViewGroup:
        """The first group of its views, which says what patches of a sample look like."""

    def open(self, data: Any, labels: bool | str = False, **options: Any) -> Source:
        """Open `data` as the run saw its own: images at the size it was trained on, vectors by its own preparation."""
        shape = self.encoder.config.shape
        if self.encoder.takes_vectors:
            self._refuse_prepared_otherwise(data)
            options |= {"prepare": "none"} if self.preparation is None else {"preparation": self.preparation}
        square = len(shape) == 3 and shape[1] == shape[2]
        size = options.pop("size", None) or (shape[1] if square else None)
        source = open_data(data, labels=labels, size=size, **options)
        if source.is_images and source.shape == (1, *shape[1:]) and shape[0] == 3:  # a folder of grey images only
            grey = source.samples
            coloured = np.repeat(grey, 3, axis=1) if isinstance(grey, np.ndarray) else grey.in_colour()
            source = replace(source, samples=coloured)
        if source.shape != tuple(shape):
            raise InputError(
                f"samples of shape {list(source.shape)}",
                f"the run's shape {list(shape)}",
                "evaluate on data of the same kind",
            )
        return source

    def _refuse_prepared_otherwise(self, data: Any) -> None:
        own = data.preparation if isinstance(data, Source) else None
        if own is not None and (self.preparation is None or own.fingerprint != self.preparation.fingerprint):
            given = f"{data.provenance.origin} ({own.kind}, prepared by what it holds itself)"
            raise InputError(given, "samples prepared as in pre-training", "give the file, or run.open(file)")

    def stream(self, data: Any, share: Share = WHOLE) -> Stream:
        """`data`, or a share, in parts, as `open` gives it, but not in memory as a whole where that can be avoided.

        Raises:
            InputError: data that do not fit, here or while the parts are made.
        """
        shape = tuple(self.encoder.config.shape)
        parts = stream_of(data, shape, self.preparation, share=share)
        return parts or of_source(self.open(data, quiet=True), share)

    def encode(self, data: Any, patches: int | None = None, patch_mode: str | None = None, seed: int = 0) -> np.ndarray:
        """Features float32 [N, D] of anything `swell.open` takes; of whole, clean samples.

        Only the features are held in memory: samples come in parts (`swell.data.stream`). With `patches` K, their mean
        over K patches of each sample instead, at the cost of K forwards: on a "grid", or "random" ones drawn with
        `seed`. See `swell.evaluation.bag.bag_of_features`.

        Raises:
            InputError: data that do not fit, patches or a mode that there are not.
        """
        from swell.evaluation.bag import check_bag

        check_bag(patches, patch_mode)
        stream = self.stream(data)
        out = np.empty((stream.most, self.encoder.features), np.float32)
        n = 0
        for _, features in self.encoded(stream, patches, patch_mode, seed):
            out[n : n + len(features)] = features
            n += len(features)
        return out if n == len(out) else out[:n].copy()

    def encoded(
        self,
        stream: Stream,
        patches: int | None = None,
        patch_mode: str | None = None,
        seed: int = 0,
        clock: Clock | None = None,
    ) -> Iterator[tuple[Part, np.ndarray]]:
        """Each part of `stream` and its features float32 [n, D]; the next part is read meanwhile. See `encode`."""
        from swell.evaluation.bag import bag_of_features, check_bag

        mode, _ = check_bag(patches, patch_mode)
        done = 0
        for part in ahead(stream.parts):
            began = time.perf_counter()
            if len(part.ids) == 0:
                features = np.empty((0, self.encoder.features), np.float32)
            elif patches is None:
                features = self.encoder.encode(part.samples)
            else:
                features = bag_of_features(
                    self.encoder, part.samples[:], patches, mode, self.patch, seed, first_block=done // ROWS
                )
            if clock is not None:
                clock.forward += time.perf_counter() - began
            yield part, features
            done += len(features)
