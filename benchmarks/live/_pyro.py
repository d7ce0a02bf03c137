"""Those of PyTorch."""

from __future__ import annotations

import gc
import warnings

import torch


def live() -> tuple[int, int]:
    """Number and bytes of all tensors that Python knows, each storage counted once."""
    gc.collect()
    with warnings.catch_warnings():  # some objects warn when they are looked at
        warnings.simplefilter("ignore")
        found = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor or type(thing) is torch.nn.Parameter]
    return len(found), sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in found}.values())
