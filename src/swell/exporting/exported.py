"""`swell.load("encoder.safetensors")`: an exported encoder, read back. No code is in the file and none is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from

from swell.data.preparation import Preparation
from swell.devices import pick_device
from swell.errors import InputError
from swell.exporting.package import FORMAT, patch_of
from swell.model import Model
from swell.nets.encoder import EncoderConfig
from swell.run import filled_encoder
from swell.views.plan import ViewGroup

__all__ = ["Exported", "is_exported", "open_exported"]

OTHERS = (".onnx", ".pt2")


class Exported(Model):
    """An encoder and its preparation from one file; it encodes what the run did, and gives the same features."""

    def __init__(self, path: Path, told: Mapping[str, Any], tensors: Mapping[str, Any], device: str) -> None:
        self.path, self.told = path, told
        weights = {name[8:]: value for name, value in tensors.items() if name.startswith("encoder.")}
        self._patch = None if told["patch"] is None else patch_of(told["patch"])
        self._about = {str(key): value for key, value in told["about"].items()}
        kept = told["preparation"]
        arrays = {} if kept is None else {name: tensors[f"preparation.{name}"].numpy() for name in kept["arrays"]}
        self.preparation = None if kept is None else Preparation.restored(kept, arrays)
        config = EncoderConfig.from_dict(told["encoder"])
        self.encoder = filled_encoder(config, weights).to(pick_device(device))

    @property
    def about(self) -> dict[str, str | int]:
        return {**self._about, "run": str(self.path)}

    @property
    def patch(self) -> ViewGroup:
        if self._patch is None:
            raise InputError(f"patches of {self.path}", "an encoder of images", "leave the patches out")
        return self._patch


def is_exported(path: Path | str) -> bool:
    """Whether `path` is a file: a run is a folder."""
    return os.path.isfile(path)


def open_exported(path: Path | str, device: str = "auto") -> Exported:
    """Raises InputError for a file that is no encoder `swell export` wrote as .safetensors, or a damaged one."""
    path = Path(path)
    if path.suffix.lower() in OTHERS:
        todo = "read it with onnxruntime or torch.export, or export as .safetensors"
        raise InputError(f"{path} (for other programs)", "a run or an exported .safetensors file", todo)
    try:
        content = path.read_bytes()  # by bytes: the reader wants UTF-8 file names
        tensors = tensors_from(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["swell"])
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}")
        if "timm" in told:
            raise InputError(f"{path} (weights under timm's names)", "an export without --timm", "load it with timm")
        if not all(bool(w.isfinite().all()) for w in tensors.values()):
            raise ValueError("NaN or infinite weights")
        return Exported(path, told, tensors, device)
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
            RuntimeError, RecursionError) as error:  # fmt: skip
        given = f"{path} ({' '.join(str(error).split())[:160] or type(error).__name__})"
        raise InputError(given, "an encoder that swell export wrote", "export it again") from None
