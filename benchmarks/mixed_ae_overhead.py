"""What mixing costs: seconds per image of a training step of MAE, MixedAE and naive mixing, alternating in one process.

    python benchmarks/mixed_ae_overhead.py [--rounds 9] [--seconds 4] [--batch 256]

ViT-tiny, patches of 4, images of 32 pixels that are ready, the decoder of the small preset, the precision the machine
prefers: forward, backward and update. MixedAE encodes as many tokens as MAE does. Ratios compare neighbours in time.
The paper reports 3 % for ViT-B at 224 pixels; the goal here is 10 %.
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

from _common import Load, claim, write_result  # noqa: E402
from swell.methods import make_method  # noqa: E402
from swell.methods.registry import Views  # noqa: E402
from swell.nets.encoder import Encoder, EncoderConfig  # noqa: E402
from swell.training.allocator import memory_reused  # noqa: E402
from swell.training.machine import pick_precision  # noqa: E402
from swell.training.optim import make_optimizer  # noqa: E402

TARGET = 1.10
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "mae": ("mae", {}),
    "mixed_ae": ("mixed_ae", {}),
    "naive mixing": ("mixed_ae", {"homologous": False, "contrast": 0.0, "segments": False}),
    "mixed_ae, full attention": ("mixed_ae", {"homologous": False}),  # where the overhead comes from
}


def step_of(name: str, options: dict[str, Any], batch: int, device: torch.device, half: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig("vit_tiny", 1.0, (3, 32, 32), (0.5,) * 3, (0.25,) * 3, {"patch": 4}))
    method = make_method(name, options)
    parts = method.parts(encoder)
    for module in (encoder, parts):
        module.to(device)
    optimizer = make_optimizer("adamw", [encoder, parts], 2e-4, 0.05, 0.9, 0.95)
    views = Views((torch.rand(batch, 3, 32, 32, device=device),), ("global",), batch)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = method.loss(encoder, parts, views, 0.5).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(step: Callable[[], object], seconds: float, device: torch.device) -> tuple[float, float]:
    """Seconds and CPU seconds of a step, by repeating it for about that long after one of warm-up."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / count, (time.process_time() - cpu) / count


def main(rounds: int, seconds: float, batch: int) -> None:
    begun = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = pick_precision("auto", device, 64)
    steps = {arm: step_of(*kind, batch, device, precision == "bf16") for arm, kind in ARMS.items()}
    runs: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    with memory_reused():
        load = Load()
        for _ in range(rounds):
            for arm, step in steps.items():
                runs[arm].append(timed(step, seconds, device))
    rows = {}
    for arm, found in runs.items():
        ratios, cpu = ([b[i] / a[i] for a, b in zip(runs["mae"], found, strict=True)] for i in (0, 1))
        rows[arm] = {
            "ms_per_image": 1e3 * statistics.median(wall for wall, _ in found) / batch,
            "ratio": statistics.median(ratios),
            "cpu_ratio": statistics.median(cpu),
            "ratios": ratios,
        }
        told = f"{rows[arm]['ratio']:.3f} x MAE, in CPU seconds {rows[arm]['cpu_ratio']:.3f}"
        print(f"{arm:26s} {rows[arm]['ms_per_image']:8.3f} ms an image, {told}", flush=True)
    ratio, ratios = rows["mixed_ae"]["ratio"], rows["mixed_ae"]["ratios"]
    sd = statistics.stdev(ratios) if rounds > 1 else None
    detail = f"ViT-tiny, 64 patches, batch {batch}, {precision} (goal {TARGET:g}); naive mixing {rows['naive mixing']['ratio']:.2f}"
    spent = time.perf_counter() - begun
    line = claim("MixedAE's training step over MAE's", ratio, sd, rounds, spent, "x", detail)
    settings = {"batch": batch, "precision": precision, "seconds": seconds, "rounds": rounds, "target": TARGET}
    print(write_result("mixed-ae-overhead", {"claim": line, "rows": rows, "settings": settings, "load": load.read()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=256)
    main(**vars(parser.parse_args()))
