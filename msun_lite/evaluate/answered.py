"""What a network answers to each image of a measurement: which classes it takes for which, and how sure it is of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msun_lite.data import ImageSource


@dataclass(frozen=True)
class Answered:
    """The answers of a measurement: R of them, to N images of C classes, in G groups of sizes.

    Args:
        names: [N], where each image is from.
        classes: [C], in words.
        labels: [N], the class of each image.
        groups: [G], what the sizes are called: `16 px`, or `16-22 px` where images have sizes of their own.
        image, group, size, scale, answer: [R], which image, group, size in pixels, subnet and class it is.
        confidence: [R], the probability of that class by the softmax of the logits, 0 to 1.
    """

    names: Sequence[str]
    classes: Sequence[str]
    labels: Tensor
    groups: Sequence[str]
    image: Tensor
    group: Tensor
    size: Tensor
    scale: Tensor
    answer: Tensor
    confidence: Tensor

    @property
    def label(self) -> Tensor:
        """The class of the image of each answer, [R]."""
        return self.labels[self.image]

    @property
    def right(self) -> Tensor:
        """Whether each answer is right, [R]."""
        return self.answer == self.label

    def confusion(self, group: int) -> Tensor:
        """Return how many images of a group of each class (row) are taken for each class (column): [C, C]."""
        inside, count = self.group == group, len(self.classes)
        return (self.label[inside] * count + self.answer[inside]).bincount(minlength=count**2).view(count, count)

    def class_accuracy(self) -> Tensor:
        """Return the share of each class's images that are answered rightly, in percent: [G, C]; nan where none are."""
        counts = [self.confusion(group) for group in range(len(self.groups))]
        return torch.stack([100 * table.diag().double() / table.sum(1) for table in counts])

    def mistakes(self, group: int, count: int) -> Tensor:
        """Return which answers of a group are wrong, the surest first: at most `count`."""
        wrong = ((self.group == group) & ~self.right).nonzero().flatten()
        return wrong[self.confidence[wrong].argsort(descending=True, stable=True)[:count]]


@dataclass
class AnswerLog:
    """Takes the answers of a measurement as they come; `table` makes `Answered` of them."""

    _rows: list[Tensor] = field(default_factory=list)
    _confidences: list[Tensor] = field(default_factory=list)

    def add(self, images: Sequence[int], size: int, scale: int, logits: Tensor) -> None:
        """Note what the subnet of `scale` answers to `images`, by their numbers, at a size: logits [B, classes]."""
        confidence, answer = logits.float().softmax(1).max(1)
        numbers = torch.tensor(images), *(torch.full((len(images),), one) for one in (size, scale)), answer.cpu()
        self._rows.append(torch.stack(numbers))
        self._confidences.append(confidence.double().cpu())

    def table(self, source: ImageSource, classes: Sequence[str], ranges: dict[str, tuple[int, int]]) -> Answered:
        """Return the answers, in the order of sizes, then of images.

        Args:
            source: the images.
            classes: in words.
            ranges: the name of each group -> its smallest and its largest size.
        """
        rows, confidence = torch.cat(self._rows, dim=1), torch.cat(self._confidences)
        group = torch.stack([(low <= rows[1]) & (rows[1] <= high) for low, high in ranges.values()]).int().argmax(0)
        order = (group * (int(rows[0].max()) + 1) + rows[0]).argsort()
        image, size, scale, answer = rows[:, order]
        about = group[order], size, scale, answer, confidence[order]
        names = [source.name(index) for index in range(len(source))]
        return Answered(names, classes, torch.tensor(source.labels), list(ranges), image, *about)
