"""Numbers, seeds and lists in words."""

from collections.abc import Mapping, Sequence
from statistics import mean

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def describe_difference(values: Sequence[float], least: float) -> str:
    """Return differences, one a seed, in words: `1.6 points (1.3 to 1.9 over two seeds), which may be chance`.

    They may be if their mean is no more than `least`.
    """
    return describe_points(values) + (", which may be chance" if abs(mean(values)) <= least else "")


def describe_points(values: Sequence[float]) -> str:
    """Return differences, one a seed, in words: their mean, and their range over seeds: `2.0 points (one seed)`."""
    if len(values) == 1:
        return f"{_signed(values[0])} points (one seed)"
    ends = f"{_signed(min(values))} to {_signed(max(values))}"
    return f"{_signed(mean(values))} points ({ends} over {seed_count(len(values))})"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0:.1f}".replace("-", "−")  # adding 0 makes 0 of -0


def signed(value: float, digits: int = 1) -> str:
    """Return a difference as text, with its sign: `+1.5`."""
    return f"{value:+.{digits}f}".replace("-", "−")


def number_word(count: int) -> str:
    """Return a count in words, above twelve in digits."""
    return _NUMBERS[count] if count < len(_NUMBERS) else f"{count}"


def seed_count(count: int) -> str:
    """Return a number of seeds in words: `two seeds`."""
    return f"{number_word(count)} {'seed' if count == 1 else 'seeds'}"


def describe_seeds(seeds: Mapping[str, int]) -> str:
    """Return how many seeds there are of some runs, by their names: `one seed of Vanilla, two of MST and MSUN`."""
    named: dict[int, list[str]] = {}
    for name, count in seeds.items():
        named.setdefault(count, []).append(name)
    (count, names), *others = named.items()
    if not others:
        return f"{seed_count(count)} each"
    parts = [
        f"{seed_count(count)} of {join_words(names)}",
        *(f"{number_word(more)} of {join_words(each)}" for more, each in others),
    ]
    return ", ".join(parts)


def join_words(words: Sequence[object]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def describe_sizes(sizes: Sequence[int], grid: Sequence[int]) -> str:
    """Return sizes in words: `from 32 to 56 px` if they follow each other in `grid`, else `at 16 and 112 px`."""
    if not sizes:
        return "at no size"
    first = list(grid).index(sizes[0])
    if len(sizes) > 2 and list(grid[first : first + len(sizes)]) == list(sizes):
        return f"from {sizes[0]} to {sizes[-1]} px"
    return f"at {join_words(sizes)} px"
