"""Importance weights of a guide's draws against the posterior of its model: of global latents, and of each row's own.

    log w(θ) = log p(θ) + Σₙ log p̂(xₙ | θ) − log q(θ),  log w(zₙ) = log p(xₙ, zₙ | θ) − log q(zₙ | xₙ)

θ are the latents outside the plate over the rows, zₙ those inside it. Where there are both, p̂(xₙ | θ) averages p / q over
draws of zₙ at the same θ; its noise is told. All rows count, and memory does not grow with the number of draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.binarisation import SEED

from ..callables import as_bound, can_subsample, inputs_of
from ..svi import Fit

PAIRS = 2_000_000  # (draw, row) pairs in memory at a time
OWN = 10_000  # and where rows have latents of their own, which nets may decode
INNER = 16  # draws of the local latents at each draw of the global ones


class Sites(NamedTuple):
    """What of a pair is latent, by where it lies: `shared` outside the plate over the rows, `own` inside it."""

    shared: tuple[str, ...]
    own: tuple[str, ...]
    plate: str | None  # that plate's name; None if none holds the rows
    missing: tuple[str, ...] = ()  # of the model, which the guide does not draw


class Parts(NamedTuple):
    """One draw of everything: log p − log q of the sites of each kind, nats."""

    shared: dict[str, Any]  # values of the global latents
    log_p: Any  # of all sites outside the plate
    log_q: Any  # of the global latents
    rows: Any  # log p − log q of all sites of each row, (N,)


@dataclass(frozen=True)
class Weights:
    """Draws of the global latents with their weights.

    Attributes:
        draws: By site, (draws, *shape), constrained.
        log_p: log p(x, θ) of all training rows, nats, (draws,).
        log_q: log q(θ), nats, (draws,).
        log_likelihood: log p(xₙ | θ) of some rows, nats, (draws, rows); no rows without a plate over them.
        noise: sd of log w(θ) that comes of the draws of local latents, nats; 0 without any.
    """

    draws: dict[str, np.ndarray]
    log_p: np.ndarray
    log_q: np.ndarray
    log_likelihood: np.ndarray
    noise: float

    @property
    def log_weights(self) -> np.ndarray:
        """log p(x, θ) − log q(θ), nats, (draws,)."""
        return self.log_p - self.log_q


def simplest(fit: Fit) -> Any:
    """The fit's model with its discrete latents summed out, where it offers that (`marginal`) and has global latents."""
    if getattr(fit.model, "bayesian", False) and getattr(fit.model, "marginal", None) is False:
        from dataclasses import replace

        return replace(fit.model, marginal=True)
    return fit.model


def sites(fit: Fit, dtype: str = "float32", device: str | None = None) -> Sites:
    """Global and local latents of the fit's guide, its model as `simplest` has it.

    Raises:
        InputError: A latent of the model has no site in the guide, so that there is no q of it.
    """
    shared, engine = (import_module(f"{package}._{fit.engine}") for package in ("inference", "inference.weights"))
    args = rows_of(fit)
    with shared.session(dtype, device):
        found = engine.sites(*as_bound(simplest(fit), fit.engine, len(args[0])), fit.params, args)
    if found.missing:
        raise InputError(f"latent '{found.missing[0]}' of the model has no site in the guide, so that draws have no weights; "
                         f"draw '{found.missing[0]}' there, for example from its exact posterior.")  # fmt: skip
    return found


def weigh(
    fit: Fit, *, draws: int, rows: int = 200, params: Mapping[str, np.ndarray] | None = None, seed: int = 0,
    dtype: str = "float64", device: str | None = None,
) -> Weights:  # fmt: skip
    """Weights of draws of the global latents, given all training rows.

    Args:
        fit: A fit whose guide draws a latent outside the plate over the rows.
        draws: How many.
        rows: Of how many rows, evenly spaced, log p(xₙ | θ) is kept.
        params: Of another restart; the fit's own if left out.
        seed: Of the draws.
        dtype: "float32" or "float64": sums over many rows need the second.
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: The guide draws no such latent.
    """
    shared, engine = (import_module(f"{package}._{fit.engine}") for package in ("inference", "inference.weights"))
    args = rows_of(fit)
    kept = np.unique(np.linspace(0, len(args[0]) - 1, min(rows, len(args[0]))).astype(int))
    with shared.session(dtype, device):
        pair = as_bound(simplest(fit), fit.engine, len(args[0]))
        found = engine.sites(*pair, fit.params, args)
        if not found.shared:
            raise InputError("expected a guide that draws a latent outside the plate over the data, got only latents of the "
                             "rows themselves; look at k-hat of each row.")  # fmt: skip
        return engine.weigh(*pair, fit.params if params is None else params, args, found, draws, kept, seed)


def row_weights(
    fit: Fit, *, draws: int = 1000, rows: int = 200, seed: int = 0, dtype: str = "float32", device: str | None = None
) -> np.ndarray:
    """log p(xₙ, zₙ) − log q(zₙ | xₙ) of draws of each row's own latents, nats, (rows, draws); θ, if any, is drawn once.

    Args:
        fit: A fit with latents inside the plate over the rows.
        draws: Of each row.
        rows: How many training rows, evenly spaced.
        seed: Of the draws.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
    """
    shared, engine = (import_module(f"{package}._{fit.engine}") for package in ("inference", "inference.weights"))
    args = rows_of(fit)
    total = len(args[0])
    kept = np.unique(np.linspace(0, total - 1, min(rows, total)).astype(int))
    with shared.session(dtype, device):
        if can_subsample(fit.model):
            args, kept = tuple(part[kept] for part in args), np.arange(len(kept))
        pair = as_bound(fit.model, fit.engine, len(args[0]))
        return engine.row_weights(*pair, fit.params, args, draws, seed)[kept]


def rows_of(fit: Fit) -> tuple[np.ndarray, ...]:
    """All training rows, as the model takes them: one fixed draw of those that each step of training draws anew."""
    x, *others = fit.data.inputs(inputs_of(fit.model), heldout=False)
    if fit.data.binarisation == "dynamic":
        x = (np.random.default_rng(SEED).random(x.shape, np.float32) < x).astype(x.dtype)
    return x, *others
