"""Multinomial logistic regression, solved to convergence by preconditioned L-BFGS on the full batch.

With features x, weights W and biases b the objective is

    F(W, b) = 1/n sum_i -log softmax(W^T x_i + b)[y_i] + penalty/2 ||W||^2,

biases free. scikit-learn's C is 1 / (n * penalty). The minimum is unique up to a constant added to all
biases, so the solver decides only how fast it is found. Its first Hessian is that of probabilities which do
not depend on x, curve X^T X / n + penalty for every class: it removes the correlations between features that
slow plain L-BFGS down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from swell.evaluation.features import accuracy
from swell.seeding import generator_for

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # strong to weak; each fit starts where the one before ended
PATIENCE = 2  # the path ends after as many penalties in a row that score below the best
DEFAULT_PENALTY = 1e-2  # for sets too small to choose on
VALIDATION_SHARE = 0.2
TOLERANCE, MAX_ITERATIONS = 1e-6, 300
_CHUNK = 1 << 24  # numbers of `x` in one product: 64 MiB
MAX_PRECONDITIONED = 4096  # above this width the Cholesky factor costs more than it saves


@dataclass(frozen=True)
class Fit:
    weights: Tensor  # [D + 1, C] float64, biases in the last row
    iterations: int
    converged: bool  # largest gradient entry <= tolerance

    def logits(self, x: Tensor) -> Tensor:
        """Logits [m, C] of the rows of `x` [m, D]."""
        return x @ self.weights[:-1].to(x) + self.weights[-1].to(x)

    def predict(self, x: Tensor) -> Tensor:
        """Classes [m] of the rows of `x` [m, D]."""
        return self.logits(x).argmax(1)


def objective(x: Tensor, y: Tensor, penalty: float) -> Callable[[Tensor], tuple[float, Tensor]]:
    """weights [D + 1, C] float64 -> F and its gradient, both float64; products in the precision of `x`."""
    size = max(1, _CHUNK // x.shape[1])

    def value_and_gradient(weights: Tensor) -> tuple[float, Tensor]:
        w, gradient = weights.to(x), torch.zeros_like(weights)
        rows_of_w = w[:-1].T.contiguous()  # [C, D]: with few classes, products that run along the rows are far faster
        loss = torch.zeros((), dtype=torch.float64, device=x.device)
        for xs, ys in zip(torch.split(x, size), torch.split(y, size), strict=True):
            log_p = F.log_softmax(F.linear(xs, rows_of_w, w[-1]), dim=1)  # [rows, C]
            loss -= log_p.gather(1, ys[:, None]).double().sum()
            residual = log_p.exp_()
            residual[torch.arange(len(ys), device=x.device), ys] -= 1
            gradient[:-1] += (residual.T @ xs).T
            gradient[-1] += residual.double().sum(0)
        gradient /= len(x)
        gradient[:-1] += penalty * weights[:-1]
        return (loss / len(x) + penalty / 2 * weights[:-1].square().sum()).item(), gradient

    return value_and_gradient


def second_moment(x: Tensor) -> Tensor | None:
    """X^T X / n [D, D] float64, or None where D is too wide to factor."""
    if x.shape[1] > MAX_PRECONDITIONED:
        return None
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for rows in torch.split(x, 8192):
        total += rows.T @ rows
    return total / len(x)


def curvature(x: Tensor, weights: Tensor) -> float:
    """Mean eigenvalue of diag(p) - p p^T over rows and over the C - 1 directions in which it is not zero."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in torch.split(x, max(1, _CHUNK // x.shape[1])):
        p = torch.addmm(weights[-1].to(x), rows, weights[:-1].to(x)).softmax(1)
        total += (1 - p.square().sum(1)).double().sum()
    return total.item() / len(x) / (weights.shape[1] - 1)


def preconditioner(moment: Tensor | None, curve: float, penalty: float) -> Callable[[Tensor], Tensor]:
    """gradient [D + 1, C] -> Newton step for the Hessian curve X^T X / n + penalty (without one, itself)."""
    if moment is None:
        return lambda gradient: gradient
    curve = max(curve, 1e-3)  # rows fitted all but perfectly leave no curvature to measure
    hessian = curve * moment
    hessian.diagonal().add_(penalty + 1e-4 * curve)  # rounding of X^T X must not make it indefinite
    factor = torch.linalg.cholesky(hessian)
    return lambda gradient: torch.cat([torch.cholesky_solve(gradient[:-1], factor), gradient[-1:] / curve])


def minimise(
    function: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    step_of: Callable[[Tensor], Tensor],
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    memory: int = 10,
) -> Fit:
    """L-BFGS with `step_of` as initial inverse Hessian; steps that do not descend are halved.

    Source: the two-loop recursion of Nocedal & Wright, Numerical Optimization (2006), section 7.2.
    """
    x = start.clone()
    value, gradient = function(x)
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=memory)  # s, y, 1 / s.y
    scale = 1.0
    for iteration in range(max_iterations):
        if gradient.abs().max() <= tolerance:
            return Fit(x, iteration, True)
        q, alphas = gradient, []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * (s * q).sum().item())
            q = q - alphas[-1] * y
        direction = scale * step_of(q)
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            direction = direction + s * (alpha - rho * (y * direction).sum().item())
        slope = (gradient * direction).sum().item()  # F falls along -direction
        length, noise = 1.0, 1e-7 * abs(value)  # rounding of the float32 products must not fail the search
        while length > 1e-6:
            x_new = x - length * direction
            value_new, gradient_new = function(x_new)
            if value_new <= value - 1e-4 * length * slope + noise:
                break
            length /= 2
        else:  # no descent left at this precision
            return Fit(x, iteration, False)
        s, y = x_new - x, gradient_new - gradient
        sy = (s * y).sum().item()
        if sy > 1e-12 * s.norm().item() * y.norm().item():
            pairs.append((s, y, 1 / sy))
            scale = sy / (y * step_of(y)).sum().item()
        x, value, gradient = x_new, value_new, gradient_new
    return Fit(x, max_iterations, bool(gradient.abs().max() <= tolerance))


def fit(
    x: Tensor,
    y: Tensor,
    classes: int,
    penalty: float,
    start: Tensor | None = None,
    moment: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Fit:
    """Minimise F on rows `x` [n, D], labels `y` [n] in 0..classes-1; `moment` is `second_moment(x)`."""
    if start is None:
        start = torch.zeros(x.shape[1] + 1, classes, dtype=torch.float64, device=x.device)
    step_of = preconditioner(moment, curvature(x, start), penalty)
    return minimise(objective(x, y, penalty), start, step_of, tolerance)


def validation_split(y: Tensor, seed: int) -> tuple[Tensor, int]:
    """An order of the rows [n] and the number m to fit on; the rest, a fifth of every class, validates.

    A class with one or two rows stays whole in the fitting part. Depends on `y` and the seed only, so every
    arm of a comparison chooses on the same rows.
    """
    fitting, validating = [], []
    for c in torch.unique(y).tolist():
        rows = (y == c).nonzero()[:, 0].cpu()
        rows = rows[torch.randperm(len(rows), generator=generator_for(seed, "probe", "penalty", int(c)))]
        held = int(VALIDATION_SHARE * len(rows) + 0.5)
        validating.append(rows[:held])
        fitting.append(rows[held:])
    return torch.cat(fitting + validating).to(y.device), sum(map(len, fitting))


def choose_and_fit(
    x: Tensor, y: Tensor, classes: int, seed: int, split: tuple[Tensor, int] | None = None
) -> tuple[Fit, dict[str, object]]:
    """Choose the penalty on a part of train, then fit all of it; the test split is never seen.

    `x` [n, D] is standardised. The best validation accuracy wins, the stronger penalty among equals. `split` is
    `validation_split(y, seed)` unless rows that belong together must stay together.
    """
    order, m = split or validation_split(y, seed)
    x, y = x[order], y[order]  # fitting part and validation part are now views, not copies
    chosen, start = DEFAULT_PENALTY, None
    scores: dict[float, float] = {}
    if m < len(x):
        moment, path = second_moment(x[:m]), None
        for penalty in PENALTIES:
            candidate = fit(x[:m], y[:m], classes, penalty, path, moment)
            path, score = candidate.weights, accuracy(candidate.predict(x[m:]), y[m:])
            if score > max(scores.values(), default=-1.0):
                chosen, start = penalty, path
            scores[penalty] = score
            if max(list(scores.values())[-PATIENCE:]) < max(scores.values()):
                break
    final = fit(x, y, classes, chosen, start, second_moment(x))
    return final, {
        "penalty": chosen,
        "chosen_on": len(x) - m,
        "iterations": final.iterations,
        "converged": final.converged,
        "validation": {f"{p:g}": a for p, a in scores.items()},
    }
