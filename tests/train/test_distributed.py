import itertools
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from msun_lite import MSUN
from msun_lite.data.loaders import EpochSampler, ShareSampler, eval_loader
from msun_lite.data.sources import ImageSource
from msun_lite.networks.building import load_state
from msun_lite.results.run_folder import RunFolder
from msun_lite.train.checkpoint import load_checkpoint
from msun_lite.train.run import train
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.distributed import World, share_of
from msun_lite.utils.errors import UserError
from tests.ranks import finish, run, start


def written(config, tmp_path):
    """Write a configuration to a file and return its path as a word of a command line."""
    path = tmp_path / "options.yaml"
    path.write_text(dump_yaml(config))
    return str(path)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_processes_share_out_every_batch_without_gap_or_overlap(size, accumulate):
    epochs = [EpochSampler(ImageSource([0] * 50), 12, 0, epoch, start) for epoch, start in ((3, 2), (4, 0))]
    shares = [list(ShareSampler(epochs, World(rank, size), accumulate)) for rank in range(size)]
    assert {len(share) for share in shares} == {len(ShareSampler(epochs, World(0, size), accumulate))}
    steps = [
        [key for share in shares for part in share[i : i + accumulate] for key in part]
        for i in range(0, 12, accumulate)
    ]
    whole = list(itertools.chain.from_iterable(epochs))
    assert [sorted(step) for step in steps if step] == [sorted(batch) for batch in whole]


def test_a_share_is_one_of_equal_parts():
    assert [list(share_of(range(12), World(rank, 3), part, 2)) for part in (0, 1) for rank in range(3)] == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_touches_no_gpu_but_its_own(monkeypatch, name):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(f"set {device}"))
    monkeypatch.setattr(torch, "empty", lambda *_, device: calls.append(f"touch {device}"))
    assert World(6, 8, local_rank=2).pick_device(name) == torch.device("cuda", 2)
    assert calls == ["set 2", "touch cuda:2"]
    with pytest.raises(UserError, match="LOCAL_RANK: expected below 4, one process a GPU, got 5"):
        World(5, 8, local_rank=5).pick_device(name)
    with pytest.raises(UserError, match="device: expected auto, cuda or cpu with 8 processes, got cuda:1"):
        World(5, 8, local_rank=1).pick_device("cuda:1")


class Numbers(ImageSource):
    def read(self, index):
        return torch.full((3, 4, 4), self.labels[index], dtype=torch.uint8)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_processes_evaluate_every_image_once(size):
    source = Numbers(range(5))
    seen = [
        label
        for rank in range(size)
        for batch in eval_loader(source, 4, 1.0, batch_size=2, workers=0, world=World(rank, size))
        for label in batch.labels.tolist()
    ]
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_the_accuracy_on_101_images_is_that_of_one_process(tiny, tmp_path):
    folder = train(tiny(scenes_train=200, scenes_val=101, epochs=3))
    results = {}
    for size in (1, 2, 3):
        file = tmp_path / f"{size}.json"
        outputs = run(size, "-m", "msun_lite.evaluate", str(folder), "--json", str(file))
        assert [bool(output) for output in outputs] == [True] + [False] * (size - 1)
        results[size] = json.loads(file.read_text())
        assert results[size]["env"]["processes"] == size
    whole = json.loads((folder / "summary.json").read_text())
    assert len(set(whole["top1"].values())) > 1
    for name in ("top1", "per_subnet", "routings"):
        assert results[1][name] == results[2][name] == results[3][name] == whole[name]


GRADIENTS = """
import sys, itertools, torch
from pathlib import Path
from msun_lite.config import read_config
from msun_lite.data.named import load_data
from msun_lite.utils.distributed import join
from msun_lite.train.trainer import Trainer
from msun_lite.train.batches import train_loader
from msun_lite.train.start import make_model
from msun_lite.results.run_folder import RunFolder

with join() as world:
    config = read_config(Path(sys.argv[1]))
    torch.manual_seed(world.rank)  # the first one's weights count
    data = load_data(config)
    trainer = Trainer(config, data, make_model(config, data.classes), RunFolder(config.out), world)
    trainer.state.model.eval()  # BatchNorm frozen
    parts = list(itertools.islice(train_loader(trainer.view, config, 0, world=world), config.accumulate))
    trainer.take_step(parts, config.batch_size)
    if world.first:
        torch.save({name: weight.grad for name, weight in trainer.state.model.named_parameters()}, sys.argv[2])
"""


@pytest.mark.parametrize("method", ["mst", "msun"])
def test_the_gradients_are_those_of_one_process_on_the_whole_batch(tiny, tmp_path, method):
    gradients = {}
    for size, accumulate in ((1, 1), (2, 1), (2, 3)):
        options = written(tiny(method=method, batch_size=12, accumulate=accumulate), tmp_path)
        run(size, "-c", GRADIENTS, options, str(tmp_path / "gradients.pt"))
        gradients[size, accumulate] = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name, expected in gradients[1, 1].items():
        for other in (gradients[2, 1], gradients[2, 3]):
            assert torch.allclose(other[name], expected, rtol=1e-4, atol=1e-6), name
    assert max(gradient.abs().max() for gradient in gradients[1, 1].values()) > 1e-3


def test_two_processes_leave_one_run_that_any_number_can_go_on_with(tiny, tmp_path):
    config = tiny(ema=0.5, tensorboard=True)
    outputs = run(2, "-m", "msun_lite.train", "--config", written(config, tmp_path))
    assert outputs[1] == ""
    folder = RunFolder(config.out)
    rows = folder.read_metrics()
    assert [row["step"] for row in rows] == [4, 8]
    assert all(row["images_per_second"] * row["seconds"] == pytest.approx(40, rel=0.02) for row in rows)
    assert json.loads(folder.summary.read_text())["env"]["processes"] == 2
    assert len(list((folder.path / "tensorboard").iterdir())) == 1
    state = load_checkpoint(folder.checkpoint)
    bare = MSUN.from_spec(json.loads((folder.path / "model.json").read_text()))
    load_state(bare, state["model"], folder.path)
    assert MSUN.from_pretrained(folder.path).scales == (8, 16)
    folder.summary.unlink()
    before = load_file(folder.weights)
    assert train(tiny(ema=0.5, resume=True)) == folder.path  # nothing is left but to measure
    after = load_file(folder.weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


POISONED = """
import sys, torch
from msun_lite.train.objectives import objective
from msun_lite.utils.distributed import World
from msun_lite.train.__main__ import main
real, calls = objective.Objective._loss, []

def loss(self, *args):
    terms = real(self, *args)
    calls.append(None)
    if len(calls) == 7 and sys.argv[2] == __import__("os").environ["RANK"]:
        terms.loss = terms.loss * torch.nan
    return terms

objective.Objective._loss = loss
sys.exit(main(["--config", sys.argv[1]]))
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_not_finite_in_one_process_stops_all_of_them(tiny, tmp_path, rank):
    config = tiny(epochs=4)
    results = finish(start(2, "-c", POISONED, written(config, tmp_path), str(rank)))
    for code, _, errors in results:
        assert code == 2
        assert f"the loss is not finite at step 7 in process {rank}" in errors
        assert "Traceback" not in errors
    state = load_checkpoint(RunFolder(config.out).checkpoint)
    assert state["step"] == 4
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume"], "run: expected a run to resume, found no config.yaml"),
        (["--out", "FILE/run"], "FILE/run: expected a folder that can be written to, got: Not a directory"),
        (["--data", "imagenette", "--data_root", "FILE"], "FILE"),
    ],
    ids=["nothing to resume", "no run folder", "no data folder"],
)
def test_an_error_that_only_the_first_process_meets_ends_all_of_them(tiny, tmp_path, words, message):
    (tmp_path / "FILE").write_text("no folder")
    words = [str(tmp_path / word) if word.startswith("FILE") else word for word in words]
    results = finish(start(2, "-m", "msun_lite.train", "--config", written(tiny(), tmp_path), *words))
    for code, _, errors in results:
        assert code == 2
        assert message in errors
        assert "Traceback" not in errors


def broken(photos, count):
    for path in sorted((photos / "train").glob("*/*.png"))[:count]:
        path.write_bytes(b"no image")


def test_unreadable_images_are_counted_over_all_processes(tiny, photos, tmp_path):
    broken(photos, 3)
    options = {"data": str(photos), "batch_size": 6, "cache": False, "epochs": 2}
    config = tiny(**options, max_bad_images=3)
    outputs = run(2, "-m", "msun_lite.train", "--config", written(config, tmp_path))
    assert [output.count("left out unreadable image") for output in outputs] == [3, 0]
    assert len(json.loads(RunFolder(config.out).summary.read_text())["bad_images"]) == 3
    config = tiny(**options, max_bad_images=2, out=str(tmp_path / "other"))
    for code, _, errors in finish(start(2, "-m", "msun_lite.train", "--config", written(config, tmp_path))):
        assert code == 2
        assert "3 unreadable image(s), expected at most 2" in errors


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK: expected a number in the environment, as torchrun sets it, got None"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a number"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "WORLD_SIZE: 2 processes cannot be joined"),
    ],
)
def test_a_wrong_environment_is_one_line(tmp_path, environment, message):
    command = [sys.executable, "-m", "msun_lite.train", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_batch_that_the_processes_cannot_share_is_refused(tiny, tmp_path):
    config = tiny(batch_size=9)
    for code, _, errors in finish(start(2, "-m", "msun_lite.train", "--config", written(config, tmp_path))):
        assert code == 2
        assert (
            "batch_size: expected a multiple of 2 process(es) x accumulate 1, two images each or more, got 9" in errors
        )
    assert not RunFolder(config.out).config.exists()
