"""How fast are the views? Batched views against a per-sample Pillow pipeline with the same settings.

    python benchmarks/views.py [--rounds 5] [--seconds 1.5] [--threads 2] [--device cpu] [--compile] [--out DIR]

Random 32 x 32 images, batch 256, two views. The variants run in turn within every round, so that a ratio compares
neighbours in time; rates count single views. On a machine that others use too, set OMP_WAIT_POLICY=passive: with
the default, OpenMP's threads spin at the end of every operation while the one they wait for has no core.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from swell.files import write_json
from swell.seeding import generator_for
from swell.views import VIEWS, ViewGroup, ViewPlan, colour
from swell.views.render import render

HERE = Path(__file__).resolve().parent
BATCH = 256
PLANS = {
    "simclr strong": VIEWS["simclr"](),
    "crop 0.2-1, flip, jitter 0.4/0.4/0.4/0.1 p 0.8, grey 0.2": ViewPlan(
        (ViewGroup(count=2, scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_p=0.0),)
    ),
}


def pillow_view(image: Image.Image, group: ViewGroup, rng: random.Random) -> np.ndarray:
    """One view the usual way, sample by sample: 8-bit Pillow operations, then float32 [C, H, W] in [0, 1]."""
    width, height = image.size
    box = (0, 0, width, height)
    for _ in range(10):
        area = width * height * rng.uniform(*group.scale)
        ratio = math.exp(rng.uniform(math.log(group.ratio[0]), math.log(group.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            box = (left, top, left + w, top + h)
            break
    view = image.crop(box).resize((width, height), Image.Resampling.BICUBIC)
    if rng.random() < group.jitter_p:
        for k in rng.sample(range(4), 4):
            if k == 3:
                hue, saturation, value = view.convert("HSV").split()
                shift = round(255 * rng.uniform(-group.hue, group.hue))
                hue = Image.fromarray((np.asarray(hue).astype(np.int16) + shift).astype(np.uint8))
                view = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
            else:
                half = (group.brightness, group.contrast, group.saturation)[k]
                enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[k]
                view = enhance(view).enhance(rng.uniform(max(0.0, 1 - half), 1 + half))
    if rng.random() < group.grey_p:
        view = ImageOps.grayscale(view).convert("RGB")
    if rng.random() < group.blur_p:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(*group.blur_sigma)))
    if rng.random() < group.flip:
        view = ImageOps.mirror(view)
    return np.asarray(view, dtype=np.float32).transpose(2, 0, 1) / 255


def pillow_views(images: list[Image.Image], plan: ViewPlan, rng: random.Random) -> torch.Tensor:
    views = [pillow_view(image, group, rng) for group in plan.groups for _ in range(group.count) for image in images]
    return torch.from_numpy(np.stack(views))


def rate(make: Callable[[], int], seconds: float, finish: Callable[[], None]) -> tuple[float, float]:
    """Views a second of wall clock, and views a second of processor time (less moved by what else runs)."""
    made, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        made += make()
    finish()
    elapsed = time.perf_counter() - wall
    return made / elapsed, made / (time.process_time() - cpu)


def variants(plan: ViewPlan, device: torch.device, compile_too: bool) -> dict[str, Callable[[], int]]:
    """Name -> a function that makes one batch of views and returns how many."""
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=generator_for(0, "images"))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    images = images.to(device)
    plain = colour.JITTER
    compiled = tuple(torch.compile(operation, dynamic=True) for operation in plain)
    rng, generator = random.Random(0), generator_for(0, "views")

    def with_compiled() -> int:
        colour.JITTER = compiled
        try:
            return sum(map(len, render(plan, images, generator)))
        finally:
            colour.JITTER = plain

    found: dict[str, Callable[[], int]] = {
        "pillow, one process": lambda: len(pillow_views(pictures, plan, rng)),
        "faithful": lambda: sum(map(len, render(plan, images, generator))),
        "fused": lambda: sum(map(len, render(plan, images, generator, fused=True))),
    }
    return found | {"faithful, jitter compiled": with_compiled} if compile_too else found


def measure(plan: ViewPlan, rounds: int, seconds: float, device: torch.device, compile_too: bool) -> dict[str, Any]:
    makers = variants(plan, device, compile_too)
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    warm_up = {}
    for name, make in makers.items():
        start = time.perf_counter()
        for _ in range(3):
            make()
        finish()
        warm_up[name] = round(time.perf_counter() - start, 2)
    rates: dict[str, list[float]] = {name: [] for name in makers}
    a_core: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(rounds):
        order = list(makers)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            views, per_core = rate(makers[name], seconds, finish)
            rates[name].append(views)
            a_core[name].append(per_core)
    reference = rates[next(iter(makers))]
    return {
        name: {
            "views_per_second": [round(value) for value in values],
            "mean": round(statistics.mean(values)),
            "sd": round(statistics.stdev(values)) if rounds > 1 else None,
            "best": round(max(values)),
            "views_per_core_second": [round(value) for value in a_core[name]],
            "views_per_core_second_mean": round(statistics.mean(a_core[name])),
            "times_pillow": [round(value / base, 2) for value, base in zip(values, reference, strict=True)],
            "times_pillow_median": round(statistics.median(v / b for v, b in zip(values, reference, strict=True)), 2),
            "first_three_batches_s": warm_up[name],
        }
        for name, values in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="a variant, a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also torch.compile of the jitter (a minute to start)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "2026-11-21-views")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    start, load = time.perf_counter(), os.getloadavg()[0]
    results = {name: measure(plan, given.rounds, given.seconds, device, given.compile) for name, plan in PLANS.items()}
    seconds = round(time.perf_counter() - start)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout.strip()
    named = torch.cuda.get_device_name() if device.type == "cuda" else f"{given.threads} threads, {platform.machine()}"
    claims = [
        f"{plan}, {variant}: {row['mean']:,} +- {row['sd'] or 0:,} single 32x32 views/s (batch {BATCH}), "
        f"{row['views_per_core_second_mean']:,} a core-second, "
        f"{row['times_pillow_median']} x Pillow in one process; n = {given.rounds} rounds of {given.seconds:g} s, "
        f"{seconds} s in all, {device.type} ({named}), commit {commit}"
        for plan, rows in results.items()
        for variant, row in rows.items()
    ]
    write_json(
        given.out / "result.json",
        {
            "claim": claims[1],
            "claims": claims,
            "results": results,
            "rounds": given.rounds,
            "seconds_a_round": given.seconds,
            "seconds": seconds,
            "device": f"{device.type} ({named})",
            "load_before": round(load, 2),
            "wait_policy": os.environ.get("OMP_WAIT_POLICY", "the default"),
            "torch": torch.__version__,
            "commit": commit,
        },
    )
    print("\n".join(claims))


if __name__ == "__main__":
    main()
