"""What the losses share: precision, spread, schedules, pairs of views."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swell.methods.terms import cosine_between, full_precision, other_pairs, paired, spread


@full_precision
def product(a, b, scale=1.0, *, c=None):
    out = a @ b * scale
    return out if c is None else out + c


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_arguments_are_widened_and_autocast_stays_out(dtype):
    a, b = torch.randn(8, 8, dtype=dtype), torch.randn(8, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out = product(a, b, 2.0, c=torch.ones(8, 8, dtype=dtype))
        assert out.dtype == torch.float32
        assert (a.float() @ b.float()).dtype == torch.bfloat16  # outside it is on, and on again
    assert torch.equal(out, a.float() @ b.float() * 2 + 1)


def test_float32_and_float64_are_left_alone():
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(3, 3, dtype=dtype)
        assert product(a, a).dtype == dtype


def test_the_gradient_comes_back_in_the_arguments_precision():
    a = torch.randn(4, 4, dtype=torch.bfloat16, requires_grad=True)
    product(a, a).sum().backward()
    assert a.grad.dtype == torch.bfloat16


def test_name_and_docstring_stay():
    assert product.__name__ == "product"


@given(start=st.floats(0, 1), end=st.floats(0, 1), progress=st.floats(0, 1))
def test_cosine_goes_from_start_to_end(start, end, progress):
    value = cosine_between(start, end, progress)
    assert min(start, end) - 1e-12 <= value <= max(start, end) + 1e-12
    assert cosine_between(start, end, 0.0) == pytest.approx(start, abs=1e-15)
    assert cosine_between(start, end, 1.0) == pytest.approx(end, abs=1e-15)


def test_cosine_is_byols_schedule():
    # 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2, section 3.2 of the paper
    for k in range(11):
        assert cosine_between(0.996, 1.0, k / 10) == pytest.approx(
            1 - (1 - 0.996) * (math.cos(math.pi * k / 10) + 1) / 2, abs=1e-15
        )
    assert cosine_between(0.9, 1.0, 0.5) == pytest.approx(0.95)
    assert cosine_between(0.9, 1.0, 1.7) == 1.0  # beyond the budget it stays
    assert cosine_between(0.9, 1.0, -0.1) == pytest.approx(0.9)


@given(data=st.data(), students=st.integers(2, 8))
def test_every_target_meets_every_other_view_once(data, students):
    targets = data.draw(st.lists(st.integers(0, students - 1), min_size=1, max_size=students, unique=True))
    expected = {(t, v) for t, v in itertools.product(range(len(targets)), range(students)) if v != targets[t]}
    pairs = other_pairs(students, targets)
    assert len(pairs) == len(set(pairs)) == len(targets) * (students - 1)
    assert set(pairs) == expected


def test_pairs_lie_side_by_side():
    student, target = torch.randn(3, 4, 5), torch.randn(2, 4, 5)
    a, b = paired(student, target, [0, 2])
    assert other_pairs(3, [0, 2]) == [(0, 1), (0, 2), (1, 0), (1, 1)]
    assert torch.equal(a, student[[1, 2, 0, 1]])
    assert torch.equal(b, target[[0, 0, 1, 1]])


def test_spread_is_0_for_one_point_and_1_for_an_isotropic_cloud():
    assert spread(torch.ones(2, 64, 8)).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.randn(2, 4096, 32, generator=torch.Generator().manual_seed(0))).item() == pytest.approx(
        1, abs=0.02
    )
    z = torch.randn(2, 64, 8, requires_grad=True)
    assert not spread(z).requires_grad
    torch.testing.assert_close(spread(3 * z), spread(z))  # of unit vectors, so length does not matter
