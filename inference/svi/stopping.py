"""When training ends before its epochs are used up: convergence of the iterates, patience, or a budget.

Converged: split R-hat (Gelman et al. 2013, section 11.4) of the last half of the iterates, one an epoch, is at most the
threshold in all but a twentieth of the parameters followed, and the training ELBO no longer rises; from then on the iterates
of `AVERAGED` more epochs are averaged, and their mean is the result (Dhaka et al. 2020, algorithm 1). The ELBO alone is a
guard only: it flattens long before the parameters come to rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError

LEAST = 20  # epochs before convergence is looked at
AVERAGED = 10  # epochs
LONGEST = 400  # iterates kept
FOLLOWED = 1000  # coordinates, drawn once
SHARE = 0.05  # of these may stand above the threshold
RISE = 1.645  # standard errors by which a slope is taken to rise
RHAT = 1.1  # Dhaka et al. 2020, section 3.1

Params = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Stop:
    """What may end training early.

    Attributes:
        rhat: Threshold of convergence, say `RHAT`; None does not look at it.
        patience: Epochs without a better held-out ELBO.
        seconds: Of training, without compilation; the epoch that is under way is finished.
        steps: In all; the epoch that is under way is finished.

    Raises:
        InputError: One of them is not a positive number, or `rhat` is not above 1.
    """

    rhat: float | None = None
    patience: int | None = None
    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and np.isfinite(value)
            whole = name not in ("patience", "steps") or isinstance(value, (int, np.integer))
            if value is not None and not (number and whole and value > (1 if name == "rhat" else 0)):
                what = {"rhat": "a number above 1", "seconds": "a positive number"}.get(name, "a whole number of at least 1")
                raise InputError(f"expected {name} to be {what}, got {value!r}; change that setting, or leave it out.")


class Tail(NamedTuple):
    """The late iterates of a training, one an epoch."""

    places: np.ndarray  # the coordinates followed, among all the parameters' end to end
    iterates: np.ndarray  # (epochs, restarts, coordinates)
    total: tuple[Params, ...] | None = None  # of each restart, the sum of the iterates that are averaged
    count: int = 0  # how many those are


def begun(params: Sequence[Params]) -> Tail:
    """Before any epoch, of a training of these parameters."""
    size = sum(np.size(value) for value in params[0].values())
    places = np.sort(np.random.default_rng(0).choice(size, min(FOLLOWED, size), replace=False)) if size else np.zeros(0, int)
    return Tail(places, np.zeros((0, len(params), len(places))))


def seen(tail: Tail, params: Sequence[Params]) -> Tail:
    """After one more epoch, which ended at these parameters."""
    ends = [np.concatenate([np.zeros(0), *(np.ravel(value) for value in one.values())])[tail.places] for one in params]
    tail = tail._replace(iterates=np.concatenate([tail.iterates, np.array(ends)[None]])[-LONGEST:])
    if tail.total is None:
        return tail
    pairs = zip(tail.total, params, strict=True)
    return tail._replace(total=tuple({n: s[n] + one[n] for n in one} for s, one in pairs), count=tail.count + 1)


def averaging(tail: Tail, params: Sequence[Params]) -> Tail:
    """From now on iterates are summed up."""
    return tail._replace(total=tuple({n: np.zeros(np.shape(v)) for n, v in one.items()} for one in params), count=0)


def average(tail: Tail, params: Sequence[Params]) -> list[dict[str, np.ndarray]] | None:
    """The mean of the iterates that were averaged, typed as `params`; None where there are none."""
    if tail.total is None or not tail.count:
        return None
    pairs = zip(tail.total, params, strict=True)
    return [{n: (s[n] / tail.count).astype(np.asarray(one[n]).dtype) for n in one} for s, one in pairs]


def split_rhat(iterates: np.ndarray) -> np.ndarray:
    """√(((n − 1) W / n + B / n) / W) of the two halves of each column, (iterates, columns); 1 where nothing moves."""
    half = len(iterates) // 2
    halves = np.stack([iterates[:half], iterates[-half:]])
    within, between = halves.var(1, ddof=1).mean(0), halves.mean(1).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.sqrt((half - 1) / half + between / within)
    return np.where((within == 0) & (between == 0), 1.0, out)


def window(iterates: np.ndarray) -> np.ndarray:
    """The last half of the iterates."""
    return iterates[-max(len(iterates) // 2, 2) :]


def rises(elbos: Sequence[float]) -> bool:
    """Whether the ELBO still rises: the slope of its last half stands more than `RISE` standard errors above 0."""
    y = np.array(elbos[-max(len(elbos) // 2, 4) :])
    x = np.arange(len(y)) - (len(y) - 1) / 2
    slope = (x * y).sum() / (x**2).sum()
    left = y - y.mean() - slope * x
    error = np.sqrt((left**2).sum() / (len(y) - 2) / (x**2).sum())
    return bool(slope > RISE * error)


def converged(rhat: float, tail: Tail, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every restart's iterates have come to rest, and the training ELBO with them."""
    elbos = [row["train_elbo"].value for row in history if row["train_elbo"] is not None]
    if len(tail.iterates) < LEAST or len(elbos) < LEAST:
        return False
    late = window(tail.iterates)
    worst = max((np.quantile(split_rhat(late[:, i]), 1 - SHARE) for i in range(late.shape[1]) if late.shape[2]), default=1.0)
    return bool(worst <= rhat) and not rises(elbos)


def stopped(stop: Stop, history: Sequence[Mapping[str, Any]], tail: Tail) -> str | None:
    """The rule that ends training after the last row of the history: "r-hat", "patience", "seconds" or "steps"; or None."""
    row = history[-1]
    if stop.rhat is not None and tail.total is not None and tail.count >= AVERAGED:
        return "r-hat"
    if stop.patience is not None and row["epoch"] - best_epoch(history) >= stop.patience:
        return "patience"
    if stop.seconds is not None and row["seconds"] >= stop.seconds:
        return "seconds"
    if stop.steps is not None and row["step"] >= stop.steps:
        return "steps"
    return None


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The first epoch with the best held-out ELBO."""
    scores = [row["heldout_elbo"].value if row["heldout_elbo"] else -np.inf for row in history]
    return int(history[int(np.argmax(np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)))]["epoch"])
