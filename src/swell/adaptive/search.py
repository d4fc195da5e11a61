"""Adaptive inflation: whether, how much and with how weak views to inflate, decided from unlabelled data alone.

    hold out a reference -> generator and samples -> priors -> candidates -> rungs of short runs -> choice -> final run

The reference's samples are seen by neither generator nor candidates; the final run trains on all samples again. Every
candidate is a RUN in OUT/adapt that can be looked at, evaluated and compared. A kill at any moment loses the work since
the last checkpoint of the run it met.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from swell.adaptive.candidates import BASELINE, Candidate, candidates
from swell.adaptive.choose import Choice, Row, choose, rank, survivors, veto
from swell.adaptive.damage import damages, refuse_changed
from swell.adaptive.inflation import (
    Inflating,
    copies_veto,
    first_of,
    generator_ledger,
    make_samples,
    priors_of,
)
from swell.adaptive.plan import DECAY, PRIORS, Plan, how_many, plan, samples_to_score, share_of_priors
from swell.adaptive.priors import StrengthPrior, WeightPrior
from swell.adaptive.state import State
from swell.console import say, warn
from swell.data.gen import open_gen
from swell.data.source import Source
from swell.devices import pick_device
from swell.errors import InputError
from swell.evaluation.reference import Reference, clean_features
from swell.evaluation.scores import learnability, scores
from swell.ledger import Cost, Ledger, flops_a_sample, read_ledger, timed
from swell.recipes import Recipe
from swell.run import load_encoder
from swell.training.build import build, resolve, steps_of
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.rungs import decay_cost, extend
from swell.training.watchdog import Diverged
from swell.views.plan import ViewPlan

PACE_STEPS = 5  # timed ones, to turn minutes into steps
PRETEXT = 3  # forwards of a sample that a pretext task takes
EVERY_GENERATED = "Every candidate with generated samples"


@dataclass(frozen=True)
class Budget:
    """What the search may cost: `runs` final runs, or `minutes`."""

    runs: float | None = None
    minutes: float | None = None

    @classmethod
    def read(cls, text: str | float) -> Budget:
        """
        >>> Budget.read("2x"), Budget.read("90m")
        (Budget(runs=2.0, minutes=None), Budget(runs=None, minutes=90.0))
        """
        word = str(text).strip().lower().removesuffix("in")
        unit, number = word[-1:], word[:-1]
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if unit not in ("x", "m") or not 0 < value < 1e6:
            raise InputError(f"--budget {text}", "final runs, like 2x, or minutes, like 90m", "2x is usual")
        return cls(runs=value) if unit == "x" else cls(minutes=value)


@dataclass
class Search:
    """One search; `run` carries it out, or on. `recipe` is the final run's, resolved on all of `real`."""

    recipe: Recipe
    real: Source  # all samples, without labels
    out: Path
    how: Inflating
    budget: Budget
    operation: Operation
    state: State
    reference: Reference = field(init=False)
    rest: Source = field(init=False)
    made: Source | None = field(init=False, default=None)
    tried: list[Candidate] = field(init=False, default_factory=list)
    plan: Plan = field(init=False)
    scored: Reference = field(init=False)  # the part of the reference that scores are of

    def __post_init__(self) -> None:
        self.reference, self.rest = Reference.of(self.real, seed=self.recipe.seed)
        self.device = pick_device(self.operation.device)

    @property
    def folder(self) -> Path:
        return self.out / "adapt"

    @property
    def gen(self) -> Path:
        return self.out / "generated"

    # ---- before anything is trained ----------------------------------------------------------------------

    def run(self) -> Choice:
        """Raises InputError for data, a generator or a budget that do not do, and where no candidate trains."""
        self.state.once("held_out", lambda: len(self.reference))
        self.reference.save(self.folder / "reference.safetensors")  # again, as nobody reads whether it is still whole
        self._tell_damages()
        pace = self.state.once("pace", self._pace)
        runs = self.budget.runs or 60 * (self.budget.minutes or 0) / (pace["steps"] * pace["seconds"])
        # Says that a budget is too small before a generator is trained, however dear its priors will be.
        plan(runs, pace["steps"], how_many(runs), priors=PRIORS)
        self.state.once("priors", self._priors)
        self.made = open_gen(self.gen).unlabelled()
        refuse_changed(self.gen, self.folder / "generated.json")
        copies = self.state.once("copies", lambda: copies_veto(self.rest, self.reference, self.gen))
        if copies:
            warn(f"{copies}: candidates with generated samples are left out")
        wanted = self._candidates(how_many(runs), 0 if copies else len(self.made))
        fixed = self._candidates(0, 0 if copies else len(self.made))
        share = share_of_priors(self.state.found["priors"]["cost"]["flops"], runs, pace["steps"] * pace.get("flops", 0))
        self.plan = plan(runs, pace["steps"], len(wanted), len(fixed), share)
        self.tried = wanted[: self.plan.rungs[0].count]
        self.scored = self.reference.first(self._rows(runs))
        self.state.once("plan", lambda: self._describe(runs))
        if not self.operation.quiet:
            told = ", ".join(f"{rung.count} for {rung.steps:,} steps" for rung in self.plan.rungs)
            say(f"searching among {len(self.tried)} candidates ({told}) at {self.plan.cost:.2f} final runs")
        return self._rungs()

    def _tell_damages(self) -> None:
        """Say what is no longer whole of candidates that are done: their scores are known, nothing is trained again."""
        for key, rungs in self.state.found.get("results", {}).items():
            last = rungs[max(rungs, key=int)]
            for what in [] if last["failed"] else damages(self.folder / key, last["steps"]):
                warn(f"{what}: the search goes on without it")

    def _priors(self) -> dict[str, Any]:
        """Make the samples, and ask what theory says of them."""
        given = self.rest, self.reference, self.gen
        seed, quiet = self.recipe.seed, self.operation.quiet
        amount, cost = make_samples(*given, self.how, self.views, seed, quiet)
        priors, more = priors_of(*given, amount, self.views, seed)
        cost.add(more)
        return priors.to_dict() | {"cost": asdict(cost)}

    @property
    def views(self) -> ViewPlan:
        assert isinstance(self.recipe.views, ViewPlan)  # resolved
        return self.recipe.views

    def _pace(self) -> dict[str, float]:
        """Steps of the final run, FLOPs of one, and its seconds: measured where a budget is in minutes."""
        steps = steps_of(self.recipe, self.real, None, self.device)
        bare = replace(self.recipe, generator_positives="none", positives="", phases=())
        stepper = build(bare, self.rest, None, self.device)
        _, cost = stepper.measured(0, 0.0)
        found = {"steps": steps or 1, "seconds": 0.0, "flops": cost.flops}
        if self.recipe.minutes is not None or self.budget.minutes is not None:
            stepper(1, 0.0)  # the first one also compiles and fills caches
            start = time.perf_counter()
            for t in range(2, PACE_STEPS + 2):
                stepper(t, 0.5)[0].item()
            found["seconds"] = (time.perf_counter() - start) / PACE_STEPS
            found["steps"] = steps or max(int(60 * (self.recipe.minutes or 0) / found["seconds"]), 1)
        return found

    def _candidates(self, limit: int, amount: int) -> list[Candidate]:
        found = self.state.found["priors"]
        weight, strengths = WeightPrior(**found["weight"]), [StrengthPrior(**found[k]) for k in ("table", "overlap")]
        return list(candidates(limit, amount, weight, strengths))

    def _rows(self, runs: float) -> int:
        batch = self.recipe.batch_size
        assert batch is not None
        each = 1 + self.reference.q + PRETEXT
        return samples_to_score(self.plan, runs, batch, self.views.count, each, len(self.reference))

    def _describe(self, runs: float) -> dict[str, Any]:
        return {
            "budget_runs": runs,
            "final_steps": self.plan.final,
            "rungs": [asdict(rung) for rung in self.plan.rungs],
            "seeds": self.plan.seeds,
            "cost_runs": self.plan.cost,
            "candidates": [asdict(one) for one in self.tried],
            "held_out": len(self.reference),
            "scored": len(self.scored),
            "trained_on": len(self.rest),
        }

    # ---- rungs -------------------------------------------------------------------------------------------

    def _rungs(self) -> Choice:
        by_name = {one.name: one for one in self.tried}
        generated = {one.name for one in self.tried if one.generated}
        strengths = {one.name: one.strength for one in self.tried}
        alive, vetoed, agreed = list(by_name), dict[str, str](), []
        for number, rung in enumerate(self.plan.rungs):
            last = number == len(self.plan.rungs) - 1
            seeds = range(self.plan.seeds if last else 1)
            rows: dict[str, Row] = {}
            for name in alive[: rung.count]:
                for seed in seeds:
                    key, result = run_name(name, seed), self._trained(by_name[name], number, seed)
                    if result["failed"]:
                        vetoed[name] = result["failed"]
                    else:
                        rows[key] = result["scores"]
            vetoed |= {key_name(key): why for key, row in rows.items() if (why := veto(row))}
            rows = self._with_learnability({k: row for k, row in rows.items() if key_name(k) not in vetoed}, number)
            if last:
                break
            ranked = rank(rows) if rows else None
            places, agreement = (ranked.places, ranked.agreement) if ranked else ({}, 1.0)
            agreed.append(agreement)
            alive = survivors(places, self.plan.rungs[number + 1].count, generated, strengths, BASELINE)
            kept = {"places": places, "kept": alive, "vetoed": vetoed, "agreement": agreement}
            self.state.keep(f"rung{number + 1}", kept)
        table: dict[str, list[Row]] = {name: [] for name in alive}
        for key, row in rows.items():
            table[key_name(key)].append(row)
        copies = {EVERY_GENERATED: copies} if (copies := self.state.found["copies"]) else {}
        left = {name: found for name, found in table.items() if found}
        choice = choose(left, generated=generated, vetoed=copies | vetoed, earlier=agreed)
        self.state.keep("choice", asdict(choice))
        return choice

    def _trained(self, one: Candidate, number: int, seed: int) -> dict[str, Any]:
        """The candidate at the end of rung `number`: its scores, what it cost, or why it failed."""
        key = run_name(one.name, seed)
        known: dict[str, Any] = self.state.found.get("results", {})
        mine = known.get(key, {})
        if str(number) in mine:
            return {**mine[str(number)], "scores": _numbers(mine[str(number)]["scores"])}
        out, steps = self.folder / key, self.plan.rungs[number].steps
        if number > 0 and seed == 0 and (out / "recipe.toml").exists():
            extend(out, steps)
        if not self.operation.quiet:
            say(f"rung {number + 1} of {len(self.plan.rungs)}: {key}, {one.words}, to step {steps:,}")
        result: dict[str, Any] = {"failed": "", "scores": {}, "steps": steps}
        generated = first_of(self.made, one.amount) if self.made is not None and one.generated else None
        scoring = Cost()
        try:
            pretrain(self.recipe_of(one, steps, seed), self.rest, out, generated, replace(self.operation, resume=True))
        except Diverged as error:
            result["failed"] = f"diverged: {error}"
            result["cost"], result["decay"] = asdict(_spent(out)), asdict(Cost())
        else:
            result["cost"] = asdict(read_ledger(out / "ledger.json").pretraining)
            result["decay"] = asdict(decay_cost(out))
            with timed(scoring):
                encoder = load_encoder(out).to(self.device)
                result["scores"] = scores(encoder, self.scored)
            scoring.forwards = len(self.scored) * (1 + self.scored.q + PRETEXT)
            scoring.flops = scoring.forwards * flops_a_sample(partial(clean_features, encoder), self.scored.samples)
        result["scoring"] = asdict(scoring)
        self.state.keep("results", {**known, key: {**mine, str(number): result}})
        return result

    def recipe_of(self, one: Candidate, steps: int, seed: int) -> Recipe:
        """The recipe of a candidate's run. What trains a generator in turn is trained on hand-made views alone."""
        base, budget = self.recipe, dict.fromkeys(("epochs", "minutes", "patches", "flops"))
        return replace(
            base,
            **budget,  # type: ignore[arg-type]  # all None
            steps=steps,
            schedule="wsd",
            decay=DECAY,
            horizon=self.plan.final,
            warmup=min(base.warmup or 0.0, self.plan.warmup),
            weight=one.weight,
            strength=one.strength,
            seed=(base.seed + seed) % 2**63,
            generator_positives="none",
            phases=(),
            positives=base.positives if base.positives == "neighbours" else "",
            replace=base.replace if base.positives == "neighbours" else 1.0,
        )

    def _with_learnability(self, rows: Mapping[str, Row], number: int) -> dict[str, Row]:
        """The rows of a rung with what its encoders say of one another; asked for once all of them are there."""
        name = f"learnability{number + 1}"
        if len(rows) < 2:
            return dict(rows)
        if name not in self.state.found:
            cost = Cost(forwards=len(self.scored) * len(rows))
            with timed(cost):
                features = {key: self._features(key) for key in rows}
                found = learnability(features)
            self.state.keep(name, {"scores": found, "cost": asdict(cost)})
        found = _numbers(self.state.found[name]["scores"])
        return {key: {**row, "learnability": found[key]} for key, row in rows.items()}

    def _features(self, key: str) -> torch.Tensor:
        return clean_features(load_encoder(self.folder / key).to(self.device), self.scored.samples).cpu()

    # ---- what it cost, and the run it was for ------------------------------------------------------------

    @property
    def cost(self) -> Cost:
        """Of the search: all training, decays that were done again included, scores and priors."""
        found, total = self.state.found, Cost()
        for by_rung in found.get("results", {}).values():
            *earlier, last = by_rung.values()
            total.add(Cost(**last["cost"]))
            for result in earlier:
                total.add(Cost(**result["decay"]))
            for result in by_rung.values():
                total.add(Cost(**result["scoring"]))
        for name in ("priors", *(f"learnability{i + 1}" for i in range(len(self.plan.rungs)))):
            if name in found:
                total.add(Cost(**found[name]["cost"]))
        return total

    def final(self, choice: Choice) -> tuple[Recipe, Source | None, Ledger]:
        """What the final run takes: recipe, generated samples, and the ledger of all that went before."""
        one = next(one for one in self.tried if one.name == choice.name)
        generated = first_of(self.made, one.amount) if self.made is not None and one.generated else None
        ledger = generator_ledger(self.gen)
        ledger.search = self.cost
        return replace(self.recipe, weight=one.weight, strength=one.strength), generated, ledger


def run_name(name: str, seed: int) -> str:
    """The folder of a candidate's run in OUT/adapt."""
    return name if seed == 0 else f"{name}.seed{seed}"


def key_name(key: str) -> str:
    return key.partition(".seed")[0]


def resolved(recipe: Recipe, real: Source, device: str) -> Recipe:
    """The final run's recipe with everything filled in, so that candidates differ from it in what is searched only."""
    return resolve(recipe, real, pick_device(device))


def _numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    """Scores as JSON holds them: what is no number is null there."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def _spent(out: Path) -> Cost:
    """What a run that broke off had cost by its last logged step, as far as that tells."""
    logged = read_metrics(out)
    if not logged:
        return Cost()
    end = logged[-1]
    return Cost(seconds=end["seconds"], samples_real=end["samples_real"], samples_generated=end["samples_generated"])
