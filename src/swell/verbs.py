"""The verbs of the command line as Python functions; `swell.pretrain(...)` and its siblings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swell.console import warn
from swell.data.gen import is_gen, open_gen
from swell.data.open import open_data
from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.during import watch
from swell.evaluation.label_free import label_free
from swell.files import sole
from swell.generators.outside import refuse_label_leak
from swell.generators.positives import read_manifest
from swell.ledger import Ledger, read_ledger
from swell.model import Model
from swell.ranks import ending_told
from swell.recipes import Recipe, check_budget, check_seed, composed
from swell.run import Run
from swell.training.distributed import joined, one_first
from swell.training.loggers import named_loggers
from swell.training.loop import Operation
from swell.training.loop import pretrain as train
from swell.training.watch import PREFIX
from swell.views.plan import strength_number

if TYPE_CHECKING:
    import numpy as np

    from swell.exporting.embeddings import Embedded
    from swell.exporting.exported import Exported
    from swell.suites.registry import SuiteFunction


def load(path: Path | str, device: str = "auto") -> Run | Exported:
    """Open a finished run, or an encoder that `swell export` wrote as .safetensors.

    Raises:
        InputError: when `path` is neither.
    """
    from swell.exporting.exported import is_exported, open_exported

    return open_exported(path, device) if is_exported(path) else Run(path, device)


def generate(
    data: Any,
    out: Path | str,
    *,
    generator: str = "diffusion",
    count: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    filter: float = 0.0,
    options: dict[str, Any] | None = None,
    from_: Path | str | None = None,
    trained_on: str | None = None,
    labels_used: bool | None = None,
    filtered: bool | None = None,
    channel_order: str | None = None,
    allow_label_leak: bool = False,
    features: Callable[[np.ndarray], np.ndarray] | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    layer: str | None = None,
    batch_key: str | None = None,
    prepare: str | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    report: bool = True,
) -> Path:
    """Train a generator on `data`, sample `count` from it, judge the samples; returns the GEN folder `out`.

    `options` are the generator's own (network, sampler, evaluations, ...); `filter` drops that share of the samples,
    those least like real ones. `layer`, `batch_key` and `prepare` are those of `swell.open`. `from_` names samples from
    outside, or a diffusers pipeline, to take instead of training; then `trained_on`, `labels_used` and `filtered` must
    say where they come from. `features` turns samples into rows of numbers for one more opinion on their quality.
    Without `report` no report.html is written.

    Raises:
        InputError: for data, options or folders that do not fit.
    """
    from swell.generators.generate import check_option_names, options_of
    from swell.generators.generate import generate as make

    check_budget(steps=steps, minutes=minutes)
    check_seed(seed)
    source = open_data(data, size=size, max_bad=max_bad, quiet=quiet, layer=layer, batch_key=batch_key, prepare=prepare)
    refuse_label_leak(source.provenance, allow_label_leak)
    origin: dict[str, Any] = {}
    if from_ is None:
        told = {"--trained-on": trained_on, "--labels-used": labels_used, "--filtered": filtered}
        if stray := [name for name, value in told.items() if value is not None]:
            raise InputError(f"{stray[0]} without --from", "samples from outside to speak of", "give --from PATH")
        check_option_names(generator, options or {})  # before they meet our own arguments' names
        known = {"device": device} if "device" in options_of(generator) else {}
        origin = {"generator": generator, **(options or {}), **known}
    else:
        from swell.generators.stored import from_outside, stored_count

        model, provenance = from_outside(
            from_,
            source,
            trained_on=trained_on,
            labels_used=labels_used,
            filtered=filtered,
            channel_order=channel_order,
            allow_label_leak=allow_label_leak,
            options=options or {},
            size=size,
            device=device,
            quiet=quiet,
        )
        origin = {"generator": model, "provenance": provenance}
        count = stored_count(model) if count is None else count
    count = 10_000 if count is None else count
    if force or not is_gen(out):
        _require_room(Path(out), count, source)
    path = make(
        source,
        Path(out),
        count=count,
        seed=seed,
        steps=steps,
        minutes=minutes,
        filter_share=filter,
        features=features,
        force=force,
        quiet=quiet,
        **origin,
    )
    if report and not (path / "report.html").exists():
        from swell.report.gen_page import write_gen_report

        write_gen_report(path, source)
    return path


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
    patches: int | None = None,
    flops: float | None = None,
    backbone: str | None = None,
    backbone_options: Mapping[str, Any] | str | None = None,
    recipe: str | Recipe = "default",
    seed: int | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    layer: str | None = None,
    batch_key: str | None = None,
    prepare: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    scores_every: float | None = None,
    log_to: str | Sequence[str] | None = None,
    allow_label_leak: bool = False,
    quiet: bool = False,
    report: bool = True,
    **changes: Any,
) -> Run:
    """Train an encoder on `data`, with the GEN folder (or Source) `inflate` mixed in; returns the run.

    `recipe` is a name, a TOML file or a Recipe; everything given beside it replaces its value, `changes` by the
    recipe's field names (batch_size=512). `layer`, `batch_key` and `prepare` are those of `swell.open`.
    `workers` are the processes that decode images in shards.
    `backbone_options` may be text too: "patch=4,positions=learned". `scores_every`, a share of the budget, logs quick
    label-free scores (`swell.evaluation.during`). `log_to`, "tensorboard", "wandb", "mlflow" or several of them, names
    where the log goes beside metrics.jsonl. Without `report` no report.html is written, which takes seconds.
    Processes that torchrun started share the run; the first writes it.

    Raises:
        InputError: for data, options or folders that do not fit.
        Diverged: a loss that is not finite.
        Parted: another process that shares the run is gone.
    """
    if not 0 <= checkpoint_seconds < float("inf"):
        raise InputError(f"--checkpoint-seconds {checkpoint_seconds}", "a number from 0 up", "60 is usual")
    loggers = named_loggers(log_to)  # before any work: a package may be missing
    given = {"seed": seed, "backbone_options": backbone_options, **changes, "weight": _weight(weight)}
    given["strength"] = None if strength is None else strength_number(strength)
    final = composed(recipe, method=method, backbone=backbone, **given)
    final = final.with_budget(steps=steps, epochs=epochs, minutes=minutes, patches=patches, flops=flops)
    if inflate is None and weight is not None:
        raise InputError(
            f"weight {weight} without generated samples", "--inflate GEN beside --weight", "give both or neither"
        )
    opening: dict[str, Any] = {
        "size": size,
        "max_bad": max_bad,
        "layer": layer,
        "batch_key": batch_key,
        "prepare": prepare,
        "workers": workers,
    }
    with joined(device) as ranks:
        with one_first(ranks):
            real = open_data(data, quiet=quiet, **opening)
            refuse_label_leak(real.provenance, allow_label_leak)
            generated, ledger = _generated(inflate, real, allow_label_leak)
        if final.positives not in ("", "neighbours"):  # what it cost to make them is a cost of this run
            read_manifest(final.positives)
            kept = read_ledger(Path(final.positives) / "ledger.json")
            ledger = ledger or Ledger()
            ledger.generator_training.add(kept.generator_training)
            ledger.sampling.add(kept.sampling)
        watched = None if scores_every is None else watch(real, scores_every)
        operation = Operation(resume, checkpoint_seconds, device, quiet, label_free, watched, (), loggers, ranks)
        train(final, real.unlabelled(), Path(out), generated, operation, ledger)
        ranks.wait()  # until the first has written the encoder
    run = Run(out, device)
    if not ranks.first:
        return run
    if watched is not None and not any(key.startswith(PREFIX) for line in run.metrics for key in line):
        warn("no scores were logged: they would have taken more than 2 % of so short a training")
    if report and not (run.path / "report.html").exists():
        from swell.report.run_page import write_run_report  # brings scikit-learn: memory that training needs

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
        source = open_gen(Path(inflate), mapped=True)
        path = Path(inflate) / "ledger.json"
        ledger = read_ledger(path) if path.exists() else None
    origin = source.provenance
    refuse_label_leak(origin, allow_label_leak)
    from_outside = origin.generator in ("outside", "diffusers")  # told in words what it was trained on
    if origin.trained_on and origin.trained_on != real.fingerprint and not from_outside:
        warn(f"{origin.origin} was generated from other data than these; make sure that no test sample was among them")
    return source.unlabelled(), ledger


def embed(
    run: Model | Path | str,
    data: Any,
    out: Path | str,
    *,
    patches: int | None = None,
    patch_mode: str | None = None,
    quiet: bool = False,
) -> Embedded:
    """Write the features of `data`, float32 [N, D], to `out`; `run` may be an exported .safetensors file too.

    .npz, .parquet or .h5ad by the ending: see `swell.exporting.embeddings.write_embeddings`. With `patches`, their mean
    over that many patches of each sample; see `Run.encode`. Processes that torchrun started share the work; all of them
    call this, and the first writes.

    Raises:
        InputError: data that do not fit the run; another ending; an .h5ad of what is none.
        Parted: another process that shares the work is gone.
    """
    from swell.exporting.embeddings import write_embeddings

    with joined() as ranks, ending_told(ranks):
        model = load(run) if isinstance(run, (str, Path)) else run
        return write_embeddings(model, data, out, patches=patches, patch_mode=patch_mode, quiet=quiet, ranks=ranks)


def export(
    run: Model | Path | str, out: Path | str, *, timm: bool = False, data: Any = None, quiet: bool = False
) -> dict[str, Any]:
    """Write the encoder of `run`, its preparation with it, to one file that other programs read; returns what it is.

    .safetensors, .onnx or .pt2 by the ending: see `swell.exporting.write`. `timm` names the weights as timm does.
    `data` are samples to compare the written file with torch on; without them made-up ones are taken.

    Raises:
        InputError: another ending; a net without a twin in timm; a missing extra.
    """
    from swell.exporting.write import write_export

    return write_export(load(run) if isinstance(run, (str, Path)) else run, out, timm=timm, data=data, quiet=quiet)


def compare(
    runs: Sequence[Run | Path | str] | Path | str | SuiteFunction,
    out: Path | str,
    *,
    by: str = "linear",
    budget: str | None = None,
    across_data: bool = False,
    force: bool = False,
    data: Any = None,
    **suite: Any,
) -> dict[str, Any]:
    """Compare evaluated runs at equal budget; write compare.json, table.md, table.csv and report.html to `out`.

    Returns what compare.json holds; see `swell.evaluation.compare.compare_runs` for the arguments and what is ranked.
    `force` replaces an earlier comparison in `out`.

    With `data`, `runs` is a suite: its name, "file.py:function", a function or the folder of an earlier one. All its
    arms are trained on `data` and probed first, in `out`; `suite` are the arguments of `swell.suites.work.run_suite`.
    The same call goes on with one that was interrupted.

    Raises:
        InputError: for runs that do not compare, a `budget` that is not equal, and a folder that holds something else.
    """
    from swell.evaluation.compare import compare_runs
    from swell.report.compare_page import refuse_to_replace, write_comparison, write_into

    if data is not None:
        from swell.suites.work import run_suite

        if isinstance(runs, Sequence) and not isinstance(runs, str):
            raise InputError("several runs with data", "one suite for them", "leave data out to compare runs")
        result = run_suite(runs, data, Path(out), by=by, **suite)
        write_into(Path(out), result)
        return result
    if callable(runs) or suite:
        given = f"{next(iter(suite))} without data" if suite else "a suite without data"
        raise InputError(given, "what to pre-train a suite's arms on", "give data=, --data on the command line")
    refuse_to_replace(Path(out), force)
    several = [runs] if isinstance(runs, (str, Path)) else runs
    paths = [run.path if isinstance(run, Run) else run for run in several]
    with sole(Path(out)):
        refuse_to_replace(Path(out), force)  # once more: another process may have just finished there
        result = compare_runs(paths, by=by, budget=budget, across_data=across_data)
        write_comparison(Path(out), result)
    return result
