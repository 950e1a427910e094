"""A trained network on another data set: `python -m msun_lite.transfer`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "options": ["TransferConfig"],
        "probe": ["accuracy", "compute", "fit"],
        "public_sets": ["SETS"],
        "run": ["serving_classifier", "with_new_classifier"],
        "table": ["PAPER_COLUMNS", "PARTS", "SETTINGS", "read_records"],
    },
)
