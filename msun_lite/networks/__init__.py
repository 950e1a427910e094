"""Networks: CNNs by name or of one's own, cut and fitted into an MSUN, counted, saved, loaded and exported."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backbones": ["CUTTABLE", "can_build", "find_recipe", "find_split"],
        "building": ["load_state"],
        "counting": [
            "Cost",
            "count",
            "default_sizes",
            "flops",
            "flops_by_size",
            "native_flops",
            "parameters",
            "size_grid",
        ],
        "cutting": ["cut"],
        "difference": ["base_of"],
        "factories": ["is_factory"],
        "graphs": ["Exported", "WEIGHTS", "export", "new_folder", "refuse_existing", "serving"],
        "layers": ["classifiers", "layer_names", "layer_path", "penultimate", "stages"],
        "lite": ["DenseNetLite", "MobileNetLite", "ResNetLite", "VGGLite"],
        "msun": ["MSUN", "fingerprint"],
        "options": ["ModelOptions"],
        "pretrained": ["DEFAULT", "MODEL_FILES", "SHIPPED", "find_pretrained"],
        "spec": ["BEHAVIOUR", "class_names", "normalisation_line", "read_spec", "override_normalisation"],
        "stems": ["Stem", "choose_stems", "fit_stem", "strided_places"],
    },
)
