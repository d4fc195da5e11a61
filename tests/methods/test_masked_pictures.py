from __future__ import annotations

import numpy as np
import pytest
import torch

from swell.gallery import as_pixels
from swell.methods.mae import MAE
from swell.methods.masked_pictures import GREY, masked_gallery, recovered
from swell.methods.mixed_ae import MixedAE
from swell.methods.registry import Method
from swell.methods.simclr import SimCLR
from swell.methods.token_plans import Kept
from swell.nets.encoder import Encoder, EncoderConfig


@pytest.fixture
def net():
    torch.manual_seed(0)
    config = EncoderConfig("vit_tiny", 0.17, (3, 16, 16), (0.5,) * 3, (0.25,) * 3, {"patch": 4, "depth": 1})
    return Encoder(config).eval()


def made(method, net):
    return method.parts(net).eval()


def samples(n):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))


def shown(gallery, heading):
    """What stands under a heading, by row."""
    return [[p for strip in row if strip.heading == heading for p in strip.pictures] for row in gallery.rows]


def patches(image):
    """[3, 16, 16] -> [16, 3, 4, 4] by hand."""
    return np.stack([image[:, y : y + 4, x : x + 4] for y in range(0, 16, 4) for x in range(0, 16, 4)])


def test_recovered_by_a_loop():
    g = torch.Generator().manual_seed(0)
    z, owner = torch.randn(3, 8, 5, generator=g, dtype=torch.float64), torch.tensor([[0, 1] * 4] * 3)
    found = recovered(z, owner, 2)
    for n in range(3):
        for i in range(8):
            means = []
            for image in range(2):
                others = [j for j in range(8) if j != i and owner[n, j] == image]
                means.append(np.mean([torch.cosine_similarity(z[n, i], z[n, j], 0).item() for j in others]))
            assert found[n, i] == int(np.argmax(means))


def test_tokens_that_tell_their_image_are_all_recovered_and_noise_is_not():
    owner = torch.rand(16, 64, generator=torch.Generator().manual_seed(1)).argsort(1) % 4
    assert torch.equal(recovered(torch.eye(4)[owner], owner, 4), owner)
    noise = torch.randn(16, 64, 32, generator=torch.Generator().manual_seed(2))
    assert (recovered(noise, owner, 4) == owner).float().mean().item() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("normalise", [True, False])
def test_what_the_encoder_saw_is_kept_and_the_rest_is_grey_then_rebuilt(net, normalise):
    method, x = MAE(normalise=normalise, decoder_width=16, decoder_depth=1, decoder_heads=1), samples(3)
    torch.manual_seed(5)
    plan = Kept.draw(3, 16, 0.75, x.device)
    with torch.no_grad():
        gallery = masked_gallery(net, made(method, net)["decoder"], x, plan, normalise)
    assert "saw 4;" in gallery.note
    assert ("brightness" in gallery.details) is normalise
    for i, (true, seen, rebuilt) in enumerate(
        zip(*(shown(gallery, h) for h in ("input", "seen", "rebuilt")), strict=False)
    ):
        np.testing.assert_array_equal(true[0].pixels, as_pixels(x[i]))
        for k in range(16):
            cells = [patches(p[0].pixels)[k] for p in (true, seen, rebuilt)]
            if plan.hidden[i, k]:
                assert (cells[1] == round(255 * GREY)).all()
                assert (cells[2] != cells[0]).any()
            else:
                assert (cells[1] == cells[0]).all()
                assert (cells[2] == cells[0]).all()


def test_mixed_pictures_are_made_of_their_members_as_the_true_map_says(net):
    method, x = MixedAE(decoder_width=16, decoder_depth=1, decoder_heads=1), samples(10)
    torch.manual_seed(3)
    with torch.no_grad():
        (gallery,) = method.pictures(net, made(method, net), x)
    assert len(gallery.rows) == 2  # ten samples are two groups of four
    assert gallery.classes == ["image 1", "image 2", "image 3", "image 4"]
    headings = ("inputs", "mixed", "true", "recovered", "rebuilt")
    for inputs, mixed, true, guess, rebuilt in zip(*(shown(gallery, h) for h in headings), strict=False):
        owner = true[0].pixels.ravel()
        assert np.bincount(owner).tolist() == [4, 4, 4, 4]
        assert guess[0].about == f"{100 * (guess[0].pixels.ravel() == owner).mean():.0f} % right"
        assert [p.key for p in inputs] == [p.key for p in rebuilt] == [0, 1, 2, 3]
        for k, image in enumerate(owner):
            assert (patches(mixed[0].pixels)[k] == patches(inputs[image].pixels)[k]).all()
            assert (patches(rebuilt[image].pixels)[k] == patches(inputs[image].pixels)[k]).all()


def test_segments_are_told_of_and_left_out_for_a_second_count(net):
    for segments in (True, False):
        method = MixedAE(segments=segments, decoder_width=16, decoder_depth=1, decoder_heads=1)
        with torch.no_grad():
            (gallery,) = method.pictures(net, made(method, net), samples(8))
        assert ("Without it" in gallery.details) is segments
        assert "guessing gets 25 %" in gallery.note


def test_too_few_samples_and_other_methods_show_nothing(net):
    method = MixedAE(decoder_width=16, decoder_depth=1, decoder_heads=1)
    assert method.pictures(net, made(method, net), samples(3)) == ()
    assert SimCLR.pictures is Method.pictures
    assert SimCLR().pictures(net, torch.nn.ModuleDict(), samples(3)) == ()
