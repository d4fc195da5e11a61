"""swell positives: from data and a generator to a folder that pretrain takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import swell
from swell.cli import main
from swell.data.gen import write_gen
from swell.data.partners import nearest_others
from swell.data.source import Provenance
from swell.errors import InputError
from swell.files import write_json
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.positives import PositiveCache
from swell.generators.simple import KDE
from swell.ledger import Cost, Ledger, read_ledger
from swell.positives import positives
from swell.testing import example_samples
from swell.verbs import pretrain


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "v.npz", vectors=example_samples("vectors"))
    return tmp_path / "v.npz"


def test_command_makes_a_cache_and_goes_on_with_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["positives", str(file), "--generator", "neighbours", "--out", str(tmp_path / "c"), "--count", "2"]
    assert main([*line, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["k"], made["count"], made["key"]["strength"]) == (2, 96, 0.5)
    assert 0 < made["quality"]["to_anchor"] < 1
    assert 0 <= made["quality"]["astray"] <= 1
    assert main(line) == 0
    assert "2 positives of each of 96 samples" in capsys.readouterr().out
    assert main([*line, "--strength", "0.3"]) == 2
    assert "strength 0.5" in capsys.readouterr().err
    assert main([*line, "--strength", "0.3", "--force"]) == 0


def test_trained_generators_are_read_from_their_folder_or_file(file: Path, tmp_path: Path) -> None:
    samples = example_samples("vectors")
    kde = KDE().fit(samples)
    gen = write_gen(tmp_path / "gen", kde.sample(20, 0), Provenance("generated", "x", "kde"))
    kde.save(gen / "generator.safetensors")
    by_folder = positives(file, tmp_path / "a", gen, count=1, quiet=True)
    by_file = positives(samples, tmp_path / "b", gen / "generator.safetensors", count=1, quiet=True)
    assert isinstance(by_folder, PositiveCache)
    np.testing.assert_array_equal(by_folder.all_of(np.arange(96)), by_file.all_of(np.arange(96)))
    codes = samples[:, :2]
    told = ConditionalDiffusion(width=8, depth=1, evaluations=2).fit(samples, codes, steps=1, quiet=True)
    told.save(tmp_path / "told.safetensors")
    np.savez(tmp_path / "codes.npz", features=codes)
    np.save(tmp_path / "codes.npy", codes)
    for name in ("codes.npz", "codes.npy"):
        made = positives(file, tmp_path / name[-3:], tmp_path / "told.safetensors", codes=tmp_path / name, quiet=True)
        assert made.k == 4


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--generator", "diffusion"], "needs training"),
        (["--generator", "nowhere"], "a generator file that exists"),
        (["--generator", "kde", "--codes", "nowhere.npy"], "codes nowhere.npy"),
        (["--generator", "kde", "--count", "0"], "0 positives"),
        (["--generator", "kde", "--strength", "nan"], "strength nan"),
    ],
)
def test_what_does_not_fit_is_one_line(
    more: list[str], says: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["positives", str(file), "--out", str(tmp_path / "c"), *more]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_a_generator_that_saw_labels_is_refused(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kde = KDE().fit(example_samples("vectors"))
    gen = write_gen(tmp_path / "gen", kde.sample(20, 0), Provenance("generated", "x", "kde", labels_used=True))
    kde.save(gen / "generator.safetensors")
    line = ["positives", str(file), "--generator", str(gen), "--out", str(tmp_path / "c")]
    assert main(line) == 2
    assert "made with labels" in capsys.readouterr().err
    assert main([*line, "--allow-label-leak"]) == 0


def test_a_run_carries_what_its_positives_cost_and_notices_when_they_change(file: Path, tmp_path: Path) -> None:
    kde = KDE().fit(example_samples("vectors"))
    gen = write_gen(tmp_path / "gen", kde.sample(20, 0), Provenance("generated", "x", "kde"))
    kde.save(gen / "generator.safetensors")
    made = Ledger(generator_training=Cost(seconds=7.0))
    write_json(gen / "ledger.json", made.to_dict())
    cache = positives(file, tmp_path / "c", gen, count=1, quiet=True)
    assert read_ledger(tmp_path / "c" / "ledger.json").generator_training.seconds == 7.0
    run = pretrain(file, tmp_path / "run", positives=str(tmp_path / "c"), steps=4, batch_size=16, quiet=True)
    assert run.ledger.generator_training.seconds == 7.0
    assert run.ledger.sampling.samples_generated == cache.cost.samples_generated == 96
    positives(file, tmp_path / "c", gen, count=1, strength=0.2, force=True, quiet=True)
    with pytest.raises(InputError, match="positives: "):
        pretrain(file, tmp_path / "run", positives=str(tmp_path / "c"), steps=4, batch_size=16, resume=True, quiet=True)


def test_the_search_for_neighbours_is_in_the_ledger(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(codes: Tensor, k: int) -> Tensor:
        time.sleep(0.5)
        return nearest_others(codes, k)

    monkeypatch.setattr("swell.data.partners.nearest_others", slow)
    run = pretrain(file, tmp_path / "run", positives="neighbours", steps=1, batch_size=16, quiet=True, report=False)
    assert run.ledger.pretraining.seconds > 0.5


def test_preparation_is_that_of_the_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["positives", str(file), "--generator", "neighbours", "--count", "1", "--out"]
    assert main([*line, str(tmp_path / "table")]) == 0
    assert main([*line, str(tmp_path / "none"), "--prepare", "none"]) == 0
    plain = swell.open(file, prepare="none")
    PositiveCache.open(tmp_path / "none", plain)
    with pytest.raises(InputError, match="other data"):
        PositiveCache.open(tmp_path / "table", plain)
    assert main([*line, str(tmp_path / "more"), "--layer", "counts"]) == 2
    assert "layer" in capsys.readouterr().err
