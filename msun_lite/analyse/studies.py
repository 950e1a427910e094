"""What `analyse` measures of one network, study by study: each returns numbers for JSON and arrays beside them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.io import decode_jpeg, encode_jpeg
from tqdm import tqdm

from msun_lite.cka import StreamingCKA, capture_outputs, gram
from msun_lite.data import denormalise, opened, refuse_unreadable, to_float
from msun_lite.evaluate import refused_native
from msun_lite.explain import TOP_AREA, FeatureSpace, agreement, grad_cam
from msun_lite.networks import MSUN, layer_names, layer_path, penultimate, stages
from msun_lite.scales import RESAMPLINGS, resample, resize, route
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import progress

JPEG_QUALITY = 75
"""Quality of the small JPEG images, 1 to 100."""

SHOWN = 12
"""Images whose Grad-CAM maps are kept, to be drawn."""

SHOWN_SIDE = 28
"""Their side in pixels."""

IMAGE = "image"
"""Stands first in lists of layers: the image itself, as the network gets it."""

ESTIMATORS = {"biased": False, "unbiased": True}

StudyResult = tuple[dict, dict[str, NDArray]]


class Images:
    """The images of a study: batches of centre crops [B, 3, L, L] at the largest size, normalised, and labels [B]."""

    def __init__(self, loader: DataLoader, device: torch.device, normalisation: dict):
        self.loader, self.device, self.normalisation = loader, device, normalisation

    def __len__(self) -> int:
        return len(self.loader.dataset)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches, or raise a `DataError` at an unreadable image: none is ever left out."""
        with opened(self.loader) as batches:
            for batch in batches:
                refuse_unreadable(batch.bad)
                yield to_float(batch.images, self.device, self.normalisation), batch.labels.to(self.device)

    def bar(self, study: str, parts: int) -> tqdm:
        """Return a progress bar that takes `parts` updates a batch."""
        return progress(total=parts * len(self.loader), desc=study, unit="part", leave=False)


def cka_study(model: MSUN, images: Images, sizes: Sequence[int]) -> StudyResult:
    """Compare all layers at each size with all layers at the largest scale (Eq. 2), for each way of feeding images."""
    largest, names = model.scales[-1], layer_names(model)
    sizes = [size for size in sizes if size != largest]
    feedings = _feedings(model, sizes)
    refused = refused_native(model, sizes) if len(model.scales) == 1 else {}
    for size in refused:
        del feedings["native"][size]
    streams = {(size, scale): StreamingCKA() for way in feedings.values() for size, scale in way.items()}
    with torch.inference_mode(), images.bar("CKA", len(streams)) as bar:
        for batch, _ in images:
            reference = _grams(model, names, resize(batch, largest, model.antialias), largest)
            for (size, scale), stream in streams.items():
                stream.update(_grams(model, names, resize(batch, size, model.antialias), scale), reference)
                bar.update()
    record = {
        "layers": list(reference),
        "stages": list(stages(model)),
        "reference": largest,
        "batch": images.loader.batch_size,
        "curves": {
            feeding: {str(size): _diagonals(streams[size, scale]) for size, scale in way.items()}
            for feeding, way in feedings.items()
        },
        "native_refused": {str(size): why for size, why in refused.items()},
    }
    arrays = {
        f"cka_{feeding}_{size}_{name}": streams[size, scale].value(unbiased).numpy().astype(np.float32)
        for feeding in ("native", "upsampled")
        for size, scale in feedings[feeding].items()
        for name, unbiased in ESTIMATORS.items()
    }
    return record, arrays


def _feedings(model: MSUN, sizes: Sequence[int]) -> dict[str, dict[int, int | None]]:
    """Return the ways of feeding small images: {way: {size: scale that the image is resized to, or None for as it is}}.

    `native`: a plain CNN gets them as they are (the starred columns of Table I), an MSUN by the subnet that serves
    them. `upsampled`: as large as the largest scale. An MSUN has its other subnets besides, for all sizes.
    """
    largest, single = model.scales[-1], len(model.scales) == 1
    native = {size: None if single else route(size, model.scales, model.routing) for size in sizes}
    subnets = {f"subnet {scale}": dict.fromkeys(sizes, scale) for scale in model.scales[:-1]}
    return {"native": native, "upsampled": dict.fromkeys(sizes, largest), **subnets}


def _diagonals(stream: StreamingCKA) -> dict[str, list[float]]:
    """Return CKA of each layer with itself at the reference size, by both estimators."""
    values = {name: stream.value(unbiased).diagonal().tolist() for name, unbiased in ESTIMATORS.items()}
    return {name: [round(value, 5) for value in diagonal] for name, diagonal in values.items()}


def _grams(model: MSUN, names: Sequence[str], small: Tensor, scale: int | None) -> dict[str, Tensor]:
    """Return the Gram matrices of the image as it is fed and of the layers by plain name, in the order they run."""
    fed = small if scale is None else resize(small, scale, model.antialias)
    owner = model.scales[-1] if scale is None else scale
    where = {layer_path(model, name, owner): name for name in names}
    with capture_outputs(model, list(where), keep=gram) as found:
        _forward(model, fed, scale)
        grams = {IMAGE: gram(fed)} | {where[place]: matrix for place, matrix in found.items()}
    if missing := [name for name in names if name not in grams]:
        raise UserError(f"layer {missing[0]}: expected to run in a forward, it does not")
    return grams


def _forward(model: MSUN, images: Tensor, scale: int | None) -> Tensor:
    """Return the logits by the subnet of `scale`, or, if it is None, those of a plain CNN without any resizing."""
    if scale is None:
        return model.forward_native(images)
    return model.forward_at(images, scale)


def gradcam_study(
    model: MSUN, images: Images, sizes: Sequence[int], layer: str | None, reference: MSUN | None
) -> StudyResult:
    """Compare the attention at each size with that at the largest, image by image, for the image's own class.

    `reference` is another network, Vanilla for instance, whose attention at the largest size each is compared with too.
    What networks look at in any image (its middle, say) makes for agreement as well: the same comparison with the
    attention to another image, for each size, says how much.
    """
    largest = max(sizes)
    against = ("own",) if reference is None else ("own", "reference")
    alike, by_chance = ({name: {size: [] for size in sizes} for name in against} for _ in range(2))
    sums = {size: torch.zeros(SHOWN_SIDE, SHOWN_SIDE) for size in sizes}
    shown: dict[int, list[Tensor]] = {size: [] for size in sizes}
    with images.bar("Grad-CAM", len(sizes)) as bar:
        for batch, labels in images:
            compared = {"own": grad_cam(model, batch, labels, largest, layer)}
            if reference is not None:
                compared["reference"] = grad_cam(reference, batch, labels, largest, layer)
            for size in sizes:
                maps = compared["own"] if size == largest else grad_cam(model, batch, labels, size, layer)
                for name, others in compared.items():
                    alike[name][size].append(torch.stack(agreement(maps, others)))
                    by_chance[name][size].append(torch.stack(agreement(maps, others.roll(1, 0))))
                small = _shrunk(maps)
                sums[size] += small.sum(0)
                shown[size].append(small[: max(0, SHOWN - sum(map(len, shown[size])))])
                bar.update()
    record = {
        "layer": layer or stages(model)[-1],
        "reference": largest,
        "classes": "the image's own",
        "top_area": TOP_AREA,
        "agreement": _by_size(alike),
        "another_image": _by_size(by_chance),
    }
    arrays = {
        "gradcam_sizes": np.array(sizes),
        "gradcam_maps": torch.stack([torch.cat(shown[size]) for size in sizes], 1).mul(255).round().byte().numpy(),
        "gradcam_mean": torch.stack([sums[size] for size in sizes]).div(len(images)).half().numpy(),
    }
    return record, arrays


def _by_size(found: dict[str, dict[int, list[Tensor]]]) -> dict[str, dict]:
    return {name: {str(size): _alike(parts) for size, parts in by_size.items()} for name, by_size in found.items()}


def _shrunk(maps: Tensor) -> Tensor:
    return resample(maps[:, None], SHOWN_SIDE, "area")[:, 0]


def _alike(found: list[Tensor]) -> dict[str, dict]:
    correlations, overlaps = torch.cat(found, 1).numpy()
    return {"correlation": summary(correlations), "overlap": summary(overlaps)}


def summary(values: NDArray) -> dict[str, float]:
    """Return mean, standard deviation and quartiles over images, and how many have no value (NaN)."""
    defined = values[~np.isnan(values)].astype(np.float64)
    if not len(defined):
        return {"images": 0, "undefined": len(values)}
    low, middle, high = np.percentile(defined, (25, 50, 75))
    numbers = {"mean": defined.mean(), "std": defined.std(), "q25": low, "median": middle, "q75": high}
    rounded = {name: round(float(number), 4) for name, number in numbers.items()}
    return {**rounded, "images": len(defined), "undefined": len(values) - len(defined)}


def pca_study(model: MSUN, images: Images, sizes: Sequence[int]) -> StudyResult:
    """Measure the space of the features that the classifier gets, one space for all sizes (Fig. 8)."""
    features: dict[int, list[Tensor]] = {size: [] for size in sizes}
    labels = []
    with torch.inference_mode(), penultimate(model) as caught, images.bar("feature space", len(sizes)) as bar:
        for batch, batch_labels in images:
            labels.append(batch_labels)
            for size in sizes:
                model(resize(batch, size, model.antialias))
                features[size].append(caught.pop())
                bar.update()
    space = FeatureSpace({size: torch.cat(parts) for size, parts in features.items()}, torch.cat(labels))
    points, shares = space.basis()
    record = {
        "dimensions": space.largest.shape[1],
        "explained_variance": [round(share, 4) for share in shares],
        "reference": max(sizes),
        "sizes": {
            str(size): {
                "silhouette": summary(space.silhouette(size)),
                "neighbour_accuracy": _percent(space.neighbours(size, at_largest=False)),
                "neighbour_accuracy_at_largest": _percent(space.neighbours(size, at_largest=True)),
                "displacement": summary(space.displacement(size)),
            }
            for size in sizes
        },
    }
    arrays = {
        "pca_sizes": np.array(sizes),
        "pca_points": np.stack([points[size] for size in sizes]).astype(np.float16),
        "pca_labels": space.labels.astype(np.int16),
    }
    return record, arrays


def _percent(hits: NDArray) -> dict[str, float]:
    """Return the share of hits in percent, with its standard error over images."""
    share = hits.mean()
    return {
        "mean": round(100 * float(share), 2),
        "standard_error": round(100 * float(np.sqrt(share * (1 - share) / len(hits))), 2),
    }


def resizing_study(model: MSUN, images: Images, sizes: Sequence[int]) -> StudyResult:
    """Measure top-1 accuracy for every way of making the image small; the way up again is the network's own."""
    ways = (*RESAMPLINGS, "jpeg")
    correct = {way: dict.fromkeys(sizes, 0) for way in ways}
    total = 0
    with torch.inference_mode(), images.bar("resizing", len(ways) * len(sizes)) as bar:
        for batch, labels in images:
            total += len(labels)
            for way in ways:
                for size in sizes:
                    small = resample(batch, size, "antialiased" if way == "jpeg" else way)
                    if way == "jpeg":
                        small = through_jpeg(small, images.normalisation)
                    correct[way][size] += int((model(small).argmax(1) == labels).sum())
                    bar.update()
    top1 = {
        way: {str(size): round(100 * hits / total, 2) for size, hits in row.items()} for way, row in correct.items()
    }
    return {"jpeg_quality": JPEG_QUALITY, "trained_antialiased": model.antialias, "top1": top1}, {}


def through_jpeg(images: Tensor, normalisation: dict) -> Tensor:
    """Return normalised images [B, 3, s, s] as they come back from JPEG files of `JPEG_QUALITY`."""
    levels = (255 * denormalise(images, normalisation)).round().byte().cpu()
    files = encode_jpeg(list(levels.contiguous()), JPEG_QUALITY)
    decoded = torch.stack([decode_jpeg(file) for file in files])
    return to_float(decoded, images.device, normalisation)
