"""Multilayer perceptrons for vectors: gene expression, table rows, features of another model.

B samples of D features each; H hidden units. Normalisation and skip connections are what a plain perceptron lacks to be
trained deeper than two layers without care for its rates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from swell.errors import InputError, suggest
from swell.nets.backbones import BACKBONES, Backbone, checked, scaled

NORMS = ("batch", "layer", "none")


@dataclass(frozen=True)
class Options:
    """Settings of an `MLPNet`.

    Attributes:
        hidden: units of every hidden layer at width 1.
        depth: hidden layers.
        outputs: features; the width leaves them as they are.
        norm: what follows each hidden linear layer: batch, layer or none.
        skip: whether every hidden layer but the first adds to what it was given.
        dropout: share of hidden units set to 0 while training.

    Raises:
        InputError: a value out of range.
    """

    hidden: int = 512
    depth: int = 2
    outputs: int = 128
    norm: str = "batch"
    skip: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("hidden", 10**6), ("depth", 256), ("outputs", 10**6)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"backbone_options: {name} {getattr(self, name)}", f"a number from 1 to {most:,}")
        if self.norm not in NORMS:
            raise InputError(f"backbone_options: norm {self.norm!r}", ", ".join(NORMS), suggest(self.norm, NORMS))
        if not 0 <= self.dropout < 1:
            raise InputError(f"backbone_options: dropout {self.dropout:g}", "a share from 0 to below 1")


class Layer(nn.Sequential):
    """Linear, norm, ReLU, dropout: [B, inputs] -> [B, H]; with `skip` added to its input, where inputs = H."""

    def __init__(self, inputs: int, hidden: int, options: Options, skip: bool) -> None:
        norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": None}
        norm = norms[options.norm]
        parts: list[nn.Module] = [nn.Linear(inputs, hidden, bias=norm is None)]
        parts += [] if norm is None else [norm(hidden)]
        parts.append(nn.ReLU(inplace=True))
        parts += [nn.Dropout(options.dropout)] if options.dropout else []
        super().__init__(*parts)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return x + y if self.skip else y


class MLPNet(Backbone):
    """Vectors [B, D] -> features [B, outputs]: hidden layers, then a linear one."""

    def __init__(self, shape: tuple[int, ...], width: float = 1.0, options: Options | None = None) -> None:
        super().__init__()
        if len(shape) != 1:
            raise InputError(f"backbone mlp for samples of shape {list(shape)}", "vectors", "give --backbone resnet18")
        own = options or Options()
        hidden = scaled(own.hidden, width)
        inputs = [shape[0]] + [hidden] * (own.depth - 1)
        self.layers = nn.Sequential(*(Layer(n, hidden, own, own.skip and i > 0) for i, n in enumerate(inputs)))
        self.last = nn.Linear(hidden, own.outputs)
        self.features, self.options = own.outputs, asdict(own)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x))


@BACKBONES.register("mlp", "hidden layers of 512 with batch norm and skips, 128 features; for vectors")
def mlp(shape: tuple[int, ...], width: float = 1.0, **options: Any) -> Backbone:
    return MLPNet(shape, width, checked(Options, options))
