"""What a table of numbers must be, and the labels beside it: checked on the way in, refused with the place and the cure."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from .errors import InputError

MISSING_CURE = "use a model that takes missing entries (--set missing=true)"
EXACT = 2**24  # float32 holds every integer up to here


def rows(values: Any, where: str, *, fewest: int = 1, columns: int | None = None, missing: bool = False) -> np.ndarray:
    """`values` as a fresh (N, D) float array in C order.

    float64 stays float64 and float32 float32; booleans and integers up to 2^24 in size become float32, which holds them
    exactly, larger ones float64.

    Args:
        values: anything `np.asarray` takes.
        where: what errors call them.
        fewest: how many rows there must be.
        columns: how many columns there must be.
        missing: whether NaN may stand for a missing entry.

    Raises:
        InputError: they are no such table; names the first bad row and column, counting from 0.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{where} was expected to have no masked values but has some; fill or drop them first")
    table = array(values, where)
    if table.size == 0:
        raise InputError(f"{where} was expected to hold rows of numbers but has shape {table.shape}; give it some")
    if table.ndim != 2:
        cure = f"({len(table)}, -1)" if table.ndim > 2 else "(-1, 1) if each number is a row, (1, -1) if all are one"
        raise InputError(
            f"{where} was expected to be 2-D (rows, columns) but is {table.ndim}-D with shape {table.shape}; "
            f"reshape it to {cure}"
        )
    if len(table) < fewest:
        raise InputError(f"{where} was expected to have at least {fewest} rows but has {len(table)}; give it more")
    if columns is not None and table.shape[1] != columns:
        raise InputError(
            f"{where} was expected to have {columns} columns like the training rows but has {table.shape[1]}; "
            "take both from the same table"
        )
    if (spot := first(np.isinf(table) if missing else ~np.isfinite(table))) is not None:
        cure = f"replace it, drop the row, or {MISSING_CURE}" if np.isnan(table[spot]) else "replace it or drop the row"
        raise InputError(
            f"{where} was expected to hold finite numbers but has {table[spot]!s} in row {spot[0]}, column {spot[1]} "
            f"(counting from 0); {cure}"
        )
    with np.errstate(over="ignore"):
        short = table.astype(np.float32)
    if (spot := first(np.isinf(short))) is not None:
        raise InputError(
            f"{where} was expected to hold numbers that fit float32 (up to 3.4e38) but has {table[spot]!s} in row "
            f"{spot[0]}, column {spot[1]} (counting from 0); rescale the values"
        )
    if (spot := first(np.asarray(np.isnan(short).all(1)))) is not None:
        raise InputError(
            f"{where} was expected to have a value in every row but row {spot[0]} (counting from 0) is entirely missing; "
            "drop it"
        )
    return np.array(table, _dtype(table), order="C", copy=True)


def check_columns(x: np.ndarray, where: str) -> None:
    """Raise `InputError` if a column of the training rows `x` is entirely missing."""
    for column in np.flatnonzero(np.isnan(x[0])) if x.ndim == 2 else ():
        if np.isnan(x[:, column]).all():
            raise InputError(
                f"{where} was expected to have a value in every column but column {column} (counting from 0) is entirely "
                "missing in the training rows; drop it"
            )


def labels(values: Any, count: int, where: str) -> np.ndarray | None:
    """`values` as (count,) int64 labels, or None for None.

    Raises:
        InputError: they are not one integer a row.
    """
    if values is None:
        return None
    given = array(values, where)
    if given.shape != (count,):
        raise InputError(
            f"{where} was expected to hold one label for each of the {count} rows, shape ({count},), but has shape "
            f"{given.shape}; give one integer a row"
        )
    # Written so that NaN fails too; 2**31 because engines hold labels as int32.
    if (spot := first(~((np.abs(given.astype(np.float64)) < 2**31) & (given == np.trunc(given))))) is not None:
        raise InputError(
            f"{where} was expected to hold integer labels below 2**31 but has {given[spot]!s} in row {spot[0]} "
            "(counting from 0); number the classes 0, 1, 2 and so on"
        )
    return given.astype(np.int64)


def array(values: Any, where: str) -> np.ndarray:
    """`values` as an array of real numbers.

    Raises:
        InputError: they are none.
    """
    try:
        found = np.asarray(values)
    except Exception as error:  # whatever a foreign `__array__` raises
        raise InputError(
            f"{where} was expected to be an array of numbers but is not ({reason(error)}); give a rectangular table of numbers"
        ) from error
    if found.dtype.name == "bfloat16":  # numpy itself knows this type only as raw bytes
        found = found.astype(np.float32)
    if found.dtype.kind not in "biuf":
        raise InputError(
            f"{where} was expected to hold real numbers, integers or booleans but has dtype {found.dtype}; "
            "convert it first, for example by .astype('float32')"
        )
    return found


def _dtype(table: np.ndarray) -> type[np.floating]:
    if table.dtype.kind == "f":
        return np.float64 if table.dtype.itemsize > 4 else np.float32
    return np.float32 if -EXACT <= int(table.min()) and int(table.max()) <= EXACT else np.float64


def first(bad: np.ndarray) -> tuple[int, ...] | None:
    """Index of the first true entry in C order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)) if bad.any() else None


def suggestion(given: str, known: tuple[str, ...]) -> str:
    """The known name that was probably meant, fit to follow the given one."""
    close = difflib.get_close_matches(given.lower(), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def reason(error: Exception) -> str:
    """The first line of a library's message, fit to stand inside a sentence of ours."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return text.splitlines()[0].rstrip(".").replace(". ", ", ")
