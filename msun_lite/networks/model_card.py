"""The card of a saved model: a README.md for whoever finds it in a folder or on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from msun_lite.data import DataOptions
from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.networks.backbones import EFFICIENTNET_LITE0, TIMM
from msun_lite.networks.counting import default_sizes, flops_by_size, parameters
from msun_lite.networks.spec import class_names, normalisation_line
from msun_lite.results import (
    ARCH_NAMES,
    DATA_NAMES,
    NAMES,
    RunFolder,
    join_words,
    markdown_name,
    read_summary,
    styled_table,
)
from msun_lite.scales import served_sizes, side_of
from msun_lite.utils.errors import printable
from msun_lite.utils.files import read_json

REPOSITORY = "https://github.com/msun-lite/msun-lite"
PAPER = "https://arxiv.org/abs/2403.18294"

FEW = 20
"""Classes that are all named."""
FIRST = 10
"""Classes that are named where there are more."""

CITATION = """@article{liu2024msun,
  title = {Multi-scale Unified Network for Image Classification},
  author = {Liu, Wenzhuo and Zhu, Fei and Liu, Cheng-Lin},
  journal = {arXiv preprint arXiv:2403.18294},
  year = {2024}
}"""


def model_card(model: MultiScaleUnifiedNetwork, data: ModelCardData, record: dict | None = None) -> ModelCard:
    """Return the card of a model.

    Args:
        model: with its `spec`, as an `MSUN` has it.
        data: what the card says at its top, in YAML; a licence there gets a section too.
        record: the summary.json of the run or the transfer that gave exactly this model, None if there is none.
    """
    sections = {
        f"# {_title(model, record)}": _what_it_is(model),
        "## Use": _use(model, record),
        "## Sizes, scales and cost": _sizes(model, record),
        "## Limits": _limits(model, record),
        **({"## Licence": str(data.license)} if data.license else {}),
        "## Citation": f"```bibtex\n{CITATION}\n```",
    }
    body = "\n\n".join(f"{title}\n\n{text}" for title, text in sections.items())
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def read_result(folder: Path) -> dict | None:
    """Return the summary.json of a run, a transfer or an adaptation beside its model, None where there is none.

    Raises:
        CheckpointError: if it is damaged.
    """
    path = RunFolder(folder).summary
    if not path.is_file():
        return None
    found = read_json(path)
    return found if {"mode", "adapted"} & found.keys() else read_summary(path)


def _arch(model: MultiScaleUnifiedNetwork) -> str:
    arch = model.spec["arch"]
    return ARCH_NAMES.get(arch, markdown_name(arch))


def _title(model: MultiScaleUnifiedNetwork, record: dict | None) -> str:
    known = NAMES.get((record or {}).get("method"))
    kind = known or ("MSUN" if len(model.scales) > 1 else "Plain CNN")
    return f"{kind}: {_arch(model)}, {join_words(model.scales)} px"


def _what_it_is(model: MultiScaleUnifiedNetwork) -> str:
    scales = f"{join_words(model.scales)} px"
    if len(model.scales) == 1:
        return (
            f"{_arch(model)} as a plain CNN, which gets every image resized to {scales}: what multi-scale unified "
            f"networks ([paper]({PAPER})) are compared with. [MSUN Lite]({REPOSITORY}) saved it.\n\n"
            f"{_classes(model.spec)}"
        )
    rest = "a network for each as well" if model.unify == "none" else "shared by all of them"
    return (
        f"A multi-scale unified network ([paper]({PAPER})), which classifies images of any size. Each of its scales, "
        f"{scales}, has a shallow subnet of its own; what comes after is {rest}. [MSUN Lite]({REPOSITORY}) made it of "
        f"{_arch(model)}.\n\n{_classes(model.spec)}"
    )


def _classes(spec: dict) -> str:
    count = spec["classes"]
    if not spec.get("class_names"):
        return f"**{count:,} classes**, known by their numbers alone, 0 to {count - 1}."
    names = [markdown_name(name) for name in class_names(spec)]
    if count <= FEW:
        return f"**{count} classes**: {', '.join(names)}."
    return f'**{count:,} classes**, among them {", ".join(names[:FIRST])}; `model.spec["class_names"]` has all.'


def _use(model: MultiScaleUnifiedNetwork, record: dict | None) -> str:
    ratio = _tested_crop(record)
    taken = model.spec.get("crop_ratio", DataOptions.crop_ratio) if ratio is None else ratio
    option = "" if taken == DataOptions.crop_ratio else f" --crop_ratio {taken:g}"
    part = "all of the shorter side" if taken == 1 else f"{taken:g} of the shorter side"
    tested = "" if ratio is None else ", as when it was tested"
    return "\n\n".join(
        [
            f"```\npip install {_package(model.spec['arch'])}\nmsun-lite predict MODEL photos{option}\n```",
            "`MODEL` is the folder of this file, or the model's id on the Hugging Face Hub; `photos` is a folder of "
            "images of any sizes. In Python:",
            f"```python\n{_code(model.spec, taken)}\n```",
            f"What is looked at is the central square of an image, {part}{tested}. Its RGB values go from 0 to 1; "
            f"{normalisation_line(model.spec)}.",
        ]
    )


def _package(arch: str) -> str:
    """Return what pip installs to build an architecture: the package, with the extra that brings timm if it is one."""
    if arch != EFFICIENTNET_LITE0 and not arch.startswith(TIMM):
        return f"git+{REPOSITORY}"
    return f"'msun-lite[{'timm' if arch.startswith(TIMM) else 'pretrained'}] @ git+{REPOSITORY}'"


def _tested_crop(record: dict | None) -> float | None:
    """Return how large a part of an image's shorter side the crop had with which the model was measured, if known."""
    return ((record or {}).get("config") or {}).get("crop_ratio")


def _code(spec: dict, crop_ratio: float) -> str:
    """Return the lines of Python that answer to one image."""
    side = "min(image.shape[1:])" if crop_ratio == 1 else f"round({crop_ratio:g} * min(image.shape[1:]))"
    mean, std = (f"torch.tensor({spec['normalisation'][name]})[:, None, None]" for name in ("mean", "std"))
    answer, remark = "int(logits.argmax())", ""
    if names := spec.get("class_names"):
        answer = 'model.spec["class_names"][logits.argmax()]'
        remark = "" if names == class_names(spec) else "  # a WordNet id, for which predict has words"
    return f"""import torch
from msun_lite import MSUN, decode
from torchvision.transforms.v2.functional import center_crop

model = MSUN.from_pretrained("MODEL")
image = decode("photo.jpg") / 255  # [3, H, W]
image = center_crop(image, [{side}])
image = (image - {mean}) / {std}
with torch.inference_mode():
    logits = model([image])  # images of mixed sizes in a list, or a batch [B, 3, H, W]
print({answer}){remark}"""


def _sizes(model: MultiScaleUnifiedNetwork, record: dict | None) -> str:
    top1 = _accuracy(model, record)
    sizes = [int(size) for size in top1] or default_sizes(model.scales)
    flops = flops_by_size(model, sizes)
    rows = []
    for size in sizes:
        scale = model.router.scale(size)
        cells = [f"{size}", f"{scale} px", f"{flops[scale][size] / 1e9:.3g}"]
        rows.append([*cells, *([f"{top1[str(size)]:.1f}"] if top1 else [])])
    header = ["size", "subnet of", "GFLOPs", *(["top-1 %"] if top1 else [])]
    return "\n\n".join(
        [
            "A size is the side in pixels of the square that is looked at. " + _served(model),
            styled_table(header, rows, "github"),
            f"{parameters(model) / 1e6:.3g} million parameters; GFLOPs are 2 x multiply-adds of one image. "
            + (_measured(record) if top1 else "How accurate it is has not been recorded with it."),
        ]
    )


def _served(model: MultiScaleUnifiedNetwork) -> str:
    """Say which sizes each subnet serves, and at which size it gets them."""
    *most, last = model.scales
    averages = [size for sizes in model.averages.values() for size in sizes]
    kept = f" BatchNorm has averages for {join_words(averages)} px; those of the nearest are used." if averages else ""
    if not most:
        return f"Every image is resized to {last} px.{kept}"
    ends = [served_sizes(scale, model.scales, model.routing)[-1] for scale in most]
    served = [f"the subnet of {scale} px serves images up to {end} px" for scale, end in zip(most, ends, strict=True)]
    rest = f"that of {last} px all larger ones"
    fed = {
        "scale": "each at its own scale",
        "native": "each at the size they have",
        "largest": f"all enlarged or reduced to {last} px",
    }
    rule = f"By the routing rule `{model.routing}`, {join_words([*served, rest])}"
    sides = join_words([f"{side_of(scale, model.scales, model.subnet_input)} px" for scale in model.scales])
    return f"{rule}, {fed.get(model.subnet_input, f'each at a side of its own: {sides}')}.{kept}"


def _accuracy(model: MultiScaleUnifiedNetwork, record: dict | None) -> dict[str, float]:
    """Return the accuracies in percent by size, of the routing that the model has now; empty if they are not known."""
    if record is None or "top1" not in record:  # an adaptation, measured on no labels
        return {}
    if not isinstance(record["top1"], dict):  # a transfer's: of one size
        return {str(record["size"]): record["top1"]} if record["routing"] == model.routing else {}
    return record["routings"].get(model.routing, {}).get("top1", {})


def _data_name(data: dict) -> str:
    name = data["name"]
    return DATA_NAMES.get(name, markdown_name(Path(name).name))  # of a folder, not where it was


def _measured(record: dict) -> str:
    count, data = record["data"]["val"], _data_name(record["data"])
    return (
        f"Top-1 accuracy is of one training (seed {record['seed']}), and of {count:,} images from {data} that were not "
        "in it, larger ones made that small."
    )


def _limits(model: MultiScaleUnifiedNetwork, record: dict | None) -> str:
    least, most = model.scales[0], model.scales[-1]
    if record is None:
        trained = "What it was trained on is not recorded with it: measure it on images of yours before you rely on it."
    elif "adapted" in record:
        count, data = record["images"]["train"], _data_name(record["images"])
        taught = f"Its smaller scales learnt what {markdown_name(record['adapted'])} says"
        trained = f"{taught}, from {count:,} images from {data} without labels. Expect less on images of another kind."
    else:
        count, data = record["data"]["train"], _data_name(record["data"])
        what = "Its last layer alone" if record.get("mode") == "linear" else "It"
        trained = f"{what} was trained on {count:,} images from {data}. Expect less on images of another kind."
    source = (model.spec.get("weights") or {}).get("source")
    started = f" Training began with the weights `{printable(Path(source).name)}`." if source else ""
    lines = [
        trained + started,
        f"Images below {least} px are enlarged to it. Those above {most} px are made that small, and what is lost in "
        "that is not seen.",
        f"Whatever is shown, the answer is one of {model.spec['classes']:,} classes; a high confidence does not say "
        "that the image is of any of them. It does not say where a thing is, nor that there are several.",
    ]
    return "\n".join(f"* {line}" for line in lines)
