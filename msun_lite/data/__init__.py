"""Images and their labels: where they come from, how they are read, cropped and put into batches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "class_folders": ["images_below", "skipped_files"],
        "crops": ["LEAST_IMAGES", "Crops", "unlabelled"],
        "dataset": ["BadImages", "DataSet", "refuse_unreadable"],
        "fetching": ["OfficialFile", "fetch_file", "install", "unpack_file"],
        "image_sizes": ["fitting_scales", "shorter_sides", "sizes_line"],
        "imagenet": ["imagenet_classes", "imagenet_words", "in_words"],
        "imagenette": ["CLASS_NAMES"],
        "images": ["UnreadableImage", "decode"],
        "loaders": [
            "Batch",
            "EpochSampler",
            "EvalView",
            "OwnSizeView",
            "ShareSampler",
            "TrainView",
            "eval_loader",
            "make_loader",
            "denormalise",
            "derive_seed",
            "opened",
            "to_float",
        ],
        "named": ["check_memory", "fetch_data", "in_memory", "load_data"],
        "options": ["DataOptions", "check_normalisation", "check_sizes", "is_folder"],
        "sources": ["FileSource", "ImageSource", "Labelled", "MemorySource", "Relabelled", "Subset", "part_of"],
        "splits": ["has_validation", "read_splits"],
    },
)
