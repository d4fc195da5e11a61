"""The report of a run with a ViT, from a real little run on its disk."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from test_in_browser import BROWSER, chromium
from test_page import read

import swell
from swell.checkpoint import load_checkpoint, save_checkpoint
from swell.data.source import Provenance, Source
from swell.recipes import read_recipe
from swell.report.run_page import write_run_report

LIGHT = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 1}
MAE_TITLE, MIXED_TITLE, ATTENTION = "Left out and rebuilt", "Mixed, told apart and rebuilt", "Where the encoder looks"


def scenes(n, seed=0):
    """Images of two flat halves, and which half is bright."""
    rng = np.random.default_rng(seed)
    images, maps = rng.integers(0, 100, (n, 3, 16, 16)).astype(np.uint8), np.zeros((n, 16, 16), np.uint8)
    for i, cut in enumerate(rng.integers(4, 12, n)):
        images[i, :, :, cut:] += 120
        maps[i, :, cut:] = 1
    return images, maps


def trained(place, method, **options):
    run = swell.pretrain(
        scenes(48)[0], place, method=method, steps=2, batch_size=16, width=0.17, quiet=True,
        backbone_options={"patch": 4, "depth": 1}, backbone="vit_tiny", method_options=options,
    )  # fmt: skip
    return run.path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    small = {"hidden": 16, "outputs": 8}
    return {
        "mae": trained(place / "mae", "mae", **LIGHT),
        "mixed_ae": trained(place / "mixed_ae", "mixed_ae", **LIGHT),
        "simclr": trained(place / "simclr", "simclr", **small),
    }


@pytest.fixture
def copy(runs, tmp_path):
    """A run to change at will."""
    return lambda name: shutil.copytree(runs[name], tmp_path / name)


def report(run):
    return (run / "report.html").read_text(encoding="utf-8")


def again(run):
    """The report written anew."""
    write_run_report(swell.load(run), Source(scenes(48)[0], Provenance("real", "array")))
    return report(run)


@pytest.mark.parametrize(
    ("method", "titles", "pictures"),
    [("mae", [MAE_TITLE, ATTENTION], 3 * 8), ("mixed_ae", [MIXED_TITLE, ATTENTION], 3 * 9), ("simclr", [ATTENTION], 0)],
)
def test_pretraining_ends_with_pictures_of_what_the_method_does(runs, method, titles, pictures):
    page = report(runs[method])
    for title in (MAE_TITLE, MIXED_TITLE, ATTENTION):
        assert (f"<h3>{title}</h3>" in page) is (title in titles)
    assert sum(tag == "img" for tag, _ in read(page).tags) == pictures + 2 * 8 + 10 * 7 + 1  # neighbours, the map
    assert len(page) < 300_000
    assert "the samples it was trained on" in page


@pytest.mark.parametrize("method", ["mae", "mixed_ae"])
def test_equal_runs_give_equal_pages_and_leave_chance_alone(copy, method):
    path = copy(method)
    first, run = again(path), swell.load(path)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    write_run_report(run, Source(scenes(48)[0], Provenance("real", "array")))
    assert torch.equal(torch.get_rng_state(), before)
    assert report(path) == first


def lose(run):
    (run / "checkpoint.pt").unlink()


def scribble(run):
    (run / "checkpoint.pt").write_bytes(b"no checkpoint")


def train_on(run):
    """A checkpoint of later than the encoder, as while a longer run goes on."""
    state = load_checkpoint(run / "checkpoint.pt")
    state["encoder"]["backbone.norm.weight"] += 1
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in state.items() if k != "format"})


def other_parts(run):
    state = load_checkpoint(run / "checkpoint.pt")
    state["parts"] = {"decoder.head.weight": torch.zeros(2)}
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in state.items() if k != "format"})


def parts_of_no_kind(run):
    state = load_checkpoint(run / "checkpoint.pt")
    state["parts"] = 3
    save_checkpoint(run / "checkpoint.pt", {k: v for k, v in state.items() if k != "format"})


@pytest.mark.parametrize("damage", [lose, scribble, train_on, other_parts, parts_of_no_kind])
def test_without_a_fitting_checkpoint_there_are_no_pictures_of_the_method_and_no_error(copy, damage):
    run = copy("mae")
    damage(run)
    assert swell.load(run).parts() is None
    page = again(run)
    assert MAE_TITLE not in page
    assert ATTENTION in page


def test_parts_are_those_that_were_trained(runs):
    method, parts = swell.load(runs["mae"]).parts()
    saved = load_checkpoint(runs["mae"] / "checkpoint.pt")["parts"]
    assert method.decoder_width == 16
    assert not parts.training
    assert parts.state_dict().keys() == saved.keys()
    assert all(torch.equal(parts.state_dict()[key], saved[key]) for key in saved)


def test_a_method_in_a_users_file_is_not_run_by_opening_a_folder(copy, tmp_path):
    run, ran = copy("mae"), tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('method = "mae"', f'method = "{tmp_path / "own.py"}:Own"'))
    assert read_recipe(recipe)[0].method.endswith(":Own")
    assert swell.load(run).parts() is None
    again(run)
    assert not ran.exists()


@pytest.fixture
def folders(tmp_path):
    """Images without class folders, and their masks."""
    for name, arrays, mode in (
        ("images", scenes(40, 1)[0].transpose(0, 2, 3, 1), "RGB"),
        ("masks", scenes(40, 1)[1], "L"),
    ):
        (tmp_path / name).mkdir()
        for i, array in enumerate(arrays):
            Image.fromarray(array, mode).save(tmp_path / name / f"{i:02d}.png")
    return tmp_path / "images", tmp_path / "masks"


def test_masks_without_labels_of_images_still_make_a_report(copy, folders):
    run = copy("mae")
    images, masks = folders
    result = swell.load(run).evaluate(images, masks=masks, dense=True)
    assert "linear" not in result
    reader = read(report(run))
    text = " ".join("".join(reader.text).split())
    dense = result["dense"]
    assert f"right about {100 * dense['accuracy']:.1f} % of all pixels" in text
    for part in ("Does it see what is where?", "mean IoU", "raw pixels", "untrained encoder", "all 4 x 4 cells right",
                 "the commonest class everywhere", "with the masks given beside them", "What every pixel shows"):  # fmt: skip
        assert part in text
    for value in (dense, dense["ceiling"], *dense["baselines"].values()):
        assert f"{100 * value['miou']:.1f}" in text
    assert "How good are the features?" not in text


def test_dense_and_fine_tuned_scores_stand_beside_their_controls(copy):
    run = copy("mixed_ae")
    images, maps = scenes(60, 2)
    labels = (maps.mean((1, 2)) > 0.5).astype(np.int64)
    result = swell.load(run).evaluate((images, labels), dense=True, finetune=True, finetune_epochs=1)
    text = " ".join("".join(read(report(run)).text).split())
    for part in ("How good are the features?", "Does it see what is where?", "mosaics of 2 x 2 labelled samples",
                 "How good is it after fine-tuning?", "from this encoder", "from random weights", MIXED_TITLE,
                 "With 10 labels a class"):  # fmt: skip
        assert part in text
    tuned = result["finetune"]
    for value in (tuned, tuned["from_scratch"]):
        assert f"{100 * value['accuracy']:.1f}" in text
    assert f"100 % of the labels ({tuned['n_labels']})" in text


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_pictures_fit_a_desktop_and_a_phone_pixel_by_pixel(runs, tmp_path):
    script = """(() => { const doc = document, style = getComputedStyle;
        const pictures = [...doc.querySelectorAll(".gallery img")], map = doc.querySelector(".gallery .cells");
        const own = map.closest(".gallery").querySelector(".framed.k1 img"), stroke = map.querySelector(".k1");
        const first = map.closest(".gallery").querySelector("img");
        return { over: doc.documentElement.scrollWidth - doc.documentElement.clientWidth,
          right: Math.max(...[...doc.querySelectorAll(".gallery *")].map((e) => e.getBoundingClientRect().right)),
          smooth: pictures.filter((e) => style(e).imageRendering !== "pixelated").length,
          broken: pictures.filter((e) => !e.complete || e.naturalWidth !== 16).length,
          wide: [first.clientWidth, first.clientHeight, map.getBoundingClientRect().width, map.getBoundingClientRect().height],
          colours: [style(own).borderBottomColor, style(stroke).stroke] }; })()"""
    with chromium.Browser(tmp_path / "profile") as browser:
        for width, side in ((1280, 96), (390, 64)):
            with browser.open(runs["mixed_ae"] / "report.html", width=width) as tab:
                found = tab.run(script)
                assert tab.complaints == []
            assert found["over"] <= 0
            assert found["right"] <= width
            assert (found["smooth"], found["broken"]) == (0, 0)
            assert found["wide"] == [side] * 4
            assert found["colours"][0] == found["colours"][1]  # a frame and its patches in the map
