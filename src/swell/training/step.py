"""One training step: gather, view, encode, loss, backward. The same for every method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from swell.data.mixture import Mixture
from swell.ledger import Cost, counted_flops
from swell.methods.registry import Method, Outcome, Views
from swell.nets.encoder import Encoder
from swell.seeding import generator_for, seed_for
from swell.training.optim import warmup_cosine
from swell.training.watchdog import Diverged, first_broken_module
from swell.views.plan import ViewPlan
from swell.views.render import render

RESIDENT_SHARE = 0.5  # of the device's free memory the samples may take before they stay in host memory


def on_device(samples: np.ndarray, device: torch.device) -> Tensor:
    """uint8 samples on the device if they fit beside the training, else in host memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a decoded cache is mapped read-only, and is only ever read
        tensor = torch.from_numpy(np.ascontiguousarray(samples))
    if device.type == "cuda" and tensor.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return tensor.to(device)
    return tensor


@contextmanager
def forwards_counted(cost: Cost, encoder: Encoder, parts: nn.Module) -> Iterator[None]:
    """Count what goes through the encoder, and through copies of it among the parts, which are teachers."""

    def student(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        cost.forwards += len(inputs[0])
        cost.pixels += inputs[0].shape[2:].numel() * len(inputs[0])

    def teacher(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        cost.teacher_forwards += len(inputs[0])
        cost.pixels += inputs[0].shape[2:].numel() * len(inputs[0])

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
    real: Tensor
    generated: Tensor | None
    learning_rate: float
    warmup: float
    seed: int
    precision: str
    device: torch.device
    forward: nn.Module  # the encoder, compiled or in pieces as the recipe wants it
    plain: nn.Module  # the same, not compiled, which the counter of FLOPs can look into
    tally: Cost | None = None  # while set, forwards are counted into it

    def gather(self, t: int) -> tuple[Tensor, int]:
        """Samples of batch t, uint8 [B, C, H, W], and how many of them are real (those come first)."""
        draw = self.mixture(t)
        rows = self.real.index_select(0, draw.real.to(self.real.device))
        if self.generated is not None and len(draw.generated):
            made = self.generated.index_select(0, draw.generated.to(self.generated.device))
            rows = torch.cat([rows.to(self.device), made.to(self.device)])
        return rows.to(self.device), len(draw.real)

    def loss(self, t: int, progress: float, samples: Tensor | None = None) -> Outcome:
        """Forward of step t, without the update."""
        torch.manual_seed(seed_for(self.seed, "step", t))  # whatever a net draws (dropout) belongs to the step too
        if samples is None:
            samples, _ = self.gather(t)
        groups = render(self.plan, samples, generator_for(self.seed, "views", t))
        groups = [v.contiguous(memory_format=torch.channels_last) for v in groups]
        views = Views(tuple(groups), tuple(group.role for group in self.plan.groups), len(samples))
        counting = forwards_counted(self.tally, self.encoder, self.parts) if self.tally else nullcontext()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"), counting:
            return self.method.loss(self.forward, self.parts, views, progress)

    def __call__(self, t: int, progress: float) -> tuple[Tensor, dict[str, Tensor], int]:
        """Do step t at `progress` of the budget: (loss, scalars of the method, real samples in the batch)."""
        rate = self.learning_rate * warmup_cosine(progress, self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        samples, reals = self.gather(t)
        loss, scalars, kept = self.loss(t, progress, samples)
        if self.device.type == "cpu" and not math.isfinite(loss.item()):  # free here; on a GPU it would be a wait
            raise Diverged(self.explain(t, loss.item(), progress))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.encoder, self.parts, kept, progress)
        return loss.detach(), scalars, reals

    def measured(self, t: int, progress: float) -> tuple[tuple[Tensor, dict[str, Tensor], int], Cost]:
        """Do step t and say what it cost in FLOPs, forwards and pixels."""
        cost, forward = Cost(), self.forward
        self.forward, self.tally = self.plain, cost
        try:
            with counted_flops() as flops:
                result = self(t, progress)
        finally:
            self.forward, self.tally = forward, None
        cost.flops = flops[0]
        return result, cost

    def explain(self, t: int, value: float, progress: float) -> str:
        """What to say of a loss that is not finite: the step and the first module to blame, found by a rerun."""
        roots = {"encoder": self.encoder, **dict(self.parts.items())}
        where = first_broken_module(roots, lambda: self.loss(t, progress).loss)
        return (
            f"step {t}: the loss is {value}; first not finite: {where}. Lower the learning rate (now "
            f"{self.learning_rate:g}) or train with precision fp32. The last checkpoint is kept."
        )
