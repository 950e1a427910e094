import json
import shutil
from dataclasses import replace
from statistics import mean

import pytest
import torch
from PIL import Image

from msun_lite import MSUN, decode
from msun_lite.data.sources import SceneSource
from msun_lite.evaluate import config_of, find_model
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.evaluate.accuracy import with_own_averages
from msun_lite.networks import flops_by_size, native_flops
from msun_lite.train.run import train

SIDES = (5, 8, 12, 20, 28, 39, 40, 55, 56, 80)
"""Shorter sides of the images, in pixels, one of each class at every side."""


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """Return a folder of drawn scenes of every class and side."""
    folder = tmp_path_factory.mktemp("sized")
    scenes = SceneSource(100, 56, "val", 0)
    classes = MSUN.from_pretrained("quick-msun").spec["class_names"]
    for index, label in enumerate(scenes.labels):
        (folder / "val" / classes[label]).mkdir(parents=True, exist_ok=True)
        side = SIDES[index // 10]
        pixels = Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).resize((side, side))
        image = Image.new("RGB", (side + 4, side), "red")  # what is beside the square is not looked at
        image.paste(pixels, (2, 0))
        image.save(folder / "val" / classes[label] / f"{side:02}.png")
    shutil.copytree(folder / "val", folder / "train")
    return folder


def measured(run, data, tmp_path, *words):
    path = tmp_path / "found.json"
    assert evaluate([run, "--data", str(data), "--device", "cpu", "--json", str(path), *words]) == 0
    return json.loads(path.read_text())


def right_by_hand(run, data, native=False):
    """Return (side, whether the answer is right) of every image that is no larger than the network, one at a time."""
    model = MSUN.from_pretrained(run)
    shift, spread = (torch.tensor(model.spec["normalisation"][name])[:, None, None] for name in ("mean", "std"))
    found = []
    for path in sorted((data / "val").glob("*/*.png")):
        pixels = decode(path)[:, :, 2:-2]
        if (side := pixels.shape[1]) <= model.scales[-1]:
            image = ((pixels / 255 - shift) / spread)[None]
            with torch.inference_mode():
                logits = model.forward_native(image) if native else model(image)
            found.append((side, model.spec["class_names"][logits.argmax()] == path.parent.name))
    return found


@pytest.mark.parametrize(("name", "words"), [("quick-msun", []), ("quick-vanilla", ["--feeding", "native"])])
def test_every_image_is_measured_at_its_own_size(name, words, sized, tmp_path, capsys):
    found = measured(name, sized, tmp_path, "--sizes", "own", *words)
    by_hand = right_by_hand(name, sized, native=bool(words))
    assert [(one["first"], one["last"]) for one in found["ranges"]] == [
        *((5, 5), (8, 8), (12, 12), (20, 20), (28, 39), (40, 55), (56, 56)),
    ]
    assert [one["images"] for one in found["ranges"]] == [10, 10, 10, 10, 20, 20, 20]
    for one in found["ranges"][:-1]:
        own = [right for side, right in by_hand if one["first"] <= side <= one["last"]]
        assert one["top1"] == pytest.approx(100 * mean(own), abs=0.01)
    assert len({one["top1"] for one in found["ranges"]}) > 1  # or it would not show whose size is whose
    weighted = sum(one["top1"] * one["images"] for one in found["ranges"]) / found["images"]
    assert found["top1"] == pytest.approx(weighted, abs=0.01)
    assert "40-55 px" in capsys.readouterr().out


def test_the_subnets_that_serve_and_their_cost_are_counted(sized, tmp_path):
    found = measured("quick-msun", sized, tmp_path, "--sizes", "own")
    assert found["served"] == {"8": 40, "32": 30, "56": 30}  # to 20, to 44 and from there on by the nearest scale
    costs = flops_by_size(MSUN.from_pretrained("quick-msun"), [8, 32, 56])
    assert found["mean_flops"] == round((40 * costs[8][8] + 30 * costs[32][32] + 30 * costs[56][56]) / 100)
    found = measured("quick-vanilla", sized, tmp_path, "--sizes", "own", "--feeding", "native")
    vanilla = MSUN.from_pretrained("quick-vanilla")
    assert found["mean_flops"] == round(mean(native_flops(vanilla, min(side, 56)) for side in SIDES))


def test_averages_of_the_nearest_size_are_used(sized, tmp_path):
    folder, images = str(sized / "train"), 60
    words = ["--averages", folder, "--averages_images", str(images)]
    found = measured("quick-vanilla", sized, tmp_path, "--sizes", "own", *words)
    assert found["averages"] == {"of": folder, "images": images}
    config = replace(config_of(find_model("quick-vanilla"), "quick-vanilla"), data=str(sized), cache=False)
    model = MSUN.from_pretrained("quick-vanilla")
    adapted, _ = with_own_averages(model, None, config, torch.device("cpu"), "upsampled", folder, images)
    adapted.save(tmp_path)
    by_hand = [right for side, right in right_by_hand(tmp_path, sized) if side in (28, 39)]
    assert next(one["top1"] for one in found["ranges"] if one["first"] == 28) == 100 * mean(by_hand)
    assert found["top1"] > measured("quick-vanilla", sized, tmp_path, "--sizes", "own")["top1"]


def test_images_that_are_large_enough_are_measured_as_in_the_protocol(tiny, photos, tmp_path):
    run = str(train(tiny(data=str(photos), method="mst", out=str(tmp_path / "run"))))
    expected = measured(run, photos, tmp_path)
    found = measured(run, photos, tmp_path, "--sizes", "own")
    assert found["top1"] == expected["top1"]["16"]
    assert found["data"] == expected["data"]
    assert [(one["first"], one["last"]) for one in found["ranges"]] == [(16, 16)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--routing", "oracle"], "routing: expected a rule that goes by the size with --sizes own, got oracle"),
        (["--batch_size", "8"], "batch_size: expected none with --sizes own, which batches by size, got 8"),
        (["--feeding", "native"], "feeding: expected a network with one scale for native, got [8, 32, 56]"),
        (["--data", "scenes"], "sizes: expected images from files for own, got scenes"),
    ],
)
def test_what_cannot_be_had_of_own_sizes_is_refused(sized, words, message, tmp_path, capsys):
    given = [
        "quick-msun",
        "--data",
        str(sized),
        "--device",
        "cpu",
        "--sizes",
        "own",
        "--json",
        str(tmp_path / "found.json"),
    ]
    assert evaluate([*given, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()


def test_an_unreadable_image_is_named_and_nothing_is_measured_without_it(sized, tmp_path, capsys):
    shutil.copytree(sized, tmp_path / "broken")
    next((tmp_path / "broken" / "val").glob("*/20.png")).write_bytes(b"nothing like it")
    given = ["quick-msun", "--data", str(tmp_path / "broken"), "--device", "cpu", "--sizes", "own"]
    assert evaluate([*given, "--json", str(tmp_path / "found.json")]) == 2
    assert "20.png" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()
