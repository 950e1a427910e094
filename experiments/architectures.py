"""Try MSUN on many CNNs: which can be cut, with how many parameters, at what cost.

    python experiments/architectures.py          # writes book/results/architectures.json

Each network is built as Vanilla and as an MSUN of three scales, and run on images of three sizes, with fresh weights.
Our own small networks, `resnet_lite` and its like, are left out: they are for ten classes and smaller images.
The page of results is written by `python tools/tables.py`.
"""

import sys
from pathlib import Path

import torch

from msun_lite import MSUN
from msun_lite.networks.backbones import LITE, RECIPES
from msun_lite.networks.counting import flops, parameters, size_grid
from msun_lite.scales import route
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import UserError, one_line_errors
from msun_lite.utils.files import write_json
from msun_lite.utils.progress import progress

# fmt: off
TIMM = [
    "resnet50", "resnet50d", "res2net50_26w_4s", "resnetrs50", "resnest50d", "seresnet50", "skresnet50",
    "regnety_032", "repvgg_a2", "nfnet_l0", "densenet121", "vgg16_bn", "cspdarknet53", "dla34", "inception_v4",
    "xception41", "hrnet_w18", "efficientnet_b0", "tf_efficientnetv2_s", "mixnet_s", "mobilenetv3_large_100",
    "ghostnet_100", "convnext_tiny", "edgenext_small", "poolformer_s12", "mobilevit_s", "maxvit_tiny_tf_224",
    "crossvit_tiny_240", "coat_tiny", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224",
]
# fmt: on
SCALES = (32, 128, 224)
SIZES = (32, 100, 224)
LARGEST = {"timm/crossvit_tiny_240": 240}
"""Networks that take one image size alone, where that is not 224."""


def try_architecture(arch: str) -> dict:
    """Return what came of one architecture: parameters in millions, GFLOPs, or why it cannot be an MSUN."""
    vanilla = MSUN.vanilla(arch, LARGEST.get(arch, SCALES[-1]))
    _run(vanilla)
    row = {"arch": arch, "vanilla_params": parameters(vanilla), "vanilla_flops": next(iter(flops(vanilla).values()))}
    try:
        model = MSUN.from_backbone(arch, SCALES)
    except UserError as error:
        return row | {"refused": str(error)}
    _run(model)
    native = MSUN.from_backbone(arch, SCALES, unify="native")
    _run(native)
    means = {name: _mean(flops(each)) for name, each in (("mean_flops", model), ("mean_flops_native", native))}
    costs = {"params": parameters(model), "flops": {str(scale): cost for scale, cost in flops(model).items()}}
    return row | costs | means | {"stems": model.spec["stems"]}


@torch.inference_mode()
def _run(model: MSUN) -> None:
    model.eval()
    for size in SIZES:
        logits = model(torch.rand(1, 3, size, size))
        if logits.shape != (1, 1000) or not logits.isfinite().all():
            raise RuntimeError(f"{model.spec.get('arch')} at {size} px: logits {list(logits.shape)}")


def _mean(costs: dict[int, int]) -> int:
    sizes = size_grid(SCALES)
    return round(sum(costs[route(size, SCALES)] for size in sizes) / len(sizes))


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="Try MSUN on many CNNs.")
    parser.add_argument("--json", type=str, default="book/results/architectures.json", help="File to write to.")
    options = parse(parser, argv)
    names = [name for name in RECIPES if name not in LITE] + [f"timm/{name}" for name in TIMM]
    torch.manual_seed(0)
    rows = [try_architecture(name) for name in progress(names, unit="network")]
    record = {"command": "python experiments/architectures.py", "scales": list(SCALES), "networks": rows}
    write_json(Path(options.json), record | {"env": environment(torch.device("cpu"), "fp32")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
