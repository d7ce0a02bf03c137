"""Training an energy with PyTorch: eager updates, the chains and the data on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

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
        return Carry(params, carry.optimiser, chains, rng_key), {name: torch.stack(v) for name, v in told.items()}

    return torch.no_grad()(run)
