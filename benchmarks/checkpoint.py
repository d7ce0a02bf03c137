"""A long benchmark on file, a stage at a time: one that was killed goes on with the stage it was in.

A stage is a safetensors file `.bench/NAME-KEY/STAGE.safetensors`: the arrays that the work gave, and as strict JSON in
its metadata what else it told and the seconds it took. It is written whole or not at all. KEY is the hash of what was
asked for, of the project's sources in memory, of the libraries' versions and of the device, so that a checkpoint of
other code or of another set-up is never taken.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmarks import record
from inference.files import write
from ppl_models import InputError

FOLDER = record.ROOT / ".bench"
ENGINE = ("ppl_models._numpyro", "inference.svi._numpyro", "inference.evaluate._numpyro")  # imported late, yet sources too


class BudgetSpentError(Exception):
    """The minutes given are over and the next stage is not on file."""


class Done(NamedTuple):
    """What a stage left."""

    arrays: dict[str, np.ndarray]
    told: dict[str, Any]


@dataclass(frozen=True)
class Stages:
    """The stages of one set-up; `seconds` of those asked for so far, from file or just now."""

    folder: Path
    deadline: float = float("inf")  # by time.monotonic()
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, work: Callable[[], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]) -> Done:
        """The stage from file, else `work` done now and put there.

        Raises:
            BudgetSpentError: It is not on file and the deadline is past.
        """
        path = self.folder / f"{name}.safetensors"
        done = load(path)
        if done is None:
            if time.monotonic() > self.deadline:
                raise BudgetSpentError(f"The budget is spent before the stage {name}; the next call goes on there.")
            began = time.perf_counter()
            arrays, told = work()
            told = {**record.strict(told), "seconds": time.perf_counter() - began}
            arrays = {key: np.asarray(value, order="C") for key, value in arrays.items()}
            self.folder.mkdir(parents=True, exist_ok=True)
            write(path, save(arrays, metadata={"told": json.dumps(told, allow_nan=False)}))
            print(f"{name}: {told['seconds']:.0f} s", file=sys.stderr, flush=True)
            done = Done(arrays, told)
        self.seconds[name] = round(done.told["seconds"], 1)
        return done


def load(path: Path) -> Done | None:
    """The stage in that file, None if there is none that is whole."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            return Done({key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["told"]))
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def key(asked: Mapping[str, Any], sources: Mapping[str, str | None], device: str) -> str:
    """What a checkpoint stands for.

    Raises:
        InputError: A source was written to since the process began, so that it cannot be told which text is in memory.
    """
    if changed := [name for name, sha in sources.items() if sha is None]:
        raise InputError(f"expected sources that stay as they are, but {changed[0]} was written to just now; start again.")
    meant = record.strict({"asked": asked, "sources": sources, "versions": record.versions(), "device": device})
    text = json.dumps(meant, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measured(
    name: str, setup: Any, budget: float | None, work: Callable[[Stages, Any], Mapping[str, Any]], folder: Path = FOLDER
) -> dict[str, Any]:
    """What `work` gives for this set-up (a dataclass), by stages on NumPyro.

    With it come `setup`, `complete`, false where the budget (minutes) ended before the last stage, and the `seconds` of
    every stage, from file or not.
    """
    asked = {f.name: repr(value) if is_dataclass(value := getattr(setup, f.name)) else value for f in fields(setup)}
    for module in ENGINE:
        import_module(module)
    with import_module("inference._numpyro").session() as device:
        deadline = float("inf") if budget is None else time.monotonic() + 60 * budget
        sources = record.sources(f"benchmarks.{name}")
        stages = Stages(folder / f"{name}-{key(asked, sources, device)}", deadline)
        try:
            found = {**work(stages, setup), "complete": True}
        except BudgetSpentError as spent:
            print(spent, file=sys.stderr)
            found = {"complete": False}
    return {"device": device, "setup": asked, **found, "seconds": stages.seconds}
