"""DINO: the loss against float64 loops, known values, schedules, and what moves when."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.methods.dino import DINO, Centre, dino_loss
from swell.methods.registry import Views
from swell.testing import check_method
from swell.views.plan import VIEWS


class Features(torch.nn.Linear):
    """A linear encoder of vectors."""

    features = 16

    def __init__(self):
        super().__init__(8, 16)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def views_of(seed=0, batch=12, roles=("global", "global"), counts=(1, 1)):
    g = torch.Generator().manual_seed(seed)
    return Views(tuple(torch.randn(n * batch, 8, generator=g) for n in counts), roles, batch)


def small(**changes):
    return DINO(**{"prototypes": 20, "hidden": 32, "outputs": 8, **changes})


def assembled(method, seed=0):
    torch.manual_seed(seed)
    encoder = Features()
    return encoder, method.parts(encoder)


def softmax(row):
    top = max(row)
    powers = [math.exp(x - top) for x in row]
    return [p / sum(powers) for p in powers]


def loss_by_loops(s, t, c, tau_s, tau_t, targets):
    s, t, c = (x.double().tolist() for x in (s, t, c))
    terms = []
    for i, at in enumerate(targets):
        for v, view in enumerate(s):
            if v != at:
                for student, teacher in zip(view, t[i], strict=True):
                    p_t = softmax([(x - m) / tau_t for x, m in zip(teacher, c, strict=True)])
                    p_s = softmax([x / tau_s for x in student])
                    terms.append(-sum(a * math.log(b) for a, b in zip(p_t, p_s, strict=True)))
    return sum(terms) / len(terms)


@settings(max_examples=30, deadline=None)
@given(
    views=st.integers(2, 5),
    batch=st.integers(1, 5),
    k=st.integers(2, 6),
    tau_s=st.floats(0.1, 2.0),
    tau_t=st.floats(0.04, 2.0),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_equals_the_formula(views, batch, k, tau_s, tau_t, seed, data):
    targets = sorted(data.draw(st.sets(st.integers(0, views - 1), min_size=1)))
    s, t, c = (
        normal(views, batch, k, seed=seed),
        normal(len(targets), batch, k, seed=seed + 1),
        normal(k, seed=seed + 2),
    )
    expected = loss_by_loops(s, t, c, tau_s, tau_t, targets)
    assert dino_loss(s, t, c, tau_s, tau_t, targets).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_case_worked_by_hand():
    # The centre takes the teacher's lead away: P_t = (1/2, 1/2). The student's outputs (ln 3, 0) give P_s = (3/4, 1/4).
    s = torch.tensor([math.log(3), 0.0]).expand(2, 1, 2)
    t = torch.tensor([5.0, 0.0]).expand(2, 1, 2)
    expected = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert dino_loss(s, t, torch.tensor([5.0, 0.0]), 1.0, 0.04, [0, 1]).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [10, 4096])
def test_uniform_outputs_cost_ln_k(k):
    s, t = torch.full((3, 4, k), 0.2), normal(2, 4, k)
    assert dino_loss(s, t, torch.zeros(k), 0.1, 0.04, [0, 1]).item() == pytest.approx(math.log(k), rel=1e-5)


def test_no_gradient_reaches_the_teacher():
    method = small()
    encoder, parts = assembled(method)
    outcome = method.loss(encoder, parts, views_of(), 0.5)
    outcome.loss.backward()
    assert all(p.grad is None for p in parts["teacher"].parameters())
    assert encoder.weight.grad.any()
    assert not outcome.kept["mean"].requires_grad


def test_keeps_its_promises_with_few_prototypes_and_batch_norm():
    check_method(lambda: small(prototypes=64, tau=0.9, norm=True))


def test_local_crops_reach_the_student_only():
    method = small()
    encoder, parts = assembled(method)
    views = views_of(roles=("global", "local"), counts=(2, 3))
    seen = []
    parts["teacher"].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    loss = method.loss(encoder, parts, views, 0.5).loss
    assert seen == [2 * 12]
    # The teacher is still the student, so its outputs are the student's.
    s = parts["prototypes"](parts["projector"](views.encode(encoder))).detach()
    assert loss.item() == pytest.approx(loss_by_loops(s, s[:2], torch.zeros(20), 0.1, 0.07, [0, 1]), rel=1e-4)


def test_the_teachers_temperature_rises_then_stays():
    method = DINO(teacher_warmup=0.2)
    taus = [method.teacher_tau(p) for p in (0.0, 0.1, 0.2, 1.0)]
    assert taus == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert DINO(teacher_warmup=0.0).teacher_tau(0.0) == 0.07


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_teacher_and_centre_follow_after_the_step(progress, tau):
    method = small(tau=0.9, centre_momentum=0.75)
    encoder, parts = assembled(method)
    kept = method.loss(encoder, parts, views_of(), progress).kept
    students = {"encoder": encoder, "projector": parts["projector"], "prototypes": parts["prototypes"]}
    before = {n: p.detach().clone() for n, p in parts["teacher"].named_parameters()}
    with torch.no_grad():
        for module in students.values():
            for p in module.parameters():
                p.add_(1)
    method.after_step(encoder, parts, kept, progress)
    for name, p in parts["teacher"].named_parameters():
        torch.testing.assert_close(p, before[name] + (1 - tau))
    torch.testing.assert_close(parts["centre"].value, 0.25 * kept["mean"])


def test_the_centre_is_the_moving_mean_of_the_teachers_outputs():
    method = small()
    encoder, parts = assembled(method)
    views = views_of()
    kept = method.loss(encoder, parts, views, 0.5).kept
    t = torch.stack([parts["teacher"](group) for group in views.groups])
    torch.testing.assert_close(kept["mean"], t.mean((0, 1)))
    centre = Centre(2)
    for mean in ([1.0, 0.0], [0.0, 4.0]):
        centre.follow(torch.tensor(mean), 0.5)
    assert centre.value.tolist() == [0.25, 2.0]


def test_prototypes_are_frozen_at_first():
    method = small(freeze=0.1)
    encoder, parts = assembled(method)
    for progress, moves in ((0.0, False), (0.0999, False), (0.1, True)):
        parts.zero_grad(set_to_none=True)
        method.loss(encoder, parts, views_of(), progress).loss.backward()
        assert (parts["prototypes"].weight.grad is not None) == moves


def test_published_settings():
    parts = DINO().parts(Features())
    student = [tuple(p.shape) for name, p in parts.named_parameters() if "teacher" not in name and p.ndim > 1]
    assert student == [(2048, 16), (2048, 2048), (256, 2048), (4096, 256)]
    assert DINO().views((3, 32, 32)) == VIEWS["asymmetric"]()
    for preset in DINO.presets.values():
        DINO(**preset.options)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"teacher_temperature": -1.0}, {"tau": 1.1}, {"freeze": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        DINO(**wrong)


def test_a_single_view_is_refused():
    method = small()
    encoder, parts = assembled(method)
    with pytest.raises(InputError, match="at least 2 views for dino"):
        method.loss(encoder, parts, views_of(roles=("global",), counts=(1,)), 0.0)


def test_equals_lightly():
    lightly = pytest.importorskip("lightly.loss")
    s, t = normal(5, 16, 12), normal(2, 16, 12, seed=1)
    theirs = lightly.DINOLoss(output_dim=12, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=0, teacher_temp=0.05)
    c = normal(12, seed=2)
    theirs.center.copy_(c.view_as(theirs.center))
    expected = theirs(list(t), list(s), epoch=0)
    torch.testing.assert_close(dino_loss(s, t, c, 0.1, 0.05, [0, 1]), expected)
    torch.testing.assert_close(theirs.center.flatten(), 0.9 * c + 0.1 * t.mean((0, 1)))
