"""Colour operations against Pillow, colorsys and scipy."""

import colorsys
import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage

from swell.views import colour


@pytest.fixture(scope="module")
def pictures():
    """uint8 [6, 24, 20, 3]: noise, smooth, green, black, white, one grey."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 24, 20, 3), dtype=np.uint8)
    images[1] = np.linspace(0, 255, 24 * 20 * 3).reshape(24, 20, 3).astype(np.uint8)
    images[2] //= 4
    images[2, ..., 1] += 150  # far from grey on average
    images[3], images[4], images[5] = 0, 255, 90
    return images


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def levels(x):
    """[N, C, H, W] in [0, 1] -> [N, H, W, C] on Pillow's scale."""
    return x.permute(0, 2, 3, 1).numpy() * 255.0


def pillow(images, operation):
    return np.stack([np.asarray(operation(Image.fromarray(i), n)) for n, i in enumerate(images)]).astype(float)


FACTORS = torch.tensor([0.0, 0.3, 1.0, 1.5, 1.8, 0.7])


@pytest.mark.parametrize(
    ("operation", "enhance", "tolerance"),
    [  # Pillow truncates to whole levels, and rounds the contrast's mean and the saturation's grey first
        (colour.brightness, ImageEnhance.Brightness, 1.01),
        (colour.contrast, ImageEnhance.Contrast, 1.6),
        (colour.saturation, ImageEnhance.Color, 1.6),
    ],
)
def test_enhancements_equal_pillow(pictures, operation, enhance, tolerance):
    for shift in range(3):  # other factors for each picture, every time
        factors = FACTORS.roll(shift)
        ours = levels(operation(tensor(pictures), factors))
        theirs = pillow(pictures, lambda image, n, f=factors: enhance(image).enhance(f[n].item()))
        assert np.abs(ours - theirs).max() <= tolerance


def test_hue_equals_colorsys(pictures):
    turns = torch.tensor([0.2, -0.5, 0.5, 0.1, -0.2, 0.33])
    ours = colour.hue(tensor(pictures), turns).permute(0, 2, 3, 1).double().numpy()
    for n in range(len(pictures)):
        pixels = pictures[n].reshape(-1, 3) / 255
        for (r, g, b), mine in zip(pixels, ours[n].reshape(-1, 3), strict=True):
            h, s, v = colorsys.rgb_to_hsv(r, g, b)
            assert np.abs(mine - colorsys.hsv_to_rgb((h + turns[n].item()) % 1, s, v)).max() < 2e-6


def test_hue_equals_pillow_to_8_bit_hsv(pictures):
    steps = np.array([0, 31, -40, 100, 127, -128])

    def shifted(image, n):
        h, s, v = image.convert("HSV").split()
        h = Image.fromarray((np.asarray(h).astype(int) + steps[n]).astype(np.uint8))
        return Image.merge("HSV", (h, s, v)).convert("RGB")

    ours = levels(colour.hue(tensor(pictures), torch.from_numpy(steps / 255).float()))
    difference = np.abs(ours - pillow(pictures, shifted))
    assert difference.max() <= 10  # 8-bit hue: 255 steps for 6 x 255 colours of full saturation
    assert difference.mean() <= 1.5


def test_primaries_turn_into_each_other():
    primaries = torch.eye(3).view(3, 3, 1, 1)
    for third in (1, 2, -1):
        turned = colour.hue(primaries, torch.full((3,), third / 3))
        torch.testing.assert_close(turned, primaries.roll(third, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(colour.hue(primaries, torch.zeros(3)), primaries)


def test_grey_and_solarise_equal_pillow(pictures):
    grey = pillow(pictures, lambda image, _: ImageOps.grayscale(image).convert("RGB"))
    assert np.abs(levels(colour.grey(tensor(pictures))) - grey).max() <= 0.51
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    for images in (pictures, ramp):
        solarised = pillow(images, lambda image, _: ImageOps.solarize(image, 128))
        assert np.abs(levels(colour.solarise(tensor(images))) - solarised).max() <= 1e-3


SIGMAS = torch.tensor([0.1, 0.5, 0.87, 1.3, 1.99, 2.0])


@pytest.mark.parametrize("shape", [(24, 20), (8, 8), (130, 150), (1, 5)])
def test_blur_equals_scipy(shape):
    x = torch.rand(6, 2, *shape, generator=torch.Generator().manual_seed(0))
    ours = colour.blur(x, SIGMAS, 2.0).double().numpy()
    for n, sigma in enumerate(SIGMAS.tolist()):
        exact = ndimage.gaussian_filter(x[n].double().numpy(), (0, sigma, sigma), mode="nearest", truncate=4.0)
        assert np.abs(ours[n] - exact).max() < 1e-6


def test_blur_is_near_pillow(pictures):
    """Pillow's three box filters are no exact Gaussian, and it rounds after each of them."""
    ours = levels(colour.blur(tensor(pictures), SIGMAS, 2.0))
    theirs = pillow(pictures, lambda image, n: image.filter(ImageFilter.GaussianBlur(SIGMAS[n].item())))
    assert np.abs(ours - theirs).max() <= 12
    assert np.abs(ours - theirs).mean() <= 1.5


def test_a_sigma_near_the_next_reach_does_not_change_with_the_bound():
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    wide, narrow = (colour.blur(x, torch.tensor([1.0]), bound) for bound in (5.0, 1.0))
    torch.testing.assert_close(wide, narrow, atol=1e-6, rtol=0)


def in_order(x, factors, order):
    """The faithful operations, one sample after the other."""
    out = []
    for image, f, places in zip(x, factors, order.tolist(), strict=True):
        image = image[None]
        for k in places:
            image = colour.JITTER[k](image, f[k : k + 1])
        out.append(image)
    return torch.cat(out)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_linear_equals_faithful_where_nothing_is_clamped(channels):
    """Brightness, contrast and saturation in all 24 orders (hue is left at zero turns)."""
    order = torch.tensor(list(itertools.permutations(range(4))))
    generator = torch.Generator().manual_seed(0)
    x = 0.45 + 0.1 * torch.rand(24, channels, 9, 7, generator=generator)
    factors = 0.8 + 0.4 * torch.rand(24, 4, generator=generator)
    factors[:, 3] = 0
    on, off = torch.ones(24), torch.zeros(24)
    ours = colour.linear_colour(x, factors, order, on, off)
    torch.testing.assert_close(ours, in_order(x, factors, order), atol=2e-6, rtol=0)
    greyed = colour.linear_colour(x, factors, order, on, on)
    torch.testing.assert_close(greyed, colour.grey(in_order(x, factors, order)), atol=2e-6, rtol=0)
    torch.testing.assert_close(colour.linear_colour(x, factors, order, off, off), x, atol=1e-6, rtol=0)


def test_linear_hue_keeps_luma_and_turns_the_same_way():
    x = 0.4 + 0.2 * torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    factors = torch.ones(50, 4)
    factors[:, 3] = torch.linspace(-0.2, 0.2, 50)
    ones = torch.ones(50)
    turned = colour.linear_colour(x, factors, torch.arange(4).expand(50, 4), ones, 0 * ones)
    torch.testing.assert_close(colour.luma(turned), colour.luma(x), atol=2e-4, rtol=0)
    faithful = colour.hue(x, factors[:, 3])
    moved, wanted = (turned - x).flatten(1), (faithful - x).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(moved, wanted)[factors[:, 3].abs() > 0.05]
    assert cosine.min() > 0.5  # the opposite turn would be negative


def test_clamped_after_every_operation(pictures):
    x = tensor(pictures)
    for operation in (colour.brightness, colour.contrast, colour.saturation, colour.hue):
        for factor in (0.0, 0.5, 3.0):
            out = operation(x, torch.full((6,), factor))
            assert out.min() >= 0
            assert out.max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channel_counts_have_no_colour(channels):
    x = torch.rand(3, channels, 6, 5, generator=torch.Generator().manual_seed(0))
    factor = torch.tensor([0.3, 1.2, 1.7])
    for operation in (colour.saturation, colour.hue):
        assert torch.equal(operation(x, factor), x)
    assert torch.equal(colour.grey(x), x)
    f, mean = factor.view(3, 1, 1, 1), x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(colour.contrast(x, factor), (f * x + (1 - f) * mean).clamp(0, 1))
    torch.testing.assert_close(colour.brightness(x, factor), (f * x).clamp(0, 1))


def test_operations_leave_their_input_alone():
    x = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    half = torch.full((4,), 0.5)
    for operation in colour.JITTER:
        operation(x, half)
    colour.grey(x)
    colour.solarise(x)
    colour.blur(x, half, 2.0)
    assert torch.equal(x, before)
    one = torch.rand(4, 1, 6, 5)
    before = one.clone()
    colour.contrast(one, half)
    assert torch.equal(one, before)
