"""What NumPyro supplies to `draws`: latents, densities and predictions of a model and guide, all draws in one program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
from jax import lax, random
from numpyro import handlers

from .._numpyro import array
from ..evaluate._numpyro import values
from ..weights._numpyro import traced
from .layout import Site, Structure, arranged, by_row, data_plate, layout

CHUNK = {"cpu": 20_000, "gpu": 2_000_000}  # (row, draw) pairs at a time


def traces(key: Any, model: Any, guide: Any, params: Mapping[str, Any], args: tuple, given: Mapping[str, Any]) -> Any:
    """The model's trace and the guide's (empty without one); latents in `given` have those values."""
    if guide is None:
        known = handlers.substitute(handlers.seed(model, random.split(key)[1]), data={**params, **given})
        return handlers.trace(known).get_trace(*args), {}
    return traced(model, guide, key, params, args, given)


def sampled(trace: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Sites with a distribution."""
    return [(name, site) for name, site in trace.items() if site["type"] == "sample"]


def structure(model: Any, guide: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...]) -> Structure:
    """Sites, plates and shapes, without drawing anything."""
    found: list[Structure] = []
    n = len(args[0])

    def run(params: Any, args: Any) -> None:
        model_trace, guide_trace = traces(random.key(0), model, guide, params, args, {})
        plate = data_plate((f for _, s in sampled(model_trace) for f in s["cond_indep_stack"]), n)
        sites = []
        for name, site in sampled(model_trace):
            fn, frames, observed = site["fn"], site["cond_indep_stack"], site["is_observed"]
            if observed and 0 in xp.shape(site["value"]):
                continue  # a factor
            at = layout(name, fn.batch_shape, fn.event_shape, frames, plate, n, observed)
            sites.append(Site(name, observed, at, plate in {f.name for f in frames}, drawable(fn)))
        outside = [name for name, s in sampled(guide_trace) if plate not in {f.name for f in s["cond_indep_stack"]}]
        lacking = [name for name in outside if name not in model_trace]
        unknown = [s.name for s in sites if not s.observed and s.name not in guide_trace]
        found.append(Structure(n, plate, tuple(sites), tuple(outside), tuple(lacking), tuple(unknown)))

    jax.eval_shape(run, values(params), tuple(map(array, args)))
    return found[0]


def drawable(fn: Any) -> bool:
    """Whether the distribution can be drawn from."""
    try:
        jax.eval_shape(fn.sample, random.key(0))
    except (NotImplementedError, AttributeError):
        return False
    return True


@partial(jax.jit, static_argnames=("model", "guide", "found", "batch"))
def _run(
    keys: Any, params: Any, args: Any, given: Any, keep: Any, *, model: Any, guide: Any, found: Structure, batch: int
) -> dict[str, Any]:
    def one(packed: Any) -> dict[str, Any]:
        key, given = packed
        run_key, draw_key = random.split(key)
        pair = traces(run_key, model, guide, params, args, given)
        sums = {"p": xp.zeros(()), "q": xp.zeros(()), "p_rows": xp.zeros(found.num_rows), "q_rows": xp.zeros(found.num_rows)}
        out: dict[str, Any] = {"latents": {}, "likelihood": {}, "predicted": {}}
        known = {site.name: site for site in found.sites}
        for which, trace in zip("pq", pair, strict=True):
            for name, site in sampled(trace):
                fn, log_p = site["fn"], site["fn"].log_prob(site["value"])
                scaled = log_p if site["scale"] is None else site["scale"] * log_p
                frames = site["cond_indep_stack"]
                at = layout(name, fn.batch_shape, fn.event_shape, frames, found.plate, found.num_rows, site["is_observed"])
                if at.row_dim is None:
                    sums[which] = sums[which] + scaled.sum()
                else:
                    sums[f"{which}_rows"] = sums[f"{which}_rows"] + by_row(xp, scaled, at)
                if which == "q" or name not in known:
                    continue
                if not site["is_observed"]:
                    out["latents"][name] = arranged(xp, site["value"], at, keep[name])
                    continue
                if at.row_dim is not None:
                    out["likelihood"][name] = by_row(xp, log_p, at)
                if known[name].can_draw:
                    draw_key, now = random.split(draw_key)
                    out["predicted"][name] = arranged(xp, fn.sample(now), at, keep[name])
        return {**out, **sums}

    count = keys.shape[0]
    return jax.vmap(one)((keys, given)) if batch >= count else lax.map(one, (keys, given), batch_size=batch)


def run(
    model: Any, guide: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...], given: Mapping[str, np.ndarray],
    found: Structure, keep: Mapping[str, tuple[Any, ...]], draws: int, seed: int, chunk: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Of each draw: latents, predictions, densities by row (all rows of `args`) and what is left of them."""
    (device,) = xp.zeros(()).devices()
    most = max(1, (chunk or CHUNK.get(device.platform, CHUNK["gpu"])) // found.num_rows)
    batch = -(-draws // -(-draws // most))
    wanted = {name: tuple(None if i is None else xp.asarray(i) for i in indices) for name, indices in keep.items()}
    out = _run(random.split(random.key(seed), draws), values(params), tuple(map(array, args)), values(given), wanted,
               model=model, guide=guide, found=found, batch=batch)  # fmt: skip
    return jax.tree.map(np.asarray, out)


@partial(jax.jit, static_argnames=("model", "found"))
def _observed(params: Any, args: Any, *, model: Any, found: Structure) -> dict[str, Any]:
    trace, _ = traces(random.key(0), model, None, params, args, {})
    return {s.name: arranged(xp, trace[s.name]["value"], s.layout, (None,) * len(s.layout.dims)) for s in found.observed}


def observations(
    model: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...], found: Structure
) -> dict[str, np.ndarray]:
    """What the model observes, by site, arranged."""
    out = _observed(values(params), tuple(map(array, args)), model=model, found=found)
    return {name: np.asarray(value) for name, value in out.items()}
