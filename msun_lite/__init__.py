"""MSUN Lite: Multi-scale Unified Networks, taught and reproduced (arXiv 2403.18294)."""

from msun_lite.images import decode
from msun_lite.model import MSUN

__all__ = ["MSUN", "decode"]
__version__ = "0.1.0"
