"""`swell evaluate`: everything that is asked of a finished run on labelled data, in one evaluation.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swell.data.gen import is_gen, open_gen
from swell.data.masks import Masked, has_class_folders, of_same_classes, open_masks, split_masks
from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation import ood as outside
from swell.evaluation.bag import check_bag, judge_bag
from swell.evaluation.dense import check_dense, evaluate_dense, mosaics_of
from swell.evaluation.evaluate import Extras, evaluate_baselines, judge_encoder, split, test_part
from swell.evaluation.few_labels import parse_budgets
from swell.evaluation.finetune import Settings, judge_finetune
from swell.evaluation.finetune import finetune as finetune_of
from swell.evaluation.predictions import Predictions, settle_predictions, write_predictions
from swell.evaluation.probe import FittedProbe
from swell.evaluation.protocol import told
from swell.files import write_json
from swell.run import labels_fingerprint
from swell.views.plan import ViewPlan

if TYPE_CHECKING:
    from swell.run import Run

Labels = bool | str


def evaluate(
    run: Run,
    data: Any,
    test: Any = None,
    labels: Labels | Sequence[Labels] = True,
    *,
    transfer: Sequence[Any] = (),
    transfer_tests: Sequence[Any] = (),
    baselines: bool = True,
    retrieval: bool = False,
    few_labels: str | Sequence[str | int] | None = None,
    corruptions: bool = False,
    ood: Sequence[Any] = (),
    patches: int | None = None,
    patch_mode: str | None = None,
    draws: int | None = None,
    dense: bool = False,
    tiles: int | None = None,
    masks: Path | str | None = None,
    test_masks: Path | str | None = None,
    finetune: bool = False,
    label_fraction: float | None = None,
    finetune_epochs: float | None = None,
) -> dict[str, Any]:
    """What `Run.evaluate` does; see there and docs/evaluation.md.

    Raises:
        InputError: data, labels or settings that do not fit.
    """
    options = {name: _plain(value) for name, value in locals().items() if name != "run"}
    if run.encoder.takes_vectors and (dense or patches is not None):
        asked = "the dense probe" if dense else "patches"
        raise InputError(f"{asked} of vectors", "images", "leave --dense and --patches out")
    mode, draws = check_bag(patches, patch_mode, draws)
    check_dense(dense, tiles, masks, test, test_masks)
    tuning = _tuning(finetune, label_fraction, finetune_epochs)
    extras = Extras(retrieval, () if few_labels is None else parse_budgets(few_labels), corruptions)
    keys = _keys(labels, 1 + len(transfer))
    recipe, ledger = run.recipe, run.ledger  # first, because the probe takes its time
    assert isinstance(recipe.views, ViewPlan)
    if not run.metrics:
        raise InputError(f"{run.path / 'metrics.jsonl'} (no step in it)", "the steps swell logged", "repeat the run")
    scenes = None if masks is None else _masked(run, data, masks, test, test_masks)
    labelled = masks is None or has_class_folders(data)
    if not labelled and (finetune or patches is not None or transfer or ood or extras != Extras()):
        given = f"{data} (images without class folders, so without labels)"
        raise InputError(given, "labelled images for all but the dense probe", "give --dense and --masks alone")
    train, held = _splits(run, data, test, keys[0]) if labelled else (run.open(data), run.open(data))
    others = _others(run, transfer, transfer_tests, keys[1:])
    strangers = [run.open(test_part(other)) for other in ood]

    result: dict[str, Any] = {"cost": {"seconds": 0.0, "forwards": 0}}
    sets: dict[str, tuple[Predictions, dict[str, Any]]] = {}
    values: dict[str, np.ndarray] = {}
    if labelled:
        result, probe, predictions = _judged(run, train, held, baselines, extras, scored=True)
        if patches is not None:
            bag, values = judge_bag(run.encoder, train, held, patches, mode, draws, run.patch)
            result["bag_of_features"] = bag
            _add(result, bag["seconds"], draws * patches * (len(train) + len(held)))
    pictures = None
    if dense:
        train_scenes, test_scenes = scenes or mosaics_of(train, held, tiles)
        result["dense"], pictures = evaluate_dense(run.encoder, train_scenes, test_scenes, baselines)
        _add(result, result["dense"]["seconds"], result["dense"]["forwards"])
    if tuning is not None:
        how = {"plan": recipe.views, **tuning}
        result["finetune"], values["finetune"] = judge_finetune(run.encoder, train, held, **how)
        if baselines:
            result["finetune"]["from_scratch"] = finetune_of(run.encoder, train, held, scratch=True, **how)
        _add(result, result["finetune"]["seconds"], result["finetune"]["forwards"])
    result["data"] = _about(run, train, held)
    if labelled:
        kept = Predictions(
            predictions.truth, predictions.predicted, predictions.confidence, {**predictions.values, **values}
        )
        sets["probe"] = kept, result["data"]
        if strangers:
            result["ood"] = [_ood(run, probe, stranger, result) for stranger in strangers]
    if others:
        result["transfer"] = []
    for number, (its_train, its_test) in enumerate(others, 1):
        found, _, predictions = _judged(run, its_train, its_test, baselines, extras)
        found["data"] = _about(run, its_train, its_test)
        _add(result, found["cost"]["seconds"], found["cost"]["forwards"])
        sets[f"transfer-{number}"] = predictions, found["data"]
        result["transfer"].append({"name": its_train.provenance.origin, **found})
    return _stored(run, result, sets, options, train, held, pictures, ledger)


def _stored(
    run: Run,
    result: dict[str, Any],
    sets: dict[str, tuple[Predictions, dict[str, Any]]],
    options: dict[str, Any],
    train: Source,
    held: Source,
    pictures: Any,
    ledger: Any,
) -> dict[str, Any]:
    """Add the protocol and the ledger to `result`; write it, the predictions, the ledger and the page."""
    from swell.report.run_page import write_run_report

    ledger.evaluation.seconds += result["cost"]["seconds"]
    ledger.evaluation.forwards += result["cost"]["forwards"]
    ledger.note_memory()
    result["protocol"] = told(result, options)
    if sets:
        result["predictions"] = write_predictions(run.path, sets)
    result["ledger"] = ledger.to_dict()
    write_json(run.path / "evaluation.json", result)
    settle_predictions(run.path)
    write_json(run.path / "ledger.json", ledger.to_dict())
    write_run_report(run, held, result, train.unlabelled(), _generated(run), pictures)
    return result


def _judged(
    run: Run, train: Source, test: Source, baselines: bool, extras: Extras, scored: bool = False
) -> tuple[dict[str, Any], FittedProbe, Predictions]:
    result, probe, predictions = judge_encoder(run.encoder, train, test, scored, extras)
    if baselines:
        result["baselines"] = evaluate_baselines(run.encoder, train, test)
    return result, probe, predictions


def _ood(run: Run, probe: FittedProbe, other: Source, result: dict[str, Any]) -> dict[str, Any]:
    """What `swell.evaluation.ood` says of another set, beside its name; the cost is added to `result`."""
    rows = np.linspace(0, len(other) - 1, min(len(other), outside.MOST)).astype(int)
    found = outside.ood(probe.train.x, probe.test.x, run.encoder.encode(other.subset(rows).samples))
    _add(result, found["seconds"], len(rows))
    return {"name": other.provenance.origin, "fingerprint": other.fingerprint, **found}


def _add(result: dict[str, Any], seconds: float, forwards: int) -> None:
    result["cost"]["seconds"] += seconds
    result["cost"]["forwards"] += forwards


def _about(run: Run, train: Source, test: Source) -> dict[str, Any]:
    """Which data these are, for those who compare."""
    return {
        "train": train.fingerprint,
        "test": test.fingerprint,
        "labels": labels_fingerprint(train, test),
        "origin": train.provenance.origin,
        "train_seen_in_pretraining": train.fingerprint == run.data_fingerprints.get("real"),
    }


def _keys(labels: Labels | Sequence[Labels], count: int) -> list[Labels]:
    """The key of the labels of each of `count` data sets: one for all, or one each."""
    given = [labels] if isinstance(labels, (bool, str)) else list(labels)
    if len(given) not in (1, count):
        given_text = f"{len(given)} keys of labels for {count} data sets"
        raise InputError(given_text, "one for all of them, or one for each", "give --labels KEY once or for each DATA")
    return given * (count // len(given))


def _others(
    run: Run, transfer: Sequence[Any], tests: Sequence[Any], keys: Sequence[Labels]
) -> list[tuple[Source, Source]]:
    """Train and test samples of each further labelled set, all opened before any of them is probed."""
    if len(tests) > len(transfer):
        given = f"{len(tests)} test sets for {len(transfer)} further data sets"
        raise InputError(given, "no more than there are", "give --test once for each DATA, - for a part of it")
    beside = [*tests, *[None] * (len(transfer) - len(tests))]
    return [_splits(run, *parts) for parts in zip(transfer, beside, keys, strict=True)]


def _splits(run: Run, data: Any, test: Any, labels: Labels) -> tuple[Source, Source]:
    """Train and test samples: what was given, the own test split of a built-in set, or a fixed part of `data`."""
    if test is None and test_part(data) is not data:
        test = test_part(data)
    if test is None:
        return split(run.open(data, labels))
    return run.open(data, labels), run.open(test, labels)


def _tuning(finetune: bool, fraction: float | None, epochs: float | None) -> dict[str, Any] | None:
    """What was said of fine-tuning, checked before the probe takes its time; None where nobody asked for it."""
    given: dict[str, Any] = {k: v for k, v in {"fraction": fraction, "epochs": epochs}.items() if v is not None}
    if not finetune and given:
        name, value = next(iter(given.items()))
        raise InputError(f"{name} {value:g} without fine-tuning", "--finetune beside it", "give both or neither")
    Settings(**given)
    return given if finetune else None


def _masked(run: Run, data: Any, masks: Path | str, test: Any, test_masks: Path | str | None) -> tuple[Masked, Masked]:
    """Train and test scenes of folders of images and masks, at the size the run was trained on."""
    channels, height, width = run.encoder.config.shape
    if height != width:
        raise InputError(f"masks for a run of {height} x {width} pixels", "a run of square images")
    for folder in (data, test):
        if not isinstance(folder, (str, os.PathLike, type(None))):
            given = f"masks for a {type(folder).__module__}.{type(folder).__qualname__}"
            raise InputError(given, "the folder of their images", "masks go by the names of files")
    train = open_masks(data, masks, height, channels)
    if test is None or test_masks is None:
        return split_masks(train)
    return of_same_classes(train, open_masks(test, test_masks, height, channels))


def _generated(run: Run) -> Source | None:
    """The generated samples of this run, if their folder is still where and what it was."""
    folder = Path(str(run.provenance.get("generated", {}).get("origin", "")))
    try:
        source = open_gen(folder, mapped=True) if is_gen(folder) else None
    except InputError:
        return None
    same = source is not None and source.fingerprint == run.data_fingerprints.get("generated")
    return source if same else None


def _plain(value: Any) -> Any:
    """An option as JSON can hold it; of data in memory only what they are."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Source):
        return value.provenance.origin
    if isinstance(value, list) or (isinstance(value, tuple) and not any(hasattr(part, "shape") for part in value)):
        return [_plain(part) for part in value]
    return type(value).__name__
