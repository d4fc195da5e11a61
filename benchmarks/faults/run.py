"""Faults of every kind against real commands; whatever happens, every file is whole or absent and no result is lost.

    python benchmarks/faults/run.py [--kills 100] [--only kills,disk,changed,clock,two] [--work DIR] [--together 2]

kills: `kill -9` of the whole process group at random moments of generate, pretrain (plain and inflated), adapt, compare
(runs and a suite) and embed, up to three times for one result; after each, every file is read; in the end the result
is compared with that of an undisturbed command, times apart. disk: the disk is full at a random write. changed: a file
is deleted or cut short before a command goes on. clock: the time of day jumps. two: two processes on one folder.

Rows are kept in --work as they come, and the same command goes on with them. Nothing is left there of trials that went
well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _changed import changed
from _clock import clocks
from _disk import disks
from _kills import references, table, trials
from _scenes import prepare
from _two import twos

from _common import claim, write_result
from swell.files import read_json_lines

OTHERS: dict[str, Callable[[Path, Path, set[str]], Iterable[dict[str, Any]]]] = {
    "disk": disks,
    "changed": changed,
    "clock": clocks,
    "two": twos,
}
PARTS = ("kills", *OTHERS)


def main(kills: int, only: str, work: Path, together: int) -> int:
    chosen = only.split(",")
    work.mkdir(parents=True, exist_ok=True)
    ready = prepare(work)
    rows: dict[str, list[dict[str, Any]]] = {part: read_json_lines(work / f"{part}.jsonl") for part in PARTS}

    def keep(part: str, found: Iterable[dict[str, Any]]) -> None:
        begun = time.perf_counter()
        for row in found:
            ended = time.perf_counter()
            row.setdefault("seconds", round(ended - begun, 1))  # those of kills, several at a time, know theirs
            begun = ended
            rows[part].append(row)
            with (work / f"{part}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            what = row.get("scene", row.get("case", ""))
            how = f"{len(row['kills'])} kills" if "kills" in row else row.get("outcome", "")
            print(f"{part}: {what}: {how} {'; '.join(row['faults']) or 'as it must be'}", flush=True)

    if "kills" in chosen:
        keep("kills", trials(kills, references(ready, work), rows["kills"], ready, work, together))
    for part, other in OTHERS.items():
        if part in chosen:
            keep(part, other(ready, work, {row["case"] for row in rows[part]}))
    seconds = sum(row["seconds"] / (together if part == "kills" else 1) for part in PARTS for row in rows[part])
    count = sum(len(row["kills"]) for row in rows["kills"])
    survived = sum(len(row["kills"]) for row in rows["kills"] if not row["faults"])
    faults = {part: sum(bool(row["faults"]) for row in found) for part, found in rows.items()}
    others = ", ".join(f"{part} {len(rows[part]) - faults[part]} of {len(rows[part])}" for part in OTHERS)
    inside = sum(moment["wrote"] for row in rows["kills"] for moment in row["kills"])
    print("\n".join(table(rows["kills"])))
    path = write_result("faults", {
        "claim": claim("SIGKILLs at random moments survived with nothing lost", float(survived), None, count, seconds, f"of {count}",
                       detail=f"{inside} of them with something written; as it must be after other faults: {others}"),
        "kills": count, "survived": survived, "results": len(rows["kills"]), "rows": rows, "seconds": seconds,
        "device_seconds": sum(row["seconds"] for row in rows["kills"]),
    })  # fmt: skip
    print(path)
    return int(any(faults.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "swell-faults")
    parser.add_argument("--together", type=int, default=2, help="results under way at a time")
    raise SystemExit(main(**vars(parser.parse_args())))
