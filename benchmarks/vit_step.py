"""A training step of our ViT beside timm's of the same shape with the same weights: timm's seconds over ours.

    python benchmarks/vit_step.py [--rounds 9] [--seconds 4] [--batch 64]

Needs timm beside torch. ViT-tiny with patches of 4, 32 pixels: forward, backward and AdamW on the mean squared
feature, with the class token or the mean of the patches as the feature, in fp32 and bf16. Both nets get the same batch and
the same optimiser and take turns in one process; their outputs are compared first. Ratios above 1 mean that ours is faster.
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

import timm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from _common import Load, claim, write_result  # noqa: E402
from swell.nets.timm_weights import to_timm  # noqa: E402
from swell.nets.vit import ViT, make_vit  # noqa: E402
from swell.training.allocator import memory_reused  # noqa: E402
from swell.training.optim import make_optimizer  # noqa: E402

SHAPE, TARGET = (3, 32, 32), 1.0


def nets(pool: str) -> tuple[ViT, nn.Module]:
    """Ours and timm's, with the same weights; both train their positions."""
    torch.manual_seed(0)
    ours = make_vit(SHAPE, 192, {"patch": 4, "positions": "learned", "pool": pool})
    mean = {"class_token": False, "global_pool": "avg", "fc_norm": False} if pool == "mean" else {}
    theirs = VisionTransformer(SHAPE[1], 4, embed_dim=192, depth=12, num_heads=3, num_classes=0, **mean)
    theirs.load_state_dict(to_timm(ours.state_dict(), 4))
    return ours, theirs


def step_of(net: nn.Module, x: Tensor, half: bool) -> Callable[[], None]:
    optimizer = make_optimizer("adamw", [net], 1e-5, 0.05, 0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = net(x)
        y.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds_of(step: Callable[[], None], seconds: float) -> float:
    """Of one step, by repeating it for so long."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        count += 1
    return elapsed / count


def measure(pool: str, half: bool, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    ours, theirs = nets(pool)
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        difference = (ours(x) - theirs(x)).abs().max().item()
    steps = [step_of(net, x, half) for net in (ours, theirs)]
    for step in steps:
        step()
        step()
    load, times = Load(), []
    for i in range(rounds):
        first, second = steps if i % 2 == 0 else steps[::-1]
        pair = seconds_of(first, seconds), seconds_of(second, seconds)
        times.append(pair if i % 2 == 0 else pair[::-1])
    ratios = [b / a for a, b in times]
    return {
        "largest_difference": difference,
        "ours_seconds": statistics.median(a for a, _ in times),
        "timm_seconds": statistics.median(b for _, b in times),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "load": load.read(),
    }


def main(rounds: int, seconds: float, batch: int) -> None:
    begun, rows = time.perf_counter(), {}
    with memory_reused():
        for pool in ("class", "mean"):
            for precision in ("fp32", "bf16"):
                name = f"{pool}, {precision}"
                row = rows[name] = measure(pool, precision == "bf16", batch, rounds, seconds)
                spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
                print(
                    f"{name:12s} ours {row['ours_seconds']:.3f} s, timm {row['timm_seconds']:.3f} s, {row['ratio']:.2f}x "
                    f"({spread}), outputs differ by {row['largest_difference']:.1e}, "
                    f"others {row['load']['foreign']:.2f} cores",
                    flush=True,
                )
    worst = min(rows, key=lambda name: rows[name]["ratio"])
    told = ", ".join(f"{name} {row['ratio']:.2f}" for name, row in rows.items())
    detail = f"lowest of {len(rows)}: {worst} (target {TARGET}); {told}; ViT-tiny, patch 4, {batch} images of 32x32"
    ratios, elapsed = rows[worst]["ratios"], time.perf_counter() - begun
    line = claim(
        f"ViT training step, seconds of timm {timm.__version__} over ours",
        rows[worst]["ratio"],
        statistics.stdev(ratios) if len(ratios) > 1 else None,
        rounds,
        elapsed,
        "x",
        detail,
    )
    print(line)
    print(write_result("vit-step", {"claim": line, "rows": rows, "target": TARGET, "batch": batch, "seconds": elapsed}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--batch", type=int, default=64)
    main(**vars(parser.parse_args()))
