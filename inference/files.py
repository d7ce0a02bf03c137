"""Files of a run: written whole or not at all, JSON without NaN, parameters as safetensors. Nothing here can run code."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import InputError, NumericalError


def strict(value: Any) -> Any:
    """`value` as strict JSON holds it: numbers that are not finite become null, estimates become objects."""
    if hasattr(value, "to_json"):
        return strict(value.to_json())
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any, indent: int | None = 2) -> str:
    """One strict JSON text."""
    return json.dumps(strict(value), allow_nan=False, indent=indent, ensure_ascii=False)


def write(path: Path, content: str | bytes) -> None:
    """Replace `path` in one step: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_out(out: Path | None, overwrite: bool = False) -> Path | None:
    """`out` if a run can be written there; nothing is created.

    Raises:
        InputError: It lies below a file, cannot be written, or holds a run already.
    """
    if out is None:
        return None
    check_writable(out)
    if (out / "run.json").exists() and not overwrite:
        raise InputError(f"{out} holds a run already; choose another directory, or pass --overwrite.")
    return out


def check_archive(out: Path | None, overwrite: bool = False) -> None:
    """Raise `InputError` unless `out` can become an `.npz` file; nothing is created."""
    if out is None:
        return
    if out.suffix != ".npz":
        raise InputError(f"cannot write draws to {out}; end its name in .npz.")
    if out.is_dir() or out.exists() and not overwrite:
        raise InputError(f"{out} is there already; choose another file, or pass --overwrite to replace one.")
    check_writable(out.parent)


def check_writable(out: Path) -> None:
    """Raise `InputError` if the directory `out` lies below a file or cannot be written; nothing is created."""
    try:
        nearest = next(p for p in (out, *out.absolute().parents) if p.exists())
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another directory.") from None
    if not nearest.is_dir():
        raise InputError(f"cannot write to {out}, because {nearest} is a file; choose a directory.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {out}, because {nearest} is read-only; choose another directory.")


def save_params(path: Path, params: Mapping[str, np.ndarray]) -> None:
    """Constrained values by name; either engine reads the file.

    Raises:
        NumericalError: A value is not finite; what the file held before stays.
    """
    from safetensors.numpy import save

    for name, value in params.items():
        bad = np.argwhere(~np.isfinite(value))
        if len(bad):
            spot = tuple(map(int, bad[0]))
            raise NumericalError(f"'{name}' is {np.asarray(value)[spot]} at {spot}, and files hold finite numbers only; lower "
                                 "the learning rate, or use float64.")  # fmt: skip
    write(path, save({name: np.asarray(value, order="C") for name, value in params.items()}))


def load_params(path: str | Path) -> dict[str, np.ndarray]:
    """What `save_params` wrote.

    Raises:
        InputError: The file is missing or is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the params.safetensors of a run.") from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not a complete safetensors file ({error}); give the params.safetensors of a run."
        ) from None
