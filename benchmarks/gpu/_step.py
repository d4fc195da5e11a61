"""The step of SimCLR with ResNet-18: eager, compiled, and compiled with its kernels captured in CUDA graphs."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from swell.data.source import Source
from swell.recipes import Recipe
from swell.training.build import build, resolve
from swell.training.step import Stepper

BATCH, STEPS, WARM = 512, 60, 15
MODES = {"eager": None, "compiled": "default", "captured": "reduce-overhead"}
SHOWN = 15  # kernels of the profile


def measured(real: Source, device: str, tiny: bool) -> dict[str, Any]:
    """Views a second and TFLOP/s of every mode, and what the fastest spends its time on."""
    found: dict[str, Any] = {}
    batch, steps, warm = (16, 3, 2) if tiny else (BATCH, STEPS, WARM)
    width, heads = (0.125, {"hidden": 32, "outputs": 16}) if tiny else (1.0, {})
    recipe = Recipe(method="simclr", width=width, batch_size=batch, steps=10_000, method_options=heads)
    recipe = resolve(recipe, real, torch.device(device))
    steppers: dict[str, Stepper] = {}
    for name, mode in MODES.items():
        if tiny and mode is not None:  # a rehearsal compiles nothing
            continue
        stepper = steppers[name] = build(recipe, real, None, torch.device(device))
        if mode is not None:
            stepper.forward = compiled(stepper.encoder, mode)
        _, cost = stepper.measured(0, 0.0)
        seconds = timed(stepper, steps, warm, device)
        found[name] = {
            "views_per_second": 2 * batch * steps / seconds,
            "teraflops_per_second": cost.flops * steps / seconds / 1e12,
            "loss": float(stepper(warm + steps, 0.5)[0]),  # the same in every mode, but for rounding
        }
    best = max(found, key=lambda name: found[name]["views_per_second"])
    return {"modes": found, "fastest": best, "profile": kernels(steppers[best], warm + steps + 1, device)}


def compiled(encoder: nn.Module, mode: str) -> nn.Module:
    made: nn.Module = torch.compile(encoder, mode=mode)  # type: ignore[assignment]
    return made


def timed(stepper: Stepper, steps: int, warm: int, device: str) -> float:
    """Seconds of `steps` steps after `warm` others, the device's work included."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for t in range(warm):
        stepper(t, 0.0)
    wait()
    begun = time.perf_counter()
    for t in range(warm, warm + steps):
        stepper(t, 0.5)
    wait()
    return time.perf_counter() - begun


def kernels(stepper: Stepper, first: int, device: str) -> list[dict[str, Any]]:
    """What five steps spent their time on, the costliest first: milliseconds a step."""
    on_gpu = device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        for t in range(first, first + 5):
            stepper(t, 0.5)
        if on_gpu:
            torch.cuda.synchronize()
    rows = [
        {"name": e.key[:100], "calls": e.count / 5, "ms": (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 5000}
        for e in seen.key_averages()
        if not on_gpu or e.device_type == DeviceType.CUDA
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["ms"])[:SHOWN]
