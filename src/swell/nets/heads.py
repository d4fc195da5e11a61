"""Heads: one MLP class for projectors and predictors."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Sequential):
    """`layers` linear layers [.., inputs] -> [.., outputs]; ReLU between them, batch norm before each ReLU if `norm`.

    Leading dimensions, views [V, B, inputs] say, are one batch to the norms.
    `last_norm` puts a batch norm without scale and shift after the last layer (MoCo v3, Barlow Twins variants).
    SimCLR's projector in AdaInf is MLP(features, 2048, 256): Linear, ReLU, Linear, no norm.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, layers: int = 2, norm: bool = False, last_norm: bool = False
    ) -> None:
        modules: list[nn.Module] = []
        for _ in range(layers - 1):
            modules.append(nn.Linear(inputs, hidden, bias=not norm))
            if norm:
                modules.append(nn.BatchNorm1d(hidden))
            modules.append(nn.ReLU(inplace=True))
            inputs = hidden
        modules.append(nn.Linear(inputs, outputs, bias=not last_norm))
        if last_norm:
            modules.append(nn.BatchNorm1d(outputs, affine=False))
        super().__init__(*modules)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])
