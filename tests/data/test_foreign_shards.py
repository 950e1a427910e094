"""Shards as others make them: read to the last image, or refused with what is wrong in one line."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from msun_lite.data.images import UnreadableImage
from msun_lite.data.named import load_data
from msun_lite.train.run import train
from msun_lite.utils.errors import DataError


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


@pytest.mark.parametrize("text", [b"1\n", b" 01\t", b"\xef\xbb\xbf1\r\n"])
def test_a_class_is_a_number_however_an_editor_left_it(tar, streamed, tmp_path, text):
    for split in ("train", "val"):
        tar(f"{split}.tar", {"./a/0.JPEG": _jpeg(), "./a/0.CLS": text})
    assert list(streamed(f"{tmp_path}/{{train,val}}.tar").train.labels) == [1]


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
    lines = [line for line in capsys.readouterr().out.splitlines() if "the shorter sides" not in line]
    assert said in "".join(lines)
    assert len(lines) == bool(said)


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
        ({"7.jpg": b"", "7.json": b'{"id": 3, "text": "a"}'}, 'got \'no "label" or "cls" beside id, text in its'),
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


def test_an_index_of_pickles_is_refused(shards, streamed):
    content = _pickled()
    (shards / "index.npy").write_bytes(content)
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["index"]["sha256"] = hashlib.sha256(content).hexdigest()
    (shards / "manifest.json").write_text(json.dumps(manifest))
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
