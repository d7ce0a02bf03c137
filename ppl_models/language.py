"""The words a declaration may use, and `bind`, which lets an engine speak them.

A declaration is a frozen dataclass with two methods, `model(ppl, x, total=None)` and `guide(ppl, x, total=None)`.
`ppl` is an engine's module itself (`ppl_models._pyro` or `ppl_models._numpyro`): there is no adapter object.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

from .errors import InputError

Engine = Literal["numpyro", "pyro"]
ENGINES: tuple[str, ...] = get_args(Engine)


@runtime_checkable
class Array(Protocol):
    """A torch.Tensor or a jax.Array; arithmetic and indexing are those of the array API."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...
    @property
    def mT(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __matmul__(self, other: Any, /) -> Any: ...
    def __add__(self, other: Any, /) -> Any: ...
    def __radd__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __rsub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __rtruediv__(self, other: Any, /) -> Any: ...
    def __pow__(self, other: Any, /) -> Any: ...
    def __neg__(self) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...
    def reshape(self, *shape: Any) -> Any: ...
    def sum(self, axis: Any = None) -> Any: ...


class Distribution(Protocol):
    """A distribution of either library; batch and event shape as there."""

    @property
    def batch_shape(self) -> tuple[int, ...]: ...
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def mean(self) -> Any: ...
    @property
    def variance(self) -> Any: ...
    def log_prob(self, value: Any, /) -> Any: ...
    def sample(self, *args: Any, **kwargs: Any) -> Any: ...
    def expand(self, batch_shape: Any, /) -> Distribution: ...
    def to_event(self, reinterpreted_batch_ndims: int, /) -> Distribution: ...
    def mask(self, mask: Any, /) -> Distribution: ...


class Distributions(Protocol):
    """The distributions that a declaration may use: both libraries have them, with these arguments."""

    @property
    def Bernoulli(self) -> Callable[..., Distribution]: ...
    @property
    def Categorical(self) -> Callable[..., Distribution]: ...
    @property
    def Dirichlet(self) -> Callable[..., Distribution]: ...
    @property
    def Gamma(self) -> Callable[..., Distribution]: ...
    @property
    def LowRankMultivariateNormal(self) -> Callable[..., Distribution]: ...
    @property
    def MixtureSameFamily(self) -> Callable[..., Distribution]: ...
    @property
    def MultivariateNormal(self) -> Callable[..., Distribution]: ...
    @property
    def Normal(self) -> Callable[..., Distribution]: ...
    @property
    def Uniform(self) -> Callable[..., Distribution]: ...


class Language(Protocol):
    """All words of a declaration. `xp` is the engine's array-API namespace."""

    dist: Distributions
    constraints: Any
    xp: Any

    def sample(self, name: str, fn: Any, *, obs: Any = None) -> Any:
        """Draw `name` from `fn`, or score `obs` under it."""
        ...

    def plate(self, name: str, size: int, *, subsample: Any = None, dim: int | None = None) -> AbstractContextManager[Any]:
        """Independent rows; `subsample` (row indices, or how many rows are present) stands for all `size` of them."""
        ...

    def param(self, name: str, init: Any = None, *, constraint: Any = ..., event_dim: int | None = None) -> Any:
        """A learnable array; `init` is an array or `lambda *key: array` (NumPyro passes a key, Pyro nothing)."""
        ...

    def subsample(self, data: Any, *, event_dim: int) -> Any: ...
    def factor(self, name: str, log_factor: Any) -> None: ...
    def deterministic(self, name: str, value: Any) -> Any: ...
    def categorical(self, logits: Any) -> Distribution: ...
    def one_hot_categorical(self, logits: Any) -> Distribution:
        """log p(v) = Σ v · log softmax(η), v one-hot; linear in v, so that relaxed values may be scored."""
        ...

    def continuous_bernoulli(self, logits: Any) -> Distribution: ...
    def whitened_normal(self, loc: Any, scale_tril: Any, whitener: Any) -> Distribution:
        """N(loc, L Lᵀ) with L⁻¹ given beside L, so that scoring a row is a product and not a triangular solve."""
        ...

    def markov(self, step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any) -> Distribution:
        """p(z) = ∏ₜ step(zₜ₋₁, uₜ)(zₜ) over paths z (..., T, D), t over the steps where `mask` (..., T) holds.

        `step(previous, u)` is a distribution with event (D,) of a differentiable draw, for one step or for all at once;
        it fetches no parameters. z₀ is `initial` (D,), uₜ is `inputs[..., t, :]`, or None if `inputs` is None.
        """
        ...

    def pushforward(
        self, base: Distribution, forward: Callable[[Any], Any], inverse: Callable[[Any], tuple[Any, Any]]
    ) -> Distribution:
        """The law of z = f(u), u ~ base with event (D,): p(z) = p_base(f⁻¹(z)) |det ∂u/∂z|.

        `inverse(z)` gives u and log |det ∂u/∂z|, shape z.shape[:-1]; neither function fetches parameters.
        """
        ...

    def scan(self, f: Callable[..., tuple[Any, Any]], carry: Any, *xs: Any, reverse: bool = False) -> Any:
        """The outputs y of `carry, y = f(carry, *xₜ)`, xₜ = x[..., t, :], stacked at the second-last axis.

        The carry keeps its shapes; `reverse` begins at the last t.
        """
        ...

    def softplus(self, x: Any) -> Any: ...
    def relu(self, x: Any) -> Any: ...
    def sigmoid(self, x: Any) -> Any: ...
    def gammaln(self, x: Any) -> Any: ...
    def digamma(self, x: Any) -> Any: ...
    def trigamma(self, x: Any) -> Any: ...
    def softmax(self, x: Any, axis: int = -1) -> Any: ...
    def log_softmax(self, x: Any) -> Any: ...
    def logsumexp(self, x: Any) -> Any: ...
    def stop_gradient(self, x: Any) -> Any: ...
    def conv(self, x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any: ...
    def conv_transpose(self, x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any: ...


#: Every word, so that a test can hold both engines (and any third) to the whole list.
WORDS = (
    "sample plate param subsample factor deterministic categorical one_hot_categorical continuous_bernoulli whitened_normal "
    "markov pushforward scan softplus relu sigmoid gammaln digamma trigamma softmax log_softmax logsumexp stop_gradient conv "
    "conv_transpose dist constraints xp"
).split()


class Declaration(Protocol):
    """What a catalogue entry offers: a joint density p and a guide q, as programs over the arrays of `inputs`.

    `inputs` names what the methods take, rows first: "x" (what is left unsaid), "y" labels, "labels" of which some are known
    and the others −1, "lengths" of sequences. A declaration may add `log_evidence(ppl, *inputs)`, log p(x) of each row in
    nats where that has a closed form; `initial(*inputs, rng)`, the values (constrained, by name) from which training should
    start; `classify(ppl, x)`, log probabilities of the classes; and what EM asks for (`inference.em`).
    """

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None: ...
    def guide(self, ppl: Language, x: Any, total: int | None = None) -> None: ...


@dataclass(frozen=True)
class Program:
    """One method of one declaration as a plain callable of its engine.

    Equal and hashed by value, so a program compiled for one binding serves every equal binding.
    """

    declaration: Any
    method: str
    engine: Engine
    static: tuple[tuple[str, Any], ...] = ()

    @property
    def __name__(self) -> str:
        return f"{type(self.declaration).__name__}.{self.method}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.declaration, self.method)(language(self.engine), *args, **{**dict(self.static), **kwargs})


class Bound(NamedTuple):
    """A model and a guide as plain callables of one engine; a user's own functions enter by this door too."""

    model: Callable[..., Any]
    guide: Callable[..., Any]


def check_engine(engine: str) -> Engine:
    """Return `engine` if it is known and installed.

    Raises:
        InputError: It is unknown, or its library is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"expected an engine among {', '.join(ENGINES)}, got '{engine}'; choose one of those.")
    try:
        installed = find_spec(engine) is not None
    except (ImportError, ValueError):
        installed = False
    if not installed:
        cure = "pip install 'ppl-models[pyro]'" if engine == "pyro" else "pip install ppl-models"
        raise InputError(f"engine '{engine}' is not installed; run {cure}, or choose the other engine.")
    return cast(Engine, engine)


def language(engine: Engine) -> Language:
    """The engine's words; the first call imports its library."""
    return cast(Language, import_module(f"ppl_models._{engine}"))


def bind(declaration: Any, engine: str, **static: Any) -> Bound:
    """Plain `model` and `guide` callables of `engine`, for stock `SVI`, `MCMC`, `Predictive` or for `inference`.

    Args:
        declaration: A catalogue declaration, or any object with `model` and `guide` methods that take `ppl` first.
        engine: "numpyro" or "pyro"; nothing is imported before the first call.
        static: Keyword arguments fixed for both, such as `total=60_000`, the number of data a minibatch stands for.
    """
    known, items = check_engine(engine), tuple(sorted(static.items()))
    return Bound(Program(declaration, "model", known, items), Program(declaration, "guide", known, items))
