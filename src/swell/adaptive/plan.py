"""How a budget becomes rungs: how many candidates, and how many steps each.

Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) with warm continuation: a rung is twice as long as the
one before and goes on from before its decay, so only decays are paid for twice. The three finalists (the baseline, the
best of real samples only, the best with generated ones) are trained with two seeds, for the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from swell.errors import InputError
from swell.training.optim import Schedule

DECAY = 0.2  # share of a rung
WARMUP = 0.2  # share of the first rung that warm-up may take
FINALISTS, SEEDS = 3, 2
SCORING = 0.1  # share of the budget that is left for scores
PRIORS = 0.15  # and the most that is left for the priors
LEAST, MOST = 4, 16  # candidates
LEAST_STEPS = 10  # of the first rung
FORWARDS = 3  # a training step costs as much as this many forwards of its views


@dataclass(frozen=True)
class Rung:
    """`count` candidates are trained up to `steps` steps."""

    count: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """Rungs of a search before a final run of `final` steps, the last of them with `seeds` seeds."""

    final: int
    rungs: tuple[Rung, ...]
    seeds: int = SEEDS

    @property
    def steps(self) -> int:
        """Steps of training in all, decays that are done once more included."""
        done, total = 0, 0
        for rung in self.rungs:
            total += rung.count * (rung.steps - done)
            done = stable_steps(rung.steps)
        last = self.rungs[-1]
        return total + (self.seeds - 1) * last.count * last.steps

    @property
    def cost(self) -> float:
        """Of its training, in final runs."""
        return self.steps / self.final

    @property
    def scorings(self) -> int:
        return sum(rung.count for rung in self.rungs) + (self.seeds - 1) * self.rungs[-1].count

    @property
    def warmup(self) -> float:
        """The most warm-up there is room for, as a share of the final run."""
        return WARMUP * self.rungs[0].steps / self.final


def stable_steps(steps: int) -> int:
    """Steps of a rung before its decay: what the next rung builds upon."""
    schedule, about = Schedule(0.0, "wsd", DECAY), int((1 - DECAY) * steps)
    near = range(max(about - 1, 0), steps)
    return next((t for t in near if schedule.begins_to_decay(t, steps)), steps)


def counts(candidates: int) -> list[int]:
    """Candidates of each rung: half of them go on, down to three.

    >>> counts(8), counts(16), counts(4), counts(2)
    ([8, 3], [16, 8, 3], [4, 3], [2])
    """
    found = [candidates]
    while found[-1] > FINALISTS:
        half = found[-1] // 2
        found.append(half if half > FINALISTS + 1 else FINALISTS)
    return found


def how_many(budget: float) -> int:
    """Candidates that a budget of so many final runs is for: eight of two runs."""
    return min(max(round(4 * budget), LEAST), MOST)


def plan(budget: float, final: int, most: int, least: int = LEAST, priors: float = 0.0) -> Plan:
    """The plan of a search among `most` candidates whose training and scores stay within `budget` final runs of `final`
    steps, of which a share of `priors` is spent; among fewer, but no fewer than `least`, where its first rung would be
    too short to tell anything.

    Raises:
        InputError: a budget with which nobody could tell candidates apart.
    """
    least, share = min(least, most), 1 - SCORING - priors
    for numbers in [*(counts(number) for number in range(most, least - 1, -1)), [least]]:
        made = _longest(budget * share, final, numbers)
        if made.rungs[0].steps >= LEAST_STEPS:
            return made
    runs = 1.1 * LEAST_STEPS * least * SEEDS / share / final
    given = f"a budget of {budget:g} runs of {final:,} steps for {least} candidates"
    raise InputError(given, f"at least {LEAST_STEPS} steps for each", f"give --budget {runs:.2g}x, or a longer run")


def share_of_priors(flops: float, budget: float, run: float) -> float:
    """The share of the budget, in runs of `run` FLOPs, that priors of `flops` took; `PRIORS` at most. Not by the clock,
    so that a search does the same on any machine.
    """
    return min(flops / (budget * run), PRIORS) if run else 0.0


def _longest(budget: float, final: int, numbers: list[int]) -> Plan:
    def of(last: int) -> Plan:
        steps = [max(last >> (len(numbers) - 1 - r), 1) for r in range(len(numbers))]
        return Plan(final, tuple(Rung(n, s) for n, s in zip(numbers, steps, strict=True)))

    low, high = 1, final  # the search is never longer than what it is for
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if of(middle).cost <= budget else (low, middle - 1)
    return of(low)


def samples_to_score(made: Plan, budget: float, batch: int, views: int, each: int, held_out: int) -> int:
    """Reference samples that the budget's share for scores pays for: between 256 and all of `held_out`.

    `each` forwards of a sample are needed for all its scores.
    """
    forwards = Fraction(SCORING) * Fraction(budget) * made.final * batch * views * FORWARDS
    return min(max(int(forwards / (each * made.scorings)), min(256, held_out)), held_out)
