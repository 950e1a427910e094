"""Example photographs that come with other packages, freely licensed; none is in this one."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Photograph:
    """A photograph to try networks on.

    Args:
        name: of its file in a page, with the ending.
        file: where it lies.
        title: what is on it, in a word or two.
        labels: names of classes that it is of, the closest first: another network may know another. Empty where neither
            Imagenette nor ImageNet has one.
        credit: who took it, and its licence.
        source: the address of the original.
    """

    name: str
    file: Path
    title: str
    labels: tuple[str, ...]
    credit: str
    source: str


def find_photographs() -> list[Photograph]:
    """Return the photographs of those of the packages that are installed: scikit-learn's two, and Matplotlib's."""
    learn, plots = _folder("sklearn", "datasets", "images"), _folder("matplotlib", "mpl-data", "sample_data")
    attribution, domain = "CC BY 2.0", "public domain"
    known = [
        Photograph(
            "china.jpg",
            learn / "china.jpg",
            "a temple",
            ("palace", "church"),
            f"danielbuechele, {attribution}",
            "https://www.flickr.com/photos/danielbuechele/6061409035/",
        ),
        Photograph(
            "flower.jpg",
            learn / "flower.jpg",
            "a flower",
            (),
            f"vultilion, {attribution}",
            "https://www.flickr.com/photos/vultilion/6056698931/",
        ),
        Photograph(
            "hopper.jpg",
            plots / "grace_hopper.jpg",
            "Grace Hopper",
            ("military uniform",),
            f"James S. Davis, U.S. Navy, {domain}",
            "https://commons.wikimedia.org/wiki/File:Grace_Hopper.jpg",
        ),
    ]
    return [photograph for photograph in known if photograph.file.is_file()]


def _folder(package: str, *inside: str) -> Path:
    """Return a folder of a package, found without importing it; one that is not there if the package is not."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent.joinpath(*inside) if found and found.origin else Path("/nonexistent")
