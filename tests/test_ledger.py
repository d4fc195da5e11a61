"""FLOPs: counted as torch counts them, without holding on to what the work itself lets go."""

import weakref

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from swell.ledger import counted_flops
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig


def test_flops_are_those_of_torchs_own_counter():
    encoder = Encoder(EncoderConfig("resnet18", 0.125, (3, 16, 16), (0.5,) * 3, (0.25,) * 3))
    images = torch.rand(4, 3, 16, 16)

    def work() -> None:
        encoder(images).sum().backward()

    with FlopCounterMode(display=False) as known:
        work()
    with counted_flops() as box:
        work()
    assert box[0] == known.get_total_flops() > 0


def test_hand_worked_flops_of_checkpointed_pieces():
    """Products of 8 x 4 by 4 x 4, 256 FLOPs each. A piece: two forward, four backward, and one forward again, for the
    input of the second layer is all that is missing."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    pieces = torch.randn(2, 8, 4, requires_grad=True)
    with counted_flops() as box:
        torch.cat([checkpoint(net, piece, use_reentrant=False) for piece in pieces.unbind()]).sum().backward()
    assert box[0] == 2 * 7 * 256


def test_counting_holds_on_to_nothing_that_pieces_recompute():
    """What one piece computes a second time, in the backward pass, is gone before the next piece does so."""
    hidden = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(hidden, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    made: list[weakref.ref[torch.UntypedStorage]] = []
    alive: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        made.append(weakref.ref(output.untyped_storage()))
        alive.append(sum(ref() is not None for ref in made))

    hidden.register_forward_hook(note)
    with counted_flops():
        Chunked(net, 2)(torch.rand(10, 3, 8, 8)).sum().backward()
    assert len(alive) == 10  # five pieces, twice
    assert max(alive) == 1
