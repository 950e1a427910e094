import hashlib
import multiprocessing
import os
import re
import socket
import time

import pytest
import torch

from msun_lite.data import downloads
from msun_lite.data.downloads import DownloadCache, MissingFile, download, read_url
from msun_lite.data.loaders import TrainView
from msun_lite.data.named import load_data
from msun_lite.train.__main__ import main
from msun_lite.train.batches import train_loader
from msun_lite.utils.errors import DataError, redact_secrets


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (0, 0, 0))


@pytest.fixture
def web(shards, serve, tiny, tmp_path):
    """Return the server of the shards, and a function that opens them from there."""
    server = serve(shards)

    def load(pattern="", **options):
        root = str(tmp_path / "data")
        return load_data(tiny(data=f"wds:{server.url}{pattern}", data_root=root, cache=False, **options))

    return server, load


def _cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "data" / "shards-cache").glob("*.tar"))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_from_the_web_are_those_of_the_folder_each_fetched_once(web, shards, tiny, workers):
    server, load = web
    here, there = load_data(tiny(data=f"wds:{shards}", cache=False)), load()
    assert (here.fingerprint, here.classes) == (there.fingerprint, there.classes)
    config = tiny(batch_size=4, workers=workers)
    batches = []
    for data in (here, there):
        view = TrainView(data.train, 16, seed=0, crop_min=0.35, flip=True)
        batches.append([batch for epoch in (0, 1) for batch in train_loader(view, config, epoch)])
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))
    assert sorted(server.requests) == ["index.npy", "manifest.json"] + [f"train-{n:06d}.tar" for n in range(3)]


def test_foreign_shards_from_the_web_are_downloaded_and_scanned_once(web, shards, tmp_path):
    server, load = web
    (shards / "manifest.json").unlink()
    pattern = "/{train-{000000..000002},val-{000000..000001}}.tar"
    for _ in range(2):
        data = load(pattern)
        assert [len(data.train), len(data.val), data.val.read(5).shape[0]] == [12, 6, 3]
    assert sorted(server.requests) == ["manifest.json"] * 2 + sorted(path.name for path in shards.glob("*.tar"))
    assert len(_cached(tmp_path)) == 5


PAGE = b"<html><body>No such file</body></html>"


@pytest.mark.parametrize(
    "answer", [403, 401, 410, PAGE, b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"]
)
def test_shards_are_scanned_whatever_a_server_answers_for_a_manifest_that_is_not_there(web, shards, answer):
    server, load = web
    (shards / "manifest.json").unlink()
    server.faults["manifest.json"] = [answer]
    assert len(load("/{train-{000000..000002},val-{000000..000001}}.tar").train) == 12


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, r"does not have it \(404\); shards without a manifest are named by a pattern such as 'wds:http://127"),
        (403, "does not give it: HTTP Error 403: .*; shards without a manifest are named by"),
        (PAGE, "expected a manifest of .*, got a web page that begins with '<html>"),
    ],
)
def test_a_manifest_that_is_not_there_is_one_line_where_no_shards_are_named(web, answer, message):
    server, load = web
    server.faults["manifest.json"] = [answer]
    with pytest.raises(DataError, match=rf"^{server.url}/manifest\.json: .*{message}"):
        load()


def test_a_page_in_the_place_of_a_shard_is_said_to_be_one(web, shards):
    server, load = web
    (shards / "manifest.json").unlink()
    server.faults["val-000000.tar"] = [PAGE] * 4
    with pytest.raises(DataError, match=r"val-000000\.tar: .* expected the file, got a web page that begins with"):
        load("/{train-000000,val-000000}.tar")


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("how", ["empty", "cut", "damaged"])
def test_copies_that_were_damaged_since_they_came_are_fetched_anew(web, shards, tmp_path, named, how):
    server, load = web
    if named:
        (shards / "manifest.json").unlink()
    pattern = "/{train-{000000..000002},val-{000000..000001}}.tar" if named else ""
    right = [load(pattern).val.read(index) for index in range(6)]
    for path in (tmp_path / "data" / "shards-cache").rglob("*.[tnj]*"):
        content = path.read_bytes()
        damaged = bytes(len(content)) if how == "damaged" else content[: len(content) // 2]
        path.write_bytes(b"" if how == "empty" else damaged)
    asked = len(server.requests)
    source = load(pattern).val
    assert all(torch.equal(source.read(index), image) for index, image in enumerate(right))
    assert {"val-000000.tar", "val-000001.tar"} <= set(server.requests[asked:])


def test_user_and_password_are_taken_from_netrc_and_shown_nowhere(serve, tmp_path, monkeypatch, capfd):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.tar").write_bytes(b"1")
    server = serve(tmp_path / "www")
    download(f"{server.url}/a.tar?signature=secret", tmp_path)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\nmachine other login you password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    download(f"{server.url}/a.tar?signature=secret2", tmp_path)
    assert server.users == ["Basic bWU6c2VjcmV0"]
    server.faults["a.tar"] = [403]
    with pytest.raises(MissingFile, match=r"a\.tar\?\*\*\*: the download failed, the server does not give it") as error:
        download(f"{server.url}/a.tar?signature=secret3", tmp_path)
    assert "secret" not in "".join([str(error.value), *capfd.readouterr()])


ADDRESSES = (
    "https://me:secret@host/a",
    "https://me:sec@ret@host:80/a",
    "https://me:s/ecret@host/a",
    "https://me:s?ecret@host/a",
    "http://me@host",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_password_is_refused_before_anything_keeps_or_shows_it(address, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pattern in (address, f"{{train,{address}}}.tar", f"{address}/{{train"):
        assert main(["--data", f"wds:{pattern}", "--out", str(tmp_path / "run")]) == 2
        said = capfd.readouterr().err
        assert "***@" in said or "brace" in said
        assert not {"secret", "sec", "ret@", "me:"} & set(re.findall(r"\w+[@:]?", said))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"://\*\*\*@host.*: refused|expected an address"):
        download(address, tmp_path)


def test_only_the_secrets_of_an_address_are_hidden():
    for plain in (
        "http://host:80/@me/a",
        "wds:https://host/{a,b}.tar",
        "what?",
        "a@b: no such file",
        "http://[::1]:8/",
    ):
        assert redact_secrets(plain) == plain
    assert redact_secrets("https://u:p@h/a?X-Amz=1: (see http://h?b)") == "https://***@h/a?***: (see http://h?***)"


def test_a_scan_that_stopped_goes_on_with_what_it_has(web, shards):
    server, load = web
    (shards / "manifest.json").unlink()
    server.faults["val-000000.tar"] = [404]
    with pytest.raises(DataError, match=r"val-000000\.tar.*does not have it"):
        load("/{train-{000000..000002},val-{000000..000001}}.tar")
    load("/{train-{000000..000002},val-{000000..000001}}.tar")
    assert server.requests.count("train-000000.tar") == 1


@pytest.mark.parametrize("fault", [503, 429, "half", "damage"])
def test_a_broken_download_is_tried_again(web, fault, tmp_path):
    server, load = web
    server.faults["val-000000.tar"] = [fault, fault]
    assert load().val.read(0).shape == (3, 20, 24)
    assert server.requests.count("val-000000.tar") == 3
    assert len(_cached(tmp_path)) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (503, " 4 times, the last time: .*503"),
        ("half", r" 4 times, the last time: expected \d+ bytes, got \d+"),
        ("damage", " 4 times, the last time: expected the sha256"),
        (404, ", the server does not have it"),
        (403, ", the server does not give it: .*403"),
        (
            b"<!DOCTYPE html>\n<html>Log in",
            " 4 times, .*: expected the file, got a web page that begins with '<!DOCTYPE",
        ),
    ],
)
def test_a_download_that_stays_broken_is_one_line_with_the_address(web, tmp_path, fault, message):
    server, load = web
    server.faults["val-000000.tar"] = [fault] * 10
    with pytest.raises(DataError, match=rf"^{server.url}/val-000000.tar: the download failed{message}"):
        load().val.read(0)
    left = [path for path in (tmp_path / "data" / "shards-cache").iterdir() if not path.name.endswith(".lock")]
    assert [path.suffix for path in left] == [".npy"]


def test_an_error_in_a_worker_process_is_one_line_and_the_run_goes_on_later(web, tmp_path, capsys):
    server, _ = web
    server.faults["train-000001.tar"] = [503] * 10
    options = ["--data", f"wds:{server.url}", "--data_root", str(tmp_path / "data"), "--cache", "false"]
    options += [
        "--workers",
        "2",
        "--scales",
        "8,16",
        "--sizes",
        "8",
        "--batch_size",
        "4",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["--preset", "quick", *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {server.url}/train-000001.tar: the download failed 4 times")
    assert "Traceback" not in error
    server.faults.clear()
    assert main(["--out", str(tmp_path / "run"), "--resume"]) == 0
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_server_that_is_not_there_is_named(tiny, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=rf"http://127\.0\.0\.1:{port}/manifest\.json: the download failed 4 times"):
        load_data(tiny(data=f"wds:http://127.0.0.1:{port}", data_root=str(tmp_path)))


def test_another_file_at_the_same_address_is_another_copy(serve, tmp_path):
    server, cache = serve(tmp_path / "www"), DownloadCache(tmp_path / "cache", 1000)
    (tmp_path / "www").mkdir()
    for content in (b"old", b"new"):
        (tmp_path / "www" / "a.tar").write_bytes(content)
        assert cache.fetch(f"{server.url}/a.tar", hashlib.sha256(content).hexdigest(), 3).read_bytes() == content


def test_the_least_recently_used_files_make_room(serve, tmp_path):
    server, cache = serve(tmp_path / "www"), DownloadCache(tmp_path / "cache", 3500)
    (tmp_path / "www").mkdir()
    urls = [f"{server.url}/{number}.tar" for number in range(4)]
    for number in range(4):
        (tmp_path / "www" / f"{number}.tar").write_bytes(bytes(1000))
    for number in range(3):
        os.utime(cache.fetch(urls[number]), (number, number))
    cache.fetch(urls[0])
    cache.fetch(urls[3])
    assert [cache.place(url).exists() for url in urls] == [True, False, True, True]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 3500
    (tmp_path / "www" / "big.tar").write_bytes(bytes(4000))
    with pytest.raises(DataError, match=r"big\.tar: expected at most"):
        cache.fetch(f"{server.url}/big.tar")


def test_what_a_killed_download_left_is_removed(serve, tmp_path):
    server, cache = serve(tmp_path / "www"), DownloadCache(tmp_path / "cache", 2000)
    (tmp_path / "www").mkdir()
    cache.folder.mkdir()
    (tmp_path / "www" / "a.tar").write_bytes(bytes(1000))
    url = f"{server.url}/a.tar"
    own, other = cache.folder / f".{cache.place(url).name}.part-x", cache.folder / ".other.tar.part-x"
    for path in (own, other):
        path.write_bytes(bytes(1500))
    os.utime(other, (time.time() - 2 * downloads.ABANDONED,) * 2)
    cache.fetch(url)
    assert not own.exists()
    assert not other.exists()


def _fetch(cache, url, start):
    start.wait()
    cache.fetch(url)


def test_processes_that_want_the_same_file_share_one_download(serve, tmp_path):
    server, cache = serve(tmp_path / "www"), DownloadCache(tmp_path / "cache", 10**7)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.tar").write_bytes(os.urandom(2_000_000))
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=_fetch, args=(cache, f"{server.url}/a.tar", start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert server.requests == ["a.tar"]


def test_a_shard_removed_while_it_is_opened_is_fetched_again(web, monkeypatch):
    server, load = web
    source, fetch, removed = load().val, DownloadCache.fetch, []

    def fetch_and_remove(self, url, *arguments):
        path = fetch(self, url, *arguments)
        if not removed:
            removed.append(path.unlink())
        return path

    monkeypatch.setattr(DownloadCache, "fetch", fetch_and_remove)
    assert source.read(0).shape == (3, 20, 24)
    assert server.requests.count("val-000000.tar") == 2


def test_a_limit_that_could_not_hold_the_shards_in_use_is_refused(web):
    _, load = web
    with pytest.raises(DataError, match=r"shards_gb: expected at least .* got 2e-05"):
        load(shards_gb=0.00002)


def test_hostile_shards_from_the_web_are_refused_and_not_kept(serve, tar, tiny, tmp_path):
    (tmp_path / "www").mkdir()
    tar("www/train.tar", {"../0.jpg": b"x"})
    tar("www/val.tar", {"../0.jpg": b"x"})
    server = serve(tmp_path / "www")
    with pytest.raises(DataError, match=r"^http://.*/train\.tar: refused the member '\.\./0\.jpg'"):
        load_data(tiny(data=f"wds:{server.url}/{{train,val}}.tar", data_root=str(tmp_path / "data")))
    assert _cached(tmp_path) == []


def test_a_small_file_is_read_or_named(serve, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    server = serve(tmp_path)
    server.faults["a.json"] = [500, "half"]
    assert read_url(f"{server.url}/a.json") == b"{}"
    with pytest.raises(MissingFile, match=r"b\.json"):
        read_url(f"{server.url}/b.json")
