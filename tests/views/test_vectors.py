"""Views of vectors: what each operation does to how many features, strength, whose view it is, the form in a recipe."""

import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st

from swell.errors import InputError
from swell.seeding import generator_for
from swell.views import VIEWS, VectorGroup, ViewGroup, ViewPlan
from swell.views.render import render

B, D = 64, 500
X = torch.from_numpy(np.random.default_rng(0).standard_normal((B, D)).astype(np.float32)) + 3


def views(x=X, seed=0, partners=None, positives=None, **settings):
    plan = ViewPlan((VectorGroup(**settings),))
    return render(plan, x, generator_for(seed, "v"), partners, positives)[0]


def test_without_settings_a_view_is_the_sample():
    out = views(count=3)
    assert torch.equal(out, X.repeat(3, 1))
    assert out.data_ptr() != X.data_ptr()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_masked_features_are_zero_and_the_others_untouched(share):
    out = views(mask=share, count=2)
    kept = out == X.repeat(2, 1)
    assert ((out == 0) | kept).all()
    assert (~kept).float().mean().item() == pytest.approx(share, abs=0.01)
    assert not torch.equal(out[:B], out[B:])
    per_sample = (~kept).float().mean(1)  # each feature by itself: binomial counts
    assert per_sample.std().item() == pytest.approx((share * (1 - share) / D) ** 0.5, rel=0.25)


def test_swapped_features_come_from_the_same_feature_of_several_other_samples():
    out = views(swap=0.4)
    changed = out != X
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.01)
    row = 5
    donors = {int((X[:, j] == out[row, j]).nonzero()) for j in changed[row].nonzero()[:, 0].tolist()}
    assert row not in donors
    assert len(donors) > B / 2


def test_crossed_features_come_from_one_other_sample():
    out = views(crossover=0.4)
    changed = out != X
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.01)
    mates = []
    for row in range(B):
        donors = {int((X[:, j] == out[row, j]).nonzero()) for j in changed[row].nonzero()[:, 0].tolist()}
        assert len(donors) == 1
        mates += donors
    assert all(mate != row for row, mate in enumerate(mates))
    assert len(set(mates)) > B / 3


def test_noise_has_its_standard_deviation():
    difference = views(noise=0.3) - X
    assert difference.std().item() == pytest.approx(0.3, rel=0.02)
    assert difference.mean().item() == pytest.approx(0, abs=0.01)


def test_mixing_goes_a_uniform_part_of_the_way_to_the_partner():
    partners = X.roll(1, 0)
    out = views(mix=0.6, count=200, partners=partners).view(200, B, D)
    u = ((out - X) * (partners - X)).sum(2) / (partners - X).square().sum(1)
    torch.testing.assert_close(out, X + u[..., None] * (partners - X), rtol=1e-4, atol=1e-4)
    assert u.min() >= 0
    assert u.max() <= 0.6 + 1e-5
    assert u.mean().item() == pytest.approx(0.3, abs=0.01)
    assert u.std().item() == pytest.approx(0.6 / 12**0.5, rel=0.03)


def test_masked_features_are_zero_whatever_else_is_done():
    out = views(mask=0.5, noise=1.0, swap=0.2, crossover=0.2, mix=1.0, partners=X.flip(0))
    assert (out == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_view_depends_neither_on_later_views_nor_on_other_operations():
    assert torch.equal(views(mask=0.5, count=3)[:B], views(mask=0.5, count=1))
    both = views(mask=0.5, noise=0.1)
    assert torch.equal(both == 0, views(mask=0.5) == 0)
    assert not torch.equal(views(mask=0.5, seed=1), views(mask=0.5))


def test_a_single_sample_has_nobody_to_take_from():
    assert torch.equal(views(X[:1], swap=1.0, crossover=1.0), X[:1])


def test_groups_of_positives_show_positives():
    plan = ViewPlan((VectorGroup(), VectorGroup(of="positive", count=2)))
    first, second = render(plan, X, generator_for(0), positives=-X)
    assert torch.equal(first, X)
    assert torch.equal(second, -X.repeat(2, 1))
    _, by_partner = render(plan, X, generator_for(0), X + 1)
    assert torch.equal(by_partner, (X + 1).repeat(2, 1))


def test_images_have_views_of_positives_too():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    group = ViewGroup(scale=(1, 1), flip=0, jitter_p=0, grey_p=0, blur_p=0)
    plan = ViewPlan((group, ViewGroup(scale=(1, 1), flip=0, jitter_p=0, grey_p=0, blur_p=0, of="positive")))
    a, b = render(plan, images, generator_for(0), 255 - images)
    torch.testing.assert_close(a + b, torch.ones_like(a))
    with pytest.raises(InputError, match="positive for each sample"):
        render(plan, images, generator_for(0))


@pytest.mark.parametrize(
    ("x", "kwargs", "says"),
    [
        (X.double(), {}, "float32 batch"),
        (X[0], {}, "float32 batch"),
        (X[:0], {}, "not empty"),
        (X, {"mix": 0.5}, "partner for each sample"),
        (X, {"of": "positive"}, "positive for each sample"),
        (X, {"mix": 0.5, "partners": X[:3]}, "one for each sample"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(x, kwargs, says):
    with pytest.raises(InputError, match=says):
        views(x, **kwargs)


@pytest.mark.parametrize("settings", [{"mask": 1.1}, {"noise": -1}, {"swap": "x"}, {"count": 0}, {"of": "me"}, {"role": "x"},
                                      {"mix": float("nan")}])  # fmt: skip
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match=f"view {next(iter(settings))}"):
        VectorGroup(**settings)


def test_strength_scales_every_setting():
    group = VectorGroup(2, 0.5, 0.4, 0.2, 1.0, 0.3, "positive", "local")
    assert group.at_strength("weak") == VectorGroup(2, 0.25, 0.2, 0.1, 0.5, 0.15, "positive", "local")
    assert group.at_strength(1) == group
    assert torch.equal(views(**vars(VectorGroup(mask=0.5).at_strength(0))), X)
    assert VIEWS["cells"]().at_strength(0.5).groups[0].mask == 0.375


shares = st.floats(0, 1)
vector_groups = st.builds(VectorGroup, st.integers(1, 5), shares, shares, st.floats(0, 9), shares, shares,
                          st.sampled_from(["sample", "positive"]), st.sampled_from(["global", "local"]))  # fmt: skip


@given(st.lists(vector_groups, min_size=1, max_size=3))
def test_a_plan_survives_toml(groups):
    plan = ViewPlan(tuple(groups))
    assert ViewPlan.from_dict(tomllib.loads(tomli_w.dumps(plan.to_dict()))) == plan


def test_groups_are_told_apart_by_their_keys_and_not_mixed():
    assert ViewPlan.from_dict({"groups": [{"count": 2, "mask": 0.75}]}) == VIEWS["cells"]()
    assert ViewPlan.from_dict({"groups": [{"count": 2}]}) == VIEWS["simclr"]()
    with pytest.raises(InputError, match="all VectorGroup"):
        ViewPlan((VectorGroup(), ViewGroup()))
    with pytest.raises(InputError, match="view group key 'flip'"):
        ViewPlan.from_dict({"groups": [{"mask": 0.5, "flip": 0.5}]})
    with pytest.raises(InputError, match="images"):
        _ = VIEWS["cells"]().image_groups


def test_presets():
    cells, table, mixed = (VIEWS[name]() for name in ("cells", "table", "neighbour_mix"))
    assert (cells.count, cells.mixes, table.count) == (2, False, 2)
    assert mixed.mixes
    assert [group.mix for group in mixed.groups] == [0, 1]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("cells", [(1, "sample"), (1, "positive")]), ("neighbour_mix", [(1, "sample"), (1, "positive")]),
     ("asymmetric", [(1, "sample"), (1, "positive")]), ("emp_ssl", [(10, "sample"), (10, "positive")]),
     ("swav", [(1, "sample"), (1, "positive"), (6, "sample")])],
)  # fmt: skip
def test_some_views_become_views_of_positives(name, counts):
    plan = VIEWS[name]().with_positives()
    assert [(group.count, group.of) for group in plan.groups] == counts
    assert plan.with_positives() == plan
    assert plan.count == VIEWS[name]().count


def test_a_single_view_has_no_positive():
    with pytest.raises(InputError, match="one view"):
        VIEWS["mae"]().with_positives()
