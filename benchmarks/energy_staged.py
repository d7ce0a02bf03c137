"""Training an energy in stages of a minute or two, for benchmarks that resume (see `checkpoint`)."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from benchmarks.checkpoint import Stages
from inference.energy_training import EnergyFit, fit_energy
from ppl_models.datasets import Dataset

#: Imported late by what trains and samples, yet sources too.
ENGINES = tuple(f"{package}.{engine}" for engine in ("_numpyro", "_pyro")
                for package in ("benchmarks", "ppl_models", "inference", "inference.kernels",
                                "inference.energy_training"))  # fmt: skip


class Leg(NamedTuple):
    """So many epochs at one step size, by Adam, whose moments begin afresh with every leg, or by plain gradient descent."""

    epochs: int
    lr: float
    descent: bool = False


def trained(
    stages: Stages, name: str, model: Any, data: Dataset, legs: tuple[Leg, ...], seed: int, *, engine: str = "numpyro",
    init: dict[str, np.ndarray] | None = None, **settings: Any,
) -> EnergyFit:  # fmt: skip
    """`fit_energy(model, data, …)`, a stage a leg; parameters and chains go on from leg to leg, from `init` if given."""
    params, chains, told = init, None, dict[str, Any]()
    for number, leg in enumerate(legs):

        def work(params: Any = params, chains: Any = chains, number: int = number, leg: Leg = leg) -> tuple[Any, Any]:
            optimiser = import_module(f"benchmarks._{engine}").descent(leg.lr) if leg.descent else None
            found = fit_energy(
                model, data, engine=engine, epochs=leg.epochs, lr=leg.lr, optimiser=optimiser, init=params, start=chains,
                seed=seed + 1000 * number, **settings,
            )  # fmt: skip
            arrays = {f"params/{key}": value for key, value in found.params.items()}
            arrays |= {f"chains/{key}": value for key, value in (found.chains or {}).items()}
            return arrays, {"objective": found.history[-1]["objective"], "seconds_per_step": found.seconds_per_step}

        done = stages(f"{name}-leg-{number}", work)
        params, chains = part(done.arrays, "params"), part(done.arrays, "chains") or None
        told = done.told
    return EnergyFit(model, engine, data, settings.get("method", "pcd"), params or {}, [], chains,
                     told.get("seconds_per_step", 0.0))  # fmt: skip


def part(arrays: dict[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    """Those arrays whose name begins with `head/`, by the rest of it."""
    return {key.removeprefix(f"{head}/"): value for key, value in arrays.items() if key.startswith(f"{head}/")}


def load_engines() -> None:
    """Import both engines' files, so that the key of a checkpoint and the record count them among the sources."""
    for module in ENGINES:
        import_module(module)
