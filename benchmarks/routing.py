"""A stream of images of mixed sizes through a routed MSUN, beside Vanilla with everything resized to 224 px.

    python benchmarks/routing.py [--json book/results/routing.json]

ResNet-50, scales 32, 128 and 224, `unify="native"`. Both networks get the same images in the same order, in batches of
mixed sizes; resizing is timed with the rest. Prints images a second (median, minimum and maximum over the rounds),
their ratio round by round, and the ratio that the FLOPs promise for this stream.
"""

import random
import shlex
import statistics
import sys
from pathlib import Path

import torch

from msun_lite import MSUN
from msun_lite.networks.counting import flops, size_grid
from msun_lite.scales import route
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.files import write_json
from msun_lite.utils.timing import median_and_range, time_interleaved

SCALES = (32, 128, 224)


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Images a second of a routed MSUN, beside Vanilla.")
    parser.add_argument("--arch", type=str, default="resnet50", help="Backbone.")
    parser.add_argument("--images", type=int, default=104, help="Images in the stream.")
    parser.add_argument("--batch", type=int, default=52, help="Images that arrive together, their sizes mixed.")
    parser.add_argument("--rounds", type=int, default=7, help="Times the stream is run.")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda ...")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    device = pick_device(options.device)
    torch.manual_seed(0)
    msun = MSUN.from_backbone(options.arch, SCALES, unify="native").eval()
    vanilla = MSUN.vanilla(options.arch, SCALES[-1]).eval()
    for model in (msun, vanilla):
        model.to(device, memory_format=torch.channels_last)
    grid = size_grid(SCALES)
    sizes = [grid[i % len(grid)] for i in range(options.images)]  # each size equally often
    random.Random(0).shuffle(sizes)
    stream = [torch.rand(3, size, size, device=device) for size in sizes]
    batches = [stream[i : i + options.batch] for i in range(0, len(stream), options.batch)]

    def serve(model: MSUN) -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    calls = {"msun": lambda: serve(msun), "vanilla": lambda: serve(vanilla)}
    seconds = time_interleaved(calls, options.rounds, device)
    ratios = [slow / fast for fast, slow in zip(seconds["msun"], seconds["vanilla"], strict=True)]
    costs = flops(msun)
    promised = costs[SCALES[-1]] * len(sizes) / sum(costs[route(size, SCALES)] for size in sizes)
    rates = {name: [len(stream) / each for each in times] for name, times in seconds.items()}
    record = {
        "command": shlex.join(["python", "benchmarks/routing.py", *sys.argv[1:]]),
        "arch": options.arch,
        "images": len(stream),
        "batch": options.batch,
        "images_per_second": {name: median_and_range(values) for name, values in rates.items()},
        "ratio": median_and_range(ratios),
        "promised_by_flops": round(promised, 3),
        "of_the_promise": round(statistics.median(ratios) / promised, 3),
        "env": environment(device, "fp32"),
    }
    for name, found in [*record["images_per_second"].items(), ("ratio", record["ratio"])]:
        print(f"{name:8} {found['median']:8.2f}  ({found['min']:.2f} to {found['max']:.2f})")
    print(f"the FLOPs promise {promised:.2f}; measured is {record['of_the_promise']:.2f} of that")
    if options.json:
        write_json(Path(options.json), record)


if __name__ == "__main__":
    main()
