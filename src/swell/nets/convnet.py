"""Six plain convolutions for images of a few pixels, where a ResNet would shrink them to nothing."""

from __future__ import annotations

from torch import Tensor, nn

from swell.nets.backbones import BACKBONES, Backbone, init_convolutions, scaled


class ConvNet(Backbone):
    """Three pairs of 3x3 convolutions, each with batch norm and ReLU; the 2nd and 3rd pair start with stride 2."""

    def __init__(self, shape: tuple[int, ...], width: float = 1.0) -> None:
        super().__init__()
        inputs = shape[0]
        layers: list[nn.Module] = []
        for channels, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
            outputs = scaled(channels, width)
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.features = inputs
        init_convolutions(self)

    def forward_map(self, x: Tensor) -> Tensor:
        return self.layers(x)


@BACKBONES.register("conv6", "six convolutions for images up to 16 pixels, 0.29 M parameters at width 1")
def conv6(shape: tuple[int, ...], width: float = 1.0) -> Backbone:
    return ConvNet(shape, width)
