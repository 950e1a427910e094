"""The paper's ablations and more of the kind: `python -m msun_lite.ablate`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ablations": [
            "ABLATIONS",
            "Ablation",
            "BEYOND",
            "FITTED",
            "FREE",
            "ROMAN",
            "TABLES",
            "TAUGHT_BY_LARGER",
            "difference",
            "networks",
            "record_config",
            "recorded",
            "rows_of",
        ],
        "rivals": ["ALL_TESTED", "BEST", "FAIR", "PLAIN", "RIVALS", "recorded_rivals"],
        "tables": ["TITLES", "rows_markdown", "table_markdown", "table_record"],
    },
)
