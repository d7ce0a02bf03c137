"""What one pass over the data reports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Epoch(NamedTuple):
    """Epoch 0 is the state before training."""

    number: int
    steps: int  # in this epoch
    seconds: float  # of this epoch, device-synchronised, without compilation
    setup_seconds: float  # compilation and initialisation, before epoch 1
    losses: np.ndarray  # (restarts, steps), −ELBO estimates in nats per datum
    params: list[dict[str, np.ndarray]]  # constrained, one a restart
