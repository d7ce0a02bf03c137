"""Fit an energy to data: exactly where its states can be counted, else by chains of a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from time import perf_counter
from typing import Any, Literal

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
from .greedy import layerwise
from .hidden import hidden_means
from .objective import Method, Objective, constrained, unconstrained
from .resume import identity, restored
from .score_matching import scales

__all__ = ["EnergyFit", "Method", "Objective", "Training", "fit_energy", "hidden_means"]

Training = Method | Literal["greedy"]
BURN_IN = 100  # sweeps of the chains before training goes on from a greedy start


@dataclass(frozen=True, eq=False)
class EnergyFit:
    """A trained energy.

    Attributes:
        params: Values by name.
        history: One row an epoch: epoch, seconds (training only), objective (the mean of what was followed, nats per datum;
            a difference of free energies unless exact, and no likelihood); of greedy epochs also `layer`, 1 of the lowest.
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
    model: Any, data: Any, *, method: Training = "pcd", engine: str = "numpyro", kernel: Any = None, epochs: int = 50,
    batch: int = 100, chains: int = 100, sweeps: int | None = None, lr: float = 1e-3, optimiser: Any = None,
    centring: float = 0.01, noise: float = 0.1, greedy: int = 0, seed: int = 0, dtype: str = "float32",
    device: str | None = None, init: Mapping[str, np.ndarray] | None = None, start: Mapping[str, np.ndarray] | None = None,
    callbacks: tuple[Callable[[dict[str, Any]], bool | None], ...] = (), checkpoints: Checkpoints | None = None,
    resume: bool = False, other_versions: bool = False,
) -> EnergyFit:  # fmt: skip
    """Maximise the likelihood of an energy, or what `method` puts in its place.

    Args:
        model: A declaration of an energy.
        data: A `Dataset` of bits (of reals for Gaussian units), or an array (N, data_dim) of which a fifth is held out.
            Grey values in [0, 1] are drawn once, as the data set's binarisation says.
        method: "pcd", "cd", "exact", "pseudo-likelihood" or "score-matching", see `Objective`; "greedy" of a stack of RBMs,
            see `layerwise`.
        engine: "numpyro" or "pyro".
        kernel: What moves the chains; by default a Gibbs sweep that suits the model's graph, of a network Langevin.
        epochs: Passes over the training rows, of "greedy" for each layer; a last incomplete minibatch of each is left out.
        batch: Rows a step.
        chains: Persistent chains, of each temperature.
        sweeps: Kernel steps between updates: 1 if left out, 10 of Langevin.
        lr: Step size of Adam, unless an `optimiser` is given: an optax transformation, or a function that makes a torch one.
        optimiser: In place of Adam.
        centring: Of a centred model, how far the offsets move to each minibatch's means.
        noise: Of score matching, the standard deviation of the noise over that of each column: what is fitted is the density
            of the data blurred by it.
        greedy: Of a deep Boltzmann machine: epochs of greedy training, for each layer, that give the values to start from.
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
    check_noise(noise)
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    trainer, shared = import_module(f"inference.energy_training._{engine}"), import_module(f"inference._{engine}")
    began, stack, objective = perf_counter(), None, None
    blur = scales(rows.x, noise) if method == "score-matching" else ()
    if method != "greedy":
        moves = default_kernel(model) if kernel is None else kernel
        steps = int(getattr(moves, "STEPS", 1)) if sweeps is None else sweeps
        objective = Objective(model, moves, method, steps, noise=blur)
    if objective is None or greedy:
        check_greedy(model, method, greedy, kernel, init)
        if objective is None and resume:
            raise InputError("greedy training keeps no state of its layers to go on from; fit again from the start.")
        own: dict[str, Any] = {"engine": engine, "batch": batch, "chains": chains, "sweeps": sweeps, "lr": lr,
                               "optimiser": optimiser, "dtype": dtype, "device": device}  # fmt: skip

        def train(rbm: Any, x: Dataset, number: int, tell: Any) -> EnergyFit:
            return fit_energy(rbm, x, epochs=greedy or epochs, seed=seed + number, callbacks=(tell,), **own)

        stack = None if resume else layerwise(model, rows, train, callbacks, words, shared, seed, dtype)
        if objective is None:
            return whole(model, rows, stack, words, shared, seed, device)
        init = init if stack is None else stack.params
    rng, timings = np.random.default_rng(seed), list[float]()
    history = list[dict[str, Any]]() if stack is None else list(stack.history)
    values = dict(model.initial(rows.x, rng)) if init is None else dict(init)
    with shared.session(dtype, device) as where:
        opt = trainer.optimiser(optimiser, lr)
        x = shared.array(np.asarray(rows.x, dtype))
        state = begin(words, objective, chains, rng, shared, values) if objective.persistent else None
        if start is not None and objective.persistent:
            state = begin_at(words, objective, chains, start, shared)
        begun = {name: shared.array(np.asarray(value, dtype)) for name, value in unconstrained(values).items()}
        if stack is not None and state is not None:
            state = words.program(burnt_in, objective)(state, constrained(words, begun))
        carry = trainer.start(opt, begun, state, seed)
        run = trainer.epoch(objective, opt, min(batch, len(rows.x)), centring if getattr(model, "centred", False) else 0.0)
        steps = len(rows.x) // min(batch, len(rows.x))
        same = identity(objective, rows, shared.VERSIONS, engine=engine, batch=batch, chains=chains, lr=lr, centring=centring,
                        greedy=greedy, seed=seed, dtype=dtype, optimiser=optimiser is not None,
                        init=init is not None and not greedy, start=start is not None)  # fmt: skip
        if resume:
            if checkpoints is None:
                raise InputError("resume needs checkpoints to go on from; give those of the fit that was stopped.")
            carry, history, timings = restored(trainer, carry, checkpoints, same, other_versions)
        done = sum("layer" in row for row in history)  # greedy epochs, which are counted apart
        spent = history[done - 1]["seconds"] if done else 0.0
        if epochs < len(history) - done:
            raise InputError(f"expected epochs to be at least the {len(history) - done} done, got {epochs}; ask for more.")

        def keep() -> None:
            if checkpoints is not None:
                tensors, facts = trainer.frozen(carry)
                kept = {"training": same, "carry": facts, "history": history, "timings": timings}
                checkpoints.save(len(history), tensors, kept)

        if not resume:
            keep()
        for number in range(len(history) - done + 1, epochs + 1):
            at = perf_counter()
            carry, told = run(carry, x)
            told = {name: np.asarray(v, np.float64) for name, v in shared.to_numpy(told).items()}
            timings.append((perf_counter() - at) / steps)
            require_finite(told["objective"], number)
            history.append({"epoch": done + number, "seconds": spent + sum(timings) * steps,
                            "objective": float(told["objective"].mean())})  # fmt: skip
            stop = any([callback(history[-1]) for callback in callbacks])
            if checkpoints is not None and (stop or number == epochs or number % checkpoints.every == 0):
                keep()
            if stop:
                break
        params = shared.to_numpy(constrained(words, carry.params))
        last = None if carry.chains is None else shared.to_numpy(first(objective, carry.chains.values))
    facts = {"device": where, "seed": seed, "epochs": len(history), "batch": batch, "chains": chains,
             "sweeps": objective.sweeps, "lr": lr, "method": method,
             "greedy": greedy, "dtype": dtype, "kernel": type(objective.kernel).__name__,
             **({"noise": noise} if blur else {})}  # fmt: skip
    return EnergyFit(
        model, engine, rows, method, params, history, last, float(np.median(timings[1:] or timings or [0.0])),
        manifest(versions=shared.VERSIONS, wall_seconds=perf_counter() - began, **facts), objective.kernel,
    )  # fmt: skip


def check_greedy(model: Any, method: str, greedy: int, kernel: Any, init: Any) -> None:
    """Raise `InputError` where greedy training does not go with the model or the other settings."""
    name = type(model).__name__
    if not hasattr(model, "rbms"):
        raise InputError(f"greedy training is of stacks of layers, which {name} is not; use method pcd, or a deep model.")
    if greedy < 0:
        raise InputError(f"expected greedy to be a whole number of epochs of at least 0, got {greedy!r}; change that setting.")
    if greedy and method == "greedy":
        raise InputError("expected greedy epochs before another method, got method greedy itself; give `epochs` alone.")
    if greedy and init is not None:
        raise InputError("expected init or a greedy start, got both; leave one of them out.")
    if method == "greedy" and (kernel is not None or init is not None):
        raise InputError("greedy training makes the chains and the start of each layer by itself; leave out kernel and init.")


def whole(model: Any, rows: Dataset, stack: Any, words: Any, shared: Any, seed: int, device: str | None) -> EnergyFit:
    """What greedy training found, as one model: its chains are those of the top, and the layers below drawn from them."""
    top, chains = stack.parts[-1], None
    if hasattr(model, "generate"):
        names = tuple(model.sites)[-2:]
        with shared.session(top.manifest["dtype"], device):
            params = {name: shared.array(np.asarray(value)) for name, value in stack.params.items()}
            start = {name: shared.array(top.chains[site]) for name, site in zip(names, ("x", "h"), strict=True)}
            chains = shared.to_numpy(model.generate(words, words.seeded(seed), params, start)[1])
    facts = {**top.manifest, "method": "greedy", "seed": seed, "epochs": len(stack.history)}
    facts["wall_seconds"] = sum(part.manifest["wall_seconds"] for part in stack.parts)
    return EnergyFit(model, top.engine, rows, "greedy", stack.params, stack.history, chains, top.seconds_per_step, facts)


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


def burnt_in(ppl: Any, objective: Objective, state: Any, params: Any) -> Any:
    """The chains after `BURN_IN` steps: far from what a greedy start has learned, they would drive it off again."""
    return ppl.loop(BURN_IN, lambda _, state: objective.kernel.step(ppl, state, params)[0], state)


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
