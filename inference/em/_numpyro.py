"""EM with NumPyro: a whole run, all restarts at once, is one compiled program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpy as np
from jax import lax, random
from numpyro import handlers

from ppl_models.language import Program

from .._numpyro import array, to_numpy
from ..svi._numpyro import Compiled
from .run import Run, weight


def call(declaration: Any, method: str, params: Mapping[str, Any], *args: Any) -> Any:
    """A method of the declaration under these parameters."""
    return handlers.substitute(Program(declaration, method, "numpyro"), data=dict(params))(*args)


def updated(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new parameters, typed as the old ones, as a loop's carry must be."""
    return {name: lax.convert_element_type(new[name], value.dtype) for name, value in old.items()}


class Exact(NamedTuple):
    """The loop's state: `statistics` and `log_p` belong to `params`."""

    step: Any
    params: Any
    statistics: Any
    log_p: Any
    gain: Any
    history: Any


@lru_cache(maxsize=32)
def exact(declaration: Any, iterations: int, restarts: int, like: Any) -> Compiled:
    """(params, x, tolerance) -> (params, history, steps taken); equal set-ups share one compilation."""
    rows = like[0][0]

    def expected(params: Any, data: Any) -> tuple[Any, Any]:
        statistics, total = call(declaration, "expected", params, data)
        return statistics, total / rows

    def loop(params: Any, data: Any, tolerance: Any) -> tuple[Any, Any, Any]:
        def step(s: Exact) -> Exact:
            params = updated(s.params, call(declaration, "maximise", s.params, s.statistics))
            statistics, log_p = expected(params, data)
            return Exact(s.step + 1, params, statistics, log_p, log_p - s.log_p, s.history.at[s.step + 1].set(log_p))

        def go_on(s: Exact) -> Any:
            return (s.step < iterations) & (s.gain >= tolerance)

        statistics, log_p = expected(params, data)
        history = xp.zeros(iterations + 1, log_p.dtype).at[0].set(log_p)
        last = lax.while_loop(go_on, step, Exact(0, params, statistics, log_p, xp.full_like(log_p, xp.inf), history))
        return last.params, last.history, last.step

    def program(params: Any, x: Any, tolerance: Any) -> tuple[Any, Any, Any]:
        return batched(loop, restarts)(params, call(declaration, "summarise", {}, x), tolerance)

    return Compiled(jax.jit(program))


@lru_cache(maxsize=32)
def sampled(declaration: Any, iterations: int, draws: int, restarts: int, like: Any) -> Compiled:
    """(params and key, x, nothing) -> (params, history, steps taken)."""
    rows, guide = like[0][0], Program(declaration, "guide", "numpyro")
    weights = np.array([weight(t, iterations) for t in range(1, iterations + 1)])

    def completed(rng_key: Any, params: Any, x: Any) -> Any:
        sites = handlers.trace(handlers.substitute(handlers.seed(guide, rng_key), data=params)).get_trace(x)
        latents = {name: site["value"] for name, site in sites.items() if site["type"] == "sample"}
        return call(declaration, "statistics", params, x, latents)

    def loop(start: Any, x: Any, _: Any) -> tuple[Any, Any, Any]:
        def statistics(rng_key: Any, params: Any) -> Any:
            one = jax.vmap(lambda key: completed(key, params, x))(random.split(rng_key, draws))
            return jax.tree.map(lambda v: v.mean(0), one)

        def step(carry: Any, weight: Any) -> tuple[Any, Any]:
            rng_key, params, average = carry
            rng_key, draw = random.split(rng_key)
            newest = statistics(draw, params)
            average = jax.tree.map(lambda old, new: old + weight.astype(old.dtype) * (new - old), average, newest)
            params = updated(params, call(declaration, "maximise", params, average))
            return (rng_key, params, average), log_p(params)

        def log_p(params: Any) -> Any:
            return call(declaration, "log_evidence", params, x).sum() / rows

        rng_key, params = start
        nothing = jax.tree.map(lambda v: xp.zeros(v.shape, v.dtype), jax.eval_shape(statistics, rng_key, params))
        (_, final, _), history = lax.scan(step, (rng_key, params, nothing), xp.asarray(weights))
        return final, xp.concat([log_p(params)[None], history]), xp.asarray(iterations)

    return Compiled(jax.jit(batched(loop, restarts)))


def batched(loop: Any, restarts: int) -> Any:
    """`loop` from every start at once; a single start is not vectorised, which would cost it time."""
    if restarts > 1:
        return jax.vmap(loop, in_axes=(0, None, None))
    return lambda starts, *rest: jax.tree.map(lambda v: v[None], loop(jax.tree.map(lambda v: v[0], starts), *rest))


def runs(
    declaration: Any, x: np.ndarray, starts: Sequence[Mapping[str, np.ndarray]], *, method: str, iterations: int,
    tolerance: float, draws: int, seeds: Sequence[int],
) -> list[Run]:  # fmt: skip
    """EM from every start, vectorised."""
    began, x = perf_counter(), array(x)
    params: Any = {name: xp.stack([array(start[name]) for start in starts]) for name in starts[0]}
    like = (x.shape, x.dtype, x.device)
    if method == "exact":
        program = exact(declaration, iterations, len(starts), like)
    else:
        program = sampled(declaration, iterations, draws, len(starts), like)
        params = (xp.stack([random.key(seed) for seed in seeds]), params)
    bound = xp.asarray(tolerance, x.dtype)
    program.compile(params, x, bound)
    setup, began = perf_counter() - began, perf_counter()
    final, history, steps = jax.block_until_ready(program(params, x, bound))
    seconds = perf_counter() - began
    final, history, steps = to_numpy(final), np.asarray(history, np.float64), np.asarray(steps)
    return [
        Run({name: v[i] for name, v in final.items()}, history[i, : steps[i] + 1], seconds, setup) for i in range(len(starts))
    ]
