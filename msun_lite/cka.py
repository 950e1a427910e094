"""Centered Kernel Alignment: how alike two layers represent the same images (Eqs. 1 and 2).

    linear_cka(X, Y)                             # two feature matrices in memory
    with capture_outputs(model, ["layer1"]) as features:   # features by layer name; no hook stays behind
        model(images)
    StreamingCKA().update(grams, other_grams)    # many layers against many, batch by batch

The biased estimator is Eq. 1 as printed. With few images, it is far above 0 even for features that have nothing to do
with each other. The unbiased one is not: it replaces the Frobenius product by HSIC_1 (Song et al. 2012), which can be
averaged over minibatches (Nguyen et al. 2021).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from msun_lite.utils.errors import UserError, did_you_mean

LEAST = 4
"""Fewest images of the unbiased estimator, which divides by n (n - 3), and so of a batch."""

NOT_DEFINED = "they are constant, or (unbiased) no two images are nearer to each other than any other two"

ROUNDING = 1e-6
"""An unbiased HSIC below this part of the terms it is the difference of is taken for 0."""

CHUNK = 2048
"""Columns of features that one product sums in their own precision; the rest is summed in double precision."""


def linear_cka(X: Tensor, Y: Tensor, unbiased: bool = False) -> Tensor:
    """Return the linear CKA of two sets of features of the same n images: a scalar, 1 for equal ones.

    CKA = <K, L> / sqrt(<K, K> <L, L>) with the Gram matrices K and L of the centred features (Eq. 1). Rotating either
    set, shifting it or scaling all of it changes nothing. Unbiased, it can fall a little below 0.

    Args:
        X: [n, ...], flattened to [n, p].
        Y: [n, ...], flattened to [n, q].
        unbiased: compare Gram matrices by HSIC_1 (Eq. 3 of Nguyen et al.) instead.

    Raises:
        UserError: for fewer than 2 images (4 for the unbiased value), unequal numbers of them, values that are not
            finite, or features that are the same for all images: CKA is not defined for them.
    """
    X, Y = centred(X), centred(Y)
    if len(X) != len(Y):
        raise UserError(f"CKA: expected features of the same images, got {len(X)} and {len(Y)}")
    if unbiased:
        _check_unbiased(len(X))
    dtype = torch.promote_types(X.dtype, Y.dtype)
    X, Y = X.to(dtype), Y.to(dtype)
    hsic = _hsic_of_features if max(X.shape[1], Y.shape[1]) < len(X) else _hsic_of_grams
    between, within_x, within_y = hsic(X, Y, unbiased)
    for name, within in (("first", within_x), ("second", within_y)):
        if within <= 0:
            raise UserError(f"CKA: not defined for the {name} features: {NOT_DEFINED}")
    return (between / (within_x * within_y).sqrt()).to(X)


def _hsic_of_grams(X: Tensor, Y: Tensor, unbiased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return HSIC of X [n, p] with Y [n, q], of X and of Y with themselves, by matrices of n x n."""
    K, L = _Grams([gram(X)]), _Grams([gram(Y)])
    return K.hsic(L, unbiased)[0, 0], K.own_hsic(unbiased)[0], L.own_hsic(unbiased)[0]


def _hsic_of_features(X: Tensor, Y: Tensor, unbiased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same by matrices of p x q, which are smaller where there are more images than features."""
    n, (a, b) = len(X), (features.square().sum(1).cpu().double() for features in (X, Y))

    def hsic(A: Tensor, B: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _hsic((A.mT @ B).cpu().double().square().sum() - a @ b, a @ b, a.sum() * b.sum(), n, unbiased)

    with torch.autocast(X.device.type, enabled=False):
        return hsic(X, Y, a, b), hsic(X, X, a, a), hsic(Y, Y, b, b)


def centred(features: Tensor) -> Tensor:
    """Return features [n, ...] as [n, p], each column's mean subtracted, in single precision at least.

    Features that differ by no more than rounding come out as exact zeros.

    Raises:
        UserError: for fewer than 2 images, or values that are not finite.
    """
    features = _flat(features)
    mean = features.mean(0, keepdim=True)
    moved = features - mean
    return moved * _differ(moved.square().sum(), len(moved) * mean.square().sum(), features.dtype)


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrix K [n, n] of features [n, ...] after centring (above Eq. 1), float64, on the CPU.

    It is computed on the features' device and in their precision, a part of the columns at a time: centring it
    afterwards would cost single precision three digits, summing all columns at once two more, and a part stays in the
    processor's cache. What can go wrong is said at `centred`.
    """
    features = _flat(features)
    half, means, uppers, lowers = len(features) // 2, [], [], []
    with torch.autocast(features.device.type, enabled=False):
        for columns in features.split(CHUNK, dim=1):
            means.append(columns.mean(0, keepdim=True))
            moved = columns - means[-1]
            uppers.append(moved[:half] @ moved.mT)
            lowers.append(moved[half:] @ moved[half:].mT)
    upper, lower = (torch.stack(parts).cpu().sum(0, dtype=torch.float64) for parts in (uppers, lowers))
    K = torch.cat([upper, torch.cat([upper[:, half:].mT, lower], 1)])  # symmetric: a quarter need not be computed
    return K * _differ(K.trace(), len(K) * torch.cat(means, 1).square().sum().cpu(), features.dtype)


def _flat(features: Tensor) -> Tensor:
    """Return features [n, ...] as [n, p] in single precision at least, or raise a `UserError` for too few images."""
    if not isinstance(features, Tensor) or features.ndim < 2 or features.is_complex():
        got = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(f"CKA: expected a tensor of real features [n, ...], got {got}")
    if len(features) < 2:
        raise UserError(f"CKA: expected features of at least 2 images, got {len(features)}")
    features = features.flatten(1)
    return features if features.dtype == torch.float64 else features.float()


def _check_unbiased(n: int) -> None:
    """Raise a `UserError` unless the unbiased estimator is defined for n images."""
    if n < LEAST:
        raise UserError(f"CKA: expected features of at least {LEAST} images for the unbiased value, got {n}")


def _differ(centred: Tensor, common: Tensor, dtype: torch.dtype) -> bool:
    """Return whether features differ between images by more than the rounding of their common part.

    Args:
        centred: squared norm of the centred features.
        common: squared norm of what centring subtracted.
        dtype: the precision it was done in.
    """
    if not (centred + common).isfinite():
        raise UserError("CKA: expected finite features, got NaN or infinity")
    return bool(centred > (8 * torch.finfo(dtype).eps) ** 2 * (centred + common))


def _hsic(off: Tensor, diagonals: Tensor, sums: Tensor, n: int, unbiased: bool) -> Tensor:
    """Return HSIC(K, L) of centred Gram matrices of n images.

    Their rows sum to 0; without the diagonals a and b they sum to -a and -b, which is all that HSIC_1 asks of them.

    Args:
        off: <K, L> without the diagonals.
        diagonals: a . b
        sums: sum(a) sum(b)
    """
    if not unbiased:
        return (off + diagonals) / (n - 1) ** 2
    sums, diagonals = sums / ((n - 1) * (n - 2)), 2 * diagonals / (n - 2)
    value = off + sums - diagonals
    return value * (value.abs() > ROUNDING * (off.abs() + sums.abs() + diagonals.abs())) / (n * (n - 3))


class _Grams:
    """The k Gram matrices of one batch, taken apart for HSIC: their diagonals [k, n], and the rest [k, n n]."""

    def __init__(self, grams: Iterable[Tensor]):
        grams = list(grams)
        for K in grams:
            if K.ndim != 2 or K.shape[0] != K.shape[1] or K.sum(1).abs().max() > 1e-3 * K.trace():
                raise UserError(f"CKA: expected Gram matrices [n, n] made by gram, got {list(K.shape)}")
        stacked = torch.stack(grams)
        self.n = stacked.shape[1]
        self.diagonals = stacked.diagonal(dim1=1, dim2=2)
        self.sums = self.diagonals.sum(1)
        self.rest = (stacked - torch.diag_embed(self.diagonals)).flatten(1)

    def hsic(self, other: "_Grams", unbiased: bool) -> Tensor:
        """Return HSIC [k, l] of each of these with each of the other ones."""
        diagonals, sums = self.diagonals @ other.diagonals.mT, self.sums[:, None] * other.sums
        return _hsic(self.rest @ other.rest.mT, diagonals, sums, self.n, unbiased)

    def own_hsic(self, unbiased: bool) -> Tensor:
        """Return HSIC [k] of each of these with itself."""
        off, diagonals = self.rest.square().sum(1), self.diagonals.square().sum(1)
        return _hsic(off, diagonals, self.sums.square(), self.n, unbiased)


class StreamingCKA:
    """CKA of every layer of one list with every layer of another, from batches of the same images.

    It keeps a few small matrices, whatever the number of images. Each HSIC is the mean over the batches, weighted by
    their images, and the ratio is taken at the end. For a single batch the biased value is Eq. 1; with more, it depends
    on their size, which the unbiased one does not, in expectation. Batches should be random draws, not sorted by class.
    """

    def __init__(self):
        self.images = 0
        self._names: tuple[list[str], list[str]] = ([], [])
        self._sums: dict[bool, list[Tensor]] = {}

    def update(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """Add a batch: the matrices by `gram`, [n, n], of the k and the l layers, by name.

        Raises:
            UserError: if there are fewer than 4 images, not as many on both sides, or other layers than before.
        """
        names, K, L = (list(first), list(second)), _Grams(first.values()), _Grams(second.values())
        if K.n != L.n:
            raise UserError(f"CKA: expected features of the same images, got {K.n} and {L.n}")
        _check_unbiased(K.n)
        if self.images and names != self._names:
            raise UserError(f"CKA: expected the layers of the batches before, {self._names}, got {names}")
        for unbiased in (False, True):
            terms = K.hsic(L, unbiased), K.own_hsic(unbiased), L.own_hsic(unbiased)
            before = self._sums.get(unbiased, [torch.zeros_like(term) for term in terms])
            self._sums[unbiased] = [total + K.n * term for total, term in zip(before, terms, strict=True)]
        self._names = names
        self.images += K.n

    def value(self, unbiased: bool = False) -> Tensor:
        """Return CKA [k, l], float64.

        Raises:
            UserError: before any batch, or naming a layer whose features are the same for all images.
        """
        if not self.images:
            raise UserError("CKA: expected a batch first, got none")
        between, *within = self._sums[unbiased]
        for names, own in zip(self._names, within, strict=True):
            for name, value in zip(names, own, strict=True):
                if value <= 0:
                    raise UserError(f"CKA: not defined for the features of {name}: {NOT_DEFINED}")
        return between / (within[0][:, None] * within[1]).sqrt()


@contextmanager
def capture_outputs(
    model: nn.Module, layers: Sequence[str], keep: Callable[[Tensor], Tensor] = torch.clone
) -> Iterator[dict[str, Tensor]]:
    """Collect what layers compute: yields a dict of their last outputs, in the order in which the layers ran.

    Calling `model` empties it first. Its other methods, such as `MSUN.forward_at`, do not: what they do not run stays.

    Args:
        model: any module; it is left without hooks, also after an error.
        layers: names as in `model.named_modules()`. A layer that runs twice in a forward leaves its last output.
        keep: what is kept of an output, without gradients, at once: layers that work in place may overwrite it.

    Raises:
        UserError: for a name that the model does not have, or a layer whose output is no tensor.
    """
    if isinstance(layers, str):
        raise UserError(f"layers: expected a list of names, got {layers!r}")
    modules, kept, handles = dict(model.named_modules()), {}, []
    if unknown := [name for name in layers if name not in modules]:
        suggestion = did_you_mean(unknown[0], modules)
        raise UserError(f"no layer {unknown[0]!r} in {type(model).__name__}{suggestion}")

    def hook(name: str) -> Callable:
        def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if not isinstance(output, Tensor):
                raise UserError(f"layer {name}: expected a tensor, got {type(output).__name__}")
            kept[name] = keep(output.detach())

        return note

    try:
        handles.append(model.register_forward_pre_hook(lambda module, inputs: kept.clear()))
        handles.extend(modules[name].register_forward_hook(hook(name)) for name in layers)
        yield kept
    finally:
        for handle in handles:
            handle.remove()
