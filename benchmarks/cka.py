"""CKA of ten layers with ten layers, beside the way of torch_cka, on the same features in the same batches.

    python benchmarks/cka.py [--json book/results/cka.json]

Two `resnet_lite` with fresh weights see random images once; both ways then read the features from memory. torch_cka
(pip install torch-cka) computes the unbiased estimator pair by pair, without centring. Prints seconds (median, minimum
and maximum over the rounds), their ratio round by round, how far both are from the result in double precision, and the
peak memory of a process that streams images through the network, for a quarter of them, half and all.
"""

import multiprocessing
import resource
import shlex
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch_cka import CKA

from msun_lite.cka import StreamingCKA, capture_outputs, gram
from msun_lite.networks.layers import layer_names, layer_path
from msun_lite.networks.msun import MSUN
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.environment import environment
from msun_lite.utils.files import write_json
from msun_lite.utils.timing import median_and_range, time_interleaved

ARCH, SIZE = "resnet_lite", 112


def network(seed: int) -> tuple[MSUN, list[str]]:
    """Return a network with fresh weights, and the names of its ten layers."""
    torch.manual_seed(seed)
    model = MSUN.vanilla(ARCH, SIZE, 10).eval()
    return model, [layer_path(model, name, SIZE) for name in layer_names(model)]


@torch.inference_mode()
def features_of(seed: int, images: int) -> dict[str, Tensor]:
    """Return layer -> features [images, ...] for random images."""
    model, names = network(seed)
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    generator = torch.Generator().manual_seed(0)
    for numbers in torch.arange(images).split(50):
        with capture_outputs(model, names) as found:
            model(torch.rand(len(numbers), 3, SIZE, SIZE, generator=generator))
        for name, features in found.items():
            kept[name].append(features)
    return {name.replace(".", "_"): torch.cat(parts) for name, parts in kept.items()}


class Replay(nn.Module):
    """A network whose layers give, from memory, what they gave for the images of the given numbers."""

    def __init__(self, features: dict[str, Tensor]):
        super().__init__()
        self.features = features
        self.layers = nn.ModuleDict({name: nn.Identity() for name in features})
        self.names = [f"layers.{name}" for name in features]

    def forward(self, numbers: Tensor) -> Tensor:
        """Run every layer for consecutive images."""
        for name, layer in self.layers.items():
            layer(self.features[name][numbers[0] : numbers[-1] + 1].to(torch.get_default_dtype()))
        return numbers


@torch.inference_mode()
def ours(pair: tuple[Replay, Replay], loader: DataLoader) -> Tensor:
    """Return the unbiased CKA [10, 10] by `StreamingCKA`."""
    stream = StreamingCKA()
    for (numbers,) in loader:
        grams = []
        for model in pair:
            with capture_outputs(model, model.names, keep=gram) as found:
                model(numbers)
            grams.append(found)
        stream.update(*grams)
    return stream.value(unbiased=True)


@torch.inference_mode()
def theirs(pair: tuple[Replay, Replay], loader: DataLoader) -> Tensor:
    """Return the same by torch_cka."""
    first, second = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own progress and names
        cka = CKA(first, second, "first", "second", first.names, second.names)
        cka.compare(loader, loader)
    return cka.export()["CKA"]


@torch.inference_mode()
def stream_memory(images: int, batch: int, queue: multiprocessing.Queue) -> None:
    """Put the peak memory of this process in MiB, after CKA over so many images straight from the network."""
    model, names = network(0)
    stream = StreamingCKA()
    for numbers in torch.arange(images).split(batch):
        with capture_outputs(model, names, keep=gram) as found:
            model(torch.rand(len(numbers), 3, SIZE, SIZE))
        stream.update(found, found)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak_memory(images: int, batch: int) -> int:
    """Return what `stream_memory` measures in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=stream_memory, args=(images, batch, queue))
    process.start()
    found = queue.get()
    process.join()
    return round(found)


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Ten layers with ten layers: StreamingCKA beside torch_cka.")
    parser.add_argument("--images", type=int, default=1000, help="Images.")
    parser.add_argument("--batch", type=int, default=250, help="Images a batch.")
    parser.add_argument("--rounds", type=int, default=5, help="Times each is run.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    pair = tuple(Replay(features_of(seed, options.images)) for seed in (0, 1))
    loader = DataLoader(TensorDataset(torch.arange(options.images)), options.batch)
    single, other = ours(pair, loader), theirs(pair, loader)
    torch.set_default_dtype(torch.float64)  # torch_cka follows the default
    exact, other_exact = ours(pair, loader), theirs(pair, loader)
    torch.set_default_dtype(torch.float32)
    errors = {
        "between both in double precision": exact - other_exact,
        "ours in single precision": single - exact,
        "torch_cka in single precision": other - exact,
    }
    calls = {"ours": lambda: ours(pair, loader), "torch_cka": lambda: theirs(pair, loader)}
    seconds = time_interleaved(calls, options.rounds, torch.device("cpu"))
    ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds["torch_cka"], strict=True)]
    counts = [options.images // 4, options.images // 2, options.images]
    record = {
        "command": shlex.join(["python", "benchmarks/cka.py", *sys.argv[1:]]),
        "arch": ARCH,
        "layers": len(pair[0].names),
        "images": options.images,
        "batch": options.batch,
        "seconds": {name: median_and_range(times) for name, times in seconds.items()},
        "ratio": median_and_range(ratios),
        "largest_difference": {name: float(f"{error.abs().max():.2g}") for name, error in errors.items()},
        "peak_memory_mib": {str(count): peak_memory(count, options.batch) for count in counts},
        "env": environment(torch.device("cpu"), "fp32"),
    }
    for name, found in [*record["seconds"].items(), ("ratio", record["ratio"])]:
        print(f"{name:10} {found['median']:8.2f}  ({found['min']:.2f} to {found['max']:.2f})")
    print(f"largest difference: {record['largest_difference']}")
    print(f"peak memory in MiB, by images: {record['peak_memory_mib']}")
    if options.json:
        write_json(Path(options.json), record)


if __name__ == "__main__":
    main()
