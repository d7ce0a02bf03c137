"""What Pyro supplies to `evaluate` and `explore`: importance weights, latent distributions and what they predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import ExpandedDistribution

from ppl_models.language import Program

from .._pyro import Parameters, array, nodes
from ..estimators._pyro import frames_of, inspect, kl, run_terms, sites
from .latent import Latent, Prediction
from .stream import Stream, Weighed, fold, row_weights, split, start, weighed

CHUNK = {"cpu": 1_000, "cuda": 400_000}  # (row, sample) pairs at a time


def unscored(guide: Any) -> Any:
    """`guide` without its observed sites: auxiliary losses are no part of q."""

    def observed(site: Any) -> bool:
        return site["type"] == "sample" and site["is_observed"]

    return poutine.block(guide, hide_fn=observed)


def values(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array(value) for name, value in params.items()}


def to_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy()


@contextmanager
def quiet(params: Mapping[str, Any], seed: int) -> Iterator[None]:
    """Parameters as given, no gradients, and a random state of one's own."""
    with torch.random.fork_rng(), torch.no_grad(), Parameters(values(params)):
        torch.manual_seed(seed)
        yield


def weigh(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], num_samples: int, seed: int,
    chunk: int | None,
) -> Weighed:  # fmt: skip
    """Every row of `args` under `num_samples` importance samples."""
    n, hidden, found = len(args[0]), unscored(guide), list[Stream]()
    rows, samples = split(n, num_samples, chunk or CHUNK.get(torch.get_default_device().type, CHUNK["cuda"]))
    with quiet(params, seed):
        for first in range(0, n, rows):
            part = tuple(array(a[first : first + rows]) for a in args)
            inspection, stream = inspect(model, hidden, part, {}), start(len(part[0]), xp.zeros(()), xp)
            for done in range(0, num_samples, samples):
                size = min(samples, num_samples - done)
                terms = run_terms(model, hidden, part, {}, {}, inspection, [{}, {}], samples=size)
                stream = fold(stream, row_weights(terms, len(part[0])), torch.ones(size, 1, dtype=torch.bool), xp)
            found.append(stream)
    parts = [np.concatenate([np.atleast_1d(to_numpy(stream[i])) for stream in found]) for i in range(5)]
    return weighed(Stream(*parts), num_samples)


def bare(fn: Any) -> Any:
    """The distribution of one entry: without masks, copies and the joining of entries into one event."""
    while isinstance(fn, (dist.MaskedDistribution, ExpandedDistribution, dist.Independent)):
        fn = fn.base_dist
    return fn


def moment(fn: Any, name: str, value: Any) -> Any:
    """A moment of `fn`, shaped as the draw `value`; nan if it has none."""
    try:
        return getattr(fn, name).expand(value.shape).to(torch.get_default_dtype())
    except (AttributeError, NotImplementedError, RuntimeError):
        return torch.full(value.shape, torch.nan)


def divergence(q: Any, p: Any, value: Any) -> Any:
    """KL(q ‖ p) of each entry where both factorise, else of the whole; from the draw where no closed form is known."""
    shape = q.batch_shape + q.event_shape
    found = kl(bare(q), bare(p)) if bare(q).event_shape == bare(p).event_shape else None
    if found is None:
        return q.log_prob(value) - p.log_prob(value)
    return found.expand(shape[: len(shape) - len(bare(q).event_shape)])


def latents(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], seed: int, draws: int,
    given: Mapping[str, np.ndarray] | None = None, rows: int = 512,
) -> dict[str, Latent]:  # fmt: skip
    """q of every latent of every row, by site, averaged over `draws` of the latents before it; `given` fixes some."""
    out: dict[str, list[Latent]] = {}
    with quiet(params, seed):
        for first in range(0, len(args[0]), rows):
            part = slice(first, first + rows)
            known = {name: array(value[part]) for name, value in (given or {}).items()}
            fixed = poutine.condition(model, data=known), poutine.condition(guide, data=known)
            drawn: dict[str, list[Any]] = {}
            for _ in range(draws):
                for name, found in one(*fixed, tuple(array(a[part]) for a in args)).items():
                    drawn.setdefault(name, []).append(found)
            for name, runs in drawn.items():
                latent = Latent.of([torch.stack(parts) for parts in zip(*runs, strict=True)], xp)
                out.setdefault(name, []).append(Latent._make(to_numpy(part).astype(np.float64) for part in latent))
    return {name: Latent._make(map(np.concatenate, zip(*parts, strict=True))) for name, parts in out.items()}


def one(model: Any, guide: Any, args: tuple) -> dict[str, list[Any]]:
    """One draw of the guide's latents: KL, moments of q, value and moments of p of each, rows first."""
    guide_trace = poutine.trace(guide).get_trace(*args)
    model_trace, out = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args), {}
    for name, site in sites(guide_trace):
        if site["is_observed"] or name not in model_trace.nodes:
            continue
        q, p, value = site["fn"], dict(nodes(model_trace))[name]["fn"], site["value"]
        frames = [f for f in frames_of(site) if f.size == args[0].shape[0]]
        axis = len(q.batch_shape) + min(frames, key=lambda f: f.name != "data").dim if frames else 0
        parts = (divergence(q, p, value), moment(q, "mean", value), moment(q, "variance", value), value,
                 moment(p, "mean", value), moment(p, "variance", value))  # fmt: skip
        out[name] = [part.movedim(axis, 0) for part in parts]
    return out


def predict(
    model: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], latents: Mapping[str, Any], seed: int
) -> Prediction:
    """p(x | latents), those not given drawn from the prior: its mean, a draw, and all latents."""
    known = poutine.Trace()
    for name, value in values(latents).items():
        known.add_node(name, name=name, type="sample", is_observed=False, value=value, infer={})
    with quiet(params, seed):
        trace = poutine.trace(poutine.replay(model, trace=known)).get_trace(*map(array, args))
        drawn, site = {}, None
        for name, found in sites(trace):
            if not found["is_observed"]:
                drawn[name] = to_numpy(found["value"])
            elif name == "x" or "x" not in trace.nodes and tuple(found["value"].shape) == args[0].shape:
                site = found
        if site is None:
            return Prediction(None, None, drawn)
        mean = moment(site["fn"], "mean", torch.empty(site["fn"].shape()))
        return Prediction(to_numpy(mean), to_numpy(site["fn"].sample()), drawn)


def call(declaration: Any, method: str, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> np.ndarray:
    """A method of a declaration that draws nothing, at these parameters."""
    with quiet(params, 0):
        return to_numpy(Program(declaration, method, "pyro")(*map(array, args))).astype(np.float64)
