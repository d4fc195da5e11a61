"""Files with some bytes changed: a result or one line, whatever comes of it. benchmarks/fuzz does the same for hours."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import swell
from swell.data.shards import tar_piece
from swell.errors import InputError
from swell.recipes import read_recipe
from swell.suites.plan import make_plan
from swell.watching import look

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tar_of(names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 90
            archive.addfile(info, io.BytesIO(bytes(90)))
    return out.getvalue()


def npy_of(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


WHOLE = {
    "a.npy": npy_of(np.arange(30.0).reshape(6, 5)),
    "a.csv": b"a,b,label\n1,2,x\n3,4,y\n5,,x\n",
    "a.tar": tar_of(["a.png", "a.cls", "b.png", "b.json"]),
    "recipe.toml": b'method = "simclr"\nsteps = 30\n[views]\n[[views.groups]]\ncount = 2\nscale = [0.1, 1.0]\n',
    "live.json": b'{"state": "running", "step": 7, "seconds": 1.5, "total_steps": 20, "why": "x"}',
}


def reader_of(name):
    kinds = {
        ".tar": lambda path: tar_piece(str(path), path.stat().st_size),
        ".toml": read_recipe,
        ".json": lambda path: look(path.parent),
    }
    return kinds.get(Path(name).suffix, lambda path: swell.open(path, quiet=True))


@pytest.mark.parametrize("name", sorted(WHOLE))
@given(data=st.data())
@QUICK
def test_changed_bytes_end_in_a_result_or_one_line(tmp_path, name, data):
    whole = WHOLE[name]
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 20)))
    numbers = st.sampled_from([b"1e999", b"-1", b"9" * 400, b"NaN", b"null", b"[[", b"\0", b"\xff", b'"', b"true"])
    (tmp_path / name).write_bytes(whole[:start] + data.draw(st.binary(max_size=20) | numbers) + whole[stop:])
    told = []
    try:
        reader_of(name)(tmp_path / name)
    except InputError as error:
        told.append(str(error))
    assert not any("\n" in line for line in told)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 0},
        {"seeds": 1e999},
        {"arms": [{"name": 7, "rows": None, "generated": ""}]},
        {"arms": [{"name": "one", "rows": "x", "generated": ""}]},
        {"suite": None, "arms": 3},
        {"generated": {"../../elsewhere": {"generator": "kde", "count": 20, "rows": None}}},
    ],
)
def test_a_suite_from_elsewhere_is_checked_before_it_is_made_again(tmp_path, change):
    """Above all where its samples shall lie: in OUT, by a name that follows from what they are."""
    data = swell.open(np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), np.uint8))
    told = {
        "format": "swell-suite-1",
        "suite": "s",
        "arms": [{"name": "one", "rows": None, "generated": ""}],
        "generated": {},
    }
    told |= {"seeds": 2, "data": {"fingerprint": data.fingerprint}} | change
    (tmp_path / "suite.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"suite\.json"):
        make_plan(tmp_path, data, None, {}, {}, torch.device("cpu"))
