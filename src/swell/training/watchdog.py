"""The watchdog: stops on NaN and says where it began; warns of collapse in plain words."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swell.console import warn

COLLAPSED = 0.05  # spread of unit vectors: 1 is isotropic, 0 is one single point
SOFT = 0.001  # share of the targets' mass on pairs of different samples, under which it does nothing
ATTAINED = 0.1  # share of the largest target that the largest prediction must reach
LOOKS = 5  # logged steps in a row before it is said: many methods pass through a narrow state in their first steps


class Diverged(RuntimeError):
    """The run met a value that is not finite; the message names step and module."""


class Watchdog:
    """Reads the scalars of each logged step."""

    def __init__(self) -> None:
        self._warned, self._looks = False, 0
        self._told, self._hard = False, 0

    def check_spread(self, step: int, z_std: float) -> None:
        """Warn once when the projections of a batch have all but become one point, and have stayed so."""
        self._looks = self._looks + 1 if z_std < COLLAPSED else 0
        if self._looks == LOOKS and not self._warned:
            self._warned = True
            warn(
                f"step {step}: collapse: the projector maps every view to nearly the same point (spread {z_std:.3f}, "
                "1 is evenly spread). Lower the learning rate, or use a larger batch."
            )

    def check_soft(self, step: int, soft: float, attainable: float) -> None:
        """Say once when a contrast with soft targets is as good as a hard one.

        Args:
            soft: share of the targets' mass on pairs of different samples.
            attainable: the largest prediction over the largest target.
        """
        self._hard = self._hard + 1 if soft < SOFT else 0
        if self._told or (attainable >= ATTAINED and self._hard < LOOKS):
            return
        self._told = True
        if attainable < ATTAINED:
            warn(
                f"the soft targets cannot be met: with so few degrees of freedom the closest pair reaches "
                f"{100 * attainable:.1f} % of its target, so all pairs are only pulled together. Raise nu."
            )
        else:
            warn(
                f"step {step}: the soft targets are hard: {100 * soft:.2g} % of their mass lies on pairs of different "
                "samples, whose encodings are too far apart to count as near. Set scaled and soft, or another nu_code."
            )


def first_broken_module(modules: dict[str, nn.Module], rerun: Callable[[], Tensor]) -> str:
    """Name what is not finite: a weight, else the first module whose output is, else the loss itself.

    Args:
        modules: named roots, e.g. {"encoder": ..., "projector": ...}.
        rerun: runs the same step forward again.
    """
    for root, module in modules.items():
        for name, p in module.named_parameters():
            if not torch.isfinite(p).all():
                return f"the weight {root}.{name}"
    found: list[str] = []
    hooks = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not found and not torch.isfinite(output).all():
                found.append(name)

        return hook

    for root, module in modules.items():
        for name, part in module.named_modules():
            if not list(part.children()):
                hooks.append(part.register_forward_hook(watch(f"{root}.{name}" if name else root)))
    try:
        with torch.no_grad():
            rerun()
    finally:
        for h in hooks:
            h.remove()
    return f"the output of {found[0]}" if found else "the loss"
