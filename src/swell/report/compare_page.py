"""The page of a comparison, and the folder that holds it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from swell import __version__
from swell.errors import InputError
from swell.evaluation.budgets import BUDGETS, listed
from swell.evaluation.compare import BY, FORMAT
from swell.files import new_folder, read_json, write_json, write_text
from swell.report.again import environment_facts, nameable
from swell.report.compare_curves import cost_section, curve_section, way_tables
from swell.report.compare_text import SCORES, bag_of, csv_table, headers, kinds_of_bags, markdown
from swell.report.map_making import kept_map, shared_map
from swell.report.maps import EmbeddingMap
from swell.report.page import Cell, Column, Page, Table, render
from swell.report.tables import count, seconds

FILES = ("compare.json", "table.md", "table.csv", "report.html")
MOST_LAYOUTS, MOST_RECIPES = 8, 12  # arms in the map, and with their recipe on the page
COST_COLUMNS = (
    Column("seconds", "time", "Time on the clock of pre-training alone. Compares on one and the same machine only.",
           "s", None),
    Column("flops", "FLOPs", "", "flop", None),
    Column("views", "views", "Distorted versions of samples (patches, where they are small) that were made.", "count",
           None),
    Column("samples", "samples", "How many times a sample, real or generated, was drawn.", "count", None),
    Column("forwards", "student forwards", "How many views went through the network that is trained.", "count", None),
    Column("teacher_forwards", "teacher forwards", "How many views went through a teacher, a slowly moving copy of it.",
           "count", None),
    Column("pixels", "pixels", "Pixels of all that went through either.", "count", None),
    Column("memory", "peak memory", "The most memory its process had in use, the probe included; the largest of the "
           "runs.", "bytes", None),
    Column("generator_seconds", "generator", "Time to train the generator, to sample from it and to search, on top of "
           "the rest.", "s", None),
    Column("steps", "steps", "How often the optimiser changed the weights.", "count", None),
    Column("epochs", "epochs", "Samples drawn, in multiples of the real samples there were.", better=None),
)  # fmt: skip


def refuse_to_replace(out: Path, force: bool) -> None:
    """Raises InputError where `out` holds something: an earlier comparison without `force`, or anything else."""
    if not os.path.exists(out):
        return
    if not os.path.isdir(out):
        raise InputError(f"--out {out} (a file)", "a folder to create", "choose another --out")
    held = sorted(os.listdir(out))
    if not held:
        return
    strangers = [name for name in held if name not in FILES] if FILES[0] in held else held
    if strangers or not _is_comparison(out / FILES[0]):
        given = f"--out {out} (holds {', '.join((strangers or held)[:3])})"
        raise InputError(given, "a new folder, or one with an earlier comparison alone", "choose another --out")
    if not force:
        raise InputError(f"--out {out} (holds an earlier comparison)", "a new folder", "--force replaces it")


def _is_comparison(path: Path) -> bool:
    try:
        value = read_json(path)
    except InputError:
        return False
    return isinstance(value, dict) and str(value.get("format")).startswith(FORMAT.rpartition("-")[0])


def write_comparison(out: Path, result: Mapping[str, Any]) -> None:
    """Write compare.json, table.md, table.csv and report.html to the folder `out`, all or none, in place of what it
    holds."""
    out = Path(os.path.abspath(out))
    with new_folder(out) as made:
        write_into(made, result)


def write_into(out: Path, result: Mapping[str, Any]) -> None:
    """Write those files beside whatever the folder `out` holds, such as the runs of a suite."""
    html, table, rows = render_comparison(result), markdown(result), csv_table(result)
    write_json(out / "compare.json", result)
    write_text(out / "table.md", table)
    write_text(out / "table.csv", rows)
    write_text(out / "report.html", html)


def render_comparison(result: Mapping[str, Any]) -> str:
    """The page as one self-contained HTML file."""
    arms, data, basis = result["arms"], result["data"], result["basis"]
    machine = result["machine"]
    facts = [
        ("compared", f"{len(result['runs'])} runs in {len(arms)} arms; runs of an arm differ in their seed only"),
        ("pre-trained on", ", ".join(f"{name} ({print_})" for print_, name in data["pretrained_on"].items())),
        (
            "probed by",
            f"{result['probe']} on {data['origin']}: {data['n_train']:,} labelled samples, {data['n_test']:,} for "
            "the test",
        ),
        ("ranked by", BY[result["by"]] if basis else "nothing: no budget is equal" if len(arms) > 1 else "nothing"),
        ("at equal", BUDGETS[basis] if basis else "–"),
        (
            "machine",
            ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
            if machine
            else "several, see above",
        ),
    ]
    tables = [_score_table(result), _cost_table(arms)]
    if len(arms) > 1:
        tables.append(_budget_table(result))
    if result["pairs"]:
        tables.append(_pair_table(result))
    tables += way_tables(result)
    if label_free := _label_free_table(arms):
        tables.append(label_free)
    if len(arms) > 1:
        tables.append(_settings_table(arms))
    tables.append(_run_table(result))
    return render(
        Page(
            title=f"Comparison of {len(arms)} arms" if len(arms) > 1 else "Comparison of the seeds of one arm",
            verdict=f"{result['verdict']} {_worth(result)}".strip(),
            facts=facts,
            notices=result["notices"],
            tables=tables,
            sections=[*curve_section(result), cost_section(result)],
            maps=_map(arms),
            recipes=_recipes(arms),
            commands=[_command(result)],
            environment=environment_facts(Path(result["runs"][0]["path"])),
            footer=f"swell {__version__}",
        )
    )


def _cell(value: Mapping[str, Any], factor: float = 1.0) -> Cell:
    return factor * value["mean"] if value["sd"] is None else (factor * value["mean"], factor * value["sd"])


def _score_table(result: Mapping[str, Any]) -> Table:
    arms, rows = result["arms"], []
    bags = kinds_of_bags(arms)
    for arm in arms:
        rank: Cell = "n = 1" if arm["rank"] is None else arm["rank"]
        row: dict[str, Cell] = {"name": arm["name"], "n": arm["n"], "rank": rank}
        row |= {key: _cell(arm["scores"][key], 100) for key in headers(arms)}
        for i, bag in enumerate(bags):
            own = bag_of(arm, bag)
            row |= {f"bag_{key}_{i}": _cell(own[key], 100) if own else None for key in ("knn", "linear")}
        rows.append(row)
    rank_hint = (
        "One more than the number of arms that are clearly better, so arms that chance alone could tell apart share a "
        "rank. Single runs have none."
    )
    columns = [
        Column("name", "arm", better=None),
        Column("n", "n", "How many runs, which differ in their seed only.", "count", None),
        *([Column("rank", "rank", rank_hint, "count", None)] if result["basis"] else []),
        *(Column(key, label, unit="%", better=None) for key, label in headers(arms).items()),
        *(
            Column(
                f"bag_{key}_{i}",
                f"{SCORES[key]}, {patches} {mode} patches",
                f"The same with the mean over {patches} patches of each sample: that many times the work to encode.",
                "%",
                None,
            )
            for i, (patches, mode) in enumerate(bags)
            for key in ("knn", "linear")
        ),
    ]
    note = "" if result["basis"] else "In the order given: without an equal budget there is no ranking."
    return Table("How good are the features?", columns, rows, note)


def _cost_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    columns = [c for c in COST_COLUMNS if any(arm["costs"][c.key] for arm in arms)]
    rows = [{"name": arm["name"], **{c.key: arm["costs"][c.key] for c in columns}} for arm in arms]
    return Table(
        "What did pre-training cost?",
        [Column("name", "arm", better=None), *columns],
        rows,
        "The mean over the runs of an arm. Evaluation is left out: it was the same for all.",
    )


def _budget_table(result: Mapping[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, told in result["budgets"].items():
        if told["max"]:
            written = seconds if name == "seconds" else count
            words = "equal" if told["equal"] else "not equal"
            if name == "seconds" and result["machines_differ_in"]:
                words = "different machines"
            rows.append(
                {
                    "name": BUDGETS[name],
                    "equal": words + ("; ranked at this" if name == result["basis"] else ""),
                    "least": f"{written(told['min'])} ({told['least']})",
                    "most": f"{written(told['max'])} ({told['most']})",
                    "ratio": "–" if told["ratio"] is None else f"{told['ratio']:.3g}",
                }
            )
    labels = {"name": "budget", "equal": "over all arms", "least": "least", "most": "most", "ratio": "most / least"}
    return Table(
        "Which budgets are equal?",
        [Column(key, label, better=None) for key, label in labels.items()],
        rows,
        f"Equal means that the largest mean of an arm is at most {100 * result['tolerance']:.0f} % above the smallest.",
    )


def _pair_table(result: Mapping[str, Any]) -> Table:
    """Every arm against the one with the highest mean; all pairs are in compare.json."""
    top = result["arms"][0]["name"]
    rows: list[dict[str, Cell]] = []
    for pair in result["pairs"]:
        if pair["a"] == top:
            known, interval = pair["mean"] is not None, pair["low"] is not None
            rows.append(
                {
                    "name": pair["b"],
                    "points": f"{-pair['mean']:+.1f}" if known else "–",
                    "interval": f"{-pair['high']:+.1f} to {-pair['low']:+.1f}" if interval else f"n = {pair['n']}",
                    "n": pair["n"],
                    "p": "–" if pair["p_holm"] is None else f"{pair['p_holm']:.2g}",
                    "samples": _on_samples(pair),
                    "clear": "clear" if pair["clear"] else "within noise" if interval else "no claim",
                }
            )
    columns = [
        Column("name", "arm", better=None),
        Column("points", "points", f"Mean difference to {top}, paired by seed.", better=None),
        Column(
            "interval", "95 % interval", "If it holds 0, chance may be all there is to the difference.", better=None
        ),
        Column("n", "common seeds", unit="count", better=None),
        Column(
            "p",
            "p, corrected",
            "How likely chance is to do as much, after Holm's correction for all pairs.",
            better=None,
        ),
        Column(
            "samples",
            "on the same test samples",
            "95 % interval of the same difference over the test samples, of "
            "these very encoders: what other test samples might have said.",
            better=None,
        ),
        Column("clear", "the difference is", better=None),
    ]
    if not any(pair.get("samples") for pair in result["pairs"]):
        columns = [column for column in columns if column.key != "samples"]
    total = len(result["pairs"])
    note = (
        "Student's t over the paired differences. An interval narrower than one test sample counts as noise: a few "
        "seeds may agree that well by chance."
        + (
            " Each interval has its 95 % for itself; what is called clear is so after Holm's correction."
            if total > 1
            else ""
        )
    )
    return Table(f"How sure is it? {BY[result['by']].capitalize()} against {top}", columns, rows, note)


def _on_samples(pair: Mapping[str, Any]) -> str:
    """Of b against a, as the table has it."""
    found = pair.get("samples")
    return "–" if found is None else f"{-found['high']:+.1f} to {-found['low']:+.1f}"


def _label_free_table(arms: Sequence[Mapping[str, Any]]) -> Table | None:
    keys = [key for key in arms[0]["label_free"] if key != "rows" and all(key in arm["label_free"] for arm in arms)]
    if not keys:
        return None
    rows = [{"name": arm["name"], **{key: _cell(arm["label_free"][key]) for key in keys}} for arm in arms]
    columns = [Column("name", "arm", better=None), *(Column(k, k.replace("_", " "), better=None) for k in keys)]
    note = "They compare between encoders of equally many features only, and none of them alone says which is better."
    return Table("What do the features look like without labels?", columns, rows, note)


def _settings_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for arm in arms for key in arm["settings"]))
    differing = [key for key in keys if any(arm["settings"].get(key) != arms[0]["settings"].get(key) for arm in arms)]
    rows = [
        {"name": key, **{f"arm{i}": _setting(arm["settings"].get(key)) for i, arm in enumerate(arms)}}
        for key in differing
    ]
    columns = [Column(f"arm{i}", arm["name"], better=None) for i, arm in enumerate(arms)]
    note = "Every setting of the recipes, and fingerprints of the data, that are not the same in all arms."
    return Table("What differs between the arms?", [Column("name", "setting", better=None), *columns], rows, note)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_setting, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _run_table(result: Mapping[str, Any]) -> Table:
    told = headers(result["arms"])
    rows: list[dict[str, Cell]] = [
        {
            "name": run["path"],
            "group": run["arm"],
            "seed": str(run["seed"]),
            **{f"run_{key}": 100 * run["scores"][key] for key in told},
            **{f"run_{key}": run["costs"][key] for key in ("seconds", "flops", "views")},
        }
        for run in result["runs"]
    ]
    columns = [
        Column("name", "run", better=None),
        Column("seed", "seed", better=None),
        *(Column(f"run_{key}", label, unit="%", better=None) for key, label in told.items()),
        *(
            replace(c, key=f"run_{c.key}", hint="")  # explained above
            for c in COST_COLUMNS
            if c.key in ("seconds", "flops", "views")
        ),
    ]
    return Table("Every run", columns, rows)


def _worth(result: Mapping[str, Any]) -> str:
    """The second sentence of the summary: what the accuracy cost."""
    arms, front = result["arms"], result.get("front")
    key = "flops" if result["machines_differ_in"] else "seconds"
    if len(arms) < 2 or not front:
        return f"A run took {seconds(arms[0]['spent'][key])} on average." if key == "seconds" else ""
    words, best = ("time", "took no longer") if key == "seconds" else ("arithmetic", "needed no more")
    if len(front[key]) == len(arms):
        return f"Each arm was worth its {words}: none was beaten by one that {best}."
    only = "Only " if len(front[key]) == 1 else ""
    return f"{only}{listed(front[key])} paid off in {words}: every other arm was beaten by one that {best}."


def _map(arms: Sequence[Mapping[str, Any]]) -> list[EmbeddingMap]:
    """The test samples as the first run of each arm sees them, where all of them kept a map of the same."""
    kept = [kept_map(Path(arm["runs"][0]), arm["name"]) for arm in arms[:MOST_LAYOUTS]]
    known = [one for one in kept if one is not None]
    note = "The test samples as the first run of an arm sees them: choose another encoder to see what it makes of them."
    left = f" Only the first {MOST_LAYOUTS} arms are here." * (len(arms) > MOST_LAYOUTS)
    made = shared_map(known, "Map of the test samples", note + left) if len(known) == len(kept) else None
    return [] if made is None else [made]


def _recipes(arms: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The recipe of the first run of each arm that is still there."""
    found = [(arm["name"], Path(arm["runs"][0]) / "recipe.toml") for arm in arms[:MOST_RECIPES]]
    return [(f"Show the recipe of {name}", path.read_text(encoding="utf-8")) for name, path in found if path.is_file()]


def _command(result: Mapping[str, Any]) -> tuple[str, str]:
    paths = [run["path"] for run in result["runs"]]
    if "suite" in result:
        folder, what = os.path.commonpath(paths), "To train, probe and compare all runs of this suite again."
        data, labelled = next(iter(result["data"]["pretrained_on"].values())), str(result["data"]["origin"])
        if not (nameable(data) and nameable(labelled)):
            return (
                f"{what} In Python, with the same data.",
                f"swell.compare({folder!r}, {f'{folder}-again'!r}, data=data)",
            )
        words = ["swell", "compare", folder, "--data", data.removesuffix(":train")]
        words += ["--labelled", labelled.removesuffix(":train"), "--by", result["by"], "--out", f"{folder}-again"]
        return what, shlex.join(words)
    words = ["swell", "compare", *paths, "--by", result["by"]]
    words += ["--budget", result["basis"]] if result["basis"] else []
    words += ["--across-data"] * (len(result["data"]["pretrained_on"]) > 1)
    return "To compare the same runs again.", shlex.join([*words, "--out", "compared-again"])
