"""The verbs of the command line as Python functions; `swell.pretrain(...)` and its siblings."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from swell.console import warn
from swell.data.gen import is_gen, open_gen
from swell.data.open import open_data
from swell.data.source import Source
from swell.errors import InputError
from swell.ledger import Ledger
from swell.recipes import Recipe, check_budget, check_seed, load_recipe
from swell.run import Run, read_ledger
from swell.training.loop import Operation
from swell.training.loop import pretrain as train
from swell.views.plan import strength_number


def load(path: Path | str, device: str = "auto") -> Run:
    """Open a finished run. Raises InputError when `path` is none."""
    return Run(path, device)


def generate(
    data: Any,
    out: Path | str,
    *,
    generator: str = "diffusion",
    count: int = 10_000,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    force: bool = False,
    quiet: bool = False,
) -> Path:
    """Train a generator on `data`, sample `count` from it, judge the samples; returns the GEN folder `out`."""
    from swell.generators.generate import generate as make

    check_budget(steps=steps, minutes=minutes)
    check_seed(seed)
    source = open_data(data, size=size, max_bad=max_bad, quiet=quiet)
    if force or not is_gen(out):
        _require_room(Path(out), count, source)
    return make(
        source,
        Path(out),
        generator=generator,
        count=count,
        seed=seed,
        steps=steps,
        minutes=minutes,
        force=force,
        quiet=quiet,
    )


def _require_room(out: Path, count: int, source: Source) -> None:
    """Refuse more samples than the disk holds now, rather than after the training."""
    need = count * source.samples[0].nbytes
    free = shutil.disk_usage(next(part for part in (out, *out.parents) if os.path.exists(part))).free
    if need > free:
        given = f"--count {count} in {out} ({need / 1e9:,.1f} GB)"
        raise InputError(given, f"no more than the disk holds ({free / 1e9:,.1f} GB free)", "give a smaller --count")


def pretrain(
    data: Any,
    out: Path | str,
    *,
    method: str | None = None,
    inflate: Any = None,
    weight: float | str | None = None,
    strength: float | str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    recipe: str | Recipe = "default",
    seed: int | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    device: str = "auto",
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    allow_label_leak: bool = False,
    quiet: bool = False,
    report: bool = True,
    **changes: Any,
) -> Run:
    """Train an encoder on `data`, with the GEN folder (or Source) `inflate` mixed in; returns the run.

    `recipe` is a name, a TOML file or a Recipe; everything given beside it replaces its value, `changes` by the
    recipe's field names (batch_size=512). Without `report` no report.html is written, which takes seconds.

    Raises:
        InputError: for data, options or folders that do not fit.
        Diverged: a loss that is not finite.
    """
    from swell.report.run_page import write_run_report

    if not 0 <= checkpoint_seconds < float("inf"):
        raise InputError(f"--checkpoint-seconds {checkpoint_seconds}", "a number from 0 up", "60 is usual")
    base = load_recipe(recipe) if isinstance(recipe, str) else recipe
    given = {"method": method, "seed": seed, **changes}
    given |= {"weight": _weight(weight), "strength": None if strength is None else strength_number(strength)}
    final = replace(base, **{key: value for key, value in given.items() if value is not None})
    final = final.with_budget(steps=steps, epochs=epochs, minutes=minutes)
    if inflate is None and weight is not None:
        raise InputError(
            f"weight {weight} without generated samples", "--inflate GEN beside --weight", "give both or neither"
        )
    real = open_data(data, size=size, max_bad=max_bad, quiet=quiet)
    generated, ledger = _generated(inflate, real, allow_label_leak)
    operation = Operation(resume, checkpoint_seconds, device, quiet)
    train(final, real.unlabelled(), Path(out), generated, operation, ledger)
    run = Run(out, device)
    if report and not (run.path / "report.html").exists():
        write_run_report(run, real.unlabelled(), None, real.unlabelled(), generated)
    return run


def _weight(value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        todo = "this version does not choose it by itself" if value == "auto" else "give --weight 10"
        raise InputError(f"weight {value!r}", "a number above 0", todo) from None


def _generated(inflate: Any, real: Source, allow_label_leak: bool) -> tuple[Source | None, Ledger | None]:
    """Open what to inflate with, and look at its provenance."""
    if inflate is None:
        return None, None
    if isinstance(inflate, Source):
        source, ledger = inflate, None
    else:
        source = open_gen(Path(inflate))
        path = Path(inflate) / "ledger.json"
        ledger = read_ledger(path) if path.exists() else None
    origin = source.provenance
    if origin.labels_used and not allow_label_leak:
        raise InputError(
            f"--inflate {origin.origin} (its generator used labels)",
            "samples made without labels",
            "give --allow-label-leak to use them all the same; the report will say so",
        )
    if origin.trained_on and origin.trained_on != real.fingerprint:
        warn(f"{origin.origin} was generated from other data than these; make sure that no test sample was among them")
    return source.unlabelled(), ledger


def embed(run: Path | str, data: Any, out: Path | str) -> tuple[int, int]:
    """Write the features of `data` as `features` [N, D] to the .npz file `out`; returns their shape."""
    import io

    import numpy as np

    from swell.files import write_bytes

    if not str(out).endswith(".npz"):
        raise InputError(f"--out {out}", "a file name ending in .npz")
    features = Run(run).encode(data)
    buffer = io.BytesIO()
    np.savez(buffer, features=features)
    write_bytes(out, buffer.getvalue())
    return features.shape[0], features.shape[1]
