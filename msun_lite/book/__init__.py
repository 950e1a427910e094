"""What only the chapters of the book need: their data and networks, sliders, figures and published records."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "architecture_figures": ["Column", "architecture_figure", "cost_figure"],
        "image_figures": ["answer_figure", "averages_figure", "percent_figure", "picture_grid"],
        "lab": ["COMPARED", "NAMES", "begin", "glue"],
        "live_page": ["IMAGENET", "first_answers", "live_component", "write_live_page"],
        "published": [
            "analyses",
            "comparison",
            "comparison_by_seed",
            "photographs",
            "photographs_by_seed",
            "results",
            "transfers",
        ],
        "rival_figures": ["range_figure"],
        "similarity_figures": [
            "bias_figure",
            "class_space_figure",
            "feeding_figure",
            "gram_figure",
            "mean_attention_figure",
            "overlay_figure",
            "space_numbers_figure",
        ],
        "tables": ["table"],
        "testing_figures": [
            "accuracy_panels",
            "beside_figure",
            "blend_figure",
            "front_figure",
            "pair_figure",
            "probe_panels",
            "routing_figure",
            "serving_figure",
            "subnet_bars_figure",
            "subnet_panels",
            "tradeoff_figure",
        ],
        "training_figures": ["constraint_figure", "constraint_history_figure", "schedule_figure", "training_figure"],
        "widgets": ["Frame", "own_image", "prediction_frame", "size_slider", "slider"],
    },
)
