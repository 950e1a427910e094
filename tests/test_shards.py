import hashlib
import io
import json
import os
import shutil
import tarfile
from array import array
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from msun_lite import MSUN
from msun_lite.data import load_data
from msun_lite.distributed import World
from msun_lite.errors import DataError
from msun_lite.evaluate import measure
from msun_lite.images import UnreadableImage
from msun_lite.loaders import EpochSampler, ShareSampler, TrainView, collate, eval_loader, train_loader
from msun_lite.shard_index import Shard, ShardSet, _samples
from msun_lite.shard_patterns import expand, split_of
from msun_lite.shards import BLOCK, ShardSource
from msun_lite.sources import ImageSource
from msun_lite.train import train


class Numbered(Dataset):
    """Images with their numbers in place of labels."""

    def __init__(self, source):
        self.source = source

    def __getitem__(self, key):
        return self.source.read(key[1]), key[1]


@pytest.fixture
def streamed(tiny):
    """Return a function that opens shards without decoding them into memory."""
    return lambda spec, **options: load_data(tiny(data=f"wds:{spec}", cache=False, **options))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_reads_every_image_exactly_once(shards, streamed, workers, ranks):
    source = streamed(shards).train
    seen = []
    for rank in range(ranks):
        own = ShareSampler([EpochSampler(source, batch_size=6, seed=0, epoch=0)], World(rank, ranks), accumulate=1)
        for batch in DataLoader(Numbered(source), batch_sampler=own, num_workers=workers, collate_fn=collate):
            seen += batch.labels.tolist()
            for image, index in zip(batch.images, batch.labels.tolist(), strict=True):
                assert torch.equal(image, source.read(index))
    assert sorted(seen) == list(range(12))


def test_shards_hold_the_images_and_classes_of_the_folder(photos, shards, streamed, tiny):
    folder, packed = load_data(tiny(data=str(photos), cache=False)), streamed(shards)
    assert (packed.name, packed.classes) == ("shards", folder.classes)
    for split in ("train", "val"):
        contents = [
            sorted((label, source.read(index).numpy().tobytes()) for index, label in enumerate(source.labels))
            for source in (getattr(folder, split), getattr(packed, split))
        ]
        assert contents[0] == contents[1]


def test_accuracy_on_shards_is_that_on_the_folder(photos, shards, tiny):
    torch.manual_seed(0)
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=2)
    tables = []
    for spec, cache, workers in ((str(photos), False, 0), (f"wds:{shards}", False, 2), (f"wds:{shards}", True, 0)):
        source = load_data(tiny(data=spec, cache=cache), train=False).val
        loader = eval_loader(source, 16, 1.0, batch_size=4, workers=workers)
        tables.append(measure(model, loader, [8, 12, 16], torch.device("cpu")))
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize("cache", [False, True])
def test_training_runs_on_shards(shards, tiny, cache):
    folder = train(tiny(data=f"wds:{shards}", cache=cache, batch_size=4, epochs=1))
    assert json.loads((folder / "summary.json").read_text())["data"]["train"] == 12


def _set(counts):
    """Return a set of training shards that are nowhere, with so many images each."""
    rows = [(f"{number}.png".encode(), 0, 512, 0) for number in range(sum(counts))]
    shards = tuple(Shard(f"train-{number}.tar", "train", 512, None, count) for number, count in enumerate(counts))
    return ShardSet(("0",), shards, _samples(rows))


def _order(source, seed):
    return source.order(torch.Generator().manual_seed(seed))


def test_the_order_is_a_shuffle_within_blocks_of_shards():
    counts = [5] * (2 * BLOCK + 3)
    source = ShardSource(_set(counts), None)
    order = _order(source, 0)
    assert sorted(order) == list(range(sum(counts)))
    for start in range(0, 5 * BLOCK * 2, 5 * BLOCK):
        touched = {index // 5 for index in order[start : start + 5 * BLOCK]}
        assert len(touched) == BLOCK
        assert order[start : start + 5 * BLOCK] != sorted(order[start : start + 5 * BLOCK])
    assert order == _order(source, 0) != _order(source, 1)


def test_epochs_differ_and_repeat_by_seed_and_epoch():
    source = ShardSource(_set([10, 10]), None)
    orders = {key: list(EpochSampler(source, 5, *key)) for key in ((0, 0), (0, 1), (1, 0))}
    indices = [[index for batch in order for _, index in batch] for order in orders.values()]
    assert len({tuple(order) for order in indices}) == 3
    assert list(EpochSampler(source, 5, 0, 1)) == orders[0, 1]


def test_other_sources_keep_the_order_that_published_runs_had():
    assert _order(ImageSource([0] * 9), 3) == torch.randperm(9, generator=torch.Generator().manual_seed(3)).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_epoch_goes_on_exactly(shards, streamed, tiny, workers):
    config = tiny(batch_size=3, workers=workers)
    view = TrainView(streamed(shards).train, 16, seed=0, crop_min=0.35, flip=True)
    whole, rest = (list(train_loader(view, config, epoch=1, start=start)) for start in (0, 2))
    assert (len(whole), len(rest)) == (4, 2)
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_a_pattern_names_some_shards_of_a_manifest(shards, streamed):
    some = streamed(f"{shards}/{{train-000001,val-{{000000..000001}}}}.tar")
    assert (len(some.train), len(some.val), some.classes) == (4, 6, ("cat", "dog"))
    with pytest.raises(DataError, match=r"manifest\.json.*train-000009"):
        streamed(f"{shards}/{{train-000009,val-000000}}.tar")


def test_the_fingerprint_is_the_same_wherever_the_shards_are(shards, streamed, tmp_path):
    here = streamed(shards).fingerprint
    shutil.copytree(shards, tmp_path / "there")
    assert streamed(tmp_path / "there").fingerprint == here
    (tmp_path / "there" / "manifest.json").unlink()
    pattern = "{train-{000000..000002},val-{000000..000001}}.tar"
    assert streamed(f"{tmp_path}/there/{pattern}").fingerprint == here
    assert streamed(f"{shards}/{{train-000001,val-000000}}.tar").fingerprint != here


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # its own
def test_the_webdataset_library_reads_our_shards(shards, streamed):
    source = streamed(shards).val
    names = [str(shards / shard.name) for shard in source.shards]
    found = list(
        webdataset.WebDataset(names, shardshuffle=False, empty_check=False).decode("rgb8").to_tuple("png", "cls")
    )
    assert [label for _, label in found] == list(source.labels)
    for index, (pixels, _) in enumerate(found):
        assert torch.equal(torch.tensor(pixels).permute(2, 0, 1), source.read(index))


def _jpeg(level=0):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_shards_written_by_the_webdataset_library_are_read(tmp_path, streamed):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for number in range(2):
            with webdataset.TarWriter(str(tmp_path / split / f"{number:04d}.tar")) as writer:
                for index in range(3):
                    label = {"cls": index} if number else {"json": {"label": index, "caption": "a"}}
                    writer.write({"__key__": f"sub/{index}", "JPG": _jpeg(40 * index), "seg.png": b"x", **label})
    data = streamed(f"{tmp_path}/{{train,validation}}/{{0000..0001}}.tar")
    assert (data.classes, list(data.train.labels), len(data.val)) == (("0", "1", "2"), [0, 1, 2] * 2, 6)
    assert [data.val.read(index).float().mean().round().item() for index in range(3)] == [0, 40, 80]


SAMPLE = {"0.jpg": _jpeg(), "0.cls": b"0"}


def _named(name):
    return {f"{name}{index}.{end}": c for index in range(2) for end, c in (("jpg", _jpeg()), ("cls", b"%d" % index))}


def _levels(source):
    return [source.read(index).float().mean().round().item() for index in range(len(source))]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["café/", "w" * 150, "d" * 90 + "/" + "é" * 70, os.fsdecode(b"caf\xe9")])
def test_names_that_have_headers_of_their_own_are_read(tmp_path, streamed, form, name):
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.tar", "w", format=form) as archive:
            for member, content in _named(name).items():
                info = tarfile.TarInfo(member)
                info.size, info.mtime = len(content), 0.5
                info.pax_headers = {"SCHILY.xattr.user.note": "x" * 3000}
                archive.addfile(info, io.BytesIO(content))
    data = streamed(f"{tmp_path}/{{train,val}}.tar")
    assert (_levels(data.train), list(data.val.labels)) == ([0, 0], [0, 1])
    path = tmp_path / "train.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(os.fsencode(f"{name}0.jpg"), os.fsencode(f"{name}9.jpg")))
    with pytest.raises(DataError, match=r"0\.jpg at byte \d+, as index\.npy has it"):
        data.train.read(0)


def test_shards_with_accents_of_the_webdataset_library_train(tmp_path, tiny):
    for split in ("train", "val"):
        with webdataset.ShardWriter(str(tmp_path / f"{split}-%03d.tar"), maxcount=4, verbose=0) as writer:
            for index in range(8):
                writer.write({"__key__": f"Übung/café {index}", "jpg": _jpeg(index), "cls": index % 2})
    folder = train(tiny(data=f"wds:{tmp_path}/{{train,val}}-{{000..001}}.tar", cache=False, batch_size=4, epochs=1))
    assert json.loads((folder / "summary.json").read_text())["data"]["train"] == 8


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
def test_no_image_of_joined_archives_is_lost(tar, streamed, tmp_path, names):
    parts = [tar(f"{number}.tar", _named(name)).read_bytes() for number, name in enumerate(names)]
    (tmp_path / "train.tar").write_bytes(b"".join(parts))
    tar("val.tar", SAMPLE)
    data = streamed(f"{tmp_path}/{{train,val}}.tar")
    assert (_levels(data.train), list(data.train.labels)) == ([0] * 4, [0, 1, 0, 1])


def test_what_follows_an_archive_and_is_none_is_refused(tar, streamed, tmp_path):
    path = tar("train.tar", SAMPLE)
    tar("val.tar", SAMPLE)
    path.write_bytes(path.read_bytes() + b"x" * 600)
    with pytest.raises(DataError, match=r"train\.tar: expected a whole, .*invalid header at byte 10240"):
        streamed(f"{tmp_path}/{{train,val}}.tar")


def test_members_of_a_sample_may_stand_apart(tar, streamed, tmp_path):
    images = {f"{number}.jpg": _jpeg(20 * number) for number in (2, 0, 1)}
    labels = {f"{number}.cls": b"%d" % number for number in range(3)}
    tar("train.tar", {**labels, **images, "README.md": b"see", **{f"{number}.txt": b"a" for number in range(3)}})
    tar("val.tar", SAMPLE)
    data = streamed(f"{tmp_path}/{{train,val}}.tar")
    assert (_levels(data.train), list(data.train.labels)) == ([0, 20, 40], [0, 1, 2])


def test_classes_of_val_that_training_lacks_are_refused_where_there_is_training(tar, streamed, tiny, tmp_path):
    for name, labels in (("train", (0, 2)), ("val", (0, 5, 6))):
        tar(f"{name}.tar", {f"{n}.{end}": c for n in labels for end, c in (("jpg", _jpeg()), ("cls", b"%d" % n))})
    pattern = f"{tmp_path}/{{train,val}}.tar"
    with pytest.raises(DataError, match=r"expected the classes of val in train too, got 2 in val alone \(5, 6\)"):
        streamed(pattern)
    assert len(load_data(tiny(data=f"wds:{pattern}"), train=False).val) == 3
    tar("val.tar", SAMPLE)
    assert len(streamed(pattern).val) == 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((1, 2, 3), "make 4 classes, 0 to 3, but no training image has the label 0"),
        ((0, 1, 998), "make 999 classes, 0 to 998, but no training image has the label 2 to 997"),
        ((1, 3, 6), "make 7 classes, 0 to 6, but no training image has the label 0, 2, 4 to 5"),
        (range(1, 40, 2), "has the label 0, 2, 4, 6, 8, 10, 12, 14, ..."),
        ((0, 1, 2), ""),
    ],
)
def test_labels_that_no_training_image_has_are_said(tar, streamed, tmp_path, capsys, labels, said):
    members = {f"{n}.{end}": c for n in labels for end, c in (("jpg", _jpeg()), ("cls", b"%d" % n))}
    for split in ("train", "val"):
        tar(f"{split}.tar", members)
    assert len(streamed(f"{tmp_path}/{{train,val}}.tar").classes) == max(labels) + 1
    out = capsys.readouterr().out
    assert said in out
    assert len(out.splitlines()) == bool(said)


def _broken_images():
    """Return thirty images, none of which can be decoded: cut, with bytes flipped, empty, or of nothing at all."""
    images, random = [], np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(buffer, form)
        whole = buffer.getvalue()
        flipped = bytearray(whole)
        for place in range(0, 60, 3):
            flipped[place] ^= 0xFF
        images += [whole[:30], whole[: len(whole) // 8], bytes(flipped), b"", random.bytes(len(whole))]
    return images


@pytest.mark.parametrize("cache", [False, True])
def test_thirty_broken_images_in_shards_are_counted_and_named(tar, tiny, tmp_path, capfd, cache):
    broken = {f"x{number:02d}.jpg": content for number, content in enumerate(_broken_images())}
    healthy = {f"{number}.jpg": _jpeg(number) for number in range(90)}
    labels = {f"{Path(name).stem}.cls": b"%d" % (place % 2) for place, name in enumerate([*broken, *healthy])}
    tar("train.tar", {**broken, **labels, **healthy})
    tar("val.tar", {"0.jpg": _jpeg(), "0.cls": b"0"})
    options = {"data": f"wds:{tmp_path}/{{train,val}}.tar", "cache": cache, "batch_size": 20, "epochs": 1}
    folder = train(tiny(**options, max_bad_images=30))
    said = capfd.readouterr().out
    assert all(f"train.tar: {name}: " in said for name in broken)
    assert "left out unreadable image 30 (limit 30)" in said
    assert len(json.loads((folder / "summary.json").read_text())["bad_images"]) == 30
    with pytest.raises(DataError, match=r"30 unreadable image\(s\), expected at most 29: .*train\.tar: x"):
        train(tiny(**options, max_bad_images=29, out=str(tmp_path / "again")))
    tar("val.tar", {**broken, **labels, **healthy})
    with pytest.raises(DataError, match=r"30 unreadable image\(s\) to evaluate, expected none: .*val\.tar: x00\.jpg: "):
        train(tiny(**options, max_bad_images=30, out=str(tmp_path / "third")))


def _pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"/etc/0.jpg": b"", **SAMPLE}, "refused the member '/etc/0.jpg'"),
        ({**SAMPLE, "a/../../0.jpg": b""}, r"refused the member 'a/\.\./\.\./0\.jpg'"),
        ({**SAMPLE, "0.pyd": b"x"}, r"refused the member '0\.pyd'"),
        ({**SAMPLE, "0.mask.PKL": b"x"}, r"refused the member '0\.mask\.PKL'"),
        ({**SAMPLE, "1.pth": b"x"}, r"refused the member '1\.pth'"),
        ({**SAMPLE, "0.npy": _pickled()}, r"refused the member '0\.npy'"),
        ({"7.jpg": _jpeg(), "7.cls": b"-1"}, "key '7', got b'-1'"),
        ({"7.jpg": _jpeg(), "7.cls": b"cat"}, "key '7', got b'cat'"),
        ({"7.jpg": _jpeg(), "7.cls": b"999999999"}, "key '7', got 999999999"),
        ({"7.jpg": _jpeg(), "7.json": b'{"label": true}'}, "key '7', got True"),
        ({"7.jpg": _jpeg(), "7.json": b'{"label": 1.5}'}, "key '7', got 1.5"),
        ({"7.jpg": _jpeg(), "7.json": b"["}, "key '7'"),
        ({"7.jpg": _jpeg()}, "expected a class .* key '7'"),
        ({"7.cls": b"1"}, "expected one image .* key '7'"),
        ({"7.jpg": _jpeg(), "7.png": b"", "7.cls": b"1"}, "expected one image .* key '7'"),
        ({"7.1.jpg": b"", "7.1.cls": b"0"}, "key '7', got .1.jpg, .1.cls: a key ends at the first dot"),
        ({f"7.{n}.png": b"" for n in range(9)}, r"got .0.png, .1.png, .2.png, .3.png, .4.png, \.\.\.: a key ends"),
        ({"7" * 300 + ".jpg": _jpeg(), "7" * 300 + ".cls": b"1"}, "names of at most 255"),
    ],
)
def test_hostile_and_unusable_members_are_refused(tar, streamed, tmp_path, members, message):
    tar("train.tar", members)
    tar("val.tar", SAMPLE)
    with pytest.raises(DataError, match=rf"train\.tar: .*{message}"):
        streamed(f"{tmp_path}/{{train,val}}.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_shards_are_refused(tar, streamed, tmp_path, kind):
    tar("val.tar", SAMPLE)
    with tarfile.open(tar("train.tar", SAMPLE), "a") as archive:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"train\.tar: refused the member '1\.jpg'"):
        streamed(f"{tmp_path}/{{train,val}}.tar")


@pytest.mark.parametrize("how", ["truncated", "no end", "damaged header", "compressed", "no archive", "empty"])
def test_a_damaged_shard_is_never_taken_for_a_short_one(tar, streamed, tmp_path, how):
    path = tar("train.tar", {**SAMPLE, "1.jpg": _jpeg(), "1.cls": b"0"})
    tar("val.tar", SAMPLE)
    content = bytearray(path.read_bytes())
    second = content.index(b"1.jpg")
    if how == "damaged header":
        content[second + 1] ^= 1
    elif how == "compressed":
        content = tar("other.tgz", SAMPLE).read_bytes()
    else:
        content = {"truncated": content[: second - 100], "no end": content[:second], "no archive": b"x" * 2000}.get(
            how, b""
        )
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tar: expected a whole, uncompressed tar archive"):
        streamed(f"{tmp_path}/{{train,val}}.tar")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pipe:cat train.tar", "refused"),
        ("{pipe:touch x,train-0.tar}", "refused"),
        ("file:///data/{train,val}.tar", "refused"),
        ("s3://bucket/{train,val}.tar", "refused"),
        ("gs://bucket/{train,val}.tar", "refused"),
        ("http://host/{train,val}.tar?token=1", "refused"),
        ("", "refused"),
        ("train-{0..1", "brace pattern"),
        ("{train,val}.tar.gz", "uncompressed"),
        ("{train.tar,val.zip}", r"val\.zip.*\.tar"),
        ("train-{0,1,0}.tar", r"train-0\.tar more than once"),
        ("{/a/train.tar,b/val.tar}", "one folder"),
        ("http://{a,b}/train.tar", "one server"),
        ("/a/{0..100001}.tar", "at most 100000"),
    ],
)
def test_patterns_that_cannot_be_are_refused_in_one_line(tiny, pattern, message):
    with pytest.raises(DataError, match=message):
        load_data(tiny(data=f"wds:{pattern}"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/a/in1k", ("/a/in1k", [])),
        ("/a/in1k/", ("/a/in1k", [])),
        ("{train,val}-{00..01}.tar", (".", ["train-00.tar", "train-01.tar", "val-00.tar", "val-01.tar"])),
        ("/a/{train/{0..1},val/0}.tar", ("/a", ["train/0.tar", "train/1.tar", "val/0.tar"])),
        ("https://host:1/x/{train-0,val-0}.tar", ("https://host:1/x", ["train-0.tar", "val-0.tar"])),
        ("http://host", ("http://host", [])),
        ("http://host/{train,val}.tar", ("http://host", ["train.tar", "val.tar"])),
    ],
)
def test_patterns_become_a_folder_and_names(pattern, expected):
    assert expand(pattern) == expected


def test_a_name_says_the_split_of_a_shard():
    assert [split_of(name) for name in ("in1k-train-0.tar", "Validation/0.tar", "train/val_1.tar")] == [
        "train",
        "val",
        "val",
    ]
    for name in ("0.tar", "trainval-0.tar", "train-val.tar", "test/0.tar"):
        with pytest.raises(DataError, match="either train or val"):
            split_of(name)


def test_missing_shards_splits_and_folders_are_named(shards, streamed, tmp_path):
    with pytest.raises(DataError, match="no images for val"):
        streamed(f"{shards}/train-{{000000..000002}}.tar")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        streamed(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"photos.manifest\.json"):
        streamed(tmp_path / "photos")
    (shards / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"train-000001\.tar: no such shard, 1 of 5 are missing"):
        streamed(shards)


def test_a_shard_that_is_not_the_one_of_the_manifest_is_refused(shards, streamed):
    path = shards / "val-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"00000000_0", b"00000009_0"))
    with pytest.raises(DataError, match=r"val-000000\.tar: expected 00000000_0\.png at byte 512"):
        streamed(shards).val.read(0)
    path.write_bytes(content[:-512])
    with pytest.raises(DataError, match=r"val-000000\.tar: expected \d+ bytes as in manifest\.json"):
        streamed(shards)


def _edit(shards, change):
    manifest = json.loads((shards / "manifest.json").read_text())
    change(manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("version"),
        lambda manifest: manifest.update(version=2),
        lambda manifest: manifest.update(shards=None),
        lambda manifest: manifest["shards"][0].update(name="../train-000000.tar"),
        lambda manifest: manifest["shards"][0].update(name="/train-000000.tar"),
        lambda manifest: manifest["shards"][0].update(name="pipe:ls.tar"),
        lambda manifest: manifest["shards"][0].update(split="test"),
        lambda manifest: manifest["shards"][0].update(sha256="0"),
        lambda manifest: manifest["shards"][0].update(bytes=1000),
        lambda manifest: manifest["shards"][0].update(samples=5),
        lambda manifest: manifest["shards"][0].update(command="ls"),
        lambda manifest: manifest["shards"].append(manifest["shards"][0]),
        lambda manifest: manifest["classes"].pop(),
        lambda manifest: manifest["index"].update(sha256="0" * 64),
        lambda manifest: manifest["index"].update(sha256="../../escaped"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(shards, streamed, change):
    _edit(shards, change)
    with pytest.raises(DataError, match=r"manifest\.json: expected a manifest of data_scripts"):
        streamed(shards)


def test_an_index_of_pickles_is_refused(shards, streamed):
    content = _pickled()
    (shards / "index.npy").write_bytes(content)
    _edit(shards, lambda manifest: manifest["index"].update(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(DataError, match="allow_pickle"):
        streamed(shards)


def test_an_unreadable_image_is_named_by_shard_and_member(tar, streamed, tmp_path):
    tar("train.tar", {"7.jpg": _jpeg()[:200], "7.cls": b"0"})
    tar("val.tar", SAMPLE)
    with pytest.raises(UnreadableImage, match=r"train\.tar: 7\.jpg: "):
        streamed(f"{tmp_path}/{{train,val}}.tar").train.read(0)


def test_a_program_for_a_picture_is_not_started(tar, streamed, tmp_path):
    tar("train.tar", {"7.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "7.cls": b"0"})
    tar("val.tar", SAMPLE)
    with pytest.raises(UnreadableImage, match="cannot identify"):
        streamed(f"{tmp_path}/{{train,val}}.tar").train.read(0)


def test_labels_take_no_objects_that_every_worker_would_copy(shards, streamed):
    assert isinstance(streamed(shards).train.labels, array)
