"""What speeds up a SimCLR step on a CPU: memory that is reused, and products for the small convolutions.

    python benchmarks/step.py [--rounds 5] [--seconds 6]

Forward, backward and update of ResNet-18, batch 256, two views of 32x32 that are ready, bf16. The variants take turns in
one process; a ratio compares neighbours in time. Below that, the layers `swell.nets.convolution` replaces, each by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from swell.threads import bind_threads

bind_threads()

import torch  # noqa: E402
from torch import nn  # noqa: E402

from _common import Load, claim, write_result  # noqa: E402
from swell.methods.registry import Views  # noqa: E402
from swell.methods.simclr import SimCLR  # noqa: E402
from swell.nets import convolution  # noqa: E402
from swell.nets.convolution import Conv3x3  # noqa: E402
from swell.nets.encoder import Encoder, EncoderConfig  # noqa: E402
from swell.training.allocator import memory_reused  # noqa: E402
from swell.training.optim import make_optimizer  # noqa: E402

BATCH = 256
LAYERS = ((512, 512, 4, 1), (256, 512, 8, 2))  # inputs, outputs, side of the map, stride
PRODUCTS = convolution.LEAST_WEIGHTS
VARIANTS = {"plain": (False, False), "memory": (True, False), "products": (False, True), "both": (True, True)}


def step_of_resnet18() -> Callable[[], object]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig("resnet18", 1.0, (3, 32, 32), (0.5,) * 3, (0.25,) * 3))
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method = SimCLR(hidden=512, outputs=128)
    parts = method.parts(encoder)
    optimizer = make_optimizer("sgd", [encoder, parts], 0.06, 1e-4, 0.9)
    pair = torch.rand(2 * BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    views = Views((pair,), ("global",), BATCH)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.loss(encoder, parts, views, 0.5).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def step_of_layer(inputs: int, outputs: int, side: int, stride: int) -> Callable[[], object]:
    layer: nn.Module = Conv3x3(inputs, outputs, stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(2 * BATCH, inputs, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        y.backward(y)

    return step


def timed(step: Callable[[], object], variant: str, seconds: float) -> dict[str, float]:
    """Seconds and CPU seconds a step of the variant, two steps of warm-up before; what others used meanwhile."""
    reused, products = VARIANTS[variant]
    convolution.LEAST_WEIGHTS = PRODUCTS if products else 2**62
    with memory_reused() if reused else nullcontext():
        step()
        step()
        load, cpu, start, steps = Load(), time.process_time(), time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            step()
            steps += 1
        return {"seconds": elapsed / steps, "cpu": (time.process_time() - cpu) / steps, **load.read()}


def compare(step: Callable[[], object], variants: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Per variant: its rounds, and plain's time over its own, round by round."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in variants:
            runs[name].append(timed(step, name, seconds))
    out = {}
    for name in variants:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs[variants[0]], runs[name], strict=True)]
        cpu = [a["cpu"] / b["cpu"] for a, b in zip(runs[variants[0]], runs[name], strict=True)]
        out[name] = {
            "runs": runs[name],
            "ratios": ratios,
            "ratio": statistics.median(ratios),
            "cpu_ratio": statistics.median(cpu),
            "seconds": statistics.median(run["seconds"] for run in runs[name]),
        }
        print(
            f"  {name:9s} {out[name]['seconds']:.3f} s, {out[name]['ratio']:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"CPU {out[name]['cpu_ratio']:.2f}x, others {max(run['foreign'] for run in runs[name]):.2f} cores",
            flush=True,
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant (default 5)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a turn (default 6)")
    args = parser.parse_args()
    begun = time.perf_counter()
    print("ResNet-18 step")
    whole = compare(step_of_resnet18(), list(VARIANTS), args.rounds, args.seconds)
    layers = {}
    for layer in LAYERS:
        name = "{}->{} at {}, stride {}".format(*layer)
        print(name)
        layers[name] = compare(step_of_layer(*layer), ["memory", "both"], args.rounds, args.seconds / 3)
    both = whole["both"]["ratios"]
    told = ", ".join(f"{name} {whole[name]['ratio']:.2f}x" for name in VARIANTS)
    line = claim(
        "ResNet-18 SimCLR step, bf16, batch 256, both speed-ups over plain",
        statistics.mean(both),
        statistics.stdev(both) if len(both) > 1 else None,
        len(both),
        time.perf_counter() - begun,
        "x",
        told,
    )
    path = write_result("step", {"claim": line, "step": whole, "layers": layers, "seconds_per_turn": args.seconds})
    print(f"{line}\n{os.path.relpath(path)}")


if __name__ == "__main__":
    main()
