"""`swell export`: an encoder with its preparation as one file, compared with torch before it is kept."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from swell.errors import InputError
from swell.exporting.graph import Program, examples, program_of, quietly, traced
from swell.exporting.package import description
from swell.exporting.portable import graph_of, run_graph
from swell.exporting.twins import timm_twin
from swell.files import write_bytes
from swell.model import Model

__all__ = ["TOLERANCE", "difference", "write_export"]

ENDINGS = (".safetensors", ".onnx", ".pt2")
TOLERANCE = 1e-4  # of a row of features, relative to its length, in float32
COMPARED = 64  # samples an export is compared on; benchmarks/export.py takes 1,000
OPSET = 20
_MOST = (1 << 31) - 1  # bytes of an ONNX file without others beside it


def write_export(
    model: Model, out: Path | str, *, timm: bool = False, data: Any = None, quiet: bool = False
) -> dict[str, Any]:
    """Write `model` as .safetensors, .onnx or .pt2 by the ending of `out`; returns what it is and how well it agrees.

    Each takes uint8 images [N, C, H, W] at the run's size, or raw vectors as far as their preparation is arithmetic,
    in batches of any size, and gives features float32 [N, F]. The metadata key `swell` says the rest as JSON: crop and
    resize of images, genes and scaling of vectors (`swell.exporting.package`).

    Args:
        timm: with .safetensors, weights under timm's names, normalisation and arguments in the metadata.
        data: images to compare the written file with torch on; None, and for vectors, takes made-up samples.

    Raises:
        InputError: another ending, a net without a twin in timm, a missing extra, data that do not fit.
        RuntimeError: an export that differs from torch by more than `TOLERANCE`; nothing is written.
    """
    out, ending = Path(out), Path(out).suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"--out {out}", "a file name ending in .safetensors, .onnx or .pt2")
    if timm and ending != ".safetensors":
        raise InputError(f"--timm with --out {out}", "a file name ending in .safetensors", "leave --timm out")
    told = description(model)
    program = program_of(model)
    if timm:
        twin, state = timm_twin(program.encoder)
        metadata = {"format": "pt", "swell": json.dumps({**told, "timm": twin})}
        write_bytes(out, tensor_bytes({k: v.contiguous() for k, v in state.items()}, metadata))
        return {"out": str(out), "kind": "timm", "bytes": out.stat().st_size, **twin}
    inputs, compared_on = _samples(model, data)
    content, made = _WRITERS[ending](model, program, inputs, told)
    error = None if made is None else difference(made, _by_torch(model, program, inputs))
    if error is not None and not error <= TOLERANCE:
        raise RuntimeError(f"{out.name} differs from torch by {error:.2g}, more than {TOLERANCE:g}: not written")
    write_bytes(out, content)
    return {
        "out": str(out),
        "kind": ending[1:],
        "bytes": len(content),
        "input": told["input"],
        "output": told["output"],
        "difference": error,
        "compared_on": compared_on if error is not None else "nothing: onnxruntime is not installed",
    }


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |a_i - b_i| / |b_i| of all rows of features [N, F]."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float((np.linalg.norm(x - y, axis=1) / np.maximum(np.linalg.norm(y, axis=1), 1e-30)).max())


def _samples(model: Model, data: Any) -> tuple[tuple[Tensor, ...], str]:
    if data is None:
        return examples(model, COMPARED), f"{COMPARED} made-up samples"
    if model.encoder.takes_vectors:
        raise InputError("--data for an encoder of vectors", "none: made-up ones are taken", "leave --data out")
    found: list[np.ndarray] = []
    for part in model.stream(data).parts:
        found.append(part.samples[:COMPARED])
        if sum(map(len, found)) >= COMPARED:
            break
    images = np.concatenate(found)[:COMPARED]
    return (torch.from_numpy(images),), f"{len(images)} samples of {data}"


def _by_torch(model: Model, program: Program, inputs: tuple[Tensor, ...]) -> np.ndarray:
    """What the run itself gives, by its own preparation where the program has one inside."""
    samples: Any = inputs[0].numpy()
    preparation = model.preparation
    if preparation is not None and program.takes_raw:
        known = [*preparation.settings.get("batches", ()), ""]
        batches = np.array(known)[inputs[1].numpy()] if len(inputs) > 1 else None
        samples = preparation.apply(samples, preparation.names, batches=batches, kinds=set())
    return program.encoder.encode(samples)


def _safetensors(
    model: Model, program: Program, inputs: tuple[Tensor, ...], told: dict[str, Any]
) -> tuple[bytes, np.ndarray]:
    lines, constants = graph_of(traced(program, inputs))
    tensors = {name: value.contiguous() for name, value in program.state_dict().items()} | constants
    if model.preparation is not None:  # all of it, also what the graph has no use for
        tensors |= {
            f"preparation.{k}": torch.from_numpy(np.ascontiguousarray(a)) for k, a in model.preparation.arrays.items()
        }
    content = tensor_bytes(tensors, {"format": "pt", "swell": json.dumps(told), "graph": json.dumps(lines)})
    given = dict(zip(program.inputs, inputs, strict=True))
    return content, run_graph(lines, tensors_from(content), **given).numpy()


def _pt2(model: Model, program: Program, inputs: tuple[Tensor, ...], told: dict[str, Any]) -> tuple[bytes, np.ndarray]:
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(traced(program, inputs), buffer, extra_files={"swell.json": json.dumps(told)})
        buffer.seek(0)
        again = torch.export.load(buffer).module()  # our own bytes
        with torch.no_grad():
            return buffer.getvalue(), again(*inputs).numpy()


def _onnx(
    model: Model, program: Program, inputs: tuple[Tensor, ...], told: dict[str, Any]
) -> tuple[bytes, np.ndarray | None]:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        todo = "python -m pip install 'swell[onnx]', or pip install onnx onnxscript onnxruntime"
        raise InputError(".onnx without onnx and onnxscript", "the extra onnx", todo) from None
    batch = torch.export.Dim("batch", min=1)
    with quietly():
        made = torch.onnx.export(
            program,
            tuple(x[:2] for x in inputs),
            dynamo=True,
            input_names=list(program.inputs),
            output_names=["features"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert made is not None
    made.model.metadata_props["swell"] = json.dumps(told)
    proto = made.model_proto
    if proto.ByteSize() > _MOST:
        raise InputError(f"an encoder of {proto.ByteSize():,} bytes as .onnx", "at most 2 GB", "export as .safetensors")
    content = proto.SerializeToString()
    try:
        import onnxruntime
    except ImportError:
        return content, None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {name: x.numpy() for name, x in zip(program.inputs, inputs, strict=True)}
    return content, session.run(None, given)[0]


_WRITERS: dict[str, Any] = {".safetensors": _safetensors, ".onnx": _onnx, ".pt2": _pt2}
