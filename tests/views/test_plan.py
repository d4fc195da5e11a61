"""View plans: exact numbers of the presets, strength, validation, recipe form."""

import dataclasses
import subprocess
import sys
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from swell.errors import InputError
from swell.views import VIEWS, ViewGroup, ViewPlan, strength_number


def settings(group):
    return {
        "scale": group.scale,
        "jitter": (group.brightness, group.contrast, group.saturation, group.hue),
        "p": (group.jitter_p, group.grey_p, group.blur_p, group.solarise_p, group.flip),
    }


# name, index of the group, count, size, minimum and maximum area, b/c/s/h, p of
# jitter/grey/blur/solarise/flip, kernel
PUBLISHED = [
    ("simclr", 0, 2, None, (0.08, 1), (0.8, 0.8, 0.8, 0.2), (0.8, 0.2, 0.5, 0, 0.5), "bicubic"),
    ("symmetric_weak", 0, 2, None, (0.08, 1), (0.4, 0.4, 0.4, 0.1), (0.8, 0.2, 0.5, 0, 0.5), "bicubic"),
    ("adainf", 0, 2, None, (0.2, 1), (0.4, 0.4, 0.4, 0.1), (0.4, 0.2, 0.5, 0, 0.5), "bicubic"),
    ("asymmetric", 0, 1, None, (0.08, 1), (0.4, 0.4, 0.2, 0.1), (0.8, 0.2, 0, 0, 0.5), "bicubic"),
    ("asymmetric", 1, 1, None, (0.08, 1), (0.4, 0.4, 0.2, 0.1), (0.8, 0.2, 0, 0.2, 0.5), "bicubic"),
    ("asymmetric_adainf", 0, 1, None, (0.2, 1), (0.4, 0.4, 0.2, 0.1), (0.4, 0.2, 0, 0, 0.5), "bicubic"),
    ("asymmetric_adainf", 1, 1, None, (0.2, 1), (0.4, 0.4, 0.2, 0.1), (0.4, 0.2, 0, 0.2, 0.5), "bicubic"),
    ("vicreg", 0, 2, None, (0.2, 1), (0.4, 0.4, 0.2, 0.1), (0.8, 0.2, 0, 0.1, 0.5), "bicubic"),
    ("emp_ssl", 0, 20, None, (0.25, 0.25), (0.4, 0.4, 0.4, 0.2), (0.8, 0.2, 0.1, 0.1, 0.5), "bilinear"),
    ("emp_ssl_crops", 0, 20, None, (0.08, 1), (0.4, 0.4, 0.4, 0.2), (0.8, 0.2, 0.1, 0.1, 0.5), "bilinear"),
    ("emp_ssl_imagenet", 0, 20, None, (0.25, 0.25), (0.4, 0.4, 0.4, 0.2), (0.8, 0.2, 0.1, 0.1, 0.5), "bicubic"),
    ("swav", 0, 2, 32, (0.2, 1), (0.8, 0.8, 0.8, 0.2), (0.8, 0.2, 0.5, 0, 0.5), "bilinear"),
    ("swav", 1, 6, 16, (0.05, 0.2), (0.8, 0.8, 0.8, 0.2), (0.8, 0.2, 0.5, 0, 0.5), "bilinear"),
    ("swav_imagenet", 0, 2, 224, (0.14, 1), (0.8, 0.8, 0.8, 0.2), (0.8, 0.2, 0.5, 0, 0.5), "bilinear"),
    ("swav_imagenet", 1, 6, 96, (0.05, 0.14), (0.8, 0.8, 0.8, 0.2), (0.8, 0.2, 0.5, 0, 0.5), "bilinear"),
    ("digits", 0, 2, None, (0.4, 1), (0, 0, 0, 0), (0, 0, 0, 0, 0), "bicubic"),
    ("mae", 0, 1, None, (0.2, 1), (0, 0, 0, 0), (0, 0, 0, 0, 0.5), "bicubic"),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_presets_have_the_published_numbers(row):
    name, index, count, size, scale, jitter, p, interpolation = row
    group = VIEWS[name]().groups[index]
    assert (group.count, group.size, group.interpolation) == (count, size, interpolation)
    assert settings(group) == {"scale": scale, "jitter": jitter, "p": p}
    assert group.blur_sigma == (0.1, 2.0)
    assert group.ratio == ((1, 1) if name in ("emp_ssl", "emp_ssl_crops") else (3 / 4, 4 / 3))


def test_the_table_above_names_every_preset_and_roles_are_set():
    of_images = {entry.name for entry in VIEWS if entry.make().of_images}
    assert of_images == {row[0] for row in PUBLISHED}
    assert [g.role for g in VIEWS["swav"]().groups] == ["global", "local"]
    assert [g.role for g in VIEWS["emp_ssl"]().groups] == ["patch"]
    assert VIEWS["emp_ssl"](200).count == 200
    assert VIEWS["swav"]().count == 8
    assert [g.size for g in VIEWS["swav"](64).groups] == [64, 32]
    assert [g.size for g in VIEWS["swav_imagenet"](96).groups] == [96, 41]
    assert all(VIEWS[name]().count == 2 for name in ("simclr", "asymmetric", "vicreg", "digits"))


def assert_close(one, other):
    assert one.weaken_jitter == other.weaken_jitter
    for a, b in zip(one.groups, other.groups, strict=True):
        for key, value in dataclasses.asdict(a).items():
            other_value = getattr(b, key)
            numeric = isinstance(value, (int, float, tuple))
            assert value == (pytest.approx(other_value, rel=0, abs=1e-12) if numeric else other_value), key


@pytest.mark.parametrize(("strong", "weak"), [("simclr", "adainf"), ("asymmetric", "asymmetric_adainf")])
def test_weak_is_adainf(strong, weak):
    assert_close(VIEWS[strong]().at_strength("weak"), VIEWS[weak]())
    assert_close(VIEWS[strong]().at_strength(0.5), VIEWS[weak]())


@pytest.mark.parametrize("name", [entry.name for entry in VIEWS if entry.make().of_images])
def test_strong_is_the_plan_itself_and_zero_distorts_nothing_but_the_flip(name):
    plan = VIEWS[name]()
    assert plan.at_strength("strong") == plan
    for group, strong in zip(plan.at_strength(0).groups, plan.groups, strict=True):
        assert group.scale == ((1.0, 1.0) if strong.scale[1] == 1 else strong.scale)
        assert (group.jitter_p, group.grey_p, group.blur_p, group.solarise_p) == (0, 0, 0, 0)
        assert group.flip == strong.flip


@given(st.floats(0, 1), st.floats(0, 1))
def test_strength_is_monotone(a, b):
    a, b = sorted((a, b))
    for name in ("simclr", "asymmetric", "swav", "emp_ssl", "digits"):
        for low, high in zip(VIEWS[name]().at_strength(a).groups, VIEWS[name]().at_strength(b).groups, strict=True):
            assert low.scale[0] >= high.scale[0] - 1e-15
            assert low.scale[0] <= low.scale[1]
            for key in ("brightness", "hue", "jitter_p", "grey_p", "blur_p", "solarise_p"):
                assert getattr(low, key) <= getattr(high, key)


def test_strength_between_and_below_the_named_points():
    quarter, three = (VIEWS["asymmetric"]().at_strength(s).groups[1] for s in (0.25, 0.75))
    assert quarter.scale[0] == pytest.approx(0.2**0.5)  # half of weak's exponent
    assert three.scale[0] == pytest.approx((0.2 * 0.08) ** 0.5)  # half way between the exponents
    assert (quarter.brightness, quarter.jitter_p) == pytest.approx((0.4, 0.2))  # half-widths stay, p goes
    assert (quarter.grey_p, quarter.solarise_p) == pytest.approx((0.1, 0.1))
    assert (three.grey_p, three.solarise_p) == (0.2, 0.2)
    assert VIEWS["simclr"]().at_strength(0.25).groups[0].hue == pytest.approx(0.05)
    assert VIEWS["swav"]().at_strength("weak").groups[1].scale == (0.05, 0.2)


@pytest.mark.parametrize(("text", "number"), [("weak", 0.5), ("strong", 1), ("0.3", 0.3), (1, 1), (0.25, 0.25)])
def test_strength_number(text, number):
    assert strength_number(text) == number


@pytest.mark.parametrize("bad", ["medium", -0.1, 1.1, float("nan"), "nan", True, None, "2"])
def test_bad_strength(bad):
    with pytest.raises(InputError, match="strong or weak"):
        VIEWS["simclr"]().at_strength(bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0}, {"count": 1.5}, {"count": True}, {"size": 0}, {"size": "32"}, {"scale": (0, 1)},
        {"scale": (0.5, 0.2)}, {"scale": (0.2, 1.1)}, {"scale": 0.2}, {"scale": (0.1, 0.2, 0.3)}, {"scale": ("a", 1)},
        {"scale": (float("nan"), 1)}, {"ratio": (2, 1)}, {"ratio": (1, float("inf"))}, {"blur_sigma": (0, 1)},
        {"flip": 1.5}, {"jitter_p": -0.1}, {"grey_p": "0.2"}, {"blur_p": float("nan")}, {"hue": 0.6},
        {"brightness": -1}, {"contrast": float("inf")}, {"interpolation": "nearest"}, {"role": "student"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_groups(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        ViewGroup(**bad)


@pytest.mark.parametrize("groups", [(), None, (1,), ViewGroup()])
def test_bad_plans(groups):
    with pytest.raises(InputError, match="at least one group, all ViewGroup"):
        ViewPlan(groups)


@pytest.mark.parametrize("name", [entry.name for entry in VIEWS])
def test_a_plan_survives_a_recipe_file(name):
    plan = VIEWS[name]()
    assert ViewPlan.from_dict(tomllib.loads(tomli_w.dumps({"views": plan.to_dict()}))["views"]) == plan


def test_recipe_forms():
    assert ViewPlan.from_dict({"groups": [{"count": 2, "scale": [1, 1]}]}) == ViewPlan(
        (ViewGroup(count=2, scale=(1.0, 1.0)),)
    )
    with pytest.raises(InputError, match="did you mean 'grey_p'"):
        ViewPlan.from_dict({"groups": [{"gray_p": 0.1}]})
    with pytest.raises(InputError, match="did you mean 'groups'"):
        ViewPlan.from_dict({"group": []})
    for bad in (3, [3], None, []):
        with pytest.raises(InputError):
            ViewPlan.from_dict({"groups": bad})
    with pytest.raises(InputError, match="weaken_jitter"):
        ViewPlan.from_dict({"groups": [{}], "weaken_jitter": 1})


def test_unknown_preset_has_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'simclr'"):
        VIEWS["simclrr"]


def test_plans_need_no_torch():
    code = "import sys, swell.views; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
