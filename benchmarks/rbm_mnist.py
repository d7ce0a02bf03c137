"""An RBM 784x16 on MNIST, centred and not, with its exact likelihood (Melchior, Fischer and Wiskott 2016).

Their set-up: images thresholded at one half, 60,000 to train; one sweep of 100 persistent chains a step, minibatches of 100,
plain gradient descent of step size 0.01, 50 epochs; of the centred machine, offsets that move by 0.01 to each minibatch's
means. Weights start from N(0, 0.01²), visible biases at the log odds of the columns' means, hidden ones at 0. log Z sums all
2^16 hidden states. The authors' own program (PyDeep) reports -142.56 test nats centred and -149.05 with the offsets at 0.

A stage is ten epochs; parameters and chains go on from one to the next, the order of the rows is drawn afresh. Ours differs in
the last stage, whose step size is 0.002: at a constant one, trainings that differ by their seed alone, or by the rounding of
another processor, end about a nat apart (eight seeds each at -142.2 and -143.1 on average, NumPyro and Pyro), which is the
noise of the steps and not of the machine. What stands here is the mean of eight, each row's log p over them; the uncentred twin
is trained once, beside the first, by the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.energy_staged import Leg, load_engines, trained
from inference import estimate
from inference.log_partition import exact, unnormalised
from ppl_models.datasets import Dataset, load
from ppl_models.energy import RBM


@dataclass(frozen=True)
class Setup:
    """How long, and on which engines; the twin without centring is trained on the first."""

    num_hidden: int = 16
    legs: tuple[Leg, ...] = (*(Leg(10, 0.01, descent=True),) * 4, Leg(10, 0.002, descent=True))
    batch: int = 100
    chains: int = 100
    centring: float = 0.01
    engines: tuple[str, ...] = ("numpyro", "pyro")
    seeds: tuple[int, ...] = tuple(range(8))


QUICK = Setup(legs=(Leg(5, 0.01, descent=True),) * 2, engines=("numpyro",), seeds=(0,))


def judged(
    stages: Stages, setup: Setup, data: Dataset, centred: bool, engine: str, seed: int
) -> tuple[dict[str, Any], np.ndarray]:  # fmt: skip
    """What came of one training, and log p of each held-out row, nats."""
    model = RBM(data.x.shape[1], setup.num_hidden, centred=centred)
    name = f"{'centred' if centred else 'plain'}-{engine}-{seed}"
    found = trained(stages, name, model, data, setup.legs, seed, engine=engine, batch=setup.batch,
                    chains=setup.chains, centring=setup.centring)  # fmt: skip

    def judge() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        log_z = exact(model, found.params, engine)
        rows = {part: unnormalised(model, found.params, x, engine=engine) - log_z
                for part, x in (("heldout", data.heldout), ("train", data.x))}  # fmt: skip
        return rows, {"log_partition": log_z}

    done = stages(f"{name}-judged", judge)
    told = {"log_likelihood": estimate.mean(done.arrays["heldout"]).to_json(), "log_partition": done.told["log_partition"],
            "train_log_likelihood": float(done.arrays["train"].mean()), "seconds_per_step": found.seconds_per_step}  # fmt: skip
    return told, done.arrays["heldout"]


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Centred on every engine, not centred on the first."""
    data, told, rows = load("mnist", binarise="threshold"), dict[str, Any](), dict[str, list[np.ndarray]]()
    for engine in setup.engines:
        each = [judged(stages, setup, data, True, engine, seed) for seed in setup.seeds]
        rows[engine] = [one for _, one in each]
        together = estimate.mean(np.mean(rows[engine], axis=0)).to_json()
        told[engine] = {"log_likelihood": together, "by_seed": [found for found, _ in each]}
    first = setup.engines[0]
    plain, beside = judged(stages, setup, data, False, first, setup.seeds[0])
    gain = estimate.mean(rows[first][0] - beside).to_json()
    return {"centred": told, "plain": {first: plain}, "gain": gain, "data": data.card}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On both engines; `quick` trains for 10 epochs, on NumPyro alone."""
    load_engines()
    return measured("rbm_mnist", QUICK if quick else Setup(), budget, work)
