"""The teacher: a slow copy of the student that no gradient reaches."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """Exponential moving average of modules: theta_teacher <- tau theta_teacher + (1 - tau) theta_student.

    `Teacher(encoder=encoder, projector=projector)` copies both; calling it runs them in that order, without gradient.
    Batch norm in it works on the teacher's own batches (as in BYOL, MoCo v3 and DINO), so its buffers are its own.
    """

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, copy.deepcopy(module))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x

    @torch.no_grad()
    def follow(self, tau: float, **modules: nn.Module) -> None:
        """One step towards the students, given by the names used at the start."""
        mine: list[Tensor] = [p for name in modules for p in self.get_submodule(name).parameters()]
        theirs: list[Tensor] = [p.detach() for module in modules.values() for p in module.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - tau)
