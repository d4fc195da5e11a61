"""Vectors in the one loop: every method trains on them and resumes exactly, positives are drawn and counted, what makes
no sense on vectors is refused in a line."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from swell.data.mixture import real_share
from swell.data.partners import Neighbours
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.methods import METHODS
from swell.recipes import Recipe
from swell.run import Run
from swell.training import loop
from swell.training.build import build, resolve, suited_views
from swell.training.loop import Operation, pretrain
from swell.verbs import embed
from swell.verbs import pretrain as verb
from swell.views.plan import VIEWS, VectorGroup, ViewPlan

QUIET = Operation(quiet=True)
CPU = torch.device("cpu")
D = 12
OF_VECTORS = [entry.name for entry in METHODS if not entry.make.needs_tokens]
OF_TOKENS = [entry.name for entry in METHODS if entry.make.needs_tokens]
SIZES = {"hidden": 16, "outputs": 8, "predictor": 16, "bottleneck": 8, "prototypes": 20, "queue": 40}


def vectors(n=96, seed=0):
    """Vectors of eight kinds."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 8, n)
    centres = np.random.default_rng(0).normal(0, 1, (8, D))
    return (centres[which] + 0.4 * rng.standard_normal((n, D))).astype(np.float32), which


@pytest.fixture
def cells():
    return Source(vectors()[0], Provenance("real", "array"))


@pytest.fixture
def generated():
    return Source(vectors(200, 1)[0], Provenance("generated", "array", generator="kde"))


def recipe_of(name="simclr", **changes):
    options = {key: value for key, value in SIZES.items() if key in METHODS[name].__dataclass_fields__}
    small = {"hidden": 16, "outputs": 8}
    base = Recipe(method=name, method_options=options, backbone_options=small, batch_size=16, steps=6, precision="fp32")
    return replace(base, **changes)


def plain(name, **changes):
    """A run of the one loop alone, whatever phases the method has by itself."""
    fields = Recipe.__dataclass_fields__
    return recipe_of(name, **({"phases": ({"trains": "encoder", "steps": changes.get("steps", 6)},)}
                              if name == "diffaug" and "phases" in fields else {}), **changes)  # fmt: skip


@pytest.mark.parametrize("name", OF_VECTORS)
def test_an_interrupted_run_on_vectors_goes_on_bit_for_bit(tmp_path, cells, generated, monkeypatch, name):
    recipe = plain(
        name, weight=3.0, strength=0.5, **({} if name == "diffaug" else {"positives": "neighbours", "replace": 0.5})
    )
    whole = pretrain(recipe, cells, tmp_path / "whole", generated, QUIET)
    step = loop.Stepper.__call__

    def stopping(self, t, progress):
        if t == 3:
            raise KeyboardInterrupt
        return step(self, t, progress)

    always = replace(QUIET, checkpoint_seconds=0.0)
    monkeypatch.setattr(loop.Stepper, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, cells, tmp_path / "run", generated, always)
    monkeypatch.setattr(loop.Stepper, "__call__", step)
    out = pretrain(recipe, cells, tmp_path / "run", generated, replace(always, resume=True))
    assert (out / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
    a, b = ([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (out, whole))
    assert [m["loss"] for m in a] == [m["loss"] for m in b]
    assert [m.get("replaced") for m in a] == [m.get("replaced") for m in b]
    cost = Run(out).ledger.pretraining
    assert cost.samples_real == math.floor(96 * real_share(96, 200, 3.0) + 1e-9)
    assert cost.forwards == cost.views == 96 * Run(out).recipe.views.count
    assert cost.pixels == 0
    assert cost.flops > 0


@pytest.mark.parametrize("name", OF_VECTORS)
def test_every_method_learns_vectors_with_its_preset(cells, name):
    recipe = resolve(plain(name, steps=60, views=VIEWS["table"]()), cells, CPU)
    assert (recipe.preset, recipe.backbone, recipe.optimizer) == ("vectors", "mlp", "adamw")
    stepper = build(recipe, cells, None, CPU)
    losses = [stepper(t, t / 60) for t in range(60)]
    assert all(loss.isfinite() for loss, _, _ in losses)
    assert losses[-1][1]["z_std"].item() > 0.2
    z = torch.from_numpy(stepper.encoder.encode(cells.samples))
    z, which = torch.nn.functional.normalize(z - z.mean(0), dim=1), torch.from_numpy(vectors()[1])
    near = (z @ z.T - 2 * torch.eye(len(z))).argmax(1)
    assert (which[near] == which).float().mean() > 0.6  # one in eight by chance


@pytest.mark.parametrize("name", OF_TOKENS)
def test_methods_of_tokens_refuse_vectors(tmp_path, cells, name):
    with pytest.raises(InputError, match=f"{name} on vectors.*images"):
        pretrain(Recipe(method=name, steps=1), cells, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": "resnet18", "backbone_options": {}}, "resnet18 for vectors"),
        ({"views": "simclr"}, "views of images for vectors.*cells"),
        ({"preset": "small"}, "preset small for vectors"),
        ({"positives": "neighbours", "view_count": 1}, "one view"),
        ({"positives": "nowhere"}, "nowhere"),
        ({"replace": 0.5}, "replace 0.5 without positives"),
        ({"backbone_options": {"patch": 4}}, "patch"),
    ],
)
def test_what_does_not_fit_vectors_is_refused_and_leaves_nothing(tmp_path, cells, changes, says):
    with pytest.raises(InputError, match=says):
        pretrain(recipe_of(**changes), cells, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()


def test_what_is_for_vectors_is_refused_for_images(tmp_path, real):
    for changes, says in (({"views": "cells"}, "views of vectors for images"), ({"preset": "vectors"}, "for images"),
                          ({"backbone": "mlp", "views": "digits"}, "mlp for samples of shape")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            pretrain(Recipe(steps=1, **changes), real, tmp_path / "run", None, QUIET)


def test_views_follow_the_data(cells):
    assert suited_views(cells) == "table"
    counts = np.random.default_rng(0).poisson(0.5, (50, 20)).astype(np.float32)
    assert suited_views(Source(counts, Provenance("real", "array"))) == "cells"
    dense = Source(np.abs(cells.samples) + 1, Provenance("real", "array"))
    assert suited_views(dense) == "table"
    recipe = resolve(Recipe(steps=1, method="emp_ssl"), cells, CPU)
    assert {group.role for group in recipe.views.groups} == {"patch"}
    assert recipe.views.count == 8
    assert resolve(recipe, cells, CPU) == recipe  # what a run leaves behind repeats it


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_replaced_share_is_that_of_the_recipe_among_real_samples(tmp_path, cells, generated, share):
    recipe = recipe_of(steps=200, positives="neighbours", replace=share, weight=2.0)
    records = Run(pretrain(recipe, cells, tmp_path / "run", generated, QUIET)).metrics
    real_part = real_share(96, 200, 2.0)
    assert records[-1]["replaced"] == pytest.approx(share * real_part, abs=0.02)
    assert "replaced" not in Run(pretrain(recipe_of(), cells, tmp_path / "other", None, QUIET)).metrics[-1]


def test_replaced_positives_are_neighbours_and_generated_samples_are_their_own(cells, generated):
    bare = ViewPlan((VectorGroup(), VectorGroup(of="positive")))
    recipe = resolve(recipe_of(positives="neighbours", replace=0.5, views=bare, weight=2.0), cells, CPU)
    stepper = build(recipe, cells, generated, CPU)
    near = Neighbours(cells)
    assert torch.equal(stepper.neighbours.index, near.index)
    samples, reals = stepper.gather(3)
    mates, positives = stepper.companions(3, 0.0, samples)
    assert mates is None
    places = stepper.replaced(3, 0.0).tolist()
    rows = stepper.mixture(3).real
    for b in range(len(samples)):
        if b in places:
            assert any(torch.equal(positives[b], torch.from_numpy(cells.samples[i])) for i in near.index[rows[b]])
        else:
            assert torch.equal(positives[b], samples[b])
    assert 0 < len(places) < reals < len(samples)
    assert max(places) < reals
    stepper.replace = lambda progress: progress  # a ramp
    assert (len(stepper.replaced(3, 0.0)), len(stepper.replaced(3, 1.0))) == (0, reals)


def test_neighbour_mix_mixes_with_neighbours_unless_the_positive_is_replaced(cells):
    recipe = resolve(recipe_of(views="neighbour_mix", positives="neighbours", replace=0.5), cells, CPU)
    stepper = build(recipe, cells, None, CPU)
    samples, _ = stepper.gather(0)
    mates, positives = stepper.companions(0, 0.0, samples)
    places = stepper.replaced(0, 0.0)
    assert torch.equal(mates[places], positives[places])  # mixed with nothing else
    others = [b for b in range(16) if b not in places.tolist()]
    assert torch.equal(positives[others], samples[others])
    assert not torch.equal(mates[others], samples[others])


def test_from_a_file_to_features_and_scores(tmp_path):
    x, y = vectors(160)
    data = tmp_path / "cells.npz"
    np.savez(data, x=x, labels=y)
    run = verb(str(data), tmp_path / "run", recipe=recipe_of(steps=30), quiet=True)
    result = run.evaluate(str(data))
    assert set(result["baselines"]) == {"features", "pca", "random_init"}
    assert result["linear"]["accuracy"] > 0.5
    assert {"alignment", "lidar", "rankme"} <= set(result["label_free"])
    assert embed(tmp_path / "run", str(data), tmp_path / "z.npz").shape == (160, 8)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "prepared features" in page
    assert "raw pixels" not in page
    for given, says in (({"dense": True}, "dense probe of vectors"), ({"patches": 4}, "patches of vectors")):
        with pytest.raises(InputError, match=says):
            run.evaluate(str(data), **given)
    with pytest.raises(InputError, match="patches or crops of vectors"):
        run.encode(str(data), patches=4)
    with pytest.raises(InputError, match=r"missing|features"):
        run.encode(x[:, :5])


def test_fine_tuning_takes_vectors(cells):
    from swell.evaluation.finetune import evaluate_finetune

    x, y = vectors(160)
    labelled = Source(x, Provenance("real", "array"), y.astype(np.int64), [str(k) for k in range(8)])
    stepper = build(resolve(recipe_of(), labelled, CPU), labelled, None, CPU)
    found = evaluate_finetune(stepper.encoder, labelled, labelled, steps=150, quiet=True)
    assert found["accuracy"] > 0.8
    assert found["settings"]["mask"] == 0.1


def test_sparse_rows_train_like_the_dense_ones(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    from swell.data.sparse import SparseRows

    x = np.random.default_rng(0).poisson(0.4, (90, 30)).astype(np.float32)
    rows = SparseRows.from_csr(sparse.csr_array(x), np.zeros((1, 30), np.float32))
    runs = [
        pretrain(
            recipe_of(views="neighbour_mix"), Source(samples, Provenance("real", "array")), tmp_path / name, None, QUIET
        )
        for name, samples in (("dense", x), ("sparse", rows))
    ]
    assert runs[0].joinpath("encoder.safetensors").read_bytes() == runs[1].joinpath("encoder.safetensors").read_bytes()
