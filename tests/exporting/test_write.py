"""Exports compute what the run computes: the same features from the same raw samples, wherever they are read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.sparse import csr_array

import swell
from swell.data.preparation import Preparation
from swell.errors import InputError
from swell.exporting.graph import arithmetic, program_of
from swell.exporting.write import TOLERANCE, difference, write_export

SRC = Path(swell.__file__).parents[1]


def pictures(n=70, shape=(3, 32, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def counts_of(n=120, genes=40):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2.0, genes), (n, genes)).astype(np.float32)
    counts[3] = 0  # a cell without a count
    return counts, np.array(["a", "b"])[rng.integers(0, 2, n)]


def told_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["swell"])


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_safetensors_file_is_read_back_with_nothing_else(name, request, tmp_path):
    model, images = request.getfixturevalue(name), pictures()
    made = write_export(model, tmp_path / "e.safetensors", data=images)
    assert made["difference"] <= 1e-6
    assert made["compared_on"].startswith("64 samples of ")
    again = swell.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(again.encode(images), model.encode(images))
    np.testing.assert_array_equal(again.encode(images, patches=2), model.encode(images, patches=2))
    told = told_of(tmp_path / "e.safetensors")
    assert told["images"]["resize"] == [32, 32]
    assert told["images"]["mean"] == list(model.encoder.config.mean)
    assert "secret" not in (tmp_path / "e.safetensors").read_bytes().decode("latin-1")


def test_it_encodes_in_a_fresh_process(resnet, tmp_path):
    np.save(tmp_path / "x.npy", pictures(5))
    write_export(resnet, tmp_path / "e.safetensors")
    code = "import swell; import numpy as np; np.save('z.npy', swell.load('e.safetensors').encode('x.npy'))"
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), resnet.encode(pictures(5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_pt2_file_takes_batches_of_any_size(name, request, tmp_path):
    model, images = request.getfixturevalue(name), pictures()
    write_export(model, tmp_path / "e.pt2")
    extra = {"swell.json": ""}
    program = torch.export.load(tmp_path / "e.pt2", extra_files=extra).module()
    assert json.loads(extra["swell.json"])["input"]["x"]["dtype"] == "uint8"
    for n in (1, 7, 70):
        z = program(torch.from_numpy(images[:n])).detach().numpy()
        assert difference(z, model.encoder.encode(images[:n])) < TOLERANCE


def test_an_onnx_file_agrees_with_torch_in_batches_of_any_size(vit, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    made = write_export(vit, tmp_path / "e.onnx")
    assert made["difference"] < TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx", providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["swell"])
    assert (told["format"], told["images"]["channels"]) == ("swell-export-1", "RGB")
    images = pictures()
    for n in (1, 70):
        (z,) = session.run(None, {"x": images[:n]})
        assert difference(z, vit.encoder.encode(images[:n])) < TOLERANCE
    with pytest.raises(InputError, match=r"onnx.*read it with onnxruntime"):
        swell.load(tmp_path / "e.onnx")


@pytest.mark.parametrize("kind", ["counts", "logged", "batches", "standard", "gaps", "chosen"])
def test_the_preparation_inside_the_program_is_that_of_the_run(kind, make):
    """Against Preparation.apply, which computes with SciPy and NumPy in float64."""
    counts, batches = counts_of()
    names = [f"g{i}" for i in range(40)]
    raw, known = counts, None
    if kind in ("counts", "batches"):
        known = batches if kind == "batches" else None
        learnt = Preparation.fit(csr_array(counts), names, "counts", batches=known)
    elif kind == "logged":
        raw = np.log1p(counts)
        learnt = Preparation.fit(csr_array(raw), names, "logged")
    elif kind == "chosen":
        learnt = Preparation.fit(counts, names, "none", chosen=np.arange(40) % 3 == 0)
    else:
        raw = np.random.default_rng(0).normal(1000, 0.5, (120, 5)).astype(np.float32)
        raw[::9, 2] = np.nan if kind == "gaps" else 1000
        learnt = Preparation.fit(raw, list("abcde"), "table", scaling="standard")
    expected = learnt.apply(raw, learnt.names, batches=known)[:]
    model = make("mlp", (expected.shape[1],), preparation=learnt)
    program = program_of(model)
    x, group = torch.from_numpy(raw), None
    if kind == "batches":
        assert program.inputs == ("x", "batch")
        group = torch.tensor([learnt.settings["batches"].index(b) for b in batches])
        given = program.preparation(x, group)
    else:
        assert program.inputs == ("x",)
        given = program.preparation(x)
    np.testing.assert_allclose(given.numpy(), expected, rtol=1e-4, atol=2e-5)
    assert difference(program(x, group).numpy(), model.encoder.encode(expected)) < TOLERANCE


def test_cells_travel_with_their_genes_and_scaling(make, tmp_path):
    counts, batches = counts_of()
    learnt = Preparation.fit(csr_array(counts), [f"g{i}" for i in range(40)], "counts", batches=batches)
    model = make("mlp", (len(learnt.features),), preparation=learnt)
    made = write_export(model, tmp_path / "e.safetensors")
    assert made["difference"] < TOLERANCE
    assert set(made["input"]) == {"x", "batch"}
    again = swell.load(tmp_path / "e.safetensors")
    assert again.preparation.fingerprint == learnt.fingerprint
    np.testing.assert_array_equal(again.encode(csr_array(counts)), model.encode(csr_array(counts)))
    told = told_of(tmp_path / "e.safetensors")["preparation"]
    assert told["names"] == list(learnt.names)
    assert told["settings"]["batches"] == ["a", "b"]


def test_what_is_looked_up_stays_outside_the_program(make, tmp_path):
    x = np.random.default_rng(0).lognormal(0, 2, (200, 3)).astype(np.float32)
    learnt = Preparation.fit(x, list("abc"), "table", scaling="quantile")
    assert arithmetic(learnt) == (None, False)
    model = make("mlp", (3,), preparation=learnt)
    made = write_export(model, tmp_path / "e.safetensors")
    assert made["input"]["x"]["what"] == "vectors, prepared"
    np.testing.assert_array_equal(swell.load(tmp_path / "e.safetensors").encode(x), model.encode(x))


def test_refusals_write_nothing(resnet, make, tmp_path):
    cells = make("mlp", (5,))
    for model, name, options, says in (
        (resnet, "e.txt", {}, r"\.safetensors, \.onnx or \.pt2"),
        (resnet, "e.onnx", {"timm": True}, "leave --timm out"),
        (resnet, "e.safetensors", {"timm": True}, "stem"),
        (cells, "e.safetensors", {"timm": True}, "a ViT or a ResNet"),
        (cells, "e.pt2", {"data": np.zeros((4, 5))}, "leave --data out"),
    ):
        with pytest.raises(InputError, match=says):
            write_export(model, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "weights", "nan", "format", "none"])
def test_damaged_files_are_told(damage, make, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "e.safetensors"
    write_export(make("mlp", (5,)), path)
    tensors, told = load_file(path), told_of(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        if damage == "weights":
            tensors.pop("encoder.backbone.last.bias")
        if damage == "nan":
            tensors["encoder.backbone.last.bias"][0] = float("nan")
        told |= {"format": "another"} if damage == "format" else {}
        save_file(tensors, path, None if damage == "none" else {"swell": json.dumps(told)})
    with pytest.raises(InputError, match="an encoder that swell export wrote"):
        swell.load(path)
