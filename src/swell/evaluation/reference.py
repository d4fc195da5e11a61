"""What every candidate is judged on without labels: real samples held out from its training, under the same views.

    reference, rest = Reference.of(source)     # rest is for generator and encoder
    scores(encoder, reference)                 # swell.evaluation.scores

The views are the reference's own, so that encoders trained with different views meet the same task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from swell.data.source import Source
from swell.data.sparse import SparseRows
from swell.errors import InputError
from swell.evaluation.pretext_scores import told_apart_by_pixels
from swell.files import write_bytes
from swell.seeding import generator_for
from swell.views.plan import VectorGroup, ViewGroup, ViewPlan
from swell.views.render import render

if TYPE_CHECKING:
    from swell.nets.encoder import Encoder

FORMAT = "swell-reference-1"
VIEWS = 10  # of each sample
LEAST, LEAST_SHARE = 256, 0.2  # samples held out of a small set, as long as they are no more than that share of it
CROP, SMALL_CROP, SMALL_SIDE = 0.2, 0.4, 16  # least area of a crop, and of one of images up to 16 pixels
MIRRORED = 0.65  # from which accuracy a linear rule tells mirrored images apart; photographs stay at a half
MASK = 0.3  # share of the features of a vector that a view does not show
_BLOCK = 1 << 23  # numbers in the views that are made at once: 32 MiB


@dataclass(frozen=True)
class Reference:
    """Fixed real samples, uint8 [n, C, H, W] or float32 [n, D], and the plan of q views they are seen under."""

    samples: Any  # np.ndarray or swell.data.sparse.SparseRows
    plan: ViewPlan  # one group
    seed: int = 0

    @classmethod
    def of(
        cls, source: Source, share: float = 0.1, most: int = 4096, seed: int = 0, plan: ViewPlan | None = None
    ) -> tuple[Reference, Source]:
        """Split `source` into a reference and the rest: drawn by `seed` and the number of samples, without labels.

        `share` of the samples are held out, `most` at most; of a small set at least 256 of them or a fifth, whichever
        is less. Without a `plan` of one group the views follow from the data, see `reference_plan`.

        Raises:
            InputError: fewer than 10 samples; a share outside (0, 1); a plan for other samples.
        """
        if not 0 < share < 1 or most < 2:
            raise InputError(f"a reference of {share:g} of the samples, {most} at most", "a share between 0 and 1")
        count = len(source)
        if count < 10:
            raise InputError(f"{count} samples to hold a reference out of", "at least 10", "give more samples")
        wanted = max(round(share * count), min(LEAST, int(LEAST_SHARE * count)))
        order = torch.randperm(count, generator=generator_for(seed, "reference", count))
        held = order[: min(most, wanted)].sort().values.numpy()
        kept = np.ones(count, bool)
        kept[held] = False
        chosen = reference_plan(source) if plan is None else plan
        return cls(source.subset(held).samples, chosen, seed), source.subset(np.flatnonzero(kept))

    def __post_init__(self) -> None:
        if len(self.plan.groups) != 1 or self.plan.of_images != self.is_images or len(self) < 2:
            kind = "images" if self.is_images else "vectors"
            given = f"a reference of {len(self)} {kind} under {len(self.plan.groups)} groups of views"
            raise InputError(given, f"at least two samples and one group of views of {kind}")

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
    def q(self) -> int:
        """Views of each sample."""
        return self.plan.count

    def first(self, n: int, q: int | None = None) -> Reference:
        """At most `n` of the samples, spread evenly, under `q` views each: for a quick look."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(int))
        samples = self.samples[rows] if isinstance(self.samples, np.ndarray) else self.samples.subset(rows)
        plan = self.plan if q is None else ViewPlan((replace(self.plan.groups[0], count=q),))
        return Reference(samples, plan, self.seed)

    def views(self, device: torch.device | str = "cpu") -> Iterator[tuple[slice, Tensor]]:
        """Blocks of samples and their views, float32 [q, b, ...]: the same ones each time on one kind of device."""
        size = max(8, min(512, _BLOCK // (self.q * int(np.prod(self.shape)))))
        for i, start in enumerate(range(0, len(self), size)):
            block = slice(start, min(start + size, len(self)))
            held = torch.tensor(self.samples[block], device=device)
            (x,) = render(self.plan, held, generator_for(self.seed, "reference views", i))
            yield block, x.reshape(self.q, len(held), *x.shape[1:])

    def save(self, path: Path | str) -> None:
        """One .safetensors file: the samples, plan and seed as JSON in its header."""
        if isinstance(self.samples, SparseRows):
            parts = ("values", "columns", "pointers", "shift", "group")
            tensors = {name: getattr(self.samples, name) for name in parts if getattr(self.samples, name) is not None}
            limit = str(self.samples.limit)
        else:
            tensors, limit = {"samples": torch.tensor(self.samples)}, ""
        head = {"format": FORMAT, "plan": self.plan.to_dict(), "seed": self.seed, "limit": limit}
        cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(path, tensor_bytes(cpu, {"reference": json.dumps(head, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path | str) -> Reference:
        """Raises InputError when the file is missing, damaged or none of ours."""
        try:
            content = Path(path).read_bytes()
            tensors = tensors_from(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            stored = json.loads(header["__metadata__"]["reference"])
            if stored["format"] != FORMAT:
                raise ValueError(f"format {stored['format']!r}")
            return cls(_samples(tensors, stored["limit"]), ViewPlan.from_dict(stored["plan"]), int(stored["seed"]))
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} ({error})", "the reference swell wrote", "make it again") from None


def _samples(tensors: dict[str, Tensor], limit: str) -> np.ndarray | SparseRows:
    """Raises one of the errors `load` catches where tensors do not fit together."""
    if "samples" in tensors:
        samples = tensors["samples"]
        if (samples.ndim, samples.dtype) not in ((4, torch.uint8), (2, torch.float32)):
            raise ValueError(f"samples {samples.dtype}{list(samples.shape)}")
        return samples.numpy()
    rows = SparseRows(**tensors, limit=float(limit))
    pointers, width = rows.pointers, rows.shift.shape[1]
    whole = len(rows.values) == len(rows.columns) == int(pointers[-1]) and int(pointers[0]) == 0
    inside = not len(rows.columns) or 0 <= int(rows.columns.min()) <= int(rows.columns.max()) < width
    groups = rows.group is None or (len(rows.group) == len(rows) and int(rows.group.max()) < len(rows.shift))
    if not (whole and inside and groups and bool((pointers.diff() >= 0).all())):
        raise ValueError("rows that do not fit together")
    return rows


def reference_plan(source: Source | Reference, views: int = VIEWS) -> ViewPlan:
    """Moderate views that follow from the data alone, never from the run that is judged.

    Images: crops of 0.2 to 1 of the area (0.4 for images up to 16 pixels), jitter 0.4/0.4/0.4/0.1 with p 0.8, and a
    flip, unless pixels alone say which images are mirrored, as they do of digits and letters: those become other
    symbols. Vectors: 0.3 of the features masked.
    """
    if not source.is_images:
        return ViewPlan((VectorGroup(count=views, mask=MASK),))
    least = SMALL_CROP if max(source.shape[1:]) <= SMALL_SIDE else CROP
    found, _ = told_apart_by_pixels(source.samples, lambda x: [x, x.flip(-1)])
    group = ViewGroup(
        count=views,
        scale=(least, 1.0),
        flip=0.0 if found > MIRRORED else 0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        jitter_p=0.8,
        grey_p=0.0,
        blur_p=0.0,
    )
    return ViewPlan((group,))


def view_features(encoder: Encoder, reference: Reference) -> Tensor:
    """Eval-mode features float32 [q, n, D] of the reference's views, on the encoder's device."""
    device = encoder.mean.device
    out = torch.empty(reference.q, len(reference), encoder.features, device=device)
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        for block, x in reference.views(device):
            for v, view in enumerate(x):
                rows = view.contiguous(memory_format=torch.channels_last) if view.ndim == 4 else view
                out[v, block] = encoder(rows).float()
    encoder.train(was_training)
    return out


def clean_features(encoder: Encoder, samples: Any) -> Tensor:
    """Eval-mode features float32 [n, D] of clean samples, on the encoder's device."""
    return torch.from_numpy(encoder.encode(samples)).to(encoder.mean.device)
