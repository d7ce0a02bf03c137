"""What Pyro supplies to `draws`: latents, densities and predictions of a model and guide, one draw after the other.

Draws are not batched: a user's own program need not broadcast, and would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask

from .._pyro import array, nodes
from ..estimators._pyro import frames_of, sites
from ..evaluate._pyro import quiet, to_numpy
from ..weights._pyro import Given, traced
from .layout import Site, Structure, arranged, by_row, data_plate, layout


def traces(model: Any, guide: Any, args: tuple, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model's trace and the guide's (empty without one); latents in `given` have those values."""
    if guide is not None:
        return traced(model, guide, args, given)
    with Given(given):
        return poutine.trace(model).get_trace(*args), poutine.Trace()


def shapes(site: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(site["fn"].batch_shape), tuple(site["fn"].event_shape)


def structure(model: Any, guide: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...]) -> Structure:
    """Sites, plates and shapes, from one run."""
    n = len(args[0])
    with quiet(params, 0):
        model_trace, guide_trace = traces(model, guide, tuple(map(array, args)), {})
        plate = data_plate((f for _, s in sites(model_trace) for f in frames_of(s)), n)
        found = []
        for name, site in sites(model_trace):
            if site["is_observed"] and 0 in site["value"].shape:
                continue  # a factor
            at = layout(name, *shapes(site), frames_of(site), plate, n, site["is_observed"])
            inside = plate in {f.name for f in frames_of(site)}
            found.append(Site(name, site["is_observed"], at, inside, drawable(site["fn"])))
    outside = [name for name, s in sites(guide_trace) if plate not in {f.name for f in frames_of(s)}]
    lacking = [name for name in outside if name not in model_trace.nodes]
    unknown = [s.name for s in found if not s.observed and s.name not in guide_trace.nodes]
    return Structure(n, plate, tuple(found), tuple(outside), tuple(lacking), tuple(unknown))


def drawable(fn: Any) -> bool:
    """Whether the distribution can be drawn from."""
    try:
        fn.sample()
    except (NotImplementedError, AttributeError):
        return False
    return True


def one(model: Any, guide: Any, args: tuple, given: Mapping[str, Any], found: Structure, keep: Mapping[str, Any]) -> Any:
    """One draw."""
    n, known = found.num_rows, {site.name: site for site in found.sites}
    sums = {"p": torch.zeros(()), "q": torch.zeros(()), "p_rows": torch.zeros(n), "q_rows": torch.zeros(n)}
    out: dict[str, Any] = {"latents": {}, "likelihood": {}, "predicted": {}}
    for which, trace in zip("pq", traces(model, guide, args, given), strict=True):
        for name, site in sites(trace):
            fn, log_p = site["fn"], scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
            at = layout(name, *shapes(site), frames_of(site), found.plate, n, site["is_observed"])
            if at.row_dim is None:
                sums[which] = sums[which] + (site["scale"] * log_p).sum()
            else:
                sums[f"{which}_rows"] = sums[f"{which}_rows"] + by_row(xp, site["scale"] * log_p, at)
            if which == "q" or name not in known:
                continue
            if not site["is_observed"]:
                out["latents"][name] = to_numpy(arranged(xp, site["value"], at, keep[name]))
                continue
            if at.row_dim is not None:
                out["likelihood"][name] = to_numpy(by_row(xp, log_p, at))
            if known[name].can_draw:
                out["predicted"][name] = to_numpy(arranged(xp, fn.sample(), at, keep[name]))
    return {**out, **{name: to_numpy(value) for name, value in sums.items()}}


def run(
    model: Any, guide: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...], given: Mapping[str, np.ndarray],
    found: Structure, keep: Mapping[str, tuple[Any, ...]], draws: int, seed: int, chunk: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Of each draw: latents, predictions, densities by row (all rows of `args`) and what is left of them."""
    with quiet(params, seed):
        wanted = {name: tuple(None if i is None else torch.as_tensor(i) for i in indices) for name, indices in keep.items()}
        rows, values = tuple(map(array, args)), {name: array(value) for name, value in given.items()}
        each = [one(model, guide, rows, {n: v[i] for n, v in values.items()}, found, wanted) for i in range(draws)]
    nested = {k: {name: np.stack([d[k][name] for d in each]) for name in v} for k, v in each[0].items() if isinstance(v, dict)}
    return {**nested, **{k: np.stack([d[k] for d in each]) for k, v in each[0].items() if not isinstance(v, dict)}}


def observations(
    model: Any, params: Mapping[str, np.ndarray], args: tuple[np.ndarray, ...], found: Structure
) -> dict[str, np.ndarray]:
    """What the model observes, by site, arranged."""
    with quiet(params, 0):
        trace = dict(nodes(poutine.trace(model).get_trace(*map(array, args))))
        at = {site.name: site.layout for site in found.observed}
        return {n: to_numpy(arranged(xp, trace[n]["value"], a, (None,) * len(a.dims))) for n, a in at.items()}
