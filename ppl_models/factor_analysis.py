"""Factor analysis, and probabilistic PCA as its isotropic case (Tipping and Bishop 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .language import Array, Distribution, Language
from .networks import constant, uniform


@dataclass(frozen=True)
class FactorAnalysis:
    """p(x, z) = N(z; 0, I) N(x; W z + b, diag σ²), so that p(x) = N(x; b, W Wᵀ + diag σ²).

    The guide is the exact posterior N(z; M Wᵀ diag(σ⁻²)(x − b), M) with M = (I + Wᵀ diag(σ⁻²) W)⁻¹, computed from the
    model's own parameters: the bound is tight. `isotropic` shares one σ (probabilistic PCA).
    Sites: `z` (latent_dim,), `x` (data_dim,) in the plate `data`. Parameters: `loading` (data_dim, latent_dim),
    `loc` (data_dim,), `scale` (data_dim,) or (). Source: Tipping and Bishop 1999, eqs 2 to 7.
    """

    data_dim: int
    latent_dim: int = 2
    isotropic: bool = False

    def parameters(self, ppl: Language) -> tuple[Array, Array, Array]:
        shape = () if self.isotropic else (self.data_dim,)
        loading = ppl.param("loading", uniform(ppl, 0.5, self.data_dim, self.latent_dim))
        loc = ppl.param("loc", constant(ppl, 0.0, self.data_dim))
        scale = ppl.param("scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        return loading, loc, scale + ppl.xp.zeros(self.data_dim)

    def prior(self, ppl: Language) -> Distribution:
        return ppl.dist.MultivariateNormal(ppl.xp.zeros(self.latent_dim), scale_tril=ppl.xp.eye(self.latent_dim))

    def posterior(self, ppl: Language, x: Array) -> Distribution:
        loading, loc, scale = self.parameters(ppl)
        whitened = loading / scale[:, None] ** 2
        covariance = ppl.xp.linalg.inv(ppl.xp.eye(self.latent_dim) + loading.mT @ whitened)
        # One factor for all rows: given a covariance, both libraries factorise it once a row.
        return ppl.dist.MultivariateNormal((x - loc) @ whitened @ covariance, scale_tril=ppl.xp.linalg.cholesky(covariance))

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        loading, loc, scale = self.parameters(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl))
            ppl.sample("x", ppl.dist.Normal(z @ loading.mT + loc, scale).to_event(1), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.posterior(ppl, x))

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Independent columns, and loadings a tenth of their scale."""
        spread = np.maximum(x.std(0), 1e-2)
        scale = np.sqrt(np.mean(spread**2)) if self.isotropic else spread
        loading = 0.1 * spread[:, None] * rng.standard_normal((self.data_dim, self.latent_dim))
        return {"loading": loading, "loc": x.mean(0), "scale": np.asarray(scale)}

    def log_evidence(self, ppl: Language, x: Array) -> Array:
        """log p(x) of each row, nats, shape x.shape[:-1]."""
        loading, loc, scale = self.parameters(ppl)
        return ppl.dist.LowRankMultivariateNormal(loc, loading, scale**2).log_prob(x)
