"""The data sets of Table III, each from a tiny archive of its official layout."""

import gzip
import hashlib
import io
import pickle
import re
import tarfile
import zipfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from data_scripts.get_transfer import main
from msun_lite import downloads, paper
from msun_lite.errors import DataError, UserError
from msun_lite.sources import UnreadableImage
from msun_lite.transfer_fetch import ARCHIVES, fetch_set
from msun_lite.transfer_readers import CALTECH_TEST, EMOTIONS
from msun_lite.transfer_sets import SETS, open_set


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (0, 0))


@dataclass
class Tiny:
    """A data set made small.

    Args:
        files: official file name -> content.
        counts: classes, training images, test images.
        first: label and size (H, W) of the first training image.
        names: some of the class names.
        checked: functions that tell torchvision, which checks some files itself, their checksums.
    """

    files: dict[str, bytes]
    counts: tuple[int, int, int]
    first: tuple[int, tuple[int, int]]
    names: dict[int, str]
    checked: tuple = ()


def md5(content):
    return hashlib.md5(content).hexdigest()


def jpeg(side=(12, 10), level=100):
    file = io.BytesIO()
    Image.new("RGB", side, (level, 50, 200)).save(file, "JPEG")
    return file.getvalue()


def tgz(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def mat(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def cifar(kind, name, names, label_key):
    rng = np.random.default_rng(0)
    members = {}
    for number, (file, _) in enumerate(kind.train_list + kind.test_list):
        data = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        members[file] = pickle.dumps({"data": data, label_key: [number % len(names), 1]})
    members[kind.meta["filename"]] = pickle.dumps({kind.meta["key"]: names})
    trusted = {file: md5(content) for file, content in members.items()}

    def checked(patch):
        for part in ("train_list", "test_list"):
            patch.setattr(kind, part, [[file, trusted[file]] for file, _ in getattr(kind, part)])
        patch.setattr(kind, "meta", {**kind.meta, "md5": trusted[kind.meta["filename"]]})

    archive = tgz({f"{kind.base_folder}/{file}": content for file, content in members.items()})
    counts = (len(names), 2 * len(kind.train_list), 2)
    return Tiny({name: archive}, counts, (0, (32, 32)), {1: names[1]}, (checked,))


def stl10():
    columns = np.zeros((2, 3, 96, 96), dtype=np.uint8)
    columns[0, 0, 1, 0] = 255  # column 1, row 0
    members = {f"stl10_binary/{split}_X.bin": columns.tobytes() for split in ("train", "test", "unlabeled")} | {
        f"stl10_binary/{split}_y.bin": bytes([2, 1]) for split in ("train", "test")
    }
    members["stl10_binary/class_names.txt"] = b"airplane\nbird\n"
    return Tiny({"stl10_binary.tar.gz": tgz(members)}, (2, 2, 2), (1, (96, 96)), {1: "bird"})


def caltech101():
    members = {f"101_ObjectCategories/BACKGROUND_Google/image_{n:04d}.jpg": jpeg() for n in range(3)}
    for name, count in (("ant", 32), ("accordion", 31)):
        members |= {f"101_ObjectCategories/{name}/image_{n:04d}.jpg": jpeg() for n in range(1, count + 1)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", tgz(members))
        archive.writestr("caltech-101/Annotations.tar", b"not needed")
    return Tiny({"caltech-101.zip": file.getvalue()}, (2, 3, 60), (0, (10, 12)), {0: "accordion"})


def fashion():
    files = {}
    for split, count in (("train", 3), ("t10k", 2)):
        images = np.full((count, 28, 28), 7, dtype=np.uint8)
        header = b"\x00\x00\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
        files[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
        labels = b"\x00\x00\x08\x01" + count.to_bytes(4, "big") + bytes([9, 1, 2][:count])
        files[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(labels)
    return Tiny(files, (10, 3, 2), (9, (28, 28)), {9: "Ankle boot"})


def flowers102():
    files = {
        "102flowers.tgz": tgz({f"jpg/image_{n:05d}.jpg": jpeg() for n in range(1, 6)}),
        "imagelabels.mat": mat(labels=np.array([[77, 1, 2, 3, 102]], dtype=np.uint8)),
        "setid.mat": mat(
            trnid=np.array([[1, 3]], dtype=np.uint16),
            valid=np.array([[2, 4]], dtype=np.uint16),
            tstid=np.array([[5, 4]], dtype=np.uint16),
        ),
    }
    trusted = {name: (name, md5(content)) for name, content in files.items()}

    def checked(patch):
        own = datasets.Flowers102._file_dict
        patch.setattr(datasets.Flowers102, "_file_dict", {key: trusted[name] for key, (name, _) in own.items()})

    return Tiny(files, (102, 4, 2), (76, (10, 12)), {0: "pink primrose"}, (checked,))


def pets():
    images = {f"images/{name}.jpg": jpeg() for name in ("Abyssinian_1", "Abyssinian_2", "yorkshire_terrier_1")}
    lists = {
        "annotations/trainval.txt": b"Abyssinian_1 1 1 1\nyorkshire_terrier_1 2 2 1\n",
        "annotations/test.txt": b"Abyssinian_2 1 1 1\n",
    }
    files = {"images.tar.gz": tgz(images), "annotations.tar.gz": tgz(lists)}
    return Tiny(files, (2, 2, 1), (0, (10, 12)), {1: "yorkshire terrier"})


def stanford_cars():
    kind = [("class", np.uint8), ("fname", object)]
    train = np.array([(2, "00001.jpg"), (1, "00002.jpg")], dtype=kind)
    test = np.array([(1, "00001.jpg"), (2, "00002.jpg")], dtype=kind)
    names = np.array(["AM General Hummer", "Acura RL"], dtype=object)
    images = {f"0000{number}.jpg": jpeg() for number in (1, 2)}
    files = {
        "car_devkit.tgz": tgz(
            {"devkit/cars_meta.mat": mat(class_names=names), "devkit/cars_train_annos.mat": mat(annotations=train)}
        ),
        "cars_train.tgz": tgz({f"cars_train/{name}": content for name, content in images.items()}),
        "cars_test.tgz": tgz({f"cars_test/{name}": content for name, content in images.items()}),
        "cars_test_annos_withlabels.mat": mat(annotations=test),
    }
    return Tiny(files, (2, 2, 2), (1, (10, 12)), {1: "Acura RL"})


def aircraft():
    data = "fgvc-aircraft-2013b/data"
    members = {f"{data}/images/{number:07d}.jpg": jpeg() for number in range(3)}
    members[f"{data}/variants.txt"] = b"707-320\nA340 500\n"
    members[f"{data}/images_variant_trainval.txt"] = b"0000000 A340 500\n0000001 707-320\n"
    members[f"{data}/images_variant_test.txt"] = b"0000002 707-320\n"
    return Tiny({"fgvc-aircraft-2013b.tar.gz": tgz(members)}, (2, 2, 1), (1, (10, 12)), {1: "A340 500"})


def dtd():
    members = {f"dtd/images/{name}/{name}_{n:04d}.jpg": jpeg() for name in ("banded", "zigzagged") for n in range(3)}
    for number, split in enumerate(("train", "val", "test")):
        for part in (1, 2):
            lines = [f"{name}/{name}_{(number + part - 1) % 3:04d}.jpg" for name in ("zigzagged", "banded")]
            members[f"dtd/labels/{split}{part}.txt"] = "\n".join(lines).encode()
    return Tiny({"dtd-r1.0.1.tar.gz": tgz(members)}, (2, 4, 2), (1, (10, 12)), {0: "banded"})


TINY = {
    "cifar10": lambda: cifar(datasets.CIFAR10, "cifar-10-python.tar.gz", ["plane", "car"], "labels"),
    "cifar100": lambda: cifar(datasets.CIFAR100, "cifar-100-python.tar.gz", ["apple", "fish"], "fine_labels"),
    "stl10": stl10,
    "caltech101": caltech101,
    "fashion_mnist": fashion,
    "flowers102": flowers102,
    "pets": pets,
    "stanford_cars": stanford_cars,
    "aircraft": aircraft,
    "dtd": dtd,
}
DOWNLOADED = [name for name in TINY if not SETS[name].by_hand]


@pytest.fixture
def official(serve, tmp_path, monkeypatch):
    """Return a function that serves a tiny data set in the place of the official one."""

    def start(name):
        tiny = TINY[name]()
        (tmp_path / "web").mkdir()
        for file, content in tiny.files.items():
            (tmp_path / "web" / file).write_bytes(content)
        server = serve(tmp_path / "web")
        about = SETS[name]
        files = tuple(
            replace(file, url=f"{server.url}/{file.name}", md5=file.md5 and md5(tiny.files[file.name]))
            for file in about.files
        )
        classes, train, test = tiny.counts
        monkeypatch.setitem(SETS, name, replace(about, files=files, classes=classes, train=train, test=test))
        for checked in tiny.checked:
            checked(monkeypatch)
        return tiny, server

    return start


def test_the_table_has_the_papers_data_sets():
    columns = paper.rows("III")[0].keys() - {"setting", "backbone", "method", "FLOPs"}
    assert {about.title for about in SETS.values()} == columns
    assert min(about.size for about in SETS.values()) == 28
    for about in SETS.values():
        assert about.licence
        assert about.source.startswith("http")
        assert bool(about.files) or about.by_hand
        assert all(file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5) for file in about.files)


def check(data, tiny, name):
    assert (len(data.classes), len(data.train), len(data.val)) == tiny.counts
    label, shape = tiny.first
    assert data.train.labels[0] == label
    for source in (data.train, data.val):
        for index in (0, len(source) - 1):
            image = source.read(index)
            assert image.dtype == torch.uint8
            assert image.shape[0] == 3
    assert data.train.read(0).shape[1:] == shape
    assert {number: data.classes[number] for number in tiny.names} == tiny.names
    assert data.describe()["name"] == name


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_data_set_is_fetched_from_its_official_layout_and_read(name, official, tmp_path, capsys):
    tiny, server = official(name)
    root = tmp_path / "data"
    assert main([name, "--data_root", str(root)]) == 0
    classes, train, test = tiny.counts
    assert f"{train} training and {test} test images of {classes} classes" in capsys.readouterr().out
    data = open_set(name, root)
    check(data, tiny, name)
    assert [path.name for path in root.iterdir()] == [name]
    assert not (root / name / ARCHIVES).exists()
    assert sorted(server.requests) == sorted(tiny.files)
    assert fetch_set(name, root) == root / name
    assert len(server.requests) == len(tiny.files)
    assert open_set(name, root).fingerprint == data.fingerprint


@pytest.mark.parametrize("where", ["folder", "address"])
@pytest.mark.parametrize("name", ["stanford_cars", "caltech101"])
def test_the_official_files_are_taken_from_elsewhere(name, where, official, tmp_path):
    tiny, server = official(name)
    root = tmp_path / "data"
    assert (
        main([name, "--data_root", str(root), "--source", str(tmp_path / "web") if where == "folder" else server.url])
        == 0
    )
    check(open_set(name, root), tiny, name)
    assert bool(server.requests) == (where == "address")
    assert sorted(path.name for path in (tmp_path / "web").iterdir()) == sorted(tiny.files)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("damage", "expected the md5 [0-9a-f]{32}, got [0-9a-f]{32}|expected a whole tar archive"),
        ("half", r"failed 3 times, the last time: expected \d+ bytes, got \d+"),
        (404, r"the server does not have it \(404\)"),
    ],
)
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_broken_download_is_one_line_and_leaves_nothing(name, fault, message, official, tmp_path, capsys):
    tiny, server = official(name)
    broken = list(tiny.files)[-1]
    server.faults[broken] = [fault] * 10
    assert main([name, "--data_root", str(tmp_path / "data")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert broken in line
    assert re.search(message, line)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_local_file_that_is_another_or_missing_is_one_line(official, tmp_path):
    tiny, _ = official("stanford_cars")
    source = tmp_path / "web"
    (source / "cars_test.tgz").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"cars_test\.tgz: expected the official file with the md5 \w+, got \w+$"):
        fetch_set("stanford_cars", tmp_path / "data", str(source))
    (source / "cars_test.tgz").unlink()
    with pytest.raises(DataError, match=r"cars_test\.tgz: no such file"):
        fetch_set("stanford_cars", tmp_path / "data", str(source))
    assert list((tmp_path / "data").iterdir()) == []


def test_an_interrupted_download_goes_on_in_the_middle_of_the_file(official, tmp_path, monkeypatch):
    tiny, server = official("dtd")
    (name,), root = tiny.files, tmp_path / "data"
    real = downloads._chunks

    def interrupted(response, most):
        for chunk in real(response, most):
            yield chunk[:100]
            raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_set("dtd", root)
    assert not (root / "dtd").exists()
    assert (root / "dtd.part" / ARCHIVES / f"{name}.partial").stat().st_size == 100
    monkeypatch.setattr(downloads, "_chunks", real)
    check(open_set(fetch_set("dtd", root).name, root), tiny, "dtd")
    assert server.ranges == ["bytes=100-"]
    assert [path.name for path in root.iterdir()] == ["dtd"]


def test_a_kill_between_the_last_byte_and_the_name_costs_no_download(official, tmp_path):
    tiny, server = official("pets")
    archives = tmp_path / "data" / "pets.part" / ARCHIVES
    archives.mkdir(parents=True)
    (archives / "images.tar.gz.partial").write_bytes(tiny.files["images.tar.gz"])
    (archives / "annotations.tar.gz").write_bytes(tiny.files["annotations.tar.gz"])
    (archives.parent / "half-unpacked").mkdir()
    check(open_set(fetch_set("pets", tmp_path / "data").name, tmp_path / "data"), tiny, "pets")
    assert server.requests == ["images.tar.gz"]
    assert server.ranges == [f"bytes={len(tiny.files['images.tar.gz'])}-"]
    assert not (tmp_path / "data" / "pets" / "half-unpacked").exists()


def test_tries_that_get_further_do_not_count(official, tmp_path, monkeypatch):
    tiny, server = official("cifar10")
    real = downloads._chunks

    def slow(response, most):
        for chunk in real(response, most):
            yield chunk[: len(chunk) // 4 + 1]
            raise downloads._Failure("broken off")

    monkeypatch.setattr(downloads, "_chunks", slow)
    fetch_set("cifar10", tmp_path / "data")
    assert len(server.ranges) > 3 * len(downloads.PAUSES)
    check(open_set("cifar10", tmp_path / "data"), tiny, "cifar10")


def test_a_missing_image_and_wrong_numbers_are_one_line(official, tmp_path, monkeypatch):
    official("dtd")
    root = tmp_path / "data"
    fetch_set("dtd", root)
    (root / "dtd/dtd/dtd/images/banded/banded_0001.jpg").unlink()
    with pytest.raises(DataError, match=r"banded_0001\.jpg: no such image, and 0 others are missing"):
        open_set("dtd", root)
    monkeypatch.setitem(SETS, "dtd", replace(SETS["dtd"], test=3))
    (root / "dtd/dtd/dtd/images/banded/banded_0001.jpg").write_bytes(jpeg())
    with pytest.raises(DataError, match="expected 2 classes, 4 training and 3 test images of DTD, got 2, 4 and 2"):
        open_set("dtd", root)
    (root / "dtd/dtd/dtd/labels/val1.txt").unlink()
    with pytest.raises(DataError, match="expected DTD in its official layout, got: FileNotFoundError"):
        open_set("dtd", root)
    with pytest.raises(DataError, match=r"no such data set here; put it there with: python data_scripts/get_transfer"):
        open_set("pets", root)


def test_an_unreadable_image_of_a_set_is_named(official, tmp_path):
    official("pets")
    root = tmp_path / "data"
    fetch_set("pets", root)
    (root / "pets/oxford-iiit-pet/images/Abyssinian_2.jpg").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="Abyssinian_2"):
        open_set("pets", root).val.read(0)


def test_caltechs_test_images_are_thirty_a_class_the_same_in_every_call(official, tmp_path):
    official("caltech101")
    fetch_set("caltech101", tmp_path / "data")
    one, other = (open_set("caltech101", tmp_path / "data") for _ in range(2))
    assert one.val.paths == other.val.paths
    assert torch.tensor(one.val.labels).bincount().tolist() == [CALTECH_TEST] * 2
    assert not set(one.val.paths) & set(one.train.paths)
    assert one.val.paths != sorted(one.val.paths + one.train.paths)[: len(one.val)]


def test_stl10s_images_are_upright(official, tmp_path):
    official("stl10")
    fetch_set("stl10", tmp_path / "data")
    image = open_set("stl10", tmp_path / "data").train.read(0)
    assert image[0, 0, 1] == 255  # row 0, column 1
    assert image.sum() == 255


def test_fashions_grey_images_have_three_equal_channels(official, tmp_path):
    official("fashion_mnist")
    fetch_set("fashion_mnist", tmp_path / "data")
    assert open_set("fashion_mnist", tmp_path / "data").train.read(0).unique().tolist() == [7]


def test_dtds_split_is_the_first(official, tmp_path):
    official("dtd")
    fetch_set("dtd", tmp_path / "data")
    data = open_set("dtd", tmp_path / "data")
    assert [path[-8:-4] for path in data.train.paths] == ["0000", "0000", "0001", "0001"]
    assert [path[-8:-4] for path in data.val.paths] == ["0002", "0002"]


def test_rafdb_is_read_from_its_authors_folder(tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    assert main(["rafdb", "--data_root", str(root)]) == 2
    assert "RAF-DB cannot be downloaded: its authors give it on request" in capsys.readouterr().err
    assert not root.exists()
    basic = root / "rafdb" / "basic"
    (basic / "EmoLabel").mkdir(parents=True)
    (basic / "Image" / "aligned").mkdir(parents=True)
    names = ("train_00001", "train_00002", "test_0001")
    for name in names:
        (basic / "Image" / "aligned" / f"{name}_aligned.jpg").write_bytes(jpeg((100, 100)))
    lines = [f"{name}.jpg {label}" for name, label in zip(names, (5, 1, 7), strict=True)]
    (basic / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setitem(SETS, "rafdb", replace(SETS["rafdb"], train=2, test=1))
    assert main(["rafdb", "--data_root", str(root)]) == 0
    data = open_set("rafdb", root)
    assert [data.classes[label] for label in data.train.labels] == ["sadness", "surprise"]
    assert data.classes == EMOTIONS
    assert data.val.labels == [6]
    assert data.val.read(0).shape == (3, 100, 100)


def test_what_has_to_be_put_there_by_hand_and_unknown_names_are_said(tmp_path, capsys):
    with pytest.raises(UserError, match=r"Cars cannot be downloaded: .*cars_test_annos_withlabels\.mat.*--source"):
        fetch_set("stanford_cars", tmp_path)
    with pytest.raises(UserError, match="dataset: expected one of cifar10, .*, got 'mnist'"):
        fetch_set("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert main(["--data_root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and about.licence in shown for name, about in SETS.items())


def test_an_archive_that_reaches_out_of_its_folder_is_refused(official, tmp_path):
    _, server = official("dtd")
    evil = tgz({"../../evil.txt": b"!"})
    (server.folder / "dtd-r1.0.1.tar.gz").write_bytes(evil)
    files = tuple(replace(file, md5=md5(evil)) for file in SETS["dtd"].files)
    SETS["dtd"] = replace(SETS["dtd"], files=files)  # the fixture puts the real one back
    with pytest.raises(DataError, match="refused the member"):
        fetch_set("dtd", tmp_path / "data")
    assert not list(tmp_path.rglob("evil.txt"))
