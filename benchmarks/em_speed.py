"""Expectation-maximisation beside scikit-learn's, in one process with one thread, both in float32.

Everyone takes fixed numbers of iterations (no tolerance), in turns, round after round. An iteration's time is the
difference of a long and a short run over the iterations between them, so that what is done once a fit cancels: scikit-learn
timed from outside, ours as `em` tells it (the loop and `summarise`, device-synchronised); once_seconds is what then
remains of ours, the moments. `iteration_ratio` is the peer's median over ours, above 1 if we are faster, with a 95 %
bootstrap interval over the rounds (as many as 90 seconds allow, 5 to 25).
`whole_fit_ratio` compares whole calls from outside, at the same number of iterations, with all that is done once;
`first_fit_ratio` the first calls, compilation included. Peer: scikit-learn at the faster of its two methods, for factor
analysis; for mixtures, from our starting values.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import record
from benchmarks.step_time import ENVIRONMENT, summary
from inference.em import em
from ppl_models import FactorAnalysis, GaussianMixture
from ppl_models.datasets import Dataset

Fitter = Callable[[int], float]  # iterations -> the seconds that they took
ENGINES = ("numpyro", "pyro")
LEAST_ROUNDS, ROUNDS, SECONDS = 5, 25, 90


class Case(NamedTuple):
    """The data's size, and the iterations of a short and a long run: the peer's and ours."""

    rows: int
    columns: int
    k: int
    peer: tuple[int, int]
    ours: tuple[int, int]


CASES = {
    "factor_analysis": Case(100_000, 64, 10, (2, 12), (50, 1050)),
    "factor_analysis_small": Case(1_000, 64, 10, (2, 12), (50, 1050)),
    "mixture": Case(100_000, 64, 10, (2, 12), (2, 12)),
    "mixture_small": Case(10_000, 10, 10, (10, 110), (10, 110)),
}


def factors(rows: int, columns: int, k: int) -> np.ndarray:
    """Rows of a factor model."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.5, 2, columns) * rng.normal(size=(rows, columns))
    return (rng.normal(size=(rows, k)) @ rng.normal(size=(k, columns)) + noise).astype(np.float32)


def clusters(rows: int, columns: int, k: int) -> np.ndarray:
    """Rows of a mixture whose components overlap."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(k, columns))[rng.integers(k, size=rows)] + rng.normal(size=(rows, columns))).astype(np.float32)


def ours(declaration: Any, x: np.ndarray, engine: str, init: dict[str, np.ndarray]) -> Fitter:
    """`em` from `init`; the seconds are those of its loop."""
    data = Dataset("benchmark", x, x[:10], "none")

    def fit(iterations: int) -> float:
        found = em(declaration, data, engine=engine, iterations=iterations, tolerance=-np.inf, init=init, device="cpu")
        assert found.manifest["iterations"] == iterations
        return found.seconds_per_step * iterations

    return fit


def sklearn_factors(x: np.ndarray, k: int, method: str) -> Fitter:
    """scikit-learn's factor analysis, from its own start."""
    from sklearn.decomposition import FactorAnalysis as Peer

    def fit(iterations: int) -> float:
        start = time.perf_counter()
        found = Peer(k, tol=0, max_iter=iterations, svd_method=method, random_state=0).fit(x)
        assert found.n_iter_ == iterations
        return time.perf_counter() - start

    return fit


def sklearn_mixture(x: np.ndarray, init: dict[str, np.ndarray]) -> Fitter:
    """scikit-learn's diagonal mixture from `init`."""
    from sklearn.mixture import GaussianMixture as Peer

    start = {"weights_init": np.exp(init["logits"]) / np.exp(init["logits"]).sum(), "means_init": init["locs"],
             "precisions_init": init["scale"] ** -2.0}  # fmt: skip
    start = {name: value.astype(np.float32) for name, value in start.items()}

    def fit(iterations: int) -> float:
        began = time.perf_counter()
        # `init_params`: else it runs k-means first, whose result `start` replaces.
        found = Peer(len(init["locs"]), covariance_type="diag", tol=0, max_iter=iterations, init_params="random",
                     random_state=0, **start).fit(x)  # fmt: skip
        assert found.n_iter_ == iterations
        return time.perf_counter() - began

    return fit


def outside(fit: Fitter, iterations: int) -> float:
    """Seconds of the whole call."""
    start = time.perf_counter()
    fit(iterations)
    return time.perf_counter() - start


def compared(fits: dict[str, Fitter], size: Case, rounds: int) -> dict[str, Any]:
    """Seconds an iteration and a fit of everyone, and ratios to the faster peer (names with `sklearn`)."""
    long, counts = size.peer[1], {name: size.ours if name in ENGINES else size.peer for name in fits}
    first = {name: outside(fit, long) for name, fit in fits.items()}
    for name, fit in fits.items():
        [fit(count) for count in counts[name]]
    short, lengthy, whole = ({name: list[float]() for name in fits} for _ in range(3))
    began = time.perf_counter()
    for i in range(rounds):
        for name in fits if i % 2 else reversed(fits):
            for seconds, count in zip((short, lengthy), counts[name], strict=True):
                seconds[name].append(fits[name](count))
            whole[name].append(outside(fits[name], long))
        if i + 1 >= LEAST_ROUNDS and time.perf_counter() - began > SECONDS:
            break
    each = {name: np.subtract(lengthy[name], short[name]) / (counts[name][1] - counts[name][0]) for name in fits}
    out: dict[str, Any] = {"rounds": len(whole[ENGINES[0]]), "fit_iterations": long}
    for name in fits:
        out[name] = {"iteration_seconds": np.median(each[name]), "fit_seconds": np.median(whole[name]),
                     "first_fit_seconds": first[name]}  # fmt: skip
    peers = [name for name in fits if name not in ENGINES]
    iterating, fitting = (min(peers, key=lambda name: out[name][of]) for of in ("iteration_seconds", "fit_seconds"))
    for engine in ENGINES:
        out[engine] |= {
            "once_seconds": np.median(short[engine]) - counts[engine][0] * np.median(each[engine]),
            "iteration_ratio": summary(each[iterating], each[engine])["ratio"],
            "whole_fit_ratio": summary(whole[fitting], whole[engine])["ratio"],
            "first_fit_ratio": min(first[name] for name in peers) / first[engine],
        }
    return out


def case(name: str, rounds: int) -> dict[str, Any]:
    """One comparison."""
    size = CASES[name]
    x = (factors if name.startswith("factor") else clusters)(size.rows, size.columns, size.k)
    if name.startswith("factor"):
        declaration: Any = FactorAnalysis(size.columns, size.k)
        peers = {f"sklearn_{method}": sklearn_factors(x, size.k, method) for method in ("lapack", "randomized")}
        init = declaration.initial(x, np.random.default_rng(0))
    else:
        declaration = GaussianMixture(size.columns, size.k, "diagonal")
        init = declaration.initial(x, np.random.default_rng(0))
        peers = {"sklearn": sklearn_mixture(x, init)}
    return compared({**peers, **{engine: ours(declaration, x, engine, init) for engine in ENGINES}}, size, rounds)


def child(name: str, rounds: int) -> dict[str, Any]:
    """`case` in a process of its own with one thread, on one core."""
    command = [sys.executable, "-m", "benchmarks.em_speed", name, str(rounds)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Every case; quickly three rounds of each."""
    given = {name: child(name, 3 if quick else ROUNDS) for name in CASES}
    sources = {file: sha for part in given.values() for file, sha in part.pop("sources").items()}
    return {"device": "cpu", **given, "sources": sources}


def main(name: str, rounds: str) -> None:
    """The child's door: pin to one core, measure, print."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are counted here
    with threadpool_limits(1):
        print(record.dumps({**case(name, int(rounds)), "sources": record.sources("__main__", "benchmarks.em_speed")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
