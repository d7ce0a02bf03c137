"""Gaussian mixture (McLachlan and Peel 2000)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import e, log, log2, pi, prod
from typing import Any, Literal, cast

import numpy as np

from .errors import InputError
from .kmeans import NUMPY, one_hot, soft_clusters
from .language import Array, Distribution, Language
from .networks import constant, uniform

Covariance = Literal["full", "tied", "diagonal", "spherical"]
LOG2E = log2(e)
BLOCK = 640_000  # numbers: 2.5 MB in single precision


@dataclass(frozen=True)
class GaussianMixture:
    """p(x, k) = softmax(π)ₖ N(x; μₖ, Lₖ Lₖᵀ), Lₖ lower triangular; log p(x) = log Σₖ p(x, k).

    The guide is the exact posterior over components (the responsibilities), computed from the model's own parameters:
    the bound is tight. `covariance`: "full" (a matrix each), "tied" (one for all), "diagonal", "spherical".
    `marginal`: the assignment is summed out of model and guide, which leaves nothing to draw.
    Sites: `assignment` () unless marginal, `x` (data_dim,) in the plate `data`. Parameters: `logits` (K,), `locs` (K, D),
    `scale` (the diagonal of L: (K, D), (D,), (K, D) or (K, 1)) and, for full and tied, `lower` (below it).

    EM maximises the likelihood over covariances Σₖ ⪰ `floor` · diag(V), V the columns' variances (Hathaway 1985), so that
    no component collapses onto a row; a constant column counts as one of variance 1.
    """

    data_dim: int
    num_components: int = 3
    covariance: Covariance = "full"
    marginal: bool = False
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if self.covariance not in ("full", "tied", "diagonal", "spherical"):
            raise InputError(f"expected covariance full, tied, diagonal or spherical, got '{self.covariance}'; "
                             "choose one of those.")  # fmt: skip
        if not 0 < self.floor < 1:
            raise InputError(f"expected a floor between 0 and 1, a share of the columns' variances, got {self.floor!r}; "
                             "leave it out, or give such a share.")  # fmt: skip

    @property
    def num_params(self) -> int:
        """Free parameters: the weights sum to one."""
        K, D = self.num_components, self.data_dim
        full = D * (D + 1) // 2
        return K - 1 + K * D + {"full": K * full, "tied": full, "diagonal": K * D, "spherical": K}[self.covariance]

    def logits(self, ppl: Language) -> Array:
        return ppl.param("logits", constant(ppl, 0.0, self.num_components))

    def components(self, ppl: Language) -> tuple[Array, ...]:
        """Locations (K, D), and the diagonal of L (K, D) or (K, 1), or L and its inverse (K, D, D)."""
        K, D = self.num_components, self.data_dim
        locs = ppl.param("locs", uniform(ppl, 2.0, K, D))
        shape = {"full": (K, D), "tied": (D,), "diagonal": (K, D), "spherical": (K, 1)}[self.covariance]
        scale = ppl.param("scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        if self.covariance in ("diagonal", "spherical"):
            return locs, scale
        below = ppl.param("lower", constant(ppl, 0.0, *shape, D))
        factor = ppl.xp.tril(below, k=-1) + scale[..., None] * ppl.xp.eye(D)
        copies = ppl.xp.zeros((K, D, D))
        return locs, factor + copies, ppl.xp.linalg.inv(factor) + copies

    def component(self, ppl: Language, locs: Array, *factors: Array) -> Distribution:
        if self.covariance in ("diagonal", "spherical"):
            return ppl.dist.Normal(locs, *factors).to_event(1)
        return ppl.whitened_normal(locs, *factors)

    def log_joint(self, ppl: Language, x: Array) -> Array:
        """log p(x, k), shape (*x.shape[:-1], K)."""
        mixture = self.component(ppl, *self.components(ppl))
        return ppl.log_softmax(self.logits(ppl)) + mixture.log_prob(x[..., None, :])

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        prior, components = ppl.dist.Categorical(logits=self.logits(ppl)), self.components(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            if self.marginal:
                ppl.sample("x", ppl.dist.MixtureSameFamily(prior, self.component(ppl, *components)), obs=x)
            else:
                k = ppl.sample("assignment", prior)
                ppl.sample("x", self.component(ppl, *(part[k] for part in components)), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        if self.marginal:
            return
        log_joint = self.log_joint(ppl, x)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("assignment", ppl.dist.Categorical(logits=log_joint))

    def log_evidence(self, ppl: Language, x: Array) -> Array:
        """log p(x) of each row, nats, shape x.shape[:-1]."""
        return ppl.logsumexp(self.log_joint(ppl, x))

    # --- EM: both steps are products of the rows' features with a matrix (K, features) ---------------------------------

    def summarise(self, ppl: Language, x: Array) -> dict[str, Array]:
        """The rows about their mean with the powers that log p(x, k) is linear in, (N, features), and what never changes."""
        centre = x.sum(0) / x.shape[0]
        x = x - centre
        variance = (x**2).sum(0) / x.shape[0]
        if self.covariance == "spherical":
            variance = variance.sum() / self.data_dim
        floor = self.floor * ppl.xp.where(variance > 0, variance, ppl.xp.ones_like(variance))
        powers = {"diagonal": lambda: [x, x**2], "spherical": lambda: [x, (x**2).sum(-1)[:, None]]}
        features = ppl.xp.concat(powers.get(self.covariance, lambda: [x])(), axis=-1)
        out = {"centre": centre, "floor": floor, "features": features}
        return out | ({"scatter": x.mT @ x} if self.covariance == "tied" else {})

    def expected(self, ppl: Language, data: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """Statistics weighted by the responsibilities, and Σₙ log p(xₙ)."""
        log_joint, common = self._log_joint(ppl, data)

        def sums(features: Array) -> tuple[Array, ...]:
            share, total = responsibilities(ppl, log_joint(features))
            return *self._sums(ppl, features, share), total

        *found, total = over_rows(ppl, sums, data["features"])
        return self._statistics(data, *found), total + common

    def _log_joint(self, ppl: Language, data: Mapping[str, Array]) -> tuple[Callable[[Array], Array], Array | float]:
        """log₂ p(x, k) of features, (K, rows), less what no component changes; the sum of that over all rows, in nats."""
        locs, *factors = self.components(ppl)
        locs, constants, whole = locs - data["centre"], ppl.log_softmax(self.logits(ppl)), self.data_dim / 2 * log(2 * pi)
        if self.covariance in ("diagonal", "spherical"):
            precision, repeats = factors[0] ** -2, 1 if self.covariance == "diagonal" else self.data_dim
            scaled = precision * locs
            constants = constants - whole - (scaled * locs).sum(-1) / 2 - repeats * ppl.xp.log(factors[0]).sum(-1)
            weights, constants = ppl.xp.concat([scaled, precision * -0.5], axis=-1) * LOG2E, constants[:, None] * LOG2E
            return lambda features: weights @ features.mT + constants, 0.0
        whiteners = factors[1]
        log_det = ppl.xp.log(ppl.xp.linalg.diagonal(whiteners)).sum(-1)
        if self.covariance == "tied":
            white = locs @ whiteners[0].mT
            constants = constants - (white**2).sum(-1) / 2
            energy = ((whiteners[0] @ data["scatter"]) * whiteners[0]).sum() / 2
            weights, constants = white @ whiteners[0] * LOG2E, constants[:, None] * LOG2E
            common = data["features"].shape[0] * (log_det[0] - whole) - energy
            return lambda features: weights @ features.mT + constants, common

        def full(features: Array) -> Array:
            squares = [(((features - locs[k]) @ whiteners[k].mT) ** 2).sum(-1) for k in range(self.num_components)]
            return ((constants + log_det - whole)[:, None] - ppl.xp.stack(squares) / 2) * LOG2E

        return full, 0.0

    def statistics(self, ppl: Language, x: Array, latents: Mapping[str, Array]) -> dict[str, Array]:
        """Of rows whose `assignment` is given."""
        data, share = self.summarise(ppl, x), one_hot(ppl, self.num_components, latents["assignment"], x.dtype)
        return self._statistics(data, *self._sums(ppl, data["features"], share))

    def _sums(self, ppl: Language, features: Array, share: Array) -> tuple[Array, ...]:
        """Sums over rows of share · (1, features) and, if full, share · x xᵀ."""
        moments = share.sum(-1), share @ features
        if self.covariance != "full":
            return moments
        return *moments, ppl.xp.stack([(weight[:, None] * features).mT @ features for weight in share])

    def _statistics(self, data: Mapping[str, Array], count: Array, moments: Array, *outer: Array) -> dict[str, Array]:
        """Those sums by name, with x² as the covariance asks: (K, D), (K, 1), (K, D, D), or (D, D) if tied."""
        square = outer[0] if outer else data["scatter"] if self.covariance == "tied" else moments[:, self.data_dim :]
        sums = {"count": count, "sum": moments[:, : self.data_dim], "square": square}
        return {"centre": data["centre"], "floor": data["floor"], **sums}

    def maximise(self, ppl: Language, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """The parameters of largest expected log p(x, k), covariances not below the floor."""
        xp, count, square, floor = ppl.xp, statistics["count"], statistics["square"], statistics["floor"]
        total, held = count.sum(), count + xp.finfo(count.dtype).tiny
        locs = statistics["sum"] / held[:, None]
        params = {"logits": xp.log(held / total), "locs": statistics["centre"] + locs}
        if self.covariance in ("diagonal", "spherical"):
            own = locs**2 if self.covariance == "diagonal" else (locs**2).sum(-1)[:, None]
            columns = self.data_dim // square.shape[-1]
            return params | {"scale": xp.maximum((square / held[:, None] - own) / columns, floor) ** 0.5}
        outer = locs[:, :, None] * locs[:, None, :]
        if self.covariance == "tied":
            covariance = (square - (count[:, None, None] * outer).sum(0)) / total
        else:
            covariance = square / held[:, None, None] - outer
        scale, lower = factorised(xp, covariance, floor)
        return params | {"scale": scale, "lower": lower}

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One M step from soft clusters."""
        x, share = soft_clusters(x, self.num_components, rng)
        data = self.summarise(NUMPY, x)
        found = self.maximise(NUMPY, self._statistics(data, *self._sums(NUMPY, data["features"], share)))
        return cast(dict[str, np.ndarray], found)


def over_rows(ppl: Language, sums: Callable[[Array], tuple[Array, ...]], features: Array) -> list[Array]:
    """`sums(features)`, each additive over rows, in blocks of rows that stay in the cache from one product to the next."""
    rows, size = features.shape
    block = max(1, BLOCK // size)
    if rows < 2 * block:
        return list(sums(features))
    last = features.shape[0] // block * block
    out = list(sums(features[:block]))

    def one(carry: Any, rows: Array) -> tuple[Any, Array]:
        # A product reads its operand out of order; a copy reads it in order, which brings it into the cache 1.4 times as fast.
        near = ppl.xp.asarray(rows, copy=True).reshape(block, size)
        return carry, ppl.xp.concat([part.reshape(-1) for part in sums(near)], axis=0)

    flat = ppl.scan(one, 0.0, features[block:last].reshape(last // block - 1, block * size)).sum(0)
    for i, part in enumerate(out):
        length = prod(part.shape)
        out[i], flat = part + ppl.xp.reshape(flat[:length], part.shape), flat[length:]
    return out if last == rows else [a + b for a, b in zip(out, sums(features[last:]), strict=True)]


def responsibilities(ppl: Language, log_joint: Array) -> tuple[Array, Array]:
    """p(k | xₙ), (K, N), and Σₙ log p(xₙ) in nats, from log₂ p(x, k), (K, N).

    Sums over a short last axis would be slow, and so would exponentials to any other base than 2.
    """
    top = ppl.xp.max(log_joint, axis=0)
    share = ppl.xp.exp2(log_joint - top)
    mass = share.sum(0)
    return share / mass, ppl.xp.log(mass).sum() + top.sum() / LOG2E


def factorised(xp: Any, covariance: Array, floor: Array) -> tuple[Array, Array]:
    """The Cholesky factor, as its diagonal and what lies below it, of the nearest covariance Σ ⪰ diag(floor).

    Eigenvalues of diag(floor)^(-½) Σ diag(floor)^(-½) below 1 become 1: the maximum of the expected log-likelihood under
    that constraint. The factor is taken by QR, which an ill-conditioned Σ does not break in single precision.
    """
    unit = floor**0.5
    values, vectors = xp.linalg.eigh(covariance / (unit[:, None] * unit))
    root = xp.clip(values, min=1.0)[..., None] ** 0.5 * vectors.mT * unit
    upper = xp.linalg.qr(root)[1]
    factor = (upper * xp.sign(xp.linalg.diagonal(upper))[..., None]).mT
    return xp.linalg.diagonal(factor), xp.tril(factor, k=-1)
