"""The data sets of Table III made small: tiny archives of their official layouts."""

import gzip
import hashlib
import io
import pickle
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from experiments.rehearse_imagenet import pack


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
    return gzip.compress(pack(members))


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
