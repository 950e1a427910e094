"""Measuring a trained network at every image size: `python -m msun_lite.evaluate`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accuracy": [
            "accuracy_record",
            "averaged_by_size",
            "check_images",
            "evaluate",
            "evaluate_on",
            "fitting_batch",
            "measure",
            "refused_native",
            "routed_accuracy",
        ],
        "batches": ["normalised_batches"],
        "certainty": ["Certainty", "calibration_error", "cascade", "least_entropy", "measure_certainty"],
        "class_names": ["match_classes"],
        "options": ["make_subject_parser"],
        "own_size": ["OwnSizes", "answers", "evaluate_own", "own_size_table"],
        "network_records": ["networks_parser", "record_networks"],
        "subjects": ["Subject", "config_of", "crop_ratio_of", "find_config", "find_model", "find_subject", "on_data"],
    },
)
