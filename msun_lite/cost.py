"""Parameters, FLOPs and speed of a Multi-scale Unified Network, beside Vanilla's and beside the paper's.

    python -m msun_lite.cost --arch resnet50
    python -m msun_lite.cost --arch timm/convnext_tiny --blocks 1 --scales 32,128,224 --unify native --json cost.json
    python -m msun_lite.cost --arch mobilenet_v2 --latency          # and the time it takes on this machine

FLOPs are 2 x multiply-adds of convolutions, linear layers and matrix products, for one image. The paper's figures are
in another unit, 8 x (multiply-adds + outputs of BatchNorm), found by matching its largest scale's; both are shown.
Counting runs on the meta device: no arithmetic, no memory. Resizing is not counted.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("cost"))


import copy
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import Namespace
from tabulate import tabulate

from msun_lite.data import check_sizes
from msun_lite.networks import MSUN, Cost, count, is_factory, parameters, size_grid
from msun_lite.results import paper
from msun_lite.scales import SIZE_ROUTINGS, check_scales, route
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import within
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.progress import progress, show
from msun_lite.utils.timing import median_and_range, time_interleaved


def cost_record(model: MSUN, vanilla: MSUN, sizes: Sequence[int]) -> dict:
    """Return the cost of `model` beside that of the plain CNN at the largest scale, and beside the paper's."""
    costs, (plain,) = count(model), [lower + upper for lower, upper in count(vanilla).values()]
    rules = dict.fromkeys([*SIZE_ROUTINGS, model.routing])
    params = {"msun": parameters(model), "vanilla": parameters(vanilla)}
    papers = _paper_parameters(model.spec)
    names = ("arch", "blocks", "scales", "classes", "stems", "unify", "norm", "subnet_input", "private")
    return {
        **{name: model.spec[name] for name in names},
        "sizes": list(sizes),
        "params": {
            **params,
            **{f"paper_{name}_M": value for name, value in papers.items()},
            "difference_percent": {name: _above(params[name], 1e6 * value) for name, value in papers.items()},
        },
        "vanilla": {"flops": plain.flops, **_beside(plain.paper_unit, _paper_flops(model.spec, "Vanilla"))},
        "subnets": {
            str(scale): {
                "subnet_flops": lower.flops,
                "unified_flops": upper.flops,
                "flops": (lower + upper).flops,
                "of_vanilla": round((lower + upper).flops / plain.flops, 4),
                **_beside((lower + upper).paper_unit, _paper_subnet_flops(model.spec, scale)),
            }
            for scale, (lower, upper) in costs.items()
        },
        "routings": {routing: _routing_cost(model, plain, sizes, routing) for routing in rules},
    }


def _routing_cost(model: MSUN, plain: Cost, sizes: Sequence[int], routing: str) -> dict:
    model = copy.copy(model)
    model.routing = routing  # which also says the sizes that a subnet gets natively
    served = {size: count(model, size)[route(size, model.scales, routing)] for size in sizes}
    spent = {size: lower + upper for size, (lower, upper) in served.items()}
    mean = sum(cost.flops for cost in spent.values()) / len(sizes)
    unit = sum(cost.paper_unit for cost in spent.values()) / len(sizes)
    grid = list(sizes) == size_grid(paper.SCALES)
    return {
        "flops": {str(size): cost.flops for size, cost in spent.items()},
        "paper_units": {str(size): cost.paper_unit for size, cost in spent.items()},
        "mean_flops": round(mean),
        "of_vanilla": round(mean / plain.flops, 4),
        **_beside(round(unit), _paper_flops(model.spec, "MSUN") if grid else None),
    }


def _beside(unit: int, papers: float | None) -> dict:
    """Return a cost in the paper's unit, the paper's figure, and how much ours is above it in percent."""
    if papers is None:
        return {"paper_unit": unit}
    return {"paper_unit": unit, "paper": papers, "difference_percent": _above(unit, papers)}


def _above(ours: float, papers: float) -> float:
    """Return how much ours is above the paper's figure, in percent."""
    return round(100 * (ours / papers - 1), 2)


def _is_papers(spec: dict) -> bool:
    """Return whether a model is what Tables II and IV are about."""
    own = [spec[name] for name in ("blocks", "scales", "classes", "unify", "norm", "subnet_input", "private")]
    papers = [paper.BLOCKS, paper.SCALES, 1000, "largest", "shared", "scale", "subnets"]
    return spec["arch"] in paper.BACKBONES and own == papers


def _paper_flops(spec: dict, method: str) -> float | None:
    if not _is_papers(spec):
        return None
    return paper.rows("II", backbone=paper.BACKBONES[spec["arch"]], method=method)[0]["avg_FLOPs"]


def _paper_subnet_flops(spec: dict, scale: int) -> float | None:
    if not _is_papers(spec):
        return None
    return paper.rows("IV", backbone=paper.BACKBONES[spec["arch"]], subnet_scale=scale)[0]["FLOPs"]


def _paper_parameters(spec: dict) -> dict[str, float]:
    """Return the paper's parameters in millions, as far as it has this configuration (Tables II, V and VI)."""
    if spec["classes"] != 1000 or spec["norm"] != "shared":
        return {}
    if spec["unify"] == "none":
        (snet,) = paper.rows("VI", method="SNet")
        is_snet = (spec["arch"], spec["scales"]) == ("resnet50", paper.SCALES)
        return {"msun": snet["params_M"]} if is_snet else {}
    if _is_papers(spec):
        rows = paper.rows("II", backbone=paper.BACKBONES[spec["arch"]])
        return {row["method"].lower(): row["params_M"] for row in rows if row["method"] != "MST"}
    if spec["arch"] == "resnet50":
        (row,) = paper.rows("V", blocks=spec["blocks"], subnets=len(spec["scales"])) or [None]
        return {"msun": row["params_M"]} if row else {}
    return {}


def report(record: dict) -> str:
    """Return a cost record as tables for the terminal."""
    counts = [_parameters(record["params"], key, name) for key, name in (("msun", "MSUN"), ("vanilla", "Vanilla"))]
    parts = [f"parameters: {', '.join(counts)}", _subnet_table(record), _routing_table(record)]
    if "speed" in record:
        parts.append(_speed_table(record))
    return "\n\n".join(parts)


def _parameters(params: dict, key: str, name: str) -> str:
    count = f"{name} {params[key] / 1e6:.3f} M"
    if key not in params["difference_percent"]:
        return count
    return f"{count} (paper {params[f'paper_{key}_M']}, difference {params['difference_percent'][key]:+.2f} %)"


def _subnet_table(record: dict) -> str:
    entries = [*record["subnets"].values(), record["vanilla"]]
    rows = [
        {
            "through": f"f{number} ({scale} px)",
            "f GFLOPs": f"{entry['subnet_flops'] / 1e9:.3f}",
            "g GFLOPs": f"{entry['unified_flops'] / 1e9:.3f}",
            "GFLOPs": f"{entry['flops'] / 1e9:.3f}",
            "of Vanilla": f"{100 * entry['of_vanilla']:.1f} %",
        }
        for number, (scale, entry) in enumerate(record["subnets"].items(), start=1)
    ]
    rows.append({"through": "Vanilla", "GFLOPs": f"{record['vanilla']['flops'] / 1e9:.3f}", "of Vanilla": "100.0 %"})
    return _table(rows, entries)


def _routing_table(record: dict) -> str:
    rows = [
        {
            "GFLOPs at px": routing,
            **{size: f"{value / 1e9:.2f}" for size, value in entry["flops"].items()},
            "mean": f"{entry['mean_flops'] / 1e9:.3f}",
            "of Vanilla": f"{100 * entry['of_vanilla']:.1f} %",
        }
        for routing, entry in record["routings"].items()
    ]
    return _table(rows, list(record["routings"].values()))


def _table(rows: list[dict], entries: list[dict]) -> str:
    """Return the rows with the paper's unit beside them, and the paper's figures where there are any."""
    for row, entry in zip(rows, entries, strict=True):
        row["paper's unit"] = f"{entry['paper_unit']:.4g}"
        if "paper" in entry:
            row |= {"paper": f"{entry['paper']:.3g}", "difference": f"{entry['difference_percent']:+.2f} %"}
    columns = {name: name for row in rows for name in row}
    return tabulate(rows, columns, "simple", disable_numparse=True, stralign="right")


def _speed_table(record: dict) -> str:
    speed = record["speed"]
    columns = ["px", "MSUN ms", "Vanilla ms", "ratio", f"MSUN img/s ({speed['batch']})", "Vanilla img/s", "ratio"]
    rows = [
        [
            size,
            *(_median_and_range(entry["latency_ms"][name]) for name in ("msun", "vanilla")),
            f"{entry['latency_ratio']:.2f}",
            *(_median_and_range(entry["images_per_second"][name]) for name in ("msun", "vanilla")),
            f"{entry['throughput_ratio']:.2f}",
        ]
        for size, entry in speed["sizes"].items()
    ]
    title = f"{record['env']['device']}, median and range; one image, and batches of {speed['batch']}"
    return title + "\n" + tabulate(rows, columns, "simple", disable_numparse=True, stralign="right")


def _median_and_range(entry: dict) -> str:
    return f"{entry['median']:.1f} ({entry['min']:.1f} to {entry['max']:.1f})"


def run(options: Namespace, command: str) -> None:
    """Count, and measure, what the options of the command say; write the record, print it."""
    scales = check_scales(options.scales)
    sizes = options.sizes or size_grid(scales)
    check_sizes(sizes)
    for name in ("num_classes", "batch", "rounds"):
        within(name, options[name], least=1)
    check_output(options.json)
    device = pick_device(options.device)
    chosen = {name: options[name] for name in ("stems", "unify", "norm", "subnet_input", "private", "routing", "split")}
    unmeasured = "cpu" if is_factory(options.arch) else "meta"  # code of others may want values
    with torch.device(device if options.latency else unmeasured):
        model = MSUN.from_backbone(options.arch, scales, options.blocks, options.num_classes, **chosen)
        vanilla = MSUN.vanilla(options.arch, scales[-1], options.num_classes, split=options.split)
    record = cost_record(model, vanilla, sizes)
    if options.latency:
        record["speed"] = measure_speed(model.eval(), vanilla.eval(), sizes, device, options.batch, options.rounds)
    record["env"] = environment(device, "fp32")
    record["command"] = command
    if options.json:
        write_json(Path(options.json), record)
    show(report(record))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("cost", argv)


@torch.inference_mode()
def measure_speed(
    msun: MSUN, vanilla: MSUN, sizes: Sequence[int], device: torch.device, batch: int, rounds: int
) -> dict:
    """Return latency (one image) and throughput (a batch) at each size, MSUN against Vanilla.

    Images arrive on the device at their size; what follows, resizing included, is timed. Ratios are of medians, above
    1 where MSUN is the faster one.
    """
    found = {}
    for size in progress(sizes, desc="timing", unit="size", leave=False):
        seconds = {}
        for number in (1, batch):
            images = torch.rand(number, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
            models = {"msun": msun, "vanilla": vanilla}
            calls = {name: lambda model=model, images=images: model(images) for name, model in models.items()}
            seconds[number] = time_interleaved(calls, rounds, device)
        found[str(size)] = {
            "latency_ms": {name: median_and_range([1e3 * t for t in times]) for name, times in seconds[1].items()},
            "latency_ratio": _speed_up(seconds[1]),
            "images_per_second": {
                name: median_and_range([batch / t for t in times]) for name, times in seconds[batch].items()
            },
            "throughput_ratio": _speed_up(seconds[batch]),
        }
    return {"batch": batch, "rounds": rounds, "sizes": found}


def _speed_up(seconds: dict[str, list[float]]) -> float:
    """Return how many times as fast MSUN is as Vanilla, by the medians."""
    return round(statistics.median(seconds["vanilla"]) / statistics.median(seconds["msun"]), 3)
