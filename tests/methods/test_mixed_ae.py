"""MixedAE: its contrast against float64 loops, recall by construction, who attends to whom, naive mixing, refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.methods.mae import MAE
from swell.methods.mixed_ae import MixedAE, attended_recall, homologous_contrast, similar_recall
from swell.methods.registry import Views
from swell.methods.token_plans import Mixed
from swell.nets.encoder import Encoder, EncoderConfig

CPU = torch.device("cpu")
SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
NAIVE = {"homologous": False, "contrast": 0.0, "segments": False}


def encoder(pool="class"):
    torch.manual_seed(0)
    options = {"patch": 4, "depth": 2, "pool": pool}
    return Encoder(EncoderConfig("vit_tiny", 1 / 6, (3, 16, 16), (0.5,) * 3, (0.25,) * 3, options))


def one(x):
    return Views((x,), ("global",), len(x))


def by_loops(z, owner, tau):
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    losses = []
    for tokens, owners in zip(z, owner, strict=True):
        for i, of in enumerate(owners):
            others = [a for a in range(len(tokens)) if a != i]
            below = sum(math.exp(tokens[i] @ tokens[a] / tau) for a in others)
            positives = [a for a in others if owners[a] == of]
            terms = [math.log(math.exp(tokens[i] @ tokens[p] / tau) / below) for p in positives]
            losses.append(-sum(terms) / len(positives))
    return np.mean(losses)


@settings(max_examples=25, deadline=None)
@given(group=st.integers(2, 4), each=st.integers(2, 4), tau=st.floats(0.05, 2.0), seed=st.integers(0, 99))
def test_the_contrast_is_the_papers_sum(group, each, tau, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, group * each, 5))
    owner = np.stack([rng.permutation(np.arange(group * each) % group) for _ in range(2)])
    found = homologous_contrast(torch.from_numpy(z), torch.from_numpy(owner), tau).item()
    assert found == pytest.approx(by_loops(z, owner, tau), rel=1e-10)


def test_a_contrast_worked_by_hand():
    # Tokens of two images along two axes: one positive of similarity 1 and two negatives of similarity 0, tau = 1.
    z = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]])
    own = torch.tensor([[0, 1, 0, 1]])
    assert homologous_contrast(z, own, 1.0).item() == pytest.approx(math.log(1 + 2 / math.e), rel=1e-6)
    alike = homologous_contrast(torch.ones(1, 8, 3), torch.arange(8).view(1, 8) % 2, 0.25)
    assert alike.item() == pytest.approx(math.log(7), rel=1e-6)


def test_recognition_costs_less_than_confusion():
    owner = torch.arange(16).view(1, 16) % 4
    axes = torch.eye(4)[owner]
    wrong = torch.eye(4)[(torch.arange(16).view(1, 16) // 4)]
    assert homologous_contrast(axes, owner, 0.25) < homologous_contrast(wrong, owner, 0.25)


def test_recall_is_one_when_images_are_apart_and_chance_when_tokens_are_noise():
    torch.manual_seed(0)
    owner = Mixed.mix(256, 64, 4, CPU).owner
    apart = torch.eye(4)[owner] + 0.01 * torch.randn(64, 64, 4)
    assert (similar_recall(apart, owner, 4) == 1).all()
    noise = similar_recall(torch.randn(64, 64, 32), owner, 4).mean().item()
    assert noise == pytest.approx(15 / 63, abs=0.02)


def test_attention_finds_its_own_when_segments_tell_it_and_by_chance_untrained():
    """With segments that outweigh the pixels, and queries that look for keys like themselves, all of the best are own."""
    net, x = encoder(), torch.rand(32, 3, 16, 16)
    torch.manual_seed(1)
    untrained = attended_recall(net, x, Mixed.mix(32, 16, 4, CPU)).mean().item()
    assert untrained == pytest.approx(0.25, abs=0.1)
    with torch.no_grad():
        for block in net.backbone.blocks:
            q, k, _ = block.attn.qkv.weight.chunk(3)
            k.copy_(q)
    loud = 30 * torch.linalg.qr(torch.randn(32, 4))[0].T
    for block in (0, -1):
        found = attended_recall(net, x, Mixed.mix(32, 16, 4, CPU, segments=loud), block)
        assert found.shape == (8, net.backbone.heads, 16)
        assert found.mean() > 0.95


def test_a_patch_attends_to_its_top_k_and_the_class_token_to_all():
    net, x = encoder(), torch.rand(8, 3, 16, 16)
    weights = net.backbone.attention((x - net.mean) / net.std, Mixed.mix(8, 16, 4, CPU))
    seen = weights > 0
    assert seen[:, :, 0].all()
    assert seen[:, :, :, 0].all()
    assert (seen[:, :, 1:, 1:].sum(-1) == 4).all()


def test_the_encoder_sees_as_many_tokens_as_mae_does():
    net, x, seen = encoder("mean"), torch.rand(8, 3, 16, 16), []
    net.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0] * output.shape[1]))
    for method in (MAE(**SMALL), MixedAE(**SMALL)):
        method.loss(net, method.parts(net), one(x), 0.5)
    assert seen == [32, 32]


def test_the_loss_is_the_reconstruction_and_the_weighted_contrast():
    net, x = encoder(), torch.rand(8, 3, 16, 16)
    outcome = None
    for weight in (0.1, 2.0):
        method = MixedAE(**SMALL, contrast=weight)
        torch.manual_seed(2)
        parts = method.parts(net)
        outcome = method.loss(net, parts, one(x), 0.5)
        s = outcome.scalars
        assert s.keys() == {"z_std", "reconstruction", "contrast", "recall"}
        assert outcome.loss.item() == pytest.approx((s["reconstruction"] + weight * s["contrast"]).item(), rel=1e-6)
        assert 0 <= s["recall"] <= 1
    outcome.loss.backward()
    assert parts["segments"].embedding.grad.abs().sum() > 0


def test_naive_mixing_is_the_same_without_recognition():
    net, x = encoder(), torch.rand(8, 3, 16, 16)
    method = MixedAE(**SMALL, **NAIVE)
    parts = method.parts(net)
    assert "segments" not in parts
    plan = method.plan(parts, x)
    assert plan.top_k is None
    assert plan.segments is None
    outcome = method.loss(net, parts, one(x), 0.5)
    assert outcome.loss == outcome.scalars["reconstruction"]
    assert outcome.scalars.keys() == {"z_std", "reconstruction", "recall"}


def test_segments_have_mean_zero_and_tell_images_apart():
    method, net = MixedAE(**SMALL), encoder()
    parts = method.parts(net)
    embeddings = parts["segments"]()
    assert embeddings.shape == (4, net.features)
    assert embeddings.mean(0).abs().max() < 1e-7
    plan, tokens = method.plan(parts, torch.rand(8, 3, 16, 16)), torch.zeros(8, 16, net.features)
    torch.testing.assert_close(plan.select(tokens), embeddings[plan.owner])


def test_the_spread_is_that_of_the_images_not_of_the_mixtures():
    """Mixtures are more alike than images: images of one colour each, nearly even mixtures."""
    net = encoder("mean")
    x = torch.rand(64, 3, 1, 1).expand(-1, -1, 16, 16)
    torch.manual_seed(0)
    alone, mixed = (m.loss(net, m.parts(net), one(x), 0.5) for m in (MAE(**SMALL), MixedAE(**SMALL)))
    assert mixed.scalars["z_std"] > 0.5 * alone.scalars["z_std"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"group": 1}, "at least 2"), ({"contrast": -1.0}, "at least 0"), ({"temperature": 0.0}, "above 0")],
)
def test_bad_settings_are_told(options, says):
    with pytest.raises(InputError, match=says):
        MixedAE(**options)


def test_batches_and_images_that_cannot_be_dealt_out_are_told():
    method, net = MixedAE(**SMALL), encoder()
    parts = method.parts(net)
    with pytest.raises(InputError, match="6 views"):
        method.loss(net, parts, one(torch.rand(6, 3, 16, 16)), 0.5)
    with pytest.raises(InputError, match="4 patches"):
        method.loss(net, parts, one(torch.rand(8, 3, 8, 8)), 0.5)
