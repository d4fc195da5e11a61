"""`swell positives`: positives of every sample, made beforehand by a generator, for `swell pretrain --positives`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from swell.errors import InputError
from swell.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from swell.data.source import Source
    from swell.generators.positives import PositiveCache


def positives(
    data: Any,
    out: Path | str,
    generator: Path | str,
    *,
    count: int = 4,
    strength: float = 0.5,
    codes: np.ndarray | Path | str | None = None,
    size: int | None = None,
    max_bad: float = 0.01,
    layer: str | None = None,
    batch_key: str | None = None,
    prepare: str | None = None,
    allow_label_leak: bool = False,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
) -> PositiveCache:
    """Write `count` positives of every sample of `data` to the folder `out`, and open it. OUT/quality.json says how far
    they lie from their samples (`swell.training.stability.positive_distances`, of the data as they are).

    `generator` is a GEN folder, the file of a generator, or the name of one that needs no training; `layer`,
    `batch_key` and `prepare` are those of `swell.open`.

    Raises:
        InputError: data, a generator, codes or folders that do not fit.
    """
    from swell.data.open import open_data
    from swell.generators.outside import refuse_label_leak
    from swell.generators.positives import make_positives
    from swell.ledger import read_ledger
    from swell.recipes import check_seed

    check_seed(seed)
    opened = open_data(data, size=size, max_bad=max_bad, quiet=quiet, layer=layer, batch_key=batch_key, prepare=prepare)
    source = opened.unlabelled()
    refuse_label_leak(source.provenance, allow_label_leak)
    model = _model(str(generator), source, allow_label_leak, seed, device)
    table = _table(codes) if isinstance(codes, (str, Path)) else codes
    told = Path(str(generator)) / "ledger.json"
    training = read_ledger(told).generator_training if told.is_file() else None
    how: dict[str, Any] = {"k": count, "strength": strength, "seed": seed, "training": training}
    cache = make_positives(out, source, model, table, **how, force=force, quiet=quiet)
    if not (cache.path / "quality.json").exists():
        write_json(cache.path / "quality.json", _quality(cache, source))
    return cache


def _quality(cache: PositiveCache, source: Source) -> dict[str, Any]:
    """Where positives of some samples lie, as numbers and in words."""
    import torch

    from swell.training.stability import positive_distances, watched_rows

    rows = watched_rows(len(source)).numpy()
    anchors = torch.from_numpy(source.samples[rows]).flatten(1).float()
    found = positive_distances(anchors, torch.from_numpy(cache.all_of(rows)).transpose(0, 1).flatten(2).float())
    text = (
        f"{found['to_anchor']:.0%} of the usual squared distance between samples away from their own, "
        f"{found['astray']:.0%} of them nearer to another"
    )
    return {**found, "text": text}


def _model(generator: str, source: Source, allow_label_leak: bool, seed: int, device: str) -> Any:
    """The generator in a folder or file, or a fresh one of that name."""
    import numpy as np

    from swell.data.gen import is_gen, read_manifest
    from swell.data.source import Provenance
    from swell.generators import GENERATORS
    from swell.generators.outside import refuse_label_leak
    from swell.generators.positives import load_with_positives
    from swell.generators.simple import Resampler

    path = Path(generator)
    if is_gen(path):
        refuse_label_leak(Provenance(**read_manifest(path)["provenance"]), allow_label_leak)
        path = path / "generator.safetensors"
    if path.exists() or generator not in GENERATORS:
        return load_with_positives(path, device)
    kind: Any = GENERATORS[generator]
    if not issubclass(kind, Resampler) and generator not in ("copies", "shuffled", "zeros"):
        todo = f"swell generate DATA --generator {generator} --out GEN, then give GEN"
        raise InputError(f"--generator {generator} (needs training)", "a GEN folder", todo)
    return kind().fit(np.asarray(source.samples[:]), seed=seed, quiet=True)


def _table(path: Path | str) -> np.ndarray:
    """Codes [N, F] from an .npy, or an .npz as `swell embed` writes it."""
    import numpy as np

    from swell.data.arrays import UNREADABLE, check_header, refuse_bomb_in

    try:
        with Path(path).open("rb") as opened:
            check_header(opened, Path(path).stat().st_size)
        table: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(table, np.lib.npyio.NpzFile):
            with table as archive:
                refuse_bomb_in(archive.zip, "features")
                table = archive["features"]
        if not isinstance(table, np.ndarray):
            raise ValueError("no array")
    except InputError as error:
        raise InputError(f"--codes {path}: {error.given}", error.expected, error.todo) from None
    except UNREADABLE as error:
        raise InputError(f"--codes {path} ({error})", "an .npy, or an .npz with features", "see swell embed") from None
    return np.array(table)
