"""Generated positives for training: made beforehand and kept on disk, or made for every batch.

    cache = make_positives("cells.positives", source, generator, codes, k=4, strength=0.5)
    y = cache.draw(rows, generator_for(seed, "positives", t))       # [B, ...], one positive of each sample

Both kinds are `swell.data.partners.Partners`. A cache knows what it was made from and refuses to stand in for anything
else. What they cost is in `cost`, a part for the ledger.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.data.arrays import UNREADABLE, check_header
from swell.data.source import Source
from swell.errors import InputError
from swell.files import new_folders, read_json, sha256_of, write_json
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.registry import Generator, load_generator, read_generator_file
from swell.generators.work import Work
from swell.ledger import Cost, Ledger

FORMAT = "swell-positives-1"
SHARD_BYTES = 1 << 26
_AGAIN = "make them again"
_HASHES = ("data", "generator", "encoder")  # told apart in words: the hashes say nothing to anybody

Codes = np.ndarray | Tensor


class Positives(Protocol):
    """What has positives: every generator of the registry that can start from a sample, and ConditionalDiffusion."""

    sampling_cost: Cost

    def sampler_settings(self) -> dict[str, Any]: ...

    def save(self, path: Path | str) -> None: ...


def positives_of(
    generator: Positives,
    samples: np.ndarray,
    codes: Codes | None,
    strength: float,
    seed: int,
    rows: np.ndarray | Tensor,
    number: int = 0,
) -> np.ndarray:
    """Positive `number` of each of `samples` [B, ...] from any generator; `codes` [B, F] for those that are told codes.

    Raises InputError for codes that are missing, or that the generator has no use for.
    """
    told = isinstance(generator, ConditionalDiffusion)
    if told != (codes is not None):
        given = f"a generator of kind {getattr(generator, 'name', 'unknown')} {'without' if told else 'with'} codes"
        raise InputError(given, "one code a sample" if told else "a generator that is told codes, or none")
    if isinstance(generator, ConditionalDiffusion) and codes is not None:
        return generator.positives(samples, codes, strength, seed, rows=rows, number=number)
    plain: Generator = generator  # type: ignore[assignment]
    return plain.positives(samples, strength, seed, rows=rows, number=number)


def load_with_positives(path: Path | str, device: str = "auto") -> Positives:
    """The fitted generator in `path`, whether it is told codes or not. Raises InputError when there is none."""
    if read_generator_file(path)[1]["generator"] == ConditionalDiffusion.name:
        return ConditionalDiffusion.load(path, device)
    return load_generator(path, device)


def make_positives(
    out: Path | str,
    source: Source,
    generator: Positives,
    codes: Codes | None = None,
    *,
    k: int = 4,
    strength: float = 0.5,
    seed: int = 0,
    encoder: str = "",
    training: Cost | None = None,
    force: bool = False,
    quiet: bool = False,
) -> PositiveCache:
    """Write `k` positives of every sample of `source` to the folder `out`, and open it.

    `codes` [N, F] are for a generator that is told codes; `encoder` names where they come from, the hash of its weights
    say; without it their own contents do. `training` is what the generator cost, for OUT/ledger.json. Interrupted work
    lies in `OUT.unfinished`, and the same call goes on with it. A folder that holds these positives already is opened
    as it is; one that holds others only yields to `force`.

    Raises:
        InputError: a generator that has no positives or does not fit the samples, a folder in the way, which line says
            what is different about it.
    """
    out = Path(out)
    if k < 1:
        raise InputError(f"{k} positives of a sample", "at least 1", "4 is usual")
    if codes is not None and len(codes) != len(source):
        raise InputError(f"{len(codes)} codes for {len(source)} samples", "one code a sample")
    key = cache_key(source, generator, codes, k=k, strength=strength, seed=seed, encoder=encoder)
    if out.exists() and not force:
        if not (out / "manifest.json").exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} (in the way, and no folder of positives)", "a new folder", "choose another one")
        if (out / "manifest.json").exists():
            _refuse_others(out, read_manifest(out)["key"], key, "choose another folder, or force it")
            return PositiveCache.open(out, source)
    work = Work(out, key)
    begun = work.folder / "settings.json"
    if begun.exists() and not force:
        _refuse_others(work.folder, read_json(begun), key, "finish those, choose another folder, or force it")
    step = max(1, SHARD_BYTES // (k * source.samples[:1].nbytes))
    shards = range(0, len(source), step)
    with new_folders(out.parent):
        try:
            work.open(force)
            with Progress("positives", len(source) * k, "samples", quiet=quiet) as bar:
                for number, first in enumerate(shards):
                    rows = np.arange(first, min(first + step, len(source)))

                    def make(path: Path, rows: np.ndarray = rows, number: int = number) -> None:
                        _make_shard(work.folder, path, number, rows, source, generator, codes, key)

                    _drop_damaged(work, number)
                    work.once(_shard_name(number), make)
                    bar.update((int(rows[-1]) + 1) * k)
            _finish(work, source, len(shards), training)
        except BaseException:
            if not any(work.folder.glob("shard-*.npy")):
                shutil.rmtree(work.folder, ignore_errors=True)
            raise
    return PositiveCache.open(out, source)


def _drop_damaged(work: Work, number: int) -> None:
    """Take a shard of an earlier process away that is not, or not any more, what was noted of it."""
    name = _shard_name(number)
    if (work.folder / name).exists() and work.note(name) is None:
        with work.claim(name) as mine:
            if mine and work.note(name) is None:
                (work.folder / name).unlink(missing_ok=True)


def _make_shard(
    folder: Path,
    path: Path,
    number: int,
    rows: np.ndarray,
    source: Source,
    generator: Positives,
    codes: Codes | None,
    key: dict[str, Any],
) -> None:
    """Write the positives of `rows` to `path`, [rows, k, ...], and what is known of them beside it."""
    before = Cost(**vars(generator.sampling_cost))
    samples, told = source.samples[rows], None if codes is None else codes[rows[0] : rows[-1] + 1]
    made = [positives_of(generator, samples, told, key["strength"], key["seed"], rows, j) for j in range(key["k"])]
    with path.open("wb") as file:
        np.save(file, np.stack(made, axis=1), allow_pickle=False)
    cost = vars(generator.sampling_cost.since(before))
    row = {"file": _shard_name(number), "first": int(rows[0]), "count": len(rows), "sha256": sha256_of(path)}
    write_json(folder / f"{row['file']}.row.json", row | {"cost": cost})


def _finish(work: Work, source: Source, shards: int, training: Cost | None) -> None:
    rows = [read_json(work.folder / f"{_shard_name(number)}.row.json") for number in range(shards)]
    ledger = Ledger(generator_training=training or Cost())
    for row in rows:
        ledger.sampling.add(Cost(**row["cost"]))
    ledger.note_memory()
    each = 1000 * ledger.sampling.seconds / max(ledger.sampling.samples_generated, 1)
    write_json(work.folder / "ledger.json", {**ledger.to_dict(), "seconds_per_1000_samples": each})
    write_json(
        work.folder / "manifest.json",
        {
            "format": FORMAT,
            "key": work.settings,
            "count": len(source),
            "shape": list(source.shape),
            "dtype": str(np.dtype(source.samples.dtype)),
            "shards": rows,
        },
    )
    work.finish()


def cache_key(
    source: Source,
    generator: Positives,
    codes: Codes | None = None,
    *,
    k: int,
    strength: float,
    seed: int,
    encoder: str = "",
) -> dict[str, Any]:
    """All that positives depend on, as plain values: equal keys, equal positives."""
    key = {
        "data": source.fingerprint,
        "generator": generator_hash(generator),
        "encoder": encoder or ("" if codes is None else _hash_of(codes)),
        "sampler": generator.sampler_settings(),
        "strength": float(strength),
        "seed": seed,
        "k": k,
    }
    return dict(json.loads(json.dumps(key)))


def generator_hash(generator: Positives) -> str:
    """sha256 of the file that `save` writes: options, weights, and whatever else the draws depend on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.safetensors"
        generator.save(path)
        return sha256_of(path)


def _hash_of(codes: Codes) -> str:
    table = np.ascontiguousarray(codes.detach().cpu().numpy() if isinstance(codes, Tensor) else codes)
    return hashlib.sha256(f"{table.dtype}{table.shape}".encode() + table.tobytes()).hexdigest()


class PositiveCache:
    """Positives on disk, read as they are drawn: the folder may be larger than the memory.

    Attributes:
        path: the folder.
        key: what it was made from (see `cache_key`).
        k: positives of every sample.
        cost: what making them cost.
    """

    def __init__(self, path: Path, key: dict[str, Any], cost: Cost, parts: list[np.ndarray]) -> None:
        """parts: [n, k, ...] each, the positives of consecutive samples; all but the last hold as many."""
        self.path, self.key, self.cost, self.k = path, key, cost, int(key["k"])
        self._parts, self._step = parts, len(parts[0])
        self.count = sum(map(len, parts))

    @classmethod
    def open(cls, path: Path | str, source: Source, **expected: Any) -> Self:
        """The cache in the folder `path`, whose samples must be those of `source`; every checksum is verified.

        `expected` are more parts of the key that must be so: generator, encoder, sampler, strength, seed, k.

        Raises:
            InputError: no cache, one of other samples or otherwise than expected, a shard missing or altered.
        """
        path = Path(path)
        manifest = read_manifest(path)
        key = manifest["key"]
        todo = "make them again, of data opened in the same way"
        _refuse_others(path, key, {**key, "data": source.fingerprint, **expected}, todo)
        try:
            count, shape, dtype = int(manifest["count"]), tuple(manifest["shape"]), np.dtype(manifest["dtype"])
            k, cost = int(key["k"]), Cost()
            parts, found = [], 0
            for row in manifest["shards"]:
                if row["first"] != found or row["count"] < 1 or Path(row["file"]).name != row["file"]:
                    raise ValueError(f"shard {row['file']} begins at {row['first']}")
                parts.append(_open_shard(path / row["file"], row["sha256"], (row["count"], k, *shape), dtype))
                cost.add(Cost(**row["cost"]))
                found += row["count"]
            kind = (source.shape, np.dtype(source.samples.dtype), len(source))
            even = all(len(part) == len(parts[0]) for part in parts[:-1]) and len(parts[-1]) <= len(parts[0])
            if (shape, dtype, count) != kind or found != count or not even:
                raise ValueError(f"{found:,} of {count:,} samples {list(shape)}")
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            given = f"{path}/manifest.json ({type(error).__name__}: {error})"
            raise InputError(given, "the fields swell writes", _AGAIN) from None
        return cls(path, key, cost, parts)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One of the k positives, all alike, of each of the samples `rows`, int64 [B]: [B, ...] on their device."""
        j = torch.randint(self.k, (len(rows),), generator=generator, device=generator.device).cpu().numpy()
        i = rows.cpu().numpy()
        drawn = np.empty((len(i), *self._parts[0].shape[2:]), self._parts[0].dtype)
        shards = i // self._step
        for shard in np.unique(shards):
            here = shards == shard
            drawn[here] = self._parts[shard][i[here] - shard * self._step, j[here]]
        return torch.from_numpy(drawn).to(rows.device)

    def all_of(self, rows: np.ndarray) -> np.ndarray:
        """All positives of the samples `rows` [B]: [B, k, ...]."""
        shards = rows // self._step
        return np.stack([self._parts[s][i - s * self._step] for i, s in zip(rows, shards, strict=True)])


class OnlinePositives:
    """Positives made for every batch anew: no disk, no end of them, and the price of the sampler at every step."""

    def __init__(
        self, source: Source, generator: Positives, codes: Codes | None = None, *, strength: float = 0.5
    ) -> None:
        """`codes` [N, F] of the samples of `source`, for a generator that is told codes.

        Raises:
            InputError: a generator that has no positives or does not fit the samples, codes that do not.
        """
        if codes is not None and len(codes) != len(source):
            raise InputError(f"{len(codes)} codes for {len(source)} samples", "one code a sample")
        self.source, self.generator, self.codes, self.strength = source, generator, codes, strength
        self.cost = Cost()
        self._made(np.arange(1), 0)  # what does not fit shows here, not in the first batch

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A new positive of each of the samples `rows`, int64 [B]: [B, ...] on the device of `rows`."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        if len(rows) == 0:
            return torch.from_numpy(self.source.samples[:0]).to(rows.device)
        before = Cost(**vars(self.generator.sampling_cost))
        made = self._made(rows.cpu().numpy(), seed)
        self.cost.add(self.generator.sampling_cost.since(before))
        return torch.from_numpy(made).to(rows.device)

    def _made(self, rows: np.ndarray, seed: int) -> np.ndarray:
        codes = None if self.codes is None else self.codes[rows]
        return positives_of(self.generator, self.source.samples[rows], codes, self.strength, seed, rows)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of the folder of positives `path`. Raises InputError when it is not one of this version."""
    manifest = read_json(Path(path) / "manifest.json")
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or not isinstance(manifest.get("key"), dict):
        raise InputError(f"{path} (format {found!r})", f"generated positives in format {FORMAT}", _AGAIN)
    return dict(manifest)


def cache_fingerprint(path: Path) -> str:
    """What positives in the folder `path` were made from, as 16 hex digits. Raises InputError as `read_manifest`."""
    return hashlib.sha256(json.dumps(read_manifest(path)["key"], sort_keys=True).encode()).hexdigest()[:16]


def _refuse_others(path: Path, found: dict[str, Any], wanted: dict[str, Any], todo: str) -> None:
    """Raises InputError, saying what differs, unless both keys are equal."""
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if not names:
        return
    told = [f"another {name}" if name in _HASHES else f"{name} {found.get(name)}" for name in names]
    asked = [f"this {name}" if name in _HASHES else f"{name} {wanted[name]}" for name in names]
    if "data" in names:
        told[names.index("data")], asked[names.index("data")] = "other data", "these data"
    raise InputError(f"{path} (positives made with {', '.join(told)})", f"those of {', '.join(asked)}", todo)


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def _open_shard(path: Path, digest: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} (missing)", "every shard the manifest lists", _AGAIN)
    if sha256_of(path) != digest:
        raise InputError(f"{path} (checksum differs: altered or cut short)", "the shard as it was written", _AGAIN)
    try:
        with path.open("rb") as opened:
            check_header(opened, path.stat().st_size)
        samples = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(f"{path} ({error})", "plain numbers", _AGAIN) from None
    if samples.shape != shape or samples.dtype != dtype:
        raise InputError(f"{path} ({samples.dtype}{list(samples.shape)})", f"{dtype}{list(shape)}", _AGAIN)
    return samples
