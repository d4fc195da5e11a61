"""One training step: gather, view, encode, loss, backward. The same for every method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from swell.data.mixture import Mixture
from swell.data.partners import Neighbours, Partners, held_samples, take
from swell.ledger import Cost, counted_flops
from swell.methods.registry import Method, Outcome, Views
from swell.nets.encoder import Encoder
from swell.ranks import ALONE, Ranks
from swell.seeding import generator_for, seed_for
from swell.training.optim import Schedule, set_rate
from swell.training.watchdog import Diverged, first_broken_module
from swell.views.plan import ViewPlan
from swell.views.render import apply, draw, render

if TYPE_CHECKING:
    from swell.data.ahead import Ahead
    from swell.data.partners import Held
    from swell.data.sparse import SparseRows

RESIDENT_SHARE = 0.5  # of the device's free memory the samples may take before they stay in host memory


def on_device(samples: np.ndarray | SparseRows, device: torch.device) -> Held:
    """Samples on the device if they fit beside the training, else in host memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a decoded cache is mapped read-only, and is only ever read
        held = held_samples(samples)
    if device.type == "cuda" and held.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return held.to(device)
    return held


@contextmanager
def forwards_counted(cost: Cost, encoder: Encoder, parts: nn.Module) -> Iterator[None]:
    """Count what goes through the encoder, and through copies of it among the parts, which are teachers."""

    def pixels(x: Tensor) -> int:
        return len(x) * x.shape[2:].numel() if x.ndim == 4 else 0

    def student(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        cost.forwards += len(inputs[0])
        cost.pixels += pixels(inputs[0])

    def teacher(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        cost.teacher_forwards += len(inputs[0])
        cost.pixels += pixels(inputs[0])

    hooks = [encoder.register_forward_pre_hook(student)]
    hooks += [part.register_forward_pre_hook(teacher) for part in parts.modules() if isinstance(part, Encoder)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class Stepper:
    """Everything a step touches. Step t is a pure function of the weights, the optimiser's state and t."""

    method: Method
    encoder: Encoder
    parts: nn.ModuleDict
    optimizer: Optimizer
    plan: ViewPlan
    mixture: Mixture
    real: Held
    generated: Held | None
    learning_rate: float
    schedule: Schedule
    seed: int
    precision: str
    device: torch.device
    forward: nn.Module  # the encoder, compiled or in pieces as the recipe wants it
    plain: nn.Module  # the same, not compiled, which the counter of FLOPs can look into
    partners: Partners | None = None  # where positives come from; None: views of positives show the sample
    neighbours: Partners | None = None  # what views are mixed with; needed where the plan mixes
    replace: float | Callable[[float], float] = 1.0  # share of positives from `partners`, or that of the progress
    ranks: Ranks = ALONE  # who share every step; each makes the views of its own samples
    ahead: Ahead | None = None  # prepares the real samples of batches that are to come, where those are in shards
    tally: Cost | None = None  # while set, forwards are counted into it

    def searched(self) -> set[Neighbours]:
        """The searches for neighbours that it began with."""
        return {partners for partners in (self.partners, self.neighbours) if isinstance(partners, Neighbours)}

    @property
    def whole(self) -> bool:
        """Whether every rank needs all samples of a batch: where one's views, or partners, are drawn with others'."""
        mixing = not self.plan.of_images or self.plan.mixes or self.plan.has_positives
        return self.ranks.count == 1 or mixing or self.method.mixes_samples

    @property
    def part(self) -> slice:
        """Which places of a batch this rank needs."""
        return slice(0, self.mixture.batch) if self.whole else self.ranks.own(self.mixture.batch)

    def close(self) -> None:
        """End what prepares batches, if anything does."""
        if self.ahead is not None:
            self.ahead.close()

    def gather(self, t: int) -> tuple[Tensor, int]:
        """Samples of batch t, uint8 [B, C, H, W] or float32 [B, D], or this rank's part of them; and how many of the
        batch are real (those come first)."""
        drawn, part = self.mixture(t), self.part
        reals = len(drawn.real)
        rows = take(self.real, drawn.real[part]) if self.ahead is None else self.ahead(t)
        made = drawn.generated[max(part.start - reals, 0) : max(part.stop - reals, 0)]
        if self.generated is not None and len(made):
            rows = torch.cat([rows.to(self.device), take(self.generated, made).to(self.device)])
        return rows.to(self.device, non_blocking=True), reals

    def replaced(self, t: int, progress: float) -> Tensor:
        """Which places of batch t, int64 on the CPU, get their positive from `partners`: real samples only."""
        if self.partners is None or not self.plan.has_positives:
            return torch.empty(0, dtype=torch.int64)
        share = self.replace(progress) if callable(self.replace) else self.replace
        u = torch.rand(len(self.mixture(t).real), generator=generator_for(self.seed, "replace", t))
        return (u < share).nonzero()[:, 0]

    def companions(self, t: int, progress: float, samples: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Whom the samples [B, ...] of batch t are mixed with, and what views of positives show.

        A generated sample is its own partner. Where a positive is replaced, it also takes the neighbour's part: it is
        mixed with nothing else.
        """
        rows, places = self.mixture(t).real, self.replaced(t, progress)
        mates = positives = None
        if self.plan.mixes and self.neighbours is not None:
            near = self.neighbours.draw(rows, generator_for(self.seed, "neighbours", t))
            mates = torch.cat([near.to(self.device), samples[len(rows) :]])
        if self.plan.has_positives:
            positives = samples
        if len(places) and self.partners is not None:
            drawn = self.partners.draw(rows[places], generator_for(self.seed, "positives", t)).to(self.device)
            at = places.to(self.device)
            positives = samples.index_copy(0, at, drawn)
            mates = None if mates is None else mates.index_copy(0, at, drawn)
        return mates, positives

    def views(self, t: int, progress: float, samples: Tensor) -> Views:
        """Views of the samples of batch t, of this rank's alone where it needs no more; drawn for the whole batch, so
        that they do not depend on how many ranks share it."""
        generator, batch = generator_for(self.seed, "views", t), self.mixture.batch
        own = slice(0, batch) if self.method.mixes_samples else self.ranks.own(batch)
        mates, positives = self.companions(t, progress, samples)
        if self.plan.of_images:
            parameters = tuple(p.samples(own) for p in draw(self.plan, batch, samples.shape[1:], generator))
            samples = samples[own] if self.whole else samples
            groups = apply(self.plan, samples, parameters, None if positives is None else positives[own])
        else:
            drawn = render(self.plan, samples, generator, mates, positives)
            groups = [v.unflatten(0, (-1, batch))[:, own].flatten(0, 1) for v in drawn]
        groups = [v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for v in groups]
        return Views(tuple(groups), tuple(group.role for group in self.plan.groups), own.stop - own.start, self.ranks)

    def loss(self, t: int, progress: float, samples: Tensor | None = None) -> Outcome:
        """Forward of step t, without the update; of several ranks each has its own, whose mean counts."""
        torch.manual_seed(seed_for(self.seed, "step", t))  # whatever a net draws (dropout) belongs to the step too
        if samples is None:
            samples, _ = self.gather(t)
        views = self.views(t, progress, samples)
        counting = forwards_counted(self.tally, self.encoder, self.parts) if self.tally else nullcontext()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"), counting:
            return self.method.loss(self.forward, self.parts, views, progress)

    def __call__(self, t: int, share: float) -> tuple[Tensor, dict[str, Tensor], int]:
        """Do step t at `share` of the budget: (loss, scalars of the method, real samples in the batch).

        Where the plan has views of positives, "replaced" among the scalars is the share of them from `partners`.
        """
        rate, progress = self.learning_rate * self.schedule.factor(t, share), self.schedule.progress(t, share)
        set_rate(self.optimizer, rate)
        samples, reals = self.gather(t)
        loss, scalars, kept = self.loss(t, progress, samples)
        loss.backward()
        loss, scalars = self.averaged(loss.detach(), scalars)
        if self.device.type == "cpu" and not math.isfinite(loss.item()):  # free here; on a GPU it would be a wait
            self.optimizer.zero_grad(set_to_none=True)
            raise Diverged(self.explain(t, loss.item(), progress))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.encoder, self.parts, kept, progress)
        if self.plan.has_positives:
            scalars = {**scalars, "replaced": torch.tensor(len(self.replaced(t, progress)) / self.mixture.batch)}
        return loss, scalars, reals

    def averaged(self, loss: Tensor, scalars: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Put the mean over ranks in the place of every gradient; loss and scalars likewise."""
        if self.ranks.count == 1:
            return loss, scalars
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        numbers = torch.stack([loss, *scalars.values()]).float()
        self.ranks.average([*gradients, numbers])
        return numbers[0], dict(zip(scalars, numbers[1:], strict=True))

    def measured(self, t: int, share: float) -> tuple[tuple[Tensor, dict[str, Tensor], int], Cost]:
        """Do step t and say what it cost all ranks in FLOPs, forwards and pixels."""
        cost, forward = Cost(), self.forward
        self.forward, self.tally = self.plain, cost
        try:
            with counted_flops() as flops:
                result = self(t, share)
        finally:
            self.forward, self.tally = forward, None
        cost.flops = flops[0]
        totals = self.ranks.sum(torch.tensor(list(vars(cost).values()), dtype=torch.float64)).tolist()
        return result, Cost(**{name: type(n)(x) for (name, n), x in zip(vars(cost).items(), totals, strict=True)})

    def explain(self, t: int, value: float, progress: float) -> str:
        """What to say of a loss that is not finite: the step and the first module to blame, found by a rerun."""
        roots = {"encoder": self.encoder, **dict(self.parts.items())}
        if self.ranks.count == 1:
            where = first_broken_module(roots, lambda: self.loss(t, progress).loss)
        else:  # a rerun would need all ranks, and not all may have seen it
            where = "not looked for on several processes"
        return (
            f"step {t}: the loss is {value}; first not finite: {where}. Lower the learning rate (now "
            f"{self.learning_rate:g}) or train with precision fp32. The last checkpoint is kept."
        )
