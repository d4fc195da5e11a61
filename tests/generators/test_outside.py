"""Generated samples from outside: their origin is asked for, kept, and decides whether they may be used."""

import itertools

import numpy as np
import pytest
from PIL import Image

from swell.data.gen import open_gen, write_gen
from swell.data.source import Provenance
from swell.errors import InputError
from swell.generators.outside import asked_provenance, open_outside

CLEAN = {"trained_on": "our 5,000 photos", "labels_used": False, "filtered": False}
SHAPE = (3, 8, 8)


def colours(count=20, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "drawn"
    path.mkdir()
    for i, image in enumerate(colours()):
        Image.fromarray(image.transpose(1, 2, 0)).save(path / f"{i:03d}.png")
    return path


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "drawn.npz"
    np.savez(path, image=colours().transpose(0, 2, 3, 1), label=np.zeros(20, np.int64))
    return path


def test_a_folder_becomes_a_source_that_says_where_it_comes_from(folder):
    source = open_outside(folder, shape=SHAPE, quiet=True, **CLEAN)
    assert np.array_equal(source.samples, colours())
    assert source.provenance == Provenance("generated", str(folder), "outside", "our 5,000 photos")


@pytest.mark.parametrize("missing", [m for k in (1, 2, 3) for m in itertools.combinations(CLEAN, k)])
def test_every_missing_answer_is_named_with_its_option(folder, missing):
    options = {
        "trained_on": "--trained-on TEXT",
        "labels_used": "--labels-used yes|no",
        "filtered": "--filtered yes|no",
    }
    with pytest.raises(InputError, match="origin unknown") as error:
        open_outside(folder, shape=SHAPE, quiet=True, **{k: v for k, v in CLEAN.items() if k not in missing})
    assert error.value.todo == "give " + " ".join(options[name] for name in missing)


def test_an_empty_answer_is_none(folder):
    with pytest.raises(InputError, match="--trained-on"):
        open_outside(folder, shape=SHAPE, quiet=True, **(CLEAN | {"trained_on": "  "}))


def test_samples_made_with_labels_are_refused_before_they_are_read(tmp_path, folder):
    answers = CLEAN | {"labels_used": True}
    with pytest.raises(InputError, match="--allow-label-leak"):
        open_outside(tmp_path / "no such folder", shape=SHAPE, **answers)
    source = open_outside(folder, shape=SHAPE, allow_label_leak=True, quiet=True, **answers)
    assert source.provenance.labels_used


@pytest.mark.parametrize(
    ("labels_used", "conditional", "stored"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_a_generator_that_saw_labels_counts_as_conditional_until_the_owner_says_no(labels_used, conditional, stored):
    provenance = asked_provenance("here", "outside", "x", labels_used, True, conditional)
    assert (provenance.conditional, provenance.filtered, provenance.labels_used) == (stored, True, labels_used)


def test_bgr_becomes_rgb_and_stays_known(folder, tmp_path):
    source = open_outside(folder, shape=SHAPE, channel_order="bgr", quiet=True, **CLEAN)
    assert np.array_equal(source.samples, colours()[:, [2, 1, 0]])
    assert source.samples.flags.c_contiguous
    assert source.provenance.channel_order == "RGB (read as BGR)"
    write_gen(tmp_path / "gen", source.samples, source.provenance)
    again = open_gen(tmp_path / "gen")
    assert again.provenance == source.provenance
    assert again.fingerprint == source.fingerprint


def test_bgr_needs_colour(tmp_path):
    np.save(tmp_path / "grey.npy", colours(shape=(1, 8, 8)))
    np.save(tmp_path / "vectors.npy", np.ones((5, 4), np.float32))
    for name, shape in (("grey", (1, 8, 8)), ("vectors", (4,))):
        with pytest.raises(InputError, match="three channels"):
            open_outside(tmp_path / f"{name}.npy", shape=shape, channel_order="bgr", **CLEAN)
    with pytest.raises(InputError, match="rgb or bgr"):
        open_outside(tmp_path / "grey.npy", shape=(1, 8, 8), channel_order="grb", **CLEAN)


def test_labels_in_the_file_are_told_and_never_read(npz, capsys):
    source = open_outside(npz, shape=SHAPE, **CLEAN)
    assert source.labels is None
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "'label'" in told
    open_outside(npz, shape=SHAPE, quiet=True, **CLEAN)
    open_outside(npz, shape=SHAPE, allow_label_leak=True, **(CLEAN | {"labels_used": True}))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "todo"),
    [
        ((3, 16, 16), "give --size 16"),
        ((1, 8, 8), "save both in grey"),
        ((3, 8, 16), "of that shape"),
        ((192,), "of that shape"),
    ],
)
def test_another_shape_than_the_real_samples(folder, shape, todo):
    with pytest.raises(InputError, match="as the real ones") as error:
        open_outside(folder, shape=shape, quiet=True, **CLEAN)
    assert todo in error.value.todo


def test_size_makes_them_fit(folder):
    assert open_outside(folder, shape=(3, 16, 16), size=16, quiet=True, **CLEAN).shape == (3, 16, 16)


def test_vectors_from_outside(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(20, dtype=np.float32).reshape(5, 4))
    assert open_outside(tmp_path / "rows.npy", shape=(4,), **CLEAN).shape == (4,)


def test_a_gen_keeps_its_provenance_and_is_not_asked(tmp_path):
    own = Provenance("generated", "elsewhere", "diffusion", "0123456789abcdef")
    write_gen(tmp_path / "gen", colours(), own)
    assert open_outside(tmp_path / "gen", shape=SHAPE).provenance == own
    assert open_outside(tmp_path / "gen", shape=SHAPE, **CLEAN).provenance == own


def test_what_is_known_against_a_gen_cannot_be_taken_back(tmp_path):
    own = Provenance("generated", "elsewhere", "diffusion", "0123456789abcdef", labels_used=True, filtered=True)
    write_gen(tmp_path / "gen", colours(), own)
    with pytest.raises(InputError, match="--allow-label-leak"):
        open_outside(tmp_path / "gen", shape=SHAPE, **CLEAN)
    assert open_outside(tmp_path / "gen", shape=SHAPE, allow_label_leak=True, **CLEAN).provenance == own
    write_gen(tmp_path / "clean", colours(), Provenance("generated", "elsewhere", "diffusion"))
    with pytest.raises(InputError, match="--allow-label-leak"):
        open_outside(tmp_path / "clean", shape=SHAPE, labels_used=True)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_outside(tmp_path / "gone", shape=SHAPE, **CLEAN)
