"""The whole state of a fit on disk, from which it goes on as if it had never stopped: tensors by name and a hashed manifest.

Step 10 is `00000010.safetensors` and, written after it, `00000010.json`: what the tensors alone do not say, their SHA-256 and
that of the manifest itself. Both are written under another name, synced and renamed, so that a process killed at any moment
leaves the step before. Nothing here can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError, NumericalError

from .files import load_params, save_params, to_json, write

FORMAT = 1
#: What contents that were forged, or are those of other code, raise where they are read.
FORGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, ArithmeticError, AssertionError)


def reason(error: Exception) -> str:
    """What is wrong, in a line."""
    return f"it lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [type(error).__name__])[0]


class Saved(NamedTuple):
    """The state after a step; `damaged` says of each later one why it was passed over."""

    step: int
    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]
    damaged: list[str]
    value: Any = None  # what `restore` made of it


@dataclass(frozen=True)
class Checkpoints:
    """Those of one fit.

    Attributes:
        folder: Where they lie; made when the first is saved.
        every: Epochs between two of them; the end is always saved.
        about: What else each manifest holds, as JSON: whatever finds the data and the settings again.
        keep: How many stay, the last ones.

    Raises:
        InputError: `every` is below 1.
    """

    folder: Path
    every: int = 10
    about: Mapping[str, Any] = field(default_factory=dict)
    keep: int = 3

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"expected a checkpoint every 1 or more epochs, got {self.every}; change that setting.")

    def steps(self) -> list[int]:
        """The steps that have a manifest, the first one first."""
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal())

    def save(self, step: int, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Keep a step; what is later (damaged, or of a run that this one replaces) and what is too old goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._drop(later for later in self.steps() if later >= step)
        file = self._file(step, ".safetensors")
        save_params(file, tensors)
        body = {"format": FORMAT, "step": step, "tensors": sha256(file.read_bytes()), "about": self.about, "facts": facts}
        write(self._file(step, ".json"), to_json({"sha256": sha256(canonical(body)), **body}))
        sync(self.folder)
        self._drop(self.steps()[: -self.keep])

    def load(self, restore: Callable[[int, dict[str, np.ndarray], dict[str, Any]], Any] | None = None) -> Saved:
        """The last step that is whole and that `restore(step, tensors, facts)`, if given, can go on from.

        Raises:
            InputError: There is none; the sentence says what is wrong with the last one.
        """
        damaged, whole = list[str](), False
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.is_dir() and path.stem.isdecimal():
                raise InputError(f"{path} is a directory where a checkpoint's file belongs; remove it, then resume.")
            if restore is not None and path.name.startswith(".") and path.suffix == ".partial":
                path.unlink(missing_ok=True)  # of a process that was killed while it wrote
        for step in reversed(self.steps()):
            try:
                tensors, facts = self._read(step)
                whole = True
                value = None if restore is None else restore(step, tensors, facts)
            except (InputError, NumericalError) as error:
                damaged.append(str(error))
            except FORGED as error:
                damaged.append(f"{self._file(step, '.json')} holds no state of this training ({reason(error)}); resume from "
                               "an earlier one, or fit again.")  # fmt: skip
            else:
                return Saved(step, tensors, facts, damaged, value)
        if damaged:
            raise InputError(damaged[0] if whole else f"no checkpoint in {self.folder} is whole: {damaged[0]}")
        raise InputError(f"{self.folder} holds no checkpoint; fit with --out, which keeps some.")

    def clear(self) -> None:
        """Drop all."""
        self._drop(self.steps())

    def _file(self, step: int, ending: str) -> Path:
        return self.folder / f"{step:08d}{ending}"

    def _drop(self, steps: Any) -> None:
        """The manifest first: tensors without one are no checkpoint."""
        for step in steps:
            for ending in (".json", ".safetensors"):
                self._file(step, ending).unlink(missing_ok=True)

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        manifest, file = self._file(step, ".json"), self._file(step, ".safetensors")
        again = "resume from an earlier one, or fit again."
        try:
            body = json.loads(manifest.read_text(encoding="utf-8"))
            told, facts, about = body.pop("sha256"), {**body["facts"]}, body["about"]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(f"{manifest} cannot be read ({error}); {again}") from None
        if told != sha256(canonical(body)) or body.get("step") != step:
            raise InputError(f"{manifest} is damaged: its SHA-256 is another than it says; {again}")
        if body.get("format") != FORMAT:
            raise InputError(f"{manifest} has format {body.get('format')}; this version reads {FORMAT}: use the one it is of.")
        try:
            found = sha256(file.read_bytes())
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}); {again}") from None
        if found != body.get("tensors"):
            raise InputError(f"{file} is damaged: its SHA-256 is another than its manifest says; {again}")
        return load_params(file), {**facts, "about": about}


def check_stopped(out: Path | None, overwrite: bool = False) -> Path | None:
    """`out` unless it holds a fit that was stopped before its end and is not to be replaced.

    Raises:
        InputError: It does.
    """
    if out is None or overwrite or (out / "run.json").exists() or not Checkpoints(out / "checkpoint").steps():
        return out
    raise InputError(f"{out} holds a fit that was stopped; go on with it by `ppl resume {out}`, or pass --overwrite.")


def canonical(body: Mapping[str, Any]) -> bytes:
    """One text for equal contents: keys in order, no spaces; floats as their shortest digits."""
    return json.dumps(json.loads(to_json(body)), sort_keys=True, separators=(",", ":")).encode()


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sync(folder: Path) -> None:
    """Have renames within a directory reach the disk, where the system can open directories."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
