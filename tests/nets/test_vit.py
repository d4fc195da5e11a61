"""The ViT against loops in float64, its plans, positions and patches, and what it refuses."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swell.errors import InputError
from swell.nets.backbones import BACKBONES, make_backbone
from swell.nets.chunked import Chunked
from swell.nets.vit import Attention, Block, ViT, fitting_patch, highest, patchify, sine_positions, vit_tiny

SHAPE = (3, 8, 12)
SMALL = {"patch": 4, "depth": 2}


@dataclass(frozen=True)
class Rows:
    """A plan that shows each sample the patches `rows`, or some other arrangement of tokens."""

    rows: tuple[int, ...]
    top_k: int | None = None

    def select(self, tokens):
        return tokens[:, list(self.rows)]


def net_of(shape=SHAPE, width=1.0, seed=0, **options):
    torch.manual_seed(seed)
    net = vit_tiny(shape, width, **{**SMALL, **options})
    with torch.no_grad():
        for p in net.parameters():  # biases and gains too, so that nothing is 0 or 1 by chance
            p.add_(0.1 * torch.randn_like(p))
    return net.eval()


def norm_by_hand(x, layer):
    gain, bias = (t.detach().double().numpy() for t in (layer.weight, layer.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * gain + bias


def linear_by_hand(x, layer):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def attention_by_hand(x, attention, top_k=None):
    """[T, D] -> output [T, D] and weights [H, T, T], query by query."""
    t, d = x.shape
    head = d // attention.heads
    q, k, v = np.split(linear_by_hand(x, attention.qkv), 3, axis=1)
    out, weights = np.zeros((t, d)), np.zeros((attention.heads, t, t))
    for h in range(attention.heads):
        part = slice(h * head, (h + 1) * head)
        for i in range(t):
            scores = {j: q[i, part] @ k[j, part] / math.sqrt(head) for j in range(t)}
            seen = set(range(t))
            if top_k is not None and i >= attention.extra:
                patches = sorted(range(attention.extra, t), key=lambda j: -scores[j])
                seen = set(range(attention.extra)) | set(patches[:top_k])
            total = sum(math.exp(scores[j]) for j in seen)
            for j in seen:
                weights[h, i, j] = math.exp(scores[j]) / total
                out[i, part] += weights[h, i, j] * v[j, part]
    return linear_by_hand(out, attention.proj), weights


def vit_by_hand(net, image, rows=None, top_k=None):
    """Tokens after the final norm [T, D] and the last block's attention [H, T, T], in float64, of one image [C, H, W]."""
    image, p = image.double().numpy(), net.patch
    height, width = image.shape[1:]
    patches = [image[:, y : y + p, x : x + p].reshape(-1) for y in range(0, height, p) for x in range(0, width, p)]
    x = linear_by_hand(np.stack(patches), net.embed) + net.positions[0].detach().double().numpy()
    x = x if rows is None else x[list(rows)]
    if net.extra:
        x = np.concatenate([net.class_token[0].detach().double().numpy(), x])
    for block in net.blocks:
        attended, weights = attention_by_hand(norm_by_hand(x, block.norm1), block.attn, top_k)
        x = x + attended
        hidden = linear_by_hand(norm_by_hand(x, block.norm2), block.fc1)
        x = x + linear_by_hand(hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2, block.fc2)
    return norm_by_hand(x, net.norm), weights


@pytest.mark.parametrize("positions", ["sine", "learned"])
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_all_outputs_equal_loops_in_float64(pool, positions):
    net, x = net_of(pool=pool, positions=positions), torch.randn(2, *SHAPE)
    tokens, weights = (np.stack(part) for part in zip(*(vit_by_hand(net, image) for image in x), strict=True))
    features = tokens[:, 0] if pool == "class" else tokens.mean(1)
    near = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(net(x).detach(), features, **near)
    of_patches = tokens[:, net.extra :].reshape(2, 2, 3, net.features).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(net.forward_map(x).detach(), of_patches, **near)
    np.testing.assert_allclose(net.attention(x).detach(), weights, **near)
    looks = weights[:, :, 0, 1:] if pool == "class" else weights.mean(2)
    looks = looks / looks.sum(-1, keepdims=True)
    np.testing.assert_allclose(net.attention_map(x), looks.reshape(2, 3, 2, 3), **near)


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize(("rows", "top_k"), [((4, 0, 2), None), ((0, 1, 2, 3, 4, 5), 2), ((5, 3, 1, 0), 1)])
def test_a_plans_sequences_equal_loops_in_float64(pool, rows, top_k):
    net, x = net_of(pool=pool), torch.randn(2, *SHAPE)
    plan = Rows(rows, top_k)
    tokens, weights = zip(*(vit_by_hand(net, image, rows, top_k) for image in x), strict=True)
    assert net(x, plan).shape == (2, net.extra + len(rows), net.features)
    np.testing.assert_allclose(net(x, plan).detach(), np.stack(tokens), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(net.attention(x, plan).detach(), np.stack(weights), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_the_class_token_alone_is_the_first_of_all_tokens(half):
    """Without a plan only its query is made in the last block: same feature, same gradients, less work."""
    plain, whole = net_of(), net_of()
    x = torch.randn(3, *SHAPE)
    everything = Rows(tuple(range(6)))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        a, b = plain(x), whole(x, everything)[:, 0]
    torch.testing.assert_close(a, b, **({"rtol": 0.05, "atol": 0.05} if half else {"rtol": 1e-4, "atol": 1e-5}))
    a.square().sum().backward()
    b.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), whole.parameters(), strict=True):
        assert p.grad is not None, name
        if not half:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-3, msg=name)


@settings(max_examples=30, deadline=None)
@given(
    patch=st.integers(1, 5), h=st.integers(1, 4), w=st.integers(1, 4), channels=st.integers(1, 3), last=st.booleans()
)
def test_patches_are_what_they_cover_row_by_row(patch, h, w, channels, last):
    x = torch.arange(2 * channels * h * w * patch**2).view(2, channels, h * patch, w * patch).float()
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    patches = patchify(x, patch)
    assert patches.shape == (2, h * w, channels * patch**2)
    for i in range(h):
        for j in range(w):
            covered = x[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            assert torch.equal(patches[:, i * w + j], covered.reshape(2, -1))


def test_sine_positions_are_the_formula():
    d, grid = 16, (3, 5)
    table = sine_positions(grid, d)
    for i in range(d // 4):
        frequency = 10000 ** (-4 * i / d)
        for y in range(3):
            for x in range(5):
                row = table[0, y * 5 + x]
                expected = [
                    math.sin(frequency * y),
                    math.cos(frequency * y),
                    math.sin(frequency * x),
                    math.cos(frequency * x),
                ]
                assert row[[i, i + d // 4, i + d // 2, i + 3 * d // 4]].tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(h=st.integers(1, 16), w=st.integers(1, 16), features=st.sampled_from([8, 48, 192]))
def test_no_two_sine_positions_are_alike(h, w, features):
    table = sine_positions((h, w), features)[0]
    distance = torch.cdist(table.double(), table.double()) + 9 * torch.eye(h * w)
    assert distance.min() > 0.05


def test_another_size_gets_sine_positions_of_its_own():
    net = net_of()
    assert torch.equal(net.positions_of((4, 2)), sine_positions((4, 2), 192))
    assert net.positions_of(net.grid) is net.positions
    x = torch.randn(2, 3, 16, 8)
    assert net(x).shape == (2, 192)
    assert net.forward_map(x).shape == (2, 192, 4, 2)
    assert net.attention_map(x).shape == (2, 3, 4, 2)


def test_learned_positions_are_interpolated():
    net = net_of(positions="learned")
    assert net.positions_of(net.grid) is net.positions
    with torch.no_grad():
        net.positions.copy_(torch.arange(6.0).div(3).floor()[None, :, None].expand(1, 6, 192))  # 0 above, 1 below
    double = net.positions_of((4, 6))[0].view(4, 6, 192)
    assert (double - double[:, :1]).abs().max() < 1e-5  # nothing changes along a row
    assert double[:, 0, 0].diff().gt(0).all()
    assert double[:, 0, 0].sum().item() == pytest.approx(2)  # symmetric about a half
    net(torch.randn(2, 3, 16, 24)).sum().backward()
    assert net.positions.grad.any()


@settings(max_examples=40, deadline=None)
@given(t=st.integers(1, 12), k=st.integers(1, 14), extra=st.integers(0, 1), seed=st.integers(0, 99))
def test_every_patch_attends_to_its_top_k_patches_and_what_precedes_them(t, k, extra, seed):
    torch.manual_seed(seed)
    attention, x = Attention(16, 2, extra), torch.randn(3, extra + t, 16)
    weights, full = attention.weights(x, k), attention.weights(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, extra + t))
    assert (weights[:, :, extra:, extra:] > 0).sum(-1).eq(min(k, t)).all()
    torch.testing.assert_close(weights[:, :, :extra], full[:, :, :extra])  # the class token sees all
    assert (weights[:, :, :, :extra] > 0).all()
    among = full[:, :, extra:, extra:]
    left_out = among.masked_fill(weights[:, :, extra:, extra:] > 0, -1).amax(-1)
    kept = among.masked_fill(weights[:, :, extra:, extra:] == 0, 2).amin(-1)
    assert (left_out <= kept).all()
    if k >= t:
        torch.testing.assert_close(attention(x, k), attention(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 99), half=st.booleans(), data=st.data())
def test_highest_is_topk_and_ties_do_not_make_it_more(n, seed, half, data):
    k = data.draw(st.integers(1, n))
    scores = torch.randn(4, n, generator=torch.Generator().manual_seed(seed)).to(
        torch.bfloat16 if half else torch.float32
    )
    chosen = highest(scores, k)
    assert chosen.shape == (4, k)
    assert all(len(set(row)) == k for row in chosen.tolist())
    assert torch.equal(scores.gather(1, chosen).sort(1).values, scores.topk(k).values.sort(1).values)


def test_the_gradient_of_top_k_attention_is_that_of_its_loops():
    torch.manual_seed(0)
    attention, x = Attention(8, 2, 1).double(), torch.randn(2, 7, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, 2), (x,))


def test_in_bf16_the_products_agree_with_torchs_attention():
    attention, x = Attention(128, 2, 1), torch.randn(4, 9, 128)
    exact = attention(x)
    with torch.autocast("cpu", torch.bfloat16):
        q, k, v = (part.unflatten(2, (2, 64)).transpose(1, 2) for part in attention.qkv(x).chunk(3, -1))
        fused = attention.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        ours = attention(x)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).abs().max() < 2 * (fused - exact).abs().max() + 1e-3


def test_bfloat16_weights_work_without_autocast():
    net, x = net_of().bfloat16(), torch.randn(2, *SHAPE).bfloat16()
    assert net(x).dtype == torch.bfloat16
    assert net(x).isfinite().all()


def test_channels_last_images_give_the_same_features():
    net, x = net_of(), torch.randn(2, *SHAPE)
    torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), net(x))


def test_stochastic_depth_drops_whole_branches_and_keeps_the_mean():
    torch.manual_seed(0)
    block = Block(16, 2, 1, drop_path=0.4)
    x = torch.randn(1, 5, 16).expand(4000, -1, -1)
    attended = x[0] + block.attn(block.norm1(x[:1]))[0]
    mean = (block._kept(attended.expand(4000, -1, -1))).mean(0)
    torch.testing.assert_close(mean, attended, rtol=0.1, atol=0.1)
    dropped = block._kept(torch.ones(4000, 5, 16))
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert dropped.flatten(1).std(1).eq(0).all()  # all of a sequence or nothing
    assert torch.equal(block.eval()(x[:3]), block(x[:3]))


def test_stochastic_depth_rises_from_the_first_block_to_the_last():
    assert [b.drop_path for b in net_of(depth=5, drop_path=0.2).blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [b.drop_path for b in net_of(depth=1, drop_path=0.2).blocks] == [0]


def test_in_pieces_the_same_branches_are_dropped_again():
    plain, chunked = net_of(drop_path=0.5).train(), net_of(drop_path=0.5).train()
    x = torch.randn(6, *SHAPE)
    for encode in (lambda x: torch.cat([plain(part) for part in x.split(2)]), Chunked(chunked, 2)):
        torch.manual_seed(1)
        encode(x).square().mean().backward()
    for p, q in zip(plain.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize(
    ("name", "published"), [("vit_tiny", 5_717_416), ("vit_small", 22_050_664), ("vit_base", 86_567_656)]
)
def test_parameters_are_as_many_as_published(name, published):
    """DeiT's counts, patches of 16 at 224 pixels: with a 1000-way classifier and a position for the class token."""
    with torch.device("meta"):
        net = make_backbone(name, (3, 224, 224), 1.0, {"positions": "learned"})
    classifier = 1000 * net.features + 1000
    assert sum(p.numel() for p in net.parameters()) + classifier + net.features == published


def test_matrices_start_glorot_uniform_each_third_of_qkv_by_itself():
    torch.manual_seed(0)
    net = vit_tiny((3, 32, 32), depth=1)
    for part in net.modules():
        if isinstance(part, nn.Linear):
            outputs, inputs = part.weight.shape
            outputs = inputs if outputs == 3 * inputs else outputs
            bound = math.sqrt(6 / (inputs + outputs))
            assert 0.98 * bound < part.weight.abs().max().item() <= bound
            assert not part.bias.any()
    assert 0.015 < net.class_token.std() < 0.025


@pytest.mark.parametrize(
    ("width", "features", "heads"),
    [(1.0, 192, 3), (2.0, 384, 6), (0.7, 128, 2), (0.34, 64, 1), (0.25, 48, 1), (0.01, 8, 1)],
)
def test_heads_have_64_channels_or_there_is_one(width, features, heads):
    net = vit_tiny((3, 8, 8), width, depth=1)
    assert (net.features, net.heads) == (features, heads)
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, features)


@pytest.mark.parametrize(
    ("sides", "patch"),
    [((8, 8), 2), ((16, 16), 2), ((28, 28), 4), ((32, 32), 4), ((48, 48), 6), ((64, 64), 8), ((96, 96), 16), ((224, 224), 16),
     ((256, 192), 16), ((1, 1), 1), ((100, 100), 20)],
)  # fmt: skip
def test_the_patch_suits_the_image(sides, patch):
    assert fitting_patch((3, *sides)) == patch


@pytest.mark.parametrize("sides", [(31, 31), (97, 97), (32, 33)])
def test_images_that_no_sensible_patch_divides_are_refused(sides):
    with pytest.raises(InputError, match=f"images of {sides[0]}x{sides[1]} pixels"):
        fitting_patch((3, *sides))


def test_images_that_the_patch_does_not_divide_are_refused():
    with pytest.raises(InputError, match="images of 8x12 pixels: expected multiples of the patch, 5"):
        vit_tiny(SHAPE, patch=5)
    net = net_of()
    for call in (net, net.forward_map, net.attention_map):
        with pytest.raises(InputError, match="images of 8x10 pixels"):
            call(torch.randn(1, 3, 8, 10))


@pytest.mark.parametrize("name", [entry.name for entry in BACKBONES if entry.name.startswith("vit")])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ptch": 4}, "did you mean 'patch'"),
        ({"width": 2}, "unknown key 'width'"),
        ({"shape": 2}, "unknown key 'shape'"),
        ({"patch": 4.0}, "patch = 4.0: expected a whole number"),
        ({"patch": True}, "patch = True"),
        ({"patch": -4}, "from 0 to 1024"),
        ({"depth": 10**9}, "from 0 to 256"),
        ({"depth": "12"}, "a whole number"),
        ({"positions": "sin"}, "did you mean 'sine'"),
        ({"positions": 3}, "a value like 'sine'"),
        ({"pool": "avg"}, "one of class, mean"),
        ({"drop_path": 1.0}, "from 0 to 0.9"),
        ({"drop_path": math.nan}, "drop_path = nan"),
        ({"drop_path": [0.1]}, "a value like 0.0"),
    ],
)
def test_options_that_are_none_are_refused(name, options, says):
    with pytest.raises(InputError, match="backbone_options") as error:
        make_backbone(name, (3, 32, 32), 1.0, options)
    assert says in str(error.value)


def test_what_it_was_made_with_is_told_with_defaults_filled_in():
    net = make_backbone("vit_tiny", (3, 32, 32), 1.0, {"pool": "mean"})
    assert net.options == {"patch": 4, "positions": "sine", "pool": "mean", "depth": 12, "drop_path": 0.0}
    assert isinstance(net, ViT)
    assert (net.grid, net.patch, net.extra) == ((8, 8), 4, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_agrees_with_the_cpu(half):
    net, x = net_of(), torch.randn(2, *SHAPE)
    plan = Rows((0, 2, 3, 5), 2)
    exact = net(x), net(x, plan)
    net.cuda()
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        found = net(x.cuda()), net(x.cuda(), plan)
    assert (found[0].cpu() - exact[0]).abs().max() < (0.2 if half else 1e-3)
    if not half:  # rounding may choose other keys
        assert (found[1].cpu() - exact[1]).abs().max() < 1e-3
