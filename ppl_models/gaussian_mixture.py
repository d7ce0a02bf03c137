"""Gaussian mixture (McLachlan and Peel 2000)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi
from typing import Any, Literal, cast

import numpy as np

from .errors import InputError
from .kmeans import NUMPY, one_hot, soft_clusters
from .language import Array, Distribution, Language
from .networks import constant, uniform

Covariance = Literal["full", "tied", "diagonal", "spherical"]


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
        """Locations (K, D), and the diagonal of L (K, D) or L and its inverse (K, D, D)."""
        K, D = self.num_components, self.data_dim
        locs = ppl.param("locs", uniform(ppl, 2.0, K, D))
        shape = {"full": (K, D), "tied": (D,), "diagonal": (K, D), "spherical": (K, 1)}[self.covariance]
        scale = ppl.param("scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        if self.covariance in ("diagonal", "spherical"):
            return locs, scale + ppl.xp.zeros((K, D))
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
        """The rows about their mean with the powers that log p(x, k) is linear in, (N, features)."""
        centre = x.sum(0) / x.shape[0]
        x = x - centre
        powers = {"diagonal": lambda: [x, x**2], "spherical": lambda: [x, (x**2).sum(-1)[:, None]]}
        features = ppl.xp.concat(powers.get(self.covariance, lambda: [x])(), axis=-1)
        return {"centre": centre, "features": features} | ({"scatter": x.mT @ x} if self.covariance == "tied" else {})

    def expected(self, ppl: Language, data: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """Statistics weighted by the responsibilities, and Σₙ log p(xₙ)."""
        log_joint, common = self._log_joint(ppl, data)
        share, total = responsibilities(ppl, log_joint)
        return self._statistics(ppl, data, share), total + common

    def _log_joint(self, ppl: Language, data: Mapping[str, Array]) -> tuple[Array, Array | float]:
        """log p(x, k) of all rows, (K, N), less what no component changes; the sum of that over rows."""
        locs, *factors = self.components(ppl)
        locs, features, constants = locs - data["centre"], data["features"], ppl.log_softmax(self.logits(ppl))
        whole = self.data_dim / 2 * log(2 * pi)
        if self.covariance in ("diagonal", "spherical"):
            precision = factors[0] ** -2
            slopes = precision if self.covariance == "diagonal" else precision[:, :1]
            weights = ppl.xp.concat([precision * locs, -slopes / 2], axis=-1)
            constants = constants - whole - (precision * locs**2 / 2 + ppl.xp.log(factors[0])).sum(-1)
            return weights @ features.mT + constants[:, None], 0.0
        whiteners = factors[1]
        log_det = ppl.xp.log(ppl.xp.linalg.diagonal(whiteners)).sum(-1)
        if self.covariance == "tied":
            white = locs @ whiteners[0].mT
            constants = constants - (white**2).sum(-1) / 2
            energy = ((whiteners[0] @ data["scatter"]) * whiteners[0]).sum() / 2
            return white @ whiteners[0] @ features.mT + constants[:, None], features.shape[0] * (log_det[0] - whole) - energy
        squares = [(((features - locs[k]) @ whiteners[k].mT) ** 2).sum(-1) for k in range(self.num_components)]
        return (constants + log_det - whole)[:, None] - ppl.xp.stack(squares) / 2, 0.0

    def statistics(self, ppl: Language, x: Array, latents: Mapping[str, Array]) -> dict[str, Array]:
        """Of rows whose `assignment` is given."""
        share = one_hot(ppl, self.num_components, latents["assignment"], x.dtype)
        return self._statistics(ppl, self.summarise(ppl, x), share)

    def _statistics(self, ppl: Language, data: Mapping[str, Array], share: Array) -> dict[str, Array]:
        """Sums over rows of share · (1, x, x²), x² as the covariance asks: (K, D), (K, 1), (K, D, D), or (D, D) if tied."""
        D, features = self.data_dim, data["features"]
        moments = share @ features
        if self.covariance == "tied":
            squares = data["scatter"]
        elif self.covariance == "full":
            squares = ppl.xp.stack([(weight[:, None] * features).mT @ features for weight in share])
        else:
            squares = moments[:, D:]
        return {"centre": data["centre"], "count": share.sum(-1), "sum": moments[:, :D], "square": squares}

    def maximise(self, ppl: Language, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """The parameters of largest expected log p(x, k), covariances not below the floor."""
        xp, count, square = ppl.xp, statistics["count"], statistics["square"]
        total, held = count.sum(), xp.clip(count, min=xp.finfo(count.dtype).tiny)
        locs = statistics["sum"] / held[:, None]
        params = {"logits": xp.log(held / total), "locs": statistics["centre"] + locs}
        if self.covariance in ("diagonal", "spherical"):
            own = locs**2 if self.covariance == "diagonal" else (locs**2).sum(-1)[:, None]
            columns = self.data_dim // square.shape[-1]
            variance = (square / held[:, None] - own) / columns
            return params | {"scale": xp.maximum(variance, self._floor(xp, square.sum(0) / total / columns)) ** 0.5}
        outer = locs[:, :, None] * locs[:, None, :]
        if self.covariance == "tied":
            covariance, overall = (square - (count[:, None, None] * outer).sum(0)) / total, square / total
        else:
            covariance, overall = square / held[:, None, None] - outer, square.sum(0) / total
        scale, lower = factorised(xp, covariance, self._floor(xp, xp.linalg.diagonal(overall)))
        return params | {"scale": scale, "lower": lower}

    def _floor(self, xp: Any, variance: Any) -> Array:
        return self.floor * xp.where(variance > 0, variance, xp.ones_like(variance))

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One M step from soft clusters."""
        x, share = soft_clusters(x, self.num_components, rng)
        return cast(dict[str, np.ndarray], self.maximise(NUMPY, self._statistics(NUMPY, self.summarise(NUMPY, x), share)))


def responsibilities(ppl: Language, log_joint: Array) -> tuple[Array, Array]:
    """p(k | xₙ), (K, N), and Σₙ log p(xₙ), from log p(x, k), (K, N): sums over a short last axis would be slow."""
    share = ppl.softmax(log_joint, axis=0)
    # log p(x) = log p(x, k) − log p(k | x) at any k: at the likeliest nothing underflows, and no exponential is taken twice.
    return share, (ppl.xp.max(log_joint, axis=0) - ppl.xp.log(ppl.xp.max(share, axis=0))).sum()


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
