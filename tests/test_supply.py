"""The lock fits pyproject.toml, the bill of materials fits the lock, and releases are built to the byte."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements" / "lock.txt").read_text()
ENTRIES = re.split(r"^(?=[^\s#])", LOCK, flags=re.M)[1:]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(ROOT / "tools"))
    yield
    sys.path.remove(str(ROOT / "tools"))


def locked(python: str) -> dict[str, Version]:
    """Name -> version that the lock gives a Linux machine with that Python."""
    machine = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux",
               "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix",
               "implementation_name": "cpython", "platform_python_implementation": "CPython"}  # fmt: skip
    out = {}
    for entry in ENTRIES:
        requirement = Requirement(entry.partition("\\")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(machine):
            assert requirement.name not in out, f"{requirement.name} twice for Python {python}"
            (pin,) = requirement.specifier
            out[requirement.name] = Version(pin.version)
    return out


def test_every_entry_is_pinned_with_hashes_and_names_no_host():
    for entry in ENTRIES:
        assert re.match(r"[a-z0-9.-]+==\S+", entry)
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        assert len(hashes) == entry.count("--hash=") > 0
    assert "://" not in LOCK
    assert "index" not in LOCK


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_what_pyproject_requires(python):
    found = locked(python)
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    lines += [line for line in (ROOT / "requirements" / "tools.in").read_text().splitlines() if line[0] != "#"]
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == "torch":
            assert "torch" not in found
            continue
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        assert found[name] in requirement.specifier, line


def test_what_the_locked_packages_require_is_locked():
    """As far as the packages are installed here at the locked version."""
    found = locked(f"{sys.version_info.major}.{sys.version_info.minor}")
    seen = 0
    for name, version in found.items():
        try:
            here = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if Version(here.version) != version:
            continue
        seen += 1
        for line in here.requires or []:
            needed = Requirement(line)
            needed_name = re.sub("[-_.]+", "-", needed.name).lower()
            if needed_name in ("torch", "pip") or (
                needed.marker and not Marker(str(needed.marker)).evaluate({"extra": ""})
            ):
                continue
            assert needed_name in found, f"{name} needs {line}"
            assert needed.specifier.contains(found[needed_name], prereleases=True), f"{name} needs {line}"
    if seen < 10:
        pytest.skip("hardly anything here is at the locked version")


def test_the_bill_names_all_of_the_lock_and_is_the_same_each_time(tools):
    from sbom import bill

    first, second = json.dumps(bill()), json.dumps(bill())
    assert first == second
    document = json.loads(first)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {(c["name"], c["version"]) for c in document["components"]}
    pinned = {tuple(entry.split()[0].split("==")) for entry in ENTRIES}
    assert named == pinned | {("torch", "2.13.0")}
    references = {c["bom-ref"] for c in document["components"]}
    (own,) = document["dependencies"]
    assert set(own["dependsOn"]) <= references
    assert len(own["dependsOn"]) >= len(PROJECT["dependencies"])


def test_the_lower_bounds_are_read(tools):
    from versions import TESTS, lower_bounds

    bounds = lower_bounds(PROJECT)
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names <= set(bounds)
    for line in PROJECT["dependencies"]:
        assert Version(bounds[Requirement(line).name]) in Requirement(line).specifier
    assert [path for path in TESTS if not (ROOT / path).exists()] == []


def test_a_release_is_the_same_bytes_twice():
    if Version(metadata.version("setuptools")) < Version("77"):
        pytest.skip("needs setuptools 77")
    command = [sys.executable, str(ROOT / "tools" / "reproducible.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^[0-9a-f]{64}  swell-\S+(\.whl|\.tar\.gz)$", done.stdout, re.M) == [".whl", ".tar.gz"]
