"""Which output of a network stands for which class of a data set: by name, never by the order of folders alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msun_lite.data import DataSet, Relabelled, imagenet_classes
from msun_lite.networks import MSUN
from msun_lite.utils.errors import DataError, UserError, printable


def match_classes(data: DataSet, *models: MSUN, say: Callable[[str], None] = print) -> DataSet:
    """Return the data set with the labels that the models' outputs have.

    A model that knows the names of its classes gets them by name, in whatever order the data set has them; the data set
    may have some of them alone, which is said by `say`, and then its `classes` are the model's. Where no names are
    known the order of the data set counts; class names that are all whole numbers are put in the order of the numbers,
    if that is not the one they have as text, and `say` is told so. So are the numbers 0 to 999 or 1 to 1000 where a
    model knows ImageNet's classes.

    Raises:
        DataError: if there are classes that a model lacks, or fewer than it has and their names are not known; if the
            models' are in different orders, or the names are numbers of which nothing tells the order.
    """
    outputs = [_outputs(model, data, say) for model in models[:1]]
    outputs += [_outputs(model, data, lambda line: None) for model in models[1:]]
    if any(other != outputs[0] for other in outputs):
        raise DataError(f"{data.name}: expected networks whose classes are in one order, got several")
    if not outputs or outputs[0] == list(range(len(data.classes))):
        return data
    train, val = (Relabelled(source, outputs[0]) for source in (data.train, data.val))
    count = models[0].spec["classes"]
    if len(data.classes) < count:
        say(f"{data.name}: has {len(data.classes):,} of the network's {count:,} classes")
        names = tuple(models[0].spec["class_names"])
        return replace(data, classes=names, train=train, val=val, present=tuple(sorted(outputs[0])))
    classes = tuple(name for _, name in sorted(zip(outputs[0], data.classes, strict=True)))
    return replace(data, classes=classes, train=train, val=val)


def _outputs(model: MSUN, data: DataSet, say: Callable[[str], None]) -> list[int]:
    """Return the model's output for each class of the data set."""
    count, names, classes = model.spec["classes"], model.spec.get("class_names"), list(data.classes)
    if names is None and len(classes) != count:
        raise DataError(f"{data.name}: expected {count} classes as the model has, got {len(classes)}")
    by_number = len(classes) == count and _are_numbers(classes) and tuple(names or ()) == imagenet_classes()
    if names is None or by_number:  # shards of ImageNet know its classes by their numbers
        names = _in_order_of_numbers(data, say)
    if not set(classes) <= set(names) and _are_numbers(names) and _are_numbers(classes):
        names, classes = ([str(int(name)) for name in some] for some in (names, classes))  # 007 is 7
    _refuse_others(data.name, classes, names)
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in classes]


def _refuse_others(data: str, classes: Sequence[str], names: Sequence[str]) -> None:
    """Raise a `DataError` for classes of the data that are not among a model's, or there twice."""
    wrong = [name for place, name in enumerate(classes) if name not in names or name in classes[:place]]
    if not wrong:
        return
    hint = "; say by --class_names which they are" if _are_numbers(names) or _are_numbers(classes) else ""
    if len(classes) == len(names):
        right = next((name for name in names if name not in classes), names[0])
        raise DataError(f"{data}: expected the model's classes, such as {right!r}, got {wrong[0]!r} in its place{hint}")
    named = ", ".join(map(repr, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
    expected = f"expected some of the model's {len(names)} classes, such as {names[0]!r}"
    raise DataError(f"{data}: {expected}, got {len(wrong)} that it lacks: {named}{hint}")


def _in_order_of_numbers(data: DataSet, say: Callable[[str], None]) -> list[str]:
    classes = list(data.classes)
    if not _are_numbers(classes) or classes == sorted(classes, key=int):
        return classes
    numbers = sorted(map(int, classes))
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise DataError(
            f"{data.name}: expected numbers from 0 or 1 on, or names, as classes of a network that knows no names, "
            f"got {', '.join(classes[:3])} ..., of which nothing tells the order; say it by --class_names"
        )
    say(f"{data.name}: its classes are numbers and taken in their order: {numbers[0]}, {numbers[1]}, ... {numbers[-1]}")
    return sorted(classes, key=int)


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdigit() for name in names)


def read_class_names(path: Path, count: int) -> list[str]:
    """Return the names in a text file, a line for each of a model's `count` outputs.

    Raises:
        UserError: naming the file, if there are others than so many, or one twice.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{printable(path)}: expected a text file with a class a line, got: {error}") from None
    if len(names) != count or len(set(names)) != count:
        raise UserError(f"{printable(path)}: expected {count} different classes, a line each, got {len(set(names))}")
    return names
