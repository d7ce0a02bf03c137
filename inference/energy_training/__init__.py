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

from ..checkpoint import Checkpoints
from ..checks import check_settings
from ..data import prepare
from ..kernels import Tempering
from ..log_partition.annealed import kernel as default_kernel
from ..manifest import manifest
from .hidden import hidden_means
from .objective import Method, Objective, constrained, unconstrained
from .resume import identity, restored

__all__ = ["EnergyFit", "Method", "Objective", "fit_energy", "hidden_means"]


@dataclass(frozen=True, eq=False)
class EnergyFit:
    """A trained energy.

    Attributes:
        params: Values by name.
        history: One row an epoch: epoch, seconds (training only), objective (the mean of what was followed, nats per datum;
            a difference of free energies unless exact, and no likelihood).
        chains: The persistent chains' sites by name at the end, (chains, size); None of other methods.
        seconds_per_step: Median over epochs after the first, which compiles.
        kernel: What moved the chains; None where the run was read from a directory.
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
    kernel: Any = None

    def to_arviz(self, **settings: Any) -> Any:
        """An ArviZ `DataTree` of what chains of this energy do; `settings` are those of `diagnostics.observe`."""
        from ..diagnostics import observe, to_tree

        return to_tree(observe(self, **settings))


def fit_energy(
    model: Any, data: Any, *, method: Method = "pcd", engine: str = "numpyro", kernel: Any = None, epochs: int = 50,
    batch: int = 100, chains: int = 100, sweeps: int = 1, lr: float = 1e-3, optimiser: Any = None, centring: float = 0.01,
    seed: int = 0, dtype: str = "float32", device: str | None = None, init: Mapping[str, np.ndarray] | None = None,
    start: Mapping[str, np.ndarray] | None = None,
    callbacks: tuple[Callable[[dict[str, Any]], bool | None], ...] = (), checkpoints: Checkpoints | None = None,
    resume: bool = False, other_versions: bool = False,
) -> EnergyFit:  # fmt: skip
    """Maximise the likelihood of an energy, or what `method` puts in its place.

    Args:
        model: A declaration of an energy.
        data: A `Dataset` of bits (of reals for Gaussian units), or an array (N, data_dim) of which a fifth is held out.
            Grey values in [0, 1] are drawn once, as the data set's binarisation says.
        method: "pcd", "cd", "exact" or "pseudo-likelihood"; see `Objective`.
        engine: "numpyro" or "pyro".
        kernel: What moves the chains; by default a Gibbs sweep that suits the model's graph.
        epochs: Passes over the training rows; a last incomplete minibatch of each is left out.
        batch: Rows a step.
        chains: Persistent chains, of each temperature.
        sweeps: Kernel steps between updates.
        lr: Step size of Adam, unless an `optimiser` is given: an optax transformation, or a function that makes a torch one.
        optimiser: In place of Adam.
        centring: Of a centred model, how far the offsets move to each minibatch's means.
        seed: Of initial values, order of rows and chains.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        init: Values to start from; the declaration's `initial` if left out.
        start: Of every site, (chains, size): where the persistent chains start, say where those of another fit ended; random
            states if left out.
        callbacks: Called with each history row; one that returns True stops.
        checkpoints: Where the whole state is kept, at the start, every so many epochs and at the end.
        resume: Go on from the last of these, up to `epochs` in all: on one machine the same bits as if never stopped.
        other_versions: Go on even if other versions of the libraries wrote it, at the price of those bits.

    Raises:
        InputError: A setting or the data cannot be used, or there is no checkpoint of this training to go on from.
        NumericalError: The parameters left the finite numbers.
    """
    check_settings(epochs=epochs, batch=batch, lr=lr, seed=seed, dtype=dtype)
    rows = as_bits(prepare(data, model), model, seed)
    objective = Objective(model, default_kernel(model) if kernel is None else kernel, method, sweeps)
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    trainer, shared = import_module(f"inference.energy_training._{engine}"), import_module(f"inference._{engine}")
    rng, began, history, timings = np.random.default_rng(seed), perf_counter(), list[dict[str, Any]](), list[float]()
    values = dict(model.initial(rows.x, rng)) if init is None else dict(init)
    with shared.session(dtype, device) as where:
        opt = trainer.optimiser(optimiser, lr)
        x = shared.array(np.asarray(rows.x, dtype))
        state = begin(words, objective, chains, rng, shared) if objective.persistent else None
        if start is not None and objective.persistent:
            state = begin_at(words, objective, chains, start, shared)
        begun = {name: shared.array(np.asarray(value, dtype)) for name, value in unconstrained(values).items()}
        carry = trainer.start(opt, begun, state, seed)
        run = trainer.epoch(objective, opt, min(batch, len(rows.x)), centring if getattr(model, "centred", False) else 0.0)
        steps = len(rows.x) // min(batch, len(rows.x))
        same = identity(objective, rows, shared.VERSIONS, engine=engine, batch=batch, chains=chains, lr=lr, centring=centring,
                        seed=seed, dtype=dtype, optimiser=optimiser is not None, init=init is not None,
                        start=start is not None)  # fmt: skip
        if resume:
            if checkpoints is None:
                raise InputError("resume needs checkpoints to go on from; give those of the fit that was stopped.")
            carry, history, timings = restored(trainer, carry, checkpoints, same, other_versions)
            if epochs < len(history):
                raise InputError(f"expected epochs to be at least the {len(history)} done, got {epochs}; ask for more in all.")

        def keep() -> None:
            if checkpoints is not None:
                tensors, facts = trainer.frozen(carry)
                kept = {"training": same, "carry": facts, "history": history, "timings": timings}
                checkpoints.save(len(history), tensors, kept)

        if not resume:
            keep()
        for number in range(len(history) + 1, epochs + 1):
            at = perf_counter()
            carry, told = run(carry, x)
            told = {name: np.asarray(v, np.float64) for name, v in shared.to_numpy(told).items()}
            timings.append((perf_counter() - at) / steps)
            require_finite(told["objective"], number)
            history.append({"epoch": number, "seconds": sum(timings) * steps, "objective": float(told["objective"].mean())})
            stop = any([callback(history[-1]) for callback in callbacks])
            if checkpoints is not None and (stop or number == epochs or number % checkpoints.every == 0):
                keep()
            if stop:
                break
        params = shared.to_numpy(constrained(words, carry.params))
        last = None if carry.chains is None else shared.to_numpy(first(objective, carry.chains.values))
    facts = {"device": where, "seed": seed, "epochs": len(history), "batch": batch, "chains": chains, "sweeps": sweeps,
             "lr": lr, "method": method, "dtype": dtype, "kernel": type(objective.kernel).__name__}  # fmt: skip
    return EnergyFit(
        model, engine, rows, method, params, history, last, float(np.median(timings[1:] or timings or [0.0])),
        manifest(versions=shared.VERSIONS, wall_seconds=perf_counter() - began, **facts), objective.kernel,
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


def begin(ppl: Any, objective: Objective, chains: int, rng: np.random.Generator, shared: Any) -> Any:
    """Chains of fair coins, or of standard normals where a site is Gaussian."""
    kernel, model = objective.kernel, objective.model
    lead = (len(kernel.betas), chains) if isinstance(kernel, Tempering) else (chains,)
    values = {}
    for name, size in model.sites.items():
        normal = name == "x" and is_gaussian(model)
        drawn = rng.normal(size=(*lead, size)) if normal else rng.integers(0, 2, (*lead, size)).astype(float)
        values[name] = shared.array(drawn)
    return kernel.init(ppl, ppl.seeded(0), values)


def begin_at(ppl: Any, objective: Objective, chains: int, start: Mapping[str, np.ndarray], shared: Any) -> Any:
    """Chains at the states given, at every temperature alike where there are several.

    Raises:
        InputError: A site is left out, or has another number of chains or units.
    """
    kernel, values = objective.kernel, {}
    for name, size in objective.model.sites.items():
        given = np.asarray(start.get(name, ()), float)
        if given.shape != (chains, size):
            raise InputError(f"expected `start` to give {name} of shape ({chains}, {size}), got {given.shape}; give every "
                             "site, and as many states as there are chains.")  # fmt: skip
        lead = (len(kernel.betas), chains) if isinstance(kernel, Tempering) else (chains,)
        values[name] = shared.array(np.broadcast_to(given, (*lead, size)))
    return kernel.init(ppl, ppl.seeded(0), values)


def first(objective: Objective, values: Mapping[str, Any]) -> dict[str, Any]:
    """The chains at the first temperature."""
    return {name: v[0] for name, v in values.items()} if isinstance(objective.kernel, Tempering) else dict(values)


def require_finite(objective: np.ndarray, epoch: int) -> None:
    bad = np.flatnonzero(~np.isfinite(objective))
    if len(bad):
        raise NumericalError(f"the objective became {objective[bad[0]]} at step {bad[0] + 1} of epoch {epoch}; lower the "
                             "learning rate, or use float64.")  # fmt: skip
