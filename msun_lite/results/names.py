"""What methods, networks and data sets are called in tables and figures."""

from msun_lite.methods import METHODS

NAMES = {name: method.title for name, method in METHODS.items()}
"""How a method is called in figures, tables and text."""

ARCH_NAMES = {
    "resnet_lite": "ResNet-lite",
    "resnet_lite_gn": "ResNet-lite, GroupNorm",
    "densenet_lite": "DenseNet-lite",
    "vgg_lite": "VGG-lite",
    "mobilenet_lite": "MobileNet-lite",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
"""How an architecture is called whose own name is none to show."""

DATA_NAMES = {"imagenette": "Imagenette", "scenes": "drawn scenes"}
"""How a data set is called likewise."""


RESAMPLING_NAMES = {
    "antialiased": "bilinear, antialiased",
    "bilinear": "bilinear (the paper's)",
    "bicubic": "bicubic, antialiased",
    "nearest": "nearest",
    "area": "area",
    "jpeg": "antialiased, then JPEG",
}
"""How a way of making images small is called in figures and tables."""
