"""The log-partition function by enumeration of what cannot be summed in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.energy import free_energy, is_gaussian
from ppl_models.language import check_engine

LARGEST = 30  # units enumerated: 2^30 states take minutes
CHUNK = 2**14  # states at once


def exact(model: Any, params: Mapping[str, Any], engine: str = "numpyro", dtype: str = "float64") -> float:
    """log Z = log Σ exp(−E), nats.

    Of a layered model the sites of one colour are summed in closed form and all states of the other, the smaller one, are
    enumerated; of a graph without layers, all units are. Of a directed net log Z is that of its undirected top.

    Raises:
        InputError: More than 30 units would have to be enumerated.
    """
    if hasattr(model, "top"):
        model, params = model.top, model.top_parameters(params)
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    kept = enumerated(model)
    units = sum(model.sites[name] for name in kept)
    if units > LARGEST:
        raise InputError(f"expected at most {LARGEST} units to enumerate, got {units} ({', '.join(kept)}); use `annealed`.")
    with shared.session(dtype):
        given = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        total = -np.inf
        for first in range(0, 2**units, CHUNK):
            values = by_name(model, kept, bits(first, min(first + CHUNK, 2**units), units))
            part = -free(words, model, given, {name: shared.array(v) for name, v in values.items()})
            total = np.logaddexp(total, float(words.logsumexp(part)))
    return float(total)


def enumerated(model: Any) -> tuple[str, ...]:
    """The sites whose states are enumerated: the colour of fewer units, or all sites of a graph."""
    if is_gaussian(model):
        raise InputError("expected binary units, got Gaussian visible ones; use `annealed`.")
    if not hasattr(model, "colours"):
        return tuple(model.sites)
    return min(model.colours, key=lambda colour: sum(model.sites[name] for name in colour))


def free(ppl: Any, model: Any, params: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """−log Σ exp(−E) over the sites not given."""
    return model.energy(ppl, params, values) if len(values) == len(model.sites) else free_energy(ppl, model, params, values)


def bits(first: int, last: int, units: int) -> np.ndarray:
    """The binary digits of first … last − 1, the highest first, (last − first, units)."""
    return (np.arange(first, last)[:, None] >> np.arange(units)[::-1] & 1).astype(np.float64)


def by_name(model: Any, names: tuple[str, ...], units: np.ndarray) -> dict[str, np.ndarray]:
    """Columns by site, in the order of the names."""
    ends = np.cumsum([0, *(model.sites[name] for name in names)])
    return {name: units[:, ends[i] : ends[i + 1]] for i, name in enumerate(names)}
