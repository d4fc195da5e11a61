"""`swell compare` on real little runs: what it prints, writes, refuses to overwrite, and how the page looks."""

import csv
import html
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from test_in_browser import BROWSER, chromium

import swell
from swell.cli import main, parse
from swell.report.compare_page import render_comparison
from swell.report.compare_text import markdown

HOSTILE = '<script>alert("1")</script>|&'
OUTSIDE = 'class="mark line k3"'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """SimCLR and DCL on digits, two seeds each, 20 steps, probed on 300 digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nets this small only wait for each other
    place = tmp_path_factory.mktemp("runs")
    probed = swell.open("builtin:digits:test", labels=True)
    labelled = (probed.samples[:300], probed.labels[:300])
    settings = {"steps": 20, "width": 0.25, "batch_size": 32, "method_options": {"hidden": 32, "outputs": 16}}
    paths = []
    for method in ("simclr", "dcl"):
        for seed in (0, 1):
            run = swell.pretrain(
                "builtin:digits", place / f"{method}-{seed}", recipe="digits", method=method, seed=seed, quiet=True,
                report=False, **settings,
            )  # fmt: skip
            run.evaluate(labelled, baselines=False)
            paths.append(run.path)
    torch.set_num_threads(threads)
    return paths


@pytest.fixture
def copies(runs, tmp_path):
    """Runs to change at will."""
    return [Path(shutil.copytree(run, tmp_path / "copies" / run.name)) for run in runs]


def call(capsys, *argv):
    """Exit status, stdout and the lines of stderr of `swell compare *argv`."""
    capsys.readouterr()
    status = main(["compare", *map(str, argv)])
    said = capsys.readouterr()
    return status, said.out, said.err.splitlines()


def triple_the_cost(run):
    ledger = json.loads((run / "ledger.json").read_text())
    ledger["pretraining"] = {key: 3 * value for key, value in ledger["pretraining"].items()}
    (run / "ledger.json").write_text(json.dumps(ledger))


def test_it_prints_a_table_and_a_verdict_and_writes_four_files(runs, capsys, tmp_path):
    out = tmp_path / "deep" / "out"
    status, text, err = call(capsys, *runs, "--out", out, "--budget", "flops")
    assert (status, err) == (0, [])
    header, *rows = (re.split(r"  +", line) for line in text.split("\n\n")[0].splitlines())
    scores = ["1-shot", "10-shot", "kNN", "linear", "NMI"]
    assert header == ["arm", "n", "rank", *scores, "seconds", "TFLOPs", "views", "student forwards", "steps"]
    assert {(row[0], row[1], row[10], row[12]) for row in rows} == {(m, "2", "1,280", "20") for m in ("simclr", "dcl")}
    result = json.loads((out / "compare.json").read_text())
    assert text.split("\n\n")[1].splitlines() == [result["verdict"], f"Look at {out / 'report.html'}"]
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "report.html", "table.csv", "table.md"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing temporary is left
    assert result["basis"] == "flops"
    for run in result["runs"]:
        evaluation = json.loads((Path(run["path"]) / "evaluation.json").read_text())
        assert run["scores"]["linear"] == evaluation["linear"]["accuracy"]
        assert run["costs"]["flops"] == evaluation["ledger"]["pretraining"]["flops"]
        assert run["costs"]["epochs"] == pytest.approx(640 / 1257)


def test_json_is_what_is_written_and_python_returns_the_same(runs, capsys, tmp_path):
    status, text, _ = call(capsys, *runs, "--out", tmp_path / "a", "--json", "--by", "knn", "--budget", "views")
    assert (status, text.count("\n")) == (0, 1)
    assert json.loads(text) == json.loads((tmp_path / "a" / "compare.json").read_text())
    opened = [swell.load(runs[0]), *runs[1:]]
    assert swell.compare(opened, tmp_path / "b", by="knn", budget="views") == json.loads(text)


def test_the_markdown_table_has_every_cost_and_its_caption(runs, tmp_path):
    result = swell.compare(runs, tmp_path / "out", budget="flops")
    header, rule, *rows, empty, caption = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert header == (
        "| arm | n | rank | 1-shot | 10-shot | kNN | linear | NMI | seconds | TFLOPs | views | samples | "
        "student forwards | megapixels | peak MiB | steps | epochs |"
    )
    assert (len(rows), empty) == (2, "")
    assert {line.count("|") for line in (header, rule, *rows)} == {18}
    assert caption.startswith(result["verdict"])
    assert "swell-probe-1" in caption


def test_the_csv_table_holds_unrounded_numbers(runs, tmp_path):
    result = swell.compare(runs, tmp_path / "out", budget="flops")
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == [arm["name"] for arm in result["arms"]]
    for row, arm in zip(rows, result["arms"], strict=True):
        assert float(row["linear_mean"]) == arm["scores"]["linear"]["mean"]
        assert float(row["linear_sd"]) == arm["scores"]["linear"]["sd"]
        assert float(row["flops"]) == float(row["total_flops"]) == arm["costs"]["flops"]
        assert bool(int(row["front_flops"])) == (arm["name"] in result["front"]["flops"])


def test_unequal_budgets_make_a_table_without_ranks(copies, capsys, tmp_path):
    for run in copies[2:]:
        triple_the_cost(run)
    status, text, _ = call(capsys, *copies, "--out", tmp_path / "out")
    assert status == 0
    assert "rank " not in text.splitlines()[0]
    assert re.search(r"dcl had [\d.]+ times the seconds, 3 times the FLOPs, 3 times the views and 3 times the ", text)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No ranking, because" in page
    assert ">rank<" not in page
    status, _, err = call(capsys, *copies, "--out", tmp_path / "no", "--budget", "flops")
    assert (status, len(err)) == (2, 1)
    assert "dcl had 3 times the FLOPs of simclr" in err[0]
    assert not (tmp_path / "no").exists()


def test_only_an_earlier_comparison_is_replaced_and_only_by_force(runs, capsys, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert call(capsys, *runs, "--out", out)[0] == 0  # an empty folder is free to take
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    status, _, err = call(capsys, *runs[:2], "--out", out)
    assert (status, len(err), "--force" in err[0]) == (2, 1, True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert call(capsys, *runs[:2], "--out", out, "--force")[0] == 0
    assert len(json.loads((out / "compare.json").read_text())["runs"]) == 2
    (out / "notes.txt").write_text("mine")
    status, _, err = call(capsys, *runs, "--out", out, "--force")
    assert (status, "holds notes.txt" in err[0]) == (2, True)
    (out / "notes.txt").unlink()
    (out / "compare.json").write_text("{}")
    assert call(capsys, *runs, "--out", out, "--force")[0] == 2
    for place in (runs[0], runs[0] / "recipe.toml", runs[0] / "recipe.toml" / "below"):
        status, _, err = call(capsys, *runs, "--out", place, "--force")
        assert (status, len(err)) == (2, 1)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["{0}"], "at least two runs"),
        (["{0}", "{0}"], "the same folder"),
        (["{0}", "."], "a finished run"),
        (["{0}", "{1}", "--budget", "flopz"], "did you mean 'flops'?"),
        (["{0}", "{1}", "--by", "lineal"], "did you mean 'linear'?"),
        ([], "RUNS"),
    ],
)
def test_a_slip_costs_one_line(runs, capsys, tmp_path, argv, says):
    status, text, err = call(capsys, *(word.format(*runs) for word in argv), "--out", tmp_path / "out")
    assert (status, text, len(err)) == (2, "", 1)
    assert says in err[0]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_not_evaluated_says_how(copies, capsys, tmp_path):
    (copies[1] / "evaluation.json").unlink()
    status, _, err = call(capsys, *copies, "--out", tmp_path / "out")
    assert (status, len(err)) == (2, 1)
    assert f"run swell evaluate {copies[1]} DATA first" in err[0]


class Balanced(HTMLParser):
    """Tags in order; every one that opens must close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def result(runs, tmp_path):
    return swell.compare(runs, tmp_path / "out", budget="flops")


def charts(page):
    """By title, what the script reads of each chart, and the svg."""
    figures = re.findall(r'<figure class="chart">(.*?)</figure>', page, re.S)
    found = {}
    for figure in figures:
        title = html.unescape(re.search(r"<h3>(.*?)</h3>", figure)[1])
        data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure, re.S)[1])
        found[title] = data, re.search(r'<svg viewBox="0 0 520.*?</svg>', figure, re.S)[0]
    return found


def test_every_run_is_a_dot_against_every_cost_that_differs(result):
    told = json.loads(json.dumps(result))
    for run in told["runs"]:
        run["costs"]["pixels"] *= 1 + run["seed"]
    told["budgets"]["pixels"]["equal"] = False
    told["budgets"]["flops"]["equal"] = True
    found = charts(render_comparison(told))
    assert "Pixels" in found
    assert not {"Views", "Samples", "Steps", "FLOPs"} & set(found)  # all runs would stand above one place
    data, svg = found["Pixels"]
    for line in data["lines"]:
        runs = [run for run in told["runs"] if run["arm"] == line["name"]]
        assert line["x"] == pytest.approx([run["costs"]["pixels"] for run in runs], rel=1e-4)
        assert line["y"] == pytest.approx([100 * run["scores"]["linear"] for run in runs], rel=1e-4)
    marks = [e for e in ElementTree.fromstring(svg).iter("path") if "mark" in e.get("class", "")]
    assert [e.get("class") for e in marks] == ["mark dots s0 k0", "mark dots s0 k1"]
    assert [e.get("d").count("M") for e in marks] == [2, 2]


def test_the_pareto_front_joins_the_arms_that_no_other_beats(result):
    told = json.loads(json.dumps(result))
    first, second = told["arms"]
    first["spent"]["seconds"], second["spent"]["seconds"] = 20.0, 10.0
    first["scores"]["linear"]["mean"], second["scores"]["linear"]["mean"] = 0.9, 0.8
    told["front"]["seconds"] = [second["name"], first["name"]]
    page = render_comparison(told)
    data, _ = charts(page)["Best for the time"]
    assert [(line["name"], line["x"], line["y"]) for line in data["lines"]] == [
        (first["name"], [20], [90]), (second["name"], [10], [80]), ("Pareto front", [10, 20], [80, 90]),
    ]  # fmt: skip
    assert "Each arm was worth its time: none was beaten by one that took no longer." in page
    told["front"]["seconds"] = [first["name"]]
    assert f"Only {first['name']} paid off in time" in render_comparison(told)
    told["machines_differ_in"] = {"cpu": ["a", "b"]}
    assert "arithmetic" in render_comparison(told).partition("</p>")[0]


def test_the_summary_is_two_sentences_and_the_runs_can_be_made_again(result, runs):
    page = html.unescape(render_comparison(result))
    summary = re.search(r'<p class="verdict">(.*?)</p>', page)[1]
    assert summary.startswith(result["verdict"])
    assert len(re.findall(r"[.]( |$)", summary)) == 2
    command = re.search(r"<code>(swell compare .*?)</code>", page)[1]
    assert parse(shlex.split(command)[1:])
    assert [str(run) in command for run in runs] == [True] * 4
    assert page.count("Show the recipe of") == 2
    assert 'method = "dcl"' in page
    assert "<dt>torch</dt>" in page


@pytest.mark.parametrize(("origin", "command"), [("builtin:digits:train", True), ("array", False)])
def test_a_suite_is_made_again_from_its_folder(result, runs, origin, command):
    told = {**result, "suite": "methods", "data": {**result["data"], "origin": origin}}
    (text,) = re.findall(r"<code>(swell.compare.*?)</code>", html.unescape(render_comparison(told)))
    if command:
        assert parse(shlex.split(text)[1:]).runs == [str(runs[0].parent)]
        assert "--data builtin:digits --labelled builtin:digits " in text
    else:
        assert text == f"swell.compare({str(runs[0].parent)!r}, {str(runs[0].parent) + '-again'!r}, data=data)"


def test_the_map_shows_what_each_arm_makes_of_the_same_samples(result, copies):
    page = render_comparison(result)
    data = next(json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page) if '"layouts"' in text)  # fmt: skip
    assert data["count"] == 90  # 30 % of 300
    assert len({layout["xy"] for layout in data["layouts"]}) == 2
    assert [c["name"] for c in data["colourings"]] == ["label"]
    options = re.findall(r'<option value="\d+">(\w+)</option>', page)
    assert options == [arm["name"] for arm in result["arms"]]
    told = json.loads(json.dumps(result))
    told["arms"][0]["runs"] = [str(copies[0])]
    for damage in (b"no map", None):
        if damage is None:
            (copies[0] / "map.npz").unlink()
        else:
            (copies[0] / "map.npz").write_bytes(damage)
        assert '<figure class="map">' not in render_comparison(told)


def test_the_page_is_well_formed_and_stands_alone(result):
    page = render_comparison(result)
    tags = Balanced(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "costs" in ids
    assert "http" not in page.replace("http-equiv", "")
    for heading in ("How good are the features?", "What did pre-training cost?", "Which budgets are equal?",
                    "How sure is it? Linear accuracy against", "Which arms are worth their cost?",
                    "What do the features look like without labels?",
                    "What differs between the arms?", "Every run"):  # fmt: skip
        assert heading in html.unescape(page)
    assert '<b class="best">' not in page  # the rank says what is best; no second rule beside it


@pytest.mark.parametrize("name", [HOSTILE, OUTSIDE])
def test_hostile_names_stay_text(result, name):
    told = json.loads(json.dumps(result).replace("dcl", json.dumps(name)[1:-1]))
    assert told["arms"][0]["name"] == name or told["arms"][1]["name"] == name
    for renamed, own in zip(told["arms"], result["arms"], strict=True):
        renamed["runs"] = own["runs"]  # which are where they were
    told["runs"][0]["path"] = result["runs"][0]["path"]
    expected = [tag for tag, _ in Balanced(render_comparison(result)).tags]
    page = render_comparison(told)
    assert [tag for tag, _ in Balanced(page).tags] == expected
    assert name not in page
    for line in markdown(told).splitlines()[:4]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 18


def test_patches_generated_samples_and_gaps_have_their_columns(result):
    told = json.loads(json.dumps(result))
    first, second = told["arms"]
    first["costs"] |= {"generator_seconds": 12.0, "teacher_forwards": 1280.0}
    score = {"mean": 0.5, "sd": None}
    first["bag_of_features"] = {"patches": 16, "mode": "grid", "forwards_per_sample": 16, "knn": score, "linear": score}
    second["costs"]["epochs"] = second["rank"] = None
    told["budgets"]["teacher_forwards"] |= {"max": 1280.0, "equal": False, "most": first["name"]}
    page, table = render_comparison(told), markdown(told)
    for header in ("teacher forwards", "generator"):
        assert header in page
        assert header in table
    assert "linear, 16 grid patches" in page
    assert "| 50.0 | 50.0 |" in table
    assert table.splitlines()[3].endswith("| – |")
    assert "Teacher forwards" in charts(page)


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_the_page_fits_a_desktop_and_a_phone(result, tmp_path):
    (tmp_path / "page.html").write_text(render_comparison(result), encoding="utf-8")
    with chromium.Browser(tmp_path / "profile") as browser:
        for width, touch in ((1280, False), (390, True)):
            with browser.open(tmp_path / "page.html", width=width, touch=touch) as tab:
                assert tab.run("document.documentElement.scrollWidth") == width
                tab.click(".chart .legend button")
                lit = "[...document.querySelector('.chart svg').querySelectorAll('.mark')].map((m) => m.classList.contains('lit'))"
                assert tab.run(lit)[:2] == [True, False]
                assert tab.complaints == []
