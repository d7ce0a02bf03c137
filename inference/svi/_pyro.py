"""Training with Pyro: eager steps with PyTorch's fused Adam, the data stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch

from .._pyro import array, parameters, to_numpy
from ..checks import check_init
from ..estimators import Spec
from ..estimators._pyro import EstimatorELBO, elbo_rows, make
from .epoch import Epoch
from .schedule import Schedule


def synchronise() -> None:
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()


class RandomState:
    """A random state of one's own: inside the context torch draws from it, outside nothing has moved."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._save()

    def _save(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.set_rng_state(self.cpu)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            yield
            self._save()


class Run:
    """One restart: its parameters, optimisers, controls and random state."""

    def __init__(
        self, model: Any, guide: Any, data: tuple, elbo: Any, schedule: Schedule, lr: float, seed: int, batch: int, init: Any
    ) -> None:
        self.model, self.guide, self.data, self.batch = model, guide, data, batch
        self.elbo, self.schedule, self.random, self.step = elbo, schedule, RandomState(seed), 0
        example = tuple(x[:batch] for x in data)
        values, self.shape = parameters(model, guide, example, {}, seed)
        if init is not None:
            check_init(init, {name: tuple(v.shape) for name, v in values.items()})
            values = {name: array(init[name]) for name in values}
        self.leaves = {name: v.requires_grad_() for name, v in self.shape.free(values).items()}
        groups = schedule.groups(values, self.shape.model_names)
        for name in set(values) - {name for names in groups for name in names}:
            self.leaves[name].requires_grad_(False)
        self.groups = [[self.leaves[name] for name in names] for names in groups]
        self.optimisers = [torch.optim.Adam(leaves, lr=lr, fused=True) for leaves in self.groups]
        self.control = {}
        if isinstance(self.elbo, EstimatorELBO):
            self.control = self.elbo.init_state(self.elbo.plan(model, guide, example, {}, values)[0])

    def epoch(self, dynamic: bool) -> torch.Tensor:
        """One pass over the data in a new order; a last incomplete minibatch is left out. Returns the losses."""
        total, losses = len(self.data[0]), []
        with self.random():
            order = torch.randperm(total)
            for start in range(0, total - self.batch + 1, self.batch):
                index = order[start : start + self.batch]
                rows = tuple(x[index] for x in self.data)
                if dynamic:  # 2.5 times as fast as torch.bernoulli
                    rows = ((torch.rand_like(rows[0]) < rows[0]).to(rows[0].dtype), *rows[1:])
                losses.append(self._move(rows, total))
        return torch.stack(losses)

    def _move(self, rows: tuple, total: int) -> torch.Tensor:
        beta, loss = self.schedule.weight(self.step, total // self.batch), torch.zeros(())
        for leaves, optimiser in zip(self.groups, self.optimisers, strict=True):
            params = self.shape.constrain(self.leaves)
            loss, self.control = self.elbo.evaluate(
                params, self.control, self.model, self.guide, rows, {}, beta=beta)  # fmt: skip
            loss = loss / total
            optimiser.zero_grad(set_to_none=True)
            loss.backward(inputs=leaves if len(self.groups) > 1 else None)
            optimiser.step()
        self.step += 1
        return loss.detach()

    def snapshot(self) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return to_numpy(self.shape.constrain(self.leaves))


def epochs(
    model: Any, guide: Any, data: tuple, *, estimator: Spec, num_epochs: int, batch: int, lr: float, seeds: tuple[int, ...],
    dynamic: bool, init: tuple[Mapping[str, Any] | None, ...], bound: str, num_particles: int, schedule: Schedule,
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed in turn; one `Epoch` a pass over the data."""
    began, data = perf_counter(), tuple(map(array, data))

    def run(seed: int, own: Any) -> Run:
        elbo = make(estimator, bound=bound, num_particles=num_particles)
        return Run(model, guide, data, elbo, schedule, lr, seed, batch, own)

    runs = [run(seed, own) for seed, own in zip(seeds, init, strict=True)]
    setup = perf_counter() - began
    yield Epoch(0, 0, 0.0, setup, np.zeros((len(seeds), 0)), [run.snapshot() for run in runs])
    for number in range(1, num_epochs + 1):
        began = perf_counter()
        losses = torch.stack([run.epoch(dynamic) for run in runs])
        synchronise()
        seconds = perf_counter() - began
        yield Epoch(number, losses.shape[1], seconds, setup, losses.double().cpu().numpy(), [run.snapshot() for run in runs])


def heldout(
    params: Mapping[str, Any], model: Any, guide: Any, data: tuple[np.ndarray, ...], seed: int, chunk: int = 1000
) -> np.ndarray | None:
    """One-sample ELBO of each row, nats; None if the model has no plate over the data."""
    params = {name: array(value) for name, value in params.items()}
    values = []
    with RandomState(seed)():
        for start in range(0, len(data[0]), chunk):
            rows = elbo_rows(params, model, guide, tuple(array(x[start : start + chunk]) for x in data), {})
            if rows is None:
                return None
            values.append(rows.double().cpu().numpy())
    return np.concatenate(values)
