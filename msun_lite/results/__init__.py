"""Results as numbers, words, tables and pictures: all that is made of records, without a network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "claims": ["Claim", "judge_claims"],
        "figures": [
            "COLOURS",
            "STYLE",
            "SUBNET_STYLES",
            "accuracy_figure",
            "claims_figure",
            "curves_figure",
            "rivals_figure",
            "draw_accuracies",
            "line_style",
            "save_figure",
        ],
        "names": ["ARCH_NAMES", "DATA_NAMES", "NAMES", "RESAMPLING_NAMES"],
        "outside": ["drawn_name", "markdown_name"],
        "paper": ["SCALES", "rows"],
        "records": [
            "Accuracy",
            "Means",
            "Measurement",
            "Summary",
            "read_measurement",
            "read_record",
            "read_summary",
        ],
        "routings": [
            "ORACLE",
            "ROUTINGS",
            "PerSubnet",
            "all_routings",
            "by_size",
            "read_per_subnet",
            "routing_record",
            "serving_scales",
        ],
        "run_folder": ["RunFolder", "check_folder", "flat_row"],
        "seeds": ["Lead", "average_seeds", "two_standard_errors", "mean_cell", "read_seeds"],
        "tables": ["accuracy_table", "styled_table", "subnet_table"],
        "words": [
            "describe_difference",
            "describe_points",
            "describe_seeds",
            "describe_sizes",
            "join_words",
            "number_word",
            "seed_count",
            "signed",
        ],
    },
)
