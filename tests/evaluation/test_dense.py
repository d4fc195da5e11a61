"""The dense probe against plain loops, on maps that know everything and nothing, and the commands that use it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import swell
from swell.cli import main
from swell.data.masks import Masked
from swell.data.mosaics import IGNORE, Mosaics
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation import dense
from swell.evaluation.dense import (
    at_pixels,
    ceiling,
    check_dense,
    colours,
    commonest,
    confusion_of,
    evaluate_dense,
    fit_probe,
    mosaics_of,
    scores,
)
from swell.nets.backbones import BACKBONES, Backbone
from swell.nets.encoder import Encoder, EncoderConfig
from swell.training.loop import Operation, pretrain
from swell.views.plan import VIEWS

CPU = torch.device("cpu")
SHADES = np.array([[250, 5, 5], [5, 250, 5], [5, 5, 250], [250, 250, 5]], np.uint8)


def encoder_for(backbone="conv6", shape=(3, 16, 16)):
    torch.manual_seed(0)
    options = {"depth": 2, "patch": 4} if backbone.startswith("vit") else {}
    return Encoder(EncoderConfig(backbone, 0.25, shape, (0.5,) * shape[0], (0.25,) * shape[0], options))


def painted(n=60, classes=4, side=16, noise=20, seed=0):
    """Images in the colour of their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    samples = SHADES[labels][:, :, None, None] + rng.normal(0, noise, (n, 3, side, side))
    names = [f"c{k}" for k in range(classes)]
    return Source(samples.clip(0, 255).astype(np.uint8), Provenance("real", "array"), labels, names)


def scenes(maps, seed=0, classes=4):
    """Masked scenes in the colours of their maps; grey where there is no class."""
    maps = np.asarray(maps, np.int16)
    shown = np.where((maps == IGNORE)[..., None], 128, SHADES[maps]).astype(np.uint8)
    return Masked(np.ascontiguousarray(shown.transpose(0, 3, 1, 2)), maps, [str(k) for k in range(classes)], "here")


def random_maps(n=12, side=16, classes=4, seed=0, ignored=0.1):
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, classes, (n, side // 4, side // 4)).repeat(4, 1).repeat(4, 2)
    return np.where(rng.random(maps.shape) < ignored, IGNORE, maps)


def by_loops(truth, predicted, classes):
    """Accuracy and IoU of the classes in `truth`, a pixel at a time."""
    iou, right, known = {}, 0, 0
    for k in range(classes):
        both = either = there = 0
        for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if t != IGNORE:
                both += t == k and p == k
                either += t == k or p == k
                there += t == k
        if there:
            iou[str(k)] = both / either
        right += both
    known = sum(t != IGNORE for t in truth.ravel().tolist())
    return right / known, iou


def test_scores_are_those_of_plain_loops():
    train, test = scenes(random_maps()), scenes(random_maps(5, seed=1))
    probe, _ = fit_probe(lambda x: torch.nn.functional.avg_pool2d(x, 8), train, CPU)
    predicted = probe.predict(test.images).numpy()
    found = scores(confusion_of(probe, test), test)
    accuracy, iou = by_loops(test.maps, predicted, 4)
    assert 0.2 < accuracy < 0.9  # cells of four classes each
    assert found["iou"] == pytest.approx(iou)
    assert (found["accuracy"], found["miou"]) == pytest.approx((accuracy, np.mean(list(iou.values()))))


def test_scores_by_hand():
    confusion = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [2, 0, 2, 0]])  # no pixel of class 2
    found = scores(confusion, scenes(random_maps(2)))
    assert found["accuracy"] == 9 / 16
    assert found["iou"] == {"0": 6 / 11, "1": 3 / 6, "3": 0.0}
    assert found["miou"] == pytest.approx((6 / 11 + 3 / 6) / 3)
    with pytest.raises(InputError, match="without a class anywhere"):
        scores(np.zeros((4, 4), int), scenes(random_maps(2)))


def test_a_map_that_knows_every_pixel_is_right_everywhere_and_one_that_knows_nothing_nowhere_more_than_chance():
    train, test = scenes(random_maps()), scenes(random_maps(6, seed=1))
    probe, how = fit_probe(lambda x: x, train, CPU)
    assert how["grid"] == [16, 16]
    assert scores(confusion_of(probe, test), test)["iou"] == {str(k): 1.0 for k in range(4)}
    nothing, _ = fit_probe(lambda x: torch.zeros(len(x), 5, 4, 4), train, CPU)
    assert scores(confusion_of(nothing, test), test)["accuracy"] < 0.4


def test_the_order_of_test_scenes_and_the_size_of_batches_change_nothing(monkeypatch):
    encoder = encoder_for().eval()
    train, test = scenes(random_maps(20)), scenes(random_maps(9, seed=1))
    probe, _ = fit_probe(encoder.forward_map, train, CPU)
    found = confusion_of(probe, test)
    assert found.sum() == (test.maps != IGNORE).sum()
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(confusion_of(probe, test.subset(order)), found)
    parts = sum(confusion_of(probe, test.subset(rows)) for rows in np.split(order, [1, 4]))
    np.testing.assert_array_equal(parts, found)
    monkeypatch.setattr(dense, "PIXELS", 4 * 256)
    monkeypatch.setattr(dense, "LOGITS", 1)
    again, _ = fit_probe(encoder.forward_map, train, CPU)
    torch.testing.assert_close(again.fit.weights, probe.fit.weights, rtol=1e-3, atol=1e-4)
    assert np.abs(confusion_of(probe, test) - found).sum() <= 4  # a tie may fall otherwise by rounding


def test_pixels_without_a_class_are_neither_learnt_from_nor_scored():
    maps = random_maps(12, ignored=0.0)
    maps[:, 8:] = IGNORE
    train = scenes(maps)
    misleading = Masked(train.images.copy(), train.maps, train.classes, "here")
    misleading.images[:, :, 8:] = 7
    for part in (train, misleading):
        probe, how = fit_probe(lambda x: x, part, CPU)
        assert how["cells"] == 12 * 8 * 16
        assert scores(confusion_of(probe, part), part)["accuracy"] == 1.0


@pytest.mark.parametrize(("size", "grid"), [((8, 8), (2, 2)), ((7, 9), (3, 2)), ((6, 5), (6, 5)), ((5, 5), (2, 3))])
def test_the_commonest_class_of_a_cell_by_loops(size, grid):
    maps = np.random.default_rng(0).integers(-1, 3, (4, *size)).astype(np.int16)
    maps[0, :3, :3] = IGNORE
    expected = np.full((4, *grid), IGNORE)
    for m in range(4):
        for i in range(grid[0]):
            for j in range(grid[1]):
                held = [
                    maps[m, y, x]
                    for y in range(size[0])
                    for x in range(size[1])
                    if i <= (y + 0.5) * grid[0] / size[0] < i + 1 and j <= (x + 0.5) * grid[1] / size[1] < j + 1
                ]
                counts = [sum(value == k for value in held) for k in range(3)]
                if any(counts):
                    expected[m, i, j] = counts.index(max(counts))
    np.testing.assert_array_equal(commonest(maps, *grid, 3), expected.reshape(4, -1))


def test_logits_are_upsampled_between_the_centres_of_cells():
    logits = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = np.zeros((2, 3, 6, 8))
    for y in range(6):
        for x in range(8):
            v, u = np.clip((y + 0.5) * 2 / 6 - 0.5, 0, 1), np.clip((x + 0.5) * 4 / 8 - 0.5, 0, 3)
            for i in range(2):
                for j in range(4):
                    out[:, :, y, x] += max(0, 1 - abs(v - i)) * max(0, 1 - abs(u - j)) * logits[:, :, i, j].numpy()
    np.testing.assert_array_equal(at_pixels(logits, (6, 8)), out.argmax(1))


def test_the_ceiling_is_reached_by_one_class_a_scene_and_lower_for_coarser_cells():
    whole = scenes(np.arange(4)[:, None, None] * np.ones((1, 16, 16), int))
    assert scores(ceiling(whole, 2, 2), whole)["miou"] == 1.0
    test = scenes(random_maps(8, ignored=0.0))
    found = [scores(ceiling(test, side, side), test)["miou"] for side in (16, 4, 2)]
    assert found[0] == 1.0
    assert found[0] > found[1] > found[2]


def test_the_colours_of_cells():
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = colours(x, 4, 4)
    assert found.shape == (2, 48, 4, 4)
    torch.testing.assert_close(found[1, :, 2, 3], x[1, :, 8:12, 12:16].flatten())
    torch.testing.assert_close(
        colours(x, 2, 2)[0, :, 1, 0].view(3, 16).mean(1), x[0, :, 8:, :8].mean((1, 2)), atol=0.02, rtol=0
    )


def test_cells_of_a_scene_stay_together_when_the_penalty_is_chosen():
    of = np.repeat(np.arange(20), 7)
    order, fitted_on = dense._split_by_scene(of, 0)
    assert sorted(order.tolist()) == list(range(140))
    assert fitted_on == 16 * 7
    assert set(of[order[:fitted_on]]).isdisjoint(of[order[fitted_on:]])


@pytest.mark.parametrize(("backbone", "tiles"), [("conv6", 3), ("resnet18", 2), ("vit_tiny", 3)])
def test_every_backbone_tells_painted_mosaics_apart(backbone, tiles):
    encoder = encoder_for(backbone)
    train, test = mosaics_of(painted(40), painted(30, seed=1), tiles)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    rows = []
    first = next(part for part in encoder.backbone.modules() if isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)))
    first.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    encoder.train()
    result, pictures = evaluate_dense(encoder, train, test, baselines=False)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert sum(rows) == result["forwards"] == 78
    assert result["miou"] > 0.35  # cells see beyond their borders; chance is 0.14
    assert 0.5 < result["ceiling"]["miou"] <= 1
    assert set(result["iou"]) == {"c0", "c1", "c2", "c3"}
    assert (result["n_train"], result["n_test"]) == (40, 30)
    assert pictures.images.shape == (8, 3, 16 * tiles, 16 * tiles)
    assert pictures.truth.shape == pictures.predicted.shape == (8, 16 * tiles, 16 * tiles)
    np.testing.assert_array_equal(pictures.truth, test[:8][1])
    assert set(np.unique(pictures.predicted)) <= set(range(4))
    json.dumps(result)


def test_baselines_stand_beside_the_encoder_and_leave_its_scores_as_they_are():
    encoder, scene = encoder_for(), mosaics_of(painted(40), painted(30, seed=1))
    alone, _ = evaluate_dense(encoder, *scene, baselines=False)
    result, _ = evaluate_dense(encoder, *scene)
    assert {**result, "seconds": 0, "baselines": 0} == {**alone, "seconds": 0, "baselines": 0}
    own = result["baselines"]
    assert set(own) == {"pixels", "random_init", "commonest"}
    assert own["pixels"]["miou"] > 0.5
    assert own["random_init"]["miou"] > own["commonest"]["miou"] > 0
    assert list(own["commonest"]["iou"].values()).count(0.0) == 3


def test_few_scenes_lie_in_memory_at_once(monkeypatch):
    monkeypatch.setattr(dense, "PIXELS", 5 * 32 * 32)
    encoder, rows = encoder_for(), []
    encoder.backbone.layers.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    result, _ = evaluate_dense(encoder, Mosaics(painted(), 23), Mosaics(painted(), 11), baselines=False)
    assert max(rows[:-1]) == 5
    assert sum(rows) == result["forwards"]


def test_what_does_not_fit_is_told_in_one_line():
    encoder, good = encoder_for(), Mosaics(painted(), 8)

    class Blind(Backbone):
        features = 4

    def blind():
        made = encoder_for()
        made.backbone = Blind()
        return made

    one_class = scenes(np.where(np.arange(16) < 1, 1, 0) * np.ones((3, 16, 16), int))
    for bad in (
        lambda: evaluate_dense(encoder, good, Mosaics(painted(), 8, 3)),
        lambda: evaluate_dense(encoder_for(shape=(1, 16, 16)), good, good),
        lambda: evaluate_dense(encoder, good, Mosaics(painted(classes=3), 8)),
        lambda: evaluate_dense(blind(), good, good),
        lambda: evaluate_dense(encoder, one_class, one_class),  # no cell of which class 1 is the commonest
        lambda: check_dense(False, 2, None, None, None),
        lambda: check_dense(False, None, "masks", None, None),
        lambda: check_dense(True, 5, None, None, None),
        lambda: check_dense(True, 2, "masks", None, None),
        lambda: check_dense(True, None, None, "test", "masks"),
        lambda: check_dense(True, None, "masks", "test", None),
    ):
        with pytest.raises(InputError, match=r"^[^\n]*: expected [^\n]*$"):
            bad()
    check_dense(True, None, "masks", "test", "more")
    assert "conv6" in BACKBONES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = swell.Recipe(
        steps=2,
        batch_size=16,
        width=0.25,
        backbone="conv6",
        views=VIEWS["simclr"](),
        method_options={"hidden": 16, "outputs": 8},
        precision="fp32",
    )
    out = tmp_path_factory.mktemp("runs") / "dense"
    pretrain(recipe, painted().unlabelled(), out, None, Operation(quiet=True))
    return swell.load(out)


@pytest.fixture
def street(tmp_path):
    """Folders of images without classes and of their masks: the left part shows one class, the right part another."""
    for i in range(12):
        rng = np.random.default_rng(i)
        mask = np.zeros((24, 20), np.uint8)
        mask[:, 4 + i % 10 :] = 1
        mask[0] = 255
        shown = SHADES[np.minimum(mask, 1)].astype(int) + rng.integers(0, 5, (24, 20, 1))
        for kind, value in (("images", shown.clip(0, 255).astype(np.uint8)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(value).save(tmp_path / kind / f"{i}.png")
    return tmp_path


def test_a_run_evaluates_mosaics_and_fine_tunes(run):
    source = painted()
    data = (source.samples, source.labels)
    plain = run.evaluate(data, baselines=False)
    before = run.ledger.evaluation
    result = run.evaluate(data, dense=True, tiles=3, finetune=True, label_fraction=0.5, finetune_epochs=2)
    assert not {"dense", "finetune"} & set(plain)
    assert result["linear"] == plain["linear"]  # the probe of whole samples stays as it is
    assert result["dense"]["test"] == {"source": "mosaics", "tiles": 3, "canvas": [48, 48], "seed": 1}
    assert set(result["dense"]["baselines"]) == {"pixels", "random_init", "commonest"}
    assert result["finetune"]["fraction"] == 0.5
    assert "from_scratch" in result["finetune"]
    assert json.loads((run.path / "evaluation.json").read_text())["dense"] == result["dense"]
    more = sum(result[part]["forwards"] for part in ("dense", "finetune"))
    assert result["cost"]["forwards"] == plain["cost"]["forwards"] + more
    assert run.ledger.evaluation.forwards - before.forwards == result["cost"]["forwards"]
    assert run.ledger.evaluation.seconds - before.seconds > result["dense"]["seconds"]


def test_a_run_evaluates_masks_of_images_that_have_no_class(run, street, capsys):
    images, masks = str(street / "images"), str(street / "masks")
    result = run.evaluate(images, dense=True, masks=masks)
    assert "linear" not in result
    assert (result["dense"]["n_train"], result["dense"]["n_test"]) == (8, 4)
    assert result["dense"]["test"]["source"] == "masks"
    assert set(result["dense"]["iou"]) == {"0", "1"}
    assert result["dense"]["miou"] > result["dense"]["baselines"]["commonest"]["miou"]
    both = run.evaluate(images, test=images, dense=True, masks=masks, test_masks=masks, baselines=False)
    assert (both["dense"]["n_train"], both["dense"]["n_test"]) == (12, 12)
    assert main(["evaluate", str(run.path), images, "--dense", "--masks", masks]) == 0
    assert "every pixel of 4 masks, by the encoder's 4 x 4 cells:" in capsys.readouterr().out
    assert main(["evaluate", str(run.path), images, "--dense"]) == 2  # mosaics need labels
    assert "lie outside any class folder" in capsys.readouterr().err


def test_the_commands(run, tmp_path, capsys):
    source = painted()
    np.savez(tmp_path / "data.npz", images=source.samples, labels=source.labels)
    data = str(tmp_path / "data.npz")
    assert main(["evaluate", str(run.path), data, "--no-baselines", "--dense", "--tiles", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 x 2 mosaics, by the encoder's 8 x 8 cells:" in out
    assert "all cells right" in out
    assert "pixels" not in out
    for words, says in (
        (["--tiles", "2"], "--dense beside it"),
        (["--dense", "--tiles", "5"], "from 2 to 4"),
        (["--dense", "--masks", "x", "--tiles", "2"], "mosaics or masks"),
        (["--dense", "--masks", data], "no folder"),
        (["--label-fraction", "0.1"], "--finetune beside it"),
        (["--finetune", "--label-fraction", "2"], "fraction"),
        (["--finetune", "--finetune-epochs", "0"], "epochs"),
    ):
        assert main(["evaluate", str(run.path), data, *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error
