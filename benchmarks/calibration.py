"""Simulation-based calibration: 1,000 simulations a model, every coordinate's ranks inside one family of simultaneous bands.

Local latents given the parameters, by the exact guides of factor analysis and of a Gaussian mixture, on both engines; all
unknowns of a normal and of a marginal Bayesian mixture, by NumPyro's NUTS. The family-wise error of all of them together is
1e-6. As a negative control, the best factorised guide of factor analysis whose posterior has a correlation of 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.calibration import Calibration, by_nuts, of_guide
from ppl_models import BayesianGaussianMixture, FactorAnalysis, GaussianMixture

REPLICATES, DRAWS, ENGINES = 1000, 99, ("numpyro", "pyro")
ALPHA = 1e-6
FAMILY = 2 * (2 + 1) + 2 + 6  # coordinates that are to be calibrated: two engines, then the normal, then the mixture


@dataclass(frozen=True)
class MeanField(FactorAnalysis):
    """Factor analysis with the factorised normal that is nearest to its posterior in KL(q ‖ p): sds from the precision."""

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        exact = self.posterior(ppl, x)
        precision = ppl.xp.linalg.inv(exact.covariance_matrix)  # type: ignore[attr-defined]
        scale = ppl.xp.linalg.diagonal(precision) ** -0.5
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal(exact.mean, scale).to_event(1))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class UnknownNormal:
    """μ ~ N(0, 1), log σ ~ N(0, ½), xₙ ~ N(μ, σ): no conjugate prior, and few rows."""

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        loc = ppl.sample("loc", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        log_scale = ppl.sample("log_scale", ppl.dist.Normal(ppl.xp.zeros(()), 0.5))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", ppl.dist.Normal(loc, ppl.xp.exp(log_scale)).expand([1]).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        """None: NUTS draws all."""


def analysis(correlation: float) -> dict[str, np.ndarray]:
    """Parameters of two factors on three columns whose posterior has this correlation, the same for every row."""
    # p(z | x) has precision I + WᵀΨ⁻¹W: off its diagonal −ρ/(1 − ρ²) times what is on it.
    angle = np.arccos(correlation)
    size = 30.0
    loading = np.array([[size, size * correlation], [0.0, size * np.sin(angle)], [0.0, 0.0]])
    return {"loading": loading * np.array([1.0, -1.0]), "loc": np.array([0.5, -1.0, 2.0]), "scale": np.array([1.0, 1.0, 0.7])}


def mixture() -> dict[str, np.ndarray]:
    """Parameters of three components that overlap."""
    rng = np.random.default_rng(0)
    return {"logits": np.array([0.3, -0.2, 0.0]), "locs": rng.normal(0, 1.5, (3, 2)), "scale": rng.uniform(0.7, 1.2, (3, 2)),
            "lower": np.tril(rng.normal(0, 0.3, (3, 2, 2)), -1)}  # fmt: skip


def moderate() -> dict[str, np.ndarray]:
    """Parameters of factor analysis with a posterior that is neither the prior nor a point."""
    rng = np.random.default_rng(1)
    return {"loading": rng.normal(0, 0.8, (3, 2)), "loc": np.zeros(3), "scale": np.array([0.8, 1.0, 1.2])}


def ordered(latents: Any) -> dict[str, np.ndarray]:
    """Latents of a mixture of one column, its components numbered by their locations."""
    order = np.argsort(latents["locs"][..., 0], axis=-1)
    out = {name: np.take_along_axis(latents[name], order[..., None], -2) for name in ("locs", "precision")}
    return out | {"weights": np.take_along_axis(latents["weights"], order, -1)}


def told(found: Calibration) -> dict[str, Any]:
    """What the record keeps."""
    return {"calibrated": found.calibrated, "outside": dict(zip(found.names, found.outside.tolist(), strict=True)),
            "least_room": float(found.room.min()), "replicates": len(found.ranks), "draws": found.draws}  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All of them; `quick` takes 200 simulations and leaves NUTS out."""
    count = 200 if quick else REPLICATES
    family: dict[str, Any] = {"replicates": count, "draws": DRAWS, "alpha": ALPHA, "family": FAMILY}
    rows = {}
    for engine in ENGINES:
        rows[f"factor_analysis.{engine}"] = of_guide(FactorAnalysis(3, 2), moderate(), 3, engine=engine, seed=10, **family)
        rows[f"gaussian_mixture.{engine}"] = of_guide(GaussianMixture(2, 3), mixture(), 2, engine=engine, seed=20, **family)
    if not quick:
        rows["normal.nuts"] = by_nuts(UnknownNormal(), 1, rows=8, seed=30, thin=5, **family)
        bayesian = BayesianGaussianMixture(1, 2, marginal=True, count=0.5, shape=4.0, rate=2.0)
        rows["bayesian_mixture.nuts"] = by_nuts(bayesian, 1, rows=10, seed=40, thin=8, statistic=ordered, **family)
    control = of_guide(MeanField(3, 2), analysis(0.9), 3, engine="numpyro", seed=50, **family)
    return {
        "device": "cpu", "alpha": ALPHA, "complete": not quick, "rows": {name: told(found) for name, found in rows.items()},
        "uncalibrated": sum(not found.calibrated for found in rows.values()), "control": told(control),
        "control_outside": int(control.outside.min()),
    }  # fmt: skip
