"""A deep Boltzmann machine 784-20-1000 on MNIST, with its exact test likelihood.

Given the 20 units of h1, all others are independent: log Z and log p(x) are sums over 2^20 states. Images thresholded at one
half; mean field (10 sweeps) for the rows, one sweep of 100 persistent chains a step, minibatches of 100, plain gradient descent
with a step size that falls from stage to stage (Salakhutdinov and Hinton 2009, without their greedy start). Beside it stand the
bound by mean field and the likelihood of independent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.energy_staged import Leg, load_engines, trained
from inference import estimate
from inference.energy_runs import bound_rows
from inference.log_partition import unnormalised
from inference.log_partition.exact import bits
from ppl_models import NumericalError
from ppl_models.datasets import load
from ppl_models.energy import RBM, DeepBoltzmannMachine


@dataclass(frozen=True)
class Setup:
    """What is trained, and how."""

    model: DeepBoltzmannMachine = DeepBoltzmannMachine(784, hidden=(20, 1000))
    legs: tuple[Leg, ...] = (*(Leg(12, 0.05, descent=True),) * 2, Leg(12, 0.02, descent=True), Leg(12, 0.005, descent=True),
                             Leg(12, 0.001, descent=True))  # fmt: skip
    batch: int = 100
    chains: int = 100
    seed: int = 0


QUICK = Setup(legs=(Leg(6, 0.05, descent=True), Leg(2, 0.005, descent=True)))


def log_likelihood(model: DeepBoltzmannMachine, params: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, float]:
    """log p(x) of each row, nats, (rows,), and log Z, all states of h1 summed one by one, h2 and x in closed form.

    With T(h1) = Σ over h2 of exp(c₁ᵀ h1 + h1ᵀ W₂ h2 + c₂ᵀ h2), p(x) Z = exp(bᵀ x) Σ over h1 of exp(xᵀ W₁ h1) T(h1); the two
    halves of h1 make this one product of matrices.

    Raises:
        NumericalError: The largest term of a row underflows beside the largest of them all.
    """
    half, zeros = model.hidden[0] // 2, np.zeros(model.hidden[0])
    up = {"weight": params["h2.weight"], "x.bias": params["h1.bias"], "h.bias": params["h2.bias"]}
    down = {"weight": params["h1.weight"].T, "x.bias": zeros, "h.bias": params["x.bias"]}
    last, chunk, log_t, log_z = 2 ** model.hidden[0], 2**16, list[np.ndarray](), -np.inf
    for first in range(0, last, chunk):
        h = bits(first, min(first + chunk, last), model.hidden[0])
        log_t.append(unnormalised(RBM(*up["weight"].shape), up, h))
        below = unnormalised(RBM(*down["weight"].shape), down, h)
        log_z = np.logaddexp(log_z, np.logaddexp.reduce(log_t[-1] + below))
    table, x = np.concatenate(log_t).reshape(2**half, -1), np.asarray(x, float)
    weight = np.asarray(params["h1.weight"], float)
    left, right = (x @ part @ bits(0, 2 ** part.shape[1], part.shape[1]).T for part in (weight[:, :half], weight[:, half:]))
    top, tops = table.max(), (left.max(1, keepdims=True), right.max(1, keepdims=True))
    total = ((np.exp(left - tops[0]) @ np.exp(table - top)) * np.exp(right - tops[1])).sum(1)
    if not (total > 1e-290).all():
        raise NumericalError("the sum over h1 underflows for a row; sum it in parts.")
    return np.log(total) + top + tops[0][:, 0] + tops[1][:, 0] + x @ params["x.bias"] - log_z, float(log_z)


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train, and sum."""
    data = load("mnist", binarise="threshold")
    found = trained(stages, "trained", setup.model, data, setup.legs, setup.seed, batch=setup.batch, chains=setup.chains)

    def judge() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rows, log_z = log_likelihood(setup.model, found.params, data.heldout)
        return {"rows": rows, "bound": bound_rows(found, data.heldout) - log_z}, {"log_partition": log_z}

    done = stages("judged", judge)
    rows, alone = done.arrays["rows"], setup.model.likelihood.baseline(data.x, data.heldout)
    return {
        "log_likelihood": estimate.mean(rows).to_json(), "log_partition": done.told["log_partition"],
        "mean_field_bound": estimate.mean(done.arrays["bound"]).to_json(), "independent_pixels": estimate.mean(alone).to_json(),
        "gain": estimate.mean(rows - alone).to_json(), "slack": estimate.mean(rows - done.arrays["bound"]).to_json(),
        "seconds_per_step": found.seconds_per_step, "data": data.card,
    }  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` trains for 8 epochs."""
    load_engines()
    return measured("dbm_mnist", QUICK if quick else Setup(), budget, work)
