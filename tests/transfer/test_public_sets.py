"""The data sets of Table III, each from a tiny archive of its official layout."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from data_scripts.get_transfer import main
from msun_lite.data import downloads
from msun_lite.data.downloads import local_name
from msun_lite.data.fetching import ARCHIVES
from msun_lite.data.images import UnreadableImage
from msun_lite.results import paper
from msun_lite.transfer.public_sets import SETS, fetch_set, open_set
from msun_lite.transfer.readers import CALTECH_TEST, EMOTIONS
from msun_lite.utils.errors import DataError, UserError
from tests.official import TINY, jpeg, md5, tgz


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (0, 0))


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


def _left(root):
    """Return the names of what is in a data folder, but for the locks."""
    return [path.name for path in root.iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_data_set_is_fetched_from_its_official_layout_and_read(name, official, tmp_path, capsys):
    tiny, server = official(name)
    root = tmp_path / "data"
    assert main([name, "--data_root", str(root)]) == 0
    classes, train, test = tiny.counts
    assert f"{train} training and {test} test images of {classes} classes" in capsys.readouterr().out
    data = open_set(name, root)
    check(data, tiny, name)
    assert _left(root) == [name]
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
        (b"<html>Quota exceeded", "failed 3 times, the last time: expected the file, got a web page that begins with"),
    ],
)
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_broken_download_is_one_line_and_the_next_call_goes_on(name, fault, message, official, tmp_path, capsys):
    tiny, server = official(name)
    broken = list(tiny.files)[-1]
    server.faults[broken] = [fault] * 10
    assert main([name, "--data_root", str(tmp_path / "data")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert broken in line
    assert re.search(message, line)
    assert not (tmp_path / "data" / name).exists()
    server.faults[broken], server.requests[:] = [], []
    assert main([name, "--data_root", str(tmp_path / "data")]) == 0
    if "expected a whole tar archive" not in line:  # then there was no checksum to tell which file is the damaged one
        assert server.requests == [broken]


def test_a_local_file_that_is_another_or_missing_is_one_line(official, tmp_path):
    tiny, _ = official("stanford_cars")
    source = tmp_path / "web"
    (source / "cars_test.tgz").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"cars_test\.tgz: expected the official file with the md5 \w+, got \w+$"):
        fetch_set("stanford_cars", tmp_path / "data", str(source))
    (source / "cars_test.tgz").unlink()
    with pytest.raises(DataError, match=r"cars_test\.tgz: no such file"):
        fetch_set("stanford_cars", tmp_path / "data", str(source))
    assert _left(tmp_path / "data") == []


def test_an_interrupted_download_goes_on_in_the_middle_of_the_file(official, tmp_path, monkeypatch):
    tiny, server = official("dtd")
    root, (archive,) = tmp_path / "data", SETS["dtd"].files
    real = downloads._chunks

    def interrupted(response, most):
        for chunk in real(response, most):
            yield chunk[:100]
            raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_set("dtd", root)
    assert not (root / "dtd").exists()
    assert (root / "dtd.part" / ARCHIVES / f"{local_name(archive.url)}.partial").stat().st_size == 100
    monkeypatch.setattr(downloads, "_chunks", real)
    check(open_set(fetch_set("dtd", root).name, root), tiny, "dtd")
    assert server.ranges == ["bytes=100-"]
    assert _left(root) == ["dtd"]


def test_a_kill_between_the_last_byte_and_the_name_costs_no_download(official, tmp_path):
    tiny, server = official("pets")
    archives = tmp_path / "data" / "pets.part" / ARCHIVES
    archives.mkdir(parents=True)
    images, annotations = SETS["pets"].files
    (archives / f"{local_name(images.url)}.partial").write_bytes(tiny.files["images.tar.gz"])
    (archives / local_name(annotations.url)).write_bytes(tiny.files["annotations.tar.gz"])
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
    with pytest.raises(DataError, match=r"no such data set here; put it there with: msun-lite data get_transfer"):
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


def test_processes_that_want_the_same_set_share_one_download(official, tmp_path):
    _, server = official("dtd")
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch_set("dtd", tmp_path / "data"), range(4)))
    assert set(folders) == {tmp_path / "data" / "dtd"}
    assert len(server.requests) == 1
