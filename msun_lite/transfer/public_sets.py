"""The eleven data sets of Table III: what each is, how its files are fetched, and how they are read.

    data = open_set("cifar10", Path("data"))     # data/cifar10, put there by msun-lite data get_transfer
    data.train.read(0), data.train.labels[0]

A set lies in DATA_ROOT/NAME in its official layout. Images are normalised as the network wants them, whatever the set:
a frozen network must see what it was trained on. `val` is the test set. Where a set has a validation part beside it,
both it and the training part are trained on, as transfer benchmarks do (Kornblith et al., Do Better ImageNet Models
Transfer Better?, CVPR 2019); the paper does not say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchvision import datasets

from msun_lite.data import (
    BadImages,
    DataSet,
    FileSource,
    ImageSource,
    OfficialFile,
    fetch_file,
    install,
    unpack_file,
)
from msun_lite.transfer import readers
from msun_lite.transfer.readers import CALTECH_TEST, Splits
from msun_lite.utils.errors import DataError, UserError
from msun_lite.utils.files import listing_fingerprint


@dataclass(frozen=True)
class TransferSet:
    """A data set to transfer to.

    Args:
        title: what it is called, its column in Table III.
        size: size in pixels that its images are made: their own, or 224 where they have many.
        crop_ratio: side of the centre crop over the shorter side of a test image.
        classes: number of classes.
        train: number of training images.
        test: number of test images.
        splits: which images these are.
        licence: what its authors allow.
        source: where they say so.
        files: what to download.
        read: folder of the set -> classes, training and test images.
        by_hand: for a set that cannot be downloaded, what to do instead.
    """

    title: str
    size: int
    crop_ratio: float
    classes: int
    train: int
    test: int
    splits: str
    licence: str
    source: str
    files: tuple[OfficialFile, ...]
    read: Callable[[Path], Splits]
    by_hand: str = ""


def open_set(name: str, root: Path, bad_images: int = 10) -> DataSet:
    """Open a named data set of the data folder; its `val` is the test set.

    Args:
        name: a key of `SETS`.
        root: the data folder.
        bad_images: training images that may be unreadable.

    Raises:
        DataError: if it is not there, incomplete, or has other numbers of images and classes than it should.
    """
    folder = root / name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data set here; put it there with: {fetch_command(name, root)}")
    classes, train, test = read_set(name, folder)
    fingerprint = listing_fingerprint(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
    return DataSet(name, tuple(classes), train, test, fingerprint, BadImages(bad_images))


def fetch_set(name: str, root: Path, source: str | None = None) -> Path:
    """Put a named data set into the data folder, or check the one that is there; return its folder.

    Args:
        name: a key of `SETS`.
        root: the data folder.
        source: folder or address that has the official files, in place of the official addresses.

    Raises:
        DataError: if a file cannot be had, is not the official one, or the set is not complete then.
        UserError: for an unknown name, or a set that has to be put there by hand.
    """
    if name not in SETS:
        raise UserError(f"dataset: expected one of {', '.join(SETS)}, got {name!r}")
    about, folder = SETS[name], root / name
    if not folder.exists() and about.by_hand and (source is None or not about.files):
        raise UserError(f"{folder}: {about.title} cannot be downloaded: {about.by_hand}")

    def fill(part: Path, downloads: Path) -> None:
        paths = {file: fetch_file(file, downloads, source) for file in about.files}
        for file, path in paths.items():
            unpack_file(file, path, part)
        read_set(name, part)

    install(folder, fill)
    read_set(name, folder)
    return folder


def fetch_command(name: str, root: Path) -> str:
    """Return the command line that puts a named data set into the data folder."""
    return f"msun-lite data get_transfer {name} --data_root {root}"


def read_set(name: str, folder: Path) -> Splits:
    """Return classes, training and test images of a named data set that lies in `folder`, checked.

    Raises:
        DataError: if files are missing or damaged, or the numbers are not those of `SETS`.
        UserError: if the package scipy is needed and missing.
    """
    about = SETS[name]
    try:
        classes, train, test = about.read(folder)
    except ImportError:
        raise UserError(f"{name}: its labels need scipy: pip install 'msun-lite[transfer]'") from None
    except Exception as error:  # readers of foreign files raise nearly anything
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{folder}: expected {about.title} in its official layout, got: "
            f"{type(error).__name__}: {reason[0] if reason else ''}"
        ) from None
    for source in (train, test):
        _check_files(source)
    found, expected = (len(classes), len(train), len(test)), (about.classes, about.train, about.test)
    if found != expected:
        raise DataError(
            f"{folder}: expected {expected[0]} classes, {expected[1]} training and {expected[2]} test images of "
            f"{about.title}, got {found[0]}, {found[1]} and {found[2]}"
        )
    return classes, train, test


def _check_files(source: ImageSource) -> None:
    """Raise a `DataError` that names the first image that is not there."""
    paths = source.paths if isinstance(source, FileSource) else []
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise DataError(f"{missing[0]}: no such image, and {len(missing) - 1} others are missing")


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
_STANFORD = "https://ai.stanford.edu/~jkrause"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FASHION_RAW = "FashionMNIST/raw"

SETS: dict[str, TransferSet] = {
    "cifar10": TransferSet(
        "CIFAR-10",
        size=32,
        crop_ratio=1.0,
        classes=10,
        train=50_000,
        test=10_000,
        splits="official",
        licence="none stated",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        files=(
            OfficialFile("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        ),
        read=readers.cifar(datasets.CIFAR10),
    ),
    "cifar100": TransferSet(
        "CIFAR-100",
        size=32,
        crop_ratio=1.0,
        classes=100,
        train=50_000,
        test=10_000,
        splits="official",
        licence="none stated",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        files=(
            OfficialFile(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"
            ),
        ),
        read=readers.cifar(datasets.CIFAR100),
    ),
    "stl10": TransferSet(
        "STL-10",
        size=96,
        crop_ratio=1.0,
        classes=10,
        train=5_000,
        test=8_000,
        splits="official, all ten folds",
        licence="none stated",
        source="https://cs.stanford.edu/~acoates/stl10/",
        files=(
            OfficialFile(
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb"
            ),
        ),
        read=readers.stl10,
    ),
    "caltech101": TransferSet(
        "Caltech",
        size=224,
        crop_ratio=0.875,
        classes=101,
        train=8_677 - 101 * CALTECH_TEST,
        test=101 * CALTECH_TEST,
        splits=f"{CALTECH_TEST} random images a class are the test set, no background class",
        licence="CC BY 4.0",
        source="https://data.caltech.edu/records/mzrjq-6wc02",
        files=(
            OfficialFile(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
                into="caltech101",
                member="caltech-101/101_ObjectCategories.tar.gz",
            ),
        ),
        read=readers.caltech101,
    ),
    "fashion_mnist": TransferSet(
        "Fashion",
        size=28,
        crop_ratio=1.0,
        classes=10,
        train=60_000,
        test=10_000,
        splits="official; grey to RGB",
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        files=(
            OfficialFile(
                f"{_FASHION}/train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", into=_FASHION_RAW
            ),
            OfficialFile(
                f"{_FASHION}/train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", into=_FASHION_RAW
            ),
            OfficialFile(
                f"{_FASHION}/t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", into=_FASHION_RAW
            ),
            OfficialFile(
                f"{_FASHION}/t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", into=_FASHION_RAW
            ),
        ),
        read=readers.fashion,
    ),
    "flowers102": TransferSet(
        "Flowers",
        size=224,
        crop_ratio=0.875,
        classes=102,
        train=2_040,
        test=6_149,
        splits="official, training and validation joined",
        licence="none stated",
        source=f"{_OXFORD}/flowers/102/",
        files=(
            OfficialFile(
                f"{_OXFORD}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", into="flowers-102"
            ),
            OfficialFile(
                f"{_OXFORD}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", into="flowers-102"
            ),
            OfficialFile(f"{_OXFORD}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", into="flowers-102"),
        ),
        read=readers.flowers102,
    ),
    "pets": TransferSet(
        "Pets",
        size=224,
        crop_ratio=0.875,
        classes=37,
        train=3_680,
        test=3_669,
        splits="official",
        licence="CC BY-SA 4.0",
        source=f"{_OXFORD}/pets/",
        files=(
            OfficialFile(
                f"{_OXFORD}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", into="oxford-iiit-pet"
            ),
            OfficialFile(
                f"{_OXFORD}/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f", into="oxford-iiit-pet"
            ),
        ),
        read=readers.pets,
    ),
    "stanford_cars": TransferSet(
        "Cars",
        size=224,
        crop_ratio=0.875,
        classes=196,
        train=8_144,
        test=8_041,
        splits="official",
        licence="research, not for commercial use",
        source=f"{_STANFORD}/cars/car_dataset.html",
        files=(
            OfficialFile(f"{_STANFORD}/cars/car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", into="stanford_cars"),
            OfficialFile(
                f"{_STANFORD}/car196/cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61", into="stanford_cars"
            ),
            OfficialFile(f"{_STANFORD}/car196/cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501", into="stanford_cars"),
            OfficialFile(
                f"{_STANFORD}/car196/cars_test_annos_withlabels.mat",
                "b0a2b23655a3edd16d84508592a98d10",
                into="stanford_cars",
            ),
        ),
        read=readers.stanford_cars,
        by_hand="its official addresses are gone; get car_devkit.tgz, cars_train.tgz, cars_test.tgz and "
        "cars_test_annos_withlabels.mat from a copy of it, and name their folder or address with --source",
    ),
    "aircraft": TransferSet(
        "Aircraft",
        size=224,
        crop_ratio=0.875,
        classes=100,
        train=6_667,
        test=3_333,
        splits="official, training and validation joined; classes are variants",
        licence="research, not for commercial use",
        source=f"{_OXFORD}/fgvc-aircraft/",
        # No checksum is published: the archive's own, and the numbers of images, must do.
        files=(OfficialFile(f"{_OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", None),),
        read=readers.aircraft,
    ),
    "dtd": TransferSet(
        "DTD",
        size=224,
        crop_ratio=0.875,
        classes=47,
        train=3_760,
        test=1_880,
        splits="the first of ten, training and validation joined",
        licence="research",
        source=f"{_OXFORD}/dtd/",
        files=(
            OfficialFile(f"{_OXFORD}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1", into="dtd"),
        ),
        read=readers.dtd,
    ),
    "rafdb": TransferSet(
        "RAF-DB",
        size=100,
        crop_ratio=1.0,
        classes=7,
        train=12_271,
        test=3_068,
        splits="official, basic emotions, aligned faces",
        licence="research, not for commercial use, on request",
        source="http://www.whdeng.cn/raf/model1.html",
        files=(),
        read=readers.rafdb,
        by_hand="its authors give it on request; put their folder `basic`, with Image/aligned/ unpacked from "
        "aligned.zip and EmoLabel/list_patition_label.txt, into it",
    ),
}
"""Name -> data set: the eleven of Table III."""
