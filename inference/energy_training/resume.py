"""What a resumed training of an energy must have in common with the one that was stopped, and how it is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_models.datasets import Dataset

from ..checkpoint import Checkpoints
from ..identity import check_same, check_types, digest, shown, tells_counts, versions_of
from .objective import Objective


def identity(objective: Objective, data: Dataset, versions: Mapping[str, str], **settings: Any) -> dict[str, Any]:
    """What decides the numbers of a training, as JSON holds it: model, method, data by their SHA-256, settings, versions."""
    return {
        "model": shown(objective.model), "kernel": shown(objective.kernel), "method": objective.method,
        "sweeps": objective.sweeps, "inner": objective.inner,
        "noise": list(objective.noise), **settings,
        "data": digest((data.x, data.heldout)), "versions": versions_of(versions),
    }  # fmt: skip


def restored(
    trainer: Any, carry: Any, checkpoints: Checkpoints, here: Mapping[str, Any], other_versions: bool
) -> tuple[Any, list[dict[str, Any]], list[float]]:
    """The carry, the history and the seconds a step of each epoch at the last whole checkpoint.

    Raises:
        InputError: There is none, or it is of another training.
    """

    def restore(step: int, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
        check_same(facts["training"], here, checkpoints.folder, other_versions)
        state = trainer.thawed(carry, tensors, facts["carry"])
        check_types(tensors, trainer.frozen(state)[0])
        for name, value in tensors.items():
            if not np.isfinite(value).all():
                raise ValueError(f"'{name}' is not finite")
        history, timings = list(facts["history"]), [float(seconds) for seconds in facts["timings"]]
        trained = [row for row in history if "layer" not in row]  # greedy epochs are timed apart
        rows = all(row["epoch"] == i + 1 and tells_counts(row, "seconds") for i, row in enumerate(history))
        if not rows or len(history) != step or len(trained) != len(timings) or not np.isfinite(timings).all():
            raise ValueError("its history is not that of so many epochs")
        return state, history, timings

    return checkpoints.load(restore).value
