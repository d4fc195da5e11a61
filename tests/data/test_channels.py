"""Red and blue the wrong way round are found; nothing else is taken for it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.data.channels import check_channel_order
from swell.data.open import open_data
from swell.errors import InputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def refused(generated, real):
    try:
        check_channel_order(generated, real)
    except InputError:
        return True
    return False


def swapped(images):
    return images[:, ::-1]


def landscapes(count, seed):
    """uint8 [N, 3, 8, 8]: a blue sky of varying height and brightness over brown earth, noisy."""
    rng = np.random.default_rng(seed)
    horizon = rng.integers(1, 7, (count, 1, 1, 1))
    above = np.arange(8)[:, None] < horizon  # [N, 1, 8, 1]
    sky, earth = np.array([[110, 150, 200]]), np.array([[120, 90, 60]])
    colours = np.where(above, sky[..., None, None], earth[..., None, None])  # [N, 3, 8, 1]
    bright = rng.uniform(0.5, 1.2, (count, 1, 1, 1))
    return np.clip(colours * bright + rng.normal(0, 15, (count, 3, 8, 8)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cifar():
    """The first 12,500 training images uint8 [N, 3, 32, 32] and their labels."""
    if not (SHARED / "cifar10_train_a.npz").exists():
        pytest.skip("CIFAR-10 is not on this machine")
    spec = importlib.util.spec_from_file_location("load_packed", SHARED / "load_packed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels, _ = module.load_packed(SHARED / "cifar10_train_a.npz")
    return images[:12_500].transpose(0, 3, 1, 2), labels[:12_500]


def bad_generators(images):
    """Ways to be bad that are not the wrong order of channels, of uint8 [N, 3, H, W]."""
    f = images.astype(np.float32)
    grey = f.mean(1, keepdims=True)
    cast = np.array([1, 0, -1])[:, None, None]
    n, c, h, w = f.shape
    ways = {
        "grey": np.repeat(grey, 3, 1),
        "pale": grey + (f - grey) * 0.3,
        "garish": grey + (f - grey) * 2,
        "dark": f * 0.6,
        "flat": 128 + (f - 128) * 0.5,
        "negative": 255 - f,
        "upside down": f[:, :, ::-1],
        "noise": f + np.random.default_rng(0).normal(0, 40, f.shape),
        "blurred": f.reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5)).repeat(4, 2).repeat(4, 3),
        "red and green exchanged": f[:, [1, 0, 2]],
        "green and blue exchanged": f[:, [0, 2, 1]],
        "nothing but noise": np.random.default_rng(1).integers(0, 256, f.shape),
    }
    ways |= {f"cast of {shift}": f + shift * cast for shift in (-40, -20, -15, -10, -5, 10, 20)}
    return {name: np.clip(made, 0, 255).astype(np.uint8) for name, made in ways.items()}


@pytest.mark.parametrize("count", [200, 1000, 5000])
def test_swapped_cifar_is_refused_with_the_advice(cifar, count):
    images, _ = cifar
    real, made = images[:count], images[5000 : 5000 + count]
    check_channel_order(made, real)
    with pytest.raises(InputError, match=r"red and blue exchanged.*--channel-order bgr"):
        check_channel_order(swapped(made), real)
    check_channel_order(swapped(made), swapped(real))


def test_a_merely_bad_generator_is_not_refused(cifar):
    images, _ = cifar
    bad = bad_generators(images[5000:6000])
    assert [name for name, made in bad.items() if refused(made, images[:1000])] == []


def test_a_generator_of_one_kind_of_image_is_not_refused(cifar):
    """Aeroplanes and ships are bluer than the rest by as much as the whole set is redder than its mirror."""
    images, labels = cifar
    kinds = [images[labels == k] for k in range(10)]
    assert [k for k, made in enumerate(kinds) if refused(made, images[:1000])] == []


def test_an_imperfect_generator_is_refused_too_when_it_is_swapped(cifar):
    images, _ = cifar
    bad = bad_generators(images[5000:6000])
    for name in ("dark", "noise", "blurred"):
        assert refused(swapped(bad[name]), images[:2000]), name


def test_repeated_images_are_no_further_evidence(cifar):
    images, _ = cifar
    assert refused(swapped(images[:200]), images[200:1200])
    assert not refused(np.repeat(swapped(images[:20]), 10, axis=0), images[200:1200])


def test_synthetic_landscapes():
    real, made = landscapes(400, 0), landscapes(600, 1)
    check_channel_order(made, real)
    assert refused(swapped(made), real)
    assert not refused(swapped(made[:20]), real[:20])  # too few to be sure


def test_grey_images_in_colour_files_have_no_order():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 255, (500, 1, 8, 8), dtype=np.uint8), 3, axis=1)
    assert not refused(swapped(grey), grey)
    tinted = grey.copy()
    tinted[:, 2] += 1  # as a decoder's rounding may do
    assert not refused(swapped(tinted), tinted)
    assert not refused(grey, landscapes(400, 0))


def test_noise_has_no_order():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2000, 3, 8, 8), dtype=np.uint8)
    assert not refused(swapped(noise[:1000]), noise[1000:])


def test_sets_without_three_channels_pass():
    digits = open_data("builtin:digits").samples
    assert not refused(digits, digits)
    assert not refused(digits.reshape(len(digits), -1).astype(np.float32), digits)
    colour = np.repeat(digits, 3, axis=1)
    assert not refused(swapped(colour), colour)


def test_constant_images_and_images_of_one_pixel():
    black = np.zeros((50, 3, 1, 1), np.uint8)
    red = black + np.array([200, 0, 0], np.uint8)[:, None, None]
    assert not refused(black, black)
    assert not refused(swapped(red), red)  # fifty times the same image
    assert not refused(black, red)


@given(seed=st.integers(0, 2**31), tint=st.floats(-60, 60), spread=st.floats(0, 60), kinds=st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_a_set_agrees_with_its_halves(seed, tint, spread, kinds):
    """Whatever the colours: random halves of a set of `kinds` sorts of images, each with a tint of its own."""
    rng = np.random.default_rng(seed)
    tints = rng.normal(tint, spread, kinds)[rng.integers(0, kinds, 300)]
    colour = tints[:, None] * np.array([1, 0, -1]) + rng.normal(0, 20, (300, 3))
    images = np.clip(128 + colour[:, :, None, None] + rng.normal(0, 20, (300, 3, 4, 4)), 0, 255).astype(np.uint8)
    order = rng.permutation(300)
    one, other = images[order[:150]], images[order[150:]]
    assert not refused(one, images)
    assert not refused(other, images)
    assert not refused(one, other)
