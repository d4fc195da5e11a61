"""Maps: how they are laid out, kept beside a run, and shared by a comparison."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from swell.data.source import Provenance, Source
from swell.nets.encoder import Encoder, EncoderConfig
from swell.report.map_making import (
    FILE,
    Encoded,
    embedding_map,
    encode_some,
    keep_map,
    kept_map,
    several_layouts,
    shared_map,
)
from swell.report.maps import FRAME, MOST_POINTS, Colouring, EmbeddingMap, Layout, draw_map, place


def kinds(n=90, images=True, seed=0):
    """Samples of three kinds, and features that tell them apart."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    z = (rng.normal(size=(3, 12))[label] * 5 + rng.normal(size=(n, 12))).astype(np.float32)
    samples = (rng.integers(0, 60, (n, 1, 8, 8)) + 80 * label[:, None, None, None]).astype(np.uint8) if images else z
    return Encoded(Source(samples, Provenance("real", "array"), label, ["a", "b", "c"]), z)


def test_places_keep_their_shape_and_stay_inside():
    xy = np.random.default_rng(0).normal(size=(200, 2)) * [3, 1] + 100
    found = place(xy)
    assert (found >= 0).all()
    assert (found <= FRAME).all()
    scale = np.ptp(found[:, 0]) / np.ptp(xy[:, 0])
    assert np.abs(np.diff(found[:, 1]) + scale * np.diff(xy[:, 1])).max() <= 1.01  # same scale, y upwards
    assert place(np.zeros((3, 2))).tolist() == [[FRAME[0] // 2, FRAME[1] // 2]] * 3
    assert place(np.array([[np.nan, np.inf]])).tolist() == [[FRAME[0] // 2, FRAME[1] // 2]]
    assert place(np.zeros((0, 2))).shape == (0, 2)


def test_a_map_of_too_many_points_is_refused_and_of_the_most_is_small():
    rng = np.random.default_rng(0)
    for n in (MOST_POINTS, MOST_POINTS + 1):
        part = EmbeddingMap("m", [Layout("e", rng.normal(size=(n, 2)), rng.integers(0, n, (n, 6)), np.zeros(n, int))])
        if n > MOST_POINTS:
            with pytest.raises(ValueError, match="at most"):
                draw_map(part)
        else:
            found = draw_map(part)["data"]["layouts"][0]
            assert sum(len(found[key]) for key in ("xy", "near", "cluster")) < 500_000


def test_clusters_follow_the_kinds_and_neighbours_are_of_the_same_kind():
    one = kinds()
    found = embedding_map("e", one)
    (layout,) = found.layouts
    assert [c.name for c in found.colourings] == ["label"]
    sizes = np.bincount(layout.clusters)
    assert len(sizes) == 3
    assert (np.diff(sizes) <= 0).all()  # the largest comes first
    for c in range(3):
        assert len(set(one.source.labels[layout.clusters == c])) == 1
    assert (one.source.labels[layout.near] == one.source.labels[:, None]).mean() > 0.95


def test_generated_samples_lie_among_the_real_ones_but_have_no_label():
    real, made = kinds(), kinds(30, seed=1)
    found = embedding_map("e", real, Encoded(made.source.unlabelled(), made.features))
    label, source = found.colourings
    assert (label.codes[90:] == -1).all()
    assert source.codes.tolist() == [0] * 90 + [1] * 30
    assert len(found) == 120
    codes = np.frombuffer(base64.b64decode(draw_map(found)["data"]["colourings"][0]["codes"]), "<u2")
    assert (codes[90:] == 65_535).all()


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("generated", [True, False])
def test_what_a_run_keeps_comes_back_and_holds_real_samples_only(tmp_path, images, generated):
    real = kinds(images=images)
    made = Encoded(kinds(30, images, 1).source.unlabelled(), kinds(30, seed=1).features) if generated else None
    found = embedding_map("e", real, made)
    keep_map(tmp_path, found, real)
    back = kept_map(tmp_path, "arm")
    assert back.layout.name == "arm"
    assert np.array_equal(back.layout.xy, found.layouts[0].xy[:90])
    assert back.layout.near.max() < 90
    assert (back.colourings[0].names, back.colourings[0].codes.tolist()) == (
        ["a", "b", "c"],
        real.source.labels.tolist(),
    )
    assert (back.sheet is None) is not images
    assert shared_map([back, back], "t", "n").sheet is back.sheet


def test_maps_of_other_samples_or_labels_are_not_shown_together(tmp_path):
    def kept(one, name):
        (tmp_path / name).mkdir()
        keep_map(tmp_path / name, embedding_map("e", one), one)
        return kept_map(tmp_path / name, name)

    one = kept(kinds(), "one")
    relabelled = kinds()
    relabelled.source.labels[:5] = 2
    assert shared_map([one, kept(kinds(seed=2), "other")], "t", "") is None
    assert shared_map([one, kept(relabelled, "labels")], "t", "") is None
    assert len(shared_map([one, kept(kinds(), "same")], "t", "").layouts) == 2
    assert shared_map([], "t", "") is None


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "pickle"])
def test_a_damaged_map_is_no_map(tmp_path, damage):
    keep_map(tmp_path, embedding_map("e", kinds()), kinds())
    path = tmp_path / FILE
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "pickle":
        np.savez(path, format=np.array([{"a": 1}], dtype=object))
    else:
        path.write_bytes(b"text" if damage == "text" else whole[: len(whole) // 2])
    assert kept_map(tmp_path, "e") is None


def test_several_encoders_share_samples_and_labels():
    one = kinds()
    found = several_layouts("t", {"first": one.features, "second": -one.features[:, :5]}, one.source)
    assert [layout.name for layout in found.layouts] == ["first", "second"]
    assert found.sheet is not None
    assert isinstance(found.colourings[0], Colouring)


def test_as_many_are_encoded_as_can_be_afforded(monkeypatch, real):
    encoder = Encoder(EncoderConfig("conv6", 0.25, (1, 8, 8), (0.5,), (0.3,))).eval()
    assert len(encode_some(encoder, real).source) == len(real)
    assert encode_some(encoder, real, 7).features.shape == (7, encoder.features)
    monkeypatch.setattr("swell.report.map_making.FEWEST", 5)
    monkeypatch.setattr("swell.report.map_making.FLOPS", 0)
    assert len(encode_some(encoder, real).source) == 5
