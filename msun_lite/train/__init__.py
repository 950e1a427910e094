"""Training one network by one method: `python -m msun_lite.train`, or `train(config)`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["train_loader"],
        "checkpoint": ["load_checkpoint"],
        "objectives": ["find_objective"],
        "objectives.objective": ["Objective", "Terms", "view_at"],
        "objectives.rs": ["switchable_distillation"],
        "run": ["resolve_resume", "train_or_resume", "is_finished", "train", "choose_scales"],
        "schedule": ["learning_rate"],
        "start": ["make_model"],
        "trainer": ["Trainer"],
    },
)
