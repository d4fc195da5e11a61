"""Finished, evaluated runs that nobody trained, for what compares them."""

import json

import pytest
import tomli_w

from swell.ledger import Ledger
from swell.recipes import Recipe
from swell.views.plan import VIEWS

N_TEST = 1000
MACHINE = {"cpu": "A", "cores": 2, "threads": 2, "gpu": None, "device": "cpu"}
COSTS = {"seconds": 10.0, "flops": 1e9, "samples_real": 640, "views": 1280, "forwards": 1280, "pixels": 81920}


@pytest.fixture
def run(tmp_path):
    """Writes a finished, evaluated RUN folder without training anything; returns its path."""

    def write(name, linear=0.8, costs=None, data=None, evaluation=None, machine=None, generated=None, **recipe):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        fingerprints = {"real": "r1", **({"generated": generated} if generated else {}), **(data or {})}
        origins = {key: {"origin": f"/data/{value}"} for key, value in fingerprints.items() if key != "method"}
        told = Recipe(
            **{"views": VIEWS["simclr"](), "steps": 10, "batch_size": 64, "backbone": "conv6", **recipe}
        ).to_dict()
        (folder / "recipe.toml").write_text(tomli_w.dumps({**told, "data": fingerprints, "provenance": origins}))
        (folder / "encoder.safetensors").write_bytes(b"")
        (folder / "run.log").write_text("320 samples of shape [1, 8, 8] from here\n")
        packages = {"swell": "1", "torch": "2"}
        (folder / "environment.json").write_text(json.dumps({**MACHINE, "packages": packages, **(machine or {})}))
        ledger = Ledger()
        for key, value in {**COSTS, **(costs or {})}.items():
            setattr(ledger.pretraining, key, value)
        ledger.peak_memory_bytes = 2**20
        (folder / "ledger.json").write_text(json.dumps(ledger.to_dict()))
        result = {
            "probe": "swell-probe-1",
            "n_train": 300,
            "n_test": N_TEST,
            "knn": {"accuracy": linear - 0.1},
            "linear": {"accuracy": linear},
            "few_shot": {"1": 0.3, "10": 0.5},
            "clusters": {"nmi": 0.4},
            "label_free": {"rankme": 12.0, "alpha_req": None},
            "data": {"train": "t1", "test": "t2", "origin": "here"},
        }
        (folder / "evaluation.json").write_text(json.dumps({**result, **(evaluation or {})}))
        return folder

    return write
