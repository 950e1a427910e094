"""The live page: networks that answer to the reader's own photograph, in the reader's browser.

    write_page(networks, "page")            # a folder for any web server; see `msun_lite.export` for the command

`assets` are the page: one component for the book and for pages of one's own. `onnxruntime` is what computes in it, ONNX
Runtime for browsers. It lies in the package, once: an installed package can write a page offline, and the book's page
is written of the same files. Its WebAssembly is kept gzipped, a quarter of the size, and unpacked by the browser.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "page": ["Shown", "component", "title_networks", "write_networks", "write_page"],
        "photographs": ["Photograph", "find_photographs"],
        "squares": ["square_at"],
        "still": ["answers_at", "still"],
    },
)
