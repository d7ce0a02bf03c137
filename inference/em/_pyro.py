"""EM with Pyro: eager iterations without gradients, one restart after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pyro import poutine

from ppl_models import NumericalError
from ppl_models.language import Program, language

from .._pyro import Parameters, array, nodes, to_numpy
from ..svi._pyro import RandomState, synchronise
from .run import Run, weight

Params = dict[str, Any]


def spoken(params: Mapping[str, Any]) -> Any:
    """The words with these parameters: a method without a sample site needs no messages, which would take a tenth of EM."""
    return SimpleNamespace(**{**vars(language("pyro")), "param": lambda name, *_, **__: params[name]})


def call(declaration: Any, method: str, params: Mapping[str, Any], *args: Any) -> Any:
    """A method of the declaration under these parameters."""
    return getattr(declaration, method)(spoken(params), *args)


def exact(declaration: Any, x: Any, params: Params, iterations: int, tolerance: float) -> tuple[Params, list[Any]]:
    """The parameters, and the mean log p(x) after each iteration."""
    params = dict(params)
    words = spoken(params)
    data = declaration.summarise(words, x)
    statistics, total = declaration.expected(words, data)
    history, gain = [float(total) / len(x)], float("inf")
    while len(history) <= iterations and gain >= tolerance:
        params.update(declaration.maximise(words, statistics))
        statistics, total = declaration.expected(words, data)
        history.append(float(total) / len(x))
        gain = history[-1] - history[-2]
    return params, history


def sampled(declaration: Any, x: Any, params: Params, iterations: int, draws: int) -> tuple[Params, list[Any]]:
    """The same with latents drawn from the guide."""
    guide = Program(declaration, "guide", "pyro")

    def statistics(params: Params) -> dict[str, Any]:
        with Parameters(params):
            sites = poutine.trace(guide).get_trace(x)
        return call(declaration, "statistics", params, x, {n: s["value"] for n, s in nodes(sites) if s["type"] == "sample"})

    def log_p(params: Params) -> Any:
        return call(declaration, "log_evidence", params, x).sum() / len(x)

    history, average = [log_p(params)], dict[str, Any]()
    for t in range(1, iterations + 1):
        new = [statistics(params) for _ in range(draws)]
        newest = {name: sum(one[name] for one in new) / draws for name in new[0]}
        for name, value in newest.items():
            old = average.get(name, value)
            average[name] = old + weight(t, iterations) * (value - old)
        params = call(declaration, "maximise", params, average)
        history.append(log_p(params))
    return params, torch.stack(history).tolist()


def runs(
    declaration: Any, x: np.ndarray, starts: Sequence[Mapping[str, np.ndarray]], *, method: str, iterations: int,
    tolerance: float, draws: int, seeds: Sequence[int],
) -> list[Run]:  # fmt: skip
    """EM from every start in turn."""
    rows, out = array(x), []
    for start, seed in zip(starts, seeds, strict=True):
        params, began = {name: array(value) for name, value in start.items()}, perf_counter()
        with torch.inference_mode(), RandomState(seed)():
            if method == "exact":
                final, history = _solvable(exact, declaration, rows, params, iterations, tolerance)
            else:
                final, history = _solvable(sampled, declaration, rows, params, iterations, draws)
        synchronise()
        out.append(Run(to_numpy(final), np.array(history), perf_counter() - began, 0.0))
    return out


def _solvable(method: Callable[..., Any], *args: Any) -> Any:
    """What PyTorch refuses to factorise, JAX returns as NaN; both end as the same error."""
    try:
        return method(*args)
    except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
        reason = str(error).splitlines()[0].split(": ")[-1].rstrip(".")
        raise NumericalError(f"a matrix of EM lost its rank ({reason}); use fewer latents or components, or "
                             "float64.") from error  # fmt: skip
