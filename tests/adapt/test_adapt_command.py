import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet18

from msun_lite import MSUN
from msun_lite.adapt.__main__ import main
from msun_lite.adapt.distilling import Distilling
from msun_lite.adapt.options import AdaptConfig
from msun_lite.adapt.run import _by_folders, find_source, make_networks
from msun_lite.data import unlabelled
from msun_lite.data.loaders import to_float
from msun_lite.data.sources import SceneSource
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.export import main as export
from msun_lite.networks import Exported, default_sizes
from msun_lite.networks.pretrained import PlainWeights
from msun_lite.predict import main as predict
from msun_lite.scales import resize
from msun_lite.train.run import train
from msun_lite.utils.devices import CPU
from msun_lite.utils.errors import UserError
from tests.runs import same, weights

ORIENTATION = 0x0112
"""The tag of EXIF that says which side of a photograph is up."""


@pytest.fixture
def images(tmp_path):
    """Return a folder of 62 images of many sizes and kinds, in folders of several depths, beside a broken one."""
    folder, scenes = tmp_path / "images", SceneSource(60, 56, "train", 5)
    for index in range(60):
        place = folder / ("deep/er" if index % 3 else "flat")
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).resize((40 + index, 40))
        image = image.convert(("RGB", "L", "CMYK", "RGBA")[index % 4])
        image.save(place / f"{index}.{'jpg' if index % 4 == 2 else 'png'}")
    (folder / "flat" / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (50, 44), "red").save(folder / "flat" / "web.webp")
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    Image.new("RGB", (44, 90), "blue").save(folder / "flat" / "turned.jpg", exif=turned)
    return folder


def command(images, tmp_path, *words):
    few = ("--epochs", "2", "--batch_size", "10", "--precision", "fp32", "--device", "cpu", "--threads", "1")
    return ["quick-vanilla", "--images", str(images), "--out", str(tmp_path / "run"), *few, *words]


def plain_and_adapted(run):
    images = torch.rand(4, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    return MSUN.from_pretrained("quick-vanilla"), MSUN.from_pretrained(run), images


STOPPED = """
import os, signal, sys
from msun_lite.adapt.__main__ import main
from msun_lite.train.trainer import Trainer

real, done = Trainer.take_step, []

def step(*given):
    real(*given)
    done.append(1)
    if len(done) == 7:
        os.kill(os.getpid(), signal.SIGTERM)

Trainer.take_step = step
sys.exit(main(sys.argv[1:]))
"""
"""An adaptation that is asked to stop in the middle of its second epoch."""


@pytest.mark.parametrize("own", ["subnets", "norms"])
def test_the_largest_scale_stays_bit_for_bit_and_the_others_learn(images, tmp_path, own, capsys):
    assert main(command(images, tmp_path, "--own", own)) == 0
    plain, adapted, batch = plain_and_adapted(tmp_path / "run")
    assert adapted.scales == (8, 32, 56)
    with torch.no_grad():
        assert torch.equal(adapted(batch), plain(batch))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[1]["kd"] < rows[0]["kd"]
    assert [row["val_top1"]["56"] for row in rows] == [100.0, 100.0]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["agreement"]["top1"]["56"] == 100.0
    assert summary["agreement"]["images"] == 6
    assert len(summary["bad_images"]) == 1
    assert "broken.png" in summary["bad_images"][0]
    assert summary["sizes"] == default_sizes([8, 32, 56])
    assert "top1" not in summary
    assert summary["mean_flops"] < 0.8 * summary["flops"]["56"]
    assert "agreement with its own size" in capsys.readouterr().out
    adapted.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "Its smaller scales learnt what quick-vanilla says, from 56 images from images without labels." in card
    assert "How accurate it is has not been recorded with it." in card


def test_averages_of_each_size_are_the_last_rung_and_leave_the_largest_size_alone(images, tmp_path):
    assert main(command(images, tmp_path, "--averages", "size", "--sizes", "8,20,32,44,56")) == 0
    plain, adapted, batch = plain_and_adapted(tmp_path / "run")
    assert adapted.averages == {8: (8,), 32: (20, 32), 56: (44, 56)}
    with torch.no_grad():
        assert torch.equal(adapted(batch), plain(batch))
        small = resize(batch, 44)
        assert not torch.allclose(adapted(small), plain(small))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["agreement"]["top1"]["56"] == 100.0
    assert "--averages size" in summary["command"]


def test_an_adapted_network_says_of_small_images_what_it_says_of_large_ones_more_often(tmp_path):
    scenes = SceneSource(300, 56, "train", 5)
    (tmp_path / "scenes").mkdir()
    for index in range(len(scenes)):
        Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).save(tmp_path / "scenes" / f"{index}.png")
    words = ("--epochs", "8", "--lr", "0.01", "--batch_size", "20", "--sizes", "8,56")
    assert main(command(tmp_path / "scenes", tmp_path, *words)) == 0
    agreement = json.loads((tmp_path / "run" / "summary.json").read_text())["agreement"]
    plain = MSUN.from_pretrained("quick-vanilla")
    new = SceneSource(100, 56, "val", 0)
    images = to_float(torch.stack([new.read(index) for index in range(100)]), CPU, plain.spec["normalisation"])
    with torch.no_grad():
        said, small = plain(images).argmax(1), resize(images, 8)
        agreed = [
            100 * (network(small).argmax(1) == said).double().mean()
            for network in (plain, MSUN.from_pretrained(tmp_path / "run"))
        ]
    assert agreed[1] > agreed[0] + 20
    assert abs(agreed[1] - agreement["top1"]["8"]) < 25  # of 30 images held out


@pytest.mark.parametrize("own", ["subnets", "norms"])
def test_smaller_scales_may_get_enlarged_images(images, tmp_path, own):
    assert main(command(images, tmp_path, "--own", own, "--subnet_input", "at:32,56", "--epochs", "1")) == 0
    plain, adapted, batch = plain_and_adapted(tmp_path / "run")
    small = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(adapted(batch), plain(batch))
        assert torch.equal(adapted(small), adapted.serve(resize(small, 32), 8))
    assert not adapted.spec["stems"] or adapted.spec["stems"]["32"]["strides"] == {}


def test_the_classes_of_folders_are_learnt_where_that_is_asked_for(tmp_path, capsys):
    names, scenes = MSUN.from_pretrained("quick-vanilla").spec["class_names"], SceneSource(60, 56, "train", 5)
    for index, label in enumerate(scenes.labels):
        place = tmp_path / "images" / "deep" / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).save(place / f"{index}.png")
    learnt = []
    for words in ((), ("--labels", "true")):
        out = ("--out", str(tmp_path / f"run{len(words)}"))
        assert main([*command(tmp_path / "images", tmp_path, *words), *out]) == 0
        lines = (tmp_path / f"run{len(words)}" / "metrics.jsonl").read_text().splitlines()
        learnt.append([json.loads(line)["ce"] for line in lines])
    assert learnt[0] == [0, 0]
    assert learnt[1][0] > learnt[1][1] > 0
    (tmp_path / "images" / "deep" / names[0]).rename(tmp_path / "images" / "deep" / "a sun")
    assert main([*command(tmp_path / "images", tmp_path, "--labels", "true"), "--out", str(tmp_path / "new")]) == 2
    assert (
        f"expected it in a folder named as a class of the network, such as {names[0]}, got a sun"
        in (capsys.readouterr().err.splitlines()[-1])
    )
    assert not (tmp_path / "new").exists()


def test_the_label_of_an_image_is_the_place_of_its_class_among_the_networks(tmp_path):
    for name in ("beta", "alpha"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    images, _ = unlabelled(tmp_path)
    labelled = _by_folders(images, ("beta", "gamma", "alpha"))
    assert {labelled.name(index).split("/")[-2]: labelled.labels[index] for index in range(2)} == {
        "alpha": 2,
        "beta": 0,
    }
    with pytest.raises(UserError, match="labels: expected a network that knows the names of its classes"):
        _by_folders(images, None)


def test_what_is_not_kept_learns_from_the_network_as_it_was(images, tmp_path):
    assert main(command(images, tmp_path, "--keep", "false", "--match", "both")) == 0
    plain, adapted, batch = plain_and_adapted(tmp_path / "run")
    with torch.no_grad():
        assert not torch.equal(adapted(batch), plain(batch))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["si"] > 0 and row["loss"] == pytest.approx(row["si"] + row["kd"], rel=1e-4) for row in rows)


def test_the_divergence_is_from_the_networks_answers_to_the_same_crop():
    config = AdaptConfig(run="quick-vanilla", images=".", random_sizes=False, match="both")
    plan = config.training("resnet_lite", [8, 32, 56], [8], 1.0)
    teacher, model = make_networks(find_source(config), plan)
    images = torch.rand(4, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    objective = Distilling(model, plan, config, teacher)
    terms = objective(images, torch.zeros(4, dtype=torch.int64))
    taught = teacher(images).log_softmax(1)
    views = objective.views(images)
    assert list(views) == [8, 32]
    _, logits = model.forward_scales(views)  # the batch's own statistics, as in training
    expected = sum((taught.exp() * (taught - part.log_softmax(1))).sum(1).mean() for part in logits.values())
    torch.testing.assert_close(terms.kd, expected)
    assert terms.loss == terms.kd + terms.si
    assert terms.ce == 0
    assert not objective.own_parameters
    assert not any("teacher" in name for name, _ in objective.named_parameters())


def test_labelled_images_are_measured_on_and_the_result_is_used_like_any_run(images, photos, tiny, tmp_path):
    run = train(tiny(data=str(photos), method="vanilla", epochs=1, batch_size=6))
    words = ["--images", str(images), "--scales", "8,16", "--data", str(photos), "--out", str(tmp_path / "adapted")]
    few = ["--epochs", "1", "--batch_size", "10", "--device", "cpu", "--sizes", "8,16"]
    assert main([str(run), *words, *few]) == 0
    summary = json.loads((tmp_path / "adapted" / "summary.json").read_text())
    assert summary["data"]["val"] == 6
    found = tmp_path / "x.json"
    assert evaluate([str(tmp_path / "adapted"), "--data", str(photos), "--sizes", "8,16", "--json", str(found)]) == 0
    assert json.loads(found.read_text())["top1"] == summary["top1"]
    assert predict([str(tmp_path / "adapted"), str(photos / "val"), "--device", "cpu"]) == 0
    MSUN.from_pretrained(tmp_path / "adapted").save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert f"| {summary['top1']['16']:.1f} |" in " ".join(card.split())
    assert "6 images from photos" in card
    exported = MSUN.from_pretrained(tmp_path / "adapted").export(tmp_path / "graphs", "onnx")
    assert (exported / "scale-8.onnx").is_file()


def test_a_network_of_torchvision_goes_from_a_file_of_weights_to_answers(images, tmp_path, capsys):
    torch.manual_seed(0)
    network = resnet18(num_classes=7).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    scenes, run = SceneSource(14, 64, "val", 5), tmp_path / "run"
    for index in range(len(scenes)):
        place = tmp_path / "labelled" / ("train" if index < 7 else "val") / f"class{index % 7}"
        place.mkdir(parents=True)
        Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).save(place / "1.png")
    words = ["--arch", "resnet18", "--split", "layer1", "--weights", str(tmp_path / "resnet18.pth")]
    words += ["--num_classes", "7", "--scales", "16,64", "--sizes", "16,64", "--epochs", "1", "--batch_size", "10"]
    words += ["--precision", "fp32", "--device", "cpu", "--images", str(images), "--out", str(run)]
    assert main([*words, "--data", str(tmp_path / "labelled")]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert len(summary["bad_images"]) == 1
    model, batch = MSUN.from_pretrained(run), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(batch), network(batch), atol=1e-6, rtol=1e-5)

    measured = ["--data", str(tmp_path / "labelled"), "--sizes", "16,64", "--device", "cpu"]
    assert evaluate([str(run), *measured, "--json", str(tmp_path / "top1.json")]) == 0
    assert json.loads((tmp_path / "top1.json").read_text())["top1"] == summary["top1"]
    assert export([str(run), "--out", str(tmp_path / "graphs"), "--format", "onnx"]) == 0
    small = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(Exported(tmp_path / "graphs")(small), model(small), atol=1e-4, rtol=1e-4)
    capsys.readouterr()
    words = ["--csv", str(tmp_path / "answers.csv"), "--device", "cpu"]
    assert predict([str(run), str(images), *words]) == 2  # as one is broken
    assert "broken.png" in capsys.readouterr().err
    with (tmp_path / "answers.csv").open() as file:
        failed = [row["file"] for row in csv.DictReader(file) if row["error"]]
        file.seek(0)
        assert len(list(csv.DictReader(file))) == 62 + len(failed)
    assert [Path(name).name for name in failed] == ["broken.png"]


@pytest.mark.parametrize(
    ("published", "given", "taken"), [(0.95, None, 0.95), (0.95, 0.8, 0.8), (None, None, 0.875), (None, 0.8, 0.8)]
)
def test_the_crop_is_what_was_asked_for_else_that_of_the_weights(monkeypatch, published, given, taken):
    found = PlainWeights(resnet18(num_classes=7).state_dict(), crop_ratio=published)
    monkeypatch.setattr("msun_lite.networks.building.find_plain", lambda arch, weights: found)
    config = AdaptConfig(arch="resnet18", num_classes=7, images="images", crop_ratio=given, scales=[16, 64])
    plan = config.training("resnet18", [16, 64], [16, 64], 0.875)
    assert make_networks(find_source(config), plan)[1].spec["crop_ratio"] == taken


def test_going_on_gives_what_an_uninterrupted_adaptation_gives(images, tmp_path):
    assert main(command(images, tmp_path)) == 0
    words = [word if word != str(tmp_path / "run") else str(tmp_path / "again") for word in command(images, tmp_path)]
    ended = subprocess.run([sys.executable, "-c", STOPPED, *words], capture_output=True, text=True)
    assert "go on with: python -m msun_lite.adapt --out" in ended.stdout, ended.stderr
    assert ended.returncode in (0, 130, 128 + signal.SIGTERM)
    assert main(["--out", str(tmp_path / "again"), "--resume"]) == 0
    assert same(weights(tmp_path / "run"), load_file(tmp_path / "again" / "model.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a run, or --arch in its place, got neither"),
        (["quick-vanilla"], "images: expected a folder of images, got none"),
        (["quick-msun", "--images", "IMAGES"], "run: expected a plain CNN, such as lite-vanilla, got quick-msun"),
        (["quick-vanilla", "--images", "nowhere"], "nowhere: no such folder of images"),
        (["quick-vanilla", "--images", "IMAGES", "--scales", "8,32"], "scales: expected the last one to be that of"),
        (["quick-vanilla", "--images", "IMAGES", "--batch_size", "600"], "expected 600 or more to learn from"),
        (["quick-vanilla", "--images", "IMAGES", "--own", "norms", "--match", "both"], "match: expected predictions"),
        (["quick-vanilla", "--images", "IMAGES", "--subnet_input", "native"], "subnet_input: expected scale, largest"),
        (
            ["quick-vanilla", "--images", "IMAGES", "--subnet_input", "at:20"],
            "at: and a side for each scale of [8, 32, 56] but the last, none larger than that, got 'at:20'",
        ),
        (["quick-vanilla", "--images", "IMAGES", "--held_out", "1"], "held_out: expected"),
        (["quick-vanilla", "--images", "IMAGES", "--weights", "x.pth"], "weights: expected none beside a run"),
        (["quick-vanilla", "--images", "IMAGES", "--num_classes", "7"], "num_classes: expected none beside a run"),
        (
            ["quick-vanilla", "--images", "IMAGES", "--arch", "resnet50"],
            "expected a run, or --arch in its place",
        ),
    ],
)
def test_what_cannot_be_adapted_is_refused_in_a_line(images, tmp_path, words, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(images) if word == "IMAGES" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1 or said.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "runs").exists()
