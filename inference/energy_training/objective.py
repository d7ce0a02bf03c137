"""What training an energy follows: the gradient of E_data[F] − E_model[F], its two phases by the method of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ppl_models import InputError

from ..kernels import ChromaticGibbs, State, Tempering
from ..log_partition.exact import bits, by_name, enumerated, free

Method = Literal["exact", "cd", "pcd", "pseudo-likelihood"]
ENUMERABLE = 20  # units, in every step of exact training


@dataclass(frozen=True)
class Objective:
    """∂ log p(x) / ∂θ = −∂F(x)/∂θ + E_p[∂F/∂θ], the mean over rows; F sums what is independent given the rest.

    `method` says where the second expectation comes from: "exact", all states enumerated; "cd", `sweeps` of `kernel` from
    the rows (biased; Hinton 2002); "pcd", `sweeps` of chains that go on from step to step (Younes 1989; Tieleman 2008), of
    several temperatures if the kernel is `Tempering`. "pseudo-likelihood" follows ∂ Σᵢ log p(xᵢ | the others) instead
    (Besag 1975). Hidden units of the first expectation: summed where they are independent given x, else by `inner` steps of
    mean field (layers) or of Gibbs with x clamped (graphs), which makes the gradient approximate.

    Raises:
        InputError: The method does not apply to the model.
    """

    model: Any
    kernel: Any
    method: Method = "pcd"
    sweeps: int = 1
    inner: int = 10

    def __post_init__(self) -> None:
        model = self.model
        if self.method not in get_args(Method):
            raise InputError(f"expected method {', '.join(get_args(Method))}, got '{self.method}'; choose one of those.")
        if hasattr(model, "top"):
            raise InputError(f"{self.method} needs the hidden units given x, which a net with directed layers does not give; "
                             "use greedy.")  # fmt: skip
        if self.method == "pseudo-likelihood" and len(model.sites) > 1:
            raise InputError("pseudo-likelihood needs every unit visible, but the model has hidden ones; use pcd.")
        if self.method == "exact" and (units := sum(model.sites[name] for name in enumerated(model))) > ENUMERABLE:
            raise InputError(f"exact training enumerates at most {ENUMERABLE} units a step, but here are {units}; use pcd.")

    @property
    def persistent(self) -> bool:
        return self.method == "pcd"

    def step(self, ppl: Any, rng_key: Any, params: Any, chains: Any, x: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """The next key, the chains after their sweeps, −∂ of the objective, and what to tell: nats per datum.

        `params` and the slopes are in the coordinates that training moves in; see `constrained`.
        """
        free_params, params = params, constrained(ppl, params)
        rng_key, positive = self.positive(ppl, rng_key, params, x)
        if self.method in ("cd", "pcd"):
            start = chains if self.persistent else State(rng_key, self.from_rows(ppl, positive, x))
            chains = self.swept(ppl, start._replace(rng_key=rng_key), params)
            rng_key = chains.rng_key
        negative = self.negative(chains)

        def loss(free_params: Any) -> Any:
            params = constrained(ppl, free_params)
            if self.method == "pseudo-likelihood":
                logits = self.model.logits(ppl, self.model.prepared(ppl, params), x)
                return ppl.softplus((1.0 - 2.0 * x) * logits).sum(-1).mean()
            up = free(ppl, self.model, params, positive).mean()
            if self.method == "exact":
                return up + self.log_partition(ppl, params, x)
            return up - free(ppl, self.model, params, negative).mean()

        value, slopes = ppl.value_and_grad(loss, free_params)
        return rng_key, chains, slopes, {"objective": -value}

    def positive(self, ppl: Any, rng_key: Any, params: Any, x: Any) -> tuple[Any, dict[str, Any]]:
        """The rows, with what of their hidden units cannot be summed."""
        model, hidden = self.model, [name for name in self.model.sites if name != "x"]
        if len(hidden) == 0 or (hasattr(model, "colours") and len(hidden) == 1):
            return rng_key, {"x": x}
        if hasattr(model, "colours"):
            return rng_key, mean_field(ppl, model, params, x, self.inner)
        rng_key, u = ppl.uniform(rng_key, ppl.xp.zeros_like(x[:, :1]) + ppl.xp.zeros(model.sites["h"], dtype=x.dtype))
        state = State(rng_key, {"x": x, "h": ppl.xp.where(u < 0.5, 1.0 + 0 * u, 0 * u)})
        clamped = ChromaticGibbs(model, clamp=tuple(range(model.data_dim)))
        for _ in range(self.inner):
            state, _ = clamped.step(ppl, state, params)
        return state.rng_key, state.values

    def from_rows(self, ppl: Any, positive: Any, x: Any) -> dict[str, Any]:
        """Where contrastive divergence starts: the rows; hidden units are drawn by the first sweep, from these where given."""
        zeros = ppl.xp.zeros_like(x[:, :1])
        blank = {name: zeros + ppl.xp.zeros(size, dtype=x.dtype) for name, size in self.model.sites.items()}
        return {**blank, **positive}

    def swept(self, ppl: Any, chains: Any, params: Any) -> Any:
        return ppl.loop(self.sweeps, lambda _, state: self.kernel.step(ppl, state, params)[0], chains)

    def negative(self, chains: Any) -> Any:
        """The chains' values, at the first temperature where there are several, less the colour that F sums out."""
        if chains is None:
            return None
        values = {name: v[0] for name, v in chains.values.items()} if isinstance(self.kernel, Tempering) else chains.values
        kept = self.model.colours[1] if hasattr(self.model, "colours") else self.model.sites
        return {name: values[name] for name in kept}

    def log_partition(self, ppl: Any, params: Any, like: Any) -> Any:
        """log Z by enumeration."""
        kept = enumerated(self.model)
        units = sum(self.model.sites[name] for name in kept)
        states = by_name(self.model, kept, bits(0, 2**units, units))
        values = {name: ppl.constant(np.asarray(v), like) for name, v in states.items()}
        return ppl.logsumexp(-free(ppl, self.model, params, values))


def constrained(ppl: Any, free_params: Any) -> dict[str, Any]:
    """The parameters: scales are the exponentials of what training moves, all others are what it moves."""
    return {name: ppl.xp.exp(value) if name.endswith(".scale") else value for name, value in free_params.items()}


def unconstrained(params: Any) -> dict[str, np.ndarray]:
    """The inverse of `constrained`, of NumPy arrays."""
    return {name: np.log(value) if name.endswith(".scale") else np.asarray(value) for name, value in params.items()}


def recentred(ppl: Any, model: Any, free_params: Any, x: Any, rate: float) -> dict[str, Any]:
    """A centred model's offsets moved towards the means of x, the law kept."""
    moved = model.recentred(ppl, constrained(ppl, free_params), x, rate)
    return {name: value if name.endswith(".scale") else moved[name] for name, value in free_params.items()}


def mean_field(ppl: Any, model: Any, params: Any, x: Any, steps: int) -> dict[str, Any]:
    """Means of the hidden layers that maximise the factorised bound given x, by coordinate ascent from one pass upwards.

    Odd and even layers in turn; the result is a constant to differentiation (Salakhutdinov and Hinton 2009, eq. 15).
    """
    zeros = ppl.xp.zeros_like(x[:, :1])
    values = {name: zeros + ppl.xp.zeros(size, dtype=x.dtype) for name, size in model.sites.items()} | {"x": x}

    def sweep(_: Any, values: Any) -> Any:
        for colour in model.colours:
            values = values | {name: ppl.sigmoid(model.logits(ppl, params, values, name)) for name in colour if name != "x"}
        return values

    return {name: ppl.stop_gradient(value) for name, value in ppl.loop(steps, sweep, values).items()}
