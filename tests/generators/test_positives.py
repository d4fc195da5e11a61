"""The cache of positives: its contents, its resume, what it refuses; and positives made for every batch."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

import swell.generators.positives as module
from swell.data.source import Provenance, Source
from swell.data.sparse import SparseRows
from swell.errors import InputError
from swell.files import read_json, sha256_of
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.gan import GAN
from swell.generators.positives import OnlinePositives, PositiveCache, make_positives
from swell.generators.simple import KDE, Neighbours
from swell.testing import example_samples


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 1000)


@pytest.fixture
def source() -> Source:
    return Source(example_samples("vectors"), Provenance("real", "array"))


@pytest.fixture
def kde(source: Source) -> KDE:
    return KDE().fit(source.samples)


def at(*address: int) -> torch.Generator:
    return torch.Generator().manual_seed(hash(address) % 2**31)


def test_cache_holds_what_the_generator_makes(source: Source, kde: KDE, tmp_path: Path) -> None:
    cache = make_positives(tmp_path / "c", source, kde, k=3, strength=0.4, seed=9, quiet=True)
    rows = np.array([95, 0, 41, 41])
    got = cache.all_of(rows)
    assert (got.dtype, got.shape) == (np.dtype(np.float32), (4, 3, 6))
    for j in range(3):
        want = kde.positives(source.samples[rows], 0.4, 9, rows=rows, number=j)
        np.testing.assert_allclose(got[:, j], want, rtol=1e-5)
    assert len(list((tmp_path / "c").glob("shard-*.npy"))) > 3
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if not p.name.startswith("shard")) == [
        "ledger.json",
        "manifest.json",
    ]


def test_draw_is_one_of_the_k_and_depends_on_rows_and_generator_alone(source: Source, kde: KDE, tmp_path: Path) -> None:
    cache = make_positives(tmp_path / "c", source, kde, k=3, quiet=True)
    rows = torch.arange(96).repeat(20)
    drawn = cache.draw(rows, at(1))
    assert (drawn.dtype, drawn.shape) == (torch.float32, (1920, 6))
    every = torch.from_numpy(cache.all_of(rows.numpy()))
    which = (drawn[:, None] == every).all(2)  # [B, k]
    assert which.any(1).all()
    counts = which.double().sum(0)
    assert ((counts - 640) ** 2 / 640).sum() < 14  # chi squared with 2 degrees of freedom, p below 0.001
    torch.testing.assert_close(cache.draw(rows, at(1)), drawn, rtol=0, atol=0)
    assert not torch.equal(cache.draw(rows, at(2)), drawn)
    again = PositiveCache.open(tmp_path / "c", source)
    torch.testing.assert_close(again.draw(rows, at(1)), drawn, rtol=0, atol=0)
    assert cache.draw(rows[:0], at(1)).shape == (0, 6)


def test_interrupted_work_goes_on_and_is_the_same(
    source: Source, kde: KDE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_positives(tmp_path / "whole", source, kde, k=2, quiet=True)
    make_shard, numbers, stop = module._make_shard, [], 3

    def watched(folder: Path, path: Path, number: int, *rest: Any) -> None:
        if number == stop:
            raise KeyboardInterrupt
        numbers.append(number)
        make_shard(folder, path, number, *rest)

    monkeypatch.setattr(module, "_make_shard", watched)
    with pytest.raises(KeyboardInterrupt):
        make_positives(tmp_path / "c", source, kde, k=2, quiet=True)
    assert numbers == [0, 1, 2]
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match=r"c\.unfinished.*strength 0\.5.*strength 0\.6"):
        make_positives(tmp_path / "c", source, kde, k=2, strength=0.6, quiet=True)
    stop, shards = -1, sorted((tmp_path / "c.unfinished").glob("*.npy"))
    assert len(shards) == 3
    os.truncate(shards[0], shards[0].stat().st_size // 2)  # damaged meanwhile, as is what is known of the next
    shards[1].with_name(f"{shards[1].name}.row.json").write_text('{"file": "shard-')
    cache = make_positives(tmp_path / "c", source, kde, k=2, quiet=True)
    names = sorted(path.name for path in (tmp_path / "c").glob("*.npy"))
    assert numbers == [0, 1, 2, 0, 1, *range(3, len(names))]
    for name in names:
        assert sha256_of(tmp_path / "c" / name) == sha256_of(tmp_path / "whole" / name)
    assert cache.cost.samples_generated == whole.cost.samples_generated == 192
    assert not (tmp_path / "c.unfinished").exists()
    count = len(numbers)
    make_positives(tmp_path / "c", source, kde, k=2, quiet=True)
    assert len(numbers) == count


def test_stale_caches_are_refused_and_told_apart(source: Source, kde: KDE, tmp_path: Path) -> None:
    out = tmp_path / "c"
    make_positives(out, source, kde, k=2, encoder="a", quiet=True)
    other = Source(source.samples + 1, source.provenance)
    cases: list[tuple[str, Source, Any, dict[str, Any]]] = [
        ("other data.*these data", other, kde, {"encoder": "a"}),
        ("another generator", source, KDE(bandwidth=0.1).fit(source.samples), {"encoder": "a"}),
        ("another encoder", source, kde, {"encoder": "b"}),
        (r"strength 0\.5.*strength 0\.3", source, kde, {"encoder": "a", "strength": 0.3}),
        ("seed 0, k 2.*seed 1, k 3", source, kde, {"encoder": "a", "seed": 1, "k": 3}),
    ]
    for says, data, generator, how in cases:
        with pytest.raises(InputError, match=says) as caught:
            make_positives(out, data, generator, **{"k": 2, **how}, quiet=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="other data"):
        PositiveCache.open(out, other)
    with pytest.raises(InputError, match="another encoder"):
        PositiveCache.open(out, source, encoder="b")
    before = PositiveCache.open(out, source, encoder="a").key
    made = make_positives(out, source, kde, k=1, force=True, quiet=True)
    assert (before["k"], made.k, made.key["encoder"]) == (2, 1, "")


def test_damaged_caches_are_refused(source: Source, kde: KDE, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    make_positives(whole, source, kde, k=2, quiet=True)

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(whole, tmp_path / name))

    one = damaged("altered") / "shard-00001.npy"
    one.write_bytes(one.read_bytes()[:-1] + b"x")
    (damaged("missing") / "shard-00002.npy").unlink()
    path = damaged("pickled") / "shard-00000.npy"
    np.save(path, np.array([{"code": 1}], object), allow_pickle=True)
    manifest = read_json(path.parent / "manifest.json")
    manifest["shards"][0]["sha256"] = sha256_of(path)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    for name, change in (
        ("fewer", {"shards": manifest["shards"][:-1]}),
        ("no shards", {"shards": []}),
        ("shape", {"shape": [5]}),
        ("words", {"count": "many"}),
        ("format", {"format": "swell-positives-9"}),
        ("key", {"key": None}),
    ):
        (damaged(name) / "manifest.json").write_text(json.dumps(read_json(whole / "manifest.json") | change))
    (damaged("empty") / "manifest.json").write_text("{")
    for name in (
        "altered",
        "missing",
        "pickled",
        "fewer",
        "no shards",
        "shape",
        "words",
        "format",
        "key",
        "empty",
        "nowhere",
    ):
        with pytest.raises(InputError) as caught:
            PositiveCache.open(tmp_path / name, source)
        assert "\n" not in str(caught.value)


def test_what_has_no_positives_leaves_nothing_behind(source: Source, kde: KDE, tmp_path: Path) -> None:
    gan = GAN(width=8).fit(source.samples, steps=1, quiet=True)
    codes = source.samples[:, :2]
    told = ConditionalDiffusion(width=8, depth=1).fit(source.samples, codes, steps=1, quiet=True)
    for generator, how in (
        (gan, {}),
        (kde, {"codes": codes}),
        (told, {}),
        (told, {"codes": codes[:5]}),
        (told, {"codes": codes[:, :1]}),
        (kde, {"k": 0}),
        (kde, {"strength": 2.0}),
        (KDE().fit(example_samples("grey 8x8")), {}),
    ):
        with pytest.raises(InputError):
            make_positives(tmp_path / "c", source, generator, **how, quiet=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        make_positives(tmp_path / "c", source, kde, quiet=True)
    for generator, codes_ in ((gan, None), (kde, codes), (told, None)):
        with pytest.raises(InputError):
            OnlinePositives(source, generator, codes_)


@pytest.mark.parametrize("kind", ["vectors", "grey 8x8"])
def test_online_positives_depend_on_row_and_generator_not_on_the_batch(kind: str) -> None:
    source = Source(example_samples(kind), Provenance("real", "array"))
    codes = source.samples.reshape(96, -1)[:, :2].astype(np.float32)
    small = ConditionalDiffusion(width=8, depth=1, evaluations=3)
    told = small.fit(source.samples, codes, steps=3, quiet=True)
    online = OnlinePositives(source, told, codes, strength=0.6)
    rows = torch.tensor([5, 90, 5, 17])
    drawn = online.draw(rows, at(3))
    assert (drawn.dtype, drawn.shape) == (torch.from_numpy(source.samples).dtype, (4, *source.shape))
    alone = torch.cat([online.draw(row[None], at(3)) for row in rows])
    torch.testing.assert_close(alone.float(), drawn.float(), atol=1e-4 if kind == "vectors" else 2, rtol=1e-4)
    assert not torch.equal(online.draw(rows, at(4)), drawn)
    assert online.cost.samples_generated == 12
    assert online.cost.seconds > 0
    assert online.cost.flops > 0
    assert online.draw(rows[:0], at(3)).shape == (0, *source.shape)


def test_codes_of_a_cache_are_known_by_their_contents_or_their_encoder(source: Source, tmp_path: Path) -> None:
    codes = source.samples[:, :2].copy()
    told = ConditionalDiffusion(width=8, depth=1, evaluations=3).fit(source.samples, codes, steps=3, quiet=True)
    first = make_positives(tmp_path / "c", source, told, codes, k=1, quiet=True)
    make_positives(tmp_path / "c", source, told, torch.from_numpy(codes), k=1, quiet=True)
    with pytest.raises(InputError, match="another encoder"):
        make_positives(tmp_path / "c", source, told, codes + 1, k=1, quiet=True)
    want = told.positives(source.samples, codes, 0.5, 0)
    np.testing.assert_allclose(first.all_of(np.arange(96))[:, 0], want, rtol=1e-3, atol=1e-4)
    assert make_positives(tmp_path / "e", source, told, codes, k=1, encoder="abc", quiet=True).key["encoder"] == "abc"


def test_ledger_and_cost_say_what_it_took(source: Source, kde: KDE, tmp_path: Path) -> None:
    cache = make_positives(tmp_path / "c", source, kde, k=2, quiet=True)
    ledger = read_json(tmp_path / "c" / "ledger.json")
    assert ledger["sampling"]["samples_generated"] == cache.cost.samples_generated == 192
    assert ledger["sampling"]["seconds"] == pytest.approx(cache.cost.seconds)
    assert ledger["seconds_per_1000_samples"] == pytest.approx(1000 * cache.cost.seconds / 192)


def test_sparse_samples_have_positives(tmp_path: Path) -> None:
    table = np.random.default_rng(0).poisson(0.5, (80, 12)).astype(np.float32)
    source = Source(SparseRows.from_csr(csr_array(table), np.zeros((1, 12), np.float32)), Provenance("real", "array"))  # type: ignore[arg-type]
    near = Neighbours().fit(table)
    cache = make_positives(tmp_path / "c", source, near, k=2, quiet=True)
    rows = torch.tensor([3, 79])
    assert cache.draw(rows, at(0)).shape == (2, 12)
    assert OnlinePositives(source, near).draw(rows, at(0)).shape == (2, 12)
