"""The rest of a digit from 1, 2 or 3 of its quadrants: the CVAE against a network without a latent (Sohn et al. 2015).

−log p(x | c) of the pixels x that are not seen, nats per image: exact for the baseline, by K importance samples for the
CVAE, −log 1/K Σₖ p(x, zₖ | c) / q(zₖ | x, c), on average an upper bound on the true value. 500-500 relu units, z (50,), Adam
1e-3; each model keeps the epoch with the best bound on 10,000 validation rows, and training ends `patience` epochs after
it. Sohn's protocol in Pyro's tutorial, which scores grey pixels, gives 100.4, 61.9 and 25.4 for the baseline and 71.8, 51.0
and 24.2 for the CVAE by plain Monte Carlo; our rows, conditions too, are binarised. Gains are paired over rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.staged import at, likelihood, sampling_error
from inference import estimate
from inference.callables import as_bound
from inference.evaluate import Rows
from inference.svi import epochs
from inference.svi.finite import require_finite
from ppl_models import CVAE, ConditionalBaseline
from ppl_models.datasets import Dataset, load

PUBLISHED = {1: (100.4, 71.8), 2: (61.9, 51.0), 3: (25.4, 24.2)}  # quadrants seen: baseline and CVAE, nats per image


@dataclass(frozen=True)
class Setup:
    """What is trained, and on how much it is judged."""

    quadrants: tuple[int, ...] = (1, 2, 3)
    hidden: tuple[int, ...] = (500, 500)
    latent_dim: int = 50
    activation: str = "relu"
    training_rows: int = 50_000  # the first of the 60,000; the last 10,000 are for validation
    epochs: int = 25  # at most
    patience: int = 3
    batch: int = 128
    lr: float = 1e-3
    seed: int = 0
    rows: int = 2000  # the first of the held-out 10,000
    num_samples: int = 1000


QUICK = Setup(quadrants=(1,), training_rows=20_000, epochs=5, rows=500, num_samples=200)


def validated(data: Dataset, setup: Setup) -> Dataset:
    """The training rows, with the validation rows, one Bernoulli draw of each, in place of the held-out ones."""
    kept = (data.x[-10_000:] > np.random.default_rng(setup.seed).random((10_000, data.x.shape[1]))).astype(data.x.dtype)
    return replace(data, x=data.x[: setup.training_rows], heldout=kept, y=None, heldout_y=None)


def best(model: Any, data: Dataset, setup: Setup) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The parameters of the epoch with the best validation bound, and how it was found.

    Raises:
        NumericalError: The bound left the finite numbers.
    """
    engine = import_module("inference.svi._numpyro")
    bound, kept, history, seconds = as_bound(model, "numpyro", len(data.x)), {}, list[float](), 0.0
    training = {"batch": setup.batch, "lr": setup.lr, "seeds": (setup.seed,), "dynamic": True}
    for epoch in epochs(model, data.x, epochs=setup.epochs, **training):
        require_finite(epoch)
        history.append(float(engine.heldout(epoch.params[0], *bound, (data.heldout,), setup.seed).mean()))
        seconds += epoch.seconds
        top = int(np.nanargmax(history))
        if epoch.number == top:
            kept = epoch.params[0]
        if epoch.number - top >= setup.patience:
            break
    return kept, {"epoch": top, "epochs": epoch.number, "validation_elbo": history[top], "training_seconds": seconds}


def told(rows: Rows, published: float, training: dict[str, Any]) -> dict[str, Any]:
    """One model's −log p(x | c), beside what was published."""
    return {"nll": estimate.mean(-rows.log_likelihood).to_json(), "published": published, **training}


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train and judge both for each number of quadrants."""
    data, results = load("mnist"), dict[str, Any]()
    training = validated(data, setup)
    for count in setup.quadrants:
        given: dict[str, Any] = {"condition": "quadrants", "quadrants": count, "activation": setup.activation}
        models = {
            "baseline": (ConditionalBaseline(784, setup.hidden, **given), 1),
            "cvae": (CVAE(784, setup.latent_dim, setup.hidden, **given), setup.num_samples),
        }
        rows, said = dict[str, Rows](), dict[str, Any]()
        for (name, (model, num_samples)), published in zip(models.items(), PUBLISHED[count], strict=True):
            stage = f"{name}-{count}"
            params, how = stages(stage, partial(best, model, training, setup))
            rows[name] = likelihood(stages, stage, at(model, data, params), setup.rows, num_samples)
            said[name] = told(rows[name], published, how)
        gain = estimate.mean(rows["cvae"].log_likelihood - rows["baseline"].log_likelihood)
        results[str(count)] = {**said, "gain": gain.to_json(), "standard_error_sampling": sampling_error(rows["cvae"])}
    return {"quadrants": results, "data": data.card}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` sees one quadrant only, trains on 20,000 rows for 5 epochs and judges 500 rows by 200 samples."""
    return measured("cvae_mnist", QUICK if quick else Setup(), budget, work)
