"""Gaussian mixture (McLachlan and Peel 2000)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import InputError
from .language import Array, Distribution, Language
from .networks import constant, uniform

Covariance = Literal["full", "tied", "diagonal", "spherical"]


@dataclass(frozen=True)
class GaussianMixture:
    """p(x, k) = softmax(π)ₖ N(x; μₖ, Lₖ Lₖᵀ), Lₖ lower triangular; log p(x) = log Σₖ p(x, k).

    The guide is the exact posterior over components (the responsibilities), computed from the model's own parameters:
    the bound is tight. `covariance`: "full" (a matrix each), "tied" (one for all), "diagonal", "spherical".
    Sites: `assignment` (), `x` (data_dim,) in the plate `data`. Parameters: `logits` (K,), `locs` (K, D), `scale`
    (the diagonal of L: (K, D), (D,), (K, D) or (K, 1)) and, for full and tied, `lower` (below it).
    """

    data_dim: int
    num_components: int = 3
    covariance: Covariance = "full"

    def __post_init__(self) -> None:
        if self.covariance not in ("full", "tied", "diagonal", "spherical"):
            raise InputError(f"expected covariance full, tied, diagonal or spherical, got '{self.covariance}'; "
                             "choose one of those.")  # fmt: skip

    def logits(self, ppl: Language) -> Array:
        return ppl.param("logits", constant(ppl, 0.0, self.num_components))

    def components(self, ppl: Language) -> tuple[Array, Array]:
        """Locations (K, D) and factors of the covariances: L (K, D, D), or its diagonal (K, D)."""
        K, D = self.num_components, self.data_dim
        locs = ppl.param("locs", uniform(ppl, 2.0, K, D))
        shape = {"full": (K, D), "tied": (D,), "diagonal": (K, D), "spherical": (K, 1)}[self.covariance]
        scale = ppl.param("scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        if self.covariance in ("diagonal", "spherical"):
            return locs, scale + ppl.xp.zeros((K, D))
        below = ppl.param("lower", constant(ppl, 0.0, *shape, D))
        factor = ppl.xp.tril(below, k=-1) + scale[..., None] * ppl.xp.eye(D)
        return locs, factor + ppl.xp.zeros((K, D, D))

    def component(self, ppl: Language, locs: Array, factor: Array) -> Distribution:
        if self.covariance in ("diagonal", "spherical"):
            return ppl.dist.Normal(locs, factor).to_event(1)
        return ppl.dist.MultivariateNormal(locs, scale_tril=factor)

    def log_joint(self, ppl: Language, x: Array) -> Array:
        """log p(x, k), shape (*x.shape[:-1], K)."""
        mixture = self.component(ppl, *self.components(ppl))
        return ppl.log_softmax(self.logits(ppl)) + mixture.log_prob(x[..., None, :])

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        logits, (locs, factor) = self.logits(ppl), self.components(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            k = ppl.sample("assignment", ppl.dist.Categorical(logits=logits))
            ppl.sample("x", self.component(ppl, locs[k], factor[k]), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        log_joint = self.log_joint(ppl, x)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("assignment", ppl.dist.Categorical(logits=log_joint))

    def log_evidence(self, ppl: Language, x: Array) -> Array:
        """log p(x) of each row, nats, shape x.shape[:-1]."""
        return ppl.logsumexp(self.log_joint(ppl, x))
