"""Data by name or file, checked on the way in, with the scale, the split and the binarisation stated exactly.

A grey value p in [0, 1] becomes binary by the threshold p > 0.5 or by a draw x ~ Bernoulli(p), kept or made anew.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from . import mnist
from .errors import InputError

Binarisation = Literal["none", "threshold", "static", "dynamic"]
BINARISATIONS: tuple[str, ...] = get_args(Binarisation)

DATASETS: dict[str, str] = {
    "digits": "handwritten digits of 8 x 8 pixels, 1437 training and 360 held-out rows, shipped with scikit-learn",
    "mnist": "handwritten digits of 28 x 28 pixels, 60000 training and 10000 held-out rows, downloaded once (11 MB)",
}
NAMES: tuple[str, ...] = tuple(DATASETS)
SUFFIXES = (".npy", ".npz", ".csv")
SEED = 0  # of every split and every fixed draw
HELDOUT_SHARE = 0.2

_DONE: dict[str, str] = {
    "none": "not binarised",
    "threshold": "binarised once, 1 where the value is > 0.5",
    "static": f"binarised once, training and held-out rows each one Bernoulli draw (seed {SEED})",
    "dynamic": f"binarised by a Bernoulli draw, training rows anew at each step and held-out rows once (seed {SEED})",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows to train on and rows to judge by.

    Attributes:
        name: 'digits', 'mnist', the file's name, or what `from_arrays` was given.
        x: (N, D) float32, C-contiguous; where `binarisation` is 'dynamic' these are probabilities in [0, 1], which the
            trainer draws anew at each step, otherwise final values.
        heldout: (M, D) float32, C-contiguous, always final values.
        binarisation: what was done, or for 'dynamic' remains to be done, to `x`.
        image_shape: (height, width) with height * width = D, where rows are images.
        y: (N,) int64 labels of `x`.
        heldout_y: (M,) int64 labels of `heldout`.
        origin: where the values come from and their scale.
        split: how the held-out rows were chosen.
        places: rows of the source that `x` and `heldout` are, where one source was split.
    """

    name: str
    x: np.ndarray
    heldout: np.ndarray
    binarisation: Binarisation
    image_shape: tuple[int, int] | None = None
    y: np.ndarray | None = None
    heldout_y: np.ndarray | None = None
    origin: str = "values as given"
    split: str = "held-out rows as given"
    places: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def card(self) -> str:
        """One line: source, sizes, scale, split and binarisation exactly as done."""
        shape = "" if self.image_shape is None else " ({} x {} pixels)".format(*self.image_shape)
        sizes = f"{len(self.x)} training and {len(self.heldout)} held-out rows of {self.x.shape[1]} columns{shape}"
        return f"{self.name}: {self.origin}; {sizes}; {self.split}; {_DONE[self.binarisation]}"


def load(
    source: str | Path,
    *,
    binarise: Binarisation | None = None,
    data_dir: str | Path | None = None,
    heldout: str | Path | None = None,
) -> Dataset:
    """A named dataset, or a user's own `.npy`, `.npz` (keys `x`, optional `y`) or comma-separated `.csv` file.

    Named data are scaled to [0, 1]; a user's values are never rescaled. Rows keep the order of their source.

    Args:
        source: a name of `NAMES`, or a path that ends in one of `SUFFIXES` and holds a 2-D array of numbers.
        binarise: None means 'threshold' for digits, 'dynamic' for mnist and 'none' for files; anything but 'none'
            needs values in [0, 1].
        data_dir: directory that holds `mnist/` (see `ppl_models.mnist.read`); other sources ignore it.
        heldout: file with the held-out rows; without it a fixed permutation holds out 20 % of a file's rows. Named
            data have a split of their own and take none.

    Raises:
        InputError: the source cannot be found, read or used as asked.
    """
    if binarise is not None:
        _check_binarise(binarise)
    source = str(source)
    if source in NAMES:
        if heldout is not None:
            raise InputError(
                f"expected no held-out file because {source} has a fixed split of its own but {heldout} came; "
                "leave it out, or give the training rows as a file too"
            )
        return _digits(binarise or "threshold") if source == "digits" else _mnist(binarise or "dynamic", data_dir)
    path = _data_path(source)
    x, y = _READERS[path.suffix.lower()](path)
    rows = _rows(x, f"{path}", fewest=2)
    labels = _labels(y, len(rows), f"{path} key 'y'")
    if heldout is None:
        return _split(path.name, rows, labels, binarise or "none", origin="values as in the file")
    other = _data_path(str(heldout))
    held_x, held_y = _READERS[other.suffix.lower()](other)
    held = _rows(held_x, f"{other}", columns=rows.shape[1])
    return _binarised(
        path.name,
        rows,
        held,
        binarise or "none",
        wheres=(f"{path}", f"{other}"),
        y=labels,
        heldout_y=_labels(held_y, len(held), f"{other} key 'y'"),
        origin="values as in the file",
        split=f"held-out rows from {other.name}",
    )


def from_arrays(
    x: Any,
    *,
    heldout: Any = None,
    name: str = "array",
    binarise: Binarisation = "none",
    y: Any = None,
    heldout_y: Any = None,
) -> Dataset:
    """A dataset of anything `np.asarray` takes, with the checks and the split of `load`; the arguments are copied.

    Args:
        x: (N, D) numbers, N at least 2, never rescaled.
        heldout: (M, D) numbers; None holds out 20 % of the rows of `x` by a fixed permutation.
        name: what cards and errors call these data.
        binarise: as for `load`.
        y: (N,) integer labels of `x`, split along with it.
        heldout_y: (M,) integer labels of `heldout`.

    Raises:
        InputError: the values cannot be used as asked.
    """
    _check_binarise(binarise)
    rows = _rows(x, f"{name} x", fewest=2)
    labels = _labels(y, len(rows), f"{name} y")
    if heldout is None:
        if heldout_y is not None:
            raise InputError(f"{name} heldout_y was expected to come with heldout rows but came alone; give heldout too")
        return _split(name, rows, labels, binarise)
    held = _rows(heldout, f"{name} heldout", columns=rows.shape[1])
    held_labels = _labels(heldout_y, len(held), f"{name} heldout_y")
    where = (f"{name} x", f"{name} heldout")
    return _binarised(name, rows, held, binarise, wheres=where, y=labels, heldout_y=held_labels)


def _digits(binarise: Binarisation) -> Dataset:
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    x = np.asarray(images / 16.0, np.float32)
    origin = "scikit-learn's load_digits, divided by 16 into [0, 1]"
    return _split("digits", x, np.asarray(y, np.int64), binarise, held=360, image_shape=(8, 8), origin=origin)


def _mnist(binarise: Binarisation, data_dir: str | Path | None) -> Dataset:
    x, y, held, held_y = mnist.read(data_dir)
    return _binarised(
        "mnist",
        _scaled(x),
        _scaled(held),
        binarise,
        wheres=("mnist", "mnist"),
        image_shape=(x.shape[1], x.shape[2]),
        y=y.astype(np.int64),
        heldout_y=held_y.astype(np.int64),
        origin="the MNIST IDX files, divided by 255 into [0, 1]",
        split="held-out rows are the usual test files",
    )


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _split(
    name: str, x: np.ndarray, y: np.ndarray | None, binarise: Binarisation, held: int | None = None, **about: Any
) -> Dataset:
    """Hold out `held` rows (default 20 %, at least one) by the first entries of a fixed permutation."""
    count = max(1, int(HELDOUT_SHARE * len(x))) if held is None else held
    out = np.zeros(len(x), bool)
    out[np.random.default_rng(SEED).permutation(len(x))[:count]] = True
    if y is not None:
        about |= {"y": y[~out], "heldout_y": y[out]}
    about["places"] = (np.flatnonzero(~out), np.flatnonzero(out))
    _check_unit(x, name, binarise)  # before the split, so that an error counts rows as the source does
    about["split"] = f"{count} of {len(x)} rows held out by a fixed permutation (seed {SEED})"
    return _binarised(name, x[~out], x[out], binarise, wheres=(name, name), **about)


def _binarised(
    name: str, x: np.ndarray, heldout: np.ndarray, binarise: Binarisation, wheres: tuple[str, str], **about: Any
) -> Dataset:
    for values, where in zip((x, heldout), wheres, strict=True):
        _check_unit(values, where, binarise)
    # Two streams: with one, training row n and held-out row n would share their uniforms.
    train, held = np.random.default_rng(SEED).spawn(2)
    if binarise == "threshold":
        x, heldout = (np.asarray(values > 0.5, np.float32) for values in (x, heldout))
    if binarise == "static":
        x = _draw(train, x)
    if binarise in ("static", "dynamic"):
        heldout = _draw(held, heldout)
    return Dataset(name, x, heldout, binarise, **about)


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return np.asarray(rng.random(p.shape, np.float32) < p, np.float32)


def _check_binarise(binarise: str) -> None:
    if binarise not in BINARISATIONS:
        raise InputError(
            f"binarise was expected to be one of {', '.join(BINARISATIONS)} but is {binarise!r}"
            f"{_suggestion(binarise, BINARISATIONS)}; choose one of them"
        )


def _check_unit(x: np.ndarray, where: str, binarise: Binarisation) -> None:
    if binarise == "none":
        return
    if (spot := _first((x < 0) | (x > 1))) is not None:
        raise InputError(
            f"{where} was expected to hold values in [0, 1] to be binarised but has {x[spot]!s} in row {spot[0]}, "
            f"column {spot[1]} (counting from 0); rescale the values, or use binarise none"
        )


def _rows(values: Any, where: str, fewest: int = 1, columns: int | None = None) -> np.ndarray:
    """`values` as a fresh (N, D) float32 array in C order, or an InputError that says what is wrong with them."""
    if np.ma.is_masked(values):
        raise InputError(f"{where} was expected to have no masked values but has some; fill or drop them first")
    array = _array(values, where)
    if array.size == 0:
        raise InputError(f"{where} was expected to hold rows of numbers but has shape {array.shape}; give it some")
    if array.ndim != 2:
        cure = f"({len(array)}, -1)" if array.ndim > 2 else "(-1, 1) if each number is a row, (1, -1) if all are one"
        raise InputError(
            f"{where} was expected to be 2-D (rows, columns) but is {array.ndim}-D with shape {array.shape}; "
            f"reshape it to {cure}"
        )
    if len(array) < fewest:
        raise InputError(f"{where} was expected to have at least {fewest} rows but has {len(array)}; give it more")
    if columns is not None and array.shape[1] != columns:
        raise InputError(
            f"{where} was expected to have {columns} columns like the training rows but has {array.shape[1]}; "
            "take both from the same table"
        )
    if (spot := _first(~np.isfinite(array))) is not None:
        raise InputError(
            f"{where} was expected to hold finite numbers but has {array[spot]!s} in row {spot[0]}, column {spot[1]} "
            "(counting from 0); replace it or drop the row"
        )
    with np.errstate(over="ignore"):
        rows = np.array(array, np.float32, order="C", copy=True)
    if (spot := _first(~np.isfinite(rows))) is not None:
        raise InputError(
            f"{where} was expected to hold numbers that fit float32 (up to 3.4e38) but has {array[spot]!s} in row "
            f"{spot[0]}, column {spot[1]} (counting from 0); rescale the values"
        )
    return rows


def _labels(values: Any, count: int, where: str) -> np.ndarray | None:
    if values is None:
        return None
    array = _array(values, where)
    if array.shape != (count,):
        raise InputError(
            f"{where} was expected to hold one label for each of the {count} rows, shape ({count},), but has shape "
            f"{array.shape}; give one integer a row"
        )
    # Written so that NaN fails too; 2**31 because engines hold labels as int32.
    if (spot := _first(~((np.abs(array.astype(np.float64)) < 2**31) & (array == np.trunc(array))))) is not None:
        raise InputError(
            f"{where} was expected to hold integer labels below 2**31 but has {array[spot]!s} in row {spot[0]} "
            "(counting from 0); number the classes 0, 1, 2 and so on"
        )
    return array.astype(np.int64)


def _array(values: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever a foreign `__array__` raises
        raise InputError(
            f"{where} was expected to be an array of numbers but is not ({_reason(error)}); give a rectangular table of numbers"
        ) from error
    if array.dtype.name == "bfloat16":  # numpy itself knows this type only as raw bytes
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{where} was expected to hold real numbers, integers or booleans but has dtype {array.dtype}; "
            "convert it first, for example by .astype('float32')"
        )
    return array


def _first(bad: np.ndarray) -> tuple[int, ...] | None:
    """Index of the first true entry in C order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)) if bad.any() else None


def _data_path(source: str) -> Path:
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"expected a dataset's name ({', '.join(NAMES)}) or a path that ends in {', '.join(SUFFIXES)} but came "
            f"{source!r}{_suggestion(source, NAMES)}; name one of these"
        )
    try:
        path = path.expanduser()
        if path.is_dir():
            raise InputError(f"{path} was expected to be a file but is a directory; name a file in it")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise InputError(f"{path} was expected to be a file but does not exist; check the path") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        raise InputError(f"{path} cannot be opened ({_reason(error)}); check path and permissions") from error
    if empty:
        raise InputError(f"{path} was expected to hold rows of numbers but is an empty file; write it again")
    return path


def _read_npy(path: Path) -> tuple[Any, Any]:
    return _read_numpy(path, b"\x93NUMPY", lambda array: (array, None))


def _read_npz(path: Path) -> tuple[Any, Any]:
    def members(archive: Any) -> tuple[Any, Any]:
        if "x" not in archive.files:
            raise InputError(
                f"{path} was expected to hold the key 'x' but has {', '.join(map(repr, archive.files)) or 'no keys'}; "
                "save it by np.savez(path, x=rows) or np.savez(path, x=rows, y=labels)"
            )
        return archive["x"], archive["y"] if "y" in archive.files else None

    return _read_numpy(path, b"PK", members)


def _read_numpy(path: Path, magic: bytes, take: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Any]:
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:
            raise InputError(
                f"{path} was expected to be a {path.suffix} file but does not begin like one; "
                f"write it by {'np.save' if magic != b'PK' else 'np.savez'}, or give it the suffix of what it is"
            )
        file.seek(0)
        try:
            return take(np.load(file, allow_pickle=False))
        except InputError:
            raise
        except Exception as error:  # broken bytes raise anything: BadZipFile, EOFError, ValueError, zlib.error ...
            if "allow_pickle" in str(error):
                raise InputError(
                    f"{path} was expected to hold numbers but holds Python objects, which are never unpickled; "
                    "save it again after .astype('float32')"
                ) from error
            raise InputError(f"{path} is broken or truncated ({_reason(error)}); write it again") from error


def _read_csv(path: Path) -> tuple[Any, Any]:
    skip = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            first = next(filter(None, rows), [])
            if not any(map(_is_number, first)):
                skip = rows.line_num
                first = next(filter(None, rows), [])
        if not first:
            return np.empty((0, 0)), None
        options: dict[str, Any] = {"delimiter": ",", "ndmin": 2, "comments": None, "quotechar": '"'}
        return np.loadtxt(path, skiprows=skip, encoding="utf-8-sig", **options), None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} was expected to be UTF-8 text but is not ({_reason(error)}); save it so") from error
    except (ValueError, csv.Error) as error:
        raise _csv_error(path, skip, error) from error


def _csv_error(path: Path, skip: int, error: Exception) -> InputError:
    """Read once more, slowly, for the line and column that the fast reader does not tell."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            width = None
            for row in rows:
                if rows.line_num <= skip or not row:
                    continue
                where, width = f"{path} line {rows.line_num}", width or len(row)
                for column, cell in enumerate(row, 1):
                    if not _is_number(cell):
                        return InputError(
                            f"{where}, column {column} (counting from 1) was expected to be a number but is "
                            f"{cell[:40]!r}; correct it, and separate numbers by commas"
                        )
                if len(row) != width:
                    return InputError(
                        f"{where} (counting from 1) was expected to have {width} columns like the first row but has "
                        f"{len(row)}; complete it"
                    )
    except csv.Error as other:
        error = other
    return InputError(f"{path} cannot be read as comma-separated numbers ({_reason(error)}); write it again")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000 as a number, no other program does


def _suggestion(given: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(given.lower(), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _reason(error: Exception) -> str:
    """The first line of a library's message, fit to stand inside a sentence of ours."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return text.splitlines()[0].rstrip(".").replace(". ", ", ")


_READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
