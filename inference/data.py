"""Data meets model: what a declaration needs of its data is checked once, before anything is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_models import Bound, InputError
from ppl_models.datasets import Dataset, from_arrays
from ppl_models.likelihoods import Normal

from .callables import inputs_of
from .estimate import Estimate, mean


def prepare(data: Any, model: Any) -> Dataset:
    """`data` as a `Dataset` that fits `model`.

    Raises:
        InputError: The data are not numbers, have the wrong number of columns, leave the likelihood's support, or are
            sequences or have missing entries (NaN) that the model does not take.
    """
    missing = getattr(model, "missing", False)
    data = data if isinstance(data, Dataset) else from_arrays(data, missing=missing)
    columns = getattr(model, "data_dim", None)
    if not isinstance(model, Bound) and columns is not None and columns != data.x.shape[-1]:
        raise InputError(f"the model expects data_dim={columns} columns, but {data.name} has {data.x.shape[-1]}; "
                         f"set data_dim={data.x.shape[-1]}.")  # fmt: skip
    if data.lengths is not None and not isinstance(model, tuple) and "lengths" not in inputs_of(model):
        raise InputError(f"the model takes plain rows, but those of {data.name} are sequences; use a model of sequences, or "
                         "other data.")  # fmt: skip
    check_classes(data, model)
    likelihood = likelihood_of(model)
    for part, x in enumerate((data.x, data.heldout)):
        absent = np.isnan(x)
        if absent.any() and not (missing or isinstance(model, tuple)):
            raise InputError(
                f"the model takes no missing entries, but {_place(data, part, absent)} is missing; set missing=true if the "
                "model has that setting, or fill the entry or drop the row."
            )
        if likelihood is not None:
            outside, support = likelihood.violation(x)
            outside = outside & ~absent
            if outside.any():
                raise InputError(
                    f"a {type(likelihood).__name__} likelihood needs values in {support}, but {_place(data, part, outside)} "
                    f"is {x[outside][0]!s}; rescale the data or choose another likelihood."
                )
    return data


def check_classes(data: Dataset, model: Any) -> None:
    """Raise `InputError` if a label lies beyond the model's classes."""
    classes, taken = getattr(model, "num_classes", None), set(inputs_of(model)) & {"y", "labels"}
    if classes is None or not taken or data.y is None or data.num_classes <= classes:
        return
    raise InputError(f"the model expects labels 0 to {classes - 1}, but {data.name} has one of {data.num_classes - 1}; set "
                     f"num_classes={data.num_classes}.")  # fmt: skip


def _place(data: Dataset, part: int, spots: np.ndarray) -> str:
    """Where the first of the `spots` in the training (0) or held-out (1) rows is, as the data's source counts."""
    row, *step, column = (int(i) for i in np.argwhere(spots)[0])
    where = f"{('training', 'held-out')[part]} row {row}" if data.places is None else f"row {data.places[part][row]}"
    return f"{where}, {f'step {step[0]}, ' if step else ''}column {column} (counting from 0) of {data.name}"


def likelihood_of(model: Any) -> Any:
    """The likelihood that a declaration names; None where it names none, though it may have a method of that name."""
    found = getattr(model, "likelihood", None)
    return found if hasattr(found, "violation") and hasattr(found, "baseline") else None


def describe(data: Dataset) -> dict[str, Any]:
    """What a result says of its data."""
    return {"name": data.name, "card": data.card, "binarisation": data.binarisation, "num_data": len(data.x),
            "data_dim": int(data.x.shape[-1])}  # fmt: skip


def baseline(model: Any, data: Dataset) -> Estimate | None:
    """Mean log p of the held-out rows under independent columns fitted to the training rows, nats per datum.

    A sequence's steps are independent too, those past its end left out; so are missing entries, column by column. Of a model
    conditional on some columns, only the others count.
    """
    if isinstance(model, tuple):
        return None
    likelihood, x, heldout = likelihood_of(model) or Normal("per-dim"), data.x, data.heldout
    columns: Any = getattr(getattr(model, "given", None), "columns", None)
    if columns is not None:
        target, _ = columns()
        x, heldout = x[:, target], heldout[:, target]
    if data.lengths is not None and data.heldout_lengths is not None:
        starts = np.cumsum(data.heldout_lengths) - data.heldout_lengths
        steps = likelihood.baseline(_steps(x, data.lengths), _steps(heldout, data.heldout_lengths))
        return mean(np.add.reduceat(steps, starts))
    if not (np.isnan(x).any() or np.isnan(heldout).any()):
        return mean(likelihood.baseline(x, heldout))
    values = np.zeros(len(heldout))
    for train, held in zip(x.T, heldout.T, strict=True):
        seen = ~np.isnan(held)
        values[seen] += likelihood.baseline(train[~np.isnan(train), None], held[seen, None])
    return mean(values)


def _steps(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All steps of all sequences end to end, (sum of lengths, D)."""
    return x[np.arange(x.shape[1]) < lengths[:, None]]
