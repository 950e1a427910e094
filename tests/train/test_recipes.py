"""The optimizer, what is done to training images, and what is measured on the way."""

import csv
import json

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from msun_lite.config import make_config
from msun_lite.data.loaders import TrainView
from msun_lite.data.named import load_data
from msun_lite.data.sources import FileSource, part_of
from msun_lite.networks import MSUN
from msun_lite.results import RunFolder
from msun_lite.scales import resize
from msun_lite.train.__main__ import main
from msun_lite.train.batches import train_loader
from msun_lite.train.objectives import find_objective
from msun_lite.train.run import train
from msun_lite.train.start import make_model
from msun_lite.train.state import make_optimizer
from msun_lite.train.trainer import Trainer
from msun_lite.utils.errors import CheckpointError, DataError
from tests.runs import same, weights

CLASSES = list("abcdefghij")


def made(config, data=None):
    torch.manual_seed(0)
    return Trainer(config, data or load_data(config), make_model(config, CLASSES), RunFolder(config.out))


def test_one_step_of_adamw_is_that_of_the_formula(tiny):
    config = tiny(optimizer="adamw", lr=0.01, weight_decay=0.1, warmup_epochs=0, momentum=0.8)
    trainer = made(config)
    weight = trainer.state.model.unified.fc.weight
    before = weight.detach().clone()
    (batch,) = (next(iter(train_loader(trainer.view, config, 0))),)
    trainer.take_step([batch], len(batch.labels))
    # At the first step the moments, corrected for their start, are the gradient and its square.
    step = weight.grad / (weight.grad.abs() + 1e-8)
    torch.testing.assert_close(weight.detach(), before * (1 - 0.01 * 0.1) - 0.01 * step, atol=1e-6, rtol=1e-4)
    assert trainer.state.optimizer.defaults["betas"] == (0.8, 0.999)


def test_without_decay_norms_only_kernels_decay(tiny):
    model = make_model(tiny(), CLASSES)
    one = make_optimizer(model, tiny())
    decayed, spared = make_optimizer(model, tiny(decay_norms=False)).param_groups
    assert [group["weight_decay"] for group in (decayed, spared)] == [tiny().weight_decay, 0.0]
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in spared["params"]} == {1}
    assert len(one.param_groups) == 1
    assert len(one.param_groups[0]["params"]) == len(decayed["params"]) + len(spared["params"])


RECIPE = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "decay_norms": False,
    "mixup": 0.2,
    "randaugment": 9,
    "class_weights": "balanced",
}


def test_a_run_with_all_of_the_recipe_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch):
    whole = train(tiny(**RECIPE, out=str(tmp_path / "whole")))
    with monkeypatch.context() as patched:
        steps, real = [], Trainer.take_step
        patched.setattr(Trainer, "take_step", lambda *args: (real(*args), steps.append(1)))
        patched.setattr("msun_lite.utils.stopping.StopRequest.out_of_time", property(lambda self: len(steps) >= 3))
        folder = train(tiny(**RECIPE))
        assert not RunFolder(folder).summary.exists()
    train(tiny(**RECIPE, resume=True))
    assert same(weights(whole), weights(folder))


def test_randaugment_changes_images_by_seed_epoch_and_index_alone(tmp_path):
    pixels = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "one.png")
    source = FileSource([(str(tmp_path / "one.png"), 0)])
    plain = TrainView(source, 16, 0, 0.35, True)
    strong, again = (TrainView(source, 16, 0, 0.35, True, 20) for _ in range(2))
    state = torch.get_rng_state()
    images = [[view[(epoch, 0)][0] for epoch in range(6)] for view in (plain, strong, again)]
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(not torch.equal(*pair) for pair in zip(*images[:2], strict=True)) >= 4  # it may draw the identity
    assert all(torch.equal(*pair) for pair in zip(*images[1:], strict=True))
    assert all(image.dtype == torch.uint8 and image.shape == (3, 16, 16) for image in images[1])


def test_averages_of_a_size_come_from_crops_without_randaugment(tiny):
    runs = [train(tiny(randaugment=magnitude, averages="size", epochs=1, lr=1e-9, weight_decay=0, out=out))
            for magnitude, out in ((None, tiny().out), (30, tiny().out + "2"))]  # fmt: skip
    one, other = map(weights, runs)
    averages = [name for name in one if name.endswith("running_mean")]
    assert {one[name].ndim for name in averages} == {2}  # a set a size
    for name in averages:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun", "rs"])
def test_mixed_labels_weigh_the_losses_of_both_classes(tiny, method):
    config = tiny(method=method, distil=0.0)
    torch.manual_seed(0)
    model = make_model(config, CLASSES)
    objective = find_objective(method)(model.eval(), config)
    images, one, other = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 2, 0])
    shares = 0.75 * F.one_hot(one, 10) + 0.25 * F.one_hot(other, 10)
    mixed, first, second = (objective(images, labels) for labels in (shares.float(), one, other))
    torch.testing.assert_close(mixed.ce, 0.75 * first.ce + 0.25 * second.ce)
    assert mixed.correct == first.correct


def test_mixup_leaves_images_and_labels_mixed_by_one_share(tiny, monkeypatch):
    trainer, seen = made(tiny(mixup=0.5)), {}
    forward = trainer.objective.forward

    def noted(images, labels):
        seen.update(images=images, labels=labels)
        return forward(images, labels)

    monkeypatch.setattr(trainer.objective, "forward", noted)
    (part,) = (next(iter(train_loader(trainer.view, tiny(), 0))),)
    trainer.take_step([part], len(part.labels))
    assert seen["labels"].shape == (10, 10)
    torch.testing.assert_close(seen["labels"].sum(1), torch.ones(10))
    assert seen["images"].is_contiguous(memory_format=torch.channels_last)
    assert ((seen["labels"] > 0).sum(1) <= 2).all()


def test_balanced_classes_count_alike_however_many_images_they_have(tiny, photos):
    for path in sorted((photos / "train" / "cat").iterdir())[:4]:
        path.unlink()  # 2 cats, 6 dogs
    config = tiny(data=str(photos), class_weights="balanced", batch_size=8)
    data = load_data(config)
    trainer = Trainer(config, data, make_model(config, data.classes), RunFolder(config.out))
    torch.testing.assert_close(trainer.objective.class_weights, torch.tensor([2.0, 2 / 3]))
    logits, labels = torch.randn(8, 2), torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (each[:2].mean() + each[2:].mean()) / 2
    torch.testing.assert_close(trainer.objective._cross_entropy(logits, labels), expected)


def test_balanced_needs_images_of_every_class(tiny):
    data = load_data(tiny())
    data.train.labels = [min(label, 8) for label in data.train.labels]
    with pytest.raises(
        DataError, match="class_weights: expected training images of every class for balanced, got none"
    ):
        made(tiny(class_weights="balanced"), data)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "adam"], "optimizer: expected one of sgd, adamw, got 'adam'"),
        (["--randaugment", "31"], "randaugment: expected"),
        (["--mixup", "0"], "mixup: expected"),
        (["--class_weights", "inverse"], "class_weights: expected one of none, balanced"),
        (["--eval_images", "-1"], "eval_images: expected"),
    ],
)
def test_values_that_cannot_work_are_refused(words, message, capsys, tmp_path):
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_preset_finetune_starts_from_shipped_weights_with_other_classes(photos, tmp_path):
    options = {"data": str(photos), "epochs": 1, "warmup_epochs": 0, "batch_size": 6, "device": "cpu"}
    folder = train(make_config("finetune", **options, out=str(tmp_path / "run")))
    model = MSUN.from_pretrained(folder)
    assert model.spec["class_names"] == ["cat", "dog"]
    assert model.spec["weights"]["source"] == "lite-plus"
    assert all("fc" in name for name in model.spec["weights"]["fresh"])


@pytest.mark.parametrize("method", ["vanilla", "rs"])
def test_weights_of_a_preset_that_do_not_fit_the_method_name_the_option(method, photos, tmp_path):
    options = {"data": str(photos), "batch_size": 6, "device": "cpu", "out": str(tmp_path / "run")}
    with pytest.raises(CheckpointError, match=f"lite-plus: .*; --weights says what else {method} begins with, null"):
        train(make_config("finetune", method=method, **options))


def test_accuracy_at_the_scales_is_measured_after_every_epoch_on_the_same_images(tiny, tmp_path):
    folder = train(tiny(eval_images=7))
    rows = RunFolder(folder).read_metrics()
    assert [list(row["val_top1"]) for row in rows] == [["8", "16"]] * 2
    model, config = MSUN.from_pretrained(folder), tiny()
    part = part_of(load_data(config).val, 7)
    assert (len(part), part.indices) == (7, part_of(load_data(config).val, 7).indices)
    assert len({*part.labels}) > 3
    shift, spread = (torch.tensor(model.spec["normalisation"][name])[:, None, None] for name in ("mean", "std"))
    images = torch.stack([(part.read(index) / 255 - shift) / spread for index in range(7)])
    images = resize(images, 16)
    for size, found in rows[-1]["val_top1"].items():
        answers = model(resize(images, int(size))).argmax(1)
        assert found == pytest.approx(float(100 * (answers == torch.tensor(part.labels)).double().mean()), abs=0.01)


def test_measuring_on_the_way_changes_nothing_of_what_is_learnt(tiny, tmp_path):
    with_it, without = (train(tiny(eval_images=images, out=str(tmp_path / str(images)))) for images in (20, 0))
    assert same(weights(with_it), weights(without))
    assert "val_top1" not in RunFolder(without).read_metrics()[0]


def test_the_run_folder_has_its_metrics_as_a_table_and_as_curves(tiny, capsys):
    folder = RunFolder(train(tiny()))
    with folder.table.open() as file:
        table = list(csv.DictReader(file))
    for row, line in zip(folder.read_metrics(), table, strict=True):
        assert float(line["loss"]) == row["loss"]
        assert float(line["val_top1/16"]) == row["val_top1"]["16"]
    with Image.open(folder.path / "curves.png") as picture:
        assert picture.size[0] > 800
    assert "<svg" in (folder.path / "curves.svg").read_text()[:1000]
    said = capsys.readouterr().out
    assert f"weights: {folder.weights}   curves: {folder.path / 'curves.png'}   metrics: {folder.table}" in said


def test_the_table_goes_on_after_a_stop(tiny, stop_after):
    stop_after(5)
    folder = RunFolder(train(tiny()))
    assert len(folder.table.read_text().splitlines()) == 2
    assert json.loads(folder.metrics.read_text())["epoch"] == 1
