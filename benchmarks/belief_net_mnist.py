"""Belief nets of 200 bits on MNIST by every estimator of discrete draws: bounds reached, and variances on one trajectory.

The protocol of Dong, Mnih and Tucker 2020: dynamic binarisation, batch 50, Adam, a linear net 784-200-784 and a nonlinear one
with two hidden layers of 200 on either side; there LeakyReLU(0.3), a million steps at step size 1e-4, the prior by SGD, inputs
less their mean, and the 100-sample bound of the test set. Ours: ReLU, 20,400 steps at 1e-3, the prior by the same Adam, inputs
as they are, and output biases that begin at the pixels' log odds. Every estimator takes the same steps from the same seeds; the
bound is of 1,000 held-out rows, means over seeds, and differences from leave-one-out are paired by seed and row.

The variance is that of the gradient of one minibatch's ELBO, nats per datum, at the parameters that leave-one-out's first seed
had after 1, 5 and all epochs: the same parameters and rows for all estimators (the common trajectory of Tucker et al. 2017),
so that only the draws of the latents differ. Published order of variances at two evaluations, as remembered from their figures
(there is no table): DisARM below leave-one-out, on the linear and on the nonlinear net.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.staged import at
from inference import estimate
from inference.evaluate import log_likelihood_rows
from inference.svi import fit
from ppl_models import SigmoidBeliefNet, bind
from ppl_models.datasets import Dataset, load

#: Name: evaluations of model and guide a gradient (of RELAX and REBAR one of three only learns).
ESTIMATORS = {"running-mean": 1, "nvil": 1, "leave-one-out": 2, "disarm": 2, "arm": 2, "rebar": 3, "relax": 3, "reinmax": 1,
              "straight-through": 1}  # fmt: skip
TRAINED = ("leave-one-out", "disarm", "rebar", "nvil", "reinmax")
NETS = {"linear": SigmoidBeliefNet(784, 200), "nonlinear": SigmoidBeliefNet(784, 200, hidden=(200, 200), activation="relu")}


@dataclass(frozen=True)
class Setup:
    """How long everything trains, and on how much it is judged."""

    epochs: tuple[int, ...] = (1, 4, 12)  # of 1,200 steps
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 50
    lr: float = 1e-3
    rows: int = 1000
    num_samples: int = 100
    replicates: int = 200
    chunk: int = 20


QUICK = Setup(epochs=(1, 1, 1), seeds=(0,), rows=100, replicates=40)


def start(model: SigmoidBeliefNet, data: Dataset, seed: int) -> dict[str, np.ndarray]:
    """Where training starts: the declaration's own initial values, output biases at the pixels' log odds."""
    params = dict(fit(model, data, epochs=0, seed=seed).params)
    mean = data.x.mean(0).clip(0.01, 0.99)
    last = max(name for name in params if name.startswith("decoder.") and params[name].shape == (784,))
    return {**params, last: np.log(mean / (1 - mean)).astype(np.float32)}


def trained(stages: Stages, net: str, estimator: str, seed: int, data: Dataset, setup: Setup) -> list[dict[str, np.ndarray]]:
    """The parameters after each leg."""
    model, params, out = NETS[net], None, []
    for leg, epochs in enumerate(setup.epochs):

        def work(params: Any = params, leg: int = leg, epochs: int = epochs) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            begin = start(model, data, seed) if params is None else params
            found = fit(model, data, estimator=estimator, epochs=epochs, batch=setup.batch, lr=setup.lr, seed=seed + 1000 * leg,
                        init=begin)  # fmt: skip
            row = found.history[-1]
            return found.params, {"heldout_elbo": row["heldout_elbo"].value, "seconds_per_step": found.seconds_per_step}

        params = stages(f"{net}-{estimator}-{seed}-{leg}", work).arrays
        out.append(params)
    return out


def bounds(stages: Stages, net: str, estimator: str, seed: int, params: Any, data: Dataset, setup: Setup) -> np.ndarray:
    """The K-sample bound of each held-out row, nats."""

    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        part = Dataset(data.name, data.x, data.heldout[: setup.rows], data.binarisation)
        judged = log_likelihood_rows(at(NETS[net], part, params), num_samples=setup.num_samples, seed=0)
        return {"bound": judged.log_likelihood}, {}

    return stages(f"{net}-{estimator}-{seed}-bound", work).arrays["bound"]


def variance(stages: Stages, net: str, place: int, estimator: str, params: Any, data: Dataset, setup: Setup) -> dict[str, Any]:
    """Trace of the covariance at these parameters on one minibatch, guide's and model's apart, by chunks with an interval."""

    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rng = np.random.default_rng(place)
        x = (rng.random((setup.batch, 784)) < data.x[rng.permutation(len(data.x))[: setup.batch]]).astype(np.float32)
        with import_module("inference._numpyro").session("float32", "cpu"):
            gradients = import_module("inference.gradients._numpyro").Gradients(
                *bind(NETS[net], "numpyro"), (x,), {}, estimator, params, setup.batch)  # fmt: skip
            control = gradients.control(params, 0)
            of_blocks = gradients.blocks.slices.items()
            guide = np.concatenate([np.full(s.stop - s.start, n.startswith("encoder")) for n, s in of_blocks])
            chunks = []
            for seed in range(setup.replicates // setup.chunk):
                found = gradients.many(params, control, setup.chunk, seed).astype(np.float64)
                of_each = found.var(0, ddof=1)
                chunks.append((of_each[guide].sum(), of_each[~guide].sum()))
        return {"chunks": np.array(chunks)}, {}

    chunks = stages(f"{net}-at-{place}-{estimator}", work).arrays["chunks"]
    told = {}
    for name, column in zip(("guide", "model"), chunks.T, strict=True):
        error = 2 * column.std(ddof=1) / len(column) ** 0.5
        told[name] = {"value": column.mean(), "low": column.mean() - error, "high": column.mean() + error}
    return told


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Train, judge, and compare variances."""
    data, out = load("mnist", binarise="dynamic"), dict[str, Any]()
    for net in NETS:
        rows, path = dict[str, np.ndarray](), list[dict[str, np.ndarray]]()
        for estimator in TRAINED:
            of_seeds = []
            for seed in setup.seeds:
                legs = trained(stages, net, estimator, seed, data, setup)
                of_seeds.append(bounds(stages, net, estimator, seed, legs[-1], data, setup))
                if (estimator, seed) == ("leave-one-out", setup.seeds[0]):
                    path = legs
            rows[estimator] = np.mean(of_seeds, axis=0)
        places = {place: {name: variance(stages, net, i, name, params, data, setup) for name in ESTIMATORS}
                  for i, (place, params) in enumerate(zip(("early", "middle", "late"), path, strict=True))}  # fmt: skip
        out[net] = {
            "bound": {name: estimate.mean(found).to_json() for name, found in rows.items()},
            "over_leave_one_out": {name: estimate.mean(rows[name] - rows["leave-one-out"]).to_json() for name in rows},
            "variance": places,
            "disarm_over_leave_one_out": max(
                p["disarm"]["guide"]["high"] / p["leave-one-out"]["guide"]["low"] for p in places.values()
            ),
        }
    return {**out, "evaluations": ESTIMATORS, "steps": sum(setup.epochs) * (len(data.x) // setup.batch), "data": data.card}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` trains for 3 epochs from one seed."""
    return measured("belief_net_mnist", QUICK if quick else Setup(), budget, work)
