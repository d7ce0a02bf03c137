"""PyTorch's noise drawn on the CPU and moved, so that one run can be repeated on another device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.distributions import multivariate_normal, normal


@contextmanager
def cpu_noise() -> Iterator[None]:
    """Within, the sources of noise that the declarations use draw from the CPU's generator."""
    bernoulli, multinomial, randperm, rand_like = torch.bernoulli, torch.multinomial, torch.randperm, torch.rand_like

    def standard_normal(shape: Any, dtype: Any, device: Any) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device="cpu").to(device)

    def moved(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda x, *args, **kwargs: draw(x.cpu(), *args, **kwargs).to(x.device)

    with (
        patch.object(normal, "_standard_normal", standard_normal),
        patch.object(multivariate_normal, "_standard_normal", standard_normal),
        patch.object(torch, "bernoulli", moved(bernoulli)),
        patch.object(torch, "multinomial", moved(multinomial)),
        patch.object(torch, "rand_like", moved(rand_like)),
        patch.object(torch, "randperm", lambda n: randperm(n, device="cpu").to(torch.get_default_device())),
    ):
        yield
