"""MSUN Lite: Multi-scale Unified Networks, taught and reproduced (arXiv 2403.18294)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msun_lite.data import decode
    from msun_lite.networks import MSUN

__all__ = ["MSUN", "decode"]
__version__ = "0.1.0"

_HOMES = {"MSUN": "msun_lite.networks.msun", "decode": "msun_lite.data.images"}


def __getattr__(name: str):
    """Import a public name when it is asked for: with it comes torch, for which a command's --help need not wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
