"""Drawing and rendering: distributions of the parameters, per-sample randomness, no leaks between samples."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats

from swell.errors import InputError
from swell.seeding import generator_for
from swell.views import VIEWS, ViewGroup, ViewPlan, colour
from swell.views.render import apply, draw, render


def images(batch=12, channels=3, height=16, width=16, seed=0):
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seeded(n=0):
    return generator_for(n, "views")


def equal(one, other):
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))


FULL = ViewGroup(count=2, solarise_p=0.3)  # every operation happens


@pytest.fixture(scope="module")
def many():
    group = ViewGroup(count=2, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1, blur_sigma=(0.3, 1.7),
                      flip=0.4, jitter_p=0.7, grey_p=0.2, blur_p=0.6, solarise_p=0.1)  # fmt: skip
    (parameters,) = draw(ViewPlan((group,)), 10_000, (3, 32, 32), seeded())
    return parameters


def test_jitter_and_sigma_are_uniform(many):
    intervals = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]  # contrast of 1.5 stops at zero
    values = [*(many.factors[..., k] for k in range(4)), many.sigma]
    for value, (low, high) in zip(values, [*intervals, (0.3, 1.7)], strict=True):
        assert stats.kstest(value.flatten().numpy(), stats.uniform(low, high - low).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("name", "p"), [("flip", 0.4), ("jitter", 0.7), ("grey", 0.2), ("blur", 0.6), ("solarise", 0.1)]
)
def test_operations_happen_with_their_probability(many, name, p):
    mask = getattr(many, name)
    assert stats.binomtest(int(mask.sum()), mask.numel(), p).pvalue > 0.01


def test_orders_are_uniform_permutations(many):
    codes = (many.order * torch.tensor([64, 16, 4, 1])).sum(-1).flatten().numpy()
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 24
    assert torch.equal(many.order.sort(-1).values, torch.arange(4).expand_as(many.order))
    assert stats.chisquare(counts).pvalue > 0.01


def test_choices_are_independent_of_each_other(many):
    columns = [
        many.flip,
        many.jitter,
        many.grey,
        many.blur,
        many.solarise,
        many.sigma,
        many.top,
        many.left,
        many.height,
    ]
    columns += [*many.factors.unbind(-1), *many.order.unbind(-1)[:2]]
    correlation = np.corrcoef(np.stack([c.double().flatten().numpy() for c in columns]))
    correlation -= np.eye(len(columns))
    dependent = {(6, 8), (7, 8), (8, 6), (8, 7), (6, 7), (7, 6)}  # a large crop has little room either way
    dependent |= {(13, 14), (14, 13)}  # two places of one permutation
    for i, j in np.ndindex(correlation.shape):
        if (i, j) not in dependent:
            assert abs(correlation[i, j]) < 0.035, (i, j)


def test_equal_images_get_different_views_and_equal_seeds_equal_ones():
    same = images(1).expand(8, -1, -1, -1).contiguous()
    plan = VIEWS["simclr"]()
    (views,) = render(plan, same, seeded())
    assert len({view.numpy().tobytes() for view in views}) == 16
    assert torch.equal(views, render(plan, same, seeded())[0])
    assert not torch.equal(views, render(plan, same, seeded(1))[0])


def test_a_view_does_not_depend_on_what_follows():
    first = ViewGroup(count=1)
    alone = draw(ViewPlan((first,)), 5, (3, 16, 16), seeded())
    more = draw(ViewPlan((first, FULL)), 5, (3, 16, 16), seeded())
    wider = draw(ViewPlan((dataclasses.replace(first, count=3),)), 5, (3, 16, 16), seeded())
    assert equal(alone[0], more[0])
    for field in dataclasses.fields(alone[0]):
        assert torch.equal(getattr(alone[0], field.name)[0], getattr(wider[0], field.name)[0])
    no_colour = draw(ViewPlan((dataclasses.replace(first, jitter_p=0, blur_p=0),)), 5, (3, 16, 16), seeded())
    assert torch.equal(alone[0].left, no_colour[0].left)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (3, 20, 13), (5, 12, 12)])
def test_layout(shape, fused):
    plan = ViewPlan((FULL, dataclasses.replace(FULL, count=3, size=10, role="local")))
    views = render(plan, images(4, *shape), seeded(), fused=fused)
    assert [v.shape for v in views] == [(8, *shape), (12, shape[0], 10, 10)]
    for v in views:
        assert v.dtype == torch.float32
        assert v.is_contiguous()
        assert v.min() >= 0
        assert v.max() <= 1


def test_rows_are_view_major():
    """Constant images keep their value through crops, so a row tells whose view it is."""
    levels = torch.arange(0, 250, 50, dtype=torch.uint8)
    plan = ViewPlan((ViewGroup(count=3, jitter_p=0, grey_p=0, blur_p=0),))
    (views,) = render(plan, levels.view(5, 1, 1, 1).expand(5, 3, 9, 9), seeded())
    wanted = (levels / 255).repeat(3).view(15, 1, 1, 1).expand_as(views)
    torch.testing.assert_close(views, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_samples_do_not_leak_into_each_other(fused):
    batch = images(12)
    plan = ViewPlan((FULL, dataclasses.replace(FULL, count=1, size=10)))
    parameters = draw(plan, 12, (3, 16, 16), seeded())
    whole = apply(plan, batch, parameters, fused=fused)
    index = torch.tensor([7, 2, 11, 3, 4])
    part = apply(plan, batch[index], tuple(p.samples(index) for p in parameters), fused=fused)
    for a, b, group in zip(whole, part, plan.groups, strict=True):
        wanted = a.unflatten(0, (group.count, 12))[:, index]
        torch.testing.assert_close(b.unflatten(0, (group.count, 5)), wanted, atol=2e-6, rtol=0)


def test_chunks_do_not_show(monkeypatch):
    plan = ViewPlan((FULL,))
    (whole,) = render(plan, images(), seeded())
    monkeypatch.setitem(__import__("swell.views.render", fromlist=["_CHUNK"])._CHUNK, "cpu", 5 * 3 * 16 * 16)
    (parts,) = render(plan, images(), seeded())
    torch.testing.assert_close(parts, whole, atol=2e-6, rtol=0)


def by_pillow(image, p, view, sample, group):
    """One view made with Pillow alone."""

    def at(name):
        return getattr(p, name)[view, sample].item()

    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    window = (at("left"), at("top"), at("left") + at("width"), at("top") + at("height"))
    kernel = Image.Resampling.BICUBIC if group.interpolation == "bicubic" else Image.Resampling.BILINEAR
    picture = picture.crop(window).resize((16, 16), kernel)
    if at("jitter"):
        factors = p.factors[view, sample].tolist()
        for k in p.order[view, sample].tolist():
            if k == 3:
                h, s, v = picture.convert("HSV").split()
                h = (np.asarray(h).astype(int) + round(factors[3] * 255)).astype(np.uint8)
                picture = Image.merge("HSV", (Image.fromarray(h), s, v)).convert("RGB")
            else:
                enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[k]
                picture = enhance(picture).enhance(factors[k])
    if at("grey"):
        picture = ImageOps.grayscale(picture).convert("RGB")
    if at("blur"):
        picture = picture.filter(ImageFilter.GaussianBlur(at("sigma")))
    if at("solarise"):
        picture = ImageOps.solarize(picture)
    return ImageOps.mirror(picture) if at("flip") else picture


def test_the_whole_pipeline_is_near_pillows():
    """Same parameters, 8-bit steps there, floats here: the means agree to a few levels, a wrong order would
    not.
    """
    group = dataclasses.replace(FULL, count=1, interpolation="bilinear", solarise_p=0.1)
    plan = ViewPlan((group,))
    smooth = torch.nn.functional.interpolate(images(64, height=4, width=4).float(), 16, mode="bilinear").byte()
    (p,) = draw(plan, 64, (3, 16, 16), seeded(3))
    (views,) = apply(plan, smooth, (p,))
    differences = []
    for n in range(64):
        theirs = np.asarray(by_pillow(smooth[n], p, 0, n, group)).astype(float)
        differences.append(np.abs(views[n].permute(1, 2, 0).numpy() * 255 - theirs).mean())
    assert np.median(differences) < 1.5
    assert np.quantile(differences, 0.9) < 4


def test_jitter_follows_each_samples_own_order():
    group = ViewGroup(scale=(1, 1), flip=0, grey_p=0, blur_p=0, jitter_p=0.6)
    batch = images(40)
    (p,) = draw(ViewPlan((group,)), 40, (3, 16, 16), seeded())
    (views,) = apply(ViewPlan((group,)), batch, (p,))
    for n in range(40):
        wanted = batch[n : n + 1] / 255
        for k in p.order[0, n].tolist() if p.jitter[0, n] else ():
            wanted = colour.JITTER[k](wanted, p.factors[0, n, k : k + 1])
        torch.testing.assert_close(views[n : n + 1], wanted, atol=1e-5, rtol=0)


def test_zero_strength_shows_the_image_itself():
    plan = dataclasses.replace(VIEWS["simclr"](), groups=(ViewGroup(flip=0.0, solarise_p=0.5),)).at_strength(0)
    for shape in ((3, 16, 16), (3, 11, 40)):
        batch = images(6, *shape)
        torch.testing.assert_close(render(plan, batch, seeded())[0], batch / 255, atol=1e-6, rtol=0)


def test_fused_is_near_faithful_for_weak_views():
    (faithful,) = render(VIEWS["adainf"](), images(200), seeded())
    (fused,) = render(VIEWS["adainf"](), images(200), seeded(), fused=True)
    difference = (faithful - fused).abs().mean((1, 2, 3))
    assert difference.median() < 1e-5  # 60 % are not jittered at all
    assert difference.mean() < 0.03


def test_digits_views_stay_grey_and_unmirrored():
    (p,) = draw(VIEWS["digits"](), 500, (1, 8, 8), seeded())
    assert not (p.flip | p.jitter | p.grey | p.blur | p.solarise).any()
    assert (p.height * p.width).min() >= 0.3 * 64  # 0.4 before the sides are rounded


def test_autocast_does_not_touch_views():
    (plain,) = render(ViewPlan((FULL,)), images(), seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = render(ViewPlan((FULL,)), images(), seeded())
        (fused,) = render(ViewPlan((FULL,)), images(), seeded(), fused=True)
    assert torch.equal(plain, cast)
    assert fused.dtype == torch.float32


def test_large_images_and_views():
    batch = images(2, 3, 150, 180)
    (views,) = render(ViewPlan((dataclasses.replace(FULL, size=128, blur_p=1.0),)), batch, seeded())
    assert views.shape == (4, 3, 128, 128)
    assert torch.isfinite(views).all()


@pytest.mark.parametrize(
    "bad", [torch.rand(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)]
)
def test_bad_images(bad):
    with pytest.raises(InputError, match="uint8 batch"):
        render(VIEWS["simclr"](), bad, seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fused", [False, True])
def test_gpu_makes_the_same_views_without_waiting(fused):
    plan = ViewPlan((FULL, dataclasses.replace(FULL, size=10)))
    batch = images(64)
    on_gpu = batch.cuda()
    render(plan, on_gpu, seeded(), fused=fused)  # the tables of boxes are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = render(plan, on_gpu, seeded(), fused=fused)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, cpu in zip(views, render(plan, batch, seeded(), fused=fused), strict=True):
        torch.testing.assert_close(ours.cpu(), cpu, atol=1e-4, rtol=0)
