"""Our kernels as Pyro's `MCMCKernel`: for its `MCMC`, with many chains side by side in every site."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.poutine.messenger import Messenger

from ppl_models.energy import is_gaussian
from ppl_models.language import language

from .. import _pyro as words
from ..step_size import Stepped, gain, nudged
from ..tempering import check_plain


@dataclass(frozen=True)
class EnergyModel:
    """A declaration of an energy as a Pyro model of its parameters, which are passed in: the log density is exactly −E."""

    declaration: Any

    def __call__(self, params: Mapping[str, Any]) -> None:
        with Given(params):
            self.declaration.model(language("pyro"))


class Given(Messenger):
    """Parameters by name are those passed in; the store is left alone."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__()
        self.params = params

    def _pyro_param(self, msg: Any) -> None:
        msg["value"], msg["done"] = self.params[msg["name"]], True


class EnergyKernel(MCMCKernel):
    """`kernel`, one of `inference.kernels`, at inverse temperature `beta`.

        MCMC(EnergyKernel(BlockGibbs(RBM(784, 500)), chains=64), num_samples=100, warmup_steps=100).run(params)

    Pyro's chains are processes; `chains` here run side by side on one device, as the first axis of every site of the draws:
    (draws, chains, size). `seed` decides everything random. The step size of a Langevin kernel that has none is adapted in
    the warm-up, by all chains together.

    Raises:
        InputError: The kernel is one of several temperatures.
    """

    def __init__(self, kernel: Any, beta: float = 1.0, chains: int = 1, seed: int = 0) -> None:
        self.kernel, self.beta, self.chains = check_plain(kernel), beta, chains
        self.transforms: dict[str, Any] = {}
        self.model = None
        self._key = words.seeded(seed)
        self._params: Mapping[str, Any] = {}
        self._start: dict[str, Any] = {}
        self._taken: list[Any] = []
        self._warmup, self._step_size = 0, None

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """`args` is the dictionary of parameters that `MCMC.run` was given."""
        (self._params,) = args
        some = next(iter(self._params.values()))
        self._taken, self._warmup, self._step_size = [], warmup_steps, None
        if not self._start:
            for name, size in self.kernel.model.sites.items():
                blank = torch.zeros(self.chains, size, dtype=some.dtype, device=some.device)
                if name == "x" and is_gaussian(self.kernel.model):
                    self._key, noise = words.normal(self._key, blank)
                    self._start[name] = self._params["x.bias"] + self._params["x.scale"] * noise
                else:
                    self._key, u = words.uniform(self._key, blank)
                    self._start[name] = (u < 0.5).to(some.dtype)

    @property
    def initial_params(self) -> dict[str, Any]:
        return self._start

    @initial_params.setter
    def initial_params(self, params: Mapping[str, Any]) -> None:
        self._start = dict(params)

    def sample(self, params: Mapping[str, Any]) -> OrderedDict[str, Any]:
        state = self.kernel.init(words, self._key, params)
        if isinstance(state, Stepped) and self._step_size is not None:
            state = state._replace(step_size=self._step_size)
        with torch.no_grad():
            after, info = self.kernel.step(words, state, self._params, self.beta)
        if isinstance(after, Stepped):
            i = len(self._taken)
            self._step_size = nudged(words, after.step_size, info.accept_prob, gain(i) if i < self._warmup else 0.0)
        self._key = after.rng_key
        self._taken.append(info.accept_prob.mean())
        return OrderedDict(after.values)

    def energy(self, values: Mapping[str, Any]) -> Any:
        """β E, nats, shape of the leading dims."""
        return self.beta * self.kernel.model.energy(words, self._params, values)

    def logging(self) -> OrderedDict[str, str]:
        return OrderedDict({"acc. prob": f"{self._taken[-1].item():.3f}"} if self._taken else {})

    def diagnostics(self) -> dict[str, Any]:
        taken = torch.stack(self._taken).mean().item() if self._taken else None
        return {"acceptance rate": taken}
