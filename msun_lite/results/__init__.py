"""Results as numbers, words, tables and pictures: all that is made of records, without a network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "claims": ["Claim", "judged"],
        "figures": [
            "COLOURS",
            "STYLE",
            "SUBNET_LOOKS",
            "accuracy_figure",
            "claims_figure",
            "draw_accuracies",
            "look",
            "save_figure",
        ],
        "names": ["ARCH_NAMES", "DATA_NAMES", "NAMES", "RESAMPLING_NAMES"],
        "paper": ["SCALES", "rows"],
        "records": ["read_summary", "with_config"],
        "routings": ["PerSubnet", "all_routings", "by_size", "routed", "routing_record"],
        "run_folder": ["RunFolder", "check_folder"],
        "seeds": ["Lead", "averaged", "chance", "mean_cell", "over_seeds"],
        "tables": ["accuracy_table", "styled_table", "subnet_table"],
        "words": ["listed", "number", "points", "said", "seeds_of", "some_seeds", "where"],
    },
)
