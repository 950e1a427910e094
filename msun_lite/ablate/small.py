"""Questions that small networks answer: the methods on other backbones, GroupNorm as a control, one network a size.

What was expected of the control before it was run: a GroupNorm keeps no averages, so that a small image is normalised
by itself. If BatchNorm's averages are the larger part of the collapse, a Vanilla with GroupNorm falls about as one with
averages of the size does, far less than a plain one; what is left of its fall is lost detail. At the largest size it
should be a few points behind, as GroupNorm regularises less. MST should have little to gain from averages then.

It came otherwise: without averages Vanilla collapses as well. Chapter 11 of the book says why that may be.
"""

from msun_lite.ablate.ablations import BEYOND, Ablation
from msun_lite.ablate.rivals import measured_twice
from msun_lite.ablate.tables import BACKBONES, ONE_A_SIZE
from msun_lite.results import NAMES

METHODS = ("vanilla", "mst", "msun")


EXACT = {"mobilenet_lite": {"precision": "fp32"}}
"""Options of a backbone: CPUs compute convolutions of single channels (depthwise) more slowly in bf16 than in fp32."""

BACKBONE_ROWS = {
    row.name: row
    for backbone, arch in BACKBONES.items()
    for method in METHODS
    for row in measured_twice(f"{NAMES[method]}, {backbone}", {"method": method, "arch": arch, **EXACT.get(arch, {})})
}

CONTROL_ROWS = {
    row.name: row
    for row in (
        *(row for method in METHODS for row in measured_twice(NAMES[method], {"method": method})),
        *(
            Ablation(f"{NAMES[method]}, GroupNorm", {"method": method, "arch": "resnet_lite_gn"}, source=BEYOND)
            for method in METHODS[:2]
        ),
        Ablation(ONE_A_SIZE, {"method": "vanilla"}, each_size=True, source="Fig. 6"),
    )
}
