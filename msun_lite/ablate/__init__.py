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
        "compared": ["ALL_TESTED", "COMPARISONS", "compared_runs"],
        "rivals": ["FAIR", "PLAIN", "RIVALS"],
        "tables": [
            "BACKBONES",
            "BEST",
            "OF_SIZE",
            "ONE_A_SIZE",
            "TITLES",
            "Table",
            "rows_markdown",
            "table_markdown",
            "table_record",
        ],
    },
)
