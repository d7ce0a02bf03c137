"""Tables of numbers in files: `.npy`, `.npz` with the keys x and perhaps y, and `.csv`; nothing is ever unpickled."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .errors import InputError
from .tables import MISSING_CURE, reason, suggestion

SUFFIXES = (".npy", ".npz", ".csv")
T = TypeVar("T")


def find(source: str, names: tuple[str, ...]) -> Path:
    """The file that `source` names.

    Raises:
        InputError: there is none, or it cannot be opened; lists `names`, one of which may have been meant.
    """
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"expected a dataset's name ({', '.join(names)}) or a path that ends in {', '.join(SUFFIXES)} but came "
            f"{source!r}{suggestion(source, names)}; name one of these"
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
        raise InputError(f"{path} cannot be opened ({reason(error)}); check path and permissions") from error
    if empty:
        raise InputError(f"{path} was expected to hold rows of numbers but is an empty file; write it again")
    return path


def read(path: Path, *, missing: bool = False) -> tuple[Any, Any]:
    """The rows and the labels (None without) of a file that `find` found, as they stand there.

    Args:
        path: ends in one of `SUFFIXES`.
        missing: whether an empty, NA or nan cell of a `.csv` file is a missing entry.

    Raises:
        InputError: the file is broken, or not what its suffix says.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path, missing), None
    if path.suffix.lower() == ".npy":
        return read_numpy(path, b"\x93NUMPY", lambda array: (array, None))
    return read_numpy(path, b"PK", lambda archive: _members(path, archive))


def _members(path: Path, archive: Any) -> tuple[Any, Any]:
    if "x" not in archive.files:
        raise InputError(
            f"{path} was expected to hold the key 'x' but has {', '.join(map(repr, archive.files)) or 'no keys'}; "
            "save it by np.savez(path, x=rows) or np.savez(path, x=rows, y=labels)"
        )
    return archive["x"], archive["y"] if "y" in archive.files else None


def read_numpy(path: Path, magic: bytes, take: Callable[[Any], T]) -> T:
    """What `take` takes of the array or archive in a file that begins with `magic`."""
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
            raise InputError(f"{path} is broken or truncated ({reason(error)}); write it again") from error


def _read_csv(path: Path, missing: bool) -> np.ndarray:
    skip = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            top = next(filter(None, lines), [])
            if not any(map(_is_number, top)) and not (missing and all(map(_is_missing, top))):
                skip = lines.line_num
                top = next(filter(None, lines), [])
        if not top:
            return np.empty((0, 0))
        options: dict[str, Any] = {"delimiter": ",", "ndmin": 2, "comments": None, "quotechar": '"'}
        if missing:  # a Python call for each cell: only where it is asked for
            options["converters"] = _number_or_missing
        return np.loadtxt(path, skiprows=skip, encoding="utf-8-sig", **options)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} was expected to be UTF-8 text but is not ({reason(error)}); save it so") from error
    except (ValueError, csv.Error) as error:
        raise _csv_error(path, skip, missing, error) from error


def _csv_error(path: Path, skip: int, missing: bool, error: Exception) -> InputError:
    """Read once more, slowly, for the line and column that the fast reader does not tell."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            width = None
            for line in lines:
                if lines.line_num <= skip or not line:
                    continue
                where, width = f"{path} line {lines.line_num}", width or len(line)
                for column, cell in enumerate(line, 1):
                    if not (_is_number(cell) or missing and _is_missing(cell)):
                        cure = f", or {MISSING_CURE}" if _is_missing(cell) else ", and separate numbers by commas"
                        return InputError(
                            f"{where}, column {column} (counting from 1) was expected to be a number but is "
                            f"{cell[:40]!r}; correct it{cure}"
                        )
                if len(line) != width:
                    return InputError(
                        f"{where} (counting from 1) was expected to have {width} columns like the first row but has "
                        f"{len(line)}; complete it"
                    )
    except csv.Error as other:
        error = other
    return InputError(f"{path} cannot be read as comma-separated numbers ({reason(error)}); write it again")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000 as a number, no other program does


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in ("", "na", "nan")


def _number_or_missing(cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    if not _is_number(cell):
        raise ValueError(cell)
    return float(cell)
