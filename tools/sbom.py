"""Write a software bill of materials: CycloneDX JSON of what requirements/lock.txt and constraints.txt pin.

    python tools/sbom.py [--out dist/swell.cdx.json]

The same lock gives the same bytes: the serial number is made of the content, and there is no time stamp.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", flags=re.M)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def component(name: str, version: str, marker: str = "", hashes: list[str] | None = None) -> dict[str, Any]:
    """One package. A lock's hashes are of its files, any of which may be installed: they are its distribution's."""
    purl = f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"
    found: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    if hashes:
        files = [{"alg": "SHA-256", "content": content} for content in hashes]
        found["externalReferences"] = [{"type": "distribution", "url": purl, "hashes": files}]
    if marker:
        found["properties"] = [{"name": "swell:marker", "value": marker.strip()}]
    return found


def pinned(text: str) -> list[dict[str, Any]]:
    """The components of a lock or a constraints file."""
    starts = list(ENTRY.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return [
        component(match[1], match[2], match[3] or "", HASH.findall(text, match.start(), end))
        for match, end in zip(starts, ends, strict=True)
    ]


def bill() -> dict[str, Any]:
    """The whole document; `dependencies` names what the product itself requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    components = [c for name in ("constraints.txt", "requirements/lock.txt") for c in pinned((ROOT / name).read_text())]
    components.sort(key=lambda c: (c["name"], c["version"], str(c.get("properties"))))
    swell = {**component("swell", project["version"]), "licenses": [{"license": {"id": project["license"]}}]}
    required = {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"]}  # type: ignore[index]
    direct = sorted(c["bom-ref"] for c in components if c["name"].lower() in required)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**swell, "type": "application"}},
        "components": components,
        "dependencies": [{"ref": swell["bom-ref"], "dependsOn": direct}],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    return {**document, "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "swell.cdx.json")
    args = parser.parse_args()
    document = bill()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{args.out}: {len(document['components'])} components")


if __name__ == "__main__":
    main()
