"""The built-in images: ten drawn things, each with a shape and a weave of its own. No files, no download.

Both carry the class. The *shape* (a crescent, a ring, a fir) fills the picture and survives in a
handful of pixels. The *weave* (stripes, checks, bricks) has about a dozen periods across the picture:
plain to see at 56 px, at its limit at 32 px, below two pixels a period and so gone at 20 px. Colours say
nothing about the class. A network that sees only large, randomly cropped images comes to lean on the
weave, which every crop shows, and is lost without it: scale matters here for a reason one can point at.

A scene is a pure function of (seed, split, index). Its class is index modulo 10.
"""

import colorsys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from msun_lite.utils.progress import progress

SPLITS = ("train", "val")
PERIODS = (11.0, 13.0)
"""Periods of a weave across the picture, from and to."""

Field = np.ndarray
"""One number a pixel, [size, size], float32."""


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _disc(x: Field, y: Field, radius: float, cx: float = 0.0, cy: float = 0.0) -> Field:
    return np.hypot(x - cx, y - cy) - radius


def _moon(x: Field, y: Field) -> Field:
    return np.maximum(_disc(x, y, 0.80), -_disc(x, y, 0.66, cx=0.42, cy=-0.10))


def _sun(x: Field, y: Field) -> Field:
    return _disc(x, y, 0.72)


def _doughnut(x: Field, y: Field) -> Field:
    return np.abs(_disc(x, y, 0.55)) - 0.23


def _fir(x: Field, y: Field) -> Field:
    crown = np.maximum(0.87 * np.abs(x) - 0.50 * (y + 0.86), y - 0.42)
    return np.minimum(crown, _box(x, y - 0.60, 0.15, 0.24))


def _fish(x: Field, y: Field) -> Field:
    body = (np.hypot((x - 0.16) / 0.70, y / 0.46) - 1.0) * 0.48
    tail = np.maximum(np.abs(y) - 0.95 * (-0.28 - x), -0.88 - x)
    return np.minimum(body, tail)


def _butterfly(x: Field, y: Field) -> Field:
    return np.maximum(0.75 * (np.abs(y) - 0.95 * np.abs(x) - 0.06), np.abs(x) - 0.74)


def _mushroom(x: Field, y: Field) -> Field:
    cap = np.maximum(_disc(x, y, 0.78, cy=0.06), y - 0.06)
    return np.minimum(cap, _box(x, y - 0.40, 0.20, 0.40))


def _house(x: Field, y: Field) -> Field:
    roof = np.maximum(0.66 * np.abs(x) - 0.75 * (y + 0.82), y + 0.12)
    return np.minimum(roof, _box(x, y - 0.30, 0.54, 0.46))


def _clover(x: Field, y: Field) -> Field:
    return np.minimum(_disc(np.abs(x), y, 0.37, cx=0.44), _disc(x, np.abs(y), 0.37, cy=0.44))


def _leaf(x: Field, y: Field) -> Field:
    return _disc(np.abs(x), y, 1.10, cx=-0.68)


def _wave(phase: Field) -> Field:
    """A stripe pattern in [-1, 1] from a phase in periods: a sine with flattened crests."""
    return np.tanh(2.5 * np.sin(2 * np.pi * phase))


def _bricks(u: Field, v: Field) -> Field:
    row = np.floor(v)
    joints = np.maximum(np.cos(2 * np.pi * v), np.cos(np.pi * (u + row)))
    return np.tanh(6 * (0.62 - joints))


def _chevrons(u: Field, v: Field) -> Field:
    return _wave(v + np.abs((u / 3) % 1.0 - 0.5) * 2.4)


def _net(u: Field, v: Field) -> Field:
    return np.tanh(5 * (0.55 - np.maximum(np.cos(2 * np.pi * u), np.cos(2 * np.pi * v))))


def _dots(u: Field, v: Field) -> Field:
    return np.tanh(4 * (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.45))


Shape = Callable[[Field, Field], Field]
Weave = Callable[[Field, Field], Field]

CLASSES: dict[str, tuple[Shape, Weave]] = {
    "sun": (_sun, lambda u, v: _wave(np.hypot(u, v))),  # rings
    "moon": (_moon, _dots),
    "doughnut": (_doughnut, lambda u, v: _wave((u + v) * 0.71)),  # stripes along one diagonal
    "fir": (_fir, _chevrons),
    "fish": (_fish, lambda u, v: np.tanh(3 * np.sin(2 * np.pi * u * 0.71) * np.sin(2 * np.pi * v * 0.71))),  # checks
    "butterfly": (_butterfly, lambda u, v: _wave(u)),  # upright stripes
    "mushroom": (_mushroom, lambda u, v: -_dots(u + np.floor(v + 0.5) * 0.5, v * 1.2)),  # holes, in offset rows
    "house": (_house, _bricks),
    "clover": (_clover, _net),
    "leaf": (_leaf, lambda u, v: _wave(v)),  # level stripes
}
"""Class name -> (signed distance of its shape in [-1, 1]^2, its weave in [-1, 1] over periods)."""


def draw(index: int, size: int, split: str = "train", seed: int = 0) -> np.ndarray:
    """Draw one scene.

    Args:
        index: which scene; its class is `index % 10`.
        size: side in pixels; below 48 the scene is drawn larger and averaged, as a camera would.
        split: `train` or `val`.
        seed: another seed gives another data set.

    Returns:
        RGB pixels [size, size, 3], uint8.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    factor = max(1, -(-48 // size))
    shape, weave = list(CLASSES.values())[index % len(CLASSES)]
    x, y = _grid(size * factor)
    background, light, dark = _colours(rng)
    picture = _background(x, y, background, rng)
    coverage = _cover(shape, x, y, rng)[..., None]
    mixture = (0.5 + 0.5 * _weave(weave, x, y, rng))[..., None].astype(np.float32)
    picture += coverage * (dark + mixture * (light - dark) - picture)
    picture += rng.normal(0.0, 0.02, picture.shape[:2]).astype(np.float32)[..., None]
    if factor > 1:
        picture = picture.reshape(size, factor, size, factor, 3).mean((1, 3))
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _grid(size: int) -> tuple[Field, Field]:
    """Return the pixel centres' coordinates, x to the right and y down, both in (-1, 1)."""
    axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the colours of the ground and of a weave's two threads, in [0, 1].

    The ground is either darker or lighter than both threads; which one, and all hues, are chance.
    """
    hue, shift = rng.uniform(), rng.uniform(0.25, 0.75)
    below = rng.uniform() < 0.5
    ground = rng.uniform(0.22, 0.36) if below else rng.uniform(0.84, 0.95)
    middle = rng.uniform(0.66, 0.76) if below else rng.uniform(0.40, 0.50)
    colours = (
        colorsys.hsv_to_rgb(hue, rng.uniform(0.15, 0.45), ground),
        colorsys.hsv_to_rgb((hue + shift) % 1, rng.uniform(0.35, 0.65), middle + 0.20),
        colorsys.hsv_to_rgb((hue + shift + 0.04) % 1, rng.uniform(0.45, 0.75), middle - 0.20),
    )
    return tuple(np.array(colour, dtype=np.float32) for colour in colours)


def _background(x: Field, y: Field, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a ground [size, size, 3] with a soft fall of light from a random side."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    light = 1 + np.float32(strength * np.cos(angle)) * x + np.float32(strength * np.sin(angle)) * y
    return light[..., None] * colour


def _cover(shape: Shape, x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Return how much of each pixel the shape covers, at a random place, size and tilt."""
    angle, zoom = np.float32(rng.uniform(-0.3, 0.3)), np.float32(rng.uniform(0.72, 1.0))
    dx, dy = np.float32(rng.uniform(-0.16, 0.16, 2))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = x - dx, y - dy
    distance = shape(cos * x + sin * y, cos * y - sin * x) * zoom
    return np.clip(0.5 - distance * (x.shape[0] / 2), 0, 1)


def _weave(weave: Weave, x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Return the weave in [-1, 1] at a random phase, a little tilted and stretched."""
    angle, periods = np.float32(rng.uniform(-0.12, 0.12)), np.float32(rng.uniform(*PERIODS) / 2)
    du, dv = np.float32(rng.uniform(-0.5, 0.5, 2))
    cos, sin = periods * np.cos(angle), periods * np.sin(angle)
    return weave(cos * x + sin * y + du, cos * y - sin * x + dv)


def draw_all(count: int, size: int, split: str, seed: int = 0) -> Tensor:
    """Return the scenes 0 to count - 1 of a split: [count, 3, size, size], uint8."""
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for index in progress(range(count), desc=f"drawing {split} scenes", unit="image", leave=False):
        images[index] = torch.from_numpy(draw(index, size, split, seed)).permute(2, 0, 1)
    return images
