"""log p(x) of layered energies, exactly: the hidden layers of one colour enumerated, the others summed in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.energy import free_energy, summands
from ppl_models.language import check_engine

from .exact import CHUNK, bits, by_name, exact
from .mixture import log_mixture

LARGEST = 26  # units enumerated: one number is kept for each of their states
AT_ONCE = 2**23  # numbers, of rows times states times units


class Summed(NamedTuple):
    """−F(x) of each row, nats, (rows,), and log Z where it came of the same pass, else None."""

    rows: np.ndarray
    log_partition: float | None


def log_likelihood(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, engine: str = "numpyro", dtype: str = "float64"
) -> np.ndarray:
    """log p(x) = −F(x) − log Z of each row, nats, (rows,), by enumeration alone; see `summed`.

    Raises:
        InputError: More than 26 hidden units, or for log Z 30 units, would have to be enumerated.
    """
    rows, log_z = summed(model, params, x, engine=engine, dtype=dtype)
    return rows - (exact(model, params, engine, dtype) if log_z is None else log_z)


def summed(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, engine: str = "numpyro", dtype: str = "float64"
) -> Summed:
    """−F(x) = log Σ_h exp(−E(x, h)) over the layers of a model with two `colours`, that of x last.

    Either the layers of the colour without x are enumerated, states s. Then exp(−F(x)) = exp(x·b) Σ_s exp(a·s + t(s)) with
    a = xᵀ W, W and b those of the log odds of x, and t(s) what is left: log of the sum over the other layers at x = 0, computed
    once for all rows. The same pass gives log Z = log Σ_s exp(t(s) + Σᵢ softplus(b + W s)ᵢ). Or the hidden layers of the
    colour of x are enumerated, and given them and x the other colour is summed in closed form, row by row. Whichever is less
    work is done. Memory: one number a state, and at once 2²³ more.

    Raises:
        InputError: More than 26 units would have to be enumerated.
    """
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    x, names = np.asarray(x, float), cheaper(model, len(x))
    if (units := sum(model.sites[name] for name in names)) > LARGEST:
        raise InputError(f"expected at most {LARGEST} hidden units to enumerate, got {units} ({', '.join(names)}); "
                         "use the mean-field bound, or narrower layers.")  # fmt: skip
    with shared.session(dtype):
        given = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        if names == model.colours[0]:
            return from_states(model, names, given, x, words, shared)
        return Summed(row_by_row(model, names, given, x, words, shared), None)


def cheaper(model: Any, rows: int) -> tuple[str, ...]:
    """The hidden layers to enumerate: those of the colour without x, or with it, whichever takes fewer sums of softplus."""
    first, second = model.colours[0], tuple(name for name in model.colours[1] if name != "x")
    width = [sum(model.sites[name] for name in colour) for colour in model.colours]
    by_rows = rows * 2 ** sum(model.sites[name] for name in second) * width[0]
    return first if 2 ** width[0] * (width[1] + rows // 64) < by_rows else second


def from_states(model: Any, names: tuple[str, ...], params: Any, x: np.ndarray, words: Any, shared: Any) -> Summed:
    """By the states of the layers named, those of the colour without x, once for all rows."""
    units = sum(model.sites[name] for name in names)
    run, step = words.program(at_states, model), chunk(sum(model.sites.values()))
    rest, whole = np.empty(2**units), -np.inf
    for first in range(0, 2**units, step):
        last = min(first + step, 2**units)
        values = by_name(model, names, bits(first, last, units))
        t, log_z = (np.asarray(v, np.float64) for v in run(params, {name: shared.array(v) for name, v in values.items()}))
        rest[first:last], whole = t, np.logaddexp(whole, np.logaddexp.reduce(log_z))
    corners = by_name(model, names, np.concatenate([np.zeros((1, units)), np.eye(units)]))
    logits = words.program(of_x, model)(params, {name: shared.array(v) for name, v in corners.items()})
    logits = np.asarray(logits, np.float64)
    return Summed(x @ logits[0] + log_mixture(x @ (logits[1:] - logits[0]).T, rest), float(whole))


def chunk(width: int) -> int:
    """States at once: a power of two."""
    return min(CHUNK, 2 ** int(np.log2(max(2, AT_ONCE / width))))


def at_states(ppl: Any, model: Any, params: Any, values: Any) -> tuple[Any, Any]:
    """Of states of one colour: log of the sum over the other colour at x = 0, and over x as well."""
    energy, logits = summands(ppl, model, params, values)
    others = sum(ppl.softplus(part).sum(-1) for name, part in logits.items() if name != "x")
    return others - energy, others - energy + ppl.softplus(logits["x"]).sum(-1)


def of_x(ppl: Any, model: Any, params: Any, values: Any) -> Any:
    """log odds of x given states of the other colour."""
    return summands(ppl, model, params, values)[1]["x"]


def row_by_row(model: Any, names: tuple[str, ...], params: Any, x: np.ndarray, words: Any, shared: Any) -> np.ndarray:
    """By the states of the layers named, those of the colour of x, for each row; with none, the closed form."""
    units, run, out = sum(model.sites[name] for name in names), words.program(given_rows, model), []
    width = sum(model.sites.values())
    states = min(2**units, chunk(width))
    some = max(1, AT_ONCE // (states * width))
    for i in range(0, len(x), some):
        rows, total = shared.array(x[i : i + some, None]), -np.inf
        for first in range(0, 2**units, states):
            values = by_name(model, names, bits(first, min(first + states, 2**units), units))
            part = run(params, {"x": rows, **{name: shared.array(v[None]) for name, v in values.items()}})
            total = np.logaddexp(total, np.asarray(part, np.float64))
        out.append(total)
    return np.concatenate(out)


def given_rows(ppl: Any, model: Any, params: Any, values: Any) -> Any:
    """log Σ exp(−E) over the states, rows by states, and what is left of the layers."""
    return ppl.logsumexp(-free_energy(ppl, model, params, values))
