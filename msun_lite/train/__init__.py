"""Training one network by one method: `python -m msun_lite.train`, or `train(config)`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["train_loader"],
        "checkpoint": ["load_checkpoint"],
        "objectives": ["find_objective"],
        "run": ["begun_or_not", "carry_on", "is_finished", "train", "with_scales_chosen"],
        "schedule": ["learning_rate"],
        "start": ["make_model"],
        "trainer": ["Trainer"],
    },
)
