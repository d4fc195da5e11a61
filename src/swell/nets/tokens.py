"""Token plans: which tokens of a batch a transformer's blocks see. Masking and mixing of images are such plans."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class TokenPlan(Protocol):
    """What `ViT.forward(x, plan)` asks of a plan.

    Attributes:
        top_k: every patch attends to the `top_k` patches of its sequence that it scores highest, and to no other
            (MixedAE's homologous attention); None: to all.
    """

    @property
    def top_k(self) -> int | None: ...

    def select(self, tokens: Tensor) -> Tensor:
        """Patch embeddings with their positions [B, L, D] -> the sequences the blocks see [N, M, D]."""
        ...
