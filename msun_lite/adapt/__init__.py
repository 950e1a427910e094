"""Adapting a trained network to images of one size, a little of it at a time: FixRes, and Tent."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fixres": ["PARTS", "fix_resolution"],
        "tent": ["tent"],
    },
)
