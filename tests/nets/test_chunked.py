"""Encoding in pieces: the gradient of the whole batch, counted once, in little memory."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from swell.methods.simclr import nt_xent
from swell.nets.chunked import Chunked


def net(norm=False, dropout=0.0):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(16)] if norm else []
    return nn.Sequential(nn.Linear(6, 16), *middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 5))


def in_pieces(encoder, x, rows):
    """The same pieces with all activations kept: what recomputation must not be told from."""
    return torch.cat([encoder(part) for part in x.split(rows)])


def gradients(module):
    return [p.grad for p in module.parameters()]


LOSSES = {
    "mean": lambda z: z.mean(),
    "nt_xent, every sample against every other": lambda z: nt_xent(z.view(2, -1, z.shape[-1]), 0.5),
    "log-determinant of the covariance": lambda z: -torch.logdet(torch.eye(z.shape[-1]) + z.T @ z),
    "hinge on the deviation of each dimension": lambda z: F.relu(1 - z.std(dim=0)).sum(),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@settings(max_examples=8, deadline=None)
@given(half=st.integers(2, 12), rows=st.integers(1, 30))
def test_the_gradient_is_that_of_the_whole_batch(loss, half, rows):
    whole, pieces = net(), net()
    x, y = (torch.randn(2 * half, 6, generator=torch.Generator().manual_seed(half)).requires_grad_() for _ in "ab")
    a, b = loss(whole(x)), loss(Chunked(pieces, rows)(y))
    torch.testing.assert_close(a, b)
    a.backward()
    b.backward()
    torch.testing.assert_close(gradients(whole), gradients(pieces), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, None])  # None: batch norm's cumulative average
def test_batch_norm_counts_a_piece_once(momentum):
    plain, chunked = net(norm=True), net(norm=True)
    plain[1].momentum = chunked[1].momentum = momentum
    for step in range(3):
        x = 2 + torch.randn(12, 6, generator=torch.Generator().manual_seed(step))
        in_pieces(plain, x, 4).square().mean().backward()
        Chunked(chunked, 4)(x).square().mean().backward()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, chunked.state_dict()[name]), name
    assert int(chunked[1].num_batches_tracked) == 9
    assert chunked[1].momentum == momentum
    torch.testing.assert_close(gradients(plain), gradients(chunked))


def test_a_graph_that_is_kept_may_be_walked_twice():
    plain, chunked = net(norm=True), net(norm=True)
    x = torch.randn(12, 6)
    for encoder, z in ((plain, in_pieces(plain, x, 4)), (chunked, Chunked(chunked, 4)(x))):
        for retain in (True, False):
            z.square().mean().backward(retain_graph=retain)
        assert int(encoder[1].num_batches_tracked) == 3
    torch.testing.assert_close(gradients(plain), gradients(chunked))
    assert torch.equal(plain[1].running_var, chunked[1].running_var)


def test_batch_norm_is_mended_when_the_second_forward_fails():
    class Fragile(nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x):
            self.calls += 1
            if self.calls > 2:
                raise MemoryError
            return self.layer(self.norm(x)).tanh()

    encoder = Fragile()
    z = Chunked(encoder, 4)(torch.randn(8, 6))
    with pytest.raises(MemoryError):
        z.sum().backward()
    assert encoder.norm.momentum == 0.1
    assert int(encoder.norm.num_batches_tracked) == 2


def test_dropout_drops_the_same_units_the_second_time():
    plain, chunked = net(dropout=0.5), net(dropout=0.5)
    x = torch.randn(12, 6)
    found = []
    for encode in (lambda x: in_pieces(plain, x, 4), Chunked(chunked, 4)):
        torch.manual_seed(3)
        z = encode(x)
        torch.rand(5)  # what is drawn between forward and backward must not matter
        z.square().mean().backward()
        found.append((z.detach(), torch.rand(())))
    torch.testing.assert_close(gradients(plain), gradients(chunked))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]  # and the second forward leaves the stream where it was


def test_without_gradient_the_pieces_are_only_joined():
    encoder, x = net(norm=True).eval(), torch.randn(10, 6)
    with torch.no_grad():
        z = Chunked(encoder, 3)(x)
    assert not z.requires_grad
    torch.testing.assert_close(z, encoder(x))


def test_a_batch_that_fits_is_encoded_as_it_is():
    encoder, seen = net(), []
    encoder.register_forward_hook(lambda *_: seen.append(1))
    Chunked(encoder, 12)(torch.randn(12, 6)).sum().backward()
    assert len(seen) == 1


def test_under_autocast_the_second_forward_is_in_bfloat16_too():
    plain, chunked = net(norm=True), net(norm=True)
    x = torch.randn(12, 6)
    outputs = []
    for encode in (lambda x: in_pieces(plain, x, 4), Chunked(chunked, 4)):
        with torch.autocast("cpu", torch.bfloat16):
            z = encode(x)
        z.float().square().mean().backward()  # the second forward happens outside the block
        outputs.append(z)
    assert outputs[1].dtype == torch.bfloat16
    assert torch.equal(*outputs)
    assert all(torch.equal(a, b) for a, b in zip(gradients(plain), gradients(chunked), strict=True))


class Allocations(TorchDispatchMode):
    """Remembers the memory of every tensor that is made, without holding it; not that of `known` ones."""

    def __init__(self, known):
        super().__init__()
        self.made, self.known = {}, {t.untyped_storage().data_ptr() for t in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in self.known:
                storage = StorageWeakRef(t.untyped_storage())
                self.made[storage.cdata] = (storage, t.untyped_storage().nbytes())
        return out

    def alive(self):
        return sum(size for storage, size in self.made.values() if not storage.expired())


def test_only_inputs_and_outputs_of_a_piece_are_kept():
    deep = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.Tanh())])
    x = torch.randn(256, 64)
    held = []
    for encode in (deep, Chunked(deep, 64)):
        with Allocations([x, *deep.parameters()]) as allocations:
            z = encode(x)
            held.append(allocations.alive())
        z.sum().backward()
    assert held[0] >= 10 * x.nbytes
    assert held[1] == z.nbytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_memory_on_a_gpu():
    deep = nn.Sequential(*[layer for _ in range(20) for layer in (nn.Linear(512, 512), nn.Tanh())]).cuda()
    x = torch.randn(16384, 512, device="cuda")
    peaks = []
    for encode in (deep, Chunked(deep, 1024)):
        deep.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        encode(x).square().mean().backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.4 * peaks[0]
