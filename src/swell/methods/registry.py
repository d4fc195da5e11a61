"""What a method is: settings in a frozen dataclass, five hooks the loop calls and one for the report.

    @dataclass(frozen=True)
    class Mine(Method):
        temperature: float = 0.5                                   # a field is a setting

        def parts(self, encoder):                                  # what is trained beside the encoder
            return nn.ModuleDict({"projector": MLP(encoder.features, 512, 128)})

        def loss(self, encoder, parts, views, progress):           # one batch -> loss, scalars to log
            z = views.encode(encoder, parts["projector"])          # [V, B, D]
            return Outcome(nt_xent(z, self.temperature), {"z_std": spread(z)})

`swell pretrain DATA --method file.py:Mine` trains with it and `swell.testing.check_method(Mine)` tries it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.gallery import Gallery
from swell.nets.backbones import Backbone
from swell.ranks import ALONE, Ranks
from swell.registry import Registry
from swell.userfile import from_file
from swell.views.plan import VIEWS, ViewPlan


@dataclass(frozen=True)
class Views:
    """The views of a batch of B samples, V of each over all groups, groups in their order.

    Where several ranks share the batch, each has the views of its own samples only, and `encode` gathers what it makes
    of them: a method computes the loss of the whole batch and need not know. A loss that looks at every sample by
    itself may as well be that of the rank's own: the mean over ranks counts. See `swell.ranks`.

    Attributes:
        groups: one tensor [count * B, ...] a group, as `swell.views.render` makes them: view v of sample b is row
            v * B + b.
        roles: what each group is for: "global", "local", ... (see `ViewGroup.role`).
        batch: B, of this rank.
        ranks: who share the batch.
    """

    groups: tuple[Tensor, ...]
    roles: tuple[str, ...]
    batch: int
    ranks: Ranks = ALONE

    @property
    def count(self) -> int:
        """V, over all groups."""
        return sum(map(len, self.groups)) // self.batch

    @property
    def targets(self) -> Views:
        """The views that may serve as targets: all but the local ones (all, if all are local)."""
        chosen = [i for i, role in enumerate(self.roles) if role != "local"] or list(range(len(self.groups)))
        return Views(
            tuple(self.groups[i] for i in chosen), tuple(self.roles[i] for i in chosen), self.batch, self.ranks
        )

    @property
    def target_index(self) -> list[int]:
        """Where each of the `targets` stands among all V views."""
        numbers: list[int] = []
        start = 0
        keep_all = all(role == "local" for role in self.roles)
        for group, role in zip(self.groups, self.roles, strict=True):
            count = len(group) // self.batch
            numbers += range(start, start + count) if keep_all or role != "local" else []
            start += count
        return numbers

    def encode(self, encoder: nn.Module, *heads: nn.Module) -> Tensor:
        """Features [V, B, F] of all views, one backbone pass per resolution; with `heads`, what these make of them, in
        turn. Of all ranks' samples, gathered at the end."""
        sizes = [tuple(group.shape[1:]) for group in self.groups]
        encoded: dict[Any, list[Tensor]] = {}
        for size in dict.fromkeys(sizes):
            same = [group for group, s in zip(self.groups, sizes, strict=True) if s == size]
            counts = [len(group) for group in same]
            encoded[size] = list(encoder(torch.cat(same) if len(same) > 1 else same[0]).split(counts))
        z = torch.cat([encoded[size].pop(0) for size in sizes]).unflatten(0, (-1, self.batch))
        for head in heads:
            z = head(z)
        return self.ranks.gather(z, 1)

    def places(self, group: Tensor) -> Tensor:
        """Which rows of that group, as one rank alone would have it, the rows of this rank are; int64 [len(group)]."""
        rows = torch.arange(len(group) * self.ranks.count, device=group.device)
        return rows.view(-1, self.ranks.count, self.batch)[:, self.ranks.rank].flatten()


class Outcome(NamedTuple):
    """What `Method.loss` returns."""

    loss: Tensor  # scalar
    scalars: dict[str, Tensor]  # worth logging, kept on the device; "z_std" is watched for collapse
    kept: Mapping[str, Tensor] = {}  # for `after_step`: keys for a queue, a teacher's mean output


@dataclass(frozen=True)
class Preset:
    """How to train a method unless told otherwise."""

    optimizer: str = "lars"
    learning_rate: float = 0.4  # of batches of 256, and scaled with the batch; of all batches if not `scaled`
    weight_decay: float = 1e-4
    warmup: float = 0.01  # share of the budget
    options: Mapping[str, Any] = field(default_factory=dict)  # settings of the method other than its defaults
    views: str = ""  # a view preset other than the method's own
    batch_size: int = 256  # samples; fewer make more steps of the same seconds
    beta2: float = 0.999  # of AdamW
    scaled: bool = True  # whether the learning rate grows with the batch


class Method:
    """An objective and the parts it needs. Subclasses are frozen dataclasses; their fields are the settings.

    `presets` says how to train it: "small" for images of up to 64 pixels, "large" for larger ones, "short" for few
    epochs or minutes, "vectors" for rows of numbers, where what follows from "short" does not do.
    """

    presets: ClassVar[Mapping[str, Preset]] = {"small": Preset()}
    collapse_costs: ClassVar[bool] = True  # whether the loss itself is larger when all samples look alike
    generator_positives: ClassVar[str] = ""  # a generator that makes its positives unless told otherwise
    backbone: ClassVar[str] = "auto"  # what it trains unless told otherwise; auto: by the size of the samples
    mixes_samples: ClassVar[bool] = False  # whether it puts samples together before encoding; a rank then gets all
    needs_tokens: ClassVar[bool] = False  # whether it calls encoder(x, token plan), which only a ViT takes

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        """The view plan at strength 1 for samples of `shape`."""
        return VIEWS["simclr"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        """What belongs to the method beside the encoder (its `features` is the width of its output): projector,
        predictor, prototypes; also what has a state but no gradient: teacher, queue."""
        return nn.ModuleDict()

    def rates(self) -> Mapping[str, float]:
        """How many times as fast as the rest the parts of these names learn."""
        return {}

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        """The loss of one batch at `progress` in [0, 1] of the budget. It changes no state but batch norm's."""
        raise NotImplementedError

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        """What follows the optimiser's step: move the teacher, fill the queue. `kept` is what the loss kept."""

    def pictures(self, encoder: nn.Module, parts: nn.ModuleDict, samples: Tensor) -> Sequence[Gallery]:
        """What to show in a run's report of whole, clean samples [B, C, H, W] in [0, 1]: in eval mode, without
        gradients, and like `loss` with torch's global generator for what it draws. Asked of methods in the registry
        only: to write a report runs no user's file."""
        return ()


METHODS: Registry[type[Method]] = Registry("method")


def find_method(name: str) -> type[Method]:
    """The method of that name, or the one in a user's file: "path/to/file.py:Name".

    Raises:
        InputError: no such method, no such file, or something in it that is no method.
    """
    if ".py:" not in name:
        return METHODS[name]
    found = from_file("--method", name)
    if not (isinstance(found, type) and issubclass(found, Method) and hasattr(found, "__dataclass_fields__")):
        raise InputError(
            f"--method {name} ({type(found).__name__})",
            "a subclass of swell.methods.Method",
            "put @dataclass(frozen=True) above class Name(Method)",
        )
    return found


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """The method `name` with `options` in place of its defaults.

    Raises:
        InputError: an unknown method or option, or a value of another type than the option's default.
    """
    kind = find_method(name)
    known = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in known:
            raise InputError(
                f"method_options: unknown key {key!r}", f"a setting of {name}", f"there are {', '.join(known)}"
            )
        if isinstance(known[key], bool) != isinstance(value, bool):
            raise InputError(f"method_options: {key} = {value!r}", f"a value like {known[key]!r}")
        if not isinstance(value, (int, float)):
            raise InputError(f"method_options: {key} = {value!r}", "a number")
        if isinstance(known[key], int) and not isinstance(value, bool) and (isinstance(value, float) or value < 1):
            raise InputError(f"method_options: {key} = {value!r}", "a whole number of at least 1")
    return kind(**options)


def positive(method: Method, *names: str) -> None:
    """Raises InputError unless the settings `names` are above 0."""
    for name in names:
        if not getattr(method, name) > 0:
            raise InputError(f"{name} {getattr(method, name)}", "a number above 0")


def share(method: Method, *names: str) -> None:
    """Raises InputError unless the settings `names` lie in [0, 1]."""
    for name in names:
        if not 0 <= getattr(method, name) <= 1:
            raise InputError(f"{name} {getattr(method, name)}", "a number from 0 to 1")
