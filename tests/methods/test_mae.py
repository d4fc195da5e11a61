"""MAE: its error against float64 loops and by hand, what the loss may see, pictures, refusals."""

import numpy as np
import pytest
import torch

from swell.errors import InputError
from swell.methods.mae import MAE, masked_error, mean_over_images, normalised
from swell.methods.masked_pictures import reconstruct, unpatchify
from swell.methods.mixed_ae import MixedAE
from swell.methods.registry import Views
from swell.methods.token_plans import Kept
from swell.nets.encoder import Encoder, EncoderConfig
from swell.nets.vit import patchify

CPU = torch.device("cpu")
SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def encoder(pool="class"):
    torch.manual_seed(0)
    options = {"patch": 4, "depth": 1, "pool": pool}
    return Encoder(EncoderConfig("vit_tiny", 1 / 6, (3, 16, 16), (0.5,) * 3, (0.25,) * 3, options))


def one(x, count=1):
    return Views((x,), ("global",), len(x) // count)


def test_the_error_is_the_mean_over_hidden_patches_of_their_pixels_error():
    rng = np.random.default_rng(0)
    predicted, pixels = rng.normal(size=(2, 3, 5, 12))
    hidden = rng.random((3, 5)) < 0.6
    found, expected = [], []
    for b, patch in zip(*np.nonzero(hidden), strict=True):
        x = pixels[b, patch]
        variance = sum((v - x.mean()) ** 2 for v in x) / (len(x) - 1)
        target = (x - x.mean()) / (variance + 1e-6) ** 0.5
        expected.append(np.mean((predicted[b, patch] - target) ** 2))
        found.append(np.mean((predicted[b, patch] - x) ** 2))
    predicted, pixels, hidden = map(torch.from_numpy, (predicted, pixels, hidden))
    assert masked_error(predicted, normalised(pixels), hidden).item() == pytest.approx(np.mean(expected), rel=1e-12)
    assert masked_error(predicted, pixels, hidden).item() == pytest.approx(np.mean(found), rel=1e-12)


def test_a_case_worked_by_hand():
    # Patch 0 is hidden: errors 1, 9 -> 5. Patch 1 is shown: what is predicted there does not count.
    predicted, target = torch.tensor([[[0.0, 0.0], [9.0, 9.0]]]), torch.tensor([[[1.0, -3.0], [0.0, 0.0]]])
    assert masked_error(predicted, target, torch.tensor([[True, False]])).item() == 5
    assert normalised(torch.tensor([[3.0, 5.0]]))[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-6)
    assert normalised(torch.full((1, 4), 0.7)).abs().max() < 1e-3  # an even patch has no contrast to normalise


def test_contrast_and_brightness_of_a_patch_do_not_matter_when_normalised():
    x = torch.rand(2, 4, 12)
    torch.testing.assert_close(normalised(0.5 * x + 0.2), normalised(x), rtol=1e-3, atol=1e-3)


def test_the_encoder_never_sees_what_is_hidden():
    """The encoded tokens stay when hidden pixels change; the loss does not."""
    method, net = MAE(**SMALL), encoder()
    parts = method.parts(net)
    x = torch.rand(4, 3, 16, 16)
    torch.manual_seed(5)
    plan = Kept.draw(4, 16, 0.75, CPU)
    hidden = unpatchify(plan.hidden.float().unsqueeze(-1).expand(-1, -1, 48), (4, 4), 4)
    other = torch.where(hidden > 0, torch.rand_like(x), x)
    assert torch.equal(net(x, plan), net(other, plan))
    losses = []
    for images in (x, other):
        torch.manual_seed(5)
        losses.append(method.loss(net, parts, one(images), 0.5).loss.item())
    assert losses[0] != losses[1]


def test_perfect_pixels_cost_nothing_and_the_mean_costs_the_variance():
    pixels = torch.rand(2, 16, 48)
    hidden = torch.rand(2, 16) < 0.5
    assert masked_error(normalised(pixels), normalised(pixels), hidden) == 0
    grey = masked_error(torch.zeros_like(pixels), normalised(pixels), hidden)
    assert grey.item() == pytest.approx(47 / 48, rel=1e-3)  # var is over 47, the mean over 48


def test_views_are_samples_of_their_own_and_groups_count_by_their_images():
    method, net = MAE(**SMALL), encoder()
    parts = method.parts(net)
    big, small = torch.rand(6, 3, 16, 16), torch.rand(12, 3, 8, 8)
    torch.manual_seed(1)
    a = method.loss(net, parts, one(big), 0.5)
    b = method.loss(net, parts, one(small), 0.5)
    torch.manual_seed(1)
    both = method.loss(net, parts, Views((big, small), ("global", "local"), 6), 0.5)
    assert both.loss.item() == pytest.approx((a.loss.item() + 2 * b.loss.item()) / 3, rel=1e-5)
    assert mean_over_images([torch.tensor(3.0)], one(big)).item() == 3


@pytest.mark.parametrize("normalise", [True, False])
def test_a_picture_shows_the_image_where_it_was_seen(normalise):
    method, net = MAE(**SMALL, normalise=normalise), encoder()
    decoder = method.parts(net)["decoder"]
    x = torch.rand(3, 3, 16, 16)
    plan = Kept.draw(3, 16, 0.5, CPU)
    picture = reconstruct(net, decoder, x, plan, normalise)
    assert picture.shape == x.shape
    same = (patchify(picture, 4) - patchify(x, 4)).abs().amax(-1) < 1e-6
    assert torch.equal(same, ~plan.hidden)
    assert 0 <= picture.min() <= picture.max() <= 1


@pytest.mark.parametrize(("h", "w", "patch", "channels"), [(2, 3, 4, 3), (1, 1, 2, 1), (5, 2, 1, 3)])
def test_patches_become_the_image_again(h, w, patch, channels):
    x = torch.rand(2, channels, h * patch, w * patch)
    assert torch.equal(unpatchify(patchify(x, patch), (h, w), patch), x)


def test_the_mask_is_a_share_that_leaves_something_on_both_sides():
    for mask in (0.0, 1.0, -0.5):
        with pytest.raises(InputError, match="mask"):
            MAE(mask=mask)
    method, net = MAE(mask=0.99, **SMALL), encoder()
    with pytest.raises(InputError, match="some kept"):
        method.loss(net, method.parts(net), one(torch.rand(2, 3, 16, 16)), 0.5)


def test_mean_pooling_has_no_class_token_and_learns_too():
    method, net = MAE(**SMALL), encoder("mean")
    outcome = method.loss(net, method.parts(net), one(torch.rand(4, 3, 16, 16)), 0.5)
    outcome.loss.backward()
    assert all(p.grad is not None for p in net.parameters())
    assert outcome.scalars.keys() == {"z_std", "reconstruction"}


@pytest.mark.parametrize("method", [MAE, MixedAE])
def test_single_numbers_are_not_normalised(method):
    grey = Encoder(EncoderConfig("vit_tiny", 1 / 6, (1, 4, 4), (0.5,), (0.25,), {"patch": 1, "depth": 1}))
    with pytest.raises(InputError, match="normalised patches of one number"):
        method(**SMALL).parts(grey)
    assert method(normalise=False, **SMALL).parts(grey)["decoder"].head.out_features == 1
