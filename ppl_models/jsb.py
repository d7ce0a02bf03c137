"""JSB chorales (Boulanger-Lewandowski, Bengio and Vincent 2012): four-part chorales as piano rolls, a row a time step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .mnist import directory
from .readers import find, read_numpy

FILE = Path("jsb") / "jsb_chorales.npz"
KEYS = 88


def read(data_dir: str | Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training sequences (N, T, 88) and lengths (N,), then test sequences (M, T, 88) and lengths (M,).

    Sequences are uint8, 1 where a key sounds, and 0 after their end; T is the longest of all. Lengths are int64. The
    file's validation sequences are left out.

    Args:
        data_dir: directory that holds `jsb/jsb_chorales.npz`; None looks at the environment variable PPL_DATA_DIR, then
            at `~/.cache/ppl-models`. It is never downloaded.

    Raises:
        InputError: the file is not there, or does not hold the chorales.
    """
    folder, _ = directory(data_dir)
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            f"the JSB chorales were expected in {path}, which does not exist, and are not downloaded; put the file there, or "
            "set PPL_DATA_DIR or --data-dir to a directory that holds jsb/jsb_chorales.npz"
        )
    (train, train_lengths), (test, test_lengths) = read_numpy(
        find(str(path), ()), b"PK", lambda archive: [_sequences(path, archive, part) for part in ("train", "test")]
    )
    steps = int(max(train_lengths.max(), test_lengths.max()))
    return _padded(train, train_lengths, steps), train_lengths, _padded(test, test_lengths, steps), test_lengths


def _sequences(path: Path, archive: Any, part: str) -> tuple[np.ndarray, np.ndarray]:
    """All steps (total, 88) of one part, sequences end to end, and the sequences' lengths."""
    keys = (part, f"{part}_lengths")
    if set(keys) <= set(archive.files):
        packed, lengths = (archive[key] for key in keys)
        if (
            packed.dtype == np.uint8 and packed.ndim == 2 and packed.shape[1] == KEYS // 8
            and lengths.dtype.kind in "iu" and lengths.ndim == 1
            and len(lengths) and lengths.min() >= 1 and lengths.sum() == len(packed)
        ):  # fmt: skip
            return np.unpackbits(packed, axis=1), lengths.astype(np.int64)
    raise InputError(
        f"{path} was expected to hold {keys[0]!r}, bit-packed rows of {KEYS} keys, and {keys[1]!r}, lengths that add up to "
        "their number, but does not; copy the file again"
    )


def _padded(steps: np.ndarray, lengths: np.ndarray, longest: int) -> np.ndarray:
    out = np.zeros((len(lengths), longest, KEYS), np.uint8)
    out[np.arange(longest) < lengths[:, None]] = steps
    return out
