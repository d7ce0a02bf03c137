"""Stochastic variational inference: maximise the ELBO of a model-guide pair with any estimator, on either engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from ppl_models import Bound, InputError, NumericalError
from ppl_models.datasets import Dataset
from ppl_models.language import check_engine

from .. import estimate
from ..callables import as_bound, can_subsample, inputs_of
from ..checkpoint import Checkpoints
from ..checks import check_estimator, check_settings, check_weight
from ..data import baseline, prepare
from ..estimate import Estimate
from ..estimators import Spec
from ..identity import digest, shown, versions_of
from ..manifest import manifest
from .course import Course, resumed, save
from .epoch import Epoch
from .finite import explained
from .schedule import Schedule
from .stopping import Stop, average, averaging, begun, converged, seen, stopped, window

__all__ = ["Callback", "Epoch", "Estimate", "Fit", "Stop", "epochs", "fit", "sentence", "starts"]

JOINT = Schedule()  # one step moves everything, by the bound itself
Init = Mapping[str, np.ndarray] | None
#: Called with each history row, of every method; True, or a reason in words, stops a method that goes by steps.
Callback = Callable[[dict[str, Any]], bool | str | None]


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
            heldout_elbo (`Estimate`s, nats per datum), and skipped, the steps that were not finite and moved nothing.
        heldout_elbo: One-sample ELBO of the held-out rows, nats per datum; the interval is over rows.
        heldout_log_likelihood: log p(x) of the held-out rows where the declaration has it in closed form.
        baseline: log p of the held-out rows under independent columns, nats per datum.
        restarts: Final training ELBO of every restart, nats per datum.
        stopped: The rule that ended training: "epochs", "r-hat", "patience", "seconds", "steps", "callback", or what a
            callback said.
        restart_params: `params` of every restart; `params` is one of them.
        iterates: Late iterates of up to a thousand coordinates of the parameters, (epochs, restarts, coordinates).
        skipped: Steps, in all restarts, whose loss or gradient was not finite; they moved nothing.
        rollbacks: How often restarts went back to their last good state, with half the step size.
        passed_over: What was wrong with later checkpoints than the one that a resumed fit went on from.
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
    restart_params: list[dict[str, np.ndarray]] = field(default_factory=list)
    iterates: np.ndarray | None = None
    skipped: int = 0
    rollbacks: int = 0
    passed_over: list[str] = field(default_factory=list)

    def to_arviz(self, **settings: Any) -> Any:
        """An ArviZ `DataTree` of posterior draws, restarts as chains; `settings` are those of `diagnostics.draw`."""
        from ..diagnostics import fit_tree

        return fit_tree.to_arviz(self, **settings)

    def verdict(self, **settings: Any) -> Any:
        """Whether the fit can be relied on, as a density and as a posterior; `settings` are those of `verdict_of`."""
        from ..diagnostics import fit_verdict

        return fit_verdict.verdict_of(self, **settings)


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
    stop: Stop | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    other_versions: bool = False,
) -> Fit:
    """Maximise a bound with Adam.

    A step whose loss or gradient is not finite moves nothing; many in a row send the restart back to its last good state
    with half the step size, and where that does not help either, training stops (see `nonfinite`).

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
        stop: What else may end training before its epochs are used up.
        callbacks: Each is called with each history row; one that returns True, or a reason, stops the fit.
        checkpoints: Where the whole state is kept, at the start, every so many epochs and at the end.
        resume: Go on from the last of these, up to `epochs` in all: on one CPU the same bits as if never stopped.
        other_versions: Go on even if other versions of the libraries wrote it, at the price of those bits.

    Raises:
        InputError: A setting, the data or the estimator cannot be used, or there is no checkpoint of this training.
        NumericalError: The loss left the finite numbers for good; of `nonfinite.NonFinite`, `failure` reproduces it.
    """
    particles = (5 if bound == "iwae" else 1) if num_particles is None else num_particles
    check_settings(
        epochs=epochs, batch=batch, lr=lr, seed=seed, restarts=restarts, dtype=dtype, patience=patience, bound=bound,
        num_particles=particles, beta=beta, anneal=anneal,
    )  # fmt: skip
    check_engine(engine)
    check_estimator(estimator)
    check_weight(estimator, bound, beta, anneal)
    rule = replace(stop or Stop(), **({} if patience is None else {"patience": patience}))
    if resume and checkpoints is None:
        raise InputError("resume needs checkpoints to go on from; give those of the fit that was stopped.")
    data, began = prepare(data, model), perf_counter()
    rows, heldout = (data.inputs(inputs_of(model), heldout=held) for held in (False, True))
    pair, schedule = as_bound(model, engine, len(data.x)), Schedule(beta, anneal, alternate, tuple(freeze))
    if batch is not None and batch < len(data.x) and not can_subsample(model):
        raise InputError(f"batch={batch} needs a model and guide that take the keyword `total`, the number of data a "
                         "minibatch stands for; add it to both and to their plate, or leave batch out.")  # fmt: skip
    size = min(batch or (128 if can_subsample(model) else len(data.x)), len(data.x))
    shared, trainer = import_module(f"inference._{engine}"), import_module(f"inference.svi._{engine}")
    seeds = tuple(range(seed, seed + restarts))
    values = starts(model, rows, seeds, init)
    same = {} if checkpoints is None else {
        "model": shown(model), "method": "svi", "engine": engine, "estimator": shown(estimator), "batch": size, "lr": lr,
        "seed": seed, "restarts": restarts, "dtype": dtype, "bound": bound, "num_particles": particles,
        "schedule": shown(schedule), "dynamic": data.binarisation == "dynamic", "rhat": rule.rhat,
        "init": digest(value for one in values for _, value in sorted((one or {}).items())),
        "data": digest((*rows, *heldout)), "versions": versions_of(shared.VERSIONS),
    }  # fmt: skip
    with shared.session(dtype, device) as place, explained(estimator, engine):
        start = partial(
            trainer.epochs, *pair, rows, estimator=estimator, num_epochs=epochs, batch=size, lr=lr, seeds=seeds,
            dynamic=data.binarisation == "dynamic", init=values, bound=bound, num_particles=particles, schedule=schedule,
        )  # fmt: skip
        course, stream, last, scores = Course(), start(), None, None
        if resume and checkpoints is not None:
            stream, last, course = resumed(checkpoints, same, other_versions, start)
            course.stopped = (course.tail and stopped(rule, course.history, course.tail)) or "epochs"
            if epochs < last.number:
                raise InputError(f"expected epochs to be at least the {last.number} done, got {epochs}; ask for more.")
        for last in () if course.stopped != "epochs" else stream:  # a rule that ended it ends it again
            scores = trainer.heldout(last.params[gather(course, last, rule)], *pair, heldout, seed)
            course.history.append(told(course, last, scores))
            reasons = [callback(course.history[-1]) for callback in callbacks]  # every callback sees every row
            reason = next((r if isinstance(r, str) else "callback" for r in reasons if r), None)
            course.stopped = reason or (course.tail and stopped(rule, course.history, course.tail)) or "epochs"
            ends = course.stopped != "epochs" or last.number == epochs
            if checkpoints is not None and (ends or last.number % checkpoints.every == 0):
                save(checkpoints, same, last, course)
            if ends:
                break
        assert last is not None
        assert course.tail is not None
        everyone = average(course.tail, last.params) or last.params
        params, row = everyone[course.winner], course.history[-1]
        if everyone is not last.params:
            scores = trainer.heldout(params, *pair, heldout, seed)
            row = {**row, "heldout_elbo": None if scores is None else estimate.mean(scores)}
        if scores is not None and np.isnan(scores).any():
            raise NumericalError(f"the held-out ELBO is nan at the end of training, after step {row['step']} of epoch "
                                 f"{row['epoch']}, first at held-out row {int(np.argmax(np.isnan(scores)))} (counting from 0); "
                                 "lower the learning rate, look at that row, or use float64.")  # fmt: skip
        exact = shared.log_evidence(model, params, heldout)
        versions = {"device": place, "dtype": dtype, "versions": shared.VERSIONS}
    return Fit(
        model, pair, engine, data, params, course.history, row["heldout_elbo"],
        None if exact is None else estimate.mean(exact), baseline(model, data),
        row["seconds"] / max(row["step"], 1), last.setup_seconds, course.finals, course.stopped,
        manifest(seed=seed, wall_seconds=perf_counter() - began, **versions), everyone,
        window(course.tail.iterates), course.skipped, sum(last.rollbacks), course.passed_over,
    )  # fmt: skip


def gather(course: Course, epoch: Epoch, rule: Stop) -> int:
    """Take note of an epoch; the restart that leads after it."""
    if course.tail is None:
        course.tail = begun(epoch.params)
    if epoch.steps:
        losses = np.where(np.isfinite(epoch.losses), epoch.losses, np.nan)
        before = course.finals or [-np.inf] * len(losses)
        pairs = zip(before, losses, strict=True)
        course.finals = [float(-np.nanmean(row)) if np.isfinite(row).any() else last for last, row in pairs]
        course.skipped += epoch.skipped
        course.tail = seen(course.tail, epoch.params)
        if rule.rhat is not None and course.tail.total is None and converged(rule.rhat, course.tail, course.history):
            course.tail = averaging(course.tail, epoch.params)
    return course.winner


def told(course: Course, epoch: Epoch, heldout: np.ndarray | None) -> dict[str, Any]:
    """The row of an epoch; its held-out ELBO may be nan where training is about to go back."""
    before = course.history[-1] if course.history else {"step": 0, "seconds": 0.0}
    losses = epoch.losses[course.winner]
    losses = losses[np.isfinite(losses)]
    return {
        "epoch": epoch.number, "step": before["step"] + epoch.steps, "seconds": before["seconds"] + epoch.seconds,
        "train_elbo": estimate.mean(-losses) if len(losses) else None,
        "heldout_elbo": None if heldout is None else estimate.mean(heldout), "skipped": epoch.skipped,
    }  # fmt: skip


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
