"""Training on shards: bit for bit what training on the same images in memory gives, whatever happens in between."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import swell
from packing import shards
from swell.data.gen import write_gen
from swell.data.open import open_data
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.recipes import Recipe
from swell.training.build import build, resolve
from swell.training.loop import Operation, pretrain
from swell.training.step import Stepper

CPU = torch.device("cpu")
TINY = Recipe(
    backbone="conv6",
    width=0.25,
    batch_size=16,
    steps=12,
    optimizer="sgd",
    learning_rate=0.05,
    method_options={"hidden": 16, "outputs": 8},
    precision="fp32",
)


@pytest.fixture
def pictures():
    return list(np.random.default_rng(2).integers(0, 256, (45, 8, 8, 3), np.uint8))


@pytest.fixture
def made():
    samples = np.random.default_rng(3).integers(0, 256, (60, 3, 8, 8), np.uint8)
    return Source(samples, Provenance("generated", "array", generator="diffusion"))


def weights(out):
    return (out / "encoder.safetensors").read_bytes()


def test_the_same_encoder_as_from_memory(tmp_path, pictures, made):
    array = Source(np.stack(pictures).transpose(0, 3, 1, 2), Provenance("real", "array"))
    pretrain(TINY, array, tmp_path / "array", made, Operation(quiet=True))
    for workers in (0, 2):
        source = open_data(shards(tmp_path / f"s{workers}", pictures), workers=workers)
        pretrain(TINY, source, tmp_path / f"run{workers}", made, Operation(quiet=True))
        assert weights(tmp_path / f"run{workers}") == weights(tmp_path / "array")


@pytest.mark.parametrize("shuffle", ["all", "blocks"])
def test_batches_hold_the_exact_share_of_the_right_samples(tmp_path, pictures, made, shuffle):
    """The oracle counts: every batch by floor((t+1) beta B) - floor(t beta B), every image once in an epoch."""
    source = open_data(shards(tmp_path / "s", pictures, each=9), workers=1)
    recipe = resolve(replace(TINY, weight=1.7, shuffle=shuffle), source, CPU)
    stepper = build(recipe, source, made, CPU)
    beta = 1.7 * 45 / (1.7 * 45 + 60)
    known = {p.transpose(2, 0, 1).tobytes(): i for i, p in enumerate(pictures)}
    drawn = []
    for t in range(10):
        samples, reals = stepper.gather(t)
        assert reals == int((t + 1) * beta * 16 + 1e-9) - int(t * beta * 16 + 1e-9)
        drawn += [known[sample.numpy().tobytes()] for sample in samples[:reals]]
        assert not {sample.numpy().tobytes() for sample in samples[reals:]} & set(known)
    stepper.close()
    if stepper.mixture._real.n >= 3 * 16:
        assert sorted(drawn[:45]) == list(range(45))


def test_stopped_in_the_middle_of_an_epoch_and_gone_on(tmp_path, pictures, made, monkeypatch):
    folder = shards(tmp_path / "s", [*pictures, *pictures[:10]])
    recipe = replace(TINY, shuffle="blocks")
    pretrain(recipe, open_data(folder, workers=1), tmp_path / "whole", made, Operation(quiet=True))

    class Stop(Exception):
        pass

    real = Stepper.__call__

    def stopping(self, t, share):
        if t == 7:
            raise Stop
        return real(self, t, share)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "__call__", stopping)
        with pytest.raises(Stop):
            pretrain(
                recipe,
                open_data(folder, workers=1),
                tmp_path / "run",
                made,
                Operation(checkpoint_seconds=0, quiet=True),
            )
    pretrain(recipe, open_data(folder, workers=2), tmp_path / "run", made, Operation(resume=True, quiet=True))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


SCRIPT = """
import sys, swell
from swell.recipes import Recipe
recipe = Recipe(backbone="conv6", width=0.25, batch_size=16, steps=40, optimizer="sgd", learning_rate=0.05,
                method_options={"hidden": 16, "outputs": 8}, precision="fp32")
swell.pretrain(sys.argv[1], sys.argv[2], recipe=recipe, workers=1, quiet=True, report=False,
               checkpoint_seconds=float(sys.argv[3]), resume=len(sys.argv) > 4)
"""


def test_killed_with_nine_and_gone_on(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # equal sums

    def start(*words):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, folder, *words], env=environment)

    out = tmp_path / "killed"
    with start(out, "0") as process:  # a checkpoint a step
        until = time.monotonic() + 60
        while not (out / "checkpoint.pt").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    assert not (out / "encoder.safetensors").exists()
    with start(out, "60", "--resume") as process, start(tmp_path / "whole", "60") as other:
        assert process.wait() == other.wait() == 0
    assert weights(out) == weights(tmp_path / "whole")


def test_what_changed_between_start_and_resume_is_refused(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    pretrain(TINY, open_data(folder, workers=0), tmp_path / "run", None, Operation(quiet=True))
    (tmp_path / "run" / "encoder.safetensors").unlink()
    (folder / "00010.tar").unlink()
    with pytest.raises(InputError, match=r"changed run .*real"):
        pretrain(TINY, open_data(folder), tmp_path / "run", None, Operation(resume=True, quiet=True))
    os.truncate(folder / "00000.tar", 3000)
    with pytest.raises(InputError, match="cut short"):
        open_data(folder)


def test_replaced_images_stand_in_the_log(tmp_path, pictures):
    broken = [p if i != 3 else None for i, p in enumerate(pictures)]
    source = open_data(shards(tmp_path / "s", broken), workers=1, max_bad=0.1)
    pretrain(TINY, source, tmp_path / "run", None, Operation(quiet=True))
    assert "replaced by the next: 00000.tar/00003.png: " in (tmp_path / "run" / "run.log").read_text()


def test_the_verbs(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    run = swell.pretrain(str(folder / "{00000,00010,00020,00030,00040}.tar"), tmp_path / "run",
                         recipe=TINY, inflate=write_gen(tmp_path / "gen", np.random.default_rng(3).integers(0, 256, (60, 3, 8, 8), np.uint8), Provenance("generated", "x", generator="kde")),
                         quiet=True, flops=2e9, method="simclr")  # fmt: skip
    array = np.stack(pictures).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(run.encode(folder), run.encode(array))
    found = run.evaluate(folder)
    assert found["n_train"] + found["n_test"] == 45
    assert set(found["baselines"]) == {"pixels", "pca", "random_init"}
    swell.embed(run, folder, tmp_path / "features.npz", quiet=True)
    with np.load(tmp_path / "features.npz") as stored:
        np.testing.assert_array_equal(stored["features"], run.encode(array))
        assert stored["path"][0] == "00000.tar/00000.png"


def test_blocks_need_shards(made):
    real = Source(made.samples, Provenance("real", "array"))
    recipe = resolve(replace(TINY, shuffle="blocks"), real, CPU)
    with pytest.raises(InputError, match="blocks of samples in memory"):
        build(recipe, real, None, CPU)
