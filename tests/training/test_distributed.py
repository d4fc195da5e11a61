"""Several processes train what one trains: the registry swept on two ranks, whole runs, and how they end."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from swell.checkpoint import load_checkpoint
from swell.cli import main
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.methods import METHODS
from swell.methods.simclr import SimCLR
from swell.nets.batch_norm import SharedNorm, share_norms
from swell.ranks import ALONE, Ranks
from swell.recipes import Recipe
from swell.run import Run
from swell.testing import check_ranks
from swell.testing.examples import example_samples
from swell.threads import start_worker
from swell.training import alternate
from swell.training.distributed import check_shared
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.phases import read_phase_log
from swell.training.step import Stepper
from torchruns import TORCHRUN, kill_the_second

SMALL = {"hidden": 32, "outputs": 16, "predictor": 16, "queue": 40, "prototypes": 24, "queue_start": 0.0}
SMALL |= {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}


def small(kind):
    return partial(kind, **{name: value for name, value in SMALL.items() if name in kind.__dataclass_fields__})


class Local(SimCLR):
    """A loss that forgets the samples of the other ranks."""

    def loss(self, encoder, parts, views, progress):
        return super().loss(encoder, parts, replace(views, ranks=ALONE), progress)


def test_every_method_on_two_ranks_is_the_method_on_one():
    """And one that is not is told of; all in one go, as starting the processes is what takes long."""
    with pytest.raises(AssertionError, match="on 2 ranks: ") as told:
        check_ranks(*(small(entry.make) for entry in METHODS), small(Local))
    wrong = str(told.value).removeprefix("on 2 ranks: ").split("; ")
    assert [sentence for sentence in wrong if " of Local " not in sentence] == []
    assert wrong[0].startswith("the loss of step 0 of Local differs by ")


# ---- whole runs ------------------------------------------------------------------------------------------

RECIPE = Recipe(
    method="simclr",
    backbone="conv6",
    width=0.25,
    batch_size=16,
    steps=4,
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.0,
    method_options={"hidden": 16, "outputs": 8},
    precision="fp32",
)

IN_TURN = replace(
    RECIPE,
    method="diffaug",
    backbone="auto",
    views="cells",
    steps=12,
    learning_rate=0.005,  # at ten times that, weights that differ by 1e-7 part at once
    generator_options={"width": 16, "depth": 1, "evaluations": 2},
    positive_count=2,
    rounds=1,
)


def source(name, kind="real"):
    generator = "diffusion" if kind == "generated" else ""
    return Source(example_samples(name, 96 if kind == "real" else 200), Provenance(kind, "array", generator=generator))


NINE = (replace(RECIPE, views="digits", steps=9), source("grey 8x8"))


def runs():
    """Recipes with the samples they are for."""
    grey, colour, vectors = source("grey 8x8"), source("colour 16x16"), source("vectors")
    inflated = replace(RECIPE, weight=3.0, views="digits")
    heads = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    masked = replace(RECIPE, backbone="vit_tiny", width=1 / 6, backbone_options={"patch": 4, "depth": 1})
    swav = {"hidden": 16, "outputs": 8, "prototypes": 12, "queue": 20}
    return {
        "inflated": (inflated, grey, source("grey 8x8", "generated")),
        "bernoulli": (replace(inflated, mixing="bernoulli"), grey, source("grey 8x8", "generated")),
        "in pieces": (replace(RECIPE, method="swav", method_options=swav, view_chunk=1), colour, None),
        "masked": (replace(masked, method="mae", method_options=heads), colour, None),
        "mixed": (replace(masked, method="mixed_ae", method_options=heads), colour, None),
        "vectors": (replace(RECIPE, backbone="auto", views="neighbour_mix", positives="neighbours"), vectors, None),
        "images with neighbours": (replace(RECIPE, positives="neighbours", replace=0.5), colour, None),
        "in turn": (IN_TURN, vectors, None),
        "in turn, anew": (replace(IN_TURN, positive_count=0), vectors, None),
    }


def on_ranks(rank, count, folder):
    """What each of the ranks does of all the tests below."""
    start_worker(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    ranks = Ranks(rank, count)
    op = Operation(quiet=True, ranks=ranks)
    for name, (recipe, real, made) in runs().items():
        pretrain(recipe, real, folder / "two" / name, made, op)
    pretrain(
        replace(RECIPE, views="digits", steps=None, minutes=0.01), source("grey 8x8"), folder / "minutes", None, op
    )
    pretrain(replace(RECIPE, views="digits", batch_norm="device"), source("grey 8x8"), folder / "device", None, op)
    go_on(NINE, folder / "resumed", 5, replace(op, resume=True), on=1)
    go_on((IN_TURN, source("vectors")), folder / "in turn", 9, replace(op, resume=True), on=1)
    gone_back(folder / "gone back", op)
    half_precision(ranks, folder)
    if ranks.first:
        check_shared(RECIPE, {"real": "abc"}, ranks)
    else:
        with pytest.raises(InputError, match="other data, or another seed, on process 1"):
            check_shared(RECIPE, {"real": "abd"}, ranks)
    dist.destroy_process_group()


def go_on(task, out, stop_at, op, on=0):
    """Train a recipe on data, and stop in step `stop_at` because the process `on` is asked to end."""
    step = Stepper.__call__

    def stopping(self, t, share):
        if t == stop_at and op.ranks.rank == on:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, t, share)

    Stepper.__call__ = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            pretrain(*task, out, None, op)
    finally:
        Stepper.__call__ = step


def gone_back(out, op):
    """Train in turn, and go back from the phase on generated positives, which the first rank alone finds broken."""
    alarm = alternate.encoder_alarm
    alternate.encoder_alarm = lambda record, _: "broken" if record["replaced"] else ""
    try:
        pretrain(IN_TURN, source("vectors"), out, None, op)
    finally:
        alternate.encoder_alarm = alarm


def half_precision(ranks, folder):
    """The norm of rows in bfloat16, in the first rank's share of a file."""
    x = torch.randn(8, 6, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 10
    norm = torch.nn.Sequential(torch.nn.BatchNorm2d(6))
    share_norms(norm, ranks)
    mine = x[ranks.own(8)].bfloat16().requires_grad_()
    y = norm(mine)
    (y.float() ** 3).sum().backward()
    assert isinstance(norm[0], SharedNorm)
    assert (y.dtype, mine.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.save({"y": ranks.stacked(y), "gradient": ranks.stacked(mine.grad)}, folder / f"half-{ranks.rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """A folder in which two ranks have trained all the runs."""
    folder = tmp_path_factory.mktemp("ranks")
    go_on(NINE, folder / "resumed", 2, Operation(quiet=True))
    go_on((IN_TURN, source("vectors")), folder / "in turn", 7, Operation(quiet=True))
    multiprocessing.spawn(on_ranks, (2, folder), nprocs=2)
    return folder


def weights(run):
    saved = load_checkpoint(run / "checkpoint.pt")
    return {f"{part}.{name}": w.double() for part in ("encoder", "parts") for name, w in saved[part].items()}


def assert_alike(run, other):
    """The same weights and losses but for rounding."""
    a, b = weights(run), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        gap, largest = (float(x.abs().max()) if x.numel() else 0.0 for x in (a[name] - b[name], b[name]))
        assert gap <= 2e-4 * (largest + 1e-3), name
    losses = [[line["loss"] for line in read_metrics(out)] for out in (run, other)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("name", list(runs()))
def test_a_run_of_two_ranks_is_that_of_one(two_ranks, tmp_path, name):
    recipe, real, made = runs()[name]
    alone = pretrain(recipe, real, tmp_path / "one", made, Operation(quiet=True))
    assert_alike(two_ranks / "two" / name, alone)
    ours, theirs = (Run(out, "cpu").ledger.pretraining for out in (two_ranks / "two" / name, alone))
    for what in ("samples_real", "samples_generated", "views", "forwards", "teacher_forwards", "pixels"):
        assert getattr(ours, what) == getattr(theirs, what)
    assert theirs.flops <= ours.flops * 1.01 <= 1.6 * theirs.flops  # the loss, and heads behind it, on every rank
    assert (two_ranks / "two" / name / "recipe.toml").read_bytes() == (alone / "recipe.toml").read_bytes()


def test_a_run_goes_on_with_one_rank_then_two_then_one(two_ranks, tmp_path):
    out = two_ranks / "resumed"
    assert load_checkpoint(out / "checkpoint.pt")["state"]["step"] == 6  # begun to 3 by one rank
    pretrain(*NINE, out, None, Operation(quiet=True, resume=True))
    assert_alike(out, pretrain(*NINE, tmp_path / "whole", None, Operation(quiet=True)))


def test_so_does_one_in_phases(two_ranks, tmp_path):
    """Two ranks take over when the generator has been trained, and stop once more; all lines of its log are there."""
    out, task = two_ranks / "in turn", (IN_TURN, source("vectors"))
    assert load_checkpoint(out / "checkpoint.pt")["state"]["step"] == 10  # begun to 8 by one rank
    pretrain(*task, out, None, Operation(quiet=True, resume=True))
    whole = pretrain(*task, tmp_path / "whole", None, Operation(quiet=True))
    assert_alike(out, whole)
    lines, known = read_phase_log(out), read_phase_log(whole)
    assert [(line["phase"], line.get("steps_done")) for line in lines] == [(1, 5), (2, None), (3, 7)]
    assert lines[2]["replaced"] == known[2]["replaced"] > 0
    assert lines[2]["drift"] == pytest.approx(known[2]["drift"], rel=1e-2)
    assert not (out / "good.pt").exists()


def test_all_ranks_go_back_together(two_ranks, tmp_path):
    gone_back(tmp_path / "alone", Operation(quiet=True))
    assert_alike(two_ranks / "gone back", tmp_path / "alone")
    lines = read_phase_log(two_ranks / "gone back")
    assert [(line["phase"], line["attempt"], line["alarm"]) for line in lines[::2]] == [(1, 1, ""), (3, 1, "broken")]
    assert (lines[3]["attempt"], lines[3]["replaced"]) == (2, 0.0)


def test_only_the_first_rank_writes_and_says_how_many_there_were(two_ranks):
    out = two_ranks / "two" / "inflated"
    assert json.loads((out / "environment.json").read_text())["processes"] == 2
    assert [m["step"] for m in read_metrics(out)] == [0, 1, 2, 3]
    assert not list(out.glob(".*.tmp"))
    assert not (out / "live.json").exists()


def test_minutes_are_up_for_all_ranks_at_once(two_ranks):
    """They would wait for each other for ever otherwise; the seconds are the first rank's."""
    assert Run(two_ranks / "minutes", "cpu").ledger.pretraining.seconds >= 0.6


def test_norms_of_each_device_are_another_run(two_ranks, tmp_path):
    alone = pretrain(replace(RECIPE, views="digits"), source("grey 8x8"), tmp_path / "one", None, Operation(quiet=True))
    with pytest.raises(AssertionError):
        assert_alike(two_ranks / "device", alone)


def test_norms_in_half_precision(two_ranks):
    x = (torch.randn(8, 6, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 10).bfloat16()
    x = x.double().requires_grad_()
    y = torch.nn.BatchNorm2d(6).double()(x)
    (y**3).sum().backward()
    found = torch.load(two_ranks / "half-0.pt", weights_only=True)
    torch.testing.assert_close(found["y"].flatten(0, 1).double(), y.detach(), atol=0.02, rtol=0.01)
    torch.testing.assert_close(found["gradient"].flatten(0, 1).double(), x.grad, atol=0.05, rtol=0.02)


# ---- from the command line -------------------------------------------------------------------------------

DIGITS = ["builtin:digits", "--recipe", "digits", "--batch-size", "32", "--width", "0.25", "--precision", "fp32"]


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return partial(subprocess.run, capture_output=True, text=True, check=False, timeout=120)


def ours(stderr):
    """The lines that are not torchrun's."""
    return [line for line in stderr.splitlines() if line.startswith(("swell:", "warning:"))]


@pytest.mark.parametrize("rank", [0, 1])
def test_what_cannot_be_shared_is_refused_by_the_first(monkeypatch, capsys, rank):
    monkeypatch.setattr("swell.cli.LINGERING", 0.0)
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "run", "builtin:digits"]) == 2
    line = "swell: swell evaluate by 2 processes at once: expected one process; pretrain, generate and embed can be shared; start it without torchrun"
    assert capsys.readouterr().err.splitlines() == ([line] if rank == 0 else [])


def test_a_killed_rank_ends_all_with_one_line(shell, tmp_path):
    command = [*TORCHRUN, "pretrain", *DIGITS, "--out", "run", "--steps", "1000000", "--checkpoint-seconds", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = kill_the_second(process)
    (line,) = ours(told)
    assert "another process of this run has ended" in line
    assert "--resume" in line
    assert told.count("Traceback") == 1  # torchrun's own
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["state"]["step"] > 0


@pytest.fixture
def two_hosts():
    """Two network namespaces joined by a cable: their names, and for each its own end of it."""
    hosts = {f"swell-{os.getpid()}-{k}": f"swell{k}" for k in "ab"}
    (a, ours), (b, theirs) = hosts.items()
    commands = [f"netns add {a}", f"netns add {b}", f"link add {ours} netns {a} type veth peer name {theirs} netns {b}"]
    for number, (host, device) in enumerate(hosts.items()):
        commands += [f"-n {host} addr add 10.77.0.{number + 1}/24 dev {device}", f"-n {host} link set lo up"]
        commands.append(f"-n {host} link set {device} up")
    try:
        for words in commands:
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"this machine makes no network namespaces ({done.stderr.strip()})")
        yield hosts
    except FileNotFoundError:
        pytest.skip("this machine has no iproute2")
    finally:
        for host in hosts:
            if shutil.which("ip"):
                subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def test_two_hosts_train_one_run(shell, tmp_path, two_hosts):
    command = [*TORCHRUN[:3], "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "10.77.0.1"]
    recipe = ["pretrain", *DIGITS, "--steps", "3", "--optimizer", "sgd", "--learning-rate", "0.05"]
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, *command, "--node-rank", str(k), "-m", "swell", *recipe, "--out", "run"],
            env={**os.environ, "GLOO_SOCKET_IFNAME": device},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k, (host, device) in enumerate(two_hosts.items())
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert [len(out.splitlines()) for out, _ in told] == [1, 0]
    assert main([*recipe, "--out", "alone"]) == 0
    assert_alike(tmp_path / "run", tmp_path / "alone")


# ---- alone -----------------------------------------------------------------------------------------------


def test_alone_nothing_is_done():
    x = torch.randn(3, 2, requires_grad=True)
    assert ALONE.gather(x, 1) is x
    assert ALONE.sum(x) is x
    assert ALONE.own(7) == slice(0, 7)
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.bytes_of_first(b"x") == b"x"
    assert ALONE.of_first(0.5) == 0.5
    ALONE.wait()
    check_shared(replace(RECIPE, batch_size=17), {}, ALONE)


def test_parts_are_equal_or_refused():
    assert [Ranks(r, 3).own(6) for r in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(InputError, match="7 rows on 3 processes: expected a multiple of 3"):
        Ranks(0, 3).own(7)
    with pytest.raises(InputError, match=r"batch size 16 on 3 processes.*give --batch-size 15"):
        check_shared(RECIPE, {}, Ranks(0, 3))


def test_a_rank_writes_rows_of_a_group_where_they_belong():
    from swell.methods.registry import Views

    views = Views((torch.zeros(6, 1), torch.zeros(3, 1)), ("global", "local"), 3, Ranks(1, 2))
    assert views.places(views.groups[0]).tolist() == [3, 4, 5, 9, 10, 11]  # of B = 6, two views
    assert views.places(views.groups[1]).tolist() == [3, 4, 5]
