"""The ground floor: files whole or absent, one-line errors, addressable seeds, progress that nests."""

import errno
import json
import os

import pytest
import torch

from swell import console
from swell.console import Progress, duration
from swell.errors import InputError, suggest
from swell.files import atomic_path, read_json, write_json, write_text
from swell.ledger import Cost, Ledger, counted_flops
from swell.registry import Registry
from swell.seeding import generator_for, seed_for
from swell.threads import all_cores, free_cores


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_errors_of_the_file_system_become_one_line(tmp_path, number):
    with pytest.raises(InputError, match="cannot write") as error, atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="odd"), atomic_path(tmp_path / "a"):
        raise OSError(errno.EIO, "odd")


def test_written_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.0, float("inf")], 3: "z"})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {"x": None, "y": [1.0, None], "3": "z"}
    with pytest.raises(InputError, match="exists"):
        read_json(tmp_path / "b.json")


def test_an_input_error_is_one_line_whatever_it_quotes():
    assert str(InputError("a\nb", "c\r\n d", "e")) == "a b: expected c d; e"
    assert suggest("wieght", ["weight", "seed"]) == "did you mean 'weight'?"
    assert suggest("zzz", ["weight", "seed"]) == "there are seed, weight"


def test_registries_refuse_doubles_and_suggest():
    things: Registry[int] = Registry("thing")
    things.register("one", "first")(1)
    assert things["one"] == 1
    with pytest.raises(RuntimeError):
        things.register("one", "again")(2)
    with pytest.raises(InputError, match="did you mean 'one'"):
        things["onne"]


def test_seeds_are_addressed_and_stable_for_ever():
    assert seed_for(0, "views", 3) == 3971230131169731477  # changing it would change every run
    places = {seed_for(s, name, t) for s in range(5) for name in ("views", "step") for t in range(50)}
    assert len(places) == 500
    a, b = (torch.rand(4, generator=generator_for(1, "x", 2)) for _ in range(2))
    assert a.equal(b)
    assert all(0 <= p < 2**63 for p in places)


def test_flops_of_a_product_forward_and_backward():
    x, w = torch.randn(5, 7), torch.randn(7, 3, requires_grad=True)
    with counted_flops() as box:
        (x @ w).sum().backward()
    assert box[0] == 2 * (2 * 5 * 7 * 3)  # forward, and the weight's gradient


def test_ledger_round_trip_and_total():
    ledger = Ledger(sampling=Cost(seconds=2, views=3), pretraining=Cost(seconds=5, flops=1e9))
    plain = json.loads(json.dumps(ledger.to_dict()))
    assert plain.pop("total")["seconds"] == 7
    assert Ledger.from_dict(plain) == ledger
    with pytest.raises(InputError):
        Ledger.from_dict({"sampling": {}})


def test_durations():
    assert [duration(s) for s in (0.2, 59.4, 60, 3599, 3600, 86399)] == [
        "0 s",
        "59 s",
        "1:00",
        "59:59",
        "1:00:00",
        "23:59:59",
    ]


def test_plain_progress_nests_into_one_display(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Progress("outer", total=1.0) as outer:
        outer.part(0.5, 1.0)
        now[0] = 20.0
        with Progress("inner", total=10, unit="steps") as inner:
            now[0] = 40.0
            inner.update(5, note="loss 1")
    error = capsys.readouterr().err
    assert error == " 75 %  inner  5/10 steps  0 steps/s  20 s left  loss 1\n"


def test_quick_work_stays_quiet(capsys):
    with Progress("quick", total=3) as bar:
        for i in range(3):
            bar.update(i)
    assert capsys.readouterr().err == ""


def test_workers_may_use_all_cores_though_the_main_thread_is_bound(monkeypatch):
    before = os.sched_getaffinity(0)
    monkeypatch.setenv("SWELL_CORES", ",".join(map(str, before)))  # what bind_threads notes at the start
    try:
        os.sched_setaffinity(0, {min(before)})
        assert all_cores() == before
        free_cores()
        assert os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)


def test_fused_attention_counts_as_the_products_it_fuses() -> None:
    n, heads, tokens, width = 2, 3, 17, 8
    q = torch.randn(n, heads, tokens, width, requires_grad=True)
    with counted_flops() as flops:
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    product = 2 * n * heads * tokens * tokens * width
    assert flops[0] == 2 * product + 5 * product  # q k^T and the weights times v; backward one of them once more
