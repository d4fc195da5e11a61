"""The one training loop.

A run is determined by its recipe and its data: step t draws its batch, its views and whatever its nets draw from
(seed, t). So a run that was interrupted, killed or moved goes on from its checkpoint bit for bit.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes

from swell.checkpoint import save_checkpoint
from swell.console import Progress, say, warn
from swell.data.source import Source
from swell.devices import pick_device
from swell.errors import InputError
from swell.files import write_bytes, write_json
from swell.generators.positives import cache_fingerprint
from swell.ledger import Cost, Ledger, peak_memory, read_ledger
from swell.ranks import ALONE, Ranks
from swell.recipes import Recipe
from swell.training.allocator import memory_reused
from swell.training.alternate import Position, Scores, Session, alternate, check_alternation
from swell.training.build import build, resolve, steps_of
from swell.training.distributed import check_shared, load_shared
from swell.training.folder import (
    PREPARATION,
    STABLE,
    Metrics,
    claimed,
    has_provenance,
    is_json,
    note_replaced,
    open_folder,
    write_log,
    write_recipe,
)
from swell.training.live import FILE as LIVE
from swell.training.live import Live
from swell.training.loggers import Loggers, named_loggers
from swell.training.machine import describe_machine, memory_told
from swell.training.phases import phase_table, read_phases
from swell.training.snapshots import check_shares, keep
from swell.training.step import Stepper
from swell.training.watch import Watch
from swell.training.watchdog import Diverged, Watchdog

LOG_POINTS = 200  # lines of metrics.jsonl a run aims at
GPU_LOOK_EVERY = 20  # steps between looks at the loss on a GPU, where looking costs a synchronisation


@dataclass(frozen=True)
class Operation:
    """How to carry the run out. Nothing here changes its result."""

    resume: bool = False
    checkpoint_seconds: float = 60.0
    device: str = "auto"
    quiet: bool = False
    scores: Scores | None = None  # label-free scores of features, for the log of phases
    watch: Watch | None = None  # such scores for the log of steps
    snapshots: tuple[float, ...] = ()  # shares of the budget at which the encoder is kept, in RUN/snapshots
    log_to: tuple[str, ...] = ()  # beside metrics.jsonl: tensorboard, wandb, mlflow
    ranks: Ranks = ALONE  # the processes that share it, of which the first alone writes
    log_group: Path | None = None  # the folder of the search or suite that the run is of, to log it by


def pretrain(
    recipe: Recipe,
    real: Source,
    out: Path,
    generated: Source | None = None,
    operation: Operation | None = None,
    generator_ledger: Ledger | None = None,
) -> Path:
    """Train the encoder of `recipe` on `real`, with `generated` samples mixed in, and leave the RUN folder `out`.

    Args:
        real: images uint8 [N, C, H, W] or vectors float32 [N, D]; labels are not looked at.
        generated: samples of the same shape.
        generator_ledger: what making `generated` cost, and a search before it; carried into the run's ledger.

    Raises:
        InputError: data that do not fit, a folder that holds another run.
        Diverged: a loss that is not finite.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the checkpoint is safe.
        Parted: another of several ranks is gone.
    """
    op = operation or Operation()
    ranks = op.ranks
    check_shares(op.snapshots)
    named_loggers(op.log_to)
    device = pick_device(op.device)
    _check_data(real, generated)
    recipe = resolve(recipe, real, device)
    sources = {"real": real} | ({"generated": generated} if generated else {})
    fingerprints = {name: source.fingerprint for name, source in sources.items()}
    if ".py:" in recipe.method:  # the user's own: a resumed run must not go on with another text
        fingerprints["method"] = sha256(Path(recipe.method.rpartition(":")[0]).read_bytes()).hexdigest()[:16]
    if recipe.positives not in ("", "neighbours"):
        fingerprints["positives"] = cache_fingerprint(Path(recipe.positives))
    check_alternation(recipe, real)
    check_shared(recipe, fingerprints, ranks)
    resuming = ranks.first and open_folder(out, recipe, fingerprints, op.resume)
    if any(ranks.any(resuming and (out / "encoder.safetensors").exists())):
        say(f"{out} is finished already")
        if ranks.first and (out / LIVE).exists():  # killed after the last weights were written
            with claimed(out):
                (out / LIVE).unlink(missing_ok=True)
        return out
    work = f"batches of {recipe.batch_size:,} at width {recipe.width:g}"
    folder = claimed(out, fresh=not resuming) if ranks.first else nullcontext()
    with folder, Live(out, ranks.first) as live, memory_told(work), memory_reused():
        if ranks.first:  # each where it is not whole: a kill may have come between them
            if not resuming or not has_provenance(out, sources):
                write_recipe(out, recipe, fingerprints, sources)
            if not is_json(out / "environment.json"):
                write_json(out / "environment.json", {**describe_machine(device), "processes": ranks.count})
            write_log(out, real)
        if ranks.first and real.preparation is not None:
            real.preparation.save(out / PREPARATION)
        if recipe.phases and not op.quiet:
            say(phase_table(read_phases(recipe.phases), recipe.generator_positives))
        _train(recipe, real, generated, out, op, device, generator_ledger, live)
    return out


def _check_data(real: Source, generated: Source | None) -> None:
    if len(real) < 2:
        raise InputError(f"{len(real)} sample", "at least 2 samples")
    if generated is not None and generated.shape != real.shape:
        raise InputError(
            f"generated samples of shape {list(generated.shape)}",
            f"the real samples' shape {list(real.shape)}",
            "generate from the same data, opened at the same size",
        )


@dataclass
class _State:
    """Where the run stands; together with weights and optimiser, the whole checkpoint."""

    step: int = 0
    seconds: float = 0.0  # of training, over all its sessions
    step_cost: Cost = field(default_factory=Cost)  # FLOPs, forwards and pixels of one step, measured at the first
    logged: int = 0  # lines of metrics.jsonl
    replaced: float = 0.0  # positives so far that came from elsewhere than the sample, in batches
    position: Position = field(default_factory=Position)  # among the phases of alternating training


def _train(
    recipe: Recipe,
    real: Source,
    generated: Source | None,
    out: Path,
    op: Operation,
    device: torch.device,
    generator_ledger: Ledger | None,
    live: Live,
) -> None:
    ranks = op.ranks
    stepper = build(recipe, real, generated, device, ranks)
    ledger = Ledger()
    if generator_ledger is not None:
        ledger.generator_training, ledger.sampling = generator_ledger.generator_training, generator_ledger.sampling
        ledger.search = generator_ledger.search
    state = _State()
    checkpoint = out / "checkpoint.pt"
    if any(ranks.any(ranks.first and checkpoint.exists())):
        state, ledger = _restore(stepper, checkpoint)
    if op.watch is not None and ranks.first:
        op.watch.begin(out, ledger.evaluation)
    ledger.pretraining.seconds += sum(p.seconds for p in stepper.searched())

    def save(path: Path = checkpoint) -> None:
        weights = [*stepper.encoder.parameters(), *stepper.parts.parameters()]
        if not all(bool(w.isfinite().all()) for w in weights):  # a good checkpoint must not give way to a broken one
            raise Diverged(stepper.explain(state.step, math.nan, 0.5))
        if not ranks.first:
            return
        save_checkpoint(
            path,
            {
                "encoder": stepper.encoder.state_dict(),
                "parts": stepper.parts.state_dict(),
                "optimizer": stepper.optimizer.state_dict(),
                "state": asdict(state),
                "ledger": json.dumps({k: v for k, v in ledger.to_dict().items() if k != "total"}),
            },
        )
        note_replaced(out, real)

    total_steps = steps_of(recipe, real, generated, device)
    live.begin(state.step, state.seconds, total_steps, 60 * (recipe.minutes or 0))

    def kept(before: float, now: float) -> float:
        return keep(out, op.snapshots if ranks.first else (), before, now, state.step, stepper.encoder, ledger)

    def train_to(share: float) -> None:
        metrics = Metrics(out / "metrics.jsonl", state.step, state.logged) if ranks.first else None

        def log(record: dict[str, Any]) -> None:
            state.logged += 1
            if metrics is not None:
                metrics.write(record)
                loggers.log({**record, "step": record["step"] + state.position.undone})  # they cannot go back

        try:
            with _interruptible(ranks.count == 1) as interrupted:
                stable = out / STABLE
                cost = ledger.pretraining
                _loop(recipe, total_steps, stepper, state, cost, log, live, op, save, interrupted, share, stable, kept)
        finally:
            if metrics is not None:
                metrics.close()

    def go_back(path: Path) -> None:
        vars(state).update(vars(_restore(stepper, path)[0]))

    names, begin = op.log_to if ranks.first else (), state.step + state.position.undone
    with closing(stepper), Loggers(names, out, recipe.to_dict(), begin, op.log_group) as loggers:
        if recipe.phases:
            alternate(Session(recipe, real, out, stepper, state, ledger, train_to, save, go_back, op.scores, op.quiet))
        else:
            train_to(1.0)
    ledger.note_memory()
    save()
    if not ranks.first:
        return
    with suppress(InputError):  # of a finished run whose weights were lost: it may have been evaluated since
        ledger.evaluation = read_ledger(out / "ledger.json").evaluation
    write_json(out / "ledger.json", ledger.to_dict())
    write_json(out / "encoder.json", stepper.encoder.config.to_dict())
    # Last, because its presence says that the run is finished.
    weights = {name: w.contiguous().cpu() for name, w in stepper.encoder.state_dict().items()}
    write_bytes(out / "encoder.safetensors", safetensors_bytes(weights))


def _restore(stepper: Stepper, checkpoint: Path) -> tuple[_State, Ledger]:
    """Put the stepper where `checkpoint` was saved. Raises InputError when it is damaged or of another net."""
    saved = load_shared(checkpoint, stepper.ranks)
    try:
        stepper.encoder.load_state_dict(saved["encoder"])
        stepper.parts.load_state_dict(saved["parts"])
        stepper.optimizer.load_state_dict(saved["optimizer"])
        stored = {**saved["state"], "step_cost": Cost(**saved["state"]["step_cost"])}
        stored["position"] = Position(**saved["state"].get("position", {}))
        state, ledger = _State(**stored), Ledger.from_dict(json.loads(saved["ledger"]))
        if not isinstance(state.step, int):
            raise TypeError(f"step {state.step!r}")
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} ({type(error).__name__}: {str(error)[:100]})",
            "a checkpoint of this run",
            "delete it to start this run from the beginning",
        ) from error
    return state, ledger


def _loop(
    recipe: Recipe,
    total_steps: int | None,
    stepper: Stepper,
    state: _State,
    cost: Cost,
    log: Callable[[dict[str, Any]], None],
    live: Live,
    op: Operation,
    save: Any,
    interrupted: threading.Event,
    end: float,
    stable: Path,
    kept: Callable[[float, float], float],
) -> None:
    """Train until the share `end` of the budget is used up; `stable` gets the checkpoint from before a decay, and
    `kept` keeps the encoder where that is due between two shares."""
    total_seconds, ranks = 60 * (recipe.minutes or 0), op.ranks
    watchdog = Watchdog()
    look_every = 1 if stepper.device.type == "cpu" else GPU_LOOK_EVERY
    views, batch = stepper.plan.count, stepper.mixture.batch
    unit, total = ("steps", float(total_steps)) if total_steps else ("s", total_seconds)
    started = last_save = time.perf_counter()
    before = state.seconds
    (stop,) = ranks.any(interrupted.is_set())

    def share() -> float:
        return state.step / total_steps if total_steps else state.seconds / total_seconds

    with Progress(
        "pre-train",
        total,
        unit,
        per_unit=batch,
        rate_unit="samples" if total_steps else "",
        quiet=op.quiet,
        start_at=state.step if total_steps else state.seconds,
    ) as bar:
        while share() < end:
            if stop:
                save()
                raise KeyboardInterrupt
            t, share_before = state.step, share()
            if total_steps and stepper.schedule.begins_to_decay(t, total_steps):
                save(stable)
            if state.step_cost.flops == 0:
                (loss, scalars, reals), state.step_cost = stepper.measured(t, share_before)
            else:
                loss, scalars, reals = stepper(t, share_before)
            state.step += 1
            now = before + time.perf_counter() - started
            now = now if total_steps else ranks.of_first(now)  # a budget of minutes is up for all at once
            cost.seconds += now - state.seconds  # of phases that were gone back from too
            state.seconds = now
            cost.add(state.step_cost)
            cost.samples_real += reals
            cost.samples_generated += batch - reals
            cost.views += views * batch
            started += kept(share_before, share())  # seconds that are not the training's
            if "replaced" in scalars:
                state.replaced += scalars["replaced"].item()  # of the CPU, so nothing waits
                scalars["replaced"] = torch.tensor(state.replaced / state.step)
            looked = (
                op.watch is not None
                and ranks.first
                and op.watch.due(state.step, share_before, share(), state.step_cost.forwards)
            )
            logged = looked or t == 0 or int(share() * LOG_POINTS) > int(share_before * LOG_POINTS)
            if logged or t % look_every == 0:
                value = loss.item()
                if not math.isfinite(value):
                    raise Diverged(stepper.explain(t, value, share_before))
                # a bar that counts seconds cannot tell the rate
                rate = None if total_steps else state.step * batch / state.seconds
                bar.update(state.step if total_steps else state.seconds, f"loss {value:.3f}", rate, peak_memory())
                live.beat(state.step, state.seconds, batch, value, stepper.optimizer.param_groups[0]["lr"])
            if logged:
                record = {
                    "step": t,
                    "loss": value,
                    **{name: s.item() for name, s in scalars.items()},
                    "learning_rate": stepper.optimizer.param_groups[0]["lr"],
                    "seconds": round(state.seconds, 3),
                    "samples_real": cost.samples_real,
                    "samples_generated": cost.samples_generated,
                }
                if looked and op.watch is not None:
                    found, seconds = op.watch(stepper.encoder, state.step)
                    record |= found
                    started += seconds  # which are not the training's
                log(record)
                if "z_std" in record:
                    watchdog.check_spread(t, record["z_std"])
                if "soft" in record:
                    watchdog.check_soft(t, record["soft"], record["attainable"])
            late = ranks.first and time.perf_counter() - last_save > op.checkpoint_seconds
            stop, late = ranks.any(interrupted.is_set(), late)
            if late:
                save()
                last_save = time.perf_counter()


@contextmanager
def _interruptible(told: bool) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the step in progress ends and is saved; a second one ends at once.

    It is not `told` on several ranks, where SIGTERM also comes when one of them is gone and there is no more step.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        if told:
            warn("stopping after this step; the checkpoint will be saved (once more to stop at once)")

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            if signal.getsignal(number) is stop:  # no longer where another rank is gone
                signal.signal(number, handler)
