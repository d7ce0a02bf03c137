"""Importance weights on Pyro: draws side by side by `torch.func.vmap` where the program lets it, else one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger

from .._pyro import array
from ..estimators._pyro import frames_of
from ..estimators._pyro import sites as sample_sites
from ..evaluate._pyro import quiet, unscored
from ..gradients._pyro import batched_draws
from . import INNER, OWN, PAIRS, Parts, Sites, Weights

SLOW = 4000  # draws at most, where they are taken one by one


class Given(Messenger):
    """Gives latents the values that are known, and leaves them latent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def traced(model: Any, guide: Any, args: tuple, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Traces of model and guide, the latents in `given` as they are."""
    with Given(given):
        guide_trace = poutine.trace(unscored(guide)).get_trace(*args)
    return poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args), guide_trace


def plate_of(trace: Any, rows: int) -> str | None:
    """The plate over the rows: of those around observed sites and as large, "data" or the first; None without one."""
    frames = [f.name for _, s in sample_sites(trace) if s["is_observed"] for f in frames_of(s) if f.size == rows]
    return min(frames, key=lambda name: name != "data") if frames else None


def dim_of(site: Any, plate: str | None) -> int | None:
    """Where that plate is among the site's batch dims, counted from the right; None if the site lies outside it."""
    return next((f.dim for f in frames_of(site) if f.name == plate), None)


def sites(model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> Sites:
    """Which latents lie where."""
    with quiet(params, 0):
        model_trace, guide_trace = traced(model, guide, tuple(map(array, args)), {})
    plate = plate_of(model_trace, len(args[0]))
    inside = {name: dim_of(site, plate) is not None for name, site in sample_sites(guide_trace) if not site["is_observed"]}
    missing = [n for n, site in sample_sites(model_trace) if not site["is_observed"] and n not in guide_trace.nodes]
    shared, own = (tuple(name for name, within in inside.items() if within is side) for side in (False, True))
    return Sites(shared, own, plate, tuple(missing))


def parts(model: Any, guide: Any, args: tuple, given: Mapping[str, Any]) -> Parts:
    """One draw of all latents but those given."""
    traces = traced(model, guide, args, given)
    plate = plate_of(traces[0], args[0].shape[0])
    outside, rows = [torch.zeros(()), torch.zeros(())], torch.zeros(args[0].shape[0])
    for side, trace in enumerate(traces):
        for _, site in sample_sites(trace):
            log_prob, dim = scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"]), dim_of(site, plate)
            if dim is None:
                outside[side] = outside[side] + log_prob.sum()
                continue
            others = tuple(d for d in range(log_prob.ndim) if d != log_prob.ndim + dim)
            cost = log_prob.sum(others) if others else log_prob
            rows = rows + (cost if side == 0 else -cost)
    shared = {n: s["value"] for n, s in sample_sites(traces[1]) if not s["is_observed"] and dim_of(s, plate) is None}
    return Parts(shared, outside[0], outside[1], rows)


@contextmanager
def drawn_side_by_side() -> Iterator[None]:
    """Let Dirichlets be batched too, whose own autograd function `vmap` refuses; no gradient is asked for here."""
    from torch.distributions import dirichlet

    before = dirichlet._Dirichlet
    dirichlet._Dirichlet = SimpleNamespace(apply=torch._sample_dirichlet)  # type: ignore[attr-defined]
    try:
        with batched_draws(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # of clamping a Gamma's draws
            yield
    finally:
        dirichlet._Dirichlet = before


def repeated(one: Callable[[], Any], count: int, size: int, slow: int) -> dict[str, np.ndarray]:
    """Results of `one`, stacked: `count` of them in blocks, or `slow` one by one where they cannot be batched."""
    blocks = []
    try:
        with drawn_side_by_side():
            for first in range(0, count, size):
                some = torch.zeros(min(size, count - first))
                blocks.append(torch.func.vmap(lambda _: one(), randomness="different")(some))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        singles = [one() for _ in range(min(count, slow))]
        blocks = [{name: torch.stack([single[name] for single in singles]) for name in singles[0]}]
    return {name: np.concatenate([block[name].cpu().numpy() for block in blocks]) for name in blocks[0]}


def weigh(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], found: Sites, draws: int,
    kept: np.ndarray, seed: int,
) -> Weights:  # fmt: skip
    """Draws of the global latents and their weights, a block of draws at a time."""
    inner, rows, some = INNER if found.own else 1, tuple(map(array, args)), array(kept if found.plate else kept[:0])

    def one() -> dict[str, Any]:
        first = parts(model, guide, rows, {})
        own, noise = first.rows, torch.zeros(())
        if inner > 1:
            again = torch.stack([parts(model, guide, rows, first.shared).rows for _ in range(inner)])
            own = torch.logsumexp(again, 0) - np.log(inner)
            noise = ((again - own).exp().var(0, unbiased=False) / (inner - 1)).sum()
        told = {"p": first.log_p + own.sum(), "q": first.log_q, "rows": own[some], "noise": noise}
        return {**{f"site {name}": value for name, value in first.shared.items()}, **told}

    with quiet(params, seed):
        out = repeated(one, draws, max(1, PAIRS // (inner * len(args[0]))), SLOW)
    shared = {name.removeprefix("site "): value for name, value in out.items() if name.startswith("site ")}
    log_p, log_q, log_likelihood = (out[name].astype(np.float64) for name in ("p", "q", "rows"))
    return Weights(shared, log_p, log_q, log_likelihood, float(np.sqrt(out["noise"].mean())))


def row_weights(
    model: Any, guide: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...], draws: int, seed: int
) -> np.ndarray:
    """log weights of draws of each row's own latents, (rows, draws)."""
    rows = tuple(map(array, args))
    with quiet(params, seed):
        shared = parts(model, guide, rows, {}).shared
        found = repeated(lambda: {"rows": parts(model, guide, rows, shared).rows}, draws, max(1, OWN // len(args[0])), draws)
    return found["rows"].astype(np.float64).T
