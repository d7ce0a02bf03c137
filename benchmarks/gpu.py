"""Every declaration fitted on each engine on a GPU: equal to the CPU's fit, and how long a step takes.

Two epochs on digits from the same initial values with the same noise on both devices (JAX's generator is the same
everywhere; PyTorch's is not, so its noise is drawn on the CPU for the comparison and on the GPU for the timing).
`gap` is the largest relative difference of the losses along the whole run. `smoke` on a CPU runs CPU against CPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

from inference.estimators import Spec
from inference.svi import epochs
from ppl_models import VAE, FactorAnalysis, GaussianMixture, InputError, SigmoidBeliefNet
from ppl_models.datasets import load
from ppl_models.likelihoods import Categorical, ContinuousBernoulli, Normal

DIM = 64
ROWS: dict[str, tuple[Any, Spec, str]] = {
    "vae": (VAE(DIM), None, "threshold"),
    "vae-normal": (VAE(DIM, likelihood=Normal("per-dim")), "pathwise-kl", "none"),
    "vae-categorical": (VAE(DIM, likelihood=Categorical(2)), None, "threshold"),
    "vae-continuous-bernoulli": (VAE(DIM, likelihood=ContinuousBernoulli()), "path-only", "none"),
    "sbn": (SigmoidBeliefNet(DIM, 200), "leave-one-out", "threshold"),
    "sbn-2-nonlinear": (SigmoidBeliefNet(DIM, 50, num_layers=2, hidden=(50,)), "running-mean", "threshold"),
    "sbn-8-enumerated": (SigmoidBeliefNet(DIM, 8), "enumerate", "threshold"),
    "factor_analysis": (FactorAnalysis(DIM, 5), None, "none"),
    "ppca": (FactorAnalysis(DIM, 5, isotropic=True), None, "none"),
    "gaussian_mixture": (GaussianMixture(DIM, 10, "diagonal"), None, "none"),
    "gaussian_mixture-full": (GaussianMixture(DIM, 3, "full"), None, "none"),
}
EPOCHS = 2


def train(engine: str, device: str, model: Any, spec: Spec, x: np.ndarray, shared_noise: bool) -> tuple[np.ndarray, float]:
    """The losses of every step, and the seconds of a step in the last epoch."""
    noise = import_module("benchmarks.devices._pyro").cpu_noise() if engine == "pyro" and shared_noise else nullcontext()
    with import_module(f"inference._{engine}").session("float32", device), noise:
        done = list(epochs(model, x, engine=engine, estimator=spec, epochs=EPOCHS, batch=128))
    return np.concatenate([e.losses.ravel() for e in done]), done[-1].seconds / done[-1].steps


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All rows on both engines."""
    return measure("cuda")


def measure(device: str) -> dict[str, Any]:
    """CPU against `device`.

    Raises:
        InputError: The device is not there.
    """
    names, table = {}, {}
    for engine in ("numpyro", "pyro"):
        with import_module(f"inference._{engine}").session("float32", device) as place:
            names[engine] = place
        for name, (model, spec, binarise) in ROWS.items():
            x = load("digits", binarise=binarise).x  # type: ignore[arg-type]
            cpu, cpu_step = train(engine, "cpu", model, spec, x, True)
            there, _ = train(engine, device, model, spec, x, True)
            _, step = train(engine, device, model, spec, x, False)
            gap = float(np.max(np.abs(there - cpu) / np.maximum(1.0, np.abs(cpu))))
            if not np.isfinite(gap):
                raise InputError(f"{name} on {engine} left the finite numbers on {device}; run it alone to see where.")
            table[f"{engine}/{name}"] = {"gap": gap, "step_ms": step * 1e3, "cpu_step_ms": cpu_step * 1e3}
    gaps = [entry["gap"] for entry in table.values()]
    speedup = median(entry["cpu_step_ms"] / entry["step_ms"] for entry in table.values())
    return {
        "device": names["numpyro"],
        "devices": names,
        "largest_gap": max(gaps),
        "median_speedup": speedup,
        "rows": table,
    }
