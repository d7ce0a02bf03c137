"""A deep Boltzmann machine 784-20-1000 on MNIST, with its exact test likelihood.

Given the 20 units of h1, all others are independent: log Z and log p(x) are sums over 2^20 states. Images thresholded at one
half; a greedy start, then mean field (10 sweeps) for the rows, one sweep of 200 persistent chains a step, minibatches of 100,
Adam with a step size that falls from stage to stage (Salakhutdinov and Hinton 2009). Beside it stand the bound by mean field
and the likelihood of independent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.energy_staged import Leg, load_engines, trained
from inference import estimate
from inference.energy_runs import bound_rows
from inference.energy_training import fit_energy
from inference.log_partition import summed
from ppl_models.datasets import load
from ppl_models.energy import DeepBoltzmannMachine


@dataclass(frozen=True)
class Setup:
    """What is trained, and how."""

    model: DeepBoltzmannMachine = DeepBoltzmannMachine(784, hidden=(20, 1000))
    greedy: int = 8  # epochs of each layer, and of both layers one more at the first step size
    legs: tuple[Leg, ...] = (Leg(10, 2e-3), Leg(8, 7e-4), Leg(8, 2e-4), Leg(8, 7e-5), Leg(8, 2e-5))
    batch: int = 100
    chains: int = 200
    seed: int = 0


QUICK = Setup(greedy=2, legs=(Leg(2, 2e-3), Leg(2, 2e-4)))


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train, and sum."""
    data = load("mnist", binarise="threshold")
    shared: dict[str, Any] = {"batch": setup.batch, "chains": setup.chains}

    def begin() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        begun = fit_energy(setup.model, data, epochs=1, greedy=setup.greedy, lr=setup.legs[0].lr, seed=setup.seed, **shared)
        return begun.params, {"objective": begun.history[-1]["objective"]}

    start = stages("greedy", begin).arrays
    found = trained(stages, "trained", setup.model, data, setup.legs, setup.seed, init=start, **shared)

    def judge() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rows, log_z = summed(setup.model, found.params, data.heldout)
        return {"rows": rows - log_z, "bound": bound_rows(found, data.heldout) - log_z}, {"log_partition": log_z}

    done = stages("judged", judge)
    rows, alone = done.arrays["rows"], setup.model.likelihood.baseline(data.x, data.heldout)
    return {
        "log_likelihood": estimate.mean(rows).to_json(), "log_partition": done.told["log_partition"],
        "mean_field_bound": estimate.mean(done.arrays["bound"]).to_json(), "independent_pixels": estimate.mean(alone).to_json(),
        "gain": estimate.mean(rows - alone).to_json(), "slack": estimate.mean(rows - done.arrays["bound"]).to_json(),
        "seconds_per_step": found.seconds_per_step, "data": data.card,
    }  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` trains for a few epochs."""
    load_engines()
    return measured("dbm_mnist", QUICK if quick else Setup(), budget, work)
