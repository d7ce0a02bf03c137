"""Our kernels as NumPyro's `MCMCKernel`: for `MCMC`, all its chain methods, and as a block of `numpyro.infer.Gibbs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as xp
from jax import random
from numpyro import handlers
from numpyro.infer.gibbs import GIBBS_SITES_KWARG
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from ppl_models.energy import is_gaussian
from ppl_models.language import language

from .. import _numpyro as words
from ..step_size import Stepped, gain, nudged
from ..tempering import check_plain


class EnergyState(NamedTuple):
    """`z` the sites by name, `potential_energy` β E of them with those they are conditioned on, nats (ArviZ calls it `lp`).

    `i` counts the steps and `warmup` those of the pilot, after which `step_size` stays (0 of kernels that have none).
    """

    z: Any
    potential_energy: Any
    accept_prob: Any
    rng_key: Any
    i: Any
    warmup: Any
    step_size: Any


@dataclass(frozen=True)
class EnergyModel:
    """A declaration of an energy as a NumPyro model of its parameters, which are passed in: the log density is exactly −E."""

    declaration: Any

    def __call__(self, params: Mapping[str, Any]) -> None:
        handlers.substitute(self.declaration.model, data=dict(params))(language("numpyro"))


class EnergyKernel(MCMCKernel):
    """`kernel`, one of `inference.kernels`, at inverse temperature `beta`.

        MCMC(EnergyKernel(BlockGibbs(RBM(784, 500))), num_warmup=100, num_samples=100).run(random.key(0), params)

    Vectorised chains take one batched step of all. Sites that the kernel clamps, or that `run` is given as
    `_gibbs_sites={"x": …}`, are conditions and no part of `z`; inside `numpyro.infer.Gibbs` these are the other blocks'.
    The step size of a Langevin kernel that has none is adapted in warm-up, by all vectorised chains together.

    Raises:
        InputError: The kernel is one of several temperatures.
    """

    sample_field = "z"  # pyright: ignore[reportAssignmentType]

    def __init__(self, kernel: Any, beta: float = 1.0) -> None:
        self.kernel, self.beta = check_plain(kernel), beta
        self.model = EnergyModel(kernel.model)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites this kernel moves."""
        clamped = getattr(self.kernel, "clamp", ())
        return tuple(name for name in self.kernel.model.sites if name not in clamped)

    def init(
        self, rng_key: Any, num_warmup: int, init_params: Any, model_args: tuple[Any, ...], model_kwargs: dict[str, Any] | None
    ) -> EnergyState:
        """Fair coins, of real-valued sites draws of their base, or `init_params`; a batch of keys makes a batch of chains."""
        chains = () if is_prng_key(rng_key) else rng_key.shape[:1]
        use, rng_key = _split(rng_key, chains)
        dtype = next(iter(model_args[0].values())).dtype
        sizes = {name: self.kernel.model.sites[name] for name in self.sites}
        keys = dict(zip(sizes, random.split(use, len(sizes)), strict=True))
        drawn = {name: random.bernoulli(keys[name], 0.5, (*chains, size)).astype(dtype) for name, size in sizes.items()}
        if is_gaussian(self.kernel.model) and "x" in sizes:
            noise = random.normal(keys["x"], (*chains, sizes["x"]), dtype)
            drawn["x"] = model_args[0]["x.bias"] + model_args[0]["x.scale"] * noise
        z = drawn | {name: xp.asarray(value, dtype) for name, value in (init_params or {}).items()}
        size = getattr(self.kernel.init(words, use, z), "step_size", 0.0)
        count = xp.zeros(chains, int)
        told = self._told(z, xp.ones(chains, dtype), model_args, model_kwargs)
        return EnergyState(z, *told, rng_key, count, count + num_warmup, xp.full(chains, size, dtype))

    def sample(self, state: EnergyState, model_args: tuple[Any, ...], model_kwargs: dict[str, Any] | None) -> EnergyState:
        chains = () if is_prng_key(state.rng_key) else state.rng_key.shape[:1]
        use, rng_key = _split(state.rng_key, chains)
        values = self._batched(self._whole(state.z, model_kwargs), chains)
        start, size = self.kernel.init(words, use, values), state.step_size
        if isinstance(start, Stepped):
            after, info = self.kernel.step(words, start._replace(step_size=size.mean()), model_args[0], self.beta)
            moved = xp.where(state.i < state.warmup, gain(state.i), 0.0)
            size = nudged(words, size, info.accept_prob, moved)
        else:
            after, info = self.kernel.step(words, start, model_args[0], self.beta)
        z = {name: after.values[name] if chains else after.values[name][0] for name in state.z}
        accept = info.accept_prob if chains else info.accept_prob[0]
        told = self._told(z, accept, model_args, model_kwargs)
        return EnergyState(z, *told, rng_key, state.i + 1, state.warmup, size)

    def refresh(self, state: EnergyState, model_args: tuple[Any, ...], model_kwargs: dict[str, Any] | None) -> EnergyState:
        """Nothing but the energy depends on what other blocks have drawn."""
        potential, accept = self._told(state.z, state.accept_prob, model_args, model_kwargs)
        return state._replace(potential_energy=potential, accept_prob=accept)

    def wrap_model(self, wrapper: Callable[[Any], Any]) -> EnergyKernel:
        """Itself: the energy reads the other blocks' values from the keyword arguments."""
        return self

    def get_diagnostics_str(self, state: EnergyState) -> str:
        return f"mean energy {xp.mean(state.potential_energy):.3g}, acceptance {xp.mean(state.accept_prob):.2f}"

    def _whole(self, z: Mapping[str, Any], model_kwargs: dict[str, Any] | None) -> dict[str, Any]:
        """All sites: those drawn, and those given."""
        return {**(model_kwargs or {}).get(GIBBS_SITES_KWARG, {}), **z}

    def _batched(self, values: Mapping[str, Any], chains: tuple[int, ...]) -> dict[str, Any]:
        return {name: xp.broadcast_to(xp.atleast_2d(v), (*(chains or (1,)), v.shape[-1])) for name, v in values.items()}

    def _told(self, z: Any, accept: Any, model_args: tuple[Any, ...], model_kwargs: dict[str, Any] | None) -> tuple[Any, Any]:
        return self.beta * self.kernel.model.energy(words, model_args[0], self._whole(z, model_kwargs)), accept


def _split(rng_key: Any, chains: tuple[int, ...]) -> tuple[Any, Any]:
    """A key to use now, and those of the next step, one for each chain."""
    use, after = random.split(rng_key[0] if chains else rng_key)
    return use, random.split(after, chains[0]) if chains else after
