"""Assignments of samples to prototypes, and how well the other views predict them: what SwAV and DINO share."""

from __future__ import annotations

import torch
from torch import Tensor

from swell.methods.terms import full_precision


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3) -> Tensor:
    """Soft assignment Q [N, K] of N samples to K prototypes that gives every prototype about the same share N / K
    (SwAV, equation 5): exp(scores / epsilon), its columns and then its rows divided by their sums, `iterations` times.

    Rows sum to 1, as they are divided last. In logarithms, as exp(1 / 0.05) is already too much for half precision
    and scores of vectors that are not normalised are for any.
    """
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q.log_softmax(0).log_softmax(1)  # columns, then rows, divided by their sums
    return log_q.exp()


@full_precision
def swapped_prediction(scores: Tensor, q: Tensor, targets: list[int], tau: float) -> Tensor:
    """Cross entropy between the assignment by one view and the prediction by another, over all pairs of views.

        mean over t, v != t of  -1/B sum_b sum_k q_t(b, k) log softmax(s_v(b, .) / tau)(k)

    Args:
        scores: s [V, B, K], of all V views of B samples with K prototypes.
        q: assignments [T, B, K] by the target views; they sum to 1 over k.
        targets: where each target stands among the V views.
        tau: temperature.
    """
    log_p = (scores / tau).log_softmax(-1)
    of_others = log_p.sum(0) - log_p[targets]  # [T, B, K]: summed over all views but the target itself
    return -(q * of_others).sum(-1).mean() / (len(scores) - 1)


@full_precision
def prototypes_used(p: Tensor) -> Tensor:
    """exp(H(mean of p)) for distributions p [.., K]: K if prototypes are used alike, 1 if all samples share one."""
    mean = p.detach().flatten(0, -2).mean(0)
    return torch.special.entr(mean).sum().exp()
