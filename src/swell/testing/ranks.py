"""Whether methods on several ranks learn what they learn on one: tried with processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from swell.files import read_json, write_json
from swell.methods.registry import Method, Views
from swell.nets.backbones import Backbone
from swell.nets.batch_norm import share_norms
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig
from swell.ranks import ALONE, Ranks
from swell.testing.examples import example_samples, require
from swell.threads import start_worker, unbound
from swell.views.render import apply, draw

BATCH, STEPS, RATE = 24, 2, 0.02
TOLERANCE = 1e-5  # of the loss, and of the gradient's length, in float32
SHAPE = (3, 16, 16)

Make = Callable[[], Method]
Found = dict[str, Tensor]


class _Net(Backbone):
    """Images -> features by convolutions with batch norm and, unlike a real net, without kinks: there a difference in
    the last digit puts a number on the other side of 0 now and then, which the gradient shows."""

    features = 16

    def __init__(self) -> None:
        super().__init__()
        layers = [(SHAPE[0], 8), (8, 16)]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.GELU()) for a, b in layers)
        )

    def forward_map(self, x: Tensor) -> Tensor:
        return self.layers(x)


def check_ranks(*makes: Make, count: int = 2) -> dict[str, float]:
    """Whether methods have on `count` ranks the loss, the gradients and the state that they have on one.

    Tried on small images with a net that has batch norm, encoded at once and in pieces, for a few steps. Processes are
    started for this and know what `makes` are by their names in their modules, so a function within a function will
    not do. Together methods take little more time than one.

    Args:
        makes: each returns a method; classes and partials of them will do. Small heads make it quick.
        count: ranks, of 2, 3, 4 or 6.

    Returns:
        For every method the largest difference found: of the loss, or of the gradient's length, as a share of it.

    Raises:
        AssertionError: with a sentence that says what differs, of which method.
    """
    with TemporaryDirectory() as folder, unbound():
        spawn(_rank, (makes, count, folder), nprocs=count)
        told = read_json(Path(folder) / "found.json")
    require(not told["wrong"], f"on {count} ranks: " + "; ".join(told["wrong"]))
    return told["largest"]


def _rank(rank: int, makes: Sequence[Make], count: int, folder: str) -> None:
    start_worker(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    wrong: list[str] = []
    largest: dict[str, float] = {}
    for make in makes:
        name = type(make()).__name__
        for pieces in (False, True)[: 1 if make().needs_tokens else 2]:
            shared = _steps(make, Ranks(rank, count), pieces)
            if rank == 0:
                alone = _steps(make, ALONE, pieces)
                gaps = {what: _gap(shared[what], alone[what]) for what in alone}
                largest[name] = max(largest.get(name, 0.0), *gaps.values())
                how = " in pieces" if pieces else ""
                wrong += [
                    f"{what} of {name}{how} differs by {gap:.1g}" for what, gap in gaps.items() if gap > TOLERANCE
                ]
    if rank == 0:
        write_json(Path(folder) / "found.json", {"wrong": wrong, "largest": largest})
    dist.destroy_process_group()


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1.0 if b.ndim == 0 else 1e-12))  # a loss may pass through 0


def _steps(make: Make, ranks: Ranks, pieces: bool) -> Found:
    """Loss, gradient and state of each of some steps of plain gradient descent."""
    torch.manual_seed(0)
    method = make()
    encoder: Backbone = _Net()
    if method.needs_tokens:
        encoder = Encoder(EncoderConfig("vit_tiny", 1 / 6, SHAPE, (0.5,) * 3, (0.25,) * 3, {"patch": 4, "depth": 2}))
    parts = method.parts(encoder)
    if ranks.count > 1:
        share_norms(encoder, ranks)
        share_norms(parts, ranks)
    forward: nn.Module = Chunked(encoder, BATCH // ranks.count) if pieces else encoder
    trained = [p for p in (*encoder.parameters(), *parts.parameters()) if p.requires_grad]
    found: Found = {}
    for t in range(STEPS):
        progress = t / (STEPS - 1)
        torch.manual_seed(t)  # as the training step does
        outcome = method.loss(forward, parts, _views(method, t, ranks), progress)
        outcome.loss.backward()
        loss = outcome.loss.detach()
        ranks.average([*(p.grad for p in trained if p.grad is not None), loss])
        found[f"the loss of step {t}"] = loss
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        found[f"the gradient of step {t}"] = torch.cat([g.flatten() for g in gradient])
        with torch.no_grad():
            for p, g in zip(trained, gradient, strict=True):
                p.sub_(RATE * g / found[f"the gradient of step {t}"].norm().clamp_min(1.0))
                p.grad = None
        method.after_step(encoder, parts, outcome.kept, progress)
    state = [*encoder.state_dict().values(), *parts.state_dict().values()]
    found["the state at the end"] = torch.cat([x.flatten().double() for x in state])
    return found


def _views(method: Method, t: int, ranks: Ranks) -> Views:
    """A rank's part of the views of batch t, or all of them for a method that mixes samples."""
    images = torch.from_numpy(example_samples("colour 16x16", BATCH * (t + 1)))[-BATCH:]
    plan = method.views(SHAPE)
    own = slice(0, BATCH) if method.mixes_samples else ranks.own(BATCH)
    parameters = draw(plan, BATCH, SHAPE, torch.Generator().manual_seed(t))
    groups = apply(plan, images[own], tuple(p.samples(own) for p in parameters))
    return Views(tuple(groups), tuple(group.role for group in plan.groups), own.stop - own.start, ranks)
