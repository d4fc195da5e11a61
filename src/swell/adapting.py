"""`swell.adapt`: AdaInf made adaptive. Weight, strength and amount are chosen without labels, then it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from swell.adaptive.inflation import Inflating
from swell.adaptive.search import Budget, Search, resolved
from swell.adaptive.state import FILE, State
from swell.console import say
from swell.data.open import open_data
from swell.errors import InputError
from swell.evaluation.label_free import label_free
from swell.files import new_folders
from swell.generators.generate import check_option_names, options_of
from swell.generators.outside import refuse_label_leak
from swell.options import assignments
from swell.recipes import Recipe, check_budget, composed
from swell.run import Run
from swell.training.folder import claimed
from swell.training.loggers import named_loggers
from swell.training.loop import Operation
from swell.training.loop import pretrain as train


def adapt(
    data: Any,
    out: Path | str,
    *,
    method: str | None = None,
    generator: str = "diffusion",
    generator_options: Mapping[str, Any] | str | None = None,
    generator_steps: int | None = None,
    generator_minutes: float | None = None,
    count: int | None = None,
    budget: str | float = "2x",
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    recipe: str | Recipe = "default",
    seed: int | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    layer: str | None = None,
    batch_key: str | None = None,
    prepare: str | None = None,
    device: str = "auto",
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    log_to: str | Sequence[str] | None = None,
    allow_label_leak: bool = False,
    quiet: bool = False,
    report: bool = True,
    **changes: Any,
) -> Run:
    """Train a generator on `data`, choose whether, how much and with how weak views to inflate, train the encoder.

    The choice is made between short runs by scores that need no labels; OUT/adapt/report.html says why. The run that is
    returned, in `out`, is that of the chosen candidate on all of `data`; where generated samples do not help, of none.

    Args:
        generator, generator_options, generator_steps, generator_minutes: as of `swell.generate`.
        count: generated samples; None makes more until they change nothing.
        budget: what the search may cost beside generator and final run: "2x" is two final runs, "90m" 90 minutes.
        steps, epochs, minutes: of the final run.
        recipe: a name, a TOML file or a Recipe for all runs; its weight and strength do not count.
        log_to: "tensorboard", "wandb", "mlflow" or several, of every run, the final one's with it.
        changes: fields of the recipe (batch_size=512).

    Raises:
        InputError: for data, options, a budget or folders that do not fit.
        Diverged: a loss of the final run that is not finite.
    """
    if not 0 <= checkpoint_seconds < float("inf"):
        raise InputError(f"--checkpoint-seconds {checkpoint_seconds}", "a number from 0 up", "60 is usual")
    allowed, out = Budget.read(budget), Path(out)
    check_budget(steps=generator_steps, minutes=generator_minutes)
    if isinstance(generator_options, str):
        generator_options = assignments("--generator-options", generator_options)
    check_option_names(generator, dict(generator_options or {}))
    if count is not None and count < 100:
        raise InputError(f"--count {count}", "at least 100 generated samples", "leave it out for as many as are of use")
    base = composed(recipe, method=method, seed=seed, **changes)
    base = base.with_budget(steps=steps, epochs=epochs, minutes=minutes)
    source = open_data(data, size=size, max_bad=max_bad, quiet=quiet, layer=layer, batch_key=batch_key, prepare=prepare)
    refuse_label_leak(source.provenance, allow_label_leak)
    real = source.unlabelled()
    final = resolved(replace(base, weight=1.0, strength=1.0), real, device)
    known = {"device": device} if "device" in options_of(generator) else {}
    how = Inflating(generator, {**(generator_options or {}), **known}, generator_steps, generator_minutes, count)
    operation = Operation(
        True, checkpoint_seconds, device, quiet, label_free, log_to=named_loggers(log_to), log_group=out
    )
    settings = {
        "data": real.fingerprint,
        "recipe": final.to_dict(),
        "inflating": asdict(how),
        "budget": asdict(allowed),
    }
    _refuse_other(out, resume)
    with new_folders(out / "adapt"), claimed(out / "adapt"):
        search = Search(final, real, out, how, allowed, operation, State(out / "adapt", settings, resume))
        choice = search.run()
        if not quiet:
            say(" ".join(choice.reasons))
        chosen, generated, ledger = search.final(choice)
        train(chosen, real, out, generated, operation, ledger)
        run = Run(out, device)
        if report:
            from swell.report.adapt_page import write_adapt_report
            from swell.report.run_page import write_run_report

            if not (out / "report.html").exists():
                write_run_report(run, real, None, real, generated)
            write_adapt_report(out)
    return run


def _refuse_other(out: Path, resume: bool) -> None:
    """Raises InputError where `out` holds something that is no search, before any work is done."""
    if out.is_dir():
        held = sorted(p.name for p in out.iterdir() if p.name != ".lock" and not p.name.endswith(".tmp"))
        if held in ([], ["adapt"]) or (out / "adapt" / FILE).exists():
            return
    elif not out.exists():
        return
    else:
        held = ["a file"]
    todo = "choose another --out, or leave --resume out" if resume else "choose another --out"
    raise InputError(f"--out {out} (holds {', '.join(held[:3])})", "a new or empty folder, or a search", todo)
