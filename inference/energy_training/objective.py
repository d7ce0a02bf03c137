"""What training an energy follows: the gradient of E_data[F] − E_model[F], its two phases by the method of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from ..kernels import ChromaticGibbs, State, Stepped, Tempering
from ..kernels.step_size import nudged
from ..log_partition.exact import bits, by_name, enumerated, free
from .score_matching import denoising

Method = Literal["exact", "cd", "pcd", "pseudo-likelihood", "score-matching"]
ENUMERABLE = 20  # units, in every step of exact training
GAIN = 0.02  # of log step sizes, at every step of the chains: they follow p as it sharpens


@dataclass(frozen=True)
class Objective:
    """∂ log p(x) / ∂θ = −∂F(x)/∂θ + E_p[∂F/∂θ], the mean over rows; F sums what is independent given the rest.

    `method` says where the second expectation comes from: "exact", all states enumerated; "cd", `sweeps` of `kernel` from
    the rows (biased; Hinton 2002); "pcd", `sweeps` of chains that go on from step to step (Younes 1989; Tieleman 2008), of
    several temperatures if the kernel is `Tempering`. "pseudo-likelihood" follows ∂ Σᵢ log p(xᵢ | the others) instead
    (Besag 1975), and "score-matching" that of `score_matching.denoising`, with noise of standard deviation `noise`
    (data_dim,). Hidden units of the first expectation: summed where they are independent given x, else by `inner` steps of
    mean field (layers) or of Gibbs with x clamped (graphs), which makes the gradient approximate. A step size that the
    chains carry is adapted as they go: p itself moves.

    Raises:
        InputError: The method does not apply to the model.
    """

    model: Any
    kernel: Any
    method: Method = "pcd"
    sweeps: int = 1
    inner: int = 10
    noise: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        model = self.model
        if self.method not in get_args(Method):
            raise InputError(f"expected method {', '.join(get_args(Method))}, got '{self.method}'; choose one of those.")
        if hasattr(model, "top"):
            raise InputError(f"{self.method} needs the hidden units given x, which a net with directed layers does not give; "
                             "use greedy.")  # fmt: skip
        if self.method == "pseudo-likelihood" and len(model.sites) > 1:
            raise InputError("pseudo-likelihood needs every unit visible, but the model has hidden ones; use pcd.")
        if self.method == "pseudo-likelihood" and not hasattr(model, "prepared"):
            raise InputError(f"pseudo-likelihood needs each unit's log odds, which {type(model).__name__} has not; use pcd.")
        if self.method == "score-matching" and (not is_gaussian(model) or len(self.noise) != model.data_dim):
            raise InputError(f"score matching needs real-valued units and a noise for each of {model.data_dim} columns, got "
                             f"{type(model).__name__} and {len(self.noise)}; set visible=normal, or use pcd.")  # fmt: skip
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
            start = chains if self.persistent else self.kernel.init(ppl, rng_key, self.from_rows(ppl, positive, x))
            chains = self.swept(ppl, start._replace(rng_key=rng_key), params)
            rng_key = chains.rng_key
        negative = self.negative(chains)
        scale = ppl.constant(self.noise, x)
        rng_key, noise = ppl.normal(rng_key, x) if self.method == "score-matching" else (rng_key, None)

        def loss(free_params: Any) -> Any:
            params = constrained(ppl, free_params)
            if self.method == "pseudo-likelihood":
                logits = self.model.logits(ppl, self.model.prepared(ppl, params), x)
                return ppl.softplus((1.0 - 2.0 * x) * logits).sum(-1).mean()
            if self.method == "score-matching":
                return denoising(ppl, self.model, params, x, noise, scale).mean()
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
        if isinstance(chains, Stepped):
            return ppl.loop(self.sweeps, lambda _, state: self.adapted(ppl, state, params), chains)
        return ppl.loop(self.sweeps, lambda _, state: self.kernel.step(ppl, state, params)[0], chains)

    def adapted(self, ppl: Any, state: Any, params: Any) -> Any:
        """A step, and the step size moved a little towards its rate of acceptance."""
        after, info = self.kernel.step(ppl, state, params)
        return after._replace(step_size=nudged(ppl, after.step_size, info.accept_prob, GAIN))

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
