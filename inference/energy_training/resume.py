"""What a resumed training of an energy must have in common with the one that was stopped, and how it is found again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import Dataset

from ..checkpoint import Checkpoints
from .objective import Objective


def identity(objective: Objective, data: Dataset, versions: Mapping[str, str], **settings: Any) -> dict[str, Any]:
    """What decides the numbers of a training, as JSON holds it: model, method, data by their SHA-256, settings, versions."""
    digest = hashlib.sha256()
    for x in (data.x, data.heldout):
        digest.update(f"{x.dtype}{x.shape}".encode())
        digest.update(np.ascontiguousarray(x).data)
    # A user's own objects may show where in memory they lie.
    shown = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(getattr(objective, name))) for name in ("model", "kernel")}
    return {
        **shown, "method": objective.method, "sweeps": objective.sweeps, "inner": objective.inner,
        "noise": list(objective.noise), **settings,
        "data": digest.hexdigest(), "versions": {**versions, "numpy": np.__version__, "ppl-models": version("ppl-models")},
    }  # fmt: skip


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


def restored(
    trainer: Any, carry: Any, checkpoints: Checkpoints, here: Mapping[str, Any], other_versions: bool
) -> tuple[Any, list[dict[str, Any]], list[float]]:
    """The carry, the history and the seconds a step of each epoch at the last whole checkpoint.

    Raises:
        InputError: There is none, or it is of another training.
    """
    saved = checkpoints.load()
    check_same(saved.facts["training"], here, checkpoints.folder, other_versions)
    return trainer.thawed(carry, saved.tensors, saved.facts["carry"]), saved.facts["history"], saved.facts["timings"]


def check_shapes(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `InputError` naming the first of the tensors expected that is missing or shaped otherwise."""
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != tuple(shape):
            raise InputError(f"the checkpoint has shape {found} for '{name}', but {tuple(shape)} is expected; resume with the "
                             "optimiser and the settings of the fit that wrote it.")  # fmt: skip
