"""Expectation-maximisation of every declaration that offers it, exact or with latents drawn from the guide.

A declaration offers EM by the methods

    summarise(ppl, x)             what EM needs of the rows, computed once
    expected(ppl, data)           E step: expected statistics of the completed rows, and the total log p(x) in nats
    statistics(ppl, x, latents)   the same statistics of rows completed by a draw of the latents
    maximise(ppl, statistics)     M step: the parameters (constrained, by name) that maximise E log p(x, z)
    initial(x, rng)               where to start

and may tell by `at_floor(params, x)` the columns whose noise would be zero but for a floor. Source: Dempster, Laird and
Rubin 1977; sampled: Delyon, Lavielle and Moulines 1999, eqs 2 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from time import perf_counter
from typing import Any, Literal, cast, get_args

import numpy as np

from ppl_models import Bound, InputError, NumericalError
from ppl_models.language import check_engine

from .. import estimate
from ..callables import as_bound
from ..checks import check_init, check_settings
from ..data import baseline, prepare
from ..manifest import manifest
from ..svi import Fit
from .run import Run

Method = Literal["exact", "sampled"]
ROUNDING = {"float32": 2**-15, "float64": 2**-38}  # of log p, relative: large energies cancel where a variance is small
NEEDS = {
    "exact": ("summarise", "expected", "maximise", "initial"),
    "sampled": ("guide", "statistics", "maximise", "log_evidence", "initial"),
}


def em(
    model: Any,
    data: Any,
    *,
    engine: str = "numpyro",
    method: Method = "exact",
    iterations: int = 1000,
    tolerance: float = 1e-7,
    seed: int = 0,
    restarts: int = 1,
    draws: int = 1,
    dtype: str = "float32",
    device: str | None = None,
    init: Mapping[str, np.ndarray] | None = None,
) -> Fit:
    """Climb the mean log p(x) of the training rows; every iteration sees all of them.

    "exact" stops where an iteration gains less than `tolerance`, and never descends. "sampled" completes the rows by
    draws from the guide, averages the statistics with weights 1 in the first half of the iterations and 1, 1/2, 1/3 …
    after it, and runs all of them. Its result lies below the optimum by Monte-Carlo error, of which
    `manifest["standard_error"]` bounds the expected size: see `standard_error`.

    Args:
        model: A declaration with the methods above.
        data: A `Dataset`, or an array (N, D) of which a fifth is held out.
        engine: "numpyro" or "pyro".
        method: "exact" or "sampled".
        iterations: At most so many; "sampled" takes them all.
        tolerance: Nats per datum, "exact" only; -inf takes all iterations.
        seed: Of starting values and draws.
        restarts: Runs from seeds seed, seed + 1, …; the best by final mean log p(x) is kept.
        draws: Completions of the rows an iteration, "sampled" only.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        init: Constrained values to start from, by parameter name; None takes the declaration's `initial`.

    Returns:
        A `Fit` whose `history` rows hold epoch and step (the iteration), seconds (the run's, spread evenly) and
        train_log_likelihood (nats per datum), whose `restarts` are final values of the same, and whose `stopped` is
        "tolerance", "iterations" or "floor": the first with columns at the floor, listed in `manifest["floor_columns"]`.

    Raises:
        InputError: A setting or the data cannot be used, or the declaration does not offer EM.
        NumericalError: log p(x) left the finite numbers, or an exact iteration lowered it.
    """
    check_settings(seed=seed, restarts=restarts, dtype=dtype)
    _check(method, iterations, tolerance, draws)
    check_engine(engine)
    for needed in NEEDS[method]:
        if not callable(getattr(model, needed, None)):
            raise InputError(f"EM ({method}) needs a declaration with the method `{needed}`, which {type(model).__name__} "
                             "lacks; fit it by stochastic variational inference (inference.fit).")  # fmt: skip
    data, began = prepare(data, model), perf_counter()
    if data.binarisation == "dynamic":
        raise InputError("EM needs rows that stay as they are, but binarisation 'dynamic' draws them anew at each step; "
                         "choose another.")  # fmt: skip
    seeds = tuple(range(seed, seed + restarts))
    starts = [model.initial(data.x, np.random.default_rng(s)) for s in seeds]
    if init is not None:
        check_init(init, {name: np.shape(value) for name, value in starts[0].items()})
        starts = [init] * restarts
    # What has no density, such as the limit of principal components, has no model to bind.
    bound = as_bound(model, engine, len(data.x)) if hasattr(model, "model") else cast(Bound, None)
    shared, engines = import_module(f"inference._{engine}"), import_module(f"inference.em._{engine}")
    with shared.session(dtype, device) as place:
        found: list[Run] = engines.runs(
            model, data.x, starts, method=method, iterations=iterations, tolerance=tolerance, draws=draws, seeds=seeds
        )
        for number, run in enumerate(found):
            require_finite(run, number)
            if method == "exact":
                require_monotone(run.log_likelihoods, dtype)
        finals = [float(run.log_likelihoods[-1]) for run in found]
        best = found[int(np.argmax(finals))]
        evidence = shared.log_evidence(model, best.params, (data.heldout,))
        versions = {"device": place, "dtype": dtype, "versions": shared.VERSIONS}
    steps = len(best.log_likelihoods) - 1
    step_seconds, floored = best.seconds / max(steps, 1), floor_columns(model, best.params, data.x)
    facts: dict[str, Any] = {"method": method, "iterations": steps, "floor_columns": floored}
    stopped = "floor" if floored else "tolerance"
    if method == "sampled":
        facts["standard_error"] = standard_error(best.params, len(data.x), draws)
    if method == "sampled" or not converged(best, tolerance):
        stopped = "iterations"
    history = [
        {"epoch": i, "step": i, "seconds": i * step_seconds, "train_log_likelihood": float(value)}
        for i, value in enumerate(best.log_likelihoods)
    ]
    return Fit(
        model, bound, engine, data, best.params, history, None, None if evidence is None else estimate.mean(evidence),
        None if evidence is None else baseline(model, data), step_seconds, best.setup_seconds, finals, stopped,
        manifest(seed=seed, wall_seconds=perf_counter() - began, **versions, **facts),
    )  # fmt: skip


def converged(run: Run, tolerance: float) -> bool:
    """Whether the last iteration gained less than `tolerance`."""
    return len(run.log_likelihoods) > 1 and bool(np.diff(run.log_likelihoods)[-1] < tolerance)


def standard_error(params: Mapping[str, np.ndarray], rows: int, draws: int) -> float:
    """P / (4 N draws): how far sampled EM with P parameters lies below the optimum at most, expected, nats per datum.

    Near the optimum, in a direction of complete information I of which the share ρ is missing, an iteration keeps ρ of the
    error and adds noise of variance ρ / I. At rest that costs ½ I (1 − ρ) · (ρ / I) / (1 − ρ²) = ½ ρ / (1 + ρ) < ¼ nat in
    all, and averaging only lessens it. (It takes some 1 / (1 − ρ) iterations to come to rest.)
    """
    return sum(np.size(value) for value in params.values()) / (4 * rows * draws)


def floor_columns(model: Any, params: Mapping[str, np.ndarray], x: np.ndarray) -> list[int]:
    """The columns whose noise the declaration's floor holds up; none where it has no floor."""
    told = getattr(model, "at_floor", None)
    return [] if told is None else [int(column) for column in told(params, np.asarray(x))]


def floor_sentence(found: Fit) -> str | None:
    """A warning if noise variances ended at their floor, else None."""
    columns = found.manifest.get("floor_columns")
    if not columns:
        return None
    which = f"column{'s' * (len(columns) > 1)} {', '.join(map(str, columns))} (counting from 0)"
    return (f"The noise of {which} ended at its floor (a Heywood case): log p(x) depends on the floor; drop the columns, or "
            "use fewer latents.")  # fmt: skip


def require_finite(run: Run, number: int) -> None:
    """Raise `NumericalError` naming the first iteration whose log p(x) is not finite."""
    bad = np.flatnonzero(~np.isfinite(run.log_likelihoods))
    if len(bad):
        raise NumericalError(f"log p(x) became {run.log_likelihoods[bad[0]]} in iteration {bad[0]} of EM (restart {number}); "
                             "use fewer latents or components, or float64.")  # fmt: skip


def require_monotone(log_likelihoods: np.ndarray, dtype: str) -> None:
    """Raise `NumericalError` naming the first iteration of exact EM that lowered log p(x) by more than rounding."""
    rounding = ROUNDING[dtype] * max(1.0, np.abs(log_likelihoods).max())
    falls = np.flatnonzero(np.diff(log_likelihoods) < -rounding)
    if len(falls):
        i = falls[0]
        raise NumericalError(
            f"iteration {i + 1} of EM lowered the mean log p(x) from {log_likelihoods[i]:.9g} to {log_likelihoods[i + 1]:.9g}, "
            "which exact EM never does; use float64, or correct the declaration's `expected` and `maximise`."
        )


def _check(method: str, iterations: Any, tolerance: Any, draws: Any) -> None:
    expected = {
        "method": (method, method in get_args(Method), "exact or sampled"),
        "iterations": (iterations, _positive(iterations), "a whole number of at least 1"),
        "tolerance": (tolerance, tolerance == -np.inf or _number(tolerance), "a number of at least 0, or -inf"),
        "draws": (draws, _positive(draws), "a whole number of at least 1"),
    }
    for name, (value, fine, what) in expected.items():
        if not fine:
            raise InputError(f"expected {name} to be {what}, got {value!r}; change that setting.")


def _positive(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(value >= 0)
