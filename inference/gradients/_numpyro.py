"""Raw gradients on NumPyro: many at once by `vmap`, one at a time as a training step computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
from jax import lax, random
from numpyro import handlers

from ppl_models.language import Program

from .._numpyro import Coordinates, array, coordinates, set_up
from ..estimators import Spec, evaluations
from ..estimators._numpyro import EstimatorELBO, make
from .blocks import Blocks


class Gradients:
    """Gradients of the mean-per-datum ELBO in unconstrained coordinates, at any parameters, from one compiled program."""

    def __init__(
        self, model: Any, guide: Any, args: tuple, kwargs: Mapping, estimator: Spec, params: Mapping, num_data: int,
        bound: str = "elbo", num_particles: int = 1,
    ) -> None:  # fmt: skip
        self.elbo, self.args = make(estimator, bound=bound, num_particles=num_particles), jax.tree.map(array, args)
        set_up(guide, self.args, kwargs)
        self.shape: Coordinates = coordinates(model, guide, self.args, kwargs)
        self.blocks = Blocks.of({name: np.shape(v) for name, v in self.free(params).items()})
        self.evaluations = 1
        self._control: dict[str, Any] = {}
        if isinstance(self.elbo, EstimatorELBO):
            plan, inspection = self.elbo.plan(model, guide, self.args, kwargs, {n: array(v) for n, v in params.items()})
            self.evaluations = evaluations(plan, inspection.latents, num_particles)
            self._control = self.elbo.init_state(plan)

        def loss(free: Any, control: Any, rng_key: Any, args: tuple) -> Any:
            value, after = self.elbo.evaluate(rng_key, self.shape.constrain(free), control, model, guide, args, dict(kwargs))
            return -value / num_data, after

        def gradient(free: Any, control: Any, rng_key: Any, args: tuple) -> Any:
            out = jax.grad(loss, has_aux=True)(free, control, rng_key, args)[0]
            return xp.concatenate([out[name].ravel() for name in self.blocks.slices])

        def settle(free: Any, control: Any, rng_key: Any, args: tuple) -> Any:
            return lax.scan(lambda c, k: (loss(free, c, k, args)[1], None), control, random.split(rng_key, 200))[0]

        jax.eval_shape(gradient, self.free(params), self._control, random.key(0), self.args)  # refuses before compiling
        self._one, self._many = jax.jit(gradient), jax.jit(jax.vmap(gradient, in_axes=(None, None, 0, None)))
        self._settle = jax.jit(settle)

    def free(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return self.shape.free({name: array(params[name]) for name in sorted(params)})

    def control(self, params: Mapping[str, Any], seed: int) -> Any:
        """The controls' state after 200 runs at these parameters; frozen from then on."""
        return self._settle(self.free(params), self._control, random.key(seed), self.args) if self._control else {}

    def many(self, params: Mapping[str, Any], control: Any, count: int, seed: int) -> np.ndarray:
        """`count` independent gradients, (count, parameters)."""
        keys = random.split(random.key(seed), count)
        return np.asarray(jax.block_until_ready(self._many(self.free(params), control, keys, self.args)))

    def one(self, params: Mapping[str, Any], control: Any) -> Any:
        """A function of nothing that computes one gradient and waits for it; for timing."""
        free, rng_key = self.free(params), random.key(0)
        return lambda: jax.block_until_ready(self._one(free, control, rng_key, self.args))


def evidence_gradient(declaration: Any, params: Mapping[str, Any], shape: Coordinates, blocks: Blocks, args: Any) -> np.ndarray:
    """The gradient of the mean log p(x) of the rows `args`, unconstrained coordinates, by differentiating its closed form."""
    program = Program(declaration, "log_evidence", "numpyro")

    def mean(free: Any) -> Any:
        return xp.mean(xp.asarray(handlers.substitute(program, data=shape.constrain(free))(*map(array, args))))

    out = jax.grad(mean)(shape.free({n: array(v) for n, v in params.items()}))
    return np.concatenate([np.asarray(out[name], np.float64).ravel() for name in blocks.slices])
