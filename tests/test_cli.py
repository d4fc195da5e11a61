"""The command line as a contract: what it prints, where, with which exit status, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import swell
from swell.cli import COMMANDS, main
from swell.data.gen import write_gen
from swell.data.source import Provenance
from swell.training.folder import read_metrics

SMALL = ["--recipe", "digits", "--width", "0.25", "--batch-size", "32"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def call(capsys, *argv):
    """Exit status, stdout and the lines of stderr of `swell *argv`."""
    capsys.readouterr()
    status = main([str(word) for word in argv])
    said = capsys.readouterr()
    return status, said.out, said.err.splitlines()


def printed_json(capsys, *argv):
    """What `swell *argv --json` printed: one object on one line, and nothing else."""
    status, out, _ = call(capsys, *argv, "--json")
    assert status == 0
    assert out.count("\n") == 1
    return json.loads(out)


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ONE_THREAD
    ).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A GEN of 40 digits from a generator that learnt next to nothing."""
    out = tmp_path_factory.mktemp("made") / "gen"
    return swell.generate("builtin:digits", out, count=40, steps=3, quiet=True)


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    """A RUN of six steps with those samples mixed in."""
    out = tmp_path_factory.mktemp("run") / "run"
    argv = ["pretrain", "builtin:digits", "--out", str(out), "--inflate", str(made), "--weight", "2.5"]
    assert main([*argv, "--strength", "0.7", "--steps", "6", *SMALL]) == 0
    return out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_line_an_option_with_its_default(name, capsys):
    status, out, err = call(capsys, name, "--help")
    assert (status, err) == (0, [])
    for field in fields(COMMANDS[name]):
        if field.metadata["positional"]:
            assert re.search(rf"^  {field.name.upper()}  +\S.*$", out, re.M)
        else:
            flag = "--" + field.name.strip("_").replace("_", "-")
            found = re.findall(rf"^  {flag}( [A-Z|]+)?  +\S.*\((default: .+|required)\)$", out, re.M)
            assert len(found) == 1, f"{flag} in\n{out}"


def test_help_names_every_command_and_says_what_it_is_for(capsys):
    status, out, _ = call(capsys, "--help")
    assert status == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.__doc__)}$", out, re.M)
    assert call(capsys)[1] == out
    assert call(capsys, "--version")[1] == f"swell {swell.__version__}\n"


def test_help_and_import_are_quick_and_light():
    """Times are the fastest of three: what the code needs, not what a busy machine adds."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "swell", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 1
    code = "import sys, swell.cli; swell.cli.main(['pretrain', '--help']); print('torch' in sys.modules)"
    assert python(code).endswith("False\n")
    timed = "import time; t = time.perf_counter(); import swell; print(time.perf_counter() - t)"
    assert min(float(python(timed)) for _ in range(2)) < 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["pretrian", "x"], "command 'pretrian': expected a command of swell; did you mean 'pretrain'?"),
        (["pretrain", "x", "--wieght", "3"], "did you mean '--weight'?"),
        (["pretrain", "x"], "--out"),
        (["pretrain", "x", "--out", "o", "--steps", "many"], "--steps 'many': expected a whole number"),
        (["pretrain", "builtin:digits", "--out", "o", "--method", "simclrr"], "did you mean 'simclr'?"),
        (["generate", "builtin:digits", "--out", "o", "--generator", "difusion"], "did you mean 'diffusion'?"),
        (["pretrain", "builtin:digist", "--out", "o"], "did you mean 'digits'?"),
        (["pretrain", "builtin:digits", "--out", "o", "--recipe", "r.toml"], "unknown key 'epoch'"),
        (["pretrain", "builtin:digits", "--out", "o", "--weight", "2"], "--inflate"),
    ],
)
def test_a_slip_costs_one_line_and_exit_status_2(argv, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text("epoch = 3\n")
    status, out, err = call(capsys, *argv)
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith("swell: ")
    assert says in err[0]
    assert os.listdir() == ["r.toml"]


def test_lists_as_json(capsys):
    for name in ("methods", "generators", "recipes"):
        rows = printed_json(capsys, name)
        assert rows
        assert all(set(row) == {"name", "summary", "paper"} for row in rows)
        assert all(row["name"] in call(capsys, name)[1] for row in rows)
    assert "simclr" in [row["name"] for row in printed_json(capsys, "methods")]
    assert "adainf" in [row["name"] for row in printed_json(capsys, "recipes", "--views")]
    assert printed_json(capsys, "doctor")["packages"]["torch"]


def test_generate_prints_and_leaves_what_the_contract_names(made, capsys, tmp_path):
    held = {path.name for path in made.iterdir()}
    files = {"manifest.json", "shard-00000.npz", "generator.safetensors", "quality.json", "samples.png", "ledger.json"}
    files |= {"generator.json", "reference.safetensors", "nearest.png", "report.html"}
    assert held == files
    argv = ("generate", "builtin:digits", "--out", made, "--count", 40, "--steps", 3)
    again = printed_json(capsys, *argv)  # the same settings: kept as it is
    assert (again["count"], again["out"]) == (40, str(made))
    assert {"quality", "ledger"} <= set(again)
    status, _, err = call(capsys, *argv[:-1], 4)
    assert (status, len(err)) == (2, 1)
    assert "--force" in err[0]


def test_samples_from_outside_are_judged_and_tell_their_origin(capsys, tmp_path):
    theirs = tmp_path / "theirs.npz"
    np.savez(theirs, images=np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    argv = ("generate", "builtin:digits", "--out", tmp_path / "gen", "--from", theirs)
    status, _, err = call(capsys, *argv)
    assert (status, len(err)) == (2, 1)
    assert "--trained-on TEXT --labels-used yes|no --filtered yes|no" in err[0]
    answers = ("--trained-on", "digits", "--filtered", "no", "--labels-used")
    status, _, err = call(capsys, *argv, *answers, "yes")
    assert (status, "--allow-label-leak" in err[-1]) == (2, True)
    status, _, err = call(capsys, *argv, *answers, "perhaps")
    assert (status, "yes or no" in err[-1]) == (2, True)
    assert list(tmp_path.iterdir()) == [theirs]
    result = printed_json(capsys, *argv, *answers, "yes", "--allow-label-leak")
    assert (result["count"], result["quality"]["verdict"]) == (60, "poor")
    provenance = json.loads((tmp_path / "gen" / "manifest.json").read_text())["provenance"]
    assert (provenance["trained_on"], provenance["labels_used"], provenance["generator"]) == ("digits", True, "outside")
    assert "Labels helped" in (tmp_path / "gen" / "report.html").read_text()
    status, _, err = call(capsys, "pretrain", tmp_path / "gen", "--out", tmp_path / "run", "--steps", 2)
    assert (status, "--allow-label-leak" in err[-1]) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--options", "width"), "name=value"),
        (("--options", "widht=3"), "did you mean 'width'"),
        (("--options", "width=many"), "right kind"),
        (("--options", "count=5"), "'count'"),
        (("--labels-used", "no"), "--from"),
        (("--filter", "1.5"), "0.2"),
        (("--sampler", "euler"), "sampler"),
        (("--features", "mine.txt"), "file.py:name"),
        (("--generator", "gan", "--nfe", "5"), "evaluations"),
    ],
)
def test_wrong_options_of_generators_are_refused(capsys, tmp_path, options, says):
    argv = ("generate", "builtin:digits", "--out", tmp_path / "gen", "--steps", 2)
    status, _, err = call(capsys, *argv, *options)
    assert (status, says in err[-1]) == (2, True), err
    assert list(tmp_path.iterdir()) == []


def test_pretrain_mixes_by_weight_and_leaves_what_the_contract_names(run):
    held = {path.name for path in run.iterdir()}
    assert {"recipe.toml", "environment.json", "metrics.jsonl", "ledger.json", "checkpoint.pt"} <= held
    assert {"encoder.safetensors", "encoder.json", "report.html"} <= held
    opened = swell.load(run)
    assert (opened.recipe.weight, opened.recipe.strength, opened.recipe.steps) == (2.5, 0.7, 6)
    cost = opened.ledger.pretraining
    beta = 2.5 * 1257 / (2.5 * 1257 + 40)
    assert cost.samples_real == int(6 * 32 * beta)
    assert cost.samples_real + cost.samples_generated == 6 * 32
    assert opened.ledger.generator_training.seconds > 0  # what the samples cost is this run's cost too


def test_evaluate_and_embed(run, capsys, tmp_path):
    result = printed_json(capsys, "evaluate", run, "builtin:digits", "--no-baselines")
    assert result == json.loads((run / "evaluation.json").read_text())
    assert (result["probe"], result["n_train"], result["n_test"]) == ("swell-probe-1", 1257, 540)
    assert 0.1 < result["knn"]["accuracy"] <= 1
    assert {"1", "10"} <= set(result["few_shot"])
    assert {"ari", "nmi"} <= set(result["clusters"])
    assert {"rankme", "alignment", "uniformity"} <= set(result["label_free"])
    out = tmp_path / "z.npz"
    assert printed_json(capsys, "embed", run, "builtin:digits:test", "--out", out)["shape"] == [540, 32]
    with np.load(out) as file:
        np.testing.assert_array_equal(file["features"], swell.load(run).encode("builtin:digits:test"))
    status, text, _ = call(capsys, "embed", run, "builtin:digits:test", "--out", out)
    assert status == 0
    assert re.fullmatch(rf"features \[540, 32\] in {re.escape(str(out))}; [\d,]+ samples/s\n", text)


def test_the_recipe_a_run_leaves_behind_makes_it_again(run, made, tmp_path):
    recipe = str(run / "recipe.toml")
    again = swell.pretrain("builtin:digits", tmp_path / "again", inflate=made, recipe=recipe, quiet=True, report=False)
    assert (again.path / "encoder.safetensors").read_bytes() == (run / "encoder.safetensors").read_bytes()


def test_options_of_a_backbone_reach_the_encoder_and_go_with_it(tmp_path, capsys):
    def pretrained(name, recipe, **more):
        return swell.pretrain("builtin:digits", tmp_path / name, recipe=recipe, quiet=True, report=False, **more)

    text = "patch=4,depth=1,positions=learned"
    run = pretrained("vit", "digits", steps=2, width=0.25, batch_size=32, backbone="vit_tiny", backbone_options=text)
    chosen = {"patch": 4, "positions": "learned", "pool": "class", "depth": 1, "drop_path": 0.0}
    assert run.encoder.config.options == run.recipe.backbone_options == chosen
    assert run.encode("builtin:digits:test").shape == (540, 48)
    recipe = str(run.path / "recipe.toml")
    again = pretrained("again", recipe)
    assert (again.path / "encoder.safetensors").read_bytes() == (run.path / "encoder.safetensors").read_bytes()
    assert pretrained("other", recipe, backbone="conv6").recipe.backbone_options == {}  # those were for another one
    argv = ["pretrain", "builtin:digits", "--out", tmp_path / "no", "--backbone", "vit_tiny", "--backbone-options"]
    status, _, err = call(capsys, *argv, "ptch=4")
    assert (status, len(err)) == (2, 1)
    assert "did you mean 'patch'?" in err[0]


def test_the_demo_tells_its_limits_before_it_begins(capsys, tmp_path):
    status, _, err = call(capsys, "demo", "--out", tmp_path / "demo", "--seeds", 0)
    assert (status, len(err)) == (2, 1)
    assert not (tmp_path / "demo").exists()


def test_ctrl_c_saves_and_resume_finishes(tmp_path, capsys):
    out = tmp_path / "run"
    argv = ["pretrain", "builtin:digits", "--out", str(out), "--steps", "60", "--precision", "fp32", *SMALL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "swell", *argv], env=ONE_THREAD, **pipes)
    deadline = time.monotonic() + 60
    while not read_metrics(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "swell: interrupted; what was saved is whole"
    assert (out / "checkpoint.pt").exists()
    assert not (out / "encoder.safetensors").exists()
    begun = read_metrics(out)

    status, _, err = call(capsys, *argv, "--resume", "--learning-rate", "0.5")
    assert (status, len(err)) == (2, 1)
    assert "learning_rate: 0.002 -> 0.5" in err[0]
    assert read_metrics(out) == begun
    assert printed_json(capsys, *argv, "--resume")["loss"] > 0
    assert (out / "encoder.safetensors").exists()
    steps = [record["step"] for record in read_metrics(out)]
    assert read_metrics(out)[: len(begun)] == begun  # it went on; it did not begin again
    assert steps == list(range(60))
    assert printed_json(capsys, *argv, "--resume")["out"] == str(out)  # finished: nothing left to do


def test_a_reader_who_leaves_is_no_error():
    swell_methods = f"{sys.executable} -m swell methods"
    shell = ["bash", "-c", f"set -o pipefail; {swell_methods} | true"]
    done = subprocess.run(shell, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_samples_made_with_labels_need_the_users_word(tmp_path, capsys):
    samples = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), np.uint8)
    write_gen(tmp_path / "gen", samples, Provenance("generated", "gen", "diffusion", labels_used=True))
    out = tmp_path / "run"
    argv = ["pretrain", "builtin:digits", "--out", out, "--inflate", tmp_path / "gen", "--steps", 2, *SMALL]
    status, _, err = call(capsys, *argv)
    assert (status, len(err)) == (2, 1)
    assert "--allow-label-leak" in err[0]
    assert not out.exists()
    assert call(capsys, *argv, "--allow-label-leak")[0] == 0
    assert "made with the help of labels" in (out / "report.html").read_text(encoding="utf-8")


def test_any_byte_in_a_file_name_is_fine(tmp_path, capsys):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff photos \xe4"))
    strange.mkdir()
    np.save(strange / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    assert printed_json(capsys, "pretrain", strange / "x.npy", "--out", strange / "run", "--steps", 2, *SMALL)["out"]
    assert "photos" in swell.load(strange / "run").provenance["real"]["origin"]


def test_encoder_is_a_scikit_learn_estimator(tmp_path):
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    X = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    y = np.arange(60) % 3
    recipe = swell.Recipe(backbone="conv6", width=0.25, batch_size=16, views="digits", method_options={"hidden": 32})
    encoder = swell.Encoder(recipe=recipe, steps=3)
    features = encoder.fit(X).transform(X)
    assert features.shape == (60, encoder.n_features_out_)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(encoder.run_.encode(X[:5]), features[:5])
    model = make_pipeline(clone(encoder), LogisticRegression(max_iter=200)).fit(X, y)
    np.testing.assert_array_equal(model[0].transform(X), features)
    assert model.predict(X).shape == (60,)


def test_load_opens_what_a_run_left(run):
    opened = swell.load(str(run))
    images = swell.open("builtin:digits").samples[:7]
    z = opened.encode(images)
    assert z.shape == (7, 32)
    assert set(load_file(run / "encoder.safetensors")) == set(opened.encoder.state_dict())
    with pytest.raises(swell.InputError, match="a finished run"):
        swell.load(run.parent)
