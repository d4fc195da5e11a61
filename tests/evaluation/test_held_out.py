"""The reference: what is held out, how it is seen, how it is kept."""

import numpy as np
import pytest
import torch
from scipy.sparse import random_array

from swell.data.builtin import open_builtin
from swell.data.source import Provenance, Source
from swell.data.sparse import SparseRows
from swell.errors import InputError
from swell.evaluation.reference import Reference, clean_features, reference_plan, view_features
from swell.files import write_bytes
from swell.nets.encoder import Encoder, EncoderConfig
from swell.seeding import generator_for
from swell.views.plan import VectorGroup, ViewGroup, ViewPlan
from swell.views.render import render


def source(n=60, shape=(3, 12, 12), seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 256, (n, *shape), np.uint8)
    samples[:, 0, 0, 0] = np.arange(n)  # so every sample is another
    return Source(samples, Provenance("real", "array"))


def sparse(n=50, d=20):
    rng = np.random.default_rng(0)
    rows = SparseRows.from_csr(
        random_array((n, d), density=0.3, format="csr", rng=rng, dtype=np.float32),
        rng.normal(size=(2, d)).astype(np.float32),
        np.arange(n) % 2,
        limit=2.0,
    )
    return Source(rows, Provenance("real", "array"))


def test_the_split_is_whole_disjoint_and_fixed():
    real = source(60)
    held, rest = Reference.of(real)
    marks = sorted([*held.samples[:, 0, 0, 0].tolist(), *rest.samples[:, 0, 0, 0].tolist()])
    assert marks == list(range(60))
    again, _ = Reference.of(real)
    assert np.array_equal(held.samples, again.samples)
    other, _ = Reference.of(real, seed=1)
    assert not np.array_equal(held.samples, other.samples)


@pytest.mark.parametrize(
    ("n", "share", "most", "held"),
    [(60, 0.1, 4096, 12), (3000, 0.1, 4096, 300), (2000, 0.1, 4096, 256), (3000, 0.5, 700, 700), (60, 0.5, 4096, 30)],
)
def test_how_many_are_held_out(n, share, most, held):
    real = Source(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32), Provenance("real", "array"))
    assert [len(part) for part in Reference.of(real, share, most)] == [held, n - held]


def test_labels_decide_nothing():
    real = open_builtin("builtin:digits")
    with_labels, _ = Reference.of(real)
    without, rest = Reference.of(real.unlabelled())
    assert np.array_equal(with_labels.samples, without.samples)
    assert rest.labels is None


def test_views_follow_from_the_data():
    (digits,) = reference_plan(open_builtin("builtin:digits")).image_groups
    assert (digits.flip, digits.scale, digits.count) == (0, (0.4, 1), 10)  # a mirrored digit is another symbol
    (other,) = reference_plan(source(200, (3, 20, 20)), 4).image_groups
    assert (other.flip, other.scale, other.count, other.jitter_p) == (0.5, (0.2, 1), 4, 0.8)
    assert reference_plan(sparse()).groups == (VectorGroup(count=10, mask=0.3),)


def test_views_are_the_same_each_time_and_belong_to_their_samples():
    held, _ = Reference.of(source(60))
    blocks = [(block, x.clone()) for block, x in held.views()]
    assert all(torch.equal(x, again) for (_, x), (_, again) in zip(blocks, held.views(), strict=True))
    (block, x) = blocks[0]
    (expected,) = render(held.plan, torch.tensor(held.samples[block]), generator_for(0, "reference views", 0))
    assert torch.equal(x[3, 5], expected[3 * len(held.samples[block]) + 5])


def test_features_of_views_are_the_encoders():
    held, _ = Reference.of(source(60))
    encoder = Encoder(EncoderConfig("conv6", 0.25, (3, 12, 12), (0.5,) * 3, (0.2,) * 3)).train()
    found = view_features(encoder, held)
    assert encoder.training
    encoder.eval()
    (block, x) = next(held.views())
    with torch.no_grad():
        assert torch.allclose(found[2, block], encoder(x[2]), atol=1e-5)
    assert torch.equal(found, view_features(encoder, held))
    assert found.shape == (10, 12, encoder.features)
    assert np.array_equal(clean_features(encoder, held.samples).numpy(), encoder.encode(held.samples))


def test_a_quick_part():
    held, _ = Reference.of(source(60))
    part = held.first(5, 2)
    assert (len(part), part.q) == (5, 2)
    assert np.array_equal(part.samples[[0, -1]], held.samples[[0, -1]])
    assert len(held.first(500)) == len(held)
    assert len(Reference.of(sparse())[0].first(4)) == 4


@pytest.mark.parametrize("real", [source(40), sparse()], ids=["images", "sparse"])
def test_it_is_read_as_it_was_written(real, tmp_path):
    held, _ = Reference.of(real, seed=2)
    held.save(tmp_path / "reference.safetensors")
    again = Reference.load(tmp_path / "reference.safetensors")
    assert np.array_equal(held.samples[:], again.samples[:])
    assert (again.plan, again.seed, again.shape) == (held.plan, 2, held.shape)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(held.views(), again.views(), strict=True))


@pytest.mark.parametrize("damage", [b"", b"x" * 50, "cut", "pointers"])
def test_a_damaged_file_is_told(damage, tmp_path):
    held, _ = Reference.of(sparse())
    path = tmp_path / "reference.safetensors"
    if damage == "pointers":
        held.samples.pointers[-1] += 1
    held.save(path)
    if damage == "cut":
        write_bytes(path, path.read_bytes()[:-9])
    elif isinstance(damage, bytes):
        write_bytes(path, damage)
    with pytest.raises(InputError, match="the reference swell wrote"):
        Reference.load(path)
    with pytest.raises(InputError):
        Reference.load(tmp_path / "none")


def test_what_cannot_be_a_reference_is_told():
    with pytest.raises(InputError, match="at least 10"):
        Reference.of(source(9))
    with pytest.raises(InputError, match="share"):
        Reference.of(source(), share=1.5)
    images = source().samples
    for plan in (ViewPlan((VectorGroup(count=2),)), ViewPlan((ViewGroup(), ViewGroup()))):
        with pytest.raises(InputError, match="one group of views of images"):
            Reference(images, plan)
