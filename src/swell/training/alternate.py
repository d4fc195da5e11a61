"""Alternating training: the encoder by the one loop, a generator on its codes, the encoder on what that makes.

    encoder, hand-made views -> generator -> positives on disk -> encoder, some positives replaced -> generator -> ...

DiffAug (Zang et al. 2024) calls it expectation maximisation; it is alternation, and may go wrong. So the encoder is
measured at every switch (stability.py); where a phase with replaced positives has broken it, the run goes back to what
it was before the phase and repeats the phase with hand-made views. The encoder's steps, its optimiser and its schedule
run on over all phases, as if nothing came between them. A run that was killed at any moment goes on where it stopped:

    checkpoint.pt   encoder, optimiser, ledger, and how many phases have ended (`Position`)
    good.pt         the checkpoint from before the present encoder phase, to go back to
    phase-02/       a generator phase: generator.safetensors, once it is trained; codes.npy, what it was told of every
                    sample; positives/, once they are made
    phases.jsonl    what has ended, and what was measured then

Of several ranks all train the encoder, as ever. The first alone trains the generator, while the others wait; it holds
the positives and hands those of each batch out; it measures, and decides whether to go back.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from swell.console import warn
from swell.data.partners import Neighbours, OfFirst, Partners
from swell.data.source import Source
from swell.errors import InputError, suggest
from swell.files import atomic_path, read_json, write_json
from swell.generators import GENERATORS
from swell.generators.base import BlockGenerator, no_positives
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.positives import OnlinePositives, PositiveCache, make_positives
from swell.generators.registry import FEWEST_SAMPLES, Generator
from swell.ledger import Cost, Ledger, timed
from swell.nets.encoder import Encoder
from swell.ranks import Ranks
from swell.recipes import Recipe
from swell.seeding import generator_for, seed_for
from swell.training.phases import Phase, PhaseLog, read_phase_log, read_phases, windows
from swell.training.stability import (
    drift,
    effective_rank,
    encoder_alarm,
    feature_spread,
    moved,
    positive_distances,
    positives_alarm,
    watched_rows,
)
from swell.training.step import Stepper
from swell.training.watchdog import Diverged

LEARNT_BYTES = 1 << 30  # of dense samples that a generator learns from; of more, a fixed random part
ONLINE_LOOKS = 2  # positives of each watched sample, where none are kept

Scores = Callable[[Tensor], Mapping[str, float]]  # features [n, F] -> label-free scores, for the log


@dataclass
class Position:
    """Where alternating training stands; a part of the run's checkpoint."""

    ended: int = 0  # phases
    attempt: int = 1  # at the present phase: 2 after going back
    step: int = 0  # of the run, when the present phase began
    seconds: float = 0.0
    replaced: float = 0.0
    undone: int = 0  # steps that were gone back from, in all


class State(Protocol):
    """What the loop counts; see `swell.training.loop`."""

    step: int
    seconds: float
    replaced: float
    position: Position


@dataclass(frozen=True)
class Session:
    """The run as its loop shows it to the driver."""

    recipe: Recipe
    real: Source
    out: Path
    stepper: Stepper
    state: State
    ledger: Ledger
    train_to: Callable[[float], None]  # trains the encoder until that share of its budget is used up
    save: Callable[[], None]  # writes checkpoint.pt
    go_back: Callable[[Path], None]  # puts stepper and state, not the ledger, where that checkpoint was saved
    scores: Scores | None = None
    quiet: bool = False

    @property
    def ranks(self) -> Ranks:
        return self.stepper.ranks


def alternate(session: Session) -> None:
    """Carry out the phases of the recipe that have not ended yet.

    Raises:
        InputError: a generator that cannot learn these data or has no positives.
        Diverged: a loss that is not finite, in a phase on hand-made views.
    """
    phases = read_phases(session.recipe.phases)
    state, log = session.state, PhaseLog(session.out)
    rows = watched_rows(len(session.real))
    while state.position.ended < len(phases):
        position = state.position
        phase = phases[position.ended]
        head = {"phase": position.ended + 1, "attempt": position.attempt}
        if phase.trains == "encoder":
            record = _encoder_phase(session, phases, rows)
        elif session.ranks.first:
            record = _generator_phase(session, phase, head["phase"], rows)
        else:
            record = {"alarm": ""}
        if session.ranks.first:
            log.write(phase, {**head, **record})
        if record["alarm"]:
            warn(f"phase {head['phase']}: {record['alarm']}")
        if record.get("rolled_back"):
            warn(f"phase {head['phase']}: back to the encoder from before it; it is repeated with hand-made views")
            undone = position.undone + int(record["steps_done"])
            session.go_back(session.out / "good.pt")
            state.position.attempt, state.position.undone = 2, undone
        else:
            state.position = Position(position.ended + 1, 1, state.step, state.seconds, state.replaced, position.undone)
        session.save()
        if session.ranks.first:
            _forget_superseded(session.out, phases, state.position.ended)
    if session.ranks.first:
        for name in ("good.pt", "watched.npy"):
            (session.out / name).unlink(missing_ok=True)


def _forget_superseded(out: Path, phases: tuple[Phase, ...], ended: int) -> None:
    """Remove positives that a later generator phase has replaced: no way back leads to them."""
    made = [i + 1 for i in range(ended) if phases[i].trains == "generator"]
    for number in made[:-1]:
        shutil.rmtree(_folder(out, number) / "positives", ignore_errors=True)


# ---- the encoder -----------------------------------------------------------------------------------------


def _encoder_phase(session: Session, phases: tuple[Phase, ...], rows: Tensor) -> dict[str, Any]:
    """Train the encoder through one phase, measure it, and say whether to go back."""
    state, stepper, position, ranks = session.state, session.stepper, session.state.position, session.ranks
    index, watched = position.ended, session.out / "watched.npy"
    phase, (start, end) = phases[index], windows(phases)[index]
    if position.attempt == 1 and state.step == position.step:  # nothing of this phase has been done
        session.save()
        if ranks.first:
            with atomic_path(session.out / "good.pt") as temporary:
                shutil.copyfile(session.out / "checkpoint.pt", temporary)
            with atomic_path(watched) as temporary, temporary.open("wb") as file:
                np.save(file, _features(session, rows).numpy(), allow_pickle=False)
    partners = None if position.attempt > 1 else _partners(session, phases, index)
    stepper.partners = partners
    stepper.replace = lambda progress: phase.replaced((progress - start) / (end - start)) if partners else 0.0
    alarm = ""
    try:
        session.train_to(end)
    except Diverged as error:
        if partners is None or not session.recipe.roll_back:
            raise
        alarm = f"the loss is not finite any more ({error})"
    made = partners.partners if isinstance(partners, OfFirst) else partners
    if isinstance(made, OnlinePositives):  # within the encoder's steps, but not of them
        session.ledger.sampling.add(made.cost)
        session.ledger.pretraining.seconds -= made.cost.seconds
    steps = state.step - position.step
    record: dict[str, Any] = {
        "steps_done": steps,
        "seconds": round(state.seconds - position.seconds, 3),
        "replaced": (state.replaced - position.replaced) / max(steps, 1),
    }
    if not alarm and ranks.first:
        features = _features(session, rows)
        scores = session.scores(features) if session.scores else {}
        record |= {
            "effective_rank": effective_rank(features),
            "spread": feature_spread(features),
            "drift": drift(torch.from_numpy(np.load(watched, allow_pickle=False)), features),
            "scores": dict(scores),
        }
        alarm = encoder_alarm(record, _last_good(session.out, index))
    back = bool(ranks.of_first(bool(alarm))) and partners is not None and session.recipe.roll_back
    return {**record, "alarm": alarm, "rolled_back": back}


def _last_good(out: Path, ended: int) -> dict[str, Any] | None:
    """What was logged of the last encoder phase among the first `ended` that nothing was wrong with."""
    lines = [line for line in read_phase_log(out) if line["phase"] <= ended and line["trains"] == "encoder"]
    return next((line for line in reversed(lines) if not line["alarm"]), None)


def _partners(session: Session, phases: tuple[Phase, ...], index: int) -> Partners | None:
    """Where phase `index` takes its positives from."""
    phase, stepper = phases[index], session.stepper
    if phase.positives == "views":
        return None
    if phase.positives == "neighbours":
        if stepper.neighbours is None:
            stepper.neighbours = near = Neighbours(session.real, device=stepper.device, held=stepper.real)
            session.ledger.pretraining.seconds += near.seconds
        return stepper.neighbours
    number = max(i for i in range(index) if phases[i].trains == "generator") + 1
    made = _positives(session, number) if session.ranks.first else None
    return made if session.ranks.count == 1 else OfFirst(made, session.real, session.ranks)


def _features(session: Session, rows: Tensor) -> Tensor:
    """Features of the watched samples, [n, F]; what looking costs is evaluation."""
    with timed(session.ledger.evaluation):
        features = session.stepper.encoder.encode(session.real.samples[rows.numpy()])
    session.ledger.evaluation.forwards += len(rows)
    return torch.from_numpy(features)


# ---- the generator ---------------------------------------------------------------------------------------


def _folder(out: Path, number: int) -> Path:
    return out / f"phase-{number:02d}"


def make_generator(recipe: Recipe, device: str = "auto") -> Generator | ConditionalDiffusion:
    """The generator that the recipe wants positives from, not fitted.

    Raises:
        InputError: no such generator, or an option that it does not have.
    """
    name = recipe.generator_positives
    kinds: dict[str, Any] = {"conditional": ConditionalDiffusion, **{entry.name: entry.make for entry in GENERATORS}}
    if name not in kinds:
        raise InputError(f"--generator-positives {name}", "a known generator, or none", suggest(name, kinds))
    known = signature(kinds[name]).parameters
    for option in recipe.generator_options:
        if option not in known:
            raise InputError(f"option {option!r} of generator {name}", "a known option", suggest(option, known))
    if getattr(kinds[name], "_vary", None) is BlockGenerator._vary:
        raise no_positives(name)
    given = {"device": device} if "device" in known else {}
    made: Generator | ConditionalDiffusion = kinds[name](**{**recipe.generator_options, **given})
    return made


def check_alternation(recipe: Recipe, real: Source) -> None:
    """Raises InputError for what would stop a run with phases at its first generator."""
    if not recipe.phases:
        return
    if any(phase.trains == "generator" for phase in read_phases(recipe.phases)):
        make_generator(recipe, "cpu")
    if len(real) < FEWEST_SAMPLES:
        raise InputError(f"{len(real)} samples to learn a generator from", f"at least {FEWEST_SAMPLES}")


def _generator_phase(session: Session, phase: Phase, number: int, rows: Tensor) -> dict[str, Any]:
    """Train a generator on the codes of the encoder as it is, and make k positives of every sample."""
    recipe, real, ledger, encoder = session.recipe, session.real, session.ledger, session.stepper.encoder
    folder, training = _folder(session.out, number), Cost(forwards=len(real))
    folder.mkdir(exist_ok=True)
    with timed(training):
        codes = encoder.encode(real.samples)
    generator = _fitted(session, phase, folder, codes)
    training.add(Cost(**read_json(folder / "training.json")))
    with atomic_path(folder / "codes.npy") as temporary, temporary.open("wb") as file:
        np.save(file, codes, allow_pickle=False)
    partners = _positives(session, number, generator)
    sampling = Cost(**vars(partners.cost))
    made = _looked_at(partners, rows)  # [n, k, ...]
    ledger.generator_training.add(training)
    ledger.sampling.add(partners.cost)
    anchors, seen = torch.from_numpy(codes[rows.numpy()]), _encoded(session, made)  # [n, F], [k, n, F]
    samples = torch.from_numpy(np.asarray(real.samples[rows.numpy()])).flatten(1).float()
    in_code = positive_distances(anchors, seen)
    drifted = None
    for earlier in (_folder(session.out, i) / "positives" for i in range(1, number)):
        if earlier.exists():
            before = _looked_at(PositiveCache.open(earlier, real), rows)
            drifted = moved(_encoded(session, before), seen, anchors)
    return {
        "parameters": generator.parameters,
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "seconds": round(training.seconds, 3),
        "sampling_seconds": round(sampling.seconds, 3),
        "seconds_per_1000": 1000 * sampling.seconds / max(sampling.samples_generated, 1),
        "of_each": recipe.positive_count,
        "in_code": in_code,
        "in_data": positive_distances(samples, made.transpose(0, 1).flatten(2).float()),
        "drift": drifted,
        "alarm": positives_alarm(in_code),
    }


def _positives(
    session: Session, number: int, generator: Generator | ConditionalDiffusion | None = None
) -> PositiveCache | OnlinePositives:
    """The positives of generator phase `number`: those on disk, made now where a fitted `generator` is given; with a
    positive_count of 0, new ones at every draw."""
    recipe, real, folder = session.recipe, session.real, _folder(session.out, number)
    if recipe.positive_count and generator is None:
        return PositiveCache.open(folder / "positives", real)
    if generator is None:
        blank = make_generator(recipe, session.stepper.device.type)
        generator = type(blank).load(folder / "generator.safetensors", session.stepper.device.type)
    told = isinstance(generator, ConditionalDiffusion)
    codes = np.load(folder / "codes.npy", allow_pickle=False) if told else None
    strength = recipe.positive_strength
    assert strength is not None  # with_phases() has filled it in
    if not recipe.positive_count:
        return OnlinePositives(real, generator, codes, strength=strength)
    return make_positives(
        folder / "positives",
        real,
        generator,
        codes,
        k=recipe.positive_count,
        strength=strength,
        seed=seed_for(recipe.seed, "phase", number),
        encoder=_hash(session.stepper.encoder) if told else "",
        quiet=session.quiet,
    )


def _looked_at(partners: PositiveCache | OnlinePositives, rows: Tensor) -> Tensor:
    """Positives [n, k, ...] of the watched samples."""
    if isinstance(partners, PositiveCache):
        return torch.from_numpy(partners.all_of(rows.numpy()))
    return torch.stack([partners.draw(rows, generator_for(0, "looked at", j)) for j in range(ONLINE_LOOKS)], 1)


def _fitted(session: Session, phase: Phase, folder: Path, codes: np.ndarray) -> Generator | ConditionalDiffusion:
    """The generator of this phase: the one in `folder` where it has been trained, else trained now. A conditional one
    goes on from that of the round before."""
    recipe, device = session.recipe, session.stepper.device.type
    generator, number = make_generator(recipe, device), session.state.position.ended + 1
    path, unfinished = folder / "generator.safetensors", folder / "training.pt"
    if path.exists():
        return type(generator).load(path, device)
    seed = seed_for(recipe.seed, "phase", number)
    budget: dict[str, Any] = {"steps": phase.steps} if phase.steps else {"seconds": 60 * (phase.minutes or 0)}
    some = _learnt_from(session.real, recipe.seed)
    samples = np.asarray(session.real.samples[some])
    if isinstance(generator, ConditionalDiffusion):
        before = [_folder(session.out, i) / "generator.safetensors" for i in range(1, number)]
        start = next((generator.load(p, device) for p in reversed(before) if p.exists()), None)
        generator.fit(
            samples, codes[some], start=start, seed=seed, checkpoint=unfinished, quiet=session.quiet, **budget
        )
    else:
        generator.fit(samples, seed=seed, checkpoint=unfinished, quiet=session.quiet, **budget)
    write_json(folder / "training.json", asdict(generator.cost))
    generator.save(path)
    unfinished.unlink(missing_ok=True)
    return generator


def _learnt_from(real: Source, seed: int) -> slice | np.ndarray:
    """All rows, or as many of a large set as may be dense at once."""
    most = LEARNT_BYTES // real.samples[:1].nbytes
    if len(real) <= most or isinstance(real.samples, np.ndarray):
        return slice(None)
    chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed_for(seed, "learnt from")))[:most]
    return chosen.sort().values.numpy()


def _encoded(session: Session, positives: Tensor) -> Tensor:
    """Codes [k, n, F] of positives [n, k, ...] by the encoder as it is; what looking costs is evaluation."""
    n, k = positives.shape[:2]
    with timed(session.ledger.evaluation):
        codes = session.stepper.encoder.encode(positives.flatten(0, 1).numpy())
    session.ledger.evaluation.forwards += n * k
    return torch.from_numpy(codes).unflatten(0, (n, k)).transpose(0, 1)


def _hash(encoder: Encoder) -> str:
    """sha256 of the encoder's weights, to know its codes by."""
    digest = hashlib.sha256()
    for name, weights in encoder.state_dict().items():
        digest.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
