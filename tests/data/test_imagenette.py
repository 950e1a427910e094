"""Imagenette's folder: downloaded or unpacked, whole or not at all."""

import hashlib

import pytest
from PIL import Image

from data_scripts import get_imagenette as script
from msun_lite.data import downloads, imagenette
from msun_lite.data.downloads import local_name
from msun_lite.data.fetching import ARCHIVES, OfficialFile
from msun_lite.data.imagenette import get_imagenette
from msun_lite.data.named import load_data
from msun_lite.utils.errors import DataError, FailedDownload


def _jpeg(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.JPEG")
    return (tmp_path / "one.JPEG").read_bytes()


def _members(tmp_path, top="imagenette224"):
    image = _jpeg(tmp_path)
    return {f"{top}/{split}/{name}/{name}_1.JPEG": image for split in ("train", "val") for name in ("n01", "n02")}


def test_imagenette_comes_from_a_folder_of_tars(tmp_path, tar, tiny):
    members = _members(tmp_path)
    (tmp_path / "tars").mkdir()
    for split in ("train", "val"):
        part = {name: content for name, content in members.items() if f"/{split}/" in name}
        tar(f"tars/{split}.tar", part)
    assert script.main(["--source", str(tmp_path / "tars"), "--data_root", str(tmp_path / "data")]) == 0
    data = load_data(tiny(data="imagenette", data_root=str(tmp_path / "data")))
    assert (data.name, data.classes, len(data.train), len(data.val)) == ("imagenette", ("n01", "n02"), 2, 2)
    assert _left(tmp_path / "data") == ["imagenette"]
    assert sorted(path.name for path in (tmp_path / "data" / "imagenette").iterdir()) == ["train", "val"]


def _left(root):
    """Return the names of what is in a data folder, but for the lock."""
    return [path.name for path in root.iterdir() if not path.name.endswith(".lock")]


@pytest.fixture
def web(tmp_path, tar, serve, monkeypatch):
    """Return a server of the official archive, tiny, and its address; failed downloads are tried again at once."""
    monkeypatch.setattr(downloads, "PAUSES", (0, 0))
    archive = tar("imagenette2-320.tgz", _members(tmp_path, "imagenette2-320"))
    (tmp_path / "web").mkdir()
    archive = archive.rename(tmp_path / "web" / archive.name)
    server = serve(archive.parent)
    url = f"{server.url}/{archive.name}"
    monkeypatch.setattr(imagenette, "OFFICIAL", OfficialFile(url, hashlib.md5(archive.read_bytes()).hexdigest()))
    return server, url


def test_imagenette_comes_from_a_web_server(tmp_path, web):
    server, url = web
    folder = get_imagenette(tmp_path / "data", url)
    assert len(list(folder.rglob("*.JPEG"))) == 4
    assert _left(tmp_path / "data") == ["imagenette"]
    with pytest.raises(DataError, match=r"missing\.tgz.*failed"):
        get_imagenette(tmp_path / "other", f"{server.url}/missing.tgz")
    assert "imagenette" not in _left(tmp_path / "other")


def test_imagenette_is_downloaded_when_it_is_first_used_and_goes_on_where_it_broke_off(tmp_path, web, tiny):
    server, url = web
    config, archive = tiny(data="imagenette", data_root=str(tmp_path / "data")), url.rpartition("/")[2]
    server.faults[archive] = ["half", *[503] * 5]
    with pytest.raises(
        FailedDownload, match=r"the download failed 3 times.*; with a local copy, run msun-lite data get_imagenette"
    ):
        load_data(config)
    assert _left(tmp_path / "data") == ["imagenette.part"]
    data = load_data(config)
    assert (data.name, data.classes, len(data.train), len(data.val)) == ("imagenette", ("n01", "n02"), 2, 2)
    assert server.ranges == [f"bytes={(tmp_path / 'web' / archive).stat().st_size // 2}-"]
    assert _left(tmp_path / "data") == ["imagenette"]
    asked = len(server.requests)
    load_data(config)
    assert len(server.requests) == asked


def test_another_archive_than_the_official_one_is_refused(tmp_path, web, monkeypatch):
    monkeypatch.setattr(imagenette, "OFFICIAL", OfficialFile(web[1], "0" * 32))
    with pytest.raises(FailedDownload, match="expected the md5 000"):
        imagenette.imagenette_folder(tmp_path / "data")
    assert "imagenette" not in _left(tmp_path / "data")


def test_half_of_an_archive_is_not_gone_on_with_from_another_address(tmp_path, web, serve, tar):
    server, url = web
    server.faults[url.rpartition("/")[2]] = ["half", 404, 404]
    with pytest.raises(FailedDownload):
        get_imagenette(tmp_path / "data", url)
    (tmp_path / "mirror").mkdir()
    members = {name.replace("n01", "n03"): content for name, content in _members(tmp_path).items()}
    tar("mirror/imagenette2-320.tgz", members)
    folder = get_imagenette(tmp_path / "data", f"{serve(tmp_path / 'mirror').url}/imagenette2-320.tgz")
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["n02", "n03"]


def test_imagenette_from_archives_that_were_joined_is_whole(tmp_path, tar):
    members = {name.replace("n02", "caf\u00e9"): content for name, content in _members(tmp_path).items()}
    parts = [{name: content for name, content in members.items() if f"/{split}/" in name} for split in ("train", "val")]
    joined = b"".join(tar(f"{number}.tgz", part).read_bytes() for number, part in enumerate(parts))
    (tmp_path / "both.tgz").write_bytes(joined)
    folder = get_imagenette(tmp_path / "data", str(tmp_path / "both.tgz"))
    assert sorted(path.parent.name for path in folder.rglob("*.JPEG")) == ["café", "café", "n01", "n01"]


@pytest.mark.parametrize("there", ["here", "on the web"])
def test_a_page_in_place_of_an_archive_is_said_to_be_one(tmp_path, web, there):
    server, url = web
    (tmp_path / "web" / url.rpartition("/")[2]).write_bytes(b"<!doctype html>\n<title>Too many requests</title>")
    source = url if there == "on the web" else str(tmp_path / "web" / url.rpartition("/")[2])
    with pytest.raises(DataError, match=r"\.tgz: .*got:? a web page that begins with '<!doctype html> <title>Too many"):
        get_imagenette(tmp_path / "data", source)
    assert not list((tmp_path / "data").rglob("*.tgz*"))


def test_an_archive_that_a_crash_left_empty_is_downloaded_again(tmp_path, web):
    folder = tmp_path / "data" / "imagenette.part" / ARCHIVES
    folder.mkdir(parents=True)
    (folder / local_name(web[1])).write_bytes(b"")
    assert len(list(get_imagenette(tmp_path / "data", web[1]).rglob("*.JPEG"))) == 4


@pytest.mark.parametrize("how", ["truncated", "damaged", "no archive", "wrong content", "missing", "no tars"])
def test_a_bad_source_leaves_no_half_built_folder(tmp_path, tar, how, capsys):
    source = tar("source.tgz", _members(tmp_path) if how != "wrong content" else {"a/b.txt": b"x"})
    if how == "truncated":
        source.write_bytes(source.read_bytes()[:300])
    elif how == "damaged":
        content = bytearray(source.read_bytes())
        content[-8:-4] = bytes(4)  # the checksum of the whole
        source.write_bytes(content)
    elif how == "no archive":
        source.write_bytes(b"hello")
    elif how == "missing":
        source = tmp_path / "nowhere.tgz"
    elif how == "no tars":
        source = tmp_path / "empty"
        source.mkdir()
    assert script.main(["--source", str(source), "--data_root", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert _left(tmp_path / "data") == []


def test_an_archive_cannot_write_outside_its_folder(tmp_path, tar):
    source = tar("hostile.tar", {"../../escaped.txt": b"x", **_members(tmp_path)})
    with pytest.raises(DataError, match=r"hostile\.tar"):
        get_imagenette(tmp_path / "data", str(source))
    assert not list(tmp_path.rglob("escaped.txt"))


def test_data_that_is_there_is_not_replaced(tmp_path, tar):
    source = tar("source.tar", _members(tmp_path))
    get_imagenette(tmp_path / "data", str(source))
    with pytest.raises(DataError, match="exists already"):
        get_imagenette(tmp_path / "data", str(source))
