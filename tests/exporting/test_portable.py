"""Traced programs as JSON lines: the same numbers, nothing but ATen in them, and the loader printed in the docs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swell.exporting.graph import Program, traced
from swell.exporting.portable import graph_of, run_graph
from swell.exporting.write import difference, write_export

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Split(nn.Module):
    """Results that are lists, constants, words and dtypes among the arguments."""

    inputs = ("x",)

    def forward(self, x, batch=None):
        a, b = x.float().chunk(2, -1)
        return nn.functional.gelu(a * torch.tensor([1.0, 2.0]), approximate="tanh") + b.sum(-1, keepdim=True)


def test_lines_are_json_and_give_what_the_program_gives():
    x = torch.randint(0, 9, (5, 4), dtype=torch.uint8)
    lines, constants = graph_of(traced(Split(), (x,)))
    lines = json.loads(json.dumps(lines))
    assert all(operation == "getitem" or "." in operation for _, operation, _, _ in lines)
    assert list(constants) == [name for name in constants if name.startswith("constant.")]
    for n in (1, 5):
        torch.testing.assert_close(run_graph(lines, constants, x=x[:n]), Split()(x[:n]))


def test_what_the_format_has_no_word_for_is_refused():
    class Odd(Split):
        def forward(self, x, batch=None):
            return x.float().new_zeros((x.shape[0] * 2 + 1, 3)) + 1

    with pytest.raises(RuntimeError, match="no place in a portable graph"):
        graph_of(traced(Odd(), (torch.zeros(4, 3),)))


@pytest.mark.parametrize("name", ["resnet", "vit", "mlp"])
def test_the_loader_of_the_docs(name, request, make, tmp_path, monkeypatch):
    model = make("mlp", (6,)) if name == "mlp" else request.getfixturevalue(name)
    monkeypatch.chdir(tmp_path)
    write_export(model, "encoder.safetensors")
    text = (DOCS / "export.md").read_text(encoding="utf-8")
    loader = next(code for code in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "safe_open" in code)
    assert set(re.findall(r"^(?:import|from) (\w+)", loader, re.M)) <= {"json", "torch", "safetensors"}
    assert len([line for line in loader.splitlines() if line.strip()]) <= 13
    known = {}
    exec(compile(loader, "docs/export.md", "exec"), known)
    rng = np.random.default_rng(0)
    x = (
        rng.standard_normal((9, 6)).astype(np.float32)
        if name == "mlp"
        else rng.integers(0, 256, (9, 3, 32, 32), np.uint8)
    )
    z = known["encode"](torch.from_numpy(x)).numpy()
    assert difference(z, model.encoder.encode(x)) < 1e-5


def test_the_program_of_images_takes_bytes(resnet):
    x = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    program = Program(resnet.encoder).eval()
    with torch.no_grad():
        torch.testing.assert_close(program(x).numpy(), resnet.encode(x.numpy()), rtol=1e-5, atol=1e-6)
