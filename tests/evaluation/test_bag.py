"""Bags of features against Pillow's patches, the grid's places, the draws' addresses, and the commands that use them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import swell
from swell.cli import main
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation.bag import BATCH, QUARTER, bag_of_features, check_bag, evaluate_bag, grid
from swell.ledger import counted_flops
from swell.nets.encoder import Encoder, EncoderConfig
from swell.training.loop import Operation, pretrain
from swell.views.plan import VIEWS, ViewGroup

WHOLE = ViewGroup(scale=(1.0, 1.0), flip=0.0)


def pictures(n, shape=(3, 16, 16), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def encoder_for(shape=(3, 16, 16)):
    torch.manual_seed(0)
    return Encoder(EncoderConfig("conv6", 0.25, shape, (0.5,) * shape[0], (0.25,) * shape[0]))


def by_pillow(encoder, samples, boxes):
    """One sample, one patch and one channel at a time, in Pillow's own floating point."""
    _, _, h, w = samples.shape
    out = []
    for sample in samples:
        found = []
        for top, left, height, width in zip(*(side.tolist() for side in boxes), strict=True):
            box = (left, top, left + width, top + height)
            channels = [
                np.asarray(Image.fromarray(c.astype(np.float32)).crop(box).resize((w, h), Image.Resampling.BILINEAR))
                for c in sample
            ]
            with torch.no_grad():
                found.append(encoder.eval()(torch.from_numpy(np.stack(channels) / 255)[None])[0].numpy())
        out.append(np.mean(found, axis=0))
    return np.stack(out)


@pytest.mark.parametrize(("shape", "patches"), [((3, 16, 16), 1), ((3, 16, 16), 5), ((1, 12, 20), 6)])
def test_a_grid_is_the_mean_over_its_patches(shape, patches):
    encoder, samples = encoder_for(shape), pictures(3, shape)
    expected = by_pillow(encoder, samples, grid(patches, *shape[1:]))
    found = bag_of_features(encoder, samples, patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_grid_is_the_same_on_every_call_and_for_any_company():
    encoder, samples = encoder_for(), pictures(7)
    first = bag_of_features(encoder, samples, 9)
    np.testing.assert_array_equal(bag_of_features(encoder, samples, 9, seed=5), first)
    np.testing.assert_allclose(bag_of_features(encoder, samples[2:3], 9), first[2:3], rtol=1e-4, atol=1e-6)


def test_a_grid_of_all_places_takes_each_once():
    boxes = grid(17 * 17, 32, 32)
    places = set(zip(boxes.top.tolist(), boxes.left.tolist(), strict=True))
    assert places == {(top, left) for top in range(17) for left in range(17)}
    assert boxes.height.unique().tolist() == boxes.width.unique().tolist() == [16]


@pytest.mark.parametrize("size", [(32, 32), (20, 60), (60, 20), (3, 200), (1, 1)])
@pytest.mark.parametrize("patches", [1, 2, 3, 4, 7, 16, 20, 128])
def test_a_grid_lies_inside_and_its_middle_in_the_middle(patches, size):
    boxes = grid(patches, *size)
    assert len(boxes.top) == patches
    for start, length, whole in ((boxes.top, boxes.height, size[0]), (boxes.left, boxes.width, size[1])):
        assert bool((start >= 0).all() and (start + length <= whole).all())
        places = whole - int(length[0]) + 1
        # Within a pixel of rounding, and within a row where their number cannot be shared out alike.
        assert abs(start.double().mean().item() - (places - 1) / 2) <= 0.5 + 0.05 * places


@pytest.mark.parametrize("patches", [4, 9, 16, 64])
def test_a_square_grid_has_equal_distances(patches):
    side = round(patches**0.5)
    boxes = grid(patches, 256, 256)
    for start in (boxes.top, boxes.left):
        gaps = start.unique().diff()
        assert len(gaps) == side - 1
        assert gaps.max() - gaps.min() <= 1


def test_the_patches_look_like_the_views_but_keep_their_colours():
    encoder, samples = encoder_for(), pictures(4)
    whole = bag_of_features(encoder, samples, 3, "random", WHOLE)
    np.testing.assert_allclose(whole, encoder.encode(samples), rtol=1e-4, atol=1e-5)
    boxes = grid(5, 100, 100, ViewGroup(scale=(0.25, 0.75), ratio=(0.5, 2.0)))
    assert boxes.height.tolist() == boxes.width.tolist() == [71] * 5  # the square of half the area


def test_random_patches_depend_on_the_seed_the_sample_and_the_number_of_the_patch_only():
    encoder, samples = encoder_for(), pictures(6)
    one, two, three = (bag_of_features(encoder, samples, k, "random", seed=1) for k in (1, 2, 3))
    np.testing.assert_array_equal(bag_of_features(encoder, samples, 3, "random", seed=1), three)
    np.testing.assert_allclose(bag_of_features(encoder, samples[:2], 3, "random", seed=1), three[:2], rtol=1e-4)
    assert np.abs(bag_of_features(encoder, samples, 3, "random", seed=2) - three).max() > 1e-3
    same = bag_of_features(encoder, np.repeat(samples[:1], 2, 0), 1, "random", seed=1)
    assert np.abs(same[0] - same[1]).max() > 1e-3  # each sample has patches of its own
    np.testing.assert_allclose(same[0], one[0], rtol=1e-4, atol=1e-6)
    # The third patch is what the third bag has beyond the second: a feature of one patch, whatever came before.
    third = 3 * three - 2 * two
    assert np.abs(third - one).max() > 1e-3


def test_many_random_patches_come_near_the_grid_of_all_places():
    encoder, samples = encoder_for(), pictures(2)
    unmirrored = ViewGroup(scale=(0.25, 0.25), ratio=(1.0, 1.0), interpolation="bilinear", flip=0.0)
    every = bag_of_features(encoder, samples, 81)
    errors = [np.abs(bag_of_features(encoder, samples, k, "random", unmirrored) - every).mean() for k in (4, 1024)]
    assert errors[1] < errors[0] / 4


def test_memory_is_bounded_every_forward_counted_and_the_mode_of_the_encoder_restored():
    encoder, rows = encoder_for((1, 8, 8)), []
    encoder.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    for mode in ("grid", "random"):
        bag_of_features(encoder.train(), pictures(BATCH + 90, (1, 8, 8)), 7, mode)
        assert encoder.training
        assert max(rows) <= BATCH
        assert sum(rows) == 7 * (BATCH + 90)
        rows.clear()


@pytest.mark.parametrize(
    ("patches", "mode", "draws"),
    [(0, None, None), (True, None, None), (2.0, None, None), (10**30, None, None), (4, "corners", None),
     (4, "random", 0), (None, "grid", None), (None, None, 5)],
)  # fmt: skip
def test_bad_values_are_told_in_one_line(patches, mode, draws):
    with pytest.raises(InputError, match=r"^[^\n]*: expected [^\n]*$"):
        check_bag(patches, mode, draws)


def test_samples_that_are_no_images_of_the_encoder_are_refused():
    for samples in (np.zeros((4, 5), np.float32), pictures(4, (1, 16, 16)), pictures(4, (3, 8, 8))):
        with pytest.raises(InputError, match="patches of samples"):
            bag_of_features(encoder_for(), samples, 4)


def bright(n=60, seed=2):
    """Two classes of noise that differ in the brightness of a corner."""
    labels = np.arange(n) % 2
    samples = np.random.default_rng(seed).integers(0, 160, (n, 3, 16, 16))
    samples[:, :, :8, :8] += 60 * labels[:, None, None, None]
    return samples.astype(np.uint8), labels


def sources():
    samples, labels = bright()
    whole = Source(samples, Provenance("real", "array"), labels, ("0", "1"))
    return whole.subset(np.arange(40)), whole.subset(np.arange(40, 60))


def test_the_probe_over_draws_and_what_it_cost():
    encoder, (train, test) = encoder_for(), sources()
    drawn = evaluate_bag(encoder, train, test, 4, "random", 3)
    assert (drawn["patches"], drawn["mode"], drawn["draws"], drawn["forwards_per_sample"]) == (4, "random", 3, 4)
    assert 0.5 < drawn["linear"]["accuracy"] <= 1
    assert drawn["sd"]["linear"] >= 0
    assert drawn["seconds"] > 0
    assert 0 < drawn["seconds_per_1000"] < 1000 * drawn["seconds"]
    with counted_flops() as flops, torch.no_grad():
        encoder(torch.zeros(1, 3, 16, 16))
    resampling = 3 * 2 * 2 * 16**3  # a matrix product along each side of each channel
    assert drawn["flops_per_sample"] == 4 * (flops[0] + resampling)
    assert evaluate_bag(encoder, train, test, 4, "random", 1)["sd"] == {"knn": None, "linear": None}
    fixed = evaluate_bag(encoder, train, test, 4)
    assert (fixed["draws"], fixed["sd"]) == (1, {"knn": 0.0, "linear": 0.0})
    again = evaluate_bag(encoder, train, test, 4)
    assert (again["knn"], again["linear"]) == (fixed["knn"], fixed["linear"])
    json.dumps([drawn, fixed])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = swell.Recipe(
        steps=2,
        batch_size=16,
        width=0.25,
        views=VIEWS["emp_ssl"](2),
        method_options={"hidden": 16, "outputs": 8},
        precision="fp32",
    )
    out = tmp_path_factory.mktemp("runs") / "bag"
    pretrain(recipe, Source(pictures(64), Provenance("real", "array")), out, None, Operation(quiet=True))
    return swell.load(out)


def test_a_run_encodes_and_evaluates_patches_of_its_own_views(run):
    samples, labels = bright()
    assert run.patch.scale == QUARTER.scale
    np.testing.assert_array_equal(run.encode(samples, patches=4), bag_of_features(run.encoder, samples, 4))
    drawn = run.encode(samples, patches=4, patch_mode="random", seed=3)
    np.testing.assert_array_equal(drawn, bag_of_features(run.encoder, samples, 4, "random", run.patch, 3))
    plain = run.evaluate((samples, labels), baselines=False)
    before = run.ledger.evaluation.forwards
    result = run.evaluate((samples, labels), baselines=False, patches=4, patch_mode="random", draws=2)
    assert result["knn"] == plain["knn"]  # the single-view probe stays as it is
    assert "bag_of_features" not in plain
    assert result["bag_of_features"]["draws"] == 2
    assert result["cost"]["forwards"] == plain["cost"]["forwards"] + 2 * 4 * len(samples)
    assert run.ledger.evaluation.forwards - before == result["cost"]["forwards"]
    assert json.loads((run.path / "evaluation.json").read_text())["bag_of_features"] == result["bag_of_features"]


def test_the_commands(run, tmp_path, capsys):
    samples, labels = bright()
    np.savez(tmp_path / "data.npz", images=samples, labels=labels)
    data, out = str(tmp_path / "data.npz"), str(tmp_path / "z.npz")
    assert main(["embed", str(run.path), data, "--out", out, "--patches", "4"]) == 0
    np.testing.assert_array_equal(np.load(out)["features"], run.encode(samples, patches=4))
    assert main(["evaluate", str(run.path), data, "--no-baselines", "--patches", "4"]) == 0
    assert "encoder, 4 patches (grid): kNN" in capsys.readouterr().out
    for words in (["--patches", "0"], ["--patches", "4", "--patch-mode", "grdi"], ["--patch-mode", "random"]):
        for command in (["evaluate", str(run.path), data], ["embed", str(run.path), data, "--out", out]):
            assert main([*command, *words]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert "expected" in error
