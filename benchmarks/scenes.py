"""How fast scenes are drawn on one core, beside decoding JPEG photographs of 224 px.

    python benchmarks/scenes.py

Prints images a second (median, minimum and maximum of 7 rounds) and the ratio of the two, round by round.
"""

import io
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image

from msun_lite.data.scenes import draw

ROUNDS, IMAGES = 7, 300


def rate(function: Callable[[int], object]) -> float:
    """Return how often `function(index)` runs in a second."""
    start = time.perf_counter()
    for index in range(IMAGES):
        function(index)
    return IMAGES / (time.perf_counter() - start)


def median_and_range(values: list[float], digits: int = 0) -> str:
    """Return the median with minimum and maximum."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(1)
    buffer = io.BytesIO()
    Image.fromarray(draw(0, 224)).save(buffer, "JPEG", quality=90)

    def decode(_: int) -> None:
        Image.open(io.BytesIO(buffer.getvalue())).convert("RGB").load()

    drawn, decoded = [], []
    for _ in range(ROUNDS + 1):
        drawn.append(rate(lambda index: draw(index, 56)))
        decoded.append(rate(decode))
    drawn, decoded = drawn[1:], decoded[1:]  # the first round warms up
    print(f"drawing at 56 px:          {median_and_range(drawn)} images/s on one core")
    print(f"decoding JPEGs at 224 px:  {median_and_range(decoded)} images/s on one core")
    ratios = [a / b for a, b in zip(drawn, decoded, strict=True)]
    print(f"drawing over decoding:     {median_and_range(ratios, 2)}")


if __name__ == "__main__":
    main()
