"""What speeds up a SimCLR step on a CPU: memory that is reused, and products for the small convolutions.

    python benchmarks/step.py [--rounds 5] [--seconds 6]

Forward, backward and update of ResNet-18, batch 256, two views of 32x32 that are ready, bf16. The variants take turns in
one process; a ratio compares neighbours in time. After each round a plain bfloat16 product of large matrices: the step's
FLOPs a second over its are the share of the machine's matrix rate. Below that, the layers `swell.nets.convolution` replaces,
each by itself, and how far their gradients are from those of float32.
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
from swell.ledger import counted_flops  # noqa: E402
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
SIDE = 2048  # of the matrices whose product tells the machine's rate
VARIANTS = {"plain": (False, False), "memory": (True, False), "products": (False, True), "both": (True, True)}


def step_of_resnet18(batch: int = BATCH) -> Callable[[], object]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig("resnet18", 1.0, (3, 32, 32), (0.5,) * 3, (0.25,) * 3))
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method = SimCLR(hidden=512, outputs=128)
    parts = method.parts(encoder)
    optimizer = make_optimizer("sgd", [encoder, parts], 0.06, 1e-4, 0.9)
    pair = torch.rand(2 * batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    views = Views((pair,), ("global",), batch)

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


def matrix_rate(seconds: float) -> float:
    """FLOPs a second of bfloat16 products of square matrices."""
    a, b = torch.randn(2, SIDE, SIDE).bfloat16()
    for _ in range(3):
        a @ b
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        a @ b
        count += 1
    return 2 * SIDE**3 * count / elapsed


def gradient_gaps(inputs: int, outputs: int, side: int, stride: int) -> dict[str, float]:
    """Relative distance of a layer's gradients, of weight and input, from those of torch's convolution in float32: of
    ours and of torch's own in bfloat16, and of ours in float32.
    """
    torch.manual_seed(0)
    ours: nn.Module = Conv3x3(inputs, outputs, stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2 * BATCH, inputs, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    up = torch.randn(2 * BATCH, outputs, side // stride, side // stride).contiguous(memory_format=torch.channels_last)

    def gradients(products: bool, half: bool) -> list[torch.Tensor]:
        convolution.LEAST_WEIGHTS = PRODUCTS if products else 2**62
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = ours(x)
        return [g.float() for g in torch.autograd.grad(y, [ours.weight, x], up.to(y.dtype))]

    exact = gradients(False, False)
    found = {"ours, bf16": (True, True), "torch, bf16": (False, True), "ours, fp32": (True, False)}
    return {
        name: max(float((g - e).norm() / e.norm()) for g, e in zip(gradients(*how), exact, strict=True))
        for name, how in found.items()
    }


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


def compare(
    step: Callable[[], object], variants: list[str], rounds: int, seconds: float, rates: list[float] | None = None
) -> dict[str, Any]:
    """Per variant: its rounds, and plain's time over its own, round by round; `rates` gets the matrix rate of each."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in variants:
            runs[name].append(timed(step, name, seconds))
        if rates is not None:
            rates.append(matrix_rate(seconds / 2))
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
    step, rates = step_of_resnet18(), list[float]()
    with counted_flops() as flops:
        step()
    whole = compare(step, list(VARIANTS), args.rounds, args.seconds, rates)
    shares = [flops[0] / run["seconds"] / rate for run, rate in zip(whole["both"]["runs"], rates, strict=True)]
    print(
        f"  {statistics.median(rates) / 1e9:.0f} GFLOP/s of matrix products, the step {statistics.median(shares):.0%} of it"
    )
    layers, gaps = {}, {}
    for layer in LAYERS:
        name = "{}->{} at {}, stride {}".format(*layer)
        print(name)
        layers[name] = compare(step_of_layer(*layer), ["memory", "both"], args.rounds, args.seconds / 3)
        gaps[name] = gradient_gaps(*layer)
        print("  gradients from float32's: " + ", ".join(f"{who} {gap:.1e}" for who, gap in gaps[name].items()))
    both = whole["both"]["ratios"]
    told = ", ".join(f"{name} {whole[name]['ratio']:.2f}x" for name in VARIANTS)
    told += (
        f"; {statistics.median(shares):.0%} of the machine's bf16 matrix rate of {statistics.median(rates) / 1e9:.0f} GFLOP/s "
        f"(goal 50 %); gradients of the replaced layers within {max(g['ours, bf16'] for g in gaps.values()):.2%} of float32's "
        f"(goal 1 %)"
    )
    line = claim(
        "ResNet-18 SimCLR step, bf16, batch 256, both speed-ups over plain",
        statistics.mean(both),
        statistics.stdev(both) if len(both) > 1 else None,
        len(both),
        time.perf_counter() - begun,
        "x",
        told,
    )
    path = write_result("step", {
        "claim": line, "step": whole, "layers": layers, "seconds_per_turn": args.seconds, "flops": flops[0],
        "matrix_rates": rates, "shares": shares, "gradient_gaps": gaps,
    })  # fmt: skip
    print(f"{line}\n{os.path.relpath(path)}")


if __name__ == "__main__":
    main()
