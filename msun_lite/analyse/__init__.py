"""Why a network fails or holds at small sizes: `python -m msun_lite.analyse`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "figures": ["attention_figure", "heatmap_figure", "layer_figure", "resizing_figure", "stage_figure"],
        "record": ["Analysis"],
        "studies": ["summary"],
        "tables": ["resolve_feeding", "space_table"],
    },
)
