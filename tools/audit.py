"""Ask whether any pinned package has a known vulnerability. Exit status 1 if one has.

    python tools/audit.py

Uses pip-audit on requirements/lock.txt, and installs nothing. Where the vulnerability service does not answer it says
so in one line and fails nothing: an audit that cannot be made must not stop the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
KNOWN = "jinja2==2.4.1"  # has been vulnerable for many years: a service that does not know it knows nothing
FIRST, WHOLE = 20.0, 300.0  # seconds


def asked(requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package, or None where it got no answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--timeout", "10", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return list(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "known.txt"
        first.write_text(KNOWN + "\n")
        answer = asked(first, FIRST)
    if not answer or not answer[0].get("vulns"):
        print("audit: the vulnerability service does not answer from here; nothing was audited")
        return
    found = asked(LOCK, WHOLE)
    if found is None:
        print("audit: the vulnerability service stopped answering; nothing was audited")
        return
    for package in found:
        for known in package.get("vulns", []):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"audit: {package['name']} {package['version']} has {known['id']}, mended in {fixed}")
    skipped = sum("skip_reason" in package for package in found)
    print(f"audit: {len(found) - skipped} packages asked for, {skipped} unknown to the service")
    sys.exit(any(package.get("vulns") for package in found))


if __name__ == "__main__":
    main()
