"""The card of a saved model: what a stranger has to know to use it."""

import math

from huggingface_hub import ModelCard, ModelCardData

from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.networks.counting import flops, parameters
from msun_lite.networks.spec import class_names
from msun_lite.results import Summary, styled_table
from msun_lite.scales import served_sizes

FEW = 20
"""Classes that are all named."""

PAPER = "https://arxiv.org/abs/2403.18294"

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

{{ what }}

## What it names

{{ classes }}

## How to use it

```
pip install msun-lite
msun-lite predict FOLDER photos/*.jpg
```

```python
from msun_lite import MSUN

model = MSUN.from_pretrained("FOLDER")  # this folder, or the model's name on the Hub
logits = model(images)  # [B, 3, H, W] of any size, or a list of [3, H, W] of mixed sizes
```

{{ images }} `msun-lite export FOLDER --out exported --format onnx` writes it for use without PyTorch.

## Which sizes it serves

An image is routed by its shorter side (`{{ routing }}`), and resized to what its subnet takes.

{{ table }}

{{ measured }}

## Limits

* It knows the classes above alone, and names one of them whatever a picture shows. Its confidence is no proof.
* {{ smallest }}
* Objects are expected to fill a good part of the picture, as in photographs with one label.
* Its errors are those of the images that it was trained on. Measure it on yours, class by class and size by size:
  `msun-lite evaluate FOLDER --data photos --sizes own --report why`.

## How it was made

{{ made }}

The method is by Wenzhuo Liu, Fei Zhu and Cheng-Lin Liu: [Multi-scale Unified Network for Image
Classification]({{ paper }}).
"""


def model_card(model: MultiScaleUnifiedNetwork, summary: Summary | None, **given: object) -> ModelCard:
    """Return the card of an `MSUN`.

    Args:
        model: what it is of.
        summary: of its training; None where nothing says how good it is.
        given: other texts for fields of `TEMPLATE`.
    """
    spec, params = model.description, parameters(model)
    names, scales = class_names(spec), spec["scales"]
    kind = "multi-scale unified network" if len(scales) > 1 else "CNN"
    tags = ["image-classification", "multi-scale", "arxiv:2403.18294"]
    fields = {
        "title": f"{spec['arch']}, {len(names)} classes, {_listed(scales)} px",
        "what": f"A {kind} made of `{spec['arch']}`: {params / 1e6:.2f} million parameters, {len(names)} classes.",
        "classes": _classes(names, named=bool(spec.get("class_names"))),
        "images": _images(spec),
        "routing": spec["routing"],
        "table": _table(model, summary),
        "measured": _measured(summary),
        "smallest": f"Images below {scales[0]} px are enlarged to it; what it makes of them was not trained.",
        "made": _made(spec, summary),
        "paper": PAPER,
    }
    data = ModelCardData(library_name="msun_lite", pipeline_tag="image-classification", tags=tags)
    return ModelCard.from_template(data, template_str=TEMPLATE, **(fields | given))


def _images(spec: dict) -> str:
    mean, std = (", ".join(f"{value:g}" for value in spec["normalisation"][name]) for name in ("mean", "std"))
    return f"In Python, images are levels from 0 to 1, less the mean {mean}, over the standard deviation {std}."


def _listed(scales: list[int]) -> str:
    return " / ".join(map(str, scales))


def _classes(names: list[str], named: bool) -> str:
    if not named:
        return f"{len(names)} classes, of which it knows no names: it answers with their numbers, from 0 on."
    if len(names) <= FEW:
        return ", ".join(names) + "."
    return f"{', '.join(names[:FEW])} and {len(names) - FEW} more; `model.json` has all."


def _table(model: MultiScaleUnifiedNetwork, summary: Summary | None) -> str:
    """Return which subnet serves which sizes, at what cost, and how well."""
    last = len(model.scales) - 1
    header = ["subnet", "sizes", "GFLOPs", *(["top-1"] if summary else [])]
    rows = []
    for place, (scale, cost) in enumerate(flops(model).items()):
        served = served_sizes(scale, model.scales, model.routing)
        low, high = 0 if place == 0 else served[0], None if place == last else served[-1]
        row = [f"{scale} px", _range(low, high), f"{cost / 1e9:.3f}"]
        if summary:
            top1 = summary["top1"].items()
            inside = [(size, one) for size, one in top1 if low <= int(size) <= (high or math.inf)]
            row.append(", ".join(f"{one:.1f} % at {size} px" for size, one in inside))
        rows.append(row)
    return styled_table(header, rows, "github")


def _range(low: int, high: int | None) -> str:
    """Return a range of sizes in words; it goes on without an end where `high` is None."""
    if high is None:
        return f"from {low} px on" if low else "all"
    return f"{low} to {high} px" if low else f"up to {high} px"


def _measured(summary: Summary | None) -> str:
    if summary is None:
        return "Nothing that was saved with it says how accurate it is."
    data, mean = summary["data"], summary["mean_top1"]
    measured = f"{data['val']:,} validation images of {data['name']}, each made every size"
    return f"Accuracy on {measured}: {mean:.1f} % in the mean of {len(summary['top1'])} sizes."


def _made(spec: dict, summary: Summary | None) -> str:
    weights = (spec.get("weights") or {}).get("source")
    started = f" It started from the weights `{weights}`." if weights else ""
    if summary is None:
        return f"What it was trained on is not known here.{started}"
    data = summary["data"]
    return (
        f"Trained on {data['train']:,} images of {data['name']} (fingerprint {data['fingerprint']}) for "
        f"{summary['epochs']} epochs by the method {summary['method']}, seed {summary['seed']}.{started}\n\n"
        f"```\n{summary['command']}\n```"
    )
