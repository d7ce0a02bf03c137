"""What decides the numbers of a training, as text and digests: a resumed one must have it in common with the stopped one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np


def digest(arrays: Iterable[np.ndarray]) -> str:
    """The SHA-256 of arrays, their types and shapes."""
    out = hashlib.sha256()
    for x in arrays:
        x = np.asarray(x)
        out.update(f"{x.dtype}{x.shape}".encode())
        out.update(np.ascontiguousarray(x).data)
    return out.hexdigest()


def shown(value: Any) -> str:
    """A value as text; a user's own objects may show where in memory they lie, which is left out."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def versions_of(engine: Mapping[str, str]) -> dict[str, str]:
    """Of the engine's libraries and of what else decides the bits."""
    return {**engine, "numpy": np.__version__, "ppl-models": version("ppl-models")}
