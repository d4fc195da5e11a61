"""`generate` end to end: the folder it leaves, what it refuses, and that labels are never read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from swell.data.gen import open_gen
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.files import sha256_of
from swell.generators.generate import generate
from swell.generators.registry import load_generator

SMALL: dict[str, Any] = {"network": "mlp", "width": 32, "depth": 1, "batch": 64, "device": "cpu"}


def digits(labels: np.ndarray | None = None, **provenance: Any) -> Source:
    images = np.round(load_digits().images[:300] * 255 / 16).astype(np.uint8)[:, None]
    return Source(images, Provenance("real", "builtin:digits", **provenance), labels=labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(
        digits(),
        tmp_path_factory.mktemp("generate") / "gen",
        count=120,
        seed=4,
        steps=30,
        quiet=True,
        **SMALL,
    )


def test_folder_holds_all_it_should(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "generator.json",
        "generator.safetensors",
        "ledger.json",
        "manifest.json",
        "nearest.png",
        "quality.json",
        "reference.safetensors",
        "samples.png",
        "shard-00000.npz",
    ]
    source = open_gen(made)
    assert source.samples.shape == (120, 1, 8, 8)
    assert source.provenance.kind == "generated"
    assert (source.provenance.generator, source.provenance.trained_on) == ("diffusion", digits().fingerprint)
    assert not source.provenance.labels_used
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["generator_sha256"] == sha256_of(made / "generator.safetensors")
    assert (manifest["seed"], manifest["sampler"]["evaluations"]) == (4, 10)
    np.testing.assert_array_equal(
        load_generator(made / "generator.safetensors").sample(20, 4, first=90), source.samples[90:110]
    )


def test_quality_and_cost_are_told(made: Path) -> None:
    quality, ledger = (json.loads((made / name).read_text()) for name in ("quality.json", "ledger.json"))
    assert quality["held_out"] == 30
    assert 0.5 < quality["c2st"] <= 1
    assert quality["frechet_ratio"] > 1
    assert quality["training"][0]["held_out_loss"] > quality["training"][-1]["held_out_loss"]
    assert ledger["generator_training"]["samples_real"] == 30 * 64
    assert ledger["sampling"]["samples_generated"] == 120
    assert ledger["generator_training"]["flops"] > 0
    assert ledger["pretraining"]["forwards"] == 0
    with Image.open(made / "samples.png") as picture:
        assert picture.width > 2 * picture.height * 0.9
        assert picture.height >= 320


def test_same_settings_are_kept_others_are_not_overwritten(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (made / "manifest.json").stat().st_mtime_ns
    generate(digits(), made, count=120, seed=4, steps=30, quiet=True, **SMALL)
    assert "already" in capfd.readouterr().err
    with pytest.raises(InputError, match="--force"):
        generate(digits(), made, count=119, seed=4, steps=30, quiet=True, **SMALL)
    assert (made / "manifest.json").stat().st_mtime_ns == before


def test_labels_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folder, byte by byte, with right labels, wrong ones or none; and an array of labels that
    raises when touched.
    """

    class Untouchable(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("labels were read")

        def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("labels were used")

    target = load_digits().target[:300].astype(np.int64)
    folders = [
        generate(digits(labels), tmp_path / name, count=40, steps=10, quiet=True, **SMALL)
        for name, labels in (
            ("right", target.view(Untouchable)),
            ("wrong", target[::-1].copy()),
            ("none", None),
        )
    ]
    for name in ("generator.safetensors", "shard-00000.npz", "samples.png"):
        assert len({sha256_of(folder / name) for folder in folders}) == 1


def test_interrupted_work_is_gone_on_with(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("swell.generators.generate.judge_once", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(digits(), tmp_path / "gen", count=120, seed=4, steps=30, quiet=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["gen.unfinished"]
    with monkeypatch.context() as patched:
        patched.setattr("swell.generators.diffusion.Diffusion.fit", interrupted)  # it need not train again
        generate(digits(), tmp_path / "gen", count=120, seed=4, steps=30, quiet=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["gen"]
    assert sha256_of(tmp_path / "gen" / "shard-00000.npz") == sha256_of(made / "shard-00000.npz")


def test_failure_before_any_result_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("swell.generators.diffusion.Diffusion.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(digits(), tmp_path / "deep" / "gen", count=40, steps=5, quiet=True, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_filter_drops_what_it_says_and_provenance_says_so(made: Path, tmp_path: Path) -> None:
    out = generate(digits(), tmp_path / "gen", count=120, seed=4, steps=30, filter_share=0.3, quiet=True, **SMALL)
    source, whole = open_gen(out), open_gen(made)
    assert source.provenance.filtered
    assert 60 < len(source) < 110  # copies go too
    kept = {sample.tobytes() for sample in source.samples}
    assert kept < {sample.tobytes() for sample in whole.samples}
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["count"], manifest["shards"][0]["drawn"]) == (len(source), 120)


def test_person_is_told_what_will_happen_and_what_came_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    generate(digits(), tmp_path / "gen", count=40, minutes=0.005, **SMALL)
    told = capfd.readouterr()
    assert "learning 270 samples [1, 8, 8] with diffusion for 0 s, 30 held out; then drawing 40" in told.err
    assert "0.5 is best" in told.err
    assert told.out == ""


def test_vectors_need_no_picture(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    out = generate(
        Source(table, Provenance("real", "array")), tmp_path / "gen", count=50, steps=10, quiet=True, **SMALL
    )
    assert open_gen(out).samples.dtype == np.float32
    assert not (out / "samples.png").exists()


def test_taint_of_the_source_is_inherited(tmp_path: Path) -> None:
    out = generate(
        digits(labels_used=True, filtered=True, channel_order="BGR"),
        tmp_path / "gen",
        count=40,
        steps=3,
        quiet=True,
        **SMALL,
    )
    provenance = open_gen(out).provenance
    assert (provenance.labels_used, provenance.filtered, provenance.channel_order) == (True, True, "BGR")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"generator": "difusion"}, "did you mean 'diffusion'"),
        ({"count": 0}, "count"),
        ({"steps": 0}, "budget"),
        ({"minutes": 0.0}, "budget"),
        ({"minutes": float("nan")}, "budget"),
        ({"widht": 3}, "did you mean 'width'"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        generate(digits(), tmp_path / "gen", quiet=True, **settings)
    assert list(tmp_path.iterdir()) == []
