"""Fit an energy to data: exactly where its states can be counted, else by chains of a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from ppl_models import InputError, NumericalError
from ppl_models.datasets import Dataset
from ppl_models.energy import is_gaussian
from ppl_models.language import check_engine

from ..checks import check_settings
from ..data import prepare
from ..kernels import Tempering
from ..log_partition.annealed import kernel as default_kernel
from ..manifest import manifest
from .objective import Method, Objective, constrained, unconstrained
from .score_matching import scales

__all__ = ["EnergyFit", "Method", "Objective", "fit_energy"]


@dataclass(frozen=True, eq=False)
class EnergyFit:
    """A trained energy.

    Attributes:
        params: Values by name.
        history: One row an epoch: epoch, seconds (training only), objective (the mean of what was followed, nats per datum;
            a difference of free energies unless exact, and no likelihood).
        chains: The persistent chains' sites by name at the end, (chains, size); None of other methods.
        seconds_per_step: Median over epochs after the first, which compiles.
    """

    model: Any
    engine: str
    data: Dataset
    method: str
    params: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    chains: dict[str, np.ndarray] | None
    seconds_per_step: float
    manifest: dict[str, Any] = field(default_factory=dict)


def fit_energy(
    model: Any, data: Any, *, method: Method = "pcd", engine: str = "numpyro", kernel: Any = None, epochs: int = 50,
    batch: int = 100, chains: int = 100, sweeps: int | None = None, lr: float = 1e-3, optimiser: Any = None,
    centring: float = 0.01, noise: float = 0.1, seed: int = 0, dtype: str = "float32", device: str | None = None,
    init: Mapping[str, np.ndarray] | None = None,
    callbacks: tuple[Callable[[dict[str, Any]], bool | None], ...] = (),
) -> EnergyFit:  # fmt: skip
    """Maximise the likelihood of an energy, or what `method` puts in its place.

    Args:
        model: A declaration of an energy.
        data: A `Dataset` of bits (of reals for Gaussian units), or an array (N, data_dim) of which a fifth is held out.
            Grey values in [0, 1] are drawn once, as the data set's binarisation says.
        method: "pcd", "cd", "exact", "pseudo-likelihood" or "score-matching"; see `Objective`.
        engine: "numpyro" or "pyro".
        kernel: What moves the chains; by default a Gibbs sweep that suits the model's graph, of a network Langevin.
        epochs: Passes over the training rows; a last incomplete minibatch of each is left out.
        batch: Rows a step.
        chains: Persistent chains, of each temperature.
        sweeps: Kernel steps between updates: 1 if left out, 10 of Langevin.
        lr: Step size of Adam, unless an `optimiser` is given: an optax transformation, or a function that makes a torch one.
        optimiser: In place of Adam.
        centring: Of a centred model, how far the offsets move to each minibatch's means.
        noise: Of score matching, the standard deviation of the noise over that of each column: what is fitted is the density
            of the data blurred by it.
        seed: Of initial values, order of rows and chains.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        init: Values to start from; the declaration's `initial` if left out.
        callbacks: Called with each history row; one that returns True stops.

    Raises:
        InputError: A setting or the data cannot be used.
        NumericalError: The parameters left the finite numbers.
    """
    check_settings(epochs=epochs, batch=batch, lr=lr, seed=seed, dtype=dtype)
    rows = as_bits(prepare(data, model), model, seed)
    check_noise(noise)
    kernel = default_kernel(model) if kernel is None else kernel
    sweeps = int(getattr(kernel, "STEPS", 1)) if sweeps is None else sweeps
    blur = scales(rows.x, noise) if method == "score-matching" else ()
    objective = Objective(model, kernel, method, sweeps, noise=blur)
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    trainer, shared = import_module(f"inference.energy_training._{engine}"), import_module(f"inference._{engine}")
    rng, began, history, timings = np.random.default_rng(seed), perf_counter(), list[dict[str, Any]](), list[float]()
    values = dict(model.initial(rows.x, rng)) if init is None else dict(init)
    with shared.session(dtype, device) as where:
        opt = trainer.optimiser(optimiser, lr)
        x = shared.array(np.asarray(rows.x, dtype))
        state = begin(words, objective, chains, rng, shared, values) if objective.persistent else None
        begun = {name: shared.array(np.asarray(value, dtype)) for name, value in unconstrained(values).items()}
        carry = trainer.start(opt, begun, state, seed)
        run = trainer.epoch(objective, opt, min(batch, len(rows.x)), centring if getattr(model, "centred", False) else 0.0)
        steps = len(rows.x) // min(batch, len(rows.x))
        for number in range(1, epochs + 1):
            at = perf_counter()
            carry, told = run(carry, x)
            told = {name: np.asarray(v, np.float64) for name, v in shared.to_numpy(told).items()}
            timings.append((perf_counter() - at) / steps)
            require_finite(told["objective"], number)
            history.append({"epoch": number, "seconds": sum(timings) * steps, "objective": float(told["objective"].mean())})
            if any([callback(history[-1]) for callback in callbacks]):
                break
        params = shared.to_numpy(constrained(words, carry.params))
        last = None if carry.chains is None else shared.to_numpy(first(objective, carry.chains.values))
    facts = {"device": where, "seed": seed, "epochs": len(history), "batch": batch, "chains": chains, "sweeps": sweeps,
             "lr": lr, "method": method, "dtype": dtype, "kernel": type(objective.kernel).__name__,
             **({"noise": noise} if blur else {})}  # fmt: skip
    return EnergyFit(
        model, engine, rows, method, params, history, last, float(np.median(timings[1:] or timings or [0.0])),
        manifest(versions=shared.VERSIONS, wall_seconds=perf_counter() - began, **facts),
    )  # fmt: skip


def as_bits(data: Dataset, model: Any, seed: int) -> Dataset:
    """The rows an energy over bits takes: grey values drawn once.

    Raises:
        InputError: An entry is outside [0, 1].
    """
    if is_gaussian(model):
        return data
    parts, rng = {}, np.random.default_rng(seed)
    for name in ("x", "heldout"):
        x = getattr(data, name)
        outside = np.argwhere((x < 0) | (x > 1))
        if len(outside):
            row, column = outside[0]
            raise InputError(f"an energy over bits needs values in [0, 1], but row {row}, column {column} of {data.name} is "
                             f"{x[row, column]}; rescale the data, or set visible=normal.")  # fmt: skip
        grey = ((x > 0) & (x < 1)).any()
        parts[name] = (rng.random(x.shape) < x).astype(x.dtype) if grey else x
    return replace(data, **parts)


def begin(
    ppl: Any, objective: Objective, chains: int, rng: np.random.Generator, shared: Any, params: Mapping[str, np.ndarray]
) -> Any:
    """Chains of fair coins, or of draws of the base where a site is Gaussian."""
    kernel, model = objective.kernel, objective.model
    lead = (len(kernel.betas), chains) if isinstance(kernel, Tempering) else (chains,)
    values = {}
    for name, size in model.sites.items():
        normal = name == "x" and is_gaussian(model)
        coins = () if normal else rng.integers(0, 2, (*lead, size)).astype(float)
        values[name] = shared.array(params["x.bias"] + params["x.scale"] * rng.normal(size=(*lead, size)) if normal else coins)
    return kernel.init(ppl, ppl.seeded(0), values)


def first(objective: Objective, values: Mapping[str, Any]) -> dict[str, Any]:
    """The chains at the first temperature."""
    return {name: v[0] for name, v in values.items()} if isinstance(objective.kernel, Tempering) else dict(values)


def check_noise(noise: float) -> None:
    if not noise > 0:
        raise InputError(f"expected noise above 0, got {noise!r}; give one such as 0.1, a tenth of each column's deviation.")


def require_finite(objective: np.ndarray, epoch: int) -> None:
    bad = np.flatnonzero(~np.isfinite(objective))
    if len(bad):
        raise NumericalError(f"the objective became {objective[bad[0]]} at step {bad[0] + 1} of epoch {epoch}; lower the "
                             "learning rate, or use float64.")  # fmt: skip
