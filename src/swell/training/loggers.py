"""TensorBoard, Weights & Biases, MLflow: told what metrics.jsonl is told, for who watches runs there.

They look and change nothing: not the weights, not the recipe. Each keeps its files in RUN and asks no network for
anything, unless the variables of its own that people set for that say so (WANDB_MODE, MLFLOW_TRACKING_URI).
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from swell.console import warn
from swell.errors import InputError, suggest
from swell.files import read_json, write_json

FILE = "log-to.json"  # in RUN: by which ids wandb and mlflow know the run, so that a resumed one goes on in its log
PROJECT = "swell"
MOST_PARAMS = 100  # of one request to MLflow
LONGEST_PARAM = 500  # characters; the least that servers in use take


class Logger(Protocol):
    """One place to log to."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self, ending: str) -> None:
        """`ending`: finished, stopped or crashed."""


class TensorBoard:
    """Event files in RUN/tensorboard. Of a resumed run it hides the events after its checkpoint, which come again."""

    def __init__(
        self, out: Path, settings: Mapping[str, Any], ids: dict[str, str], step: int, group: Path | None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step or None, flush_secs=30)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, ending: str) -> None:
        self._writer.close()


class WandB:
    """Offline in RUN/wandb, to be sent by `wandb sync`, unless WANDB_MODE says otherwise."""

    def __init__(
        self, out: Path, settings: Mapping[str, Any], ids: dict[str, str], step: int, group: Path | None
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report its own errors to its makers
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", _name(out, group)),
            group=os.environ.get("WANDB_RUN_GROUP", group.resolve().name if group else None),
            id=ids.setdefault("wandb", secrets.token_hex(4)),
            resume="allow",
            mode=None if os.environ.get("WANDB_MODE") else "offline",
            dir=str(out),
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, ending: str) -> None:
        self._run.finish(exit_code=0 if ending == "finished" else 1)


class MLflow:
    """The experiment `swell` (MLFLOW_EXPERIMENT_NAME) of a file store in RUN/mlflow, or of MLFLOW_TRACKING_URI.

    By its client, so that a run the caller may have begun by `mlflow.start_run` is left alone.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], ids: dict[str, str], step: int, group: Path | None
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers how it is used
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # which later versions ask for; a database needs more
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or (out / "mlflow").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=place)
        if "mlflow" in ids:
            self._id = ids["mlflow"]
            self._client.update_run(self._id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"swell.group": group.resolve().name} if group else {}
        self._id = ids["mlflow"] = self._client.create_run(number, tags=tags, run_name=_name(out, group)).info.run_id
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in _flat(settings).items()]
        for i in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[i : i + MOST_PARAMS])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self, ending: str) -> None:
        self._client.set_terminated(self._id, {"finished": "FINISHED", "stopped": "KILLED"}.get(ending, "FAILED"))


LOGGERS: dict[str, type[TensorBoard] | type[WandB] | type[MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def named_loggers(log_to: str | Sequence[str] | None) -> tuple[str, ...]:
    """The loggers that "tensorboard,wandb" names, or a list of names, each once.

    Raises:
        InputError: an unknown one, or one whose package is missing, with the line that installs it.
    """
    words = (log_to or "").split(",") if isinstance(log_to, str) or log_to is None else log_to
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"--log-to {name}", f"one of {', '.join(LOGGERS)}", suggest(name, LOGGERS))
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, as wandb makes them, is no package
            raise InputError(f"--log-to {name}", f"the package {name}", f"pip install 'swell[{name}]'")
    return names


class Loggers:
    """All places that a run logs to: `with Loggers(names, out, settings, step) as loggers: loggers.log(record)`.

    One that fails is dropped with a warning, and the run goes on.

    Args:
        settings: the recipe, to be shown beside the curves.
        step: where the run goes on; lines from there on replace those of an earlier session.
        group: the folder of the search or suite that the run is of: runs are named by their place in it.

    Raises:
        InputError: one that does not start, while no step is lost by stopping.
    """

    def __init__(
        self, names: Sequence[str], out: Path, settings: Mapping[str, Any], step: int, group: Path | None = None
    ) -> None:
        self._open: dict[str, Logger] = {}
        self._fresh = step == 0
        if not names:
            return
        kept = out / FILE
        ids: dict[str, str] = read_json(kept) if kept.exists() else {}
        for name in named_loggers(names):
            self._guarded(name, partial(self._begin, name, out, settings, ids, step, group))
        self._fresh = False
        if ids:
            write_json(kept, ids)

    def log(self, record: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: its finite numbers, under the same names, at its step."""
        values = {
            name: float(value)
            for name, value in record.items()
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value)
        }
        for name, logger in list(self._open.items()):
            self._guarded(name, partial(logger.log, record["step"], values))

    def _begin(self, name: str, *given: Any) -> None:
        self._open[name] = LOGGERS[name](*given)

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # other people's code, and their servers, may raise anything
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if self._fresh:
                given = f"--log-to {name} ({why})"
                raise InputError(given, "a logger that starts", "mend that, or leave it out") from error
            self._open.pop(name, None)
            warn(f"--log-to {name} is off from here on ({why}); the training goes on")

    def __enter__(self) -> Loggers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = "finished" if error is None else "stopped" if isinstance(error, KeyboardInterrupt) else "crashed"
        for name, logger in list(self._open.items()):
            self._guarded(name, partial(logger.close, ending))


def _name(out: Path, group: Path | None) -> str:
    """Of the folder, or of the place in the group's: "strong/seed1"."""
    inside = group is not None and out.resolve().is_relative_to(group.resolve()) and out.resolve() != group.resolve()
    return out.resolve().relative_to(group.resolve()).as_posix() if group and inside else out.resolve().name


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
