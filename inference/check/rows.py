"""The rows that a check looks at: whatever `fit` takes, or a tuple of the arrays that a model reads, in source order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import UNKNOWN, Dataset, from_arrays
from ppl_models.tables import array, first

from ..callables import inputs_of
from ..data import prepare

ENTRIES = 1_000_000  # of the first array; so many are looked at where only the model itself knows what it can take
BATCH = 128


class Rows(NamedTuple):
    """Arrays, rows first, by the names of what they are, and how many data they are."""

    arrays: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    source: str

    @property
    def total(self) -> int:
        return len(self.arrays[0])

    def batch(self, size: int, dtype: Any = None) -> tuple[np.ndarray, ...]:
        """The first `size` rows, floats as `dtype` if one is given."""
        parts = [x[:size] for x in self.arrays]
        return tuple(x.astype(dtype) if dtype is not None and x.dtype.kind == "f" else x for x in parts)

    def size(self, model: Any, batch: int | None) -> int:
        """How many rows to look at: of a pair all that are not too many, since only it knows its support."""
        fits = ENTRIES // max(1, int(np.prod(self.arrays[0].shape[1:])))
        most = max(2, fits) if isinstance(model, tuple) else BATCH
        return min(most if batch is None else batch, self.total)


def enter(data: Any, model: Any) -> Rows:
    """`data` as the arrays that `model` reads, training and held-out rows in the order of their source.

    Args:
        data: A `Dataset`, a table of numbers, or a tuple of arrays: those that `inputs` of the model names, or for a pair of
            functions whatever these take.
        model: A declaration or a pair (model, guide).

    Raises:
        InputError: The data cannot be used, or not by this model.
    """
    names = inputs_of(model)
    if isinstance(data, tuple) and data and isinstance(model, tuple):
        return Rows(plain(data), tuple(f"argument {i}" for i in range(len(data))), "data")
    if isinstance(data, tuple) and (len(data) == len(names) or tables(data)):
        if len(data) != len(names):
            raise InputError(f"the model reads {', '.join(names)}, but {len(data)} arrays came; give one for each.")
        return rows_of(model, whole(dict(zip(names, data, strict=True)), model), names)
    return rows_of(model, prepare(data, model), names)


def tables(data: Any) -> bool:
    """Whether these are several arrays, and not the rows of one."""
    return isinstance(data, tuple) and len(data) > 1 and len(getattr(data[0], "shape", ())) > 1


def plain(parts: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The arrays of a pair of functions, of numbers that are finite and of one length."""
    out = []
    for number, part in enumerate(parts):
        values = array(part, f"argument {number}")
        if values.ndim == 0 or len(values) == 0:
            raise InputError(f"argument {number} was expected to hold rows but has shape {values.shape}; give it some.")
        if len(values) != len(out[0] if out else values):
            raise InputError(f"argument {number} was expected to have {len(out[0])} rows as argument 0 has, but has "
                             f"{len(values)}; take both from the same table.")  # fmt: skip
        if (spot := first(~np.isfinite(values))) is not None:
            raise InputError(f"argument {number} was expected to hold finite numbers but has {values[spot]!s} at "
                             f"{place(spot)} (counting from 0); replace it or drop the row.")  # fmt: skip
        out.append(values)
    return tuple(out)


def place(spot: Sequence[int]) -> str:
    """Where an entry is: row and, if there are any, columns."""
    row, *columns = spot
    return f"row {row}" + (f", column {', '.join(map(str, columns))}" if columns else "")


def whole(given: dict[str, Any], model: Any) -> Dataset:
    """The arrays of a declaration as one data set: rows, and what belongs to each of them."""
    labels = given.get("y", given.get("labels"))
    if "lengths" not in given:
        missing = getattr(model, "missing", False)
        if labels is not None and "y" not in given and np.all(array(labels, "data labels") == UNKNOWN):
            labels = None  # as held-out rows have them: none is known
        return prepare(from_arrays(given["x"], y=labels, name="data", missing=missing), model)
    values, lengths = array(given["x"], "data x"), array(given["lengths"], "data lengths")
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"data x was expected to be sequences (rows, steps, columns) but has shape {values.shape}; give a "
                         "third axis.")  # fmt: skip
    steps, whole_numbers = values.shape[1], lengths.dtype.kind in "iu"
    if lengths.shape != (len(values),) or not whole_numbers or (lengths < 1).any() or (lengths > steps).any():
        told, count = np.array2string(lengths, threshold=8), len(values)
        raise InputError(f"data lengths was expected to hold a whole number from 1 to {steps} for each of {count} rows but "
                         f"is {told}; count the steps of each.")  # fmt: skip
    if (spot := first(~np.isfinite(values))) is not None:
        where = f"row {spot[0]}, step {spot[1]}, column {spot[2]} (counting from 0)"
        raise InputError(f"data x was expected to hold finite numbers but has {values[spot]!s} in {where}; replace it or drop "
                         "the row.")  # fmt: skip
    values, lengths = values.astype(float), lengths.astype(np.int64)
    return prepare(Dataset("data", values, values[:0], "none", lengths=lengths, heldout_lengths=lengths[:0]), model)


def rows_of(model: Any, data: Dataset, names: tuple[str, ...]) -> Rows:
    """All rows, in the order of the source where that is known."""
    parts = [data.inputs(names)]
    if len(data.heldout):
        parts.append(data.inputs(names, heldout=True))
    joined = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    if data.places is not None:
        order = np.argsort(np.concatenate(data.places))
        joined = [part[order] for part in joined]
    return Rows(tuple(joined), names, data.name)



