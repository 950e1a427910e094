"""The three methods as one module: a batch of images and labels in, the terms of the loss out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msun_lite.config import TrainConfig
from msun_lite.errors import UserError
from msun_lite.losses import distillation, overall_loss, pair_distances
from msun_lite.model import MSUN, in_batches
from msun_lite.scales import resize, served_sizes
from msun_lite.spec import renormalised

RANDOM_GROUPS = 4
"""Random sizes in a batch at each scale, with `random_sizes`; half of the batch keeps the scale itself."""


@dataclass
class Terms:
    """The loss of one batch and its parts, scalars: `ce` sums CE_i, `si` is L_SI of Eq. 7, `kd` the distillation.

    `loss` is Eq. 8, plus `kd` times its weight. `correct` counts the images whose class the logits at the largest
    scale name.
    """

    loss: Tensor
    ce: Tensor
    si: Tensor
    kd: Tensor
    correct: Tensor


def make_model(config: TrainConfig, class_names: Sequence[str]) -> MSUN:
    """Return the network that `config.method` trains, with the weights it starts from."""
    count = len(class_names)
    options = {"antialias": config.antialias, "class_names": class_names, "weights": config.weights}
    options["split"] = config.split
    if config.method != "msun":
        model = MSUN.vanilla(config.arch, config.scales[-1], count, blocks=config.blocks, **options)
    else:
        options |= {name: getattr(config, name) for name in ("stems", "routing", "unify", "norm")}
        model = MSUN.from_backbone(config.arch, config.scales, config.blocks, count, **options)
    model.spec = renormalised(model.spec, config.mean, config.std)
    return model


GIVEN_MODEL = "a model given to train"
"""What a description calls the weights of a network that a training was given."""


def described(config: TrainConfig, model: MSUN) -> TrainConfig:
    """Return the options of a training with those of the model that is given to it: how it is made, and behaves.

    Raises:
        UserError: if the model does not fit the method, the scales or the weights that the options ask for.
    """
    if not isinstance(model, MSUN):
        raise UserError(f"model: expected an MSUN, such as MSUN.from_module gives, got {type(model).__name__}")
    spec = model.description
    if missing := {"arch", "classes"} - spec.keys():
        raise UserError(f"model: expected one of MSUN.from_..., whose description is whole, missing {min(missing)}")
    scales = config.scales if config.method == "msun" else config.scales[-1:]
    if list(model.scales) != list(scales):
        raise UserError(f"model: expected scales {list(scales)} for {config.method}, got {list(model.scales)}")
    if config.weights is not None:
        raise UserError(f"weights: expected none beside a model, which has its own, got {config.weights!r}")
    made = {name: spec[name] for name in ("arch", "routing", "antialias", "unify", "norm")}
    made |= {"split": spec.get("split"), "blocks": config.blocks if spec["blocks"] is None else spec["blocks"]}
    return replace(config, **made)


def fit_to_data(model: MSUN, config: TrainConfig, class_names: Sequence[str]) -> MSUN:
    """Return a model that was given, with what its description lacks: the data's classes, another normalisation.

    Raises:
        UserError: if it has other classes than the data.
    """
    count, known = model.spec["classes"], model.spec.get("class_names")
    if count != len(class_names):
        raise UserError(f"model: expected {len(class_names)} classes as the data has, got {count}")
    if known is not None and list(known) != list(class_names):
        theirs, own = next(pair for pair in zip(class_names, known, strict=True) if pair[0] != pair[1])
        raise UserError(f"model: expected the data's classes, such as {theirs!r}, got {own!r} in its place")
    origin = {"source": GIVEN_MODEL, "fresh": []}
    spec = {**model.spec, "class_names": list(class_names), "weights": origin}
    model.spec = renormalised(spec, config.mean, config.std)
    return model


class Objective(nn.Module):
    """What one training step computes, in one forward call.

    `vanilla` sees the largest scale alone. `mst` sees every scale, upsampled to the largest, through
    the one network; a constraint compares their features where an MSUN would be cut (MST+SI in Table VI). `msun` sees
    every scale through its subnet. Cross-entropies are summed over the scales.
    """

    def __init__(self, model: MSUN, config: TrainConfig):
        super().__init__()
        self.model = model
        self.config = config
        # The views stay outside: random sizes would make it compile again and again.
        self._terms = torch.compile(self._loss) if config.compile else self._loss
        self._served = [served_sizes(scale, config.scales, config.routing) for scale in config.scales]

    def forward(self, images: Tensor, labels: Tensor) -> Terms:
        """Return the terms of the loss for images [B, 3, L, L] at the largest scale and labels [B]."""
        return self._terms(self._views(images), labels)

    def _views(self, images: Tensor) -> dict[int, Tensor]:
        """Return what the network is fed with in this step, by scale."""
        config, largest = self.config, self.config.scales[-1]
        if config.method == "vanilla":
            return {largest: images}
        return {
            scale: self._view(images, scale, served, scale if config.method == "msun" else largest)
            for scale, served in zip(config.scales, self._served, strict=True)
        }

    def _view(self, images: Tensor, scale: int, served: range, fed: int) -> Tensor:
        """Return the images as they are at `scale`, or some of them as at other sizes `served`, resized to `fed` px.

        Sizes are mixed within the batch, as BatchNorm's averages mix them. They are drawn from PyTorch's global
        generator, whose state checkpoints keep.
        """
        sizes, groups = [scale], [images]
        if self.config.random_sizes:
            exact, others = images.tensor_split(2)
            groups = [exact, *others.tensor_split(RANDOM_GROUPS)]
            sizes += [served[int(torch.randint(len(served), ()))] for _ in groups[1:]]
        antialias = self.config.antialias
        views = [resize(group, size, antialias) for group, size in zip(groups, sizes, strict=True) if len(group)]
        fed_views = [resize(view, fed, antialias) for view in views]
        return fed_views[0] if len(fed_views) == 1 else torch.cat(fed_views)

    def _loss(self, views: dict[int, Tensor], labels: Tensor) -> Terms:
        features, logits = self._run(views)
        smoothing = self.config.label_smoothing
        cross_entropies = torch.stack(
            [F.cross_entropy(part.float(), labels, label_smoothing=smoothing) for part in logits]
        )
        distances = pair_distances(features) if len(features) > 1 else cross_entropies.new_zeros(1)
        zero = cross_entropies.new_zeros(())
        divergence = distillation(logits, self.config.teacher) if self.config.distil else zero
        loss = overall_loss(cross_entropies, distances, self.config.lam, self.config.constraint)
        return Terms(
            loss=loss + self.config.distil * divergence,
            ce=cross_entropies.sum(),
            si=distances.sum(),
            kd=divergence,
            correct=(logits[-1].argmax(1) == labels).sum(),
        )

    def _run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features that the constraint compares, and the logits, of every view."""
        joint = self.config.joint
        if self.config.method == "msun":
            features, logits = self.model.forward_scales(views, joint)
            return list(features.values()), list(logits.values())
        if self.config.constraint == "none":
            return [], in_batches(self.model, list(views.values()), joint)
        features = in_batches(self.model.subnets[str(self.config.scales[-1])], list(views.values()), joint)
        return features, in_batches(self.model.unified, features, joint)
