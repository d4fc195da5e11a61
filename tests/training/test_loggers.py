"""TensorBoard, W&B and MLflow hear what metrics.jsonl hears, with their real packages; a run is none the worse for it."""

import json
import os

import pytest

from swell.errors import InputError
from swell.training import loggers
from swell.training.folder import read_metrics
from swell.training.loggers import LOGGERS, Loggers, named_loggers
from swell.training.loop import Operation, pretrain


@pytest.fixture(autouse=True)
def no_settings_of_the_person(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def need(name):
    pytest.importorskip(name, reason=f"needs the extra {name}")


def from_tensorboard(out):
    """{name: {step: value}}, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}


def pieces(data, block=32768, head=7):
    """The records of an offline file: a log of LevelDB's kind, in blocks, after a header of its own."""
    at, begun = head, b""
    while at + head <= len(data):
        if block - at % block < head:
            at += block - at % block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        begun += data[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or its last part
            yield begun
            begun = b""


def from_wandb(out):
    """All that the offline files hold; of a step that was logged again, the later."""
    from wandb.proto.wandb_internal_pb2 import Record

    told, ids = {}, set()
    for path in sorted((out / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        for piece in pieces(path.read_bytes()):
            record = Record()
            record.ParseFromString(piece)
            ids |= {record.run.run_id} - {""}
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in values.items():
                if not name.startswith("_"):
                    told.setdefault(name, {})[record.history.step.num] = value
    assert len(ids) == 1
    return told


def from_mlflow(out):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(out / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("swell").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "16"
    assert run.data.params["method_options.hidden"] == "16"
    return {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)} for name in run.data.metrics
    }


READ = {"tensorboard": from_tensorboard, "wandb": from_wandb, "mlflow": from_mlflow}


@pytest.mark.parametrize("name", READ)
def test_all_of_the_log_arrives_and_nothing_of_the_run_changes(name, real, tiny, tmp_path):
    need(name)
    plain = pretrain(tiny, real, tmp_path / "plain", None, Operation(quiet=True))
    out = pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True, log_to=(name,)))
    lines = read_metrics(out)
    told = READ[name](out)
    assert set(told) == set(lines[0]) - {"step"}
    for key, values in told.items():
        assert values == pytest.approx({line["step"]: line[key] for line in lines}, rel=1e-6)
    for file in ("encoder.safetensors", "recipe.toml"):
        assert (plain / file).read_bytes() == (out / file).read_bytes()


class Stop(loggers.Loggers):
    """Ctrl-C in the middle of the run."""

    def log(self, record):
        super().log(record)
        if record["step"] == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", READ)
def test_a_resumed_run_goes_on_in_the_same_log(name, real, tiny, tmp_path, monkeypatch):
    need(name)
    out, often = tmp_path / "run", Operation(quiet=True, log_to=(name,), checkpoint_seconds=0)
    with monkeypatch.context() as patched:
        patched.setattr("swell.training.loop.Loggers", Stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tiny, real, out, None, often)
    kept = out / loggers.FILE
    ids = kept.read_text() if name != "tensorboard" else ""
    pretrain(tiny, real, out, None, Operation(quiet=True, log_to=(name,), resume=True))
    assert (kept.read_text() if kept.exists() else "") == ids
    lines, told = read_metrics(out), READ[name](out)
    assert [line["step"] for line in lines] == list(range(8))
    for key, values in told.items():
        assert values == pytest.approx({line["step"]: line[key] for line in lines}, rel=1e-6)


def test_one_that_breaks_is_dropped_with_one_line(real, tiny, tmp_path, monkeypatch, capsys):
    heard = []

    class Breaks:
        def __init__(self, out, settings, ids, step, group):
            assert settings["batch_size"] == 16

        def log(self, step, values):
            heard.append(step)
            if step == 2:
                raise ConnectionError("the server\nhas gone")

        def close(self, ending):
            raise AssertionError("it was dropped")

    monkeypatch.setitem(LOGGERS, "json", Breaks)  # a package that is there
    plain = pretrain(tiny, real, tmp_path / "plain", None, Operation(quiet=True))
    out = pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True, log_to=("json",)))
    said = [line for line in capsys.readouterr().err.splitlines() if "log-to" in line]
    assert said == [
        "warning: --log-to json is off from here on (ConnectionError: the server has gone); the training goes on"
    ]
    assert heard == [0, 1, 2]
    assert len(read_metrics(out)) == 8
    assert (plain / "encoder.safetensors").read_bytes() == (out / "encoder.safetensors").read_bytes()


def test_one_that_does_not_start_stops_a_new_run_but_not_a_resumed_one(tmp_path, monkeypatch, capsys):
    class Refuses:
        def __init__(self, out, settings, ids, step, group):
            raise PermissionError("who are you?")

    monkeypatch.setitem(LOGGERS, "json", Refuses)
    with pytest.raises(InputError, match="who are you"):
        Loggers(("json",), tmp_path, {}, 0)
    with Loggers(("json",), tmp_path, {}, 7) as resumed:
        resumed.log({"step": 7, "loss": 1.0})
    assert capsys.readouterr().err.count("warning") == 1


@pytest.mark.parametrize(
    ("error", "ending"), [(None, "finished"), (KeyboardInterrupt(), "stopped"), (ValueError("x"), "crashed")]
)
def test_they_are_told_how_it_ended_and_finite_numbers_only(error, ending, tmp_path, monkeypatch):
    told = []

    class Notes:
        def __init__(self, out, settings, ids, step, group): ...

        def log(self, step, values):
            told.append((step, values))

        def close(self, ending):
            told.append(ending)

    monkeypatch.setitem(LOGGERS, "json", Notes)
    with Loggers(("json",), tmp_path, {}, 0) as all_of_them:
        all_of_them.log({"step": 4, "loss": 2, "odd": float("nan"), "words": "x"})
    all_of_them.__exit__(type(error), error, None)
    assert told == [(4, {"loss": 2.0}), "finished", ending]


def test_runs_of_a_search_or_suite_are_named_by_their_place_and_held_together(tmp_path):
    need("wandb")
    need("mlflow")
    from mlflow.tracking import MlflowClient
    from wandb.proto.wandb_internal_pb2 import Record

    for place in ("runs/strong/0", "."):
        out = tmp_path / "suite" / place
        out.mkdir(parents=True, exist_ok=True)
        with Loggers(("wandb", "mlflow"), out, {}, 0, tmp_path / "suite") as told:
            told.log({"step": 0, "loss": 1.0})
        name = "suite" if place == "." else place
        records = [
            Record.FromString(piece)
            for path in out.glob("wandb/offline-run-*/*.wandb")
            for piece in pieces(path.read_bytes())
        ]
        assert ("suite", name) in {(record.run.run_group, record.run.display_name) for record in records}
        client = MlflowClient(tracking_uri=(out / "mlflow").as_uri())
        (run,) = client.search_runs([client.get_experiment_by_name("swell").experiment_id])
        assert (run.info.run_name, run.data.tags["swell.group"]) == (name, "suite")


def test_names(monkeypatch):
    assert named_loggers(None) == named_loggers("") == named_loggers([]) == ()
    with pytest.raises(InputError, match="did you mean 'tensorboard'"):
        named_loggers("tensorbord")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name in LOGGERS:
        with pytest.raises(InputError, match=rf"pip install 'swell\[{name}\]'"):
            named_loggers(name)
    monkeypatch.setattr(loggers, "find_spec", lambda name: json.__spec__)
    assert named_loggers(" wandb, mlflow,wandb") == named_loggers(["wandb", "mlflow"]) == ("wandb", "mlflow")


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "left_by_a_run").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(LOGGERS, "left_by_a_run", LOGGERS["wandb"])
    with pytest.raises(InputError, match="pip install"):
        named_loggers("left_by_a_run")


def test_every_logger_has_its_extra():
    import tomllib
    from pathlib import Path

    about = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(LOGGERS) <= set(about["project"]["optional-dependencies"])
