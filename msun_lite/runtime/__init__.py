"""An exported model in use, without torch: numpy, Pillow and ONNX Runtime are all that it needs.

The files of this room import each other alone, so that `export` can put them beside a model's graphs.
"""

from .images import IMAGE_ENDINGS, UnreadableImage, image_size, read_image
from .model import Answer, BadInput, ExportedModel

__all__ = ["IMAGE_ENDINGS", "Answer", "BadInput", "ExportedModel", "UnreadableImage", "image_size", "read_image"]
