"""An arm of the race: `swell.pretrain` whole, as the command line starts it.

The run is real: batches, views, metrics, ledger, a checkpoint every minute. The method below is the race's with a stop
between its steps; that is the only thing put in. With `--minutes` nothing is put in: the preset for short budgets and
its views, trained for so long, with the heads all arms share; or with `--as-peer` the batch, views and rate that lightly
is given, which leaves nothing but the tool's speed to tell them apart.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pace import Finished, Pace
from setting import LIGHTLY_RATE, METHODS, Setting, arguments

from swell.threads import bind_threads

if TYPE_CHECKING:
    from swell.recipes import Recipe


def as_peer(args: argparse.Namespace, setting: Setting) -> Recipe:
    """What lightly is given, in Swell's words."""
    from swell.recipes import Recipe
    from swell.views import ViewGroup, ViewPlan

    colour = vars(setting.colour)
    groups = [ViewGroup(interpolation="bilinear", blur_p=0.0, solarise_p=p, **colour) for p in setting.solarise]
    also = {"simclr": {"norm": True}, "swav": {"queue_start": 1.0, "freeze": 0.0}}  # as lightly's heads and queue are
    return Recipe(
        method=args.method,
        method_options={**setting.heads, **also.get(args.method, {})},
        backbone="resnet18",
        batch_size=args.batch,
        optimizer="sgd",
        learning_rate=LIGHTLY_RATE * args.batch / 256,
        momentum=0.9,
        weight_decay=5e-4,
        warmup=0.0,
        views=ViewPlan(tuple(groups)),
        precision="fp32" if args.fp32 else "auto",
        compile=args.compile,
    )


def for_turns(pace: Pace, args: argparse.Namespace, setting: Setting) -> None:
    from torch import nn

    import swell
    from swell.methods import METHODS as OURS
    from swell.methods.registry import Outcome, Views

    base = OURS[args.method]

    @OURS.register("paced", "a method with a stop between its steps", "")
    @dataclass(frozen=True)
    class Paced(base):  # type: ignore[misc, valid-type]
        networks: ClassVar[list[nn.Module]] = []

        def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
            # A whole step lies between two calls: loss, backward, update, records, next batch, its views.
            if self.networks:
                pace.step(views.batch)
            self.networks.append(encoder)
            del self.networks[:-1]
            return super().loss(encoder, parts, views, progress)

    recipe = replace(as_peer(args, setting), method="paced").with_budget(steps=10**6)
    with tempfile.TemporaryDirectory() as folder, suppress(Finished):
        swell.pretrain(args.images, out=Path(folder) / "run", recipe=recipe, seed=args.seed, quiet=True)
    close(pace, Paced.networks[-1])


def at_one_go(pace: Pace, args: argparse.Namespace, setting: Setting) -> None:
    import numpy as np

    import swell

    heads = {key: value for key, value in setting.heads.items() if key in ("hidden", "outputs")}
    recipe = swell.Recipe(
        method=args.method,
        preset="short",
        method_options=heads,
        backbone="resnet18",
        precision="fp32" if args.fp32 else "auto",
    )
    recipe = (as_peer(args, setting) if args.as_peer else recipe).with_budget(minutes=args.minutes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = swell.pretrain(args.images, out=out, recipe=recipe, seed=args.seed, quiet=True, report=False)
        parts = {name: run.encode(np.load(path)) for name, path in (("train", args.images), ("test", args.test))}
        np.savez(args.out, **parts)
        samples = run.ledger.pretraining.samples_real
    pace.report(samples=samples)


def close(pace: Pace, encoder: object) -> None:
    """The last report: size and work of the net, so that the race can check that all nets are the same one."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    network = getattr(encoder, "_orig_mod", encoder)
    assert isinstance(network, nn.Module)
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    parameters = sum(p.numel() for p in network.parameters())
    pace.report(parameters=parameters, forward_flops=counter.get_total_flops())


def main() -> None:
    pace, args = Pace(), arguments(str(__doc__))
    bind_threads()  # as the command line does, before torch is imported
    (at_one_go if args.minutes else for_turns)(pace, args, METHODS[args.method])


if __name__ == "__main__":
    main()
