"""The scale-invariance constraint and the overall loss (Eqs. 7 and 8), and a distillation, as pure functions."""

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx, once_differentiable

from msun_lite.utils.errors import UserError

CONSTRAINTS = ("sum", "pair", "weight", "none")
"""How lambda acts: on the sum over all pairs (Eq. 8 as printed), on each pair, as a weight; or no constraint."""

TEACHERS = ("all", "larger")
"""Whose predictions a scale learns from in a distillation: all scales', or those of the scales larger than it."""


PAIRS = ("all", "largest")
"""Which pairs of scales the constraint compares: every one (Eq. 7), or each smaller scale with the largest."""


def pair_distances(features: Sequence[Tensor], pairs: str = "all") -> Tensor:
    """Return D(f_i(x_i), f_j(x_j)) for every pair i < j of Eq. 7: [n (n - 1) / 2]; or of the largest alone: [n - 1].

    D is the mean squared error, in single precision whatever the features' type. `features` are the
    subnets' outputs for one batch, resized to one shape [B, C, h, w], the largest scale's last. Both sides get a
    gradient.
    """
    if pairs not in PAIRS:
        raise UserError(f"pairs: expected one of {', '.join(PAIRS)}, got {pairs!r}")
    compared = combinations(features, 2) if pairs == "all" else [(smaller, features[-1]) for smaller in features[:-1]]
    return torch.stack([_Distance.apply(a, b) for a, b in compared])


class _Distance(Function):
    """The mean squared error of two feature maps, one gradient the negative of the other.

    The same numbers as `F.mse_loss` of both in single precision. Its own backward pass keeps copies in single
    precision, computes the difference twice, and gives gradients that are not channels last.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return F.mse_loss(a.float(), b.float())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        difference = a.float() - b.float()
        towards_b = difference.mul_(2 / a.numel()).mul_(gradient).to(a.dtype)
        return towards_b, -towards_b


def scale_invariance(features: Sequence[Tensor]) -> Tensor:
    """Return L_SI, the sum of the distances over all pairs of scales (Eq. 7), a scalar."""
    return pair_distances(features).sum()


def constrain(distances: Tensor, lam: float, constraint: str = "sum") -> Tensor:
    """Return the first term of Eq. 8 from the `distances` [pairs] of Eq. 7, a scalar.

    Args:
        distances: one distance a pair of scales, all at least 0.
        lam: lambda, in Eq. 8 a tolerance in units of the distance rather than a weight: below it, no gradient.
        constraint: `sum` is Eq. 8 as printed, max(L_SI, lambda). `pair`, the variant of the authors'
            experiments, drops each pair whose distance is below lambda and sums the others.
            `weight` is lambda x L_SI, as regularisers usually are: beyond the paper. `none` gives 0: no constraint.
    """
    if constraint == "sum":
        return distances.sum().clamp(min=lam)
    if constraint == "pair":
        return torch.where(distances < lam, torch.zeros_like(distances), distances).sum()
    if constraint == "weight":
        return lam * distances.sum()
    if constraint == "none":
        return torch.zeros_like(distances).sum()
    raise UserError(f"constraint: expected one of {', '.join(CONSTRAINTS)}, got {constraint!r}")


def overall_loss(cross_entropies: Tensor, distances: Tensor, lam: float, constraint: str = "sum") -> Tensor:
    """Return L = max(L_SI, lambda) + sum_i CE_i (Eq. 8), a scalar, from CE_i [scales] and D_ij [pairs]."""
    return constrain(distances, lam, constraint) + cross_entropies.sum()


def distillation(logits: Sequence[Tensor], teacher: str = "all") -> Tensor:
    """Return how far the scales' predictions are from what teaches them, in nats, summed over the scales: a scalar.

    The Kullback-Leibler divergence from the softmax of the teacher's logits to that of each scale's, averaged over the
    batch. What teaches gets no gradient from it. Beyond the paper.

    Args:
        logits: [B, classes] for each scale, the smallest scale first.
        teacher: `all`, each scale learns from the mean of the logits of all scales, the ensemble distillation of Wang
            et al. (2020) with equal weights; `larger`, from the mean of those of the larger scales, which see more.
            Then the largest scale learns from the labels alone.
    """
    if teacher not in TEACHERS:
        raise UserError(f"teacher: expected one of {', '.join(TEACHERS)}, got {teacher!r}")
    singles = [part.float() for part in logits]
    divergences = [singles[-1].new_zeros(())]
    for place, part in enumerate(singles):
        above = singles if teacher == "all" else singles[place + 1 :]
        if above:
            target = torch.stack(above).mean(0).log_softmax(1).detach()
            divergences.append(F.kl_div(part.log_softmax(1), target, reduction="batchmean", log_target=True))
    return torch.stack(divergences).sum()
