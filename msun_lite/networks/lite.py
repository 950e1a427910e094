"""Small networks of our own, for CPUs and ten classes: one for each backbone of the paper.

All cost what ResNet-lite does, within 5 %: 0.133 GFLOPs (2 x multiply-adds) for one image of 112 px. Their widths and
depths were found by counting many: those near this cost and, where the architecture allows it, near ResNet-lite's 1.2 M
parameters. Convolutions start as those of ResNets do (Kaiming, by their outputs).
"""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import DenseNet, MobileNetV2
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

NORM_GROUPS = 8
"""Groups of channels that GroupNorm normalises in `group_norm`."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of 8 groups: it normalises each image by itself and keeps no averages."""
    return nn.GroupNorm(NORM_GROUPS, channels)


class ResNetLite(nn.Module):
    """A small ResNet: the 7x7 stem and pool, four stages of one basic block, 1.2 M parameters, 0.133 GFLOPs.

    Args:
        num_classes: length of the logits.
        norm_layer: number of channels -> what normalises them after each convolution.
    """

    def __init__(self, num_classes: int = 1000, norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d):
        super().__init__()
        widths = (32, 64, 128, 256)
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], 1, norm_layer)
        self.layer2 = _stage(widths[0], widths[1], 2, norm_layer)
        self.layer3 = _stage(widths[1], widths[2], 2, norm_layer)
        self.layer4 = _stage(widths[2], widths[3], 2, norm_layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, num_classes] of images [B, 3, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(inputs: int, outputs: int, stride: int, norm_layer: Callable[[int], nn.Module]) -> nn.Sequential:
    """Return one stage of one basic block; the shortcut is a 1x1 convolution where the shape changes."""
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm_layer(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut, norm_layer=norm_layer))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _round_up(network: nn.Module) -> None:
    """Let pools halve maps of odd sides as strided convolutions do, 7 to 4: images of any size pass."""
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and not module.padding:  # a padded one does so already
            module.ceil_mode = True


class DenseNetLite(DenseNet):
    """A small DenseNet-121: a third of its layers (2, 4, 8, 5), growth 20, 0.48 M parameters, 0.132 GFLOPs.

    It has 20 channels after the stem. Its layers are narrow and their maps large, so that it has fewer parameters than
    others of its cost.

    Args:
        num_classes: length of the logits.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__(growth_rate=20, block_config=(2, 4, 8, 5), num_init_features=20, num_classes=num_classes)
        _round_up(self)
        _initialise(self)


class VGGLite(nn.Module):
    """A small VGG-16 with BatchNorm: five stages of two convolutions and a pool, 0.65 M parameters, 0.132 GFLOPs.

    Its first stage is as large as the image, so its lower layers are narrow: the stages have 8, 16, 24, 64 and 224
    channels. In place of VGG's three linear layers, a hundred million parameters, are the last map's mean and one.

    Args:
        num_classes: length of the logits.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        widths = (8, 16, 24, 64, 224)
        self.features = make_layers([layer for width in widths for layer in (width, width, "M")], batch_norm=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)
        _round_up(self)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, num_classes] of images [B, 3, H, W]."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class MobileNetLite(MobileNetV2):
    """A small MobileNetV2: a stage for each size of the map, 1-2-2-2-2 blocks, 1.21 M parameters, 0.132 GFLOPs.

    The stages have 16, 32, 48, 112 and 192 channels; the stem of 32 and the head of 1280 are MobileNetV2's.

    Args:
        num_classes: length of the logits.
    """

    def __init__(self, num_classes: int = 1000):
        expansion_width_blocks_stride = [[1, 16, 1, 1], [6, 32, 2, 2], [6, 48, 2, 2], [6, 112, 2, 2], [6, 192, 2, 2]]
        super().__init__(num_classes, inverted_residual_setting=expansion_width_blocks_stride)
        _initialise(self)
