"""Using a finished run: encode what differs a little from the training data, evaluate, refuse what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import swell
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.training.loop import Operation, pretrain


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory):
    samples = np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16), dtype=np.uint8)
    recipe = swell.Recipe(
        steps=2, batch_size=16, width=0.25, method_options={"hidden": 16, "outputs": 8}, precision="fp32"
    )
    out = tmp_path_factory.mktemp("runs") / "colour"
    pretrain(recipe, Source(samples, Provenance("real", "array")), out, None, Operation(quiet=True))
    return swell.load(out)


def test_a_folder_of_grey_images_is_encoded_by_an_encoder_of_colour(colour_run, tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    for i, image in enumerate(grey):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = colour_run.encode(np.repeat(grey[:, None], 3, axis=1))
    np.testing.assert_array_equal(colour_run.encode(tmp_path), expected)


def test_images_are_resized_as_the_run_saw_its_own(colour_run, tmp_path):
    Image.new("RGB", (40, 30), (10, 200, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (16, 90), (200, 20, 30)).save(tmp_path / "b.jpg")
    assert colour_run.encode(tmp_path).shape == (2, colour_run.encoder.features)


def test_vectors_are_refused_by_an_encoder_of_images(colour_run):
    with pytest.raises(InputError, match="expected images"):
        colour_run.encode(np.zeros((4, 5), np.float32))


def test_evaluate_writes_the_contract_and_never_sees_test_labels_in_training(colour_run):
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 20)
    samples = (rng.integers(0, 128, (40, 3, 16, 16)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    result = colour_run.evaluate((samples, labels))
    assert result["probe"] == "swell-probe-1"
    assert (result["n_train"], result["n_test"]) == (28, 12)
    assert {"knn", "linear", "few_shot", "clusters", "label_free", "ledger", "baselines"} <= set(result)
    assert {"rankme", "alpha_req", "lidar", "alignment", "uniformity", "feature_std"} <= set(result["label_free"])
    assert set(result["baselines"]) == {"pixels", "pca", "random_init"}
    assert result["linear"]["accuracy"] == 1.0  # brightness alone tells the classes apart
    again = colour_run.evaluate((samples, labels))
    for key in ("knn", "linear", "few_shot", "clusters"):
        assert again[key] == result[key]
    text = (colour_run.path / "report.html").read_text()
    assert "raw pixels" in text


def test_a_recipe_of_a_run_can_be_changed_and_run_again(colour_run, tmp_path):
    samples = np.random.default_rng(3).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    run = swell.pretrain(samples, tmp_path / "again", recipe=replace(colour_run.recipe, seed=3), steps=1, quiet=True)
    assert run.recipe.seed == 3
    assert run.recipe.steps == 1
