"""What experiments on trained networks share: their options, and one record that grows network by network."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import Namespace

from msun_lite.config import TrainConfig
from msun_lite.data import DataSet, load_data
from msun_lite.evaluate.class_names import match_classes
from msun_lite.evaluate.subjects import config_of, find_model
from msun_lite.networks import MSUN
from msun_lite.utils.cli import OneLineParser
from msun_lite.utils.devices import use_threads
from msun_lite.utils.environment import environment
from msun_lite.utils.files import check_output, read_json, write_json

CPU = torch.device("cpu")


def networks_parser(description: str) -> OneLineParser:
    """Return a parser with the options that all of these have."""
    parser = OneLineParser(description=description)
    parser.add_argument("runs", type=str, nargs="+", help="Run folders, or names of shipped weights, on the same data.")
    parser.add_argument("--json", type=str, required=True, help="File to write to; networks that it has are kept.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of downloaded data sets.")
    parser.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    return parser


def record_networks(
    options: Namespace, command: list[str], measure: Callable[[MSUN, TrainConfig, DataSet], dict], **about: object
) -> None:
    """Measure one network after the other, and write the file anew after each.

    Args:
        options: what the parser gave.
        command: the words of the command, the script first.
        measure: network, configuration of its run, data -> what the record says of it.
        about: what else the record says.
    """
    check_output(options.json)
    use_threads(options.threads)
    path = Path(options.json)
    networks = read_json(path)["networks"] if path.exists() else {}
    for run in (run for run in options.runs if Path(run).name not in networks):
        model = MSUN.from_pretrained(run)
        config = replace(config_of(find_model(run), run), data_root=options.data_root)
        data = match_classes(load_data(config, train=False), model)
        networks[Path(run).name] = {"seed": config.seed, **measure(model, config, data)}
        print(f"{run}: measured", flush=True)
        record = {"command": shlex.join(["python", *command]), "networks": networks, **about}
        write_json(path, record | {"data": data.describe(), "env": environment(CPU, "fp32")})
