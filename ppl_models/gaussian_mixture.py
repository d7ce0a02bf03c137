"""Gaussian mixture (McLachlan and Peel 2000)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

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
        logits, components = self.logits(ppl), self.components(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            k = ppl.sample("assignment", ppl.dist.Categorical(logits=logits))
            ppl.sample("x", self.component(ppl, *(part[k] for part in components)), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        log_joint = self.log_joint(ppl, x)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("assignment", ppl.dist.Categorical(logits=log_joint))

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Components at random rows, each as wide as the data."""
        K, D = self.num_components, self.data_dim
        spread = np.maximum(x.std(0), 1e-2)
        scale = {"tied": spread, "spherical": np.full((K, 1), np.sqrt(np.mean(spread**2)))}
        params = {
            "logits": np.zeros(K),
            "locs": x[rng.choice(len(x), K, replace=len(x) < K)],
            "scale": scale.get(self.covariance, np.tile(spread, (K, 1))),
        }
        lower = {"full": (K, D, D), "tied": (D, D)}
        return params | ({"lower": np.zeros(lower[self.covariance])} if self.covariance in lower else {})

    def log_evidence(self, ppl: Language, x: Array) -> Array:
        """log p(x) of each row, nats, shape x.shape[:-1]."""
        return ppl.logsumexp(self.log_joint(ppl, x))
