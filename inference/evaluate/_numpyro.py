"""What NumPyro supplies to `evaluate` and `explore`: importance weights, latent distributions and what they predict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
import numpyro.distributions as dist
from jax import lax, random
from numpyro import handlers

from ppl_models.language import Program

from .._numpyro import array
from ..estimators._numpyro import kl, run_terms
from .latent import Latent, Prediction
from .stream import Stream, Weighed, fold, row_weights, split, start, weighed

CHUNK = {"cpu": 1_000, "gpu": 400_000}  # (row, sample) pairs at a time


def unscored(guide: Any) -> Any:
    """`guide` without its observed sites: auxiliary losses are no part of q."""
    return handlers.block(guide, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"])


def blocks(args: tuple[np.ndarray, ...], size: int) -> tuple[Any, ...]:
    """Arrays (N, ...) as (blocks, size, ...), the last block filled with copies of the first row."""
    return tuple(
        array(np.concatenate([a, np.repeat(a[:1], -len(a) % size, 0)]).reshape(-1, size, *a.shape[1:])) for a in args
    )


def values(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array(value) for name, value in params.items()}


@partial(jax.jit, static_argnames=("model", "guide", "samples", "total"))
def _streams(rng_key: Any, params: Any, chunks: Any, *, model: Any, guide: Any, samples: int, total: int) -> Stream:
    def block(packed: Any) -> Stream:
        key, args = packed
        hidden, rows = unscored(guide), args[0].shape[0]

        def step(stream: Stream, packed: Any) -> tuple[Stream, None]:
            key, first = packed
            log_w = row_weights(run_terms(key, params, model, hidden, args, {}, {}, {}, samples=samples), rows)
            return fold(stream, log_w, (first + xp.arange(samples) < total)[:, None], xp), None

        firsts = xp.arange(0, total, samples)
        return lax.scan(step, start(rows, xp.zeros(()), xp), (random.split(key, len(firsts)), firsts))[0]

    return lax.map(block, (random.split(rng_key, chunks[0].shape[0]), chunks))


def weigh(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], num_samples: int, seed: int,
    chunk: int | None,
) -> Weighed:  # fmt: skip
    """Every row of `args` under `num_samples` importance samples; one compiled program a shape."""
    n = len(args[0])
    (device,) = xp.zeros(()).devices()
    rows, samples = split(n, num_samples, chunk or CHUNK.get(device.platform, CHUNK["gpu"]))
    stream = _streams(
        random.key(seed), values(params), blocks(args, rows), model=model, guide=guide, samples=samples, total=num_samples
    )
    return weighed(Stream(*(np.asarray(part).reshape(-1)[:n] for part in stream)), num_samples)


def bare(fn: Any) -> Any:
    """The distribution of one entry: without masks, copies and the joining of entries into one event."""
    while isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)):
        fn = fn.base_dist
    return fn


def moment(fn: Any, name: str, value: Any) -> Any:
    """A moment of `fn`, shaped as the draw `value`; nan if it has none."""
    try:
        return xp.broadcast_to(getattr(fn, name), value.shape).astype(float)
    except (AttributeError, NotImplementedError, ValueError):
        return xp.full(value.shape, xp.nan)


def divergence(q: Any, p: Any, value: Any) -> Any:
    """KL(q ‖ p) of each entry where both factorise, else of the whole; from the draw where no closed form is known."""
    shape, of_q, of_p = q.batch_shape + q.event_shape, bare(q), bare(p)
    found = kl(of_q, of_p) if of_q.event_shape == of_p.event_shape else None
    if found is None and of_q.has_enumerate_support and type(of_q) is type(of_p):
        support = of_q.enumerate_support(expand=False)
        log_q = of_q.log_prob(support)
        found = xp.where(log_q > -xp.inf, xp.exp(log_q) * (log_q - of_p.log_prob(support)), 0.0).sum(0)
    if found is None:
        return q.log_prob(value) - p.log_prob(value)
    return xp.broadcast_to(found, shape[: len(shape) - len(of_q.event_shape)])


@partial(jax.jit, static_argnames=("model", "guide", "draws"))
def _latents(rng_key: Any, params: Any, chunks: Any, given: Any, *, model: Any, guide: Any, draws: int) -> dict[str, Latent]:
    def one(key: Any, args: Any, given: Any) -> dict[str, Any]:
        guide_key, model_key = random.split(key)
        known = handlers.substitute(handlers.seed(guide, guide_key), data={**params, **given})
        guide_trace = handlers.trace(known).get_trace(*args)
        replayed = handlers.substitute(handlers.replay(handlers.seed(model, model_key), guide_trace), data=params)
        model_trace, out = handlers.trace(replayed).get_trace(*args), {}
        for name, site in guide_trace.items():
            if site["type"] != "sample" or site["is_observed"] or name not in model_trace or name in given:
                continue
            q, p, value = site["fn"], model_trace[name]["fn"], site["value"]
            frames = [f for f in site["cond_indep_stack"] if f.size == args[0].shape[0]]
            axis = len(q.batch_shape) + min(frames, key=lambda f: f.name != "data").dim if frames else 0
            parts = (divergence(q, p, value), moment(q, "mean", value), moment(q, "variance", value), value,
                     moment(p, "mean", value), moment(p, "variance", value))  # fmt: skip
            out[name] = [xp.moveaxis(part, axis, 0) for part in parts]
        return out

    def block(packed: Any) -> dict[str, Latent]:
        key, args, given = packed
        drawn = jax.vmap(lambda key: one(key, args, given))(random.split(key, draws))
        return {name: Latent.of(parts, xp) for name, parts in drawn.items()}

    return lax.map(block, (random.split(rng_key, chunks[0].shape[0]), chunks, given))


def latents(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], seed: int, draws: int,
    given: Mapping[str, np.ndarray] | None = None, rows: int = 512,
) -> dict[str, Latent]:  # fmt: skip
    """q of every latent of every row, by site, averaged over `draws` of the latents before it; `given` fixes some."""
    n = len(args[0])
    size = min(rows, 1 << max(4, (n - 1).bit_length()))  # few sizes, so few compilations
    fixed = {} if given is None else dict(zip(given, blocks(tuple(given.values()), size), strict=True))
    found = _latents(random.key(seed), values(params), blocks(args, size), fixed, model=model, guide=guide, draws=draws)
    return {
        name: Latent._make(np.asarray(part, np.float64).reshape(-1, *part.shape[2:])[:n] for part in latent)
        for name, latent in found.items()
    }


@partial(jax.jit, static_argnames=("model",))
def _predict(rng_key: Any, params: Any, args: Any, latents: Any, *, model: Any) -> Prediction:
    run_key, draw_key = random.split(rng_key)
    known = handlers.substitute(handlers.seed(model, run_key), data={**params, **latents})
    sites = handlers.trace(known).get_trace(*args)
    drawn, site = {}, None
    for name, found in sites.items():
        if found["type"] == "sample" and not found["is_observed"]:
            drawn[name] = found["value"]
        elif found["type"] == "sample" and (name == "x" or "x" not in sites and found["value"].shape == args[0].shape):
            site = found
    if site is None:
        return Prediction(None, None, drawn)
    shape = site["fn"].batch_shape + site["fn"].event_shape
    mean = moment(site["fn"], "mean", xp.zeros(shape))
    return Prediction(mean, site["fn"].sample(draw_key), drawn)


def predict(
    model: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], latents: Mapping[str, Any], seed: int
) -> Prediction:
    """p(x | latents), those not given drawn from the prior: its mean, a draw, and all latents."""
    found = _predict(random.key(seed), values(params), tuple(map(array, args)), values(latents), model=model)
    return jax.tree.map(np.asarray, found)


def call(declaration: Any, method: str, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> np.ndarray:
    """A method of a declaration that draws nothing, at these parameters."""
    program = handlers.substitute(Program(declaration, method, "numpyro"), data=values(params))
    return np.asarray(jax.jit(program)(*map(array, args)), np.float64)
