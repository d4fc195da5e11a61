"""Forward and backward of a loss alone, on given projections: ours over lightly's, same tensors, interleaved.

    python benchmarks/losses.py [--rounds 15]

Needs lightly beside torch. Values are compared first. Ratios below 1 mean that ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from swell.threads import bind_threads

bind_threads()

import torch  # noqa: E402

# torchvision does not import beside a CPU build of torch unless its operators are declared first.
_TORCHVISION = torch.library.Library("torchvision", "DEF")  # kept: its end would take the declarations back
_TORCHVISION.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_TORCHVISION.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lightly.loss import BarlowTwinsLoss, NTXentLoss, SwaVLoss, VICRegLoss  # noqa: E402
from torch import Tensor  # noqa: E402

from _common import Load, claim, write_result  # noqa: E402
from swell.methods.assignment import swapped_prediction  # noqa: E402
from swell.methods.barlow_twins import barlow_twins_loss  # noqa: E402
from swell.methods.simclr import nt_xent  # noqa: E402
from swell.methods.swav import codes  # noqa: E402
from swell.methods.vicreg import covariance, invariance, variance  # noqa: E402

TARGET = 1.1
SECONDS = 0.4  # of one side in a round
Loss = Callable[[Tensor], Tensor]


def swav(scores: Tensor) -> Tensor:
    """SwAV on scores [V, B, K] whose first two views are the large crops, without a queue."""
    q = codes(scores[:2].detach(), scores.new_empty(0, scores.shape[-1]), 0.05, 3)
    return swapped_prediction(scores, q, [0, 1], 0.1)


def pairs() -> dict[str, tuple[tuple[int, ...], Loss, Loss]]:
    """Name -> shape of what the loss sees, ours, lightly's."""
    lightly_simclr, lightly_barlow = NTXentLoss(0.2), BarlowTwinsLoss(5e-3)
    lightly_vicreg, lightly_swav = VICRegLoss(), SwaVLoss()

    def vicreg(z: Tensor) -> Tensor:
        return 25 * invariance(z) + 25 * variance(z).mean() + 2 * covariance(z).mean()  # lightly halves the variances

    return {
        "simclr": ((2, 256, 256), lambda z: nt_xent(z, 0.2), lambda z: lightly_simclr(z[0], z[1])),
        "simclr, batch 1024": ((2, 1024, 128), lambda z: nt_xent(z, 0.2), lambda z: lightly_simclr(z[0], z[1])),
        "barlow_twins": ((2, 256, 2048), lambda z: barlow_twins_loss(z, 5e-3), lambda z: lightly_barlow(z[0], z[1])),
        "vicreg": ((2, 256, 2048), vicreg, lambda z: lightly_vicreg(z[0], z[1])),
        "swav": ((8, 256, 3000), swav, lambda s: lightly_swav([s[0], s[1]], list(s[2:]))),
    }


def seconds_of(loss: Loss, z: Tensor) -> float:
    """Seconds of a forward and backward, by repeating it for `SECONDS`."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        z.grad = None
        loss(z).backward()
        count += 1
    return elapsed / count


def measure(shape: tuple[int, ...], ours: Loss, theirs: Loss, rounds: int) -> dict[str, Any]:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if shape[-1] == 3000:
        z = z / 128**0.5  # scores are products of unit vectors
    z.requires_grad_()
    values = [loss(z).item() for loss in (ours, theirs)]
    load, times = Load(), [(seconds_of(ours, z), seconds_of(theirs, z)) for _ in range(rounds)]
    ratios = [a / b for a, b in times]
    return {
        "shape": shape,
        "values": values,
        "ours_ms": 1e3 * statistics.median(a for a, _ in times),
        "theirs_ms": 1e3 * statistics.median(b for _, b in times),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "load": load.read(),
    }


def main(rounds: int) -> None:
    begun, rows = time.perf_counter(), {}
    for name, (shape, ours, theirs) in pairs().items():
        rows[name] = measure(shape, ours, theirs, rounds)
        row = rows[name]
        values = " and ".join(f"{v:.5g}" for v in row["values"])
        print(f"{name:20s} {row['ours_ms']:8.2f} ms, {row['ratio']:.2f} x lightly's, values {values}", flush=True)
    worst = max(rows, key=lambda name: rows[name]["ratio"])
    told = ", ".join(f"{name} {row['ratio']:.2f}" for name, row in rows.items())
    detail = f"worst of {len(rows)}: {worst} (target {TARGET}); {told}"
    ratios, seconds = rows[worst]["ratios"], time.perf_counter() - begun
    line = claim(
        "loss forward + backward over lightly's", rows[worst]["ratio"], statistics.stdev(ratios), rounds, seconds, "x", detail
    )  # fmt: skip
    print(write_result("losses", {"claim": line, "rows": rows, "target": TARGET, "seconds": seconds}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    main(**vars(parser.parse_args()))
