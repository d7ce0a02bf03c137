"""Our kernels as Pyro's `MCMCKernel`: for its `MCMC`, with many chains side by side in every site."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

from .. import _pyro as words
from ..state import State


class EnergyKernel(MCMCKernel):
    """`kernel`, one of `inference.kernels`, at inverse temperature `beta`.

        MCMC(EnergyKernel(BlockGibbs(RBM(784, 500)), chains=64), num_samples=100, warmup_steps=100).run(params)

    Pyro's chains are processes; `chains` here run side by side on one device, as the first axis of every site of the draws:
    (draws, chains, size). `seed` decides everything random.
    """

    def __init__(self, kernel: Any, beta: float = 1.0, chains: int = 1, seed: int = 0) -> None:
        self.kernel, self.beta, self.chains = kernel, beta, chains
        self.transforms: dict[str, Any] = {}
        self.model = None
        self._key = words.seeded(seed)
        self._params: Mapping[str, Any] = {}
        self._start: dict[str, Any] = {}
        self._taken: list[Any] = []

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """`args` is the dictionary of parameters that `MCMC.run` was given."""
        (self._params,) = args
        some = next(iter(self._params.values()))
        self._taken = []
        if not self._start:
            for name, size in self.kernel.model.sites.items():
                blank = torch.zeros(self.chains, size, dtype=some.dtype, device=some.device)
                self._key, u = words.uniform(self._key, blank)
                self._start[name] = (u < 0.5).to(some.dtype)

    @property
    def initial_params(self) -> dict[str, Any]:
        return self._start

    @initial_params.setter
    def initial_params(self, params: Mapping[str, Any]) -> None:
        self._start = dict(params)

    def sample(self, params: Mapping[str, Any]) -> OrderedDict[str, Any]:
        with torch.no_grad():
            after, info = self.kernel.step(words, State(self._key, dict(params)), self._params, self.beta)
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
