"""Samples from outside as a generator that needs no training: `swell generate --from`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from swell.data.channels import check_channel_order
from swell.data.source import Provenance, Source
from swell.errors import InputError, suggest
from swell.generators.diffusers_pipeline import DiffusersPipeline, is_pipeline
from swell.generators.outside import asked_provenance, open_outside, refuse_label_leak
from swell.ledger import Cost, timed


class Ready(Protocol):
    """What `generate` needs of a generator that it does not train."""

    options: dict[str, Any]
    cost: Cost
    sampling_cost: Cost
    history: list[dict[str, float]]

    @property
    def parameters(self) -> int: ...

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray: ...

    def sampler_settings(self) -> dict[str, Any]: ...


class Stored:
    """Samples that exist already, handed out in their order."""

    def __init__(self, source: Source) -> None:
        self._samples, self.count = source.samples, len(source)
        self.options: dict[str, Any] = {"samples": source.fingerprint}
        self.cost, self.sampling_cost = Cost(), Cost()
        self.history: list[dict[str, float]] = []
        self.parameters = 0  # not known

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1; the seed changes nothing. Raises InputError where there are fewer."""
        if first + count > self.count:
            raise InputError(
                f"--count {first + count:,}", f"no more than --from holds ({self.count:,})", "leave it out"
            )
        with timed(self.sampling_cost):
            self.sampling_cost.samples_generated += count
            return self._samples[first : first + count]

    def sampler_settings(self) -> dict[str, Any]:
        return {}


def stored_count(model: Ready) -> int | None:
    """How many samples there are; None where they never end."""
    return model.count if isinstance(model, Stored) else None


def from_outside(
    path: Path | str,
    real: Source,
    *,
    trained_on: str | None,
    labels_used: bool | None,
    filtered: bool | None,
    channel_order: str | None,
    allow_label_leak: bool,
    options: dict[str, Any],
    size: int | None,
    device: str,
    quiet: bool,
) -> tuple[Ready, Provenance]:
    """What lies at `path`, ready to be sampled, and where it comes from.

    Raises:
        InputError: samples unlike the real ones, exchanged colours unless the order is said to be rgb, unknown origin,
            labels without `allow_label_leak`.
    """
    if is_pipeline(path):
        for name in options:
            if name != "evaluations":
                raise InputError(f"option {name!r} of a pipeline", "a known option", suggest(name, ["evaluations"]))
        if channel_order == "bgr":
            raise InputError("--channel-order bgr for a pipeline", "files in that order", "leave it out")
        provenance = asked_provenance(str(path), "diffusers", trained_on, labels_used, filtered)
        refuse_label_leak(provenance, allow_label_leak)
        model = DiffusersPipeline(path, device=device, **options)
        if tuple(model.shape) != real.shape:
            given = f"{path} (draws samples {list(model.shape)})"
            raise InputError(given, f"{list(real.shape)} like the real ones", f"give --size {model.shape[-1]}")
        return model, provenance
    source = open_outside(
        path,
        shape=real.shape,
        size=size,
        trained_on=trained_on,
        labels_used=labels_used,
        filtered=filtered,
        channel_order="bgr" if channel_order == "bgr" else "rgb",
        allow_label_leak=allow_label_leak,
        quiet=quiet,
        preparation=real.preparation,
    )
    if channel_order != "rgb":  # whoever says rgb knows
        check_channel_order(source.samples, real.samples)
    return Stored(source), source.provenance
