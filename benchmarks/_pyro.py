"""What benchmarks of training need of PyTorch's optimisers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def descent(lr: float) -> Any:
    """Plain gradient descent, as a function of parameters that makes the optimiser."""
    return partial(torch.optim.SGD, lr=lr)
