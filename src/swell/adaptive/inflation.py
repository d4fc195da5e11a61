"""The generated samples that the candidates share, and what is known of them before any of those is trained.

They are made from the real samples without the reference's. Their number doubles until more of them change nothing
(amount.py); a generator that copies is noticed here, and nothing is trained on what it made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from swell.adaptive.amount import Amount, enough, most_samples
from swell.adaptive.divergence import Divergence, divergence
from swell.adaptive.overlap import overlap_strength
from swell.adaptive.priors import StrengthPrior, WeightPrior, strength_prior, weight_prior
from swell.data.gen import is_gen, open_gen, read_manifest
from swell.data.source import Source
from swell.evaluation.reference import Reference
from swell.files import read_json
from swell.generators.generate import generate
from swell.generators.neighbours import exact_copies
from swell.generators.quality import POOR
from swell.generators.reference import Reference as Judge
from swell.generators.work import read_piece
from swell.ledger import Cost, Ledger, flops_a_sample, timed
from swell.views.plan import ViewPlan

FIRST = 4  # generated samples for each real one, to begin with
ROWS = 5000  # of the generated samples that are searched for copies
FEWEST = 2500  # generated samples to begin with, where few real ones are no reason to make fewer


@dataclass(frozen=True)
class Inflating:
    """What to make samples with; `count` None makes as many as are of use."""

    generator: str = "diffusion"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class Priors:
    """What theory and measurement say before anything is trained."""

    divergence: Divergence
    weight: WeightPrior
    table: StrengthPrior  # by the published optima
    overlap: StrengthPrior  # by views that overlap as much as without generated samples
    amount: Amount

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_samples(
    real: Source, reference: Reference, out: Path, how: Inflating, plan: ViewPlan, seed: int, quiet: bool
) -> tuple[Amount, Cost]:
    """Leave the GEN folder `out`; what is there already is kept. Returns whether it is enough, and what asking cost."""
    most = most_samples(len(real)) if how.count is None else how.count
    count = min(max(FIRST * len(real), FEWEST), most) if how.count is None else how.count
    if is_gen(out):  # of a search that was interrupted
        count = max(count, read_manifest(out)["settings"]["count"])
    budget: dict[str, Any] = {"steps": how.steps, "minutes": how.minutes}
    made: Source

    def make(number: int) -> None:
        nonlocal made
        generate(real, out, generator=how.generator, count=number, seed=seed, quiet=quiet, **budget, **how.options)
        made = open_gen(out)

    making, cost = Cost(), Cost()
    make(count)
    judge = _Counted(judge_of(out))

    def draw(number: int, start: int) -> Any:
        while start + number > len(made):
            with timed(making):
                make(min(2 * len(made), most))
        return made.samples[start : start + number]

    first = min(len(real), max(count // 2, 1))
    with timed(cost):
        found = enough(
            draw, real.samples, reference.samples, judge.features, plan, first=first, most=max(most, count), seed=seed
        )
    cost.seconds -= making.seconds
    judge.add_to(cost)
    return found, cost


@dataclass
class _Counted:
    """A reference encoder that counts what it encodes."""

    judge: Judge
    samples: int = 0
    flops: float = 0.0

    def features(self, samples: np.ndarray) -> Tensor:
        self.samples += len(samples)
        self.flops = self.flops or flops_a_sample(self.judge.features, samples)
        return self.judge.features(samples)

    def add_to(self, cost: Cost) -> None:
        cost.forwards += self.samples
        cost.flops += self.samples * self.flops


def judge_of(gen: Path) -> Judge:
    """The reference encoder of a GEN folder, which has seen real samples only."""
    return Judge.from_tensors(read_piece(gen / "reference.safetensors"))


def priors_of(
    real: Source, reference: Reference, gen: Path, amount: Amount, plan: ViewPlan, seed: int
) -> tuple[Priors, Cost]:
    """The priors for the samples in `gen`; `plan` is that of the views at full strength."""
    made, judge, cost = open_gen(gen), _Counted(judge_of(gen)), Cost()
    with timed(cost):
        distance = divergence(reference.samples, made.samples, judge.features, seed)
        n, m = len(real), len(made)
        weight = weight_prior(distance.value, n, m)
        table = strength_prior(n, m, weight.weight)
        overlap = overlap_strength(real.samples, made.samples, judge.features, plan, weight.weight, seed=seed)
    judge.add_to(cost)
    return Priors(distance, weight, table, overlap, amount), cost


def copies_veto(real: Source, reference: Reference, gen: Path) -> str:
    """Why nothing may be trained on the samples in `gen`: they are copies. Nothing if they are not."""
    quality = read_json(gen / "quality.json")
    if quality["copy_excess"] >= POOR["copy_excess"]:
        return (
            "the generator copies: its samples lie suspiciously close to training samples "
            f"{quality['copy_excess']:.1f} times as often as unseen real ones do"
        )
    if quality["exact_copies"] > POOR["exact_copies"]:
        twins = exact_copies(np.asarray(reference.samples[:]), np.asarray(real.samples[:]))  # real sets hold twins too
        if quality["exact_copies"] - twins > POOR["exact_copies"]:
            return f"the generator copies: {100 * quality['exact_copies']:.0f} % of its samples equal a training sample"
    return ""


def first_of(made: Source, amount: int) -> Source:
    """The first `amount` samples; the same object where that is all, with its fingerprint."""
    return made if amount >= len(made) else made.subset(np.arange(amount))


def generator_ledger(gen: Path) -> Ledger:
    """What making the samples cost."""
    stored = read_json(gen / "ledger.json")
    return Ledger.from_dict({name: value for name, value in stored.items() if name != "total"})
