"""What decides the numbers of a training, as text and digests: a resumed one must have it in common with the stopped one."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ppl_models import InputError


def digest(arrays: Iterable[np.ndarray | None]) -> str:
    """The SHA-256 of arrays, their types and shapes."""
    out = hashlib.sha256()
    for x in arrays:
        if x is None:
            out.update(b"none")
            continue
        out.update(f"{x.dtype}{x.shape}".encode())
        out.update(np.ascontiguousarray(x).data)
    return out.hexdigest()


def shown(value: Any) -> str:
    """A value as text; a user's own objects may show where in memory they lie, which is left out."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def versions_of(engine: Mapping[str, str]) -> dict[str, str]:
    """Of the engine's libraries and of what else decides the bits."""
    return {**engine, "numpy": np.__version__, "ppl-models": version("ppl-models")}


def check_same(kept: Mapping[str, Any], here: Mapping[str, Any], folder: Any, other_versions: bool = False) -> None:
    """Raise `InputError` naming the first thing in which the checkpoint is another training than this."""
    for name in here:
        if kept.get(name) == here[name] or (name == "versions" and other_versions):
            continue
        if name == "data":
            raise InputError(f"{folder} is of a training on other data (their SHA-256 differ); give the same rows.")
        if name == "versions":
            then, now = kept.get(name) or {}, here[name]
            theirs = ", ".join(f"{key} {then[key]}" for key in then if then[key] != now.get(key)) or "fewer libraries"
            raise InputError(f"{folder} was written with other versions ({theirs}), which may round otherwise; install those, "
                             "or pass --other-versions (in Python, other_versions=True).")  # fmt: skip
        raise InputError(f"{folder} is of another training: its {name} is {kept.get(name)}, but here it is {here[name]}; give "
                         "the same, or fit from the start.")  # fmt: skip


def check_types(kept: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` unless a state is written again under the names and with the types it was read with."""
    types = [{name: value.dtype for name, value in tensors.items()} for tensors in (kept, again)]
    for name in sorted({**types[0], **types[1]}):
        if types[0].get(name) != types[1].get(name):
            raise ValueError(f"'{name}' is {types[0].get(name, 'missing')}, not {types[1].get(name, 'there')}")


def check_shapes(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `InputError` naming the first of the tensors expected that is missing or shaped otherwise."""
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != tuple(shape):
            raise InputError(f"the checkpoint has shape {found} for '{name}', but {tuple(shape)} is expected; resume with the "
                             "optimiser and the settings of the fit that wrote it.")  # fmt: skip


def tells_counts(row: Mapping[str, Any], *names: str) -> bool:
    """Whether these entries of a history row are floats of at least 0, which a whole number of 400 digits cannot be."""
    return all(isinstance(row.get(name), int | float) and 0 <= row[name] <= sys.float_info.max for name in names)
