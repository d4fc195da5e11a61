"""A run: the folder that `swell pretrain` leaves behind, opened for use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_from
from torch import nn

from swell.checkpoint import load_checkpoint
from swell.data.preparation import Preparation
from swell.data.source import Source
from swell.devices import pick_device
from swell.errors import InputError
from swell.files import read_json
from swell.ledger import Ledger, read_ledger
from swell.methods import METHODS, Method, make_method
from swell.model import Model
from swell.nets.encoder import Encoder, EncoderConfig
from swell.recipes import Recipe, read_recipe
from swell.training.folder import PREPARATION, claimed, read_metrics
from swell.views.plan import ViewGroup


class Run(Model):
    """`swell.load("run")`: encode with it, evaluate it, read what it cost.

    Raises:
        InputError: when `path` is not a finished run.
    """

    def __init__(self, path: Path | str, device: str = "auto") -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path / "encoder.safetensors"):
            finish = (
                "finish it with --resume"
                if os.path.isfile(self.path / "recipe.toml")
                else "give a folder made by swell pretrain"
            )
            raise InputError(str(path), "a finished run (encoder.safetensors in it)", finish)
        self.encoder = load_encoder(self.path).to(pick_device(device))
        kept = self.path / PREPARATION
        self.preparation = Preparation.load(kept) if os.path.isfile(kept) else None  # of images there is none
        if self.preparation is None and self.encoder.takes_vectors and "preparation" in self.provenance.get("real", {}):
            todo = "copy it back, or repeat the run"
            raise InputError(f"{kept} (missing)", "how the vectors it was trained on were prepared", todo)

    @property
    def recipe(self) -> Recipe:
        recipe = read_recipe(self.path / "recipe.toml")[0]
        if isinstance(recipe.views, str):
            raise InputError(
                f"{self.path / 'recipe.toml'}: views = {recipe.views!r}", "the whole plan, as swell wrote it"
            )
        return recipe

    @property
    def data_fingerprints(self) -> dict[str, str]:
        """Fingerprints of what it was trained on: `real` and, with inflation, `generated`."""
        return read_recipe(self.path / "recipe.toml")[1]

    @property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Where those came from: swell.Provenance as a dict, for `real` and `generated`."""
        return read_recipe(self.path / "recipe.toml")[2]

    @property
    def ledger(self) -> Ledger:
        return read_ledger(self.path / "ledger.json")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.path)

    def parts(self) -> tuple[Method, nn.ModuleDict] | None:
        """The method and what it trained beside the encoder, in eval mode, to look at; None where there is none:

        where the checkpoint is gone, damaged or of another moment than the encoder, and for a method in a user's file,
        because opening a folder shall run no code that its recipe names.
        """
        recipe = self.recipe
        if recipe.method not in METHODS:
            return None
        device = self.encoder.mean.device
        try:
            saved = load_checkpoint(self.path / "checkpoint.pt")
            method = make_method(recipe.method, recipe.method_options)
            with torch.random.fork_rng([device] if device.type == "cuda" else []):  # for weights that are replaced
                parts = method.parts(self.encoder)
            parts.load_state_dict(saved["parts"])
            own = self.encoder.state_dict()
            same = saved["encoder"].keys() == own.keys() and all(
                torch.equal(saved["encoder"][name].to(device), weights) for name, weights in own.items()
            )
        except (InputError, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            return None
        return (method, parts.to(device).eval()) if same else None

    @property
    def about(self) -> dict[str, str | int]:
        """In plain words and numbers what made the features, to write beside them."""
        from swell import __version__

        recipe, cost = self.recipe, self.ledger.pretraining
        return {
            "swell": __version__,
            "run": str(self.path),
            "method": recipe.method,
            "backbone": recipe.backbone,
            "seed": recipe.seed,
            "samples_seen": cost.samples_real + cost.samples_generated,
            "preparation": "none" if self.preparation is None else self.preparation.describe(),
            "preparation_fingerprint": "" if self.preparation is None else self.preparation.fingerprint,
            "trained_on": self.data_fingerprints.get("real", ""),
            "inflated_with": self.data_fingerprints.get("generated", ""),
        }

    @property
    def patch(self) -> ViewGroup:
        """The first group of its views, which says what patches of a sample look like."""
        recipe = self.recipe
        assert not isinstance(recipe.views, str)
        return recipe.views.at_strength(recipe.strength).image_groups[0]

    def evaluate(
        self,
        data: Any,
        test: Any = None,
        labels: bool | str | Sequence[bool | str] = True,
        *,
        transfer: Sequence[Any] = (),
        transfer_tests: Sequence[Any] = (),
        baselines: bool = True,
        retrieval: bool = False,
        few_labels: str | Sequence[str | int] | None = None,
        corruptions: bool = False,
        ood: Sequence[Any] = (),
        patches: int | None = None,
        patch_mode: str | None = None,
        draws: int | None = None,
        dense: bool = False,
        tiles: int | None = None,
        masks: Path | str | None = None,
        test_masks: Path | str | None = None,
        finetune: bool = False,
        label_fraction: float | None = None,
        finetune_epochs: float | None = None,
    ) -> dict[str, Any]:
        """Probe the frozen encoder on labelled data, write `evaluation.json`, `predictions.npz` and the report, return
        the first.

        Without `test`, built-in sets use their own test split and other data a stratified 70/30 split of seed 0.
        `labels` is the key of the labels, or a list with one for `data` and for each of `transfer`.
        Each of the labelled sets `transfer` is judged as `data` is, with its own test samples in `transfer_tests`
        (None: split as above), under "transfer". "ood" tells how well the features tell test samples from those of
        each of `ood`, which need no labels.
        With `retrieval`, `few_labels` ("1%,10%,5") and `corruptions` there is more under these names; see the modules
        of `swell.evaluation` that are called so.

        With `patches` K, "bag_of_features" holds the same probe on mean features of K patches of each sample: on a
        "grid", or "random" ones, drawn 5 times unless `draws` says otherwise. See `swell.evaluation.bag`.
        With `dense`, "dense" says how well cells of the feature map tell what every pixel shows: of mosaics of
        `tiles` x `tiles` samples, or of the images of the folder `data` with the PNG `masks` beside them (and those of
        `test` with `test_masks`), which then needs no sub-folders for classes. See `swell.evaluation.dense`.
        With `finetune`, "finetune" tells the accuracy of a copy that was trained on a share of the labels. See
        `swell.evaluation.finetune`.

        Raises:
            InputError: data, labels or settings that do not fit; another process at work in the run's folder.
        """
        from swell.evaluating import evaluate

        options = {name: value for name, value in locals().items() if name not in ("self", "evaluate")}
        with claimed(self.path):
            return evaluate(self, **options)


def labels_fingerprint(*sources: Source) -> str:
    """sha256 of the labels (first 16 hex digits): the same samples may be judged by another key."""
    return sha256(
        b"".join(str(source.labels.tolist()).encode() for source in sources if source.labels is not None)
    ).hexdigest()[:16]


def load_encoder(path: Path) -> Encoder:
    """The encoder of the run `path`, in eval mode. Raises InputError when its files are damaged."""
    stored = read_json(path / "encoder.json")
    again = "finish or repeat the run"
    try:
        config = EncoderConfig.from_dict(stored)
        shapes = _shapes(config)
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RuntimeError) as error:
        raise InputError(f"{path / 'encoder.json'} ({error})", "the settings swell wrote", again) from None
    weights_file = path / "encoder.safetensors"
    try:
        weights = safetensors_from(weights_file.read_bytes())  # by bytes: its reader wants UTF-8 file names
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights_file} ({error})", "the weights swell wrote", again) from None
    if {name: w.shape for name, w in weights.items()} != shapes:
        raise InputError(f"{weights_file} (weights of another net than encoder.json)", "the weights swell wrote", again)
    if not all(bool(w.isfinite().all()) for w in weights.values()):
        raise InputError(f"{weights_file} (NaN or infinite weights)", "finite weights", again)
    return filled_encoder(config, weights)


def _shapes(config: EncoderConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):  # costs nothing, whatever sizes a damaged file claims
        shapes = {name: w.shape for name, w in Encoder(config).state_dict().items()}
    if len(config.shape) not in (1, 3):
        raise ValueError(f"shape {list(config.shape)}")
    return shapes


def filled_encoder(config: EncoderConfig, weights: Mapping[str, torch.Tensor]) -> Encoder:
    """The encoder of `config` with these weights, in eval mode. Raises ValueError where they are another net's."""
    if {name: w.shape for name, w in weights.items()} != _shapes(config):
        raise ValueError("weights of another net than their settings say")
    encoder = Encoder(config)
    encoder.load_state_dict(weights)
    return encoder.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
