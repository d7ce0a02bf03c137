"""Variances with a closed form: gradients of E[x²], x ~ Normal(d, σ) at σ = 1 (Mohamed et al. 2020, figure 2).

    score function   Var ∂/∂d = d⁴ + 14 d² + 15    Var ∂/∂σ = 2 d⁴ + 60 d² + 74
    pathwise         Var ∂/∂d = 4                  Var ∂/∂σ = 4 d² + 8

(by quadrature, not read off the figure). Each measured mean and variance is held to its exact sampling error, from the
exact fourth moment, at a family-wise false-alarm rate of 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import bind

REPLICATES, DISTANCES, ENGINES = 100_000, (0.0, 1.0, -2.0, 4.0), ("numpyro", "pyro")


@dataclass(frozen=True)
class Square:
    """f(x) = x² under a Normal: the sites' own log probabilities are masked out of the bound."""

    def model(self, ppl: Any, x: Any) -> None:
        value = ppl.sample("value", ppl.dist.Normal(ppl.xp.zeros(()), 1.0).mask(False))
        ppl.factor("square", value**2)

    def guide(self, ppl: Any, x: Any) -> None:
        loc = ppl.param("loc", ppl.xp.zeros(()))
        scale = ppl.param("scale", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        ppl.sample("value", ppl.dist.Normal(loc, scale).mask(False))


#: The variances at loc d of the derivatives in loc and in scale, and the estimates themselves from noise e.
CLOSED = {
    "score": (
        lambda d: (d**4 + 14 * d**2 + 15, 2 * d**4 + 60 * d**2 + 74),
        lambda d, e: np.stack([(d + e) ** 2 * e, (d + e) ** 2 * (e**2 - 1)]),
    ),
    "pathwise": (lambda d: (4.0, 4 * d**2 + 8), lambda d, e: np.stack([2 * (d + e), 2 * (d + e) * e])),
}


def moments(name: str, d: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and central fourth moment of the estimates, by quadrature."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(30)
    mass = mass / mass.sum()
    values = CLOSED[name][1](d, nodes)
    mean = (values * mass).sum(1)
    central = values - mean[:, None]
    return mean, (central**2 * mass).sum(1), (central**4 * mass).sum(1)


def measure(engine: str, replicates: int = REPLICATES) -> list[dict[str, Any]]:
    """One row an estimator, distance and parameter."""
    from scipy.stats import norm

    family = len(ENGINES) * len(CLOSED) * len(DISTANCES) * 2 * 2  # two parameters, two moments
    critical, rows = float(norm.isf(1e-6 / family / 2)), []
    probes, bound = import_module(f"inference.gradients._{engine}"), bind(Square(), engine)
    with import_module(f"inference._{engine}").session("float32", "cpu"):
        for name, (variances, _) in CLOSED.items():
            start = {"loc": np.zeros(()), "scale": np.ones(())}
            gradients = probes.Gradients(*bound, (np.zeros((1, 1)),), {}, name, start, 1)
            for seed, d in enumerate(DISTANCES):
                params = {"loc": np.asarray(d), "scale": np.ones(())}
                found = gradients.many(params, {}, replicates, seed).astype(np.float64)
                mean, variance, fourth = moments(name, d)
                mean_z = abs(found.mean(0) - mean) / np.sqrt(variance / replicates)
                variance_z = abs(found.var(0, ddof=1) - variance) / np.sqrt((fourth - variance**2) / replicates)
                for i, parameter in enumerate(("loc", "scale")):
                    rows.append({
                        "engine": engine, "estimator": name, "d": d, "parameter": parameter, "exact": variances(d)[i],
                        "measured": found.var(0, ddof=1)[i], "mean_z": mean_z[i], "variance_z": variance_z[i],
                        "critical": critical,
                    })  # fmt: skip
    return rows


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All rows on both engines."""
    rows = [row for engine in ENGINES for row in measure(engine)]
    worst = max(max(row["mean_z"], row["variance_z"]) / row["critical"] for row in rows)
    return {"device": "cpu", "replicates": REPLICATES, "largest_share_of_critical_z": worst, "rows": rows}
