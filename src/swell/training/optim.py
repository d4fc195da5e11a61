"""Optimisers and the learning-rate schedule. Learning rates are for the global batch, however many devices share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from swell.errors import InputError, suggest


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888) on SGD with momentum.

    For a weight w with gradient g and decay wd, the update is  v <- m v + ratio (g + wd w),  w <- w - lr v  with the
    trust ratio  eta |w| / (|g| + wd |w|). With `clip` the ratio is min(ratio / lr, 1), so a layer's own rate never
    exceeds lr; where the ceiling binds everywhere, this is SGD. Without it (the paper) a step does not depend on the
    size of the gradient, so neither on that of the loss: each layer moves by lr eta of its norm. Groups with
    `adapt=False` (biases, norms and whatever else is not decayed) use ratio 1 and no decay.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.02,
        clip: bool = True,
    ) -> None:
        super().__init__(
            groups,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta, "clip": clip, "adapt": True},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            grads: list[Tensor] = [p.grad for p in weights if p.grad is not None]
            if group["adapt"]:
                wd, lr = group["weight_decay"], group["lr"]
                w_norm = torch.stack(torch._foreach_norm(weights))
                g_norm = torch.stack(torch._foreach_norm(grads))
                ratio = group["eta"] * w_norm / (g_norm + wd * w_norm).clamp_min(1e-12)
                if group["clip"]:
                    ratio = (ratio / max(lr, 1e-12)).clamp_max(1.0)
                ratio = torch.where(
                    (w_norm > 0) & (g_norm > 0), ratio, 1.0
                )  # a new layer of zeros must be able to start
                grads = list(torch._foreach_mul(torch._foreach_add(grads, weights, alpha=wd), list(ratio.unbind())))
            buffers = []
            for p in weights:
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffers.append(state["momentum_buffer"])
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            torch._foreach_add_(weights, buffers, alpha=-group["lr"])


OPTIMIZERS = ("lars", "lars_unclipped", "sgd", "adamw")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is for the parameter of that name: for matrices and kernels that inputs are multiplied by.

    Such are the parameters of two dimensions or more that are called weights, as all of torch's layers call them. Not
    what is added to or put among the activations: biases, class and mask tokens, positions, segment embeddings; their
    shapes [1, L, D] or [S, D] cannot be told from a matrix, but they have names of their own. Nor the gains of norms,
    which have one dimension. Decay would draw those towards the one place, zero, where they say nothing.
    """
    return parameter.ndim > 1 and "weight" in name.rpartition(".")[2]


def make_optimizer(
    name: str,
    modules: Iterable[nn.Module],
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    rates: Mapping[nn.Module, float] = MappingProxyType({}),
) -> Optimizer:
    """Optimiser over all parameters of `modules`; only matrices and kernels are decayed, see `is_decayed`.

    `momentum` is AdamW's beta_1; `beta2` is for AdamW only. Modules in `rates`, parts of those in `modules`, learn at
    so many times `lr`; `set_rate` keeps to that.

    Raises:
        InputError: for an unknown name.
    """
    scales = {p: rate for module, rate in rates.items() for p in module.parameters()}
    named = [(n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for scale in dict.fromkeys([1.0, *scales.values()]):
        alike = [(n, p) for n, p in named if scales.get(p, 1.0) == scale]
        own: dict[str, Any] = {} if scale == 1 else {"lr": scale * lr, "scale": scale}
        groups.append({"params": [p for n, p in alike if is_decayed(n, p)], **own})
        groups.append({"params": [p for n, p in alike if not is_decayed(n, p)], "weight_decay": 0.0, **own})
    if name in ("lars", "lars_unclipped"):
        for group in groups[1::2]:
            group["adapt"] = False
        return LARS(groups, lr, momentum, weight_decay, clip=name == "lars")
    if name == "sgd":
        return SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    if name == "adamw":
        return AdamW(groups, lr, betas=(momentum, beta2), weight_decay=weight_decay)
    raise InputError(f"optimizer {name!r}", "a known optimizer", suggest(name, OPTIMIZERS))


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Let every group learn at `lr`, or at the multiple of it that `make_optimizer` was given."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


def warmup_cosine(progress: float, warmup: float) -> float:
    """Factor on the learning rate at `progress` in [0, 1] of the budget: linear up over `warmup`, then cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min((progress - warmup) / max(1 - warmup, 1e-9), 1.0)))


def warmup_stable_decay(progress: float, warmup: float, left: float, decay: float) -> float:
    """Factor on the learning rate: linear up over `warmup`, then 1 until the share `left` of the budget is `decay`,
    then linear down to 0.

    Before the decay it does not depend on the budget, so a run can go on from there to a larger one. Source: Hu et al.
    2024 (MiniCPM, arXiv 2404.06395), who name it; Zhai et al. 2022 (arXiv 2106.04560) for the cool-down.
    """
    up = progress / warmup if progress < warmup else 1.0
    return min(up, max(left, 0.0) / decay) if left < decay else up


@dataclass(frozen=True)
class Schedule:
    """The learning rate's course, and how far methods are told that the run has come.

    With `horizon`, which is for "wsd", warm-up and methods count by so many steps instead of by the budget. Then step t
    is the same in a run of any budget as long as it has not begun to decay.
    """

    warmup: float  # share of the budget, or of the horizon
    kind: str = "cosine"  # or wsd
    decay: float = 0.2  # share of the budget
    horizon: int | None = None

    def progress(self, t: int, share: float) -> float:
        """What methods are told at step t, when `share` of the budget is used up."""
        return share if self.horizon is None else t / self.horizon

    def factor(self, t: int, share: float) -> float:
        progress = self.progress(t, share)
        if self.kind == "cosine":
            return warmup_cosine(progress, self.warmup)
        return warmup_stable_decay(progress, self.warmup, 1 - share, self.decay)

    def begins_to_decay(self, t: int, total: int) -> bool:
        """Whether step t is the first of the decay of a run of `total` steps: up to here it could go on to more."""
        return self.kind == "wsd" and 1 - t / total < self.decay <= 1 - (t - 1) / total
