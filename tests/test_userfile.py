"""Objects from the user's own files."""

import numpy as np
import pytest

from swell.errors import InputError
from swell.files import read_json
from swell.userfile import from_file
from swell.verbs import generate


def test_names_are_found_and_faults_told_in_one_line(tmp_path):
    good, bad = tmp_path / "mine.py", tmp_path / "bad.py"
    good.write_text("def features(samples):\n    return samples.reshape(len(samples), -1)[:, :9] / 255\n")
    bad.write_text("1 / 0\n")
    assert from_file("--features", f"{good}:features")(np.ones((2, 1, 4, 4), np.uint8)).shape == (2, 9)
    for place, says in (
        ("mine", "file.py:name"),
        (f"{tmp_path}/none.py:x", "exists"),
        (f"{bad}:x", "ZeroDivisionError"),
        (f"{good}:feature", "features"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            from_file("--features", place)
        assert "\n" not in str(caught.value)


def test_features_of_the_user_are_a_fourth_opinion(tmp_path):
    made = generate(
        "builtin:digits",
        tmp_path / "gen",
        generator="mixup",
        count=200,
        quiet=True,
        features=lambda samples: samples.reshape(len(samples), -1)[:, 20:40].astype(np.float32),
    )
    assert read_json(made / "quality.json")["spaces"]["user"]["dimensions"] == 20


def test_a_dataclass_with_postponed_annotations(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass A:\n    x: int = 3\n"
    (tmp_path / "mine.py").write_text(text)
    assert from_file("--method", f"{tmp_path}/mine.py:A")().x == 3


def test_nothing_is_left_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    (tmp_path / "mine.py").write_text("x = 1")
    assert from_file("--method", f"{tmp_path}/mine.py:x") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
