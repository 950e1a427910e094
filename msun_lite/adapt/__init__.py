"""A trained network adapted: made into a multi-scale one without labels; or fitted to one size by FixRes or Tent."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "options": ["AdaptConfig"],
        "run": ["adapt"],
        "fixres": ["PARTS", "fix_resolution"],
        "tent": ["tent"],
    },
)
