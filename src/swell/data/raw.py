"""Vectors as they lie in a file, and how they become a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from swell.console import warn
from swell.data.arrays import encode_labels
from swell.data.columns import Table
from swell.data.preparation import Preparation
from swell.data.source import Provenance, Source
from swell.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Raw:
    """N rows before their preparation, and what was said of them."""

    values: np.ndarray | csr_array | Table
    origin: str
    names: tuple[str, ...] = ()  # of the features; a table has its own
    labels: np.ndarray | None = None  # only where they were asked for
    batches: np.ndarray | None = None
    chosen: np.ndarray | None = None  # bool [D]: genes somebody chose
    kind: str = "auto"  # of the preparation, where nobody names one
    scaling: str = "auto"
    about: Mapping[str, str] = field(default_factory=dict)  # where in the file the values lay
    others: tuple[str, ...] = ()  # layers of cells that were not asked for


def to_source(raw: Raw, prepare: str = "auto", preparation: Preparation | None = None, quiet: bool = False) -> Source:
    """The prepared samples: by `preparation`, or by one learnt from these rows.

    Raises:
        InputError: fewer than two rows, or values that do not fit.
    """
    count = raw.values.shape[0] if not isinstance(raw.values, Table) else len(raw.values)
    if count < 2:
        raise InputError(f"{raw.origin}: {count} samples", "at least 2")
    try:
        fitted = preparation or Preparation.fit(
            raw.values,
            raw.names,
            raw.kind if prepare == "auto" else prepare,
            scaling=raw.scaling,
            chosen=raw.chosen,
            batches=raw.batches,
            about=raw.about,
        )
        samples = fitted.apply(raw.values, raw.names, batches=raw.batches, quiet=quiet)
    except InputError as error:
        raise InputError(f"{raw.origin}: {error.given}", error.expected, error.todo) from None
    if preparation is None and prepare == "auto" and raw.kind == "none" and raw.others and not quiet:
        told = f"{raw.origin}: negative values, scaled by somebody before, are taken as they are"
        warn(f"{told}. If counts or logged values are there, give their layer: {', '.join(raw.others)}")
    codes, classes = (None, ()) if raw.labels is None else encode_labels(raw.labels, raw.origin)
    return Source(samples, Provenance("real", raw.origin), codes, classes, preparation=fitted)
