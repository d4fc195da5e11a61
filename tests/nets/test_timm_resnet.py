"""Our ResNets' weights in timm's nets: equal outputs."""

import pytest
import torch
from test_timm_weights import timm_vit  # noqa: F401  (imports timm where torchvision was built for another torch)

from swell.errors import InputError
from swell.nets.resnet import resnet18, resnet50
from swell.nets.timm_resnet import to_timm


@pytest.mark.parametrize(("make", "name", "channels"), [(resnet18, "resnet18", 1), (resnet50, "resnet50", 3)])
def test_timm_computes_the_same_with_our_weights(timm_vit, make, name, channels):  # noqa: F811
    import timm

    torch.manual_seed(0)
    net = make((channels, 72, 72)).eval()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.weight.uniform_(0.5, 1)
    theirs = timm.create_model(name, num_classes=0, in_chans=channels).eval()
    theirs.load_state_dict(to_timm(net.state_dict()))
    x = torch.randn(2, channels, 72, 72)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_names_are_one_to_one_and_other_shapes_are_refused():
    state = resnet18((3, 72, 72)).state_dict()
    renamed = to_timm(state)
    assert len(renamed) == len(state)
    assert {"conv1.weight", "bn1.running_var", "layer4.0.downsample.1.bias", "layer1.1.conv2.weight"} <= set(renamed)
    for other in (resnet18((3, 32, 32)), resnet18((3, 72, 72), 0.5)):
        with pytest.raises(InputError, match="stem"):
            to_timm(other.state_dict())
    with pytest.raises(InputError, match="plain ResNet"):
        to_timm({**state, "last.weight": torch.zeros(1)})
