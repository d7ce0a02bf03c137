"""Training and importance sampling in stages of a minute or two, for benchmarks that resume (see `checkpoint`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.checkpoint import Stages
from inference.evaluate import Rows, log_likelihood_rows
from inference.svi import Fit, fit
from ppl_models.datasets import Dataset

PIECE = 1000  # held-out rows of a stage


class Leg(NamedTuple):
    """So many epochs at one step size and one weight of −KL(q ‖ p); Adam's moments begin afresh with every leg.

    Parameters whose names match `freeze` stay as they are.
    """

    epochs: int
    lr: float
    beta: float = 1.0
    freeze: tuple[str, ...] = ()


def trained(
    stages: Stages, name: str, model: Any, data: Dataset, legs: tuple[Leg, ...], seed: int,
    init: dict[str, np.ndarray] | None = None, **settings: Any,
) -> Fit:  # fmt: skip
    """`fit(model, data, …)`, a stage a leg, each from the parameters of the one before, or `init`; errors as of `fit`."""
    params = init
    for number, leg in enumerate(legs):

        def work(params: Any = params, number: int = number, leg: Leg = leg) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            found = fit(model, data, init=params, seed=seed + 1000 * number, **leg._asdict(), **settings)
            row = found.history[-1]
            return found.params, {"heldout_elbo": row["heldout_elbo"].value, "seconds_per_step": found.seconds_per_step}

        params = stages(f"{name}-leg-{number}", work).arrays
    return at(model, data, params)


def at(model: Any, data: Dataset, params: Any) -> Fit:
    """The model with these parameters, ready to be judged."""
    return fit(model, data, init=params, epochs=0)


def likelihood(stages: Stages, name: str, found: Fit, rows: int, num_samples: int) -> Rows:
    """log p̂(x) of the first `rows` held-out rows by `num_samples` importance samples, a stage a thousand; nats, (rows,)."""
    pieces = []
    for first in range(0, rows, PIECE):
        part = replace(found.data, heldout=found.data.heldout[first : min(first + PIECE, rows)], heldout_y=None)

        def work(part: Dataset = part, first: int = first) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            judged = log_likelihood_rows(replace(found, data=part), num_samples=num_samples, seed=first)
            return judged._asdict(), {"rows": len(part.heldout)}

        pieces.append(stages(f"{name}-rows-{first}", work).arrays)
    return Rows(*(np.concatenate([piece[field] for piece in pieces]) for field in Rows._fields))


def sampling_error(rows: Rows) -> float:
    """Standard error of the mean log p̂ from importance sampling alone, the rows fixed; nats per datum."""
    return float(np.sqrt((rows.standard_error**2).sum()) / len(rows.standard_error))
