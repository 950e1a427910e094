"""What a network looks at, and how it sees the images: Grad-CAM (Eq. 9) and the space of its features.

maps = grad_cam(model, images, labels, size=32)         # where the evidence for each label is
agreement(maps, grad_cam(model, images, labels, 112))   # as at the largest size, or somewhere else?
with penultimate(model) as features: model(images)      # what the classifier decides on
"""

import importlib
import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msun_lite.cka import capture_outputs
from msun_lite.networks import MSUN, layer_path, stages
from msun_lite.scales import resize, route
from msun_lite.utils.errors import UserError
from msun_lite.utils.modes import _preserve_gradients, preserve_modes

TOP_AREA = 0.2
"""Share of an image's area that counts as what the network looks at."""


def import_extra(name: str):
    """Return a module of the extra `analyse`, or raise a `UserError` that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"analyse: needs {name.split('.')[0]}: pip install 'msun-lite[analyse]'") from None


class _Seen(nn.Module):
    """A network that sees images made smaller first, so that maps of all sizes come out as large as the image."""

    def __init__(self, model: MSUN, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, images: Tensor) -> Tensor:
        return self.model(resize(images, self.size, self.model.antialias))


def grad_cam(
    model: MSUN, images: Tensor, classes: Sequence[int] | Tensor | None, size: int, layer: str | None = None
) -> Tensor:
    """Return where in the images the evidence for a class is, by Grad-CAM (Eq. 9): maps [B, H, W] from 0 to 1.

    The map of Eq. 9, at the resolution of `layer`, is stretched to the range 0 to 1 and resized, bilinearly, to the
    images; it is 0 everywhere if nothing there speaks for the class. Weights, gradients, hooks and the mode of
    `model` are left as they were found.

    Args:
        model: Vanilla, MST or MSUN.
        images: [B, 3, H, W], normalised, square.
        classes: c of Eq. 9 for each image; None: the class that the model gives it at this size.
        size: the images are made this small first, in pixels, and then served as any image of that size.
        layer: name of the layer in the plain CNN, `layer4.0` for instance; the last stage by default.

    Raises:
        UserError: for a class or a layer that the model does not have, or if the extra `analyse` is missing.
    """
    if not isinstance(model, MSUN):
        raise UserError(f"Grad-CAM: expected an MSUN (MSUN.vanilla for a plain CNN), got a {type(model).__name__}")
    library = import_extra("pytorch_grad_cam")
    targets = import_extra("pytorch_grad_cam.utils.model_targets")
    target = model.get_submodule(check_target(model, layer, size))
    chosen = None
    if classes is not None:
        labels = _check_classes(classes, len(images), model.spec["classes"])
        chosen = [targets.ClassifierOutputTarget(label) for label in labels]
    with preserve_modes(model), _preserve_gradients(model), torch.inference_mode(False), torch.enable_grad():
        model.requires_grad_(False)  # the gradient is wanted at the layer alone: nothing below or beside it is computed
        start = target.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
        cam = library.GradCAM(_Seen(model, size), [target])
        try:
            maps = cam(images.clone(), chosen)  # a tensor of inference mode cannot have gradients
        finally:  # its own context manager would swallow an IndexError
            cam.activations_and_grads.release()
            start.remove()
    return torch.from_numpy(maps)


@torch.no_grad()
def check_target(model: MSUN, layer: str | None, size: int) -> str:
    """Return the name in the model of the layer that Grad-CAM looks at, at this size; None: the last stage.

    Raises:
        UserError: if there is no such layer, or it gives no maps.
    """
    scale = route(size, model.scales, model.routing)
    layer = stages(model)[-1] if layer is None else layer
    place = layer_path(model, layer, scale)
    device = next(model.parameters()).device
    with (
        preserve_modes(model),
        capture_outputs(model, [place], keep=lambda output: torch.tensor(output.shape)) as shapes,
    ):
        model.eval()(torch.zeros(1, 3, size, size, device=device))
    shape = shapes[place].tolist() if place in shapes else []
    if len(shape) != 4:
        raise UserError(f"layer: expected one that gives maps, {layer} gives {shape or 'nothing in a forward'}")
    return place


def _check_classes(classes: Sequence[int] | Tensor, images: int, count: int) -> list[int]:
    """Return the classes as numbers, or raise a `UserError` unless there is one of the model's for each image."""
    try:
        labels = [operator.index(label) for label in classes]
    except TypeError:
        labels = []
    if len(labels) != images or not all(0 <= label < count for label in labels):
        raise UserError(f"classes: expected 0 to {count - 1} for each of {images} images, got {classes}")
    return labels


def agreement(maps: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return how alike two sets of maps [B, H, W] are, image by image: correlations [B] and overlaps [B].

    Correlation is Pearson's, over the pixels. Overlap is that of the pixels the maps are highest at, `TOP_AREA` of the
    image each or what is above 0 if that is less: twice the common area over the sum of both. Maps that are the same
    everywhere have no highest pixels: both values are NaN then.
    """
    maps, others = maps.flatten(1).double(), others.flatten(1).double()
    correlation = _standardised(maps).mul(_standardised(others)).mean(1)
    tops, other_tops = _top(maps), _top(others)
    overlap = 2 * (tops & other_tops).sum(1) / (tops.sum(1) + other_tops.sum(1)).double()
    return correlation, overlap.where(~correlation.isnan(), torch.nan)


def _standardised(maps: Tensor) -> Tensor:
    return (maps - maps.mean(1, keepdim=True)) / maps.std(1, keepdim=True, unbiased=False)


def _top(maps: Tensor) -> Tensor:
    """Return which pixels [B, P] are in the highest part of each map, and above 0."""
    threshold = maps.kthvalue(math.ceil((1 - TOP_AREA) * maps.shape[1]), dim=1, keepdim=True).values
    return (maps >= threshold) & (maps > 0)


class FeatureSpace:
    """The features of the same images at several sizes, measured in one space.

    Args:
        features: size -> [n, D], the largest size among them.
        labels: [n], the images' classes.

    Raises:
        UserError: unless there are two classes or more, and more images than classes.
    """

    def __init__(self, features: dict[int, Tensor], labels: Tensor):
        self.features = {size: points.float().cpu().numpy() for size, points in features.items()}
        self.labels = labels.cpu().numpy()
        self.largest = self.features[max(self.features)]
        if not 2 <= len(np.unique(self.labels)) < len(self.labels):
            found = f"{len(self.labels)} of {len(np.unique(self.labels))}"
            raise UserError(f"feature space: expected images of two classes or more, several of some, got {found}")

    def basis(self) -> tuple[dict[int, NDArray], list[float]]:
        """Return the points [n, 2] of each size in the first two principal components of all sizes together (Fig. 8).

        The second value is the share of the variance that each of the two explains.
        """
        pca = import_extra("sklearn.decomposition").PCA(2, svd_solver="full")
        pca.fit(np.concatenate(list(self.features.values())))
        shares = [float(share) for share in pca.explained_variance_ratio_]
        return {size: pca.transform(points) for size, points in self.features.items()}, shares

    def silhouette(self, size: int) -> NDArray:
        """Return each image's silhouette [n] at one size, from -1 to 1: is it nearer to its class than to others?"""
        metrics = import_extra("sklearn.metrics")
        return metrics.silhouette_samples(self.features[size], self.labels)

    def neighbours(self, size: int, at_largest: bool) -> NDArray:
        """Return for each image [n] if its nearest neighbour has its class, the image itself left out.

        The neighbours are the others at the same size, or all others at the largest size: has the point moved to where
        the network expects another class?
        """
        search = import_extra("sklearn.neighbors").NearestNeighbors(n_neighbors=2)
        found = search.fit(self.largest if at_largest else self.features[size]).kneighbors(
            self.features[size], return_distance=False
        )
        own = np.arange(len(self.labels))
        nearest = np.where(found[:, 0] == own, found[:, 1], found[:, 0])
        return self.labels[nearest] == self.labels

    def displacement(self, size: int) -> NDArray:
        """Return how far each image [n] moves from the largest size to this one.

        The unit is the mean distance between two different images at the largest size.
        """
        distances = import_extra("sklearn.metrics").pairwise_distances(self.largest)
        n = len(distances)
        return np.linalg.norm(self.features[size] - self.largest, axis=1) / (distances.sum() / (n * (n - 1)))
