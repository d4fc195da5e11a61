"""Several processes that embed together write what one writes."""

import subprocess
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from PIL import Image

from swell.cli import main
from swell.data import stream as streams
from swell.errors import InputError
from swell.exporting.embeddings import write_embeddings
from swell.model import Model
from swell.nets.encoder import Encoder, EncoderConfig
from swell.ranks import ALONE, Ranks
from swell.threads import start_worker
from swell.views.plan import ViewGroup
from torchruns import TORCHRUN, kill_the_second

COUNT = 120
DAMAGED = {"images": (5,), "worse": (5, 12)}  # 12 is of the second process's share


class Untrained(Model):
    """The same in every process."""

    path, preparation, about = "untrained", None, {"run": "none"}
    patch = ViewGroup(scale=(0.25, 0.25), ratio=(1.0, 1.0), interpolation="bilinear")

    def __init__(self):
        torch.manual_seed(0)
        self.encoder = Encoder(EncoderConfig("conv6", 0.25, (3, 8, 8), (0.5,) * 3, (0.25,) * 3, {})).eval()


def written(folder, data, out, ranks=ALONE, **how):
    streams.ROWS, streams.BYTES = 8, 1  # parts of 8 samples
    return write_embeddings(Untrained(), folder / data, folder / out, quiet=True, ranks=ranks, **how)


def on_ranks(rank, count, folder):
    start_worker(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    ranks = Ranks(rank, count)
    done = written(folder, "images", "two.npz", ranks)
    assert (done.shape[0], done.left_out) == (COUNT - 1, 1)  # all of them know
    written(folder, "array.npy", "array-two.npz", ranks)
    written(folder, "array.npy", "patches-two.npz", ranks, patches=4)
    with pytest.raises(InputError, match="2 of 120 images are unreadable: expected at most 1 of them"):
        written(folder, "worse", "worse.npz", ranks)
    with pytest.raises(InputError, match="other samples, or more of them known, on some of 2 processes"):
        written(folder, ("images", "few.npy")[rank], "mixed.npz", ranks)
    with pytest.raises(InputError, match="random on 2 processes"):
        written(folder, "images", "random.npz", ranks, patches=2, patch_mode="random")
    dist.destroy_process_group()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))
    for name in ("ROWS", "BYTES"):
        monkeypatch.setattr(streams, name, getattr(streams, name))  # so that they are restored
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    np.save(tmp_path / "array.npy", images)
    np.save(tmp_path / "few.npy", images[:7])
    for name, bad in DAMAGED.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{i:03d}é.png")
        for i in bad:
            (tmp_path / name / f"{i:03d}é.png").write_bytes(b"damaged")
    return tmp_path


def test_two_processes_write_what_one_writes(folder):
    multiprocessing.spawn(on_ranks, (2, folder), nprocs=2)
    assert {p.name for p in folder.glob("*.npz")} == {"two.npz", "array-two.npz", "patches-two.npz"}
    written(folder, "images", "one.npz")
    written(folder, "array.npy", "array-one.npz")
    written(folder, "array.npy", "patches-one.npz", patches=4)
    with np.load(folder / "one.npz") as one, np.load(folder / "two.npz") as two:
        assert one["id"].tolist() == two["id"].tolist() == [i for i in range(COUNT) if i != 5]
        assert one["path"].tolist() == two["path"].tolist()
        np.testing.assert_allclose(one["features"], two["features"], rtol=1e-5, atol=1e-6)  # parts of 7 and of 8
    for name in ("array", "patches"):
        assert (folder / f"{name}-one.npz").read_bytes() == (folder / f"{name}-two.npz").read_bytes()


# ---- from the command line -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of 8x8 images, and a file of a good many of them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["pretrain", "builtin:digits", "--recipe", "digits", "--width", "0.25", "--steps", "1", "--out", "run"])
        == 0
    )
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (100_000, 8, 8), np.uint8))


def test_torchrun_shares_the_work(run, tmp_path):
    done = subprocess.run(
        [*TORCHRUN, "embed", "run", "images.npy", "--out", "two.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("features [100,000, ")
    assert len(done.stdout.splitlines()) == 1
    assert main(["embed", "run", "images.npy", "--out", "one.npz"]) == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_killed_process_ends_all_and_leaves_no_file(run, tmp_path):
    command = [*TORCHRUN, "embed", "run", "images.npy", "--patches", "64", "--out", "two.npz"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob(".two.npz*")):  # the first writes
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = kill_the_second(process)
    (line,) = [line for line in told.splitlines() if line.startswith("swell:")]
    assert line.endswith("; start again")
    assert not list(tmp_path.glob("*two.npz*"))
