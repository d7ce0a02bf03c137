"""Bayesian Gaussian mixture with diagonal covariances (Bishop 2006, section 10.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi
from typing import ClassVar, cast

import numpy as np

from .errors import InputError
from .exponential_families import Dirichlet, NormalGamma, columns, kl
from .gaussian_mixture import LOG2E, responsibilities
from .kmeans import NUMPY, soft_clusters
from .language import Array, Distribution, Language
from .networks import constant, uniform


@dataclass(frozen=True)
class BayesianGaussianMixture:
    """p(w, λ, μ, k, x) = Dir(w; α) ∏ₖ Gamma(λₖ; a, b) N(μₖ; m, 1 / cλₖ) · ∏ₙ w_kₙ N(xₙ; μ_kₙ, 1 / λ_kₙ), columns independent.

    The guide is q(w) q(λ, μ) of the same families, and q(k | x) ∝ exp E_q log p(x, k | w, λ, μ), the best for that q; its
    parameters are those that coordinate ascent finds, which `summarise`, `expected` and `maximise` carry out, with the
    ELBO where EM has log p(x). `marginal`: k is summed out of the model, as NUTS needs it, and absent from the guide.

    The priors α = `concentration`, m = `loc`, c = `count` (of imagined rows), a = `shape`, b = `rate` are weak for columns of
    mean 0 and variance 1: give data so, or priors that fit them.
    Sites: `weights` (K,); `precision`, `locs` (D,) in the plate `components`; `assignment` () unless marginal, `x` (D,) in
    the plate `data`. Parameters of the guide: `weights.concentration` (K,), and (K, D) `precision.shape`, `precision.rate`,
    `locs.loc`, `locs.count`.
    """

    data_dim: int
    num_components: int = 3
    marginal: bool = False
    concentration: float = 1.0
    loc: float = 0.0
    count: float = 0.01
    shape: float = 1.0
    rate: float = 1.0
    bayesian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("concentration", "count", "shape", "rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"expected {name} to be a positive number, got {getattr(self, name)!r}; change that prior.")

    @property
    def size(self) -> tuple[int, int]:
        return self.num_components, self.data_dim

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        weights = ppl.sample("weights", ppl.dist.Dirichlet(ppl.xp.full((self.num_components,), self.concentration)))
        with ppl.plate("components", self.num_components):
            shape, rate = ppl.xp.full(self.size, self.shape), ppl.xp.full(self.size, self.rate)
            precision = ppl.sample("precision", ppl.dist.Gamma(shape, rate).to_event(1))
            locs = ppl.sample("locs", ppl.dist.Normal(self.loc, (self.count * precision) ** -0.5).to_event(1))
        prior = ppl.dist.Categorical(logits=ppl.xp.log(weights))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            if self.marginal:
                each = locs[..., None, :, :], precision[..., None, :, :]
                ppl.sample("x", ppl.dist.MixtureSameFamily(prior, self.component(ppl, *each)), obs=x)
            else:
                k = ppl.sample("assignment", prior)
                # A product and not an index: draws may have leading dims of their own.
                chosen = 1.0 * (k[..., None] == ppl.xp.arange(self.num_components))
                ppl.sample("x", self.component(ppl, chosen @ locs, chosen @ precision), obs=x)

    def component(self, ppl: Language, locs: Array, precision: Array) -> Distribution:
        return ppl.dist.Normal(locs, precision**-0.5).to_event(1)

    def posterior(self, ppl: Language) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        """Standard parameters of q(w), and of q(μ, λ)."""

        def positive(name: str, *shape: int) -> Array:
            return ppl.param(name, constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)

        concentration = positive("weights.concentration", self.num_components)
        loc = ppl.param("locs.loc", uniform(ppl, 2.0, *self.size))
        names = ("locs.count", "precision.shape", "precision.rate")
        return concentration, (loc, *(positive(name, *self.size) for name in names))  # type: ignore[return-value]

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        concentration, (loc, count, shape, rate) = self.posterior(ppl)
        ppl.sample("weights", ppl.dist.Dirichlet(concentration))
        with ppl.plate("components", self.num_components):
            precision = ppl.sample("precision", ppl.dist.Gamma(shape, rate).to_event(1))
            ppl.sample("locs", ppl.dist.Normal(loc, (count * precision) ** -0.5).to_event(1))
        if not self.marginal:
            log_joint = self._expected_log_joint(ppl, self.summarise(ppl, x))
            with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
                ppl.sample("assignment", ppl.dist.Categorical(logits=log_joint.mT))

    # --- coordinate ascent: q(k) given q(w, λ, μ), and back ------------------------------------------------------------

    def summarise(self, ppl: Language, x: Array) -> dict[str, Array]:
        """The rows about their mean, and their squares, (N, 2 D)."""
        centre = x.sum(0) / x.shape[0]
        return {"centre": centre, "features": ppl.xp.concat([x - centre, (x - centre) ** 2], axis=-1)}

    def expected(self, ppl: Language, data: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """Statistics weighted by q(k), and the ELBO at that q(k): Σₙ log Σₖ exp E_q log p(xₙ, k) − KL(q ‖ p) of w, λ, μ."""
        share, total = responsibilities(ppl, self._expected_log_joint(ppl, data) * LOG2E)
        concentration, standard = self.posterior(ppl)
        weights_prior, components_prior = self._priors(ppl, 0 * data["centre"])
        weights = kl(ppl, Dirichlet(), Dirichlet().natural(ppl, concentration), weights_prior)
        components = kl(ppl, NormalGamma(), NormalGamma().natural(ppl, *standard), components_prior)
        return self._statistics(data, share), total - weights - components.sum()

    def _expected_log_joint(self, ppl: Language, data: Mapping[str, Array]) -> Array:
        """E_q log p(x, k | w, λ, μ), (K, N)."""
        concentration, (loc, *rest) = self.posterior(ppl)
        moments = NormalGamma().mean(ppl, NormalGamma().natural(ppl, loc - data["centre"], *rest))
        log_precision, precision, first, second = (moments[..., i] for i in range(4))
        constants = Dirichlet().mean(ppl, Dirichlet().natural(ppl, concentration))
        constants = constants + (log_precision - second - log(2 * pi)).sum(-1) / 2
        return ppl.xp.concat([first, -precision / 2], axis=-1) @ data["features"].mT + constants[:, None]

    def _statistics(self, data: Mapping[str, Array], share: Array) -> dict[str, Array]:
        moments = share @ data["features"]
        sums, squares = moments[:, : self.data_dim], moments[:, self.data_dim :]
        return {"centre": data["centre"], "count": share.sum(-1), "sum": sums, "square": squares}

    def _priors(self, ppl: Language, centre: Array) -> tuple[Array, Array]:
        """Natural parameters of w's prior (K,), and of (μ − centre, λ)'s (K, D, 4)."""
        concentration, *rest = (0 * centre.sum() + v for v in (self.concentration, self.count, self.shape, self.rate))
        locs = self.loc - centre + ppl.xp.zeros(self.size)
        natural = NormalGamma().natural(ppl, locs, *rest)
        return Dirichlet().natural(ppl, concentration + ppl.xp.zeros(self.num_components)), natural

    def maximise(self, ppl: Language, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """q(w, λ, μ) given q(k): natural parameters of the prior plus expected statistics."""
        count, centre = statistics["count"], statistics["centre"]
        weights, components = self._priors(ppl, centre)
        half = count[:, None] / 2
        gained = columns(ppl, half, -statistics["square"] / 2, statistics["sum"], -half)
        loc, *rest = NormalGamma().standard(ppl, components + gained)
        named = dict(zip(("locs.count", "precision.shape", "precision.rate"), rest, strict=True))
        return {"weights.concentration": Dirichlet().standard(ppl, weights + count)[0], "locs.loc": loc + centre, **named}

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The q(w, λ, μ) of soft clusters."""
        x, share = soft_clusters(x, self.num_components, rng)
        return cast(dict[str, np.ndarray], self.maximise(NUMPY, self._statistics(self.summarise(NUMPY, x), share)))
