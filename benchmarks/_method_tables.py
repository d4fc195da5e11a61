"""The tables of docs/methods.md."""

from __future__ import annotations

import statistics

from _tables import MISSING, Newest, by_arm, mean_sd, spread_cell


def methods_block(newest: Newest) -> str:
    entry = newest("methods")
    if entry is None:
        return MISSING
    folder, result = entry
    columns = (
        "knn",
        "linear",
        "shot_10",
        "teraflops",
        "samples",
        "views",
        "forwards",
        "teacher_forwards",
        "megapixels",
    )
    rows = [
        "| method | kNN | linear | 10-shot | TFLOP | samples | views | student forwards | teacher forwards | megapixels | peak GiB | batch |",
        f"|---|{'---:|' * 11}",
    ]
    arms = by_arm(result["rows"])
    for name, runs in sorted(arms.items(), key=lambda item: -statistics.fmean(r["linear"] for r in item[1])):
        scores = [spread_cell([r[key] for r in runs], 1) for key in columns[:3]]
        costs = [f"{statistics.fmean(r[key] for r in runs):,.0f}" for key in columns[3:]]
        memory = statistics.fmean(r["peak_memory_bytes"] for r in runs) / 2**30
        rows.append(f"| {name} | {' | '.join([*scores, *costs])} | {memory:.1f} | {runs[0]['recipe']['batch_size']} |")
    for name, scores in result["rows"]["baselines"]["baselines"].items():
        rows.append(f"| {name.replace('_', ' ')} | {scores['knn']:.1f} | {scores['linear']:.1f} |{' |' * 9}")
    s, most = result["settings"], max(map(len, arms.values()), default=0)
    processor, cores, *_, torch = result["device"].split(", ")
    others = "; the other seeds take as many steps as seed 0 had time for" if most > 1 else ""
    told = (
        f"{s['data']}, all 50,000 training images without labels, ResNet-18 at width {s['width']:g}, {s['minutes']:g} minutes of "
        f"{processor}, {cores}, {torch}{others}; short presets, hidden layers of {s['heads']['hidden']}. "
        f"Per cent of the 10,000 test images right, mean ± sd over at most {most} seeds."
    )
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def presets_block(newest: Newest) -> str:
    entry = newest("short-presets")
    if entry is None:
        return MISSING
    folder, result = entry
    names = {
        f"{name} {rate:g}": name if rate == 0 else f"{name} {rate:g}" for name, rate in result["settings"]["trials"]
    }
    faster = [f"predictor x {rate}" for rate in (10, 30)]
    titles = [
        *names.values(),
        "best of these, gentler views",
        "other settings",
        "smaller batches",
        *faster,
        "second look",
    ]
    rows = [f"| method | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for method in dict.fromkeys(key.partition("/")[0] for key in result["rows"]):
        found = {key.partition("/")[2]: row for key, row in result["rows"].items() if key.startswith(f"{method}/")}
        best = max(row.get("knn", 0.0) for row in found.values())
        gentler = next((name for name in found if name.startswith("best with")), "")
        cells = []
        seconds = [row.get("knn", 0.0) for name, row in found.items() if name.startswith("second look")]
        found["second look"] = {"knn": max(seconds, default=0.0)}
        for name in (*names, gentler, "other settings", "smaller batches", *faster, "second look"):
            value = found[name].get("knn") if name in found else 0.0
            text = "diverged" if value is None else f"{value:.1f}" if value else ""
            cells.append(f"**{text}**" if value and value == best else text)
        rows.append(f"| {method} | {' | '.join(cells)} |")
    s = result["settings"]
    told = f"kNN on 5,000 held-out training images after {s['steps']} steps at {s['side']} pixels, width {s['width']:g}, one seed."
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def batches_block(newest: Newest) -> str:
    entry = newest("short-batches")
    if entry is None:
        return MISSING
    folder, result = entry
    sizes = list(dict.fromkeys(key.rpartition("/")[2] for key in result["table"]))
    rows = [f"| method | images | settings | {' | '.join(sizes)} |", f"|---|---:|---|{'---:|' * len(sizes)}"]
    arms = {key.rpartition("/")[0] for key in result["table"]}
    for arm in sorted(arms, key=lambda arm: (arm.split("/")[0], int(arm.split("/")[1]), arm)):
        method, images, name = arm.split("/")
        found = [result["table"][f"{arm}/{size}"] for size in sizes]
        cells = ["diverged" if s["diverged"] else mean_sd([s["mean"], s["sd"]]) for s in found]
        rows.append(
            f"| {method} | {int(images):,} | {name.replace('as preset', 'as the preset was')} | {' | '.join(cells)} |"
        )
    most, s = max(cell["n"] for cell in result["table"].values()), result["settings"]
    told = (
        f"kNN on 5,000 held-out training images by the size of the batches, after so many images at {s['side']} pixels, "
        f"width {s['width']:g}; mean ± sd where there are {most} seeds, else one."
    )
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def patches_block(newest: Newest) -> str:
    entry = newest("patches")
    if entry is None:
        return MISSING
    folder, result = entry
    arms = by_arm(result["rows"])
    s, rows = result["settings"], []
    for basis, title in (("views", f"equal views ({s['views']:,})"), ("seconds", f"equal seconds ({s['seconds']:g})")):
        counts = sorted({int(key.split()[-1]) for key in arms if key.startswith(f"{basis}/")})
        names = dict.fromkeys(key.split("/")[1].split()[0] for key in arms if key.startswith(f"{basis}/"))
        rows += [f"| {title} | {' | '.join(f'{c} views' for c in counts)} |", f"|---|{'---:|' * len(counts)}"]
        for name in names:
            for key, what in (("linear", ""), ("bag_linear", ", bag")):
                runs = [arms.get(f"{basis}/{name} {c}", []) for c in counts]
                cells = [spread_cell([r[key] for r in found], 1) if found else "" for found in runs]
                rows.append(f"| {name}{what} | {' | '.join(cells)} |")
        rows.append("")
    plain, bag = (spread_cell([r[key] for r in arms["untrained"]], 1) for key in ("linear", "bag_linear"))
    told = f"Linear accuracy in per cent, mean ± sd; the untrained encoder has {plain}, by a bag {bag}."
    return "\n".join([*rows, f"{told} From `{folder}`."])


def emp_ssl_sweep_block(newest: Newest) -> str:
    entry = newest("emp-ssl-sweep")
    if entry is None:
        return MISSING
    folder, result = entry
    rows: list[str] = []
    for kind in ("batches", "weights"):
        found = {what: cells for what, cells in result["linear"].items() if what.startswith(kind)}
        values = sorted({value for cells in found.values() for value in cells}, key=float)
        rows += [f"| {kind} | {' | '.join(values)} |", f"|---|{'---:|' * len(values)}"]
        for what, cells in found.items():
            shown = (mean_sd(cells[value]) if value in cells else "" for value in values)
            rows.append(f"| {what.partition(' ')[2]} | {' | '.join(shown)} |")
        rows.append("")
    s = result["settings"]
    repeated = any(sd is not None for cells in result["linear"].values() for _, sd in cells.values())
    shown_as = "mean ± sd" if repeated else "one seed"
    told = f"Linear accuracy in per cent, {shown_as}; equal steps are {s['steps']}, equal views {s['views']:,}."
    return "\n".join([*rows, f"{told} From `{folder}`."])
