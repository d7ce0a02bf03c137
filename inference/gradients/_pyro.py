"""Raw gradients on Pyro: many at once by `torch.func.vmap`, one at a time as a training step computes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ppl_models.language import Program

from .._pyro import Coordinates, Parameters, array, coordinates
from ..estimators import Spec, evaluations
from ..estimators._pyro import EstimatorELBO, make
from ..svi._pyro import RandomState, synchronise
from .blocks import Blocks


@contextmanager
def batched_draws() -> Iterator[None]:
    """Let draws be batched: for normals torch fills a buffer in place, for one-hot ones it looks at values; `vmap` refuses."""
    from torch.distributions import multivariate_normal, normal
    from torch.nn import functional

    def draw(shape: Any, dtype: Any, device: Any) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device=device)

    def one_hot(indices: torch.Tensor, num_classes: int) -> torch.Tensor:
        return (indices[..., None] == torch.arange(num_classes, device=indices.device)).long()

    before = normal._standard_normal, functional.one_hot  # pyright: ignore[reportPrivateImportUsage]
    modules = (normal, multivariate_normal)
    for module in modules:
        module._standard_normal = draw  # type: ignore[attr-defined]
    functional.one_hot = one_hot
    try:
        yield
    finally:
        for module in modules:
            module._standard_normal = before[0]  # type: ignore[attr-defined]
        functional.one_hot = before[1]


class Gradients:
    """Gradients of the mean-per-datum ELBO in unconstrained coordinates, at any parameters."""

    def __init__(
        self, model: Any, guide: Any, args: tuple, kwargs: Mapping, estimator: Spec, params: Mapping, num_data: int,
        bound: str = "elbo", num_particles: int = 1,
    ) -> None:  # fmt: skip
        self.model, self.guide, self.kwargs, self.num_data = model, guide, dict(kwargs), num_data
        self.elbo, self.args = make(estimator, bound=bound, num_particles=num_particles), tuple(array(a) for a in args)
        self.shape: Coordinates = coordinates(model, guide, self.args, kwargs)
        self.blocks = Blocks.of({name: tuple(v.shape) for name, v in self.free(params).items()})
        self.evaluations = 1
        self._control: dict[str, Any] = {}
        self.vectorised = isinstance(self.elbo, EstimatorELBO)
        if isinstance(self.elbo, EstimatorELBO):
            plan, inspection = self.elbo.plan(model, guide, self.args, kwargs, {n: array(v) for n, v in params.items()})
            self.evaluations = evaluations(plan, inspection.latents, num_particles)
            self._control = self.elbo.init_state(plan)
        with torch.random.fork_rng():
            self.one(params, self._control)()  # refuses before anything is measured

    def free(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return self.shape.free({name: array(params[name]) for name in sorted(params)})

    def _loss(self, free: Mapping[str, Any], control: Any) -> tuple[Any, Any]:
        params = self.shape.constrain(free)
        value, after = self.elbo.evaluate(params, control, self.model, self.guide, self.args, self.kwargs)
        return -value / self.num_data, after

    def control(self, params: Mapping[str, Any], seed: int) -> Any:
        """The controls' state after 200 runs at these parameters; frozen from then on."""
        control, free = self._control, self.free(params)
        with RandomState(seed)(), torch.no_grad():
            for _ in range(200 if control else 0):
                control = self._loss(free, control)[1]
        return control

    def many(self, params: Mapping[str, Any], control: Any, count: int, seed: int) -> np.ndarray:
        """`count` independent gradients, (count, parameters)."""
        with RandomState(seed)():
            if not self.vectorised:  # the libraries' own ELBOs call .item() and backward, which vmap refuses
                one = self.one(params, control)
                return np.stack([one().cpu().numpy() for _ in range(count)])
            free = self.free(params)

            def gradient(_: Any) -> Any:
                out = torch.func.grad(lambda f: self._loss(f, control)[0])(free)
                return torch.cat([out[name].reshape(-1) for name in self.blocks.slices])

            with batched_draws():
                out = torch.func.vmap(gradient, randomness="different")(torch.zeros(count)).cpu().numpy()
            return out

    def one(self, params: Mapping[str, Any], control: Any) -> Any:
        """A function of nothing that computes one gradient and waits for it; for timing."""
        leaves = {name: v.requires_grad_() for name, v in self.free(params).items()}

        def gradient() -> torch.Tensor:
            found = torch.autograd.grad(self._loss(leaves, control)[0], list(leaves.values()), allow_unused=True)
            flat = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(leaves.items(), found, strict=True)}
            out = torch.cat([flat[name].reshape(-1) for name in self.blocks.slices])
            synchronise()
            return out

        return gradient


def evidence_gradient(declaration: Any, params: Mapping[str, Any], shape: Coordinates, blocks: Blocks, args: Any) -> np.ndarray:
    """The gradient of the mean log p(x) of the rows `args`, unconstrained coordinates, by differentiating its closed form."""
    free = {name: v.requires_grad_() for name, v in shape.free({n: array(v) for n, v in params.items()}).items()}
    with Parameters(shape.constrain(free)):
        value = Program(declaration, "log_evidence", "pyro")(*map(array, args)).mean()
    found = torch.autograd.grad(value, list(free.values()), allow_unused=True)
    flat = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(free.items(), found, strict=True)}
    return np.concatenate([flat[name].double().cpu().numpy().ravel() for name in blocks.slices])
