"""Data meets model: what a declaration needs of its data is checked once, before anything is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_models import Bound, InputError
from ppl_models.datasets import Dataset, from_arrays
from ppl_models.likelihoods import Normal

from .estimate import Estimate, mean


def prepare(data: Any, model: Any) -> Dataset:
    """`data` as a `Dataset` that fits `model`.

    Raises:
        InputError: The data are not numbers, have the wrong number of columns, or leave the likelihood's support.
    """
    data = data if isinstance(data, Dataset) else from_arrays(data)
    columns = getattr(model, "data_dim", None)
    if not isinstance(model, Bound) and columns is not None and columns != data.x.shape[1]:
        raise InputError(f"the model expects data_dim={columns} columns, but {data.name} has {data.x.shape[1]}; "
                         f"set data_dim={data.x.shape[1]}.")  # fmt: skip
    likelihood = getattr(model, "likelihood", None)
    if likelihood is not None:
        for part, x in enumerate((data.x, data.heldout)):
            outside, support = likelihood.violation(x)
            if outside.any():
                row, column = np.argwhere(outside)[0]
                where = (
                    f"{('training', 'held-out')[part]} row {row}" if data.places is None else f"row {data.places[part][row]}"
                )
                raise InputError(
                    f"a {type(likelihood).__name__} likelihood needs values in {support}, but {where}, column {column} "
                    f"(counting from 0) of {data.name} is {x[row, column]:g}; rescale the data or choose another likelihood."
                )
    return data


def baseline(model: Any, data: Dataset) -> Estimate | None:
    """Mean log p of the held-out rows under independent columns fitted to the training rows, nats per datum."""
    if isinstance(model, tuple):
        return None
    likelihood = getattr(model, "likelihood", Normal("per-dim"))
    return mean(likelihood.baseline(data.x, data.heldout))
