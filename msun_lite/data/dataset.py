"""A data set: its images, classes and fingerprint, and what becomes of images that cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass

from msun_lite.data.sources import ImageSource
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.errors import DataError
from msun_lite.utils.progress import note


@dataclass(frozen=True)
class DataSet:
    """A data set ready for use, and what a record says of it.

    Args:
        name: what it is called.
        classes: by the numbers that labels are.
        train, val: its images.
        fingerprint: of what it is made of.
        bad_images: what is unreadable in training.
        present: the labels of the classes that it has, where `classes` are a network's that knows more; None: all.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSource
    val: ImageSource
    fingerprint: str
    bad_images: "BadImages"
    present: tuple[int, ...] | None = None

    def describe(self) -> dict:
        """Return name, number of classes and of images, and fingerprint, as summary.json has them."""
        return {
            "name": self.name,
            "classes": len(self.classes if self.present is None else self.present),
            "train": len(self.train),
            "val": len(self.val),
            "fingerprint": self.fingerprint,
        }


def refuse_unreadable(messages: Sequence[str]) -> None:
    """Raise a `DataError` that counts and names the unreadable images of an evaluation, if there are any."""
    if messages:
        named = "; ".join(messages[:10]) + ("; ..." if len(messages) > 10 else "")
        raise DataError(f"{len(messages)} unreadable image(s) to evaluate, expected none: {named}")


class BadImages:
    """Names and counts unreadable images, each once, and stops the run past a limit.

    Args:
        limit: how many there may be.
        world: the processes that each keep such a list of the same images; the first one prints.
    """

    def __init__(self, limit: int, world: World = ALONE):
        self.limit, self.world = limit, world
        self.seen: dict[str, None] = {}

    def add(self, message: str) -> None:
        """Note one unreadable image; raise a `DataError` once there are more than `limit`."""
        if message in self.seen:
            return
        self.seen[message] = None
        if len(self.seen) > self.limit:
            raise DataError(
                f"{len(self.seen)} unreadable image(s), expected at most {self.limit}: {'; '.join(self.seen)}"
            )
        if self.world.first:
            note(f"left out unreadable image {len(self.seen)} (limit {self.limit}): {message}")
