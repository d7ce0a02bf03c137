"""Stochastic variational inference: maximise the ELBO of a model-guide pair with any estimator, on either engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from ppl_models import Bound, InputError, NumericalError
from ppl_models.datasets import Dataset
from ppl_models.language import check_engine

from .. import estimate
from ..callables import as_bound, can_subsample, inputs_of
from ..checks import check_estimator, check_settings, check_weight
from ..data import baseline, prepare
from ..estimate import Estimate
from ..estimators import Spec
from ..manifest import manifest
from .epoch import Epoch
from .finite import explained, require_finite
from .schedule import Schedule

JOINT = Schedule()  # one step moves everything, by the bound itself
Init = Mapping[str, np.ndarray] | None
Callback = Callable[[dict[str, Any]], bool | None]


def epochs(
    model: Any, data: np.ndarray | tuple[np.ndarray, ...], *, engine: str = "numpyro", estimator: Spec = None,
    epochs: int = 30, batch: int = 128, lr: float = 1e-3, seeds: Sequence[int] = (0,), dynamic: bool = False,
    init: Init = None, bound: str = "elbo", num_particles: int = 1, schedule: Schedule = JOINT,
) -> Iterator[Epoch]:  # fmt: skip
    """Train one epoch a `next()`, within an open `session` of the engine (or at its defaults); what `fit` is made of."""
    arrays = data if isinstance(data, tuple) else (data,)
    total = len(arrays[0])
    trainer = import_module(f"inference.svi._{check_engine(engine)}")
    return trainer.epochs(
        *as_bound(model, engine, total), arrays, estimator=estimator, num_epochs=epochs, batch=min(batch, total), lr=lr,
        seeds=tuple(seeds), dynamic=dynamic, init=starts(model, arrays, seeds, init), bound=bound,
        num_particles=num_particles, schedule=schedule,
    )  # fmt: skip


def starts(model: Any, data: tuple[np.ndarray, ...], seeds: Sequence[int], init: Init) -> tuple[Init, ...]:
    """Values to start from, for each seed: those given, else the declaration's own for these rows, else None (drawn)."""
    propose: Any = getattr(model, "initial", None)
    if init is not None or propose is None:
        return tuple(init for _ in seeds)
    return tuple(propose(*map(np.asarray, data), np.random.default_rng(seed)) for seed in seeds)


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained model.

    Attributes:
        params: Constrained values by name, of the restart with the best training ELBO.
        history: One row an epoch: epoch, step, seconds (training only, without compilation), train_elbo and
            heldout_elbo (`Estimate`s, nats per datum).
        heldout_elbo: One-sample ELBO of the held-out rows, nats per datum; the interval is over rows.
        heldout_log_likelihood: log p(x) of the held-out rows where the declaration has it in closed form.
        baseline: log p of the held-out rows under independent columns, nats per datum.
        restarts: Final training ELBO of every restart, nats per datum.
        stopped: What ended training: "epochs", "patience" or "callback".
    """

    model: Any
    bound: Bound
    engine: str
    data: Dataset
    params: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    heldout_elbo: Estimate | None
    heldout_log_likelihood: Estimate | None
    baseline: Estimate | None
    seconds_per_step: float
    setup_seconds: float
    restarts: list[float]
    stopped: str
    manifest: dict[str, Any] = field(default_factory=dict)


def fit(
    model: Any,
    data: Any,
    *,
    engine: str = "numpyro",
    estimator: Spec = None,
    epochs: int = 30,
    batch: int | None = None,
    lr: float = 1e-3,
    seed: int = 0,
    restarts: int = 1,
    dtype: str = "float32",
    device: str | None = None,
    init: Init = None,
    bound: str = "elbo",
    num_particles: int | None = None,
    beta: float = 1.0,
    anneal: int = 0,
    alternate: bool = False,
    freeze: Sequence[str] = (),
    patience: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Fit:
    """Maximise a bound with Adam.

    Args:
        model: A declaration, or `Bound(model, guide)` of the engine's own functions; these take minibatches if both
            accept the keyword `total`, the number of data a minibatch stands for, and the whole data otherwise.
        data: A `Dataset`, or an array (N, ...) of which a fifth is held out.
        engine: "numpyro" or "pyro".
        estimator: A name, an estimator, a mapping from site patterns to them; None chooses for each site.
        epochs: Passes over the training rows; a last incomplete minibatch of each is left out.
        batch: Rows a step; 128, or all rows where a pair does not take `total`.
        lr: Adam's step size.
        seed: Of initial values, order of rows and draws.
        restarts: Fits from seeds seed, seed + 1, …; the best by training ELBO is kept.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        init: Constrained values to start from, by parameter name; None takes the declaration's `initial`, or draws.
        bound: "elbo", or "iwae" for the K-sample bound.
        num_particles: K of the K-sample bound (5 if left out); for the ELBO, samples that are averaged.
        beta: Weight of the latents' share −KL(q ‖ p) in what is maximised; ELBOs are reported without it.
        anneal: Epochs over which that weight rises linearly from 0.
        alternate: Move the guide's own parameters and the model's in turn, instead of together.
        freeze: Patterns of the names of parameters that keep their first value.
        patience: Stop after this many epochs without a better held-out ELBO.
        callbacks: Called with each history row; one that returns True stops the fit.

    Raises:
        InputError: A setting, the data or the estimator cannot be used.
        NumericalError: The ELBO left the finite numbers.
    """
    particles = (5 if bound == "iwae" else 1) if num_particles is None else num_particles
    check_settings(
        epochs=epochs, batch=batch, lr=lr, seed=seed, restarts=restarts, dtype=dtype, patience=patience, bound=bound,
        num_particles=particles, beta=beta, anneal=anneal,
    )  # fmt: skip
    check_engine(engine)
    check_estimator(estimator)
    check_weight(estimator, bound, beta, anneal)
    data, began = prepare(data, model), perf_counter()
    rows, heldout = (data.inputs(inputs_of(model), heldout=held) for held in (False, True))
    pair, schedule = as_bound(model, engine, len(data.x)), Schedule(beta, anneal, alternate, tuple(freeze))
    if batch is not None and batch < len(data.x) and not can_subsample(model):
        raise InputError(f"batch={batch} needs a model and guide that take the keyword `total`, the number of data a "
                         "minibatch stands for; add it to both and to their plate, or leave batch out.")  # fmt: skip
    size = min(batch or (128 if can_subsample(model) else len(data.x)), len(data.x))
    shared, trainer = import_module(f"inference._{engine}"), import_module(f"inference.svi._{engine}")
    seeds, history = tuple(range(seed, seed + restarts)), list[dict[str, Any]]()
    best, stopped, seconds, steps, last = (-math.inf, 0), "epochs", 0.0, 0, None
    with shared.session(dtype, device) as place, explained(estimator, engine):
        for last in trainer.epochs(
            *pair, rows, estimator=estimator, num_epochs=epochs, batch=size, lr=lr, seeds=seeds,
            dynamic=data.binarisation == "dynamic", init=starts(model, rows, seeds, init), bound=bound,
            num_particles=particles, schedule=schedule,
        ):  # fmt: skip
            require_finite(last)
            seconds, steps = seconds + last.seconds, steps + last.steps
            values = trainer.heldout(last.params[winner(last)], *pair, heldout, seed)
            if values is not None and np.isnan(values).any():
                raise NumericalError(f"the held-out ELBO became nan in epoch {last.number}; lower the learning rate, or use "
                                     "float64.")  # fmt: skip
            row = {
                "epoch": last.number, "step": steps, "seconds": seconds,
                "train_elbo": estimate.mean(-last.losses[winner(last)]) if last.steps else None,
                "heldout_elbo": None if values is None else estimate.mean(values),
            }  # fmt: skip
            history.append(row)
            if any([callback(row) for callback in callbacks]):  # a list: every callback sees every row
                stopped = "callback"
                break
            score = row["heldout_elbo"].value if row["heldout_elbo"] else -math.inf
            best = max(best, (score, last.number), key=lambda pair: pair[0])
            if patience is not None and last.number - best[1] >= patience:
                stopped = "patience"
                break
        assert last is not None
        params = last.params[winner(last)]
        exact = shared.log_evidence(model, params, heldout)
        versions = {"device": place, "dtype": dtype, "versions": shared.VERSIONS}
    return Fit(
        model, pair, engine, data, params, history, history[-1]["heldout_elbo"],
        None if exact is None else estimate.mean(exact), baseline(model, data),
        seconds / max(steps, 1), last.setup_seconds, [float(-loss.mean()) for loss in last.losses] if last.steps else [],
        stopped, manifest(seed=seed, wall_seconds=perf_counter() - began, **versions),
    )  # fmt: skip


def sentence(found: Fit) -> str:
    """What the fit is worth as a density, in one sentence."""
    value, kind, last = found.heldout_log_likelihood, "log-likelihood", found.history[-1]
    if value is None:
        value, kind = found.heldout_elbo, "ELBO"
    if value is None and "heldout_elbo" not in last:
        name = "train_elbo" if "train_elbo" in last else "train_log_likelihood"
        what = {"train_elbo": "ELBO", "train_log_likelihood": "objective"}[name]
        return (f"Ended after {last['epoch']} iterations ({found.stopped}) at a training {what} of {last[name]:.4f} a row of "
                f"{found.data.name}.")  # fmt: skip
    if value is None:
        return f"Trained for {last['epoch']} epochs; without a plate over the data no held-out ELBO is defined."
    text = f"Held-out {kind} {value.value:.2f} nats per datum (95 % interval {value.low:.2f} to {value.high:.2f})"
    text = f"{text} on {found.data.name}"
    if found.baseline is None:
        return text + "."
    gain = value.value - found.baseline.value
    side = "better" if gain > 0 else "worse"
    return f"{text}, {abs(gain):.2f} nats {side} than independent columns ({found.baseline.value:.2f})."


def winner(epoch: Epoch) -> int:
    """The restart with the lowest mean loss."""
    return int(np.argmin(epoch.losses.mean(1))) if epoch.steps else 0
