"""The reference encoder: the eyes that judge generated samples.

A small network trained for some seconds on real samples only, by contrast and without labels (SimCLR for
images, SCARF for vectors). It has never seen a generated sample, so it cannot have learnt to overlook what is
wrong with them. The network and the number of steps do not depend on the machine: what it says about two
generators can be compared wherever they were made, as long as both were judged by the same encoder.
"""

from __future__ import annotations

import math
import time
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.console import Progress
from swell.devices import pick_device
from swell.errors import InputError
from swell.methods.simclr import nt_xent
from swell.nets.backbones import BACKBONES
from swell.nets.encoder import channel_statistics
from swell.nets.heads import MLP
from swell.seeding import generator_for, seed_for
from swell.views.plan import ViewGroup, ViewPlan
from swell.views.render import render

LARGEST_SIDE = 64  # larger images are averaged down to this
SEEN_SIDE = 16  # the network sees images of more pixels a side as patches stacked into channels
BATCH, RATE, TEMPERATURE = 128, 2e-3, 0.2
WIDTH = 128  # features
MOST_PASSES = 25  # over the samples, unless the user wants more
ENCODED = 256  # samples encoded at once
SWAPPED = 0.6  # share of a vector's features that SCARF replaces
FAINTEST = 0.1  # of the median spread of the features; fainter ones are not made as loud as the rest

# Milder than for pre-training, and without flip, grey and blur: the encoder becomes blind to whatever its views
# change, and a generator that blurs or bleaches must not go unnoticed.
VIEWS_OF_IMAGES = ViewPlan(
    (ViewGroup(count=2, scale=(0.3, 1.0), flip=0.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
               grey_p=0.0, blur_p=0.0),)
)  # fmt: skip
VIEWS_OF_SYMBOLS = ViewPlan(
    (ViewGroup(count=2, scale=(0.4, 1.0), flip=0.0, jitter_p=0.0, grey_p=0.0, blur_p=0.0),)
)  # fmt: skip


class Reference:
    """Features of samples of one shape: `encode` maps [N, *shape] to float32 [N, 128].

    Each feature is standardised by its mean and spread over real samples. They are not scaled to unit length:
    contrast shapes only the direction, but the length tells unlikely samples from likely ones, and Frechet
    distances want features that are roughly normal, not points of a sphere.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.shape, self.device = tuple(shape), pick_device(str(device))
        self.network = _network(self.shape).to(self.device).eval()
        inputs = (1, self.shape[0], 1, 1) if len(shape) == 3 else (1, self.shape[0])
        self._parts = {  # beside the weights
            "inputs.mean": torch.zeros(inputs),
            "inputs.std": torch.ones(inputs),
            "features.mean": torch.zeros(WIDTH),
            "features.std": torch.ones(WIDTH),
        }

    @classmethod
    def fit(
        cls,
        train: np.ndarray,
        seed: int = 0,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        device: torch.device | str = "auto",
        quiet: bool = True,
    ) -> Self:
        """Learn from real samples, images uint8 [N, C, H, W] or vectors float32 [N, D].

        The budget is `steps`, `default_steps` unless told, cut short after `seconds`. Without `seconds` the
        outcome depends on the samples and the seed alone, on one kind of machine. Raises InputError for fewer
        than two samples.
        """
        if len(train) < 2:
            raise InputError(f"{len(train)} samples for the reference encoder", "at least 2", "hundreds are sensible")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "reference", "weights"))
            self = cls(train.shape[1:], device)
            projector = MLP(WIDTH, 256, 64).to(self.device)
        if len(self.shape) == 3:
            statistics = (torch.tensor(part).view(1, -1, 1, 1) for part in channel_statistics(train))
        else:
            some = train[:: math.ceil(len(train) / 100_000)].astype(np.float64)
            std = some.std(0)
            statistics = (torch.from_numpy(x[None]).float() for x in (some.mean(0), np.where(std > 0, std, 1)))
        self._parts["inputs.mean"], self._parts["inputs.std"] = statistics
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            steps = steps or default_steps(self.shape, len(train))
            self._train(train, projector, seed, steps, seconds or math.inf, quiet)
        some = self.encode(train[:: math.ceil(len(train) / 5000)])
        std = torch.from_numpy(some.std(0))
        self._parts["features.mean"] = torch.from_numpy(some.mean(0))
        self._parts["features.std"] = std.clamp(min=FAINTEST * max(float(std[std > 0].median()), 1e-6))
        return self

    def _train(
        self, train: np.ndarray, projector: nn.Module, seed: int, steps: int, seconds: float, quiet: bool
    ) -> None:
        batch, begun = min(BATCH, len(train)), time.monotonic()
        weights = [*self.network.parameters(), *projector.parameters()]
        optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4)
        self.network.train()
        with Progress("reference encoder", steps, "steps", quiet=quiet) as bar:
            for step in range(steps):
                share = max(step / steps, (time.monotonic() - begun) / seconds)
                if share >= 1:
                    break
                draws = generator_for(seed, "reference", step)
                rows = torch.randint(len(train), (batch,), generator=draws).numpy()
                views = self._views(train, rows, draws)  # [2B, ...]
                optimiser.param_groups[0]["lr"] = RATE * min((step + 1) / 20, 1) * (1 + math.cos(math.pi * share)) / 2
                loss = nt_xent(projector(self.network(views)).unflatten(0, (2, batch)), TEMPERATURE)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                bar.update(step + 1)
        self.network.eval()

    def _views(self, train: np.ndarray, rows: np.ndarray, draws: torch.Generator) -> Tensor:
        """Two views of every row, as the network sees them: [2B, ...], first all first views."""
        if len(self.shape) == 3:
            plan = VIEWS_OF_SYMBOLS if max(self.shape[1:]) <= SEEN_SIDE else VIEWS_OF_IMAGES
            return self._seen(render(plan, self._pixels(train[rows]), draws)[0])
        x = self._standard(train[rows])
        others = torch.randint(len(train), (2, *x.shape), generator=draws).numpy()
        swapped = (torch.rand(2, *x.shape, generator=draws) < SWAPPED).to(self.device)
        other = torch.stack([self._standard(train[index, np.arange(self.shape[0])]) for index in others])  # [2, B, D]
        return torch.where(swapped, other, x).flatten(0, 1)

    @torch.no_grad()
    def features(self, samples: np.ndarray) -> Tensor:
        """float32 [N, 128] on the encoder's device. Raises InputError for samples of another shape or dtype."""
        dtype = np.uint8 if len(self.shape) == 3 else np.float32
        if tuple(samples.shape[1:]) != self.shape or samples.dtype != dtype:
            given = f"samples {samples.dtype}{list(samples.shape)}"
            want = f"{np.dtype(dtype)} [N, {', '.join(map(str, self.shape))}]"
            raise InputError(given, want, "judge samples like those the reference encoder was fitted to")
        made = torch.empty(len(samples), WIDTH, device=self.device)
        mean, std = (self._parts[f"features.{name}"].to(self.device) for name in ("mean", "std"))
        for start in range(0, len(samples), ENCODED):
            part = samples[start : start + ENCODED]
            x = self._seen(self._pixels(part).float() / 255) if len(self.shape) == 3 else self._standard(part)
            made[start : start + ENCODED] = (self.network(x) - mean) / std
        return made

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """float32 [N, 128]; see `features`."""
        return self.features(samples).cpu().numpy()

    def _standard(self, rows: np.ndarray) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)
        return (x - self._parts["inputs.mean"].to(self.device)) / self._parts["inputs.std"].to(self.device)

    def _pixels(self, images: np.ndarray) -> Tensor:
        """uint8 [B, C, H, W] at the side the network takes: at most 64, and a multiple of the patch side."""
        x = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        patch = _patch(self.shape)
        height, width = (max(min(side, LARGEST_SIDE) // patch, 1) * patch for side in self.shape[1:])
        size = (height, width)
        return x if size == x.shape[2:] else F.adaptive_avg_pool2d(x.float(), size).round().byte()

    def _seen(self, images: Tensor) -> Tensor:
        """[B, C, H, W] in [0, 1] -> [B, C p^2, H / p, W / p], patches of p x p pixels stacked."""
        x = (images - self._parts["inputs.mean"].to(self.device)) / self._parts["inputs.std"].to(self.device)
        return F.pixel_unshuffle(x, _patch(self.shape)).contiguous(memory_format=torch.channels_last)

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything `from_tensors` needs, by name, on the CPU."""
        weights = {f"network.{name}": tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        return weights | self._parts | {"shape": torch.tensor(self.shape)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device | str = "auto") -> Self:
        """The reverse of `to_tensors`. Raises InputError for tensors of something else."""
        try:
            with torch.random.fork_rng(devices=[]):
                self = cls(tuple(tensors["shape"].tolist()), device)
            weights = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
            self.network.load_state_dict(weights)
            self._parts = {name: tensors[name] for name in self._parts}
        except (KeyError, RuntimeError) as error:
            raise InputError(f"tensors ({error})", "those of a reference encoder", "fit it again") from None
        return self


def default_steps(shape: tuple[int, ...], count: int) -> int:
    """Steps for `count` samples: what suffices for stable verdicts, in some seconds on two cores for small
    images and vectors, but so few passes over the samples that they are not learnt by heart.
    """
    enough = 200 if len(shape) == 3 else 300
    return min(enough, math.ceil(MOST_PASSES * max(count / BATCH, 1)))


def _patch(shape: tuple[int, ...]) -> int:
    return math.ceil(min(max(shape[1:]), LARGEST_SIDE) / SEEN_SIDE)


def _network(shape: tuple[int, ...]) -> nn.Module:
    if len(shape) == 3:
        channels, patch = shape[0], _patch(shape)
        network = BACKBONES["conv6"]((channels * patch**2, SEEN_SIDE, SEEN_SIDE), 1.0)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return nn.Sequential(MLP(shape[0], 256, 256, norm=True), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, WIDTH))
