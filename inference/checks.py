"""Settings checked by name before anything is imported, read or compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppl_models import InputError

from .estimators import BOUNDS, STOCK, Spec, named


def check_estimator(estimator: Spec) -> None:
    """Raise `InputError` if an estimator's name is unknown."""
    for spec in estimator.values() if isinstance(estimator, Mapping) else (estimator,):
        if isinstance(spec, str) and spec != "auto" and (spec not in STOCK or isinstance(estimator, Mapping)):
            named(spec)


def check_weight(estimator: Spec, bound: str, beta: float, anneal: int) -> None:
    """Raise `InputError` if a weight of the KL does not go with the bound or the estimator."""
    if beta == 1 and anneal == 0:
        return
    if bound == "iwae":
        raise InputError("beta and anneal weigh the KL of the ELBO, and the K-sample bound has none apart; use bound elbo.")
    if isinstance(estimator, str) and estimator in STOCK:
        raise InputError(f"'{estimator}' is the library's own ELBO as it is; leave out beta and anneal, or the estimator.")


def check_settings(**settings: Any) -> None:
    """Raise `InputError` naming the first setting that cannot be used."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "epochs": (lambda v: _whole(v) and v >= 0, "a whole number of at least 0"),
        "batch": (lambda v: v is None or _whole(v) and v >= 1, "a whole number of at least 1"),
        "lr": (lambda v: _number(v) and 0 < v < math.inf, "a positive number"),
        "seed": (lambda v: _whole(v) and 0 <= v < 2**31, "a whole number from 0 to 2147483647"),
        "restarts": (lambda v: _whole(v) and v >= 1, "a whole number of at least 1"),
        "replicates": (lambda v: _whole(v) and v >= 2, "a whole number of at least 2"),
        "budget": (lambda v: v is None or _number(v) and 0 < v < math.inf, "a positive number of seconds"),
        "seeds": (lambda v: _whole(v) and v >= 0, "a whole number of at least 0"),
        "dtype": (lambda v: v in ("float32", "float64"), "float32 or float64"),
        "bound": (lambda v: v in BOUNDS, " or ".join(BOUNDS)),
        "num_particles": (lambda v: _whole(v) and v >= 1, "a whole number of at least 1"),
        "beta": (lambda v: _number(v) and 0 <= v < math.inf, "a number of at least 0"),
        "anneal": (lambda v: _whole(v) and v >= 0, "a whole number of epochs"),
        "patience": (lambda v: v is None or _whole(v) and v >= 1, "a whole number of at least 1"),
    }
    for name, value in settings.items():
        fine, expected = rules[name]
        if not fine(value):
            raise InputError(f"expected {name} to be {expected}, got {value!r}; change that setting.")


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def check_init(init: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `InputError` unless `init` has exactly the model's parameters, shaped as they are."""
    for name in [*shapes, *init]:
        if name not in init or name not in shapes:
            expected, got = ("a value", "none") if name in shapes else ("no such parameter", "a value")
            raise InputError(f"init: expected {expected} for '{name}', got {got}; give the params of a fit of the same "
                             "declaration.")  # fmt: skip
        if np.shape(init[name]) != tuple(shapes[name]):
            raise InputError(f"init: expected shape {tuple(shapes[name])} for '{name}', got {np.shape(init[name])}; give the "
                             "params of a fit of the same declaration.")  # fmt: skip
