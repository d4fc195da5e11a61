"""Crop boxes against their definition, resampling against Pillow and torch."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats

from swell.views.crops import UNIFORMS, Boxes, axis_matrices, boxes_from, crop

KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def drawn(n, height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), seed=0):
    u = torch.rand(n, UNIFORMS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return boxes_from(u, height, width, scale, ratio)


def one_box(rng, height, width, scale, ratio):
    """The definition, one sample at a time."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    shape = width / height
    w, h = width, height
    if shape < ratio[0]:
        h = round(w / ratio[0])
    elif shape > ratio[1]:
        w = round(h * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def test_area_and_ratio_are_uniform_on_a_large_image():
    boxes = drawn(20_000, 2000, 2000, scale=(0.1, 0.5))  # every first try fits, rounding is negligible
    area = (boxes.height * boxes.width).double().numpy() / 2000**2
    log_ratio = (boxes.width / boxes.height).double().log().numpy()
    assert stats.kstest(area, stats.uniform(0.1, 0.4).cdf).pvalue > 0.01
    low, high = math.log(3 / 4), math.log(4 / 3)
    assert stats.kstest(log_ratio, stats.uniform(low, high - low).cdf).pvalue > 0.01
    assert abs(stats.spearmanr(area, log_ratio).statistic) < 0.03


def test_positions_are_uniform_integers():
    boxes = drawn(40_000, 32, 32, scale=(0.25, 0.25), ratio=(1, 1))
    assert set(boxes.height.tolist()) == set(boxes.width.tolist()) == {16}
    counts = np.bincount((boxes.top * 17 + boxes.left).numpy(), minlength=289)
    assert len(counts) == 289
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (20, 48), (60, 20)])
def test_boxes_have_the_distribution_of_the_definition(height, width):
    """Small and oblong images, where tries are rejected and the fallback is taken."""
    scale, ratio = (0.3, 1.0), (3 / 4, 4 / 3)
    ours = torch.stack(drawn(12_000, height, width, scale, ratio, seed=5), 1).numpy()
    rng = random.Random(7)
    theirs = np.array([one_box(rng, height, width, scale, ratio) for _ in range(12_000)])
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width
    assert ours.min() >= 0
    for column in range(4):
        top = max(ours[:, column].max(), theirs[:, column].max()) + 1
        table = np.stack([np.bincount(side[:, column], minlength=top) for side in (ours, theirs)])
        table = table[:, table.sum(0) >= 20]
        if table.shape[1] > 1:  # one column: the same constant on both sides
            assert stats.chi2_contingency(table).pvalue > 0.001


@pytest.mark.parametrize(("height", "width", "box"), [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))])
def test_fallback_is_the_central_crop_with_clamped_ratio(height, width, box):
    boxes = drawn(50, height, width, scale=(0.99, 1.0))
    assert {tuple(row) for row in torch.stack(boxes, 1).tolist()} == {box}


def test_scale_of_one_is_the_whole_image_even_if_oblong():
    boxes = drawn(50, 10, 100, scale=(1.0, 1.0))
    assert {tuple(row) for row in torch.stack(boxes, 1).tolist()} == {(0, 0, 10, 100)}


def test_extreme_uniforms_stay_inside():
    u = torch.full((1, UNIFORMS), 1 - 2**-53, dtype=torch.float64)
    boxes = boxes_from(u, 33, 33, (0.01, 0.01), (1, 1))
    assert (boxes.top + boxes.height).item() == 33
    assert drawn(100, 8, 8, scale=(1e-4, 1e-3)).height.min() >= 1


def picture(height, width, channels=3, seed=0):
    """Noise with flat black and white parts, so that the cubic overshoots."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    image[: height // 3] = 0
    image[:, width // 2 :] = np.where(image[:, width // 2 :] > 100, 255, 0)
    return image


def as_batch(*images):
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])


CASES = [  # height, width of the image; top, left, height, width of the box; size of the view
    (32, 32, (0, 0, 32, 32), (32, 32)),
    (32, 32, (5, 3, 20, 17), (32, 32)),
    (32, 32, (13, 20, 9, 12), (16, 16)),
    (32, 32, (2, 0, 30, 31), (16, 16)),
    (8, 8, (1, 2, 5, 6), (8, 8)),
    (100, 70, (11, 7, 80, 60), (24, 24)),
    (100, 70, (0, 0, 100, 70), (64, 96)),
    (40, 40, (39, 0, 1, 1), (8, 8)),
]


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_crop_equals_pillow(case, interpolation):
    height, width, (top, left, h, w), size = case
    box, window = Boxes(*(torch.tensor([value]) for value in (top, left, h, w))), (left, top, left + w, top + h)
    image = picture(height, width)
    ours = crop(as_batch(image), box, torch.tensor([False]), size, interpolation)[0].numpy() * 255
    for channel in range(3):  # in floating point, where Pillow neither rounds nor clips between its two passes
        plane = Image.fromarray(image[..., channel].astype(np.float32)).crop(window)
        theirs = np.asarray(plane.resize(size[::-1], KERNELS[interpolation])).clip(0, 255)
        assert np.abs(ours[channel] - theirs).max() <= 2e-3
    image = image // 2 + 64  # 8 bits, rounded after each pass; no overshoot to clip
    ours = crop(as_batch(image), box, torch.tensor([False]), size, interpolation)[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(Image.fromarray(image).crop(window).resize(size[::-1], KERNELS[interpolation]))
    assert np.abs(ours - theirs.astype(float)).max() <= 1.3
    assert np.abs(ours - theirs.astype(float)).mean() <= 0.4


@pytest.mark.parametrize("interpolation", KERNELS)
def test_resize_with_box_of_the_whole_image_equals_pillow(interpolation):
    image = picture(48, 32) // 2 + 64
    whole = Boxes(*(torch.tensor([value]) for value in (0, 0, 48, 32)))
    ours = crop(as_batch(image), whole, torch.tensor([False]), (20, 40), interpolation)[0].permute(1, 2, 0) * 255
    theirs = Image.fromarray(image).resize((40, 20), KERNELS[interpolation], box=(0, 0, 32, 48))
    assert np.abs(ours.numpy() - np.asarray(theirs).astype(float)).max() <= 1.3


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_crop_equals_torch_interpolate(case, interpolation, flip):
    height, width, (top, left, h, w), size = case
    batch = as_batch(picture(height, width), picture(height, width, seed=1))
    boxes = Boxes(*(torch.tensor([value, value]) for value in (top, left, h, w)))
    ours = crop(batch, boxes, torch.tensor([flip, flip]), size, interpolation)
    window = batch[..., top : top + h, left : left + w].float() / 255
    theirs = F.interpolate(window, size, mode=interpolation, antialias=True, align_corners=False).clamp(0, 1)
    torch.testing.assert_close(ours, theirs.flip(-1) if flip else theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", KERNELS)
def test_table_of_boxes_equals_matrices_made_one_by_one(interpolation):
    """32 -> 32 comes from the table, a shape beyond its limit does not; both paths crop alike."""
    n = 32
    starts, lengths = zip(*[(s, k) for k in range(1, n + 1) for s in range(n - k + 1)], strict=True)
    start, length = torch.tensor(starts), torch.tensor(lengths)
    flip = torch.arange(len(start)) % 2 == 0
    images = torch.randint(0, 256, (len(start), 1, n, n), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ours = crop(images, Boxes(start, start, length, length), flip, (n, n), interpolation)
    y = axis_matrices(start, length, torch.zeros_like(start), n, n, interpolation)
    x = axis_matrices(start, length, flip, n, n, interpolation)
    direct = (y[:, None] @ (images / 255) @ x[:, None].mT).clamp(0, 1)
    torch.testing.assert_close(ours, direct, atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", KERNELS)
def test_matrix_rows_sum_to_one_and_see_the_box_only(interpolation):
    matrix = axis_matrices(torch.tensor([7]), torch.tensor([50]), torch.tensor([0]), 90, 24, interpolation)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 24))
    assert matrix[..., :7].abs().max() == 0
    assert matrix[..., 57:].abs().max() == 0
