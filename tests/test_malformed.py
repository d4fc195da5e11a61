"""A seventh of benchmarks/malformed.py: malformed input ends with exit status 2 and one line, and changes no file."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "malformed.py"

if sys.platform != "linux":
    pytest.skip("the cases fork, mount and read /proc", allow_module_level=True)


def cases():
    """The fast cases, those that need no process of their own."""
    sys.path.insert(0, str(SCRIPT.parent))  # its cases lie beside it
    try:
        spec = importlib.util.spec_from_file_location("malformed", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        sys.modules["malformed"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return [case for case in module.every_case() if not case.command][::7]


CASES = cases()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Run in a process of its own: a fork of this one would inherit the threads of other tests."""
    out = tmp_path_factory.mktemp("malformed")
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--only", *(case.name for case in CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (out / "result.json").exists(), done.stderr
    return {outcome["name"]: outcome for outcome in json.loads((out / "result.json").read_text())["outcomes"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed_input_ends_in_one_line_and_changes_nothing(case, outcomes):
    if case.mounts and case.name not in outcomes:
        pytest.skip("full and read-only disks are mounted, which needs root")
    assert outcomes[case.name]["faults"] == []


def test_names_are_unique_and_there_are_more_than_200():
    from malformed import every_case

    names = [case.name for case in every_case()]
    assert len(set(names)) == len(names) > 200
