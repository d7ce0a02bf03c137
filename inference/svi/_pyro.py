"""Training with Pyro: eager steps with PyTorch's fused Adam, the data stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from pyro import poutine

from .._pyro import Parameters, array, beneath, nodes, optimiser_state, parameters, restore_optimiser, to_numpy
from ..checks import check_init
from ..estimators import Spec
from ..estimators._pyro import EstimatorELBO, elbo_rows, make
from ..identity import check_shapes
from .epoch import Epoch, Frozen
from .finite import is_not_finite
from .nonfinite import Failure, Guard, NonFinite, first_bad, guard_of, judged
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
    """One restart: its parameters, optimisers, controls and random state, and what is remembered of it."""

    def __init__(
        self, model: Any, guide: Any, data: tuple, elbo: Any, schedule: Schedule, lr: float, seed: int, batch: int, init: Any
    ) -> None:
        self.model, self.guide, self.data, self.batch, self.lr = model, guide, data, batch, lr
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
        self.guard, self.good = Guard(), self.freeze()

    def epoch(self, dynamic: bool) -> torch.Tensor:
        """One pass over the data in a new order; a last incomplete minibatch is left out. Returns the losses."""
        with self.random():
            order = self._order()
            return torch.stack([self._move(self._rows(index, dynamic)) for index in order])

    def _order(self) -> torch.Tensor:
        total = len(self.data[0])
        return torch.randperm(total)[: total // self.batch * self.batch].reshape(-1, self.batch)

    def _rows(self, index: torch.Tensor, dynamic: bool) -> tuple:
        rows = tuple(x[index] for x in self.data)
        if dynamic:  # 2.5 times as fast as torch.bernoulli
            rows = ((torch.rand_like(rows[0]) < rows[0]).to(rows[0].dtype), *rows[1:])
        return rows

    def _move(self, rows: tuple) -> torch.Tensor:
        """One step; nan if its loss or gradient was not finite, and then nothing has moved."""
        total, worst = len(self.data[0]), None
        beta, loss = self.schedule.weight(self.step, total // self.batch), torch.zeros(())
        for leaves, optimiser in zip(self.groups, self.optimisers, strict=True):
            optimiser.zero_grad(set_to_none=True)
            try:
                params = self.shape.constrain(self.leaves)
                loss, control = self.elbo.evaluate(
                    params, self.control, self.model, self.guide, rows, {}, beta=beta)  # fmt: skip
                loss = loss / total
                loss.backward(inputs=leaves if len(self.groups) > 1 else None)
                slopes = [leaf.grad for leaf in leaves if leaf.grad is not None]
                largest = torch._foreach_norm(slopes, torch.inf)  # pyright: ignore[reportPrivateImportUsage]
                found = torch.stack([loss.detach(), *largest])
                found[1:].square_()  # Adam keeps squares, and an infinite one for good
                fine = bool(torch.isfinite(found).all())
            except Exception as error:  # PyTorch checks where JAX returns nan
                if not is_not_finite(error):
                    raise
                fine = False
            if not fine:
                worst = torch.full((), torch.nan)
                continue
            self.control = control
            optimiser.step()
        self.step += 1
        return loss.detach() if worst is None else worst

    def snapshot(self) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return to_numpy(self.shape.constrain(self.leaves))

    def freeze(self) -> Frozen:
        """The whole state as arrays."""
        tensors: dict[str, Any] = {f"leaves/{name}": leaf for name, leaf in self.leaves.items()}
        tensors |= {f"control/{name}/{i}": v for name, pair in self.control.items() for i, v in enumerate(pair)}
        tensors |= {"random/cpu": self.random.cpu, **{f"random/cuda/{i}": v for i, v in enumerate(self.random.cuda)}}
        tensors = {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
        settings = []
        for i, optimiser in enumerate(self.optimisers):
            moments, groups = optimiser_state(optimiser)
            tensors |= {f"optimisers/{i}/{name}": value for name, value in moments.items()}
            settings.append(groups)
        return tensors, {"step": self.step, "optimisers": settings}

    @torch.no_grad()
    def thaw(self, state: Frozen) -> None:
        """The inverse of `freeze`, of a run of the same training."""
        tensors, facts = state
        shapes = {f"leaves/{name}": tuple(leaf.shape) for name, leaf in self.leaves.items()}
        shapes |= {f"control/{name}/{i}": tuple(v.shape) for name, pair in self.control.items() for i, v in enumerate(pair)}
        check_shapes(tensors, shapes)
        for name, leaf in self.leaves.items():  # the optimisers hold these very tensors
            leaf.copy_(torch.as_tensor(tensors[f"leaves/{name}"]))
        for i, (optimiser, groups) in enumerate(zip(self.optimisers, facts["optimisers"], strict=True)):
            # Of its settings, training changes the step size alone.
            settings = [{"lr": float(kept["lr"])} for kept in groups]
            restore_optimiser(optimiser, beneath(f"optimisers/{i}", tensors), settings)
        self.control = {
            name: type(pair)(torch.as_tensor(tensors[f"control/{name}/{i}"]).to(v) for i, v in enumerate(pair))
            for name, pair in self.control.items()
        }
        self.random.cpu = torch.as_tensor(tensors["random/cpu"]).clone()
        self.random.cuda = [torch.as_tensor(v).clone() for _, v in sorted(beneath("random/cuda", tensors).items())]
        with self.random():  # refuses a state that torch cannot take
            self.step = int(facts["step"])

    def returned(self) -> None:
        """Back to the last good state, its step size scaled."""
        self.thaw(self.good)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.lr * self.guard.scale

    def located(self, first: Frozen, losses: np.ndarray, number: int, restart: int, dynamic: bool) -> Failure:
        """The first step that was not finite of the epoch that began at `first`, and the first site there that is not."""
        step = int(np.argmin(np.isfinite(losses)))
        self.thaw(first)
        with self.random():
            order = self._order()
            for index in order[:step]:
                self._move(self._rows(index, dynamic))
            rows, kept = self._rows(order[step], dynamic), torch.get_rng_state()
            params = {name: value.detach() for name, value in self.shape.constrain(self.leaves).items()}
            site, what = first_bad(everything(self.model, self.guide, params, self.control, rows, self.elbo))
        tensors = {f"params/{name}": v for name, v in params.items()} | {f"rows/{i}": x for i, x in enumerate(rows)}
        tensors |= {f"control/{name}/{i}": v for name, pair in self.control.items() for i, v in enumerate(pair)}
        return Failure(number, step + 1, restart, order[step].cpu().numpy(), site, what, self.guard.rollbacks,
                       to_numpy({**tensors, "random": kept}), {})  # fmt: skip


def everything(
    model: Any, guide: Any, params: Mapping[str, Any], control: Mapping[str, Any], rows: tuple, elbo: Any
) -> Iterator[tuple[str, str, Any]]:
    """Of one step all that may not be finite, in the order of its computation: name, what it is, values."""
    for i, x in enumerate(rows):
        yield ("x" if i == 0 else f"input {i}"), "the input", x.cpu()
    yield from ((name, "the parameter", value.cpu()) for name, value in params.items())
    found: list[tuple[str, str, Any]] = []
    kept = torch.get_rng_state()
    try:
        with torch.no_grad(), Parameters(params):
            guide_trace = poutine.trace(guide).get_trace(*rows)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*rows)
        for trace, side in ((guide_trace, "log q"), (model_trace, "log p")):
            for name, site in nodes(trace):
                if site["type"] == "sample" and isinstance(site["value"], torch.Tensor):
                    found.append((name, "its value", site["value"].detach().cpu()))
                    found.append((name, side, site["fn"].log_prob(site["value"]).detach().cpu()))
    except Exception as error:
        if not is_not_finite(error):
            raise
    yield from found
    leaves = {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in params.items()}
    torch.set_rng_state(kept)  # the draws of the step
    try:
        loss, _ = elbo.evaluate(leaves, control, model, guide, rows, {})
        slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except Exception as error:
        if not is_not_finite(error):
            raise
        return
    for name, slope in zip(leaves, slopes, strict=True):
        if slope is not None:
            yield name, "the gradient", slope.cpu()


def again(model: Any, guide: Any, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any], elbo: Any) -> Any:
    """`everything` of a failed step as its bundle holds it, and last its loss."""
    params = {name: torch.as_tensor(value) for name, value in beneath("params", tensors).items()}
    held = beneath("control", tensors)
    names = dict.fromkeys(name.split("/")[0] for name in held)
    control = {name: tuple(torch.as_tensor(held[f"{name}/{i}"]) for i in range(2)) for name in names}
    inputs = beneath("rows", tensors)
    rows = tuple(torch.as_tensor(inputs[str(i)]) for i in range(len(inputs)))
    torch.set_rng_state(torch.as_tensor(tensors["random"]).clone())
    yield from everything(model, guide, params, control, rows, elbo)
    torch.set_rng_state(torch.as_tensor(tensors["random"]).clone())
    try:
        yield "", "the loss", elbo.evaluate(params, control, model, guide, rows, {})[0].detach()
    except Exception as error:
        if not is_not_finite(error):
            raise
        yield "", "the loss", torch.full((), torch.nan)


def epochs(
    model: Any, guide: Any, data: tuple, *, estimator: Spec, num_epochs: int, batch: int, lr: float, seeds: tuple[int, ...],
    dynamic: bool, init: tuple[Mapping[str, Any] | None, ...], bound: str, num_particles: int, schedule: Schedule,
    saved: Frozen | None = None, done: int = 0,
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed in turn; one `Epoch` a pass over the data.

    `saved` is what `freeze` gave after epoch `done`, from which training goes on.
    """
    began, data = perf_counter(), tuple(map(array, data))

    def run(seed: int, own: Any) -> Run:
        elbo = make(estimator, bound=bound, num_particles=num_particles)
        return Run(model, guide, data, elbo, schedule, lr, seed, batch, own)

    runs = [run(seed, own) for seed, own in zip(seeds, init, strict=True)]
    if saved is not None:
        for i, (one, facts) in enumerate(zip(runs, saved[1]["runs"], strict=True)):
            one.thaw((beneath(f"{i}/good", saved[0]), facts["good"]))
            one.guard, one.good = guard_of(facts["guard"]), one.freeze()
            one.thaw((beneath(f"{i}/now", saved[0]), facts["now"]))
    setup = perf_counter() - began

    def freeze() -> Frozen:
        tensors, facts = {}, []
        for i, one in enumerate(runs):
            (now, told), (good, before) = one.freeze(), one.good
            tensors |= {f"{i}/now/{n}": v for n, v in now.items()} | {f"{i}/good/{n}": v for n, v in good.items()}
            facts.append({"now": told, "good": before, "guard": list(one.guard)})
        return tensors, {"runs": facts}

    def told(number: int, seconds: float, losses: np.ndarray) -> Epoch:
        params, rollbacks = [one.snapshot() for one in runs], tuple(one.guard.rollbacks for one in runs)
        return Epoch(number, losses.shape[1], seconds, setup, losses, params, freeze, rollbacks)

    yield told(done, 0.0, np.zeros((len(seeds), 0)))
    for number in range(done + 1, num_epochs + 1):
        first = [one.freeze() for one in runs]
        began = perf_counter()
        found = torch.stack([one.epoch(dynamic) for one in runs])
        synchronise()
        seconds, losses = perf_counter() - began, found.double().cpu().numpy()
        for i, (one, row) in enumerate(zip(runs, losses, strict=True)):
            one.good = first[i] if np.isfinite(row).any() else one.good
            one.guard, what = judged(one.guard, row, one.snapshot(), number == num_epochs)
            if what == "stop":
                raise NonFinite(one.located(first[i], row, number, i, dynamic))
            if what == "back":
                one.returned()
        yield told(number, seconds, losses)


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
