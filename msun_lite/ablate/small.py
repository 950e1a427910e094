"""Questions that small networks answer: the methods on other backbones, GroupNorm as a control, one network a size.

What was expected of the control before it was run: a GroupNorm keeps no averages, so that a small image is normalised
by itself. If BatchNorm's averages are the larger part of the collapse, a Vanilla with GroupNorm falls about as one with
averages of the size does, far less than a plain one; what is left of its fall is lost detail. At the largest size it
should be a few points behind, as GroupNorm regularises less. MST should have little to gain from averages then.
"""

from msun_lite.ablate.ablations import BEYOND, Ablation
from msun_lite.results import NAMES

METHODS = ("vanilla", "mst", "msun")
OF_SIZE = {"averages": "size"}

BACKBONES = {
    "ResNet-lite": "resnet_lite",
    "DenseNet-lite": "densenet_lite",
    "VGG-lite": "vgg_lite",
    "MobileNet-lite": "mobilenet_lite",
}
"""The four backbones at one cost, as the paper has four."""


def _rows(backbones: dict[str, str], methods: tuple[str, ...], norms: bool) -> dict[str, Ablation]:
    """Return a row for each backbone and method, with averages of the size beside where the backbone has `norms`."""
    tests = (("", {}), (", averages of the size", OF_SIZE)) if norms else (("", {}),)
    rows = (
        Ablation(f"{NAMES[method]}, {name}{words}", {"method": method, "arch": arch}, tested=tested, source=BEYOND)
        for name, arch in backbones.items()
        for method in methods
        for words, tested in tests
    )
    return {row.name: row for row in rows}


SIBLINGS = _rows(BACKBONES, METHODS, norms=True)
CONTROL = _rows({"BatchNorm": "resnet_lite"}, METHODS[:2], norms=True) | _rows(
    {"GroupNorm": "resnet_lite_gn"}, METHODS[:2], norms=False
)
