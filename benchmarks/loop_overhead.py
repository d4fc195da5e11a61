"""What the loop costs: SimCLR steps end to end against forward, backward and update alone on views that are ready.

    python benchmarks/loop_overhead.py [--rounds 5] [--seconds 10] [--widths 1 0.25]

CIFAR-10, ResNet-18, batch 256, both in one process, in turn, at the same precision. End to end is `pretrain` itself:
choice of the batch, gather, views, forward, backward, update, ledger, metrics, the loss read each step. Its turns and
those of the bare loop alternate in the middle of its steps, so every measured stretch holds whole steps of one kind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from swell.threads import bind_threads

bind_threads()

from torch import autocast, bfloat16, device, nn  # noqa: E402

from _common import Load, cifar10, claim, write_result  # noqa: E402
from swell.data.source import Provenance, Source  # noqa: E402
from swell.methods import METHODS  # noqa: E402
from swell.methods.registry import Outcome, Views  # noqa: E402
from swell.methods.simclr import SimCLR  # noqa: E402
from swell.recipes import Recipe  # noqa: E402
from swell.training.build import build, resolve  # noqa: E402
from swell.training.loop import Operation, pretrain  # noqa: E402

BATCH = 256
TARGET = 0.85


class Enough(Exception):
    """All rounds are done."""


@METHODS.register("stopped", "simclr that hands over to the benchmark before each loss", "")
@dataclass(frozen=True)
class Stopped(SimCLR):
    turn: ClassVar[Callable[[Views], None]]

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        Stopped.turn(views)
        return super().loss(encoder, parts, views, progress)


class Rounds:
    """Called by the loop with each step's views; measures its steps, and the bare ones in between."""

    def __init__(self, bare: Callable[[Views], None], rounds: int, seconds: float) -> None:
        self.bare, self.rounds, self.seconds = bare, rounds, seconds
        self.rows: list[dict[str, float]] = []
        self.steps = -2  # the first step counts FLOPs, the second warms up
        self.start, self.load = 0.0, Load()

    def __call__(self, views: Views) -> None:
        self.steps += 1
        if self.steps == 0:
            self.start, self.load = time.perf_counter(), Load()
        elapsed = time.perf_counter() - self.start
        if self.steps < 1 or elapsed < self.seconds:
            return
        row = {"end_to_end": BATCH * self.steps / elapsed, **self.load.read()}
        self.rows.append(row | {f"bare_{key}": value for key, value in self._bare(views).items()})
        row = self.rows[-1]
        print(
            f"  end to end {row['end_to_end']:.1f}, bare {row['bare_rate']:.1f} images/s, "
            f"others {row['foreign']:.2f} and {row['bare_foreign']:.2f} cores",
            flush=True,
        )
        if len(self.rows) == self.rounds:
            raise Enough
        self.steps = -1  # the loop's next step warms its caches up again

    def _bare(self, views: Views) -> dict[str, float]:
        self.bare(views)
        start, load, steps = time.perf_counter(), Load(), 0
        while (elapsed := time.perf_counter() - start) < self.seconds:
            self.bare(views)
            steps += 1
        return {"rate": BATCH * steps / elapsed, **load.read()}


def bare_step(recipe: Recipe, real: Source) -> Callable[[Views], None]:
    """Forward, backward and update of a net of its own, on the views it is given."""
    stepper = build(replace(recipe, method="simclr"), real, None, device("cpu"))
    method, encoder, parts, optimizer = stepper.method, stepper.encoder, stepper.parts, stepper.optimizer

    def step(views: Views) -> None:
        with autocast("cpu", bfloat16, enabled=recipe.precision == "bf16"):
            loss = method.loss(encoder, parts, views, 0.5).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(width: float, rounds: int, seconds: float) -> dict[str, Any]:
    real = Source(cifar10("train")[0], Provenance("real", "CIFAR-10"))
    recipe = Recipe(
        method="stopped",
        backbone="resnet18",
        width=width,
        batch_size=BATCH,
        steps=10**6,
        optimizer="sgd",
        learning_rate=0.06,
        method_options={"hidden": 512, "outputs": 128},
    )
    recipe = resolve(recipe, real, device("cpu"))
    turn = Rounds(bare_step(recipe, real), rounds, seconds)
    Stopped.turn = turn
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        pretrain(recipe, real, Path(folder) / "run", operation=Operation(device="cpu", quiet=True))
    ratios = [row["end_to_end"] / row["bare_rate"] for row in turn.rows]
    return {
        "width": width,
        "precision": recipe.precision,
        "rounds": turn.rows,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "end_to_end": statistics.median(row["end_to_end"] for row in turn.rows),
        "bare": statistics.median(row["bare_rate"] for row in turn.rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind (default 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a turn (default 10)")
    parser.add_argument("--widths", type=float, nargs="+", default=[1.0, 0.25], help="of ResNet-18 (default 1 0.25)")
    parser.add_argument("--name", default="loop-overhead", help="name of the result")
    args = parser.parse_args()
    begun, rows = time.perf_counter(), []
    for width in args.widths:
        print(f"width {width:g}", flush=True)
        rows.append(measure(width, args.rounds, args.seconds))
    told = "; ".join(
        f"width {r['width']:g} {r['precision']}: {r['ratio']:.3f} ({r['least']:.3f} to {r['most']:.3f}), "
        f"{r['end_to_end']:.0f} of {r['bare']:.0f} images/s"
        for r in rows
    )
    first = rows[0]["ratios"]
    line = claim(
        "loop end to end over bare steps, SimCLR, ResNet-18, batch 256, CIFAR-10",
        statistics.mean(first),
        statistics.stdev(first) if len(first) > 1 else None,
        len(first),
        time.perf_counter() - begun,
        "",
        told,
    )
    path = write_result(args.name, {"claim": line, "target": TARGET, "rows": rows, "seconds_per_turn": args.seconds})
    print(f"{line}\n{os.path.relpath(path)}")


if __name__ == "__main__":
    main()
