import json
import os
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from data_scripts import make_shards
from msun_lite.data.class_folders import read_class_folder, skipped_files
from msun_lite.data.named import load_data
from msun_lite.utils.errors import DataError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_ordinary_folders_are_read_in_the_order_of_image_folder(tmp_path):
    names = ("b.jpg", "a.PNG", "B.JPEG", "a-b/z.png", "a/z.png", "a/deep/er/x.webp", "a.b/y.tiff", "10.ppm", "9.pgm")
    touch(*(tmp_path / kind / name for kind in ("9", "10", "Z", "a", "é", "a b") for name in names))
    found, expected = read_class_folder(tmp_path), ImageFolder(str(tmp_path))
    assert found.classes == expected.classes
    assert found.samples == expected.samples
    assert not found.skipped


def test_every_format_that_is_decoded_is_found_whatever_the_case_of_its_ending(tmp_path):
    endings = ("gif", "jfif", "JPE", "avif", "jp2", "MPO", "qoi", "pbm", "apng", "dib")
    touch(*(tmp_path / "a" / f"x.{ending}" for ending in endings))
    found = read_class_folder(tmp_path)
    assert {Path(path).suffix[1:] for path, _ in found.samples} >= set(endings) - {"avif"}  # an older Pillow has none
    assert len(found.samples) + found.skipped.total() == len(endings)


def test_what_is_skipped_is_counted_by_kind(tmp_path):
    touch(tmp_path / "a" / "0.jpg", *(tmp_path / "a" / f"{index}.HEIC" for index in range(30)))
    touch(*(tmp_path / "a" / "more" / f"{index}.txt" for index in range(6)), tmp_path / "a" / "README")
    touch(tmp_path / "list.csv", tmp_path / "beside.jpg", tmp_path / "a" / "1.jpg\x1b[31m")
    skipped = read_class_folder(tmp_path).skipped
    assert skipped_files(skipped) == (
        r"40 files skipped: 30 .heic, 6 .txt, 1 .csv, 1 .jpg\x1b[31m, 1 outside of the class folders, "
        "1 without an ending"
    )


def test_hidden_files_and_folders_are_neither_classes_nor_images(tmp_path):
    touch(tmp_path / "a" / "0.jpg", tmp_path / "a" / "._0.jpg", tmp_path / "a" / ".ipynb_checkpoints" / "0.jpg")
    touch(tmp_path / ".ipynb_checkpoints" / "0.jpg", tmp_path / "__MACOSX" / "a" / "0.jpg", tmp_path / ".DS_Store")
    touch(tmp_path / "a" / "deep" / ".git" / "0.jpg", tmp_path / "a" / "Thumbs.db", tmp_path / "@eaDir" / "0.jpg")
    found = read_class_folder(tmp_path)
    assert found.samples == [(str(tmp_path / "a" / "0.jpg"), 0)]
    assert found.classes == ["a"]
    assert not found.skipped


def test_links_add_what_lies_elsewhere_and_nothing_twice(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    touch(data / "a" / "0.jpg", data / "a" / "deep" / "1.jpg", data / "b" / "4.jpg")
    touch(other / "2.jpg", tmp_path / "3.jpg")
    (data / "a" / "loop").symlink_to(data / "a")
    (data / "a" / "up").symlink_to(data)
    (data / "a" / "aa").symlink_to(data / "a" / "deep")
    (data / "a" / "deep" / "other").symlink_to(other)
    (data / "a" / "other").symlink_to(other)
    (data / "a" / "3.jpg").symlink_to(tmp_path / "3.jpg")
    (data / "a" / "3 again.jpg").symlink_to(data / "a" / "3.jpg")
    (data / "a" / "0 again.jpg").symlink_to("0.jpg")
    (data / "a" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (data / "a" / "itself.jpg").symlink_to("itself.jpg")
    (data / "all").symlink_to(data)
    (data / "c").symlink_to(other)
    found = read_class_folder(data)
    assert found.classes == ["a", "b", "c"]
    paths = [(str(Path(path).relative_to(data)), label) for path, label in found.samples]
    assert paths == [
        ("a/0.jpg", 0),
        ("a/3 again.jpg", 0),
        ("a/itself.jpg", 0),
        ("a/lost.jpg", 0),
        ("a/deep/1.jpg", 0),
        ("a/other/2.jpg", 0),
        ("b/4.jpg", 1),
        ("c/2.jpg", 2),
    ]
    assert skipped_files(found.skipped) == "7 files skipped: 7 by links to what is read already"


def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    touch(tmp_path / "a" / "0.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "a" / "link.jpg").symlink_to("pipe.jpg")
    found = read_class_folder(tmp_path)
    assert len(found.samples) == 1
    assert skipped_files(found.skipped) == "2 files skipped: 2 that are no plain files"


def test_folders_without_classes_or_images_are_refused_with_what_was_skipped(tmp_path):
    touch(tmp_path / "0.jpg")
    with pytest.raises(DataError, match=r"found none; 1 file skipped: 1 outside of the class folders"):
        read_class_folder(tmp_path)
    touch(tmp_path / "a" / "0.jpg", tmp_path / "b" / "0.heic", tmp_path / "b" / ".0.jpg")
    with pytest.raises(DataError, match=r"found none in b; 2 files skipped: 1 \.heic, 1 outside"):
        read_class_folder(tmp_path)


def test_names_that_are_not_utf8_are_read_and_shown_escaped(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff\n.png", "wb") as file:
        Image.new("RGB", (9, 8)).save(file, "PNG")
    found = read_class_folder(tmp_path)
    assert found.classes == [r"caf\xe9"]
    assert os.path.isfile(found.samples[0][0])


def test_a_data_set_says_what_it_skips_and_its_shards_do_too(photos, tiny, tmp_path, capsys):
    touch(photos / "train" / "cat" / "0.heic", photos / "val" / "dog" / "1.heic", photos / "val" / "dog" / "list.txt")
    said = "3 files skipped: 2 .heic, 1 .txt"
    load_data(tiny(data=str(photos)))
    assert capsys.readouterr().out.startswith(f"photos: {said}\n")
    assert make_shards.main([str(photos), str(tmp_path / "out"), "--workers=1"]) == 0
    assert said in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["skipped"] == {".heic": 2, ".txt": 1}
    load_data(tiny(data=f"wds:{tmp_path / 'out'}"))
