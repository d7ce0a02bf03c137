"""log Z of known machines: enumerated, and annealed with its interval.

`mnist_784x15.npz` has 2^15 hidden states: its log Z is enumerated. `cd25_784x500.npz` is the RBM(500, CD25) of Salakhutdinov
and Murray 2008, annealed along their 14,500 temperatures from the base rates of their binary training images, 1,000 runs in
ten pools; published log Z 451.28 with a test log-likelihood of −86.34, run again by others 451.22 and −86.30. Coverage: how
often the 95 % interval of 100 runs holds the enumerated log Z of a small machine, over 1,000 replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from inference.estimate import mean
from inference.log_partition import annealed, exact, pooled, schedule, unnormalised
from ppl_models import InputError
from ppl_models.energy import RBM
from ppl_models.energy.sites import column_logits
from ppl_models.mnist import directory


@dataclass(frozen=True)
class Setup:
    """How long the path is, how many runs are pooled, and how many replicates cover."""

    steps: tuple[tuple[int, float], ...] = ((500, 0.5), (4000, 0.9), (10000, 1.0))
    pools: int = 10
    runs: int = 100
    replicates: int = 1000


QUICK = Setup(steps=((100, 0.5), (400, 0.9), (500, 1.0)), pools=1, replicates=200)
SMALL = RBM(8, 6)


def opened(name: str) -> dict[str, np.ndarray]:
    """An archive of the folder `rbm` of the data directory."""
    path = directory()[0] / "rbm" / name
    if not path.is_file():
        raise InputError(f"{name} is not in {path.parent}; set PPL_DATA_DIR to a directory whose rbm/ holds it.")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def machine(name: str) -> tuple[RBM, dict[str, np.ndarray]]:
    """A stored RBM."""
    found = opened(name)
    params = {"weight": found["weights"], "x.bias": found["visible_bias"].ravel(), "h.bias": found["hidden_bias"].ravel()}
    return RBM(*params["weight"].shape), {key: np.asarray(value, np.float64) for key, value in params.items()}


def small(seed: int) -> dict[str, np.ndarray]:
    """Standard normal parameters of `SMALL`."""
    rng = np.random.default_rng(seed)
    return {"weight": rng.normal(size=(8, 6)), "x.bias": rng.normal(size=8), "h.bias": rng.normal(size=6)}


def coverage(setup: Setup) -> dict[str, Any]:
    """The share of replicates whose interval holds the truth."""
    params, per = small(0), setup.runs
    truth = exact(SMALL, params)
    run = annealed(SMALL, params, betas=100, chains=per * setup.replicates, seed=1)
    found = [pooled(run.log_weights[i * per : (i + 1) * per]) for i in range(setup.replicates)]
    held = float(np.mean([one.low <= truth <= one.high for one in found]))
    width = float(np.mean([one.high - one.value for one in found]))
    return {"share": held, "replicates": setup.replicates, "log_partition": truth, "half_width": width}


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """All three."""
    tiny, params = machine("mnist_784x15.npz")
    enumerated = exact(tiny, params)
    model, params = machine("cd25_784x500.npz")
    images = opened("binary_mnist_salakhutdinov.npz")
    train, test = (np.unpackbits(images[part], axis=1)[:, :784].astype(np.float32) for part in ("train", "test"))
    base, path, weights = {"x.bias": column_logits(train)}, schedule(*setup.steps), []
    for pool in range(setup.pools):

        def run(pool: int = pool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            found = annealed(model, params, betas=path, chains=setup.runs, base=base, seed=pool)
            return {"log_weights": found.log_weights}, {"log_partition": found.log_partition.value}

        weights.append(stages(f"pool-{pool}", run).arrays["log_weights"])
    together = np.concatenate(weights)
    log_z, each = pooled(together), [pooled(one).value for one in weights]
    error = (log_z.high - log_z.value) / 1.96
    likelihood = mean(unnormalised(model, params, test))
    covered = stages("coverage", lambda: ({}, coverage(setup))).told
    return {
        "mnist_784x15": {"log_partition": enumerated, "gap": abs(enumerated - 215.138406)},
        "cd25": {
            "log_partition": log_z.to_json(), "standard_error": error, "pools": each, "temperatures": len(path),
            "runs": len(together),
            "effective_samples": float(np.exp(2 * logsum(together) - logsum(2 * together))),
            "gap": abs(log_z.value - 451.25), "gap_in_standard_errors": abs(log_z.value - 451.25) / error,
            "minus_free_energy_test": likelihood.value,
            "test_log_likelihood": {key: value - log_z.value for key, value in likelihood._asdict().items()},
            "test_gap": abs(likelihood.value - log_z.value + 86.3),
        },
        "coverage": covered,
    }  # fmt: skip


def logsum(x: np.ndarray) -> float:
    """log Σ exp."""
    return float(np.logaddexp.reduce(x))


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On NumPyro; `quick` takes 1,000 temperatures and 100 runs."""
    import_module("inference.kernels._numpyro")
    return measured("log_partition", QUICK if quick else Setup(), budget, work)
