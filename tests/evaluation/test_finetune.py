"""Fine-tuning: which labels it sees, how fast each layer learns, that it learns, repeats itself and harms nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.data.open import open_data
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation.finetune import (
    Classifier,
    evaluate_finetune,
    finetune,
    labelled_rows,
    light_views,
    parameter_groups,
)
from swell.ledger import counted_flops
from swell.nets.depth import layer_ids
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics
from swell.training.watchdog import Diverged
from swell.views.plan import VIEWS

QUIET = {"quiet": True, "precision": "fp32"}


def digits(train=400, test=300):
    a, b = open_data("builtin:digits:train", labels=True), open_data("builtin:digits:test", labels=True)
    return a.subset(np.arange(train)), b.subset(np.arange(test))


def encoder_for(train, backbone="conv6", width=0.5, **options):
    torch.manual_seed(0)
    return Encoder(EncoderConfig(backbone, width, train.shape, *channel_statistics(train.samples), **options))


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    fractions=st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2),
    seed=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_fractions_are_nested_stratified_and_leave_no_class_out(labels, fractions, seed):
    labels = np.array(labels)
    few, many = (labelled_rows(labels, f, seed) for f in sorted(fractions))
    assert set(few) <= set(many)
    for fraction, rows in zip(sorted(fractions), (few, many), strict=True):
        assert len(set(rows)) == len(rows)
        for label, there in zip(*np.unique(labels, return_counts=True), strict=True):
            taken = int((labels[rows] == label).sum())
            assert taken >= 1
            assert taken == 1 or abs(taken - fraction * there) <= 0.5
    assert list(labelled_rows(labels, 1.0, seed)) == list(range(len(labels)))


def test_rows_depend_on_the_seed_and_on_each_class_alone():
    labels = np.arange(1000) % 4
    rows = labelled_rows(labels, 0.1)
    assert len(rows) == 100
    np.testing.assert_array_equal(labelled_rows(labels, 0.1), rows)
    assert len(np.intersect1d(labelled_rows(labels, 0.1, seed=1), rows)) < 40
    without_the_last = labels[labels < 3]
    kept = np.flatnonzero(labels < 3)[labelled_rows(without_the_last, 0.1)]
    np.testing.assert_array_equal(kept, rows[labels[rows] < 3])


@pytest.mark.parametrize("backbone", ["conv6", "resnet18", "vit_tiny"])
def test_each_parameter_learns_at_the_rate_of_its_layer_and_matrices_alone_decay(backbone):
    shape = (3, 16, 16)
    net = Classifier(Encoder(EncoderConfig(backbone, 0.25, shape, (0.5,) * 3, (0.25,) * 3)), 10)
    groups = parameter_groups(net, rate=0.1, layer_decay=0.5, weight_decay=0.05)
    found = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(net.parameters()))
    ids, last = layer_ids(net.encoder.backbone)
    for name, p in net.named_parameters():
        layer = ids.get(name.removeprefix("encoder.backbone."), last)
        assert found[id(p)]["full_rate"] == pytest.approx(0.1 * 0.5 ** (last - layer)), name
        matrix = p.ndim > 1 and "token" not in name and "positions" not in name
        assert found[id(p)]["weight_decay"] == (0.05 if matrix else 0.0), name


def test_light_views_mirror_as_the_plan_does_and_change_no_colour():
    plain, (digit,), (photo,) = (light_views(plan).groups for plan in (None, VIEWS["digits"](), VIEWS["simclr"]()))
    assert [group.flip for group in (*plain, digit, photo)] == [0.0, 0.0, 0.5]
    assert light_views(VIEWS["emp_ssl"]()).groups[0].interpolation == "bilinear"
    for group in (*plain, digit, photo):
        assert (group.count, group.scale, group.size) == (1, (0.35, 1.0), None)
        assert group.jitter_p == group.grey_p == group.blur_p == group.solarise_p == 0


def test_it_learns_and_more_labels_help():
    train, test = digits(1000)
    encoder = encoder_for(train)
    few, full = (finetune(encoder, train, test, fraction=f, steps=60, batch_size=64, **QUIET) for f in (0.02, 1.0))
    assert few["n_labels"] == 20
    assert few["accuracy"] > 0.3  # chance is 0.1
    assert full["accuracy"] > max(0.7, few["accuracy"])


def test_a_vit_learns_with_dropped_paths():
    train, test = digits()
    encoder = encoder_for(train, "vit_tiny", 0.25, options={"depth": 2, "patch": 2})
    given = {"steps": 60, "batch_size": 64, "learning_rate": 3e-3, "drop_path": 0.1, **QUIET}
    assert finetune(encoder, train, test, **given)["accuracy"] > 0.3  # chance is 0.1
    assert {block.drop_path for block in encoder.backbone.blocks} == {0.0}


def weights_after(encoder, train, test, **given):
    """Accuracies and the fine-tuned weights, caught where the last forward passes."""
    caught = {}
    plain = Classifier.forward

    def watching(self, x):
        caught.update({name: w.detach().clone() for name, w in self.state_dict().items()})
        return plain(self, x)

    Classifier.forward = watching
    try:
        result = finetune(encoder, train, test, **given, **QUIET)
    finally:
        Classifier.forward = plain
    return result, caught


@pytest.mark.parametrize(
    ("backbone", "options", "drop_path"), [("conv6", {}, 0.0), ("vit_tiny", {"options": {"depth": 2}}, 0.5)]
)
def test_one_seed_gives_one_result_whatever_was_drawn_before(backbone, options, drop_path):
    train, test = digits(120, 100)
    encoder = encoder_for(train, backbone, 0.25, **options)
    given = {"seed": 3, "drop_path": drop_path}
    first, weights = weights_after(encoder, train, test, steps=6, **given)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    second, again = weights_after(encoder, train, test, steps=6, **given)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    _, other = weights_after(encoder, train, test, steps=6, **{**given, "seed": 4})
    assert not torch.equal(weights["head.weight"], other["head.weight"])


def test_the_given_encoder_stays_as_it_is_bit_for_bit():
    train, test = digits(120, 100)
    encoder = encoder_for(train, width=0.25).eval()
    before = {name: w.clone() for name, w in encoder.state_dict().items()}
    _, tuned = weights_after(encoder, train, test, steps=6, learning_rate=0.01)
    assert not encoder.training
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(before[name], w) for name, w in encoder.state_dict().items())
    moved = {name for name, w in before.items() if not torch.equal(tuned[f"encoder.{name}"], w)}
    assert moved == set(before) - {"mean", "std"}  # and the copy has learnt in every layer


def test_the_test_split_decides_nothing():
    train, test = digits(120, 100)
    encoder = encoder_for(train, width=0.25)
    _, weights = weights_after(encoder, train, test, steps=6)
    _, others = weights_after(encoder, train, replace(test, labels=(test.labels + 1) % 10), steps=6)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_from_scratch_starts_elsewhere_and_learns_everywhere_at_the_full_rate():
    train, test = digits(120, 100)
    encoder = encoder_for(train, width=0.25)
    result = evaluate_finetune(encoder, train, test, steps=4, fraction=0.5, plan=VIEWS["simclr"](), **QUIET)
    scratch = result["from_scratch"]
    assert (result["scratch"], scratch["scratch"]) == (False, True)
    assert (result["settings"]["layer_decay"], scratch["settings"]["layer_decay"]) == (0.75, 1.0)
    assert result["settings"]["flip"] == scratch["settings"]["flip"] == 0.5
    assert result["n_labels"] == scratch["n_labels"]
    torch.manual_seed(5)
    other = Encoder(encoder.config)
    same = finetune(other, train, test, steps=4, fraction=0.5, scratch=True, plan=VIEWS["simclr"](), **QUIET)
    assert same["accuracy"] == scratch["accuracy"]  # the control does not depend on the encoder's weights
    json.dumps(result)


def test_what_it_cost():
    train, test = digits(120, 100)
    encoder = encoder_for(train, width=0.25)
    found = finetune(encoder, train, test, steps=5, batch_size=50, **QUIET)
    assert (found["steps"], found["epochs"], found["forwards"]) == (5, 5 * 50 / 120, 5 * 50 + 100)
    with counted_flops() as flops, torch.no_grad():
        Classifier(encoder, 10).eval()(torch.zeros(1, 1, 8, 8))
    # A backward takes twice the forward, but for the image, which needs no gradient; the views are in it too.
    assert 2.5 * 250 + 100 < found["flops"] / flops[0] < 4 * 250 + 100
    assert finetune(encoder, train, test, epochs=2, batch_size=50, **QUIET)["steps"] == 5
    assert finetune(encoder, train, test, steps=1, **QUIET)["settings"]["batch_size"] == 120  # no more than there are


def test_a_class_that_train_lacks_counts_as_wrong():
    train, test = digits(300, 200)
    known = train.subset(np.flatnonzero((train.labels == 3) | (train.labels == 7)))
    found = finetune(encoder_for(train), known, test, steps=40, **QUIET)
    assert found["accuracy"] <= np.isin(test.labels, (3, 7)).mean()
    assert found["accuracy"] > 0.7 * np.isin(test.labels, (3, 7)).mean()


@pytest.mark.parametrize(
    ("name", "value"),
    [("fraction", 0.0), ("fraction", 1.5), ("fraction", True), ("fraction", float("nan")), ("epochs", 0.0),
     ("steps", 0), ("steps", 2.5), ("learning_rate", -1.0), ("learning_rate", float("inf")), ("layer_decay", 1.1),
     ("layer_decay", 0.0), ("weight_decay", -0.1), ("label_smoothing", 1.0), ("drop_path", 0.1), ("batch_size", 1),
     ("batch_size", True), ("seed", -1), ("warmup", 1.0), ("precision", "fp8")],
)  # fmt: skip
def test_bad_settings_are_told_in_one_line(name, value):
    train, test = digits(40, 20)
    with pytest.raises(InputError, match=r"^[^\n]*: expected [^\n]*$"):
        finetune(encoder_for(train, width=0.25), train, test, quiet=True, **{name: value})


def test_bad_samples_are_told_in_one_line():
    train, test = digits(40, 20)
    encoder = encoder_for(train, width=0.25)
    vectors = Source(np.zeros((40, 5), np.float32), Provenance("real", "array"), train.labels, train.classes)
    for a, b, words in (
        (train.unlabelled(), test, "train samples without labels"),
        (train, test.unlabelled(), "test samples without labels"),
        (vectors, test, r"train samples of shape \[5\]"),
        (train, test.subset(np.arange(0)), "0 test samples"),
        (replace(train, labels=np.zeros(40, np.int64)), test, "all 0"),
        (train, replace(test, classes=("a", "b")), "test classes"),
    ):
        with pytest.raises(InputError, match=words):
            finetune(encoder, a, b, steps=1, **QUIET)
    with pytest.raises(InputError, match="one of them"):
        finetune(encoder, train, test, steps=1, epochs=1, **QUIET)


def test_a_loss_that_is_not_finite_ends_it():
    train, test = digits(40, 20)
    encoder = encoder_for(train, width=0.25)
    with torch.no_grad():
        encoder.backbone.layers[0].weight.fill_(torch.nan)
    with pytest.raises(Diverged, match="fine-tuning, step"):
        finetune(encoder, train, test, steps=3, **QUIET)
