"""log p(x) of the default VAE on MNIST: L_5000 of the held-out images beside the ELBO, the gap, and how z is used.

VAE 784-400-20, softplus, Bernoulli, dynamic binarisation, batch 128, Adam 1e-3, 30 epochs, the run of `ppl fit vae --data
mnist --epochs 30`; L_K = E[log 1/K Σₖ p(x, zₖ) / q(zₖ | x)], a lower bound on log p(x) (Burda et al. 2016, eq. 8). The
ELBO is that of ten draws a row, of the same images, one fixed Bernoulli draw of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.checkpoint import Stages, measured
from benchmarks.staged import Leg, likelihood, sampling_error, trained
from inference import estimate
from inference.evaluate import evaluate
from ppl_models import VAE
from ppl_models.datasets import load


@dataclass(frozen=True)
class Setup:
    """What is trained, and on how much it is judged."""

    model: VAE = VAE(784)
    legs: tuple[Leg, ...] = (Leg(30, 1e-3),)
    batch: int = 128
    seed: int = 0
    rows: int = 10_000  # of the held-out 10,000
    num_samples: int = 5000


QUICK = Setup(legs=(Leg(5, 1e-3),), rows=200)


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train, then judge."""
    data = load("mnist")
    found = trained(stages, "vae", setup.model, data, setup.legs, setup.seed, batch=setup.batch)

    def judged() -> tuple[dict[str, Any], dict[str, Any]]:
        e = evaluate(found, num_samples=10, rows=setup.rows)
        return {}, {"elbo": e.elbo.to_json(), "active_units": e.active_units["z"], "kl": float(e.kl["z"].sum())}

    told = stages("elbo", judged).told
    rows = likelihood(stages, "likelihood", found, setup.rows, setup.num_samples)
    value = estimate.mean(rows.log_likelihood)
    return {
        "log_likelihood": value.to_json(),
        "standard_error_sampling": sampling_error(rows),
        **{name: told[name] for name in ("elbo", "active_units", "kl")},
        "gap": value.value - told["elbo"]["value"],
        "data": data.card,
        "separation": value.low - told["elbo"]["high"],  # of the two intervals; positive where they lie apart
    }


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` trains for 5 epochs and judges 200 rows."""
    return measured("vae_likelihood", QUICK if quick else Setup(), budget, work)
