import hashlib
import io
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite import MSUN
from msun_lite.data import named as data_module
from msun_lite.data.dataset import BadImages
from msun_lite.data.images import UnreadableImage, decode
from msun_lite.data.loaders import EpochSampler, EvalView, TrainView, collate, eval_loader
from msun_lite.data.named import in_memory, load_data
from msun_lite.data.sources import FileSource, ImageSource, MemorySource
from msun_lite.evaluate.accuracy import measure
from msun_lite.train.batches import train_loader
from msun_lite.utils import memory
from msun_lite.utils.distributed import World
from msun_lite.utils.errors import DataError, UserError
from msun_lite.utils.memory import processes_here


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "RGB"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode, ending):
    if mode == "CMYK" and ending == "png":
        ending = "jpg"
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 7), 102 * 256, np.uint16))
    else:
        image = Image.new("RGB", (7, 5), (102, 102, 102)).convert(mode)
    path = tmp_path / f"image.{ending}"
    image.save(path)
    pixels = decode(path)
    assert pixels.shape == (3, 5, 7)
    assert pixels.dtype == torch.uint8
    if mode != "1":
        assert (pixels.float() - 102).abs().max() <= 3


def test_a_palette_with_transparency_becomes_rgb(tmp_path):
    Image.new("P", (7, 5), 1).save(tmp_path / "image.png", transparency=bytes([0, 128]))
    assert decode(tmp_path / "image.png").shape == (3, 5, 7)


def _damage(path, how):
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "no image": b"hello" * 50}[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "no image"])
def test_an_unreadable_image_is_named(photos, how):
    path = photos / "train" / "cat" / "0.png"
    _damage(path, how)
    with pytest.raises(UnreadableImage, match=r"cat.0\.png"):
        decode(path)


@pytest.mark.parametrize("how", ["truncated", "empty", "no image"])
def test_an_unreadable_image_is_called_the_same_at_every_reading(photos, how):
    path, messages = photos / "train" / "cat" / "0.png", set()
    _damage(path, how)
    for file in (path, io.BytesIO(path.read_bytes()), io.BytesIO(path.read_bytes())):
        with pytest.raises(UnreadableImage) as refused:
            decode(file, "its name")
        messages.add(str(refused.value))
    assert len(messages) == 1


@pytest.mark.parametrize("cache", [True, False])
def test_training_leaves_out_unreadable_images_up_to_the_limit(photos, tiny, cache):
    _damage(photos / "train" / "cat" / "0.png", "truncated")
    _damage(photos / "train" / "dog" / "1.png", "empty")
    config = tiny(data=str(photos), cache=cache, batch_size=6, max_bad_images=2)
    data = load_data(config)
    view = TrainView(data.train, 16, 0, 0.35, flip=True)
    batches = list(train_loader(view, config, epoch=0))
    bad = [message for batch in batches for message in batch.bad]
    seen = list(data.bad_images.seen) if cache else bad
    assert len(seen) == 2
    assert sum(len(batch.labels) for batch in batches) + len(bad) == len(data.train) // 6 * 6
    assert ["0.png" in message or "1.png" in message for message in seen] == [True, True]


def test_training_stops_past_the_limit_and_names_the_images(photos, tiny):
    for index in range(2):
        _damage(photos / "train" / "cat" / f"{index}.png", "no image")
    with pytest.raises(DataError, match=r"2 unreadable.*expected at most 1.*0\.png.*1\.png"):
        load_data(tiny(data=str(photos), max_bad_images=1))


def test_one_image_seen_twice_counts_once():
    tally = BadImages(limit=1)
    for _ in range(3):
        tally.add("a.png: empty")
    assert list(tally.seen) == ["a.png: empty"]
    with pytest.raises(DataError):
        tally.add("b.png: empty")


def test_evaluation_never_leaves_an_image_out(photos, tiny):
    _damage(photos / "val" / "cat" / "0.png", "truncated")
    _damage(photos / "val" / "dog" / "2.png", "empty")
    with pytest.raises(DataError, match=r"2 unreadable.*val.cat.0\.png.*val.dog.2\.png"):
        load_data(tiny(data=str(photos)))
    data = load_data(tiny(data=str(photos), cache=False))
    model = MSUN.vanilla("resnet_lite", 16, num_classes=2)
    with pytest.raises(DataError, match=r"2 unreadable.*val.cat.0\.png.*val.dog.2\.png"):
        measure(model, eval_loader(data.val, 16, 1.0, batch_size=2, workers=0), [8], torch.device("cpu"))


def test_missing_empty_and_unequal_folders_are_refused(photos, tiny, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        load_data(tiny(data=str(tmp_path / "nowhere")))
    (tmp_path / "hollow" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"hollow.train"):
        load_data(tiny(data=str(tmp_path / "hollow")))
    (photos / "val" / "dog").rename(photos / "val" / "bird")
    with pytest.raises(DataError, match=r"missing in val \(dog\) and 1 in val alone \(bird\)"):
        load_data(tiny(data=str(photos)))
    (photos / "val").rename(photos / "test")
    with pytest.raises(DataError, match="val/"):
        load_data(tiny(data=str(photos)))


def test_a_class_without_images_is_refused(photos, tiny):
    for path in (photos / "train" / "dog").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="dog"):
        load_data(tiny(data=str(photos)))


def test_the_fingerprint_tells_data_sets_apart(photos, tiny):
    config = tiny(data=str(photos))
    before = load_data(config)
    assert before.fingerprint == load_data(config).fingerprint
    assert (before.name, before.classes) == ("photos", ("cat", "dog"))
    (photos / "train" / "cat" / "0.png").rename(photos / "train" / "cat" / "zero.png")
    assert before.fingerprint != load_data(config).fingerprint
    assert load_data(tiny()).fingerprint != load_data(tiny(scenes_seed=1)).fingerprint


def test_the_fingerprint_is_of_all_paths_and_sizes_each_asked_for_once(photos, tiny, monkeypatch):
    (photos / "train" / "cat" / "lost.png").symlink_to(photos / "nowhere.png")
    listing = sorted(path for split in ("train", "val") for path in (photos / split).rglob("*.png"))
    sizes = [path.stat().st_size if path.exists() else "missing" for path in listing]
    lines = [f"{path.relative_to(photos).as_posix()} {size}\n" for path, size in zip(listing, sizes, strict=True)]
    real, asked = os.stat, []

    def stat(path, **options):
        asked.extend([str(path)] if str(path).endswith(".png") else [])
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    found = load_data(tiny(data=str(photos), cache=False)).fingerprint
    assert found == hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    assert sorted(asked) == [str(path) for path in listing]


def test_of_several_processes_the_first_one_speaks(photos, tiny, capsys):
    _damage(photos / "train" / "cat" / "0.png", "empty")
    config = tiny(data=str(photos))
    data = load_data(replace(config, cache=False))
    for rank, said in ((0, True), (1, False)):
        world = World(rank, 2)
        loaded = in_memory(replace(data, bad_images=BadImages(1, world)), config, train=True, world=world)
        captured = capsys.readouterr()
        assert len(loaded.bad_images.seen) == 1
        assert ("left out unreadable image 1" in captured.out) == ("decoding train" in captured.err) == said


def test_photographs_in_memory_are_no_larger_than_training_and_testing_need(photos, tiny):
    data = load_data(tiny(data=str(photos), scales=[4, 8], sizes=[4, 8], crop_ratio=0.8))
    assert data.train.read(0).shape == (3, 16, 19)
    assert data.val.read(0).shape == (3, 10, 12)


@pytest.mark.parametrize("crop_ratio", [1.0, 0.8, 0.875])
@pytest.mark.parametrize("shape", [(20, 24), (61, 43), (15, 300), (33, 33), (9, 11)])
def test_evaluation_images_are_bit_for_bit_the_same_from_memory(photos, tiny, crop_ratio, shape):
    for path in (photos / "val").rglob("*.png"):
        pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    kept, read = (load_data(tiny(data=str(photos), cache=cache, crop_ratio=crop_ratio)).val for cache in (True, False))
    for index in range(len(kept)):
        assert torch.equal(*(EvalView(source, 16, crop_ratio)[index][0] for source in (kept, read)))


def test_images_that_would_not_fit_into_memory_are_refused_before_they_are_decoded(photos, tiny, monkeypatch):
    for index in range(100):
        shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / f"more{index}.png")
    need = 112 * 20 * 24 * 3
    monkeypatch.setattr(data_module, "free_memory", lambda: need - 1)
    with pytest.raises(UserError, match=r"^photos: its 118 images, decoded, .* 0\.0 GB are free; --cache false"):
        load_data(tiny(data=str(photos)))
    load_data(tiny(data=str(photos), cache=False))
    monkeypatch.setattr(data_module, "free_memory", lambda: need)
    load_data(tiny(data=str(photos)))


def test_an_evaluation_reads_images_that_would_not_fit_into_memory_when_they_are_needed(
    photos, tiny, monkeypatch, capsys
):
    for index in range(100):
        shutil.copy(photos / "val" / "cat" / "0.png", photos / "val" / "cat" / f"more{index}.png")
    kept = load_data(tiny(data=str(photos)), train=False)
    monkeypatch.setattr(data_module, "free_memory", lambda: 0)
    read = load_data(tiny(data=str(photos)), train=False)
    assert "are free; they are decoded whenever they are needed" in capsys.readouterr().out
    assert (type(kept.val), type(read.val)) == (MemorySource, FileSource)
    assert read.describe() == kept.describe()


def test_free_memory_is_that_of_the_tightest_limit(tmp_path, monkeypatch):
    whole = memory.free_memory()
    assert whole is None or whole > 0
    (tmp_path / "job").mkdir()
    for name, text in (("max", "1000000"), ("current", "600000"), ("stat", "anon 5\ninactive_file 100000\n")):
        (tmp_path / "job" / f"memory.{name}").write_text(text)
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "_groups", lambda: [tmp_path / "job", tmp_path])
    assert memory.free_memory() == 500_000


def test_sizes_above_the_largest_scale_are_tested_on_crops_that_large(tiny):
    data = load_data(tiny(sizes=[8, 24]))
    assert data.train.read(0).shape == (3, 16, 16)
    assert data.val.read(0).shape == (3, 24, 24)
    assert load_data(tiny(sizes=[8])).train.read(0).shape == (3, 16, 16)


def test_scenes_are_drawn_before_worker_processes_start(tiny):
    data = load_data(tiny(), train=False)
    assert "images" in vars(data.val)
    assert "images" not in vars(data.train)
    assert "images" in vars(load_data(tiny()).train)


def test_a_dangling_link_counts_as_unreadable(photos, tiny):
    (photos / "train" / "cat" / "lost.png").symlink_to(photos / "nowhere.png")
    assert "lost.png" in next(iter(load_data(tiny(data=str(photos))).bad_images.seen))


def test_in_memory_and_on_disk_are_the_same_images(photos, tiny):
    cached, streamed = (load_data(tiny(data=str(photos), cache=cache)).train for cache in (True, False))
    assert cached.labels == streamed.labels
    assert all(torch.equal(cached.read(i), streamed.read(i)) for i in range(len(cached)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_stopped(tiny, workers):
    config = tiny(workers=workers)
    view = TrainView(load_data(config).train, 16, seed=0, crop_min=0.35, flip=True)
    whole = list(train_loader(view, config, epoch=1))
    torch.rand(3)
    rest = list(train_loader(view, config, epoch=1, start=2))
    assert len(whole) == 4
    assert len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_an_image_is_cropped_anew_every_epoch_and_leaves_global_randomness_alone(tiny):
    view = TrainView(load_data(tiny()).train, 16, seed=0, crop_min=0.35, flip=True)
    state = torch.get_rng_state()
    first, again, other = view[(0, 5)][0], view[(0, 5)][0], view[(1, 5)][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_loader_does_not_draw_on_global_randomness(tiny):
    config = tiny()
    view = TrainView(load_data(config).train, 16, seed=0, crop_min=0.35, flip=True)
    state = torch.get_rng_state()
    list(train_loader(view, config, epoch=0))
    assert torch.equal(state, torch.get_rng_state())


def test_every_epoch_is_another_shuffle_of_whole_batches():
    source = ImageSource([0] * 25)
    epochs = [[index for batch in EpochSampler(source, 10, 0, epoch) for _, index in batch] for epoch in (0, 1)]
    assert all(len(set(order)) == len(order) == 20 for order in epochs)
    assert epochs[0] != epochs[1]


def test_the_evaluation_crop_is_the_centre_of_the_resized_image(photos, tiny):
    source = load_data(tiny(data=str(photos), cache=False)).val
    image, label = EvalView(source, 8, crop_ratio=0.8)[0]
    assert image.shape == (3, 8, 8)
    original = source.read(0)[None].float()
    whole = torch.nn.functional.interpolate(original, (10, 12), mode="bilinear", antialias=True)[0]
    assert (image.float() - whole[:, 1:9, 2:10]).abs().max() <= 1
    assert label == 0


def test_evaluation_sees_every_image_once_in_order(tiny):
    source = load_data(tiny()).val
    batches = list(eval_loader(source, 16, 1.0, batch_size=7, workers=0))
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(source.labels)


def test_a_batch_of_unreadable_images_is_empty_not_an_error():
    batch = collate(["a.png: empty", "b.png: empty"])
    assert len(batch.labels) == 0
    assert len(batch.bad) == 2


@pytest.mark.parametrize(("stated", "count"), [("4", 4), ("", 1), (None, 1)])
def test_the_memory_of_a_machine_is_shared_by_the_processes_that_torchrun_starts_there(monkeypatch, stated, count):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if stated is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", stated)
    assert processes_here() == count
