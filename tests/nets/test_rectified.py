"""Activations that are computed again: everything as if they had been kept, and they are not kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from swell.nets.chunked import Chunked
from swell.nets.rectified import all_kept, rectified
from swell.nets.resnet import conv, resnet18, resnet50
from swell.seeding import generator_for

SMALL, LARGE = (3, 16, 16), (3, 72, 72)  # the second has the stem with pooling


def net(make: Callable[..., nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return make(shape, 0.125).to(memory_format=torch.channels_last)


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    x = torch.randn(6, *shape, generator=generator_for(seed, "rectified"))
    return x.contiguous(memory_format=torch.channels_last)


def learned(module: nn.Module, x: Tensor, bf16: bool, twice: bool = False) -> list[Tensor]:
    """The output, all gradients, and all statistics after a step."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = module(x)
    loss = out.float().square().mean()
    if twice:
        loss.backward(retain_graph=True)
    loss.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return [out.detach(), *gradients, *(b.clone() for b in module.buffers())]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("make", [resnet18, resnet50])
def test_bit_for_bit_as_if_all_were_kept(
    make: Callable[..., nn.Module], shape: tuple[int, ...], bf16: bool, twice: bool
) -> None:
    with all_kept():
        kept = learned(net(make, shape), images(shape), bf16, twice)
    again = learned(net(make, shape), images(shape), bf16, twice)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def parts() -> tuple[nn.Module, nn.BatchNorm2d, nn.Module]:
    torch.manual_seed(0)
    return conv(3, 8, 3), nn.BatchNorm2d(8), conv(8, 4, 3)


def seen(layer: nn.Module) -> list[StorageWeakRef]:
    """Fills with the storages of what goes into the layer."""
    storages: list[StorageWeakRef] = []
    layer.register_forward_pre_hook(lambda _, x: storages.append(StorageWeakRef(x[0].untyped_storage())))
    return storages


@pytest.mark.parametrize(("how", "gone"), [(nullcontext, True), (all_kept, False)])
def test_the_activation_is_not_kept(how: Callable[[], AbstractContextManager[None]], gone: bool) -> None:
    first, norm, second = parts()
    storages = seen(second)
    with how():
        out = rectified(norm, first(images(SMALL)), second)
    assert storages[0].expired() == gone
    out.square().mean().backward()
    assert storages[0].expired() == gone or not gone


def test_it_is_made_once_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    first, norm, second = parts()
    out = rectified(norm, first(images(SMALL)), second)
    made: list[StorageWeakRef] = []
    plain = F.batch_norm

    def watched(*given: Any) -> Tensor:
        normal = plain(*given)
        made.append(StorageWeakRef(normal.untyped_storage()))
        return normal

    monkeypatch.setattr(F, "batch_norm", watched)
    for count in (1, 2):
        out.square().mean().backward(retain_graph=True)
        assert len(made) == count
        assert made[-1].expired()


@pytest.mark.parametrize("case", ["evaluation", "no gradient", "frozen"])
def test_where_nothing_is_to_be_learned_nothing_is_made_again(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swell.nets.rectified._Again", None)  # would raise
    first, norm, second = parts()
    if case == "evaluation":
        norm.eval()
    if case == "frozen":
        for module in (first, norm):
            module.requires_grad_(False)
    with torch.set_grad_enabled(case != "no gradient"):
        assert rectified(norm, first(images(SMALL)), second).isfinite().all()


def test_pieces_keep_neither_the_activation_nor_what_it_follows_from() -> None:
    encoder = net(resnet18, SMALL)
    before_norm = seen(encoder.stem[1])  # type: ignore[index, union-attr]
    whole = learned(net(resnet18, SMALL), images(SMALL)[:3], False)
    x = images(SMALL)
    chunked = Chunked(encoder, 3)
    out = chunked(x)
    assert len(before_norm) == 2
    assert all(storage.expired() for storage in before_norm)
    out.square().mean().backward()
    assert len(before_norm) == 4
    assert torch.equal(out[:3], whole[0])


def test_second_derivatives_are_right_too() -> None:
    def curvature() -> Tensor:
        first, norm, second = (part.double() for part in parts())
        x = images(SMALL).double().requires_grad_()
        out = rectified(norm, first(x), second)
        (slope,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        weight = first.weight.grad
        assert isinstance(weight, Tensor)
        return weight

    with all_kept():
        kept = curvature()
    torch.testing.assert_close(curvature(), kept, rtol=1e-12, atol=1e-12)


def test_a_compiler_sees_one_graph() -> None:
    encoder = net(resnet18, SMALL)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    assert compiled(images(SMALL)).shape == (6, 64)
