"""docs/live.md is true: its commands run, in their order, and leave what it says."""

import json

import pytest

from swell.watching import look
from test_tutorial import walk


def test_live(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    missing = [name for name in ("tensorboard", "wandb", "mlflow") if not there(name)]

    def short(text):
        lines = [line for line in text.splitlines() if not missing or "--log-to" not in line]
        return "\n".join(lines).replace("--steps 400", "--steps 4 --batch-size 32 --width 0.25") + "\n"

    walk("live.md", edit=short)
    shown = capsys.readouterr().out
    assert "2 finished in runs" in shown
    (told,) = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert [run["state"] for run in told["runs"]] == ["finished"] * 2
    if missing:
        pytest.skip(f"--log-to needs the extras {', '.join(missing)}; the rest was tried")
    assert look(tmp_path / "runs" / "logged").state == "finished"
    assert {"tensorboard", "wandb", "mlflow"} <= {path.name for path in (tmp_path / "runs" / "logged").iterdir()}


def there(name):
    from importlib.util import find_spec

    return find_spec(name) is not None
