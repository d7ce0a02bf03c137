"""MNIST as its four IDX files: found in a directory, or fetched once into the cache, and checked by content every time.

The checksums are of the uncompressed bytes, because mirrors wrap the same contents in different gzip headers.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import InputError

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
CACHE = Path("~/.cache/ppl-models")
TIMEOUT = 10.0  # seconds to connect, and to wait for the next bytes
ATTEMPTS = 2
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def read(data_dir: str | Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images (N, 28, 28) and labels (N,), then test images and labels, all uint8 as stored (0 to 255).

    Args:
        data_dir: directory that holds `mnist/` with the four files, gzipped or not; None looks at the environment
            variable PPL_DATA_DIR, then at `~/.cache/ppl-models`, and only the last is ever downloaded into.

    Raises:
        InputError: files are missing from a directory that was named, cannot be fetched, or are not MNIST.
    """
    parent, named = directory(data_dir)
    folder = parent / "mnist"
    if not named:
        for name in MD5:
            if _find(folder, name) is None:
                _fetch(folder, name)
    paths = {name: _find(folder, name) for name in MD5}
    if missing := [f"{name}.gz" for name, path in paths.items() if path is None]:
        absent = "" if folder.is_dir() else ", which does not exist"
        raise InputError(
            f"the data directory {folder.parent} was expected to hold mnist/ with four files but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not in {folder}{absent}; put them there, or point --data-dir or "
            "PPL_DATA_DIR elsewhere, or leave both out to download them"
        )
    train_x, train_y, test_x, test_y = (_parse(path, _contents(path, name)) for name, path in paths.items() if path)
    for images, labels in ((train_x, train_y), (test_x, test_y)):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(
                f"the MNIST files in {folder} were expected to hold one label for each image but have shapes "
                f"{images.shape} and {labels.shape}; replace them with the original ones"
            )
    return train_x, train_y, test_x, test_y


def directory(data_dir: str | Path | None = None) -> tuple[Path, bool]:
    """Where data are looked for, and whether that place was named: by the argument, else by PPL_DATA_DIR, else the cache."""
    named = data_dir if data_dir is not None else os.environ.get("PPL_DATA_DIR") or None
    return Path(CACHE if named is None else named).expanduser(), named is not None


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _contents(path: Path, name: str) -> bytes:
    """The uncompressed bytes of `path`, or an InputError unless their md5 is the published one."""
    try:
        data = path.read_bytes()
        # By content, not by suffix: browsers unpack a download and keep its name.
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an IDX file ({error}); delete it and fetch or copy it again") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise InputError(
            f"{path} was expected to have the md5 {MD5[name]} when uncompressed but has {found}; "
            "delete it and fetch or copy it again"
        )
    return data


def _parse(path: Path, data: bytes) -> np.ndarray:
    """IDX of unsigned bytes: 0, 0, 8, rank, one big-endian uint32 per axis, then the values in C order."""
    rank = data[3] if data[:3] == b"\x00\x00\x08" and len(data) > 3 else 0
    start = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", data[4:start]) if rank and len(data) >= start else ()
    if not shape or len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise InputError(
            f"{path} was expected to be an IDX file of bytes but its header does not fit its {len(data)} bytes; "
            "delete it and fetch or copy it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _fetch(folder: Path, name: str) -> None:
    """Download one file into `folder`; it appears under its name only once its contents are checked."""
    import http.client

    problem: Exception | None = None
    for _ in range(ATTEMPTS):
        part: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=folder, prefix=f"{name}.", suffix=".part")
            part = Path(partial)
            with os.fdopen(handle, "wb") as file:
                _download(f"{URL}{name}.gz", file)
            _contents(part, name)
            os.replace(part, folder / f"{name}.gz")
            return
        except (OSError, http.client.HTTPException, InputError) as error:
            problem = error
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
    raise InputError(
        f"MNIST is not in {folder} and could not be downloaded from {URL} ({problem}); put "
        f"{', '.join(f'{each}.gz' for each in MD5)} there, or set PPL_DATA_DIR or --data-dir to a directory whose "
        "mnist/ holds these four files"
    ) from problem


def _download(url: str, file: BinaryIO) -> None:
    import urllib.request

    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"downloading {url}", file=sys.stderr, flush=True)
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as response,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        length = response.headers.get("Content-Length")
        task = progress.add_task(url.rsplit("/", 1)[-1], total=int(length) if length else None)
        while chunk := response.read(1 << 16):
            file.write(chunk)
            progress.advance(task, len(chunk))
