"""A recipe for each CNN: its parts in order, and its stem at each scale.

A recipe builds the plain network and names its parts, so that `cut` can split it into the lower
layers f (the stem and the first `blocks` stages) and the deeper layers g (all the rest). The parts
keep the names they have in torchvision, hence its weights fit the large subnet and g unchanged.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from msun_lite.errors import UserError

MEDIUM_STEMS = ("coarse", "fine")
"""What the paper leaves open: how finely a stem between the smallest and the largest scale samples."""


@dataclass(frozen=True)
class Stem:
    """A stem as the paper varies it: the first convolution's kernel and stride, and max-pooling or not."""

    kernel: int
    stride: int
    pool: bool

    def map_size(self, scale: int) -> int:
        """Return the side of the feature map that this stem makes of an image of `scale` pixels."""
        side = -(-scale // self.stride)
        return -(-side // 2) if self.pool else side


SMALL, FINE, COARSE, LARGE = Stem(3, 1, False), Stem(5, 1, True), Stem(5, 2, True), Stem(7, 2, True)


def stem_for(scale: int, largest: int, medium_stem: str = "coarse") -> Stem:
    """Return the stem of the subnet for `scale` beside a largest scale of `largest` pixels.

    The paper: "substitute the large convolutions with smaller ones and discard some max-pooling
    layers". A scale whose image is no larger than the largest scale's feature map drops the pool and
    every stride (3x3). A scale in between gets a 5x5 kernel and the pool; the paper does not say
    with which stride. `fine` takes stride 1, as the authors' experiments did (their f2 costs more than
    f3). `coarse`, the default, takes stride 1 only while the map stays within the largest scale's,
    else stride 2, so that a smaller scale is always the cheaper one.
    """
    if medium_stem not in MEDIUM_STEMS:
        raise UserError(f"medium_stem: expected one of {', '.join(MEDIUM_STEMS)}, got {medium_stem!r}")
    limit = LARGE.map_size(largest)
    if scale == largest:
        return LARGE
    if SMALL.map_size(scale) <= limit:
        return SMALL
    if medium_stem == "fine" or FINE.map_size(scale) <= limit:
        return FINE
    return COARSE


class ResNetLite(nn.Module):
    """A ResNet for CPUs: the 7x7 stem and pool, four stages of one basic block, 1.2 M parameters.

    Args:
        num_classes: length of the logits.
        widths: channels of the four stages.
    """

    def __init__(self, num_classes: int = 1000, widths: tuple[int, int, int, int] = (32, 64, 128, 256)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, num_classes] of images [B, 3, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return one stage of one basic block; the shortcut is a 1x1 convolution where the shape changes."""
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut))


def _initialise(conv: nn.Conv2d) -> None:
    """He initialisation by fan-out, torchvision's choice for ResNets."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


ARCHS: dict[str, Callable[..., nn.Module]] = {
    "resnet_lite": ResNetLite,
    "resnet50": torchvision.models.resnet50,
    "resnext50_32x4d": torchvision.models.resnext50_32x4d,
}
"""Architecture name -> function that builds the plain network from `num_classes`."""

STEM = ("conv1", "bn1", "relu", "maxpool")
STAGES = ("layer1", "layer2", "layer3", "layer4")


def check_arch(arch: str, blocks: int) -> None:
    """Raise a `UserError` unless `arch` is known and `blocks` leaves at least one stage to g."""
    if arch not in ARCHS:
        raise UserError(f"arch: unknown architecture {arch!r}, expected one of {', '.join(ARCHS)}")
    if not 0 <= blocks < len(STAGES):
        raise UserError(f"blocks: expected 0 to {len(STAGES) - 1} stages in each subnet, got {blocks}")


def build(arch: str, num_classes: int) -> nn.Module:
    """Return the plain network `arch` with fresh weights and `num_classes` logits."""
    check_arch(arch, blocks=0)
    return ARCHS[arch](num_classes=num_classes)


def cut(cnn: nn.Module, blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a plain ResNet into f (the stem and `blocks` stages) and g (the other stages and the head).

    g(f(x)) equals cnn(x); all three share their modules.
    """
    lower = STEM + STAGES[:blocks]
    f = OrderedDict((name, getattr(cnn, name)) for name in lower)
    g = OrderedDict((name, getattr(cnn, name)) for name in STAGES[blocks:])
    g.update(avgpool=cnn.avgpool, flatten=nn.Flatten(), fc=cnn.fc)
    return nn.Sequential(f), nn.Sequential(g)


def restem(f: nn.Sequential, stem: Stem) -> nn.Sequential:
    """Return f with its stem replaced by `stem`: a fresh first convolution, its pool kept or dropped."""
    conv = nn.Conv2d(3, f.conv1.out_channels, stem.kernel, stride=stem.stride, padding=stem.kernel // 2, bias=False)
    _initialise(conv)
    parts = OrderedDict(f.named_children())
    parts["conv1"] = conv
    if not stem.pool:
        del parts["maxpool"]
    return nn.Sequential(parts)


def subnet(arch: str, blocks: int, scale: int, largest: int, medium_stem: str = "coarse") -> nn.Sequential:
    """Return a fresh private subnet f_i of `arch` for a `scale` below the `largest`."""
    f, _ = cut(build(arch, num_classes=1), blocks)
    return restem(f, stem_for(scale, largest, medium_stem))
