"""What a probe said of every test sample, kept beside evaluation.json for comparing two runs sample by sample.

`predictions.npz` holds one set for each labelled data set that the run was evaluated on: "probe" for the first, then
"transfer-1", ... Arrays of numbers only: nothing in it is ever unpickled.

Two files cannot be replaced at once, so an evaluation writes `predictions.new.npz`, then `evaluation.json` with its
checksum, then gives it its name. Killed in between, whichever evaluation.json there is has its predictions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swell.data.arrays import UNREADABLE, refuse_bomb_in
from swell.errors import InputError, suggest
from swell.files import read_json, sha256_of, write_bytes

PREDICTIONS = "swell-predictions-1"
FILE = "predictions.npz"
PENDING = "predictions.new.npz"  # until evaluation.json has told of it


@dataclass(frozen=True)
class Predictions:
    """Of the m test samples of one data set, in its order.

    `values` are for scores that are no single prediction: their mean is the score. "few_shot_1" is the share of draws
    in which the sample was named correctly, "map" the average precision of the sample as a query.
    """

    truth: np.ndarray  # int64 [m], labels
    predicted: Mapping[str, np.ndarray]  # by score ("knn", "linear"): int64 [m], labels
    confidence: np.ndarray  # float32 [m], probability that the linear probe gives to what it predicts
    values: Mapping[str, np.ndarray] = field(default_factory=dict)  # by score: float32 [m]

    @property
    def scores(self) -> list[str]:
        return [*self.predicted, *self.values]

    def of(self, score: str) -> np.ndarray:
        """What each sample adds to `score`: float64 [m]; of a prediction 1 where it is right and 0 where it is wrong.

        Raises:
            InputError: a score that was not kept.
        """
        if score in self.predicted:
            return (self.predicted[score] == self.truth).astype(np.float64)
        if score not in self.values:
            raise InputError(f"score {score!r}", "one that was kept for every sample", suggest(score, self.scores))
        return np.asarray(self.values[score], np.float64)


def write_predictions(folder: Path, sets: Mapping[str, tuple[Predictions, Mapping[str, Any]]]) -> dict[str, str]:
    """Write the sets, each with what `evaluation.json` says of its data, to the run `folder`.

    Returns what ties `evaluation.json` to this file: its name, format and sha256. Once that is written there,
    `settle_predictions` puts the file in the place of an earlier evaluation's.
    """
    arrays: dict[str, Any] = {}
    about = {}
    for name, (found, data) in sets.items():
        about[name] = {key: data[key] for key in ("train", "test", "labels")}
        arrays[f"{name}/truth"] = _small(found.truth)
        arrays[f"{name}/confidence"] = found.confidence.astype(np.float32)
        arrays |= {f"{name}/predicted/{score}": _small(given) for score, given in found.predicted.items()}
        arrays |= {f"{name}/values/{score}": given.astype(np.float32) for score, given in found.values.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps({"format": PREDICTIONS, "sets": about})), **arrays)
    write_bytes(folder / PENDING, buffer.getvalue())
    return {"file": FILE, "format": PREDICTIONS, "sha256": sha256_of(folder / PENDING)}


def settle_predictions(folder: Path) -> None:
    """Let `folder` hold the predictions that its evaluation.json tells of, and no others."""
    told = _told(folder)
    for name in (PENDING, FILE):
        if (folder / name).is_file() and (told is None or sha256_of(folder / name) != told):
            (folder / name).unlink()
    if (folder / PENDING).is_file():
        (folder / PENDING).replace(folder / FILE)


def _told(folder: Path) -> str | None:
    """The checksum in evaluation.json; None where it tells of no predictions."""
    evaluation = read_json(folder / "evaluation.json")
    told = evaluation.get("predictions") if isinstance(evaluation, dict) else None
    return str(told.get("sha256")) if isinstance(told, dict) else None


def has_predictions(folder: Path | str) -> bool:
    return any((Path(folder) / name).is_file() for name in (FILE, PENDING))


def read_predictions(folder: Path | str, name: str = "probe") -> tuple[Predictions, dict[str, str]]:
    """The set `name` of the run `folder`, and the fingerprints of its "train" and "test" data and "labels".

    Raises:
        InputError: no such file or set, a damaged file, or one of another evaluation than evaluation.json.
    """
    again = f"run swell evaluate {folder} DATA again"
    if not has_predictions(folder):
        raise InputError(f"{folder} (no {FILE})", "a run that was evaluated by this version", again)
    told = _told(Path(folder))
    for path in (Path(folder) / PENDING, Path(folder) / FILE):
        if path.is_file() and sha256_of(path) == told:
            break
    else:
        raise InputError(f"{path} (of another evaluation)", "the one that evaluation.json tells of", again)
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                refuse_bomb_in(archive.zip, key)
            about = json.loads(str(archive["about"]))
            if about["format"] != PREDICTIONS:
                raise ValueError(f"format {about['format']!r}")
            if name not in about["sets"]:
                raise InputError(f"{path}: set {name!r}", "one that it holds", suggest(name, about["sets"]))
            parts = {key.removeprefix(f"{name}/"): archive[key] for key in archive.files if key.startswith(f"{name}/")}
            found = Predictions(
                parts["truth"].astype(np.int64),
                {key.partition("/")[2]: a.astype(np.int64) for key, a in parts.items() if key.startswith("predicted/")},
                parts["confidence"],
                {key.partition("/")[2]: a for key, a in parts.items() if key.startswith("values/")},
            )
            return found, {key: str(value) for key, value in about["sets"][name].items()}
    except InputError:
        raise
    except (*UNREADABLE, AttributeError) as error:
        raise InputError(f"{path} ({str(error).splitlines()[0]})", "the predictions swell wrote", again) from None


def _small(labels: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 up in the smallest type that holds them."""
    return labels.astype(np.min_scalar_type(int(labels.max())))
