"""What one pass over the data reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Arrays by name, and what else is needed, as JSON: a training's whole state.
Frozen = tuple[dict[str, np.ndarray], dict[str, Any]]


class Epoch(NamedTuple):
    """Epoch 0 is the state before training."""

    number: int
    steps: int  # in this epoch
    seconds: float  # of this epoch, device-synchronised, without compilation
    setup_seconds: float  # compilation and initialisation, before epoch 1
    losses: np.ndarray  # (restarts, steps), −ELBO estimates in nats per datum; nan where the step was skipped
    params: list[dict[str, np.ndarray]]  # constrained, one a restart
    freeze: Callable[[], Frozen]  # the state after it; call it before the next epoch
    rollbacks: tuple[int, ...] = ()  # of each restart so far: how often it went back to its last good state

    @property
    def skipped(self) -> int:
        """Steps of this epoch, in all restarts, whose loss or gradient was not finite: they moved nothing."""
        return int((~np.isfinite(self.losses)).sum())
