"""Training an energy with PyTorch: eager updates, the chains and the data on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from .._pyro import beneath, leaves, optimiser_state, read, restore_optimiser
from ..identity import check_shapes
from ..kernels import _pyro as words
from .objective import Objective, recentred


class Carry(NamedTuple):
    """All that one update hands to the next; the optimiser moves the parameters in their place."""

    params: Any
    optimiser: Any
    chains: Any  # a state of the kernel; None where none persist
    rng_key: Any


def optimiser(given: Any, lr: float) -> Any:
    """What was given, a function of parameters that makes a torch optimiser, or Adam."""
    return (lambda params: torch.optim.Adam(params, lr=lr, fused=True)) if given is None else given


def start(opt: Any, params: Any, chains: Any, seed: int) -> Carry:
    params = {name: value.clone() for name, value in params.items()}
    return Carry(params, opt(list(params.values())), chains, words.seeded(seed))


def frozen(carry: Carry) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The carry as arrays by path, generators as their states, and the optimiser's settings as it tells them."""
    moments, groups = optimiser_state(carry.optimiser)
    tensors = {
        name: leaf.get_state().numpy() if isinstance(leaf, torch.Generator) else leaf.detach().cpu().numpy().copy()
        for name, leaf in leaves("", carry._replace(optimiser=None)).items()
    }
    return tensors | {f"optimiser/{name}": value for name, value in moments.items()}, {"param_groups": groups}


@torch.no_grad()
def thawed(carry: Carry, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Carry:
    """The inverse of `frozen`; `carry` is the start of the same training, whose parameters are overwritten.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    mine = leaves("", carry._replace(optimiser=None))
    check_shapes(tensors, {n: (v.get_state() if isinstance(v, torch.Generator) else v).shape for n, v in mine.items()})
    for name, value in carry.params.items():  # the optimiser holds these very tensors
        value.copy_(torch.as_tensor(tensors[f"params/{name}"]))
    restore_optimiser(carry.optimiser, beneath("optimiser", tensors), facts["param_groups"])
    rng_key, chains = (read(name, getattr(carry, name), tensors) for name in ("rng_key", "chains"))
    return carry._replace(rng_key=rng_key, chains=chains)


def dense(chains: Any) -> Any:
    """The chains with every array laid out row by row, as one read from a file is: the layout may decide how sums round."""

    def laid(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: laid(part) for name, part in value.items()}
        return value.contiguous() if isinstance(value, torch.Tensor) else value

    return None if chains is None else type(chains)(*map(laid, chains))


def epoch(objective: Objective, opt: Any, batch: int, centring: float) -> Any:
    """(carry, rows) -> (carry, what each step tells)."""

    def run(carry: Carry, rows: Any) -> tuple[Carry, Any]:
        told: dict[str, list[Any]] = {}
        params, _, chains, rng_key = carry
        steps = len(rows) // batch
        order = torch.randperm(len(rows), generator=rng_key, device=rows.device)[: steps * batch].reshape(steps, batch)
        for index in order:
            x = rows[index]
            rng_key, chains, slopes, say = objective.step(words, rng_key, params, chains, x)
            for name, value in params.items():
                value.grad = None if name.endswith(".offset") else slopes[name]
            carry.optimiser.step()
            if centring:
                for name, value in recentred(words, objective.model, params, x, centring).items():
                    params[name].copy_(value)
            chains = chains if objective.persistent else None
            for name, value in say.items():
                told.setdefault(name, []).append(value.detach())
        return Carry(params, carry.optimiser, dense(chains), rng_key), {name: torch.stack(v) for name, v in told.items()}

    return torch.no_grad()(run)
