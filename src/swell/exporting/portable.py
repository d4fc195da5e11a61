"""A traced program as JSON: one line an operation of torch's ATen library, run by ten lines that need only torch.

    [["conv2d", "conv2d.default", ["%to", "%encoder.backbone.stem.0.weight", null, [1, 1], [1, 1]], {}], ...]

A line is [name of the result, operation, arguments, options]. "%name" is an earlier result, an input or a tensor of the
file, "torch.float32" and "torch.float64" are dtypes; everything else is itself. Only the operation `getitem` is not
ATen's. The format has no code in it, and reading it runs none: a file can name operations, not define them.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch import Tensor

__all__ = ["graph_of", "run_graph"]

CONSTANTS = {"torch.float32": torch.float32, "torch.float64": torch.float64}
_CHECKS = "aten._assert_tensor_metadata.default"  # of the exporter's own making


def graph_of(program: torch.export.ExportedProgram) -> tuple[list[list[Any]], dict[str, Tensor]]:
    """The lines of a program of one output, and the constants it holds beside its parameters and buffers.

    Raises:
        RuntimeError: an operation or argument that the format has no word for.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants: dict[str, Tensor] = {}
    for node, target in signature.inputs_to_lifted_tensor_constants.items():
        names[node] = f"constant.{target}"
        constants[names[node]] = program.constants[target].detach().clone()
    lines: list[list[Any]] = []
    for node in program.graph.nodes:
        if node.op != "call_function" or str(node.target) == _CHECKS:
            continue
        operation = "getitem" if node.target is getitem else str(node.target)
        if operation != "getitem" and not operation.startswith("aten."):
            raise RuntimeError(f"{operation} has no place in a portable graph")
        options = {key: _word(value, names) for key, value in node.kwargs.items() if key not in ("device", "layout")}
        lines.append([node.name, operation.removeprefix("aten."), _word(node.args, names), options])
    (result,) = program.graph.output_node().args[0]
    if not lines or lines[-1][0] != result.name:
        raise RuntimeError("a program whose last operation is not its result")
    return lines, constants


def _word(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, torch.fx.Node):
        return f"%{names.get(value.name, value.name)}"
    if isinstance(value, (list, tuple)):
        return [_word(part, names) for part in value]
    if str(value) in CONSTANTS:
        return str(value)
    if value is None or (isinstance(value, (bool, int, float, str)) and not str(value).startswith(("%", "torch."))):
        return value
    raise RuntimeError(f"an argument {value!r} has no place in a portable graph")


def run_graph(lines: list[list[Any]], tensors: dict[str, Tensor], **inputs: Tensor) -> Tensor:
    """What the program gives for `inputs`; the loader of docs/export.md does the same in fewer words."""
    known: dict[str, Any] = {**tensors, **inputs}

    def value(word: Any) -> Any:
        if isinstance(word, list):
            return [value(part) for part in word]
        if isinstance(word, str) and word.startswith("%"):
            return known[word[1:]]
        return CONSTANTS.get(word, word) if isinstance(word, str) else word

    for name, operation, arguments, options in lines:
        packet, _, overload = operation.partition(".")
        call = getitem if operation == "getitem" else getattr(getattr(torch.ops.aten, packet), overload)
        known[name] = call(*value(arguments), **{key: value(word) for key, word in options.items()})
    result: Tensor = known[lines[-1][0]]
    return result
