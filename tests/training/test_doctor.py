"""What `swell doctor` says of a machine follows what the machine, and the person, have set."""

import pytest
import torch

from swell.threads import not_bound_because
from swell.training import doctor
from swell.training.allocator import not_reused_because
from swell.training.machine import pick_precision


def told():
    return {aid.name: aid for aid in doctor.aids(bound=False)}


def test_bf16_is_on_where_training_takes_it():
    channels = 64
    assert told()["bfloat16"].on == (pick_precision("auto", torch.device("cpu"), channels) == "bf16")


@pytest.mark.parametrize("features", [(), ("AVX512-BF16",), ("AVX512-BF16", "AMX")])
def test_features_of_the_cpu(monkeypatch, features):
    monkeypatch.setattr(doctor, "cpu_features", lambda: features)
    found = told()
    assert found["bfloat16"].on == bool(features)
    assert found["AMX"].on == ("AMX" in features)
    assert found["products for small maps"].on == bool(features)
    assert all(feature in found["bfloat16"].why for feature in features)


def test_what_a_person_has_set_is_the_reason(monkeypatch):
    for key in ("OMP_NUM_THREADS", "OMP_PROC_BIND", "GOMP_SPINCOUNT", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(key, raising=False)
    assert not_bound_because() == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert "OMP_NUM_THREADS" in told()["threads bound"].why
    assert not told()["memory kept between steps"].on
    assert "MALLOC_ARENA_MAX" in not_reused_because()
    monkeypatch.setenv("SWELL_BIND", "0")
    assert told()["threads bound"].why == "SWELL_BIND is 0"


def test_a_preloaded_allocator_keeps_memory_itself(monkeypatch):
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "preloaded", lambda: "tcmalloc")
    found = told()["memory kept between steps"]
    assert found.on
    assert "tcmalloc" in found.why


@pytest.mark.skipif(bool(not_reused_because()), reason="no glibc that may be told")
@pytest.mark.parametrize(
    ("library", "words"), [("libt.so.4", "LD_PRELOAD=libt.so.4 before"), (None, "where installed")]
)
def test_an_allocator_without_gaps_is_named(monkeypatch, library, words):
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "find_library", lambda name: library)
    assert words in told()["memory kept between steps"].why


def test_extras_are_those_of_the_package(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: [
        "numpy>=1.26", 'torch>=2.11; extra == "there"', 'no-such-package>=1 ; python_version > "3" and extra == "lacking"',
        'pytest>=8; extra == "dev"'])  # fmt: skip
    assert doctor.extras() == {"there": [], "lacking": ["no-such-package"]}
