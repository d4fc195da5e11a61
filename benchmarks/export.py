"""Do exported encoders give what torch gives? 1,000 real images (and real rows), a ResNet, a ViT and a perceptron.

    python benchmarks/export.py [--count 1000] [--steps 20]

Each encoder is trained for a few steps, so that its batch statistics are those of real data, and written as .safetensors,
.onnx and .pt2. What each file gives, read back as another program would (the interpreter of the docs, onnxruntime,
torch.export.load), is compared with `swell.load(run).encode` of the same samples, in batches of 1, 7 and 256.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

import swell
from _common import cifar10, claim, write_result
from swell.exporting.portable import run_graph
from swell.exporting.write import difference

NETS: dict[str, dict[str, Any]] = {
    "resnet18": {"backbone": "resnet18"},
    "vit_tiny": {"backbone": "vit_tiny"},
    "mlp": {"backbone": "mlp"},
}


def rows() -> np.ndarray:
    """1,797 real rows of 64 numbers: the digits of scikit-learn as a table."""
    return swell.open("builtin:digits:all").samples.reshape(-1, 64).astype(np.float32)


def reader(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What another program does with the file."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"x": x})[0]
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()
        return lambda x: program(torch.from_numpy(x)).detach().numpy()
    import json

    with safe_open(path, "pt") as file:
        lines = json.loads(file.metadata()["graph"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
    return lambda x: run_graph(lines, tensors, x=torch.from_numpy(x)).numpy()


def compared(run: swell.Run, path: Path, samples: np.ndarray) -> dict[str, float]:
    began = time.perf_counter()
    swell.export(run, path)
    wrote, read = time.perf_counter() - began, reader(path)
    expected, worst = run.encode(samples), 0.0
    for size in (1, 7, 256):
        some = samples[: min(len(samples), 8 * size)] if size < 256 else samples
        parts = [read(np.ascontiguousarray(some[i : i + size])) for i in range(0, len(some), size)]
        worst = max(worst, difference(np.concatenate(parts), expected[: len(some)]))
    return {"difference": worst, "seconds": wrote, "bytes": path.stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="swell-export-"))
    found: dict[str, dict[str, dict[str, float]]] = {}
    try:
        train, test = np.array(cifar10()[0][:2000]), np.array(cifar10("test")[0][: args.count])
        for name, settings in NETS.items():
            data, samples = (rows(), rows()[: args.count]) if name == "mlp" else (train, test)
            run = swell.pretrain(
                data,
                folder / name,
                steps=args.steps,
                batch_size=64,
                precision="fp32",
                device="cpu",
                report=False,
                **settings,
            )
            found[name] = {
                ending: compared(run, folder / f"{name}.{ending}", samples) for ending in ("safetensors", "onnx", "pt2")
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    worst = max(part["difference"] for parts in found.values() for part in parts.values())
    told = "; ".join(
        f"{name} " + ", ".join(f"{ending} {part['difference']:.1e}" for ending, part in parts.items())
        for name, parts in found.items()
    )
    spent = time.perf_counter() - began
    detail = f"largest relative difference of a row of features from torch in float32, {args.count:,} real samples, batches of 1, 7 and 256 (target 1e-4): {told}"
    line = claim("export", worst, None, len(found) * 3, spent, detail=detail)
    print(write_result("export", {"claim": line, "nets": found, "count": args.count, "seconds": spent}))
    print(line)


if __name__ == "__main__":
    main()
