"""The gradient that estimators are held to: by enumeration or in closed form where it can be had, else a long run's mean."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import Bound, InputError

from .estimators import Enumerate, Pathwise
from .metrics import PROJECTIONS, Moments, Reference, directions

LONG_RUN = 8  # times as many replicates as an estimator gets


def reference(
    engine: str, model: Any, bound: Bound, rows: tuple[np.ndarray, ...], params: Mapping[str, np.ndarray], num_data: int,
    prepared: Mapping[str, Any], objective: Mapping[str, Any], replicates: int, seed: int,
) -> Reference:  # fmt: skip
    """The exact gradient by enumeration or in closed form if there is one, else the mean of a long run."""
    probes = import_module(f"inference.gradients._{engine}")
    exact = prepared.get("enumerate")
    if exact is None:
        try:
            exact = probes.Gradients(*bound, rows, {}, Enumerate(), params, num_data, **objective)
        except InputError:
            exact = None
    if exact is not None:
        return Reference("enumerated", np.asarray(exact.many(params, exact.control(params, seed), 2, seed)[0], np.float64))
    spec = None
    for spec in ({"*": Pathwise(analytic_kl=True)}, None):
        try:
            gradients = probes.Gradients(*bound, rows, {}, spec, params, num_data, **objective)
            break
        except InputError:
            continue
    else:
        raise InputError("no unbiased estimator applies to this model, so there is nothing to hold the others to.")
    if _tight(engine, model, params, rows, bound):
        value = probes.evidence_gradient(model, params, gradients.shape, gradients.blocks, rows)
        return Reference("closed-form", value)
    moments = Moments(directions(np.zeros(gradients.blocks.size), gradients.blocks))
    for start, count in chunks(gradients, replicates * LONG_RUN):
        moments.add(gradients.many(params, {}, count, seed + 7_000_003 + start))
    gradient = moments.mean
    # The blocks' directions follow from the gradient itself, so their own error is bounded by that of the whole.
    trace = float(np.mean(moments.traces)) / moments.count
    along = np.concatenate([moments.errors[:PROJECTIONS], np.full(len(gradients.blocks.slices), np.sqrt(trace))])
    return Reference("long-run", gradient, trace, along)


def _tight(engine: str, model: Any, params: Mapping[str, np.ndarray], rows: tuple[np.ndarray, ...], bound: Bound) -> bool:
    """Whether the bound equals a closed-form log p(x): the guide is then the exact posterior and stays it."""
    exact = import_module(f"inference._{engine}").log_evidence(model, params, rows)
    if exact is None:
        return False
    return bool(np.abs(import_module(f"inference.svi._{engine}").heldout(params, *bound, rows, 0) - exact).max() < 1e-2)


def chunks(gradients: Any, replicates: int) -> list[tuple[int, int]]:
    """Starts and sizes: at least ten chunks (their spread gives the interval), none holding over 32 MB of gradients."""
    fits = int(8e6 / max(gradients.blocks.size, 1))
    size = max(2, min(replicates // 10, fits, max(2, 65536 // gradients.evaluations)))
    return [(start, size) for start in range(0, max(replicates - size + 1, 1), size)]
