"""Importance weights on NumPyro: draws in compiled blocks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
from jax import random
from numpyro import handlers

from .._numpyro import array
from ..evaluate._numpyro import unscored, values
from . import INNER, OWN, PAIRS, Parts, Sites, Weights


def traced(model: Any, guide: Any, key: Any, params: Any, args: tuple, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Traces of model and guide, the latents in `given` as they are."""
    guide_key, model_key = random.split(key)
    known = handlers.substitute(handlers.seed(unscored(guide), guide_key), data={**params, **given})
    guide_trace = handlers.trace(known).get_trace(*args)
    replayed = handlers.substitute(handlers.replay(handlers.seed(model, model_key), guide_trace), data=dict(params))
    return handlers.trace(replayed).get_trace(*args), guide_trace


def plate_of(trace: Any, rows: int) -> str | None:
    """The plate over the rows: of those around observed sites and as large, "data" or the first; None without one."""
    frames = [f.name for s in trace.values() if s["type"] == "sample" and s["is_observed"] for f in s["cond_indep_stack"]
              if f.size == rows]  # fmt: skip
    return min(frames, key=lambda name: name != "data") if frames else None


def dim_of(site: Any, plate: str | None) -> int | None:
    """Where that plate is among the site's batch dims, counted from the right; None if the site lies outside it."""
    return next((f.dim for f in site["cond_indep_stack"] if f.name == plate), None)


def latent(site: Any) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def sites(model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> Sites:
    """Which latents lie where, from shapes alone."""
    found: list[Sites] = []

    def run() -> None:
        model_trace, guide_trace = traced(model, guide, random.key(0), values(params), tuple(map(array, args)), {})
        plate = plate_of(model_trace, len(args[0]))
        inside = {name: dim_of(site, plate) is not None for name, site in guide_trace.items() if latent(site)}
        missing = [name for name, site in model_trace.items() if latent(site) and name not in guide_trace]
        shared, own = (tuple(name for name, within in inside.items() if within is side) for side in (False, True))
        found.append(Sites(shared, own, plate, tuple(missing)))

    jax.eval_shape(run)
    return found[0]


def parts(model: Any, guide: Any, key: Any, params: Any, args: tuple, given: Mapping[str, Any]) -> Parts:
    """One draw of all latents but those given."""
    traces = traced(model, guide, key, params, args, given)
    plate = plate_of(traces[0], args[0].shape[0])
    outside, rows = [xp.zeros(()), xp.zeros(())], xp.zeros(args[0].shape[0])
    for side, trace in enumerate(traces):
        for site in (site for site in trace.values() if site["type"] == "sample"):
            log_prob, dim = site["fn"].log_prob(site["value"]), dim_of(site, plate)
            log_prob = log_prob if site["scale"] is None else site["scale"] * log_prob
            if dim is None:
                outside[side] = outside[side] + log_prob.sum()
                continue
            cost = log_prob.sum(tuple(d for d in range(log_prob.ndim) if d != log_prob.ndim + dim))
            rows = rows + (cost if side == 0 else -cost)
    shared = {n: s["value"] for n, s in traces[1].items() if latent(s) and dim_of(s, plate) is None}
    return Parts(shared, outside[0], outside[1], rows)


@partial(jax.jit, static_argnames=("model", "guide", "inner"))
def _weigh(keys: Any, params: Any, args: Any, kept: Any, *, model: Any, guide: Any, inner: int) -> Any:
    def one(key: Any) -> Any:
        first = parts(model, guide, key, params, args, {})
        if inner == 1:
            rows, noise = first.rows, 0.0
        else:
            again = jax.vmap(lambda k: parts(model, guide, k, params, args, first.shared).rows)(random.split(key, inner))
            rows = jax.nn.logsumexp(again, 0) - xp.log(inner)
            noise = (xp.exp(again - rows).var(0) / (inner - 1)).sum()
        return first.shared, first.log_p + rows.sum(), first.log_q, rows[kept], noise

    return jax.vmap(one)(keys)


def weigh(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], found: Sites, draws: int,
    kept: np.ndarray, seed: int,
) -> Weights:  # fmt: skip
    """Draws of the global latents and their weights, a block of draws at a time."""
    inner = INNER if found.own else 1
    size = max(1, min(draws, PAIRS // (inner * len(args[0]))))
    kept = kept if found.plate else kept[:0]
    given, rows, blocks = values(params), tuple(map(array, args)), []
    keys = random.split(random.key(seed), -(-draws // size) * size).reshape(-1, size)
    for block in keys:
        out = _weigh(block, given, rows, array(kept), model=model, guide=guide, inner=inner)
        blocks.append(jax.tree.map(np.asarray, out))
    shared, log_p, log_q, log_likelihood, noise = jax.tree.map(lambda *v: np.concatenate(v)[:draws], *blocks)
    log_p, log_q, log_likelihood = (np.asarray(v, np.float64) for v in (log_p, log_q, log_likelihood))
    return Weights(shared, log_p, log_q, log_likelihood, float(np.sqrt(noise.mean())))


@partial(jax.jit, static_argnames=("model", "guide"))
def _rows(keys: Any, params: Any, args: Any, given: Any, *, model: Any, guide: Any) -> Any:
    return jax.vmap(lambda key: parts(model, guide, key, params, args, given).rows)(keys)


@partial(jax.jit, static_argnames=("model", "guide"))
def _shared(key: Any, params: Any, args: Any, *, model: Any, guide: Any) -> Any:
    return parts(model, guide, key, params, args, {}).shared


def row_weights(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], draws: int, seed: int
) -> np.ndarray:
    """log weights of draws of each row's own latents, (rows, draws)."""
    given, rows, size = values(params), tuple(map(array, args)), max(1, min(draws, OWN // len(args[0])))
    keys = random.split(random.key(seed), -(-draws // size) * size).reshape(-1, size)
    shared = _shared(keys[0, 0], given, rows, model=model, guide=guide)
    blocks = [np.asarray(_rows(block, given, rows, shared, model=model, guide=guide)) for block in keys]
    return np.concatenate(blocks)[:draws].astype(np.float64).T
