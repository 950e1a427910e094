"""The linear probe: features of a frozen network, computed once for each image and view, and a classifier on them.

features = compute(model, loader, 32, device, mirror=True)      # views [2, n, D]: as it is, and mirrored
fit(classifier, features, config, log=print)
accuracy(classifier, compute(model, test_loader, 32, device))
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from msun_lite.config import TrainConfig
from msun_lite.data import derive_seed, opened, to_float
from msun_lite.networks import MSUN, penultimate
from msun_lite.train import learning_rate
from msun_lite.utils.errors import CheckpointError, UserError
from msun_lite.utils.files import atomic_write, locked, remove_parts
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import progress


@dataclass(frozen=True)
class Features:
    """What a frozen network makes of a set of images.

    Args:
        views: [V, n, D], what its classifier would get, for V views of n images.
        labels: [n].
        unreadable: a message for each image that is not among them.
    """

    views: Tensor
    labels: Tensor
    unreadable: list[str]


@torch.no_grad()
@full_precision()
def compute(model: MSUN, loader: DataLoader, scale: int, device: torch.device, mirror: bool = False) -> Features:
    """Return the features that the subnet of `scale` and the unified network give.

    Args:
        model: put into evaluation mode; nothing of it changes.
        loader: batches (`loaders.Batch`) of images, all of one size.
        scale: the subnet that serves them.
        device: where `model` is.
        mirror: take each image mirrored left to right as a second view.
    """
    model.eval()
    views, labels, unreadable = [], [], []
    with penultimate(model) as caught, opened(loader) as batches:
        for batch in progress(batches, total=len(loader), desc="features", unit="batch", leave=False):
            unreadable += batch.bad
            if not len(batch.labels):
                continue
            images = to_float(batch.images, device, model.spec["normalisation"])
            for view in (images, images.flip(-1)) if mirror else (images,):
                model.forward_at(view, scale)
            views.append(torch.stack(caught).cpu())
            caught.clear()
            labels.append(batch.labels)
    if not views:
        raise UserError(f"expected images, not one of {len(unreadable)} can be read: {unreadable[0]}")
    return Features(torch.cat(views, 1), torch.cat(labels), unreadable)


def cached(folder: Path, about: dict, make: Callable[[], Features]) -> Features:
    """Return features that `folder` has from an earlier call, or what `make` returns, kept there.

    Args:
        folder: made when it is needed.
        about: all that the features depend on: weights, images, their size ...; plain values.
        make: computes them.

    Raises:
        CheckpointError: if what is there is damaged.
    """
    text = json.dumps(about, sort_keys=True)
    path = folder / f"{about['split']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        with locked(folder / f".{path.name}.lock"):
            if not path.exists():  # else another process was faster
                remove_parts(path)
                _keep(make(), path, text)
    try:
        with safetensors.safe_open(path, "pt") as file:
            return Features(
                file.get_tensor("views"), file.get_tensor("labels"), json.loads(file.metadata()["unreadable"])
            )
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        expected = "expected whole features, or none, to compute them anew"
        raise CheckpointError(f"{path}: {expected}, got: {error}") from None


def _keep(features: Features, path: Path, about: str) -> None:
    """Write features to a file, with what they are about."""
    tensors = {"views": features.views, "labels": features.labels}
    kept = {"unreadable": json.dumps(features.unreadable), "about": about}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, kept))


def fit(classifier: nn.Linear, features: Features, config: TrainConfig, log: Callable[[dict], None]) -> None:
    """Train a linear classifier on features by SGD, each image in one of its views, drawn at random, in every epoch.

    Args:
        classifier: [D] -> logits, trained in place where it is.
        features: the training images'.
        config: the schedule, and the seed that order and views follow from, with the epoch alone.
        log: is given the metrics of each epoch.

    Raises:
        UserError: if the loss is not finite any more.
    """
    device = classifier.weight.device
    views, labels = features.views.to(device), features.labels.to(device)
    optimizer = torch.optim.SGD(classifier.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    count = len(labels)
    steps, step = -(-count // config.batch_size), 0
    for epoch in progress(range(config.epochs), desc="classifier", unit="epoch", leave=False):
        generator = torch.Generator().manual_seed(derive_seed(config.seed, epoch))
        order = torch.randperm(count, generator=generator).to(device)
        shown = torch.randint(len(views), (count,), generator=generator).to(device)
        total, hits = torch.zeros((), device=device), torch.zeros((), device=device)
        for chosen in order.split(config.batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, config)
            logits = classifier(views[shown[chosen], chosen])
            loss = F.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            total += loss.detach() * len(chosen)
            hits += (logits.argmax(1) == labels[chosen]).sum()
        if not bool(total.isfinite()):
            raise UserError(f"the loss is not finite in epoch {epoch + 1}; expected a lower --lr to help")
        log(
            {
                "epoch": epoch + 1,
                "step": step,
                "lr": optimizer.param_groups[0]["lr"],
                "loss": float(total) / count,
                "train_top1": 100 * float(hits) / count,
            }
        )


@torch.no_grad()
def accuracy(classifier: nn.Linear, features: Features) -> float:
    """Return the share of images whose class the classifier names, in percent, by the first of their views."""
    device = classifier.weight.device
    found = classifier(features.views[0].to(device)).argmax(1)
    return 100 * float((found == features.labels.to(device)).double().mean())
