import json
import shutil
from array import array

import pytest
import torch
import webdataset
from torch.utils.data import DataLoader, Dataset

from msun_lite import MSUN
from msun_lite.data.loaders import EpochSampler, ShareSampler, TrainView, collate, eval_loader
from msun_lite.data.named import load_data
from msun_lite.data.shard_index import Shard, ShardSet, _samples
from msun_lite.data.shard_patterns import expand, split_of
from msun_lite.data.shards import BLOCK, ShardSource
from msun_lite.data.sources import ImageSource
from msun_lite.evaluate.accuracy import measure
from msun_lite.train.batches import train_loader
from msun_lite.train.run import train
from msun_lite.utils.distributed import World
from msun_lite.utils.errors import DataError


class Numbered(Dataset):
    """Images with their numbers in place of labels."""

    def __init__(self, source):
        self.source = source

    def __getitem__(self, key):
        return self.source.read(key[1]), key[1]


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
        ("/a/train-*.tar", r"numbers in braces, as train-\{0000\.\.0127\}\.tar, in place of the \*"),
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


def test_the_home_folder_may_be_meant(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand("~/a/{train,val}.tar") == ("/home/me/a", ["train.tar", "val.tar"])


def test_a_name_says_the_split_of_a_shard():
    assert [split_of(name) for name in ("training/0.tar", "x_valid_0.tar")] == ["train", "val"]
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
    hint = rf"photos.manifest\.json: .*found none; .* named by a pattern such as 'wds:{tmp_path}/photos/\{{train-"
    with pytest.raises(DataError, match=hint):
        streamed(tmp_path / "photos")
    (shards / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"train-000001\.tar: no such shard, 1 of 5 are missing"):
        streamed(shards)


def test_measuring_needs_no_shards_for_training(shards, tiny):
    pattern = f"wds:{shards}/val-{{000000..000001}}.tar"
    for cache in (False, True):
        data = load_data(tiny(data=pattern, cache=cache), train=False)
        assert (len(data.train), len(data.val), data.classes) == (0, 6, ("cat", "dog"))
    with pytest.raises(DataError, match=r"expected shards for train and for val, found no images for train"):
        load_data(tiny(data=pattern))
    with pytest.raises(DataError, match=r"expected shards for val, found no images for val"):
        load_data(tiny(data=pattern.replace("val-{000000..000001}", "train-000000")), train=False)


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
    with pytest.raises(DataError, match=r"manifest\.json: expected a manifest of msun-lite data make_shards"):
        streamed(shards)


def test_labels_take_no_objects_that_every_worker_would_copy(shards, streamed):
    assert isinstance(streamed(shards).train.labels, array)
