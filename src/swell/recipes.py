"""Recipes: the frozen dataclass that determines a run completely, and the named ones.

A named recipe is a decorated function that returns a Recipe; its docstring holds the expected score, time and device.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from swell.errors import InputError, suggest
from swell.files import read_toml
from swell.options import assignments
from swell.registry import Registry
from swell.views.plan import VIEWS, ViewPlan

# Two years of minutes; more is a slip of the keyboard.
MOST = {"steps": 10**9, "epochs": 10**6, "minutes": 10**6, "patches": 10**14, "flops": 1e26}
LEFT_OUT = ("learning_rate", "weight_decay", "warmup", "beta2", "batch_size", "positive_strength")  # None: what suits
WHOLE = ("steps", "batch_size", "seed", "patches", "view_count", "view_chunk", "positive_count", "rounds", "horizon")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a run, given the data. `recipe.toml` holds it resolved."""

    method: str = "simclr"  # a name, or file.py:Name
    preset: str = "auto"  # small, large, short or vectors: how to train that method; auto: by the samples
    method_options: dict[str, Any] = field(default_factory=dict)  # settings of the method, by name
    backbone: str = "auto"  # the method's own, else conv6 up to 16 pixels, resnet18 above, mlp for vectors
    backbone_options: dict[str, Any] = field(default_factory=dict)  # by name: patch of a ViT, hidden of an mlp, ...
    width: float = 1.0  # multiplies the backbone's channels
    batch_size: int | None = None  # samples of a global batch; None: the preset's
    steps: int | None = None  # the budget: steps, epochs, minutes, patches or flops, one of them
    epochs: float | None = None  # one epoch = as many samples as DATA holds, real or generated
    minutes: float | None = None
    patches: int | None = None  # views processed
    flops: float | None = None  # of pre-training, as the ledger counts them
    optimizer: str = "auto"  # lars, lars_unclipped, sgd, adamw; auto: the preset's
    learning_rate: float | None = None  # of the global batch; None: the preset's
    weight_decay: float | None = None  # None, here and for the warm-up: the preset's
    momentum: float = 0.9  # of SGD and LARS; beta_1 of AdamW
    beta2: float | None = None  # of AdamW; None: the preset's
    warmup: float | None = None  # share of the budget
    schedule: str = "cosine"  # after the warm-up; or wsd: stable, then straight down to 0 over the last part
    decay: float = 0.2  # that part, a share of the budget
    horizon: int | None = None  # steps of wsd that warm-up and the method's own schedules count by; None: the budget
    views: str | ViewPlan = "auto"  # a preset's name or a plan; auto: the method's own
    view_count: int | None = None  # views of the plan's first group, instead of what it says
    view_chunk: int | None = None  # views of a batch encoded at once; the others wait, for less memory
    strength: float = 1.0  # how hard the views distort: 0.5 weak, 1 strong
    positives: str = ""  # what views of positives show: neighbours, or a cache of generated ones; nothing: the sample
    replace: float = 1.0  # share of positives taken from there; the others show the sample
    generator_positives: str = ""  # a generator trained in turn with the encoder, for positives; none; "": the method's
    generator_options: dict[str, Any] = field(default_factory=dict)  # of that generator, by name
    positive_count: int = 4  # positives it makes of every sample, once a round; 0: new ones for every batch
    positive_strength: float | None = None  # 1: they keep of the sample what its code says; None: what suits
    rounds: int = 1  # of generator and encoder, after the encoder's first phase
    phases: tuple[dict[str, Any], ...] = ()  # of alternating training, one table each; none: the default list
    roll_back: bool = True  # repeat a phase with hand-made views, where its positives have broken the encoder
    weight: float = 1.0  # one real sample counts as this many generated ones
    mixing: str = "stratified"  # or bernoulli
    shuffle: str = "auto"  # samples one by one (all), or runs of neighbours in shards (blocks); auto: by their size
    batch_norm: str = "shared"  # its statistics on several devices: of the whole batch; or device: of each one's part
    precision: str = "auto"  # fp32, bf16; auto: bf16 where it is faster
    compile: bool = False  # torch.compile the encoder
    seed: int = 0

    def __post_init__(self) -> None:
        check_budget(**{name: getattr(self, name) for name in MOST})
        check_seed(self.seed)
        for name, low, high in (
            ("strength", 0.0, 1.0),
            ("replace", 0.0, 1.0),
            ("positive_strength", 0.0, 1.0),
            ("warmup", 0.0, 0.999),
            ("decay", 0.0, 1.0),
            ("momentum", 0.0, 0.999999),
            ("beta2", 0.0, 0.9999999),
            ("learning_rate", 0.0, 1e6),
            ("weight_decay", 0.0, 1e6),
            ("width", 0.01, 64.0),
            ("weight", 1e-9, 1e12),
            ("batch_size", 2, 10**7),
        ):
            value = getattr(self, name)
            if value is None and name in LEFT_OUT:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f"{name} {value!r}", f"a number from {low:g} to {high:g}")
        if not isinstance(self.phases, (list, tuple)) or not all(isinstance(table, dict) for table in self.phases):
            raise InputError(f"phases {self.phases!r}", "a list of tables", "see `swell.training.phases`")
        object.__setattr__(self, "phases", tuple(self.phases))
        for name, least in (("view_count", 1), ("view_chunk", 1), ("rounds", 1), ("positive_count", 0), ("horizon", 1)):
            count = getattr(self, name)
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < least):
                raise InputError(f"{name} {count!r}", f"a whole number of at least {least}")
        for name, allowed in (
            ("precision", ("auto", "fp32", "bf16")),
            ("mixing", ("stratified", "bernoulli")),
            ("shuffle", ("auto", "all", "blocks")),
            ("batch_norm", ("shared", "device")),
            ("schedule", ("cosine", "wsd")),
            ("optimizer", ("auto", "lars", "lars_unclipped", "sgd", "adamw")),
            ("preset", ("auto", "small", "large", "short", "vectors")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} {getattr(self, name)!r}",
                    f"one of {', '.join(allowed)}",
                    suggest(str(getattr(self, name)), allowed),
                )
        if self.horizon is not None and (self.schedule != "wsd" or not self.steps or self.steps > self.horizon):
            given = f"horizon {self.horizon} of schedule {self.schedule} for {self.steps} steps"
            raise InputError(given, "schedule wsd and a budget of no more steps than that", "leave the horizon out")
        if not isinstance(self.views, (str, ViewPlan)):
            raise InputError(f"views {self.views!r}", "auto, a view preset or a plan")
        if isinstance(self.views, str) and self.views != "auto" and self.views not in VIEWS:
            names = [entry.name for entry in VIEWS]
            raise InputError(f"views {self.views!r}", "auto or a view preset", suggest(self.views, names))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML; what is None is left out."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        out["phases"] = list(self.phases)
        if isinstance(self.views, ViewPlan):
            out["views"] = self.views.to_dict()
        return out

    @classmethod
    def from_dict(cls, value: dict[str, Any], origin: str = "recipe") -> Recipe:
        """Raises InputError for unknown keys (with a suggestion) and for values of another type."""
        known = {f.name: f for f in fields(cls)}
        for key in value:
            if key not in known:
                raise InputError(f"{origin}: unknown key {key!r}", "a key of a recipe", suggest(key, known))
        out = dict(value)
        if isinstance(out.get("views"), dict):
            out["views"] = ViewPlan.from_dict(out["views"])
        for key, item in out.items():
            default = known[key].default
            whole = int if key in WHOLE else None
            wrong = (
                (whole is int and (not isinstance(item, int) or isinstance(item, bool)))
                or (isinstance(default, str) and key != "views" and not isinstance(item, str))
                or (isinstance(default, bool) and not isinstance(item, bool))
                or (key in ("method_options", "backbone_options", "generator_options") and not isinstance(item, dict))
                or (key in ("epochs", "minutes", "flops") and not isinstance(item, (int, float)))
            )
            if wrong:
                raise InputError(
                    f"{origin}: {key} = {item!r}", f"a value like {default!r}" if whole is None else "a whole number"
                )
        return cls(**out)

    def with_budget(self, **budget: float | None) -> Recipe:
        """The same recipe with the one budget that is not None in `budget`; unchanged if there is none."""
        given = {key: value for key, value in budget.items() if value is not None}
        none = dict.fromkeys(MOST)
        return replace(self, **{**none, **given}) if given else self  # type: ignore[arg-type]


def check_budget(**budget: float | None) -> None:
    """Raises InputError for more than one budget, or one that nobody lives to see the end of."""
    given = {name: value for name, value in budget.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"budgets {' and '.join(given)}", f"one of {', '.join(budget)}", "keep one of them")
    for name, value in given.items():
        if not 0 < value <= MOST[name]:
            most = f"a number above 0, {MOST[name]:,.0f} at most"
            raise InputError(f"{name} {value}", most, f"give --{name} with such a number")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed}", "a whole number from 0 to 2^63 - 1", "give --seed 0")


def differences(a: Recipe, b: Recipe) -> list[str]:
    """What differs, as `key: old -> new` lines."""
    out = []
    for f in dataclasses.fields(Recipe):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if x != y:
            change = "another plan" if isinstance(y, ViewPlan) else f"{x!r} -> {y!r}"
            out.append(f"{f.name}: {change}")
    return out


RECIPES: Registry[Callable[[], Recipe]] = Registry("recipe")


def load_recipe(name_or_file: str, method: str | None = None) -> Recipe:
    """A named recipe, or the one in a TOML file (a `recipe.toml` of an earlier run among them).

    Raises:
        InputError: no such recipe; a file whose method is code, unless the user says himself which `method` shall run.
    """
    if name_or_file in RECIPES:
        return RECIPES[name_or_file]()
    if name_or_file.endswith(".toml") or os.path.exists(name_or_file):
        found = read_recipe(name_or_file)[0]
        if ".py:" in found.method and method is None:  # files are passed on: reading one runs no code
            todo = f"look at that file and give --method {found.method} too"
            raise InputError(f"{name_or_file} (its method is code, {found.method})", "a method named by yourself", todo)
        return found
    return RECIPES[name_or_file]()  # raises, with a suggestion


def composed(recipe: str | Recipe, *, method: str | None = None, backbone: str | None = None, **given: Any) -> Recipe:
    """A recipe (or the one of that name or file), with what is `given` by its fields' names in the place of its own.

    What is None is not given. Options of method and backbone may be text ("patch=4,pool=mean") and are laid over the
    recipe's, which were for its own method and backbone: another one begins without.
    """
    base = load_recipe(recipe, method) if isinstance(recipe, str) else recipe
    for name, value in {"method": method, "backbone": backbone}.items():
        if value is not None and value != getattr(base, name):
            base = replace(base, **{name: value, f"{name}_options": {}})  # type: ignore[arg-type]
    changes = {name: value for name, value in given.items() if value is not None}
    for name in ("method_options", "backbone_options", "generator_options"):
        if isinstance(changes.get(name), str):
            changes[name] = assignments(f"--{name.replace('_', '-')}", changes[name])
    for name in ("method_options", "backbone_options"):
        if name in changes:
            changes[name] = {**getattr(base, name), **changes[name]}
    return replace(base, **changes)


def read_recipe(path: Path | str) -> tuple[Recipe, dict[str, str], dict[str, dict[str, Any]]]:
    """A recipe file: the recipe; from a run also the fingerprints of its data and their provenance."""
    stored = read_toml(path)
    data, provenance = stored.pop("data", {}), stored.pop("provenance", {})
    tables = isinstance(data, dict) and isinstance(provenance, dict)
    if not tables or not all(isinstance(origin, dict) for origin in provenance.values()):
        raise InputError(
            f"{path}: data or provenance that is no table", "the file as swell wrote it", "mend or remove them"
        )
    return Recipe.from_dict(stored, str(path)), data, provenance


@RECIPES.register("default", "any method with its own settings, 100 epochs")
def default() -> Recipe:
    """The method's preset for the size of the samples, its own views, batch 256, 100 epochs."""
    return Recipe(epochs=100)


@RECIPES.register("digits", "SimCLR for 8x8 grey digits, 400 steps; what `swell demo` runs")
def digits() -> Recipe:
    """Six convolutions, no flips, no colour: a mirrored digit is another symbol.

    Temperature 0.5 is SimCLR's own for small images; it was preferred to 0.2 on a held-out part of the training digits.
    Expected scores and times: `benchmarks/results/*-demo`.
    """
    return Recipe(
        backbone="conv6",
        views="digits",
        batch_size=256,
        steps=400,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=1e-4,
        warmup=0.05,
        method_options={"temperature": 0.5, "hidden": 256, "outputs": 64},
    )


@RECIPES.register("cifar10-2cores", "a narrow ResNet-18 by SimCLR in 15 minutes of two cores")
def cifar10_two_cores() -> Recipe:
    """ResNet-18 at a quarter of its width, the colour jitter halved as is usual for CIFAR, 15 minutes.

    Expected scores: `benchmarks/results/*-cifar10-15min`.
    """
    return Recipe(
        width=0.25,
        minutes=15,
        batch_size=256,
        views="symmetric_weak",
        optimizer="sgd",
        learning_rate=0.12,
        weight_decay=5e-4,
        warmup=0.05,
        method_options={"hidden": 512, "outputs": 128},
    )


@RECIPES.register("adainf-cifar10", "AdaInf's published SimCLR setting; for a GPU, untested here at full length")
def adainf_cifar10() -> Recipe:
    """ResNet-18, batch 512, 100,000 steps, LARS 0.4, weight 10, weak views (arXiv 2403.12448).

    Published with a million generated images and an online probe: 93.4 linear (91.6 without generated data, strong
    views). Not run at full length by us.
    """
    return Recipe(
        steps=100_000, batch_size=512, optimizer="lars", learning_rate=0.4, weight_decay=1e-4, warmup=0.01,
        weight=10.0, strength=0.5, preset="small",
    )  # fmt: skip
