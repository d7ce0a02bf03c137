"""Importance-weighted autoencoders on MNIST: the K-sample bound against the ELBO, equal in all else (Burda et al. 2016).

Their network of one stochastic layer: z (50,), 200-200 tanh units, Bernoulli, dynamic binarisation. Theirs: batch 20,
Adam with ε = 1e-4, 3280 epochs with a falling step size, output biases at the pixels' log odds. Ours: batch 100, Adam
with ε = 1e-8, and `legs`, which is what minutes on one core allow. Table 1 gives −log p of 86.76 for the VAE, 85.54 for K = 5
and 84.78 for K = 50; the best public reproduction 86.35, 85.18 and 84.59. All models take the same steps from the same seed,
and are judged by the same held-out rows; the intervals of the differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.checkpoint import Stages, measured
from benchmarks.staged import Leg, likelihood, sampling_error, trained
from inference import estimate
from inference.evaluate import Rows
from ppl_models import VAE
from ppl_models.datasets import load

PUBLISHED = {"vae": -86.35, "iwae": -85.18}  # nats per datum, after 3280 epochs


@dataclass(frozen=True)
class Setup:
    """What is trained, and on how much it is judged."""

    model: VAE = VAE(784, 50, (200, 200), activation="tanh")
    num_particles: int = 5
    legs: tuple[Leg, ...] = (Leg(20, 1e-3), Leg(10, 1e-3), Leg(15, 3e-4), Leg(15, 1e-4))
    batch: int = 100
    seed: int = 0
    rows: int = 2000  # the first of the held-out 10,000
    num_samples: int = 5000


QUICK = Setup(legs=(Leg(5, 1e-3),), rows=500, num_samples=1000)


def bounds(num_particles: int) -> dict[str, dict[str, Any]]:
    """What each model maximises, as `fit` takes it."""
    many = {"bound": "iwae", "num_particles": num_particles}
    return {"vae": {}, "iwae": many, "iwae_doubly": {**many, "estimator": "doubly-reparameterised"}}


def told(rows: Rows, name: str) -> dict[str, Any]:
    """One model's log-likelihood, beside what was published."""
    value = estimate.mean(rows.log_likelihood)
    published = PUBLISHED.get(name)
    return {
        "log_likelihood": value.to_json(),
        "standard_error_sampling": sampling_error(rows),
        "published": published,
        "short_of_published": None if published is None else published - value.value,
    }


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train and judge each, then compare."""
    data, rows = load("mnist"), dict[str, Rows]()
    for name, bound in bounds(setup.num_particles).items():
        found = trained(stages, name, setup.model, data, setup.legs, setup.seed, batch=setup.batch, **bound)
        rows[name] = likelihood(stages, name, found, setup.rows, setup.num_samples)
    gains = {name: estimate.mean(rows[name].log_likelihood - rows["vae"].log_likelihood) for name in ("iwae", "iwae_doubly")}
    return {
        **{name: told(judged, name) for name, judged in rows.items()},
        "gain": {name: gain.to_json() for name, gain in gains.items()},
        "epochs": sum(leg.epochs for leg in setup.legs),
        "data": data.card,
    }


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` trains for 5 epochs and judges 500 rows by 1,000 samples."""
    return measured("iwae_mnist", QUICK if quick else Setup(), budget, work)
