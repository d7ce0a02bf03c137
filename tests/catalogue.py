"""The rows that contract tests run over: a new declaration or likelihood joins every one of them by one row here.

Also what such tests need of both engines, and a third `Language` that records instead of computing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ppl_models import (
    CVAE,
    M1,
    M1M2,
    M2,
    VAE,
    ConditionalBaseline,
    FactorAnalysis,
    FlowVAE,
    GaussianMixture,
    HierarchicalVAE,
    LinearMarkov,
    MarkovVAE,
    MixtureVAE,
    SigmoidBeliefNet,
)
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Bernoulli, Categorical, ContinuousBernoulli, Normal

ROWS, COLUMNS = 5, 6


Inputs = tuple[np.ndarray, ...]
Data = Callable[[np.random.Generator], Inputs]


def binary(rng: np.random.Generator) -> Inputs:
    return (rng.integers(0, 2, (ROWS, COLUMNS)).astype(float),)


def real(rng: np.random.Generator) -> Inputs:
    return (rng.normal(0, 2, (ROWS, COLUMNS)),)


def gaps(rng: np.random.Generator) -> Inputs:
    (x,) = real(rng)
    x[0, :2] = x[1, 5] = x[3, 0] = np.nan
    return (x,)


def unit(rng: np.random.Generator) -> Inputs:
    x = rng.uniform(size=(ROWS, COLUMNS))
    x[0, :2] = 0, 1  # the ends belong to the support
    return (x,)


def ternary(rng: np.random.Generator) -> Inputs:
    return (rng.integers(0, 3, (ROWS, COLUMNS)).astype(float),)


def image(rng: np.random.Generator) -> Inputs:
    return (rng.integers(0, 2, (ROWS, 16)).astype(float),)  # 4 × 4 pixels


def labelled(data: Data, labels: tuple[int, ...]) -> Data:
    """`data` and a label of each row, −1 where it is unknown."""
    return lambda rng: (*data(rng), np.array(labels))


def sequences(data: Data) -> Data:
    """Sequences of 4 steps of 2 columns, zero past the end, and how many steps of each are real."""

    def draw(rng: np.random.Generator) -> Inputs:
        lengths = np.array([4, 1, 3, 2, 4])
        x = np.stack([data(rng)[0][:, :2] for _ in range(4)], 1)
        return x * (np.arange(4) < lengths[:, None])[..., None], lengths

    return draw


class Row(NamedTuple):
    """One declaration in every contract test.

    `data` draws what its methods take: a tuple of arrays in the order of its `inputs`, each with ROWS rows first, in the
    support. Tests cut it to fewer rows. `unmoved` names the parameters that these data give no gradient.
    """

    id: str
    declaration: Any
    data: Data
    unmoved: frozenset[str] = frozenset()


D = COLUMNS
MIXED, KNOWN, UNKNOWN = (0, -1, 2, -1, 1), (0, 1, 2, 2, 1), (-1,) * ROWS
CATALOGUE = [
    Row("vae-bernoulli", VAE(D, 2, (4,), Bernoulli()), binary),
    Row("vae-normal-fixed", VAE(D, 2, (4,), Normal(0.7)), real),
    Row("vae-normal-learned", VAE(D, 2, (4,), Normal("learned")), real),
    Row("vae-normal-per-dim", VAE(D, 2, (4,), Normal("per-dim")), real),
    Row("vae-categorical", VAE(D, 2, (4,), Categorical(3)), ternary),
    Row("vae-continuous-bernoulli", VAE(D, 2, (4,), ContinuousBernoulli()), unit),
    Row("vae-two-hidden", VAE(D, 2, (4, 3), activation="relu"), binary),
    Row("vae-tanh", VAE(D, 2, (4,), activation="tanh"), binary),
    Row("vae-conv", VAE(16, 2, (4,), network="conv", channels=(2, 3)), image),
    Row("vae-conv-categorical", VAE(16, 2, (), Categorical(2), network="conv", channels=(2,)), image),
    Row("hierarchical-vae", HierarchicalVAE(D, (3, 2), (4, 3)), binary),
    Row("cvae-labels", CVAE(D, 2, (4,), num_classes=3), labelled(binary, KNOWN)),
    Row("cvae-labels-fixed", CVAE(D, 2, (4,), Normal("per-dim"), num_classes=3, learned_prior=False), labelled(real, KNOWN)),
    Row("cvae-one-quadrant", CVAE(16, 2, (4,), condition="quadrants"), image),
    Row("cvae-quadrants-fixed", CVAE(16, 2, (4,), condition="quadrants", quadrants=3, learned_prior=False), image),
    Row("conditional-baseline", ConditionalBaseline(16, (4,), condition="quadrants", quadrants=2), image),
    Row("conditional-baseline-labels", ConditionalBaseline(D, (4,), num_classes=3), labelled(binary, KNOWN)),
    Row("m1", M1(D, 2, (4,), num_classes=3), labelled(binary, MIXED)),
    Row("m1-known", M1(D, 2, (4,), num_classes=3), labelled(binary, KNOWN)),
    Row("m1-unknown", M1(D, 2, (4,), num_classes=3), labelled(binary, UNKNOWN),
        frozenset({"classifier.0.weight", "classifier.0.bias"})),
    Row("m2", M2(D, 3, 2, (4,)), labelled(binary, MIXED)),
    Row("m2-known", M2(D, 3, 2, (4,)), labelled(binary, KNOWN)),
    Row("m2-unknown", M2(D, 3, 2, (4,), Normal("learned")), labelled(real, UNKNOWN)),
    Row("m1m2", M1M2(D, 3, 2, (4,)), labelled(binary, MIXED)),
    Row("m1m2-known", M1M2(D, 3, 2, (4,)), labelled(binary, KNOWN)),
    Row("m1m2-unknown", M1M2(D, 3, 2, (4,)), labelled(binary, UNKNOWN)),
    Row("sbn-1", SigmoidBeliefNet(D, 3), binary),
    Row("sbn-2", SigmoidBeliefNet(D, 3, num_layers=2), binary),
    Row("sbn-1-nonlinear", SigmoidBeliefNet(D, 3, hidden=(4,)), binary),
    Row("sbn-2-nonlinear", SigmoidBeliefNet(D, 3, num_layers=2, hidden=(4,)), binary),
    Row("sbn-normal", SigmoidBeliefNet(D, 3, likelihood=Normal("learned")), real),
    Row("factor-analysis", FactorAnalysis(D, 2), real),
    Row("factor-analysis-isotropic", FactorAnalysis(D, 2, isotropic=True), real),
    Row("factor-analysis-missing", FactorAnalysis(D, 2, missing=True), gaps),
    Row("mixture-marginal", GaussianMixture(D, 3, "diagonal", marginal=True), real),
    Row("mixture-full", GaussianMixture(D, 3, "full"), real),
    Row("mixture-tied", GaussianMixture(D, 3, "tied"), real),
    Row("mixture-diagonal", GaussianMixture(D, 3, "diagonal"), real),
    Row("mixture-spherical", GaussianMixture(D, 3, "spherical"), real),
    Row("mixture-vae", MixtureVAE(D, 2, (4,), num_components=3), binary),
    Row("flow-vae", FlowVAE(D, 3, (4,), num_layers=2, prior_hidden=(3,)), binary),
    Row("markov-vae", MarkovVAE(2, 2, 3, (4,), 3), sequences(binary)),
    Row("markov-vae-normal", MarkovVAE(2, 2, 3, (), 3, Normal("per-dim")), sequences(real)),
    Row("linear-markov", LinearMarkov(2, 3, 2), sequences(real)),
]
IDS = [row.id for row in CATALOGUE]


# --- a Language that records ------------------------------------------------------------------------------------------


class Recorded:
    """Shapes of a distribution; draws are zeros, densities are zero."""

    def __init__(self, name: str, batch_shape: tuple[int, ...], event_shape: tuple[int, ...], choices: int = 0) -> None:
        self.name, self.batch_shape, self.event_shape, self.choices = name, batch_shape, event_shape, choices

    def sample(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.zeros((*shape, *self.batch_shape, *self.event_shape), int if self.choices else float)

    def log_prob(self, value: Any) -> np.ndarray:
        batch = np.shape(value)[: np.ndim(value) - len(self.event_shape)]
        return np.zeros(np.broadcast_shapes(batch, self.batch_shape))

    def expand(self, batch_shape: tuple[int, ...]) -> Recorded:
        return Recorded(self.name, tuple(batch_shape), self.event_shape, self.choices)

    def to_event(self, n: int) -> Recorded:
        cut = len(self.batch_shape) - n
        return Recorded(self.name, self.batch_shape[:cut], self.batch_shape[cut:] + self.event_shape, self.choices)

    def mask(self, mask: Any) -> Recorded:
        batch_shape = np.broadcast_shapes(np.shape(mask), self.batch_shape)
        return Recorded(self.name, batch_shape, self.event_shape, self.choices)


def _elementwise(name: str) -> Callable[..., Recorded]:
    def make(*args: Any, **kwargs: Any) -> Recorded:
        return Recorded(name, np.broadcast_shapes(*map(np.shape, (*args, *kwargs.values()))), ())

    return make


def _categorical(logits: Any) -> Recorded:
    return Recorded("Categorical", np.shape(logits)[:-1], (), np.shape(logits)[-1])


def _one_hot_categorical(logits: Any) -> Recorded:
    return Recorded("OneHotCategorical", np.shape(logits)[:-1], np.shape(logits)[-1:])


def _multivariate(name: str) -> Callable[..., Recorded]:
    def make(loc: Any, *args: Any, **kwargs: Any) -> Recorded:
        ranks = {"covariance_matrix": 2, "scale_tril": 2, "covariance_diagonal": 1}
        sized = [np.shape(v)[: -ranks[k]] for k, v in kwargs.items()] + [np.shape(a)[:-1] for a in args[1:]]
        return Recorded(name, np.broadcast_shapes(np.shape(loc)[:-1], *sized), np.shape(loc)[-1:])

    return make


class Recorder:
    """All words of `Language` over numpy; `sites` lists every plate, param and sample in order, once each.

    A site is (kind, name, shape, plates): plates are (name, rows present, data they stand for), outermost first.
    """

    xp = np
    constraints = SimpleNamespace(real="real", positive="positive")
    dist = SimpleNamespace(
        Bernoulli=_elementwise("Bernoulli"), Normal=_elementwise("Normal"), Uniform=_elementwise("Uniform"),
        Categorical=_categorical, MultivariateNormal=_multivariate("MultivariateNormal"),
        LowRankMultivariateNormal=_multivariate("LowRankMultivariateNormal"),
        Dirichlet=lambda c: Recorded("Dirichlet", np.shape(c)[:-1], np.shape(c)[-1:]), Gamma=_elementwise("Gamma"),
        MixtureSameFamily=lambda _, of: Recorded("MixtureSameFamily", of.batch_shape[:-1], of.event_shape),
    )  # fmt: skip
    categorical = staticmethod(_categorical)
    one_hot_categorical = staticmethod(_one_hot_categorical)
    continuous_bernoulli = staticmethod(_elementwise("ContinuousBernoulli"))
    whitened_normal = staticmethod(lambda loc, scale_tril, _: _multivariate("WhitenedNormal")(loc, scale_tril=scale_tril))
    markov = staticmethod(
        lambda step, initial, inputs, mask: step(np.broadcast_to(initial, (*mask.shape, len(initial))), inputs).to_event(1)
    )
    pushforward = staticmethod(lambda base, forward, inverse: base)
    softplus = staticmethod(lambda x: np.logaddexp(x, 0.0))
    relu = staticmethod(lambda x: np.maximum(x, 0.0))
    sigmoid = staticmethod(lambda x: np.exp(-np.logaddexp(-x, 0.0)))
    softmax = staticmethod(lambda x, axis=-1: special.softmax(x, axis))
    log_softmax = staticmethod(lambda x: x - np.logaddexp.reduce(x, -1, keepdims=True))
    logsumexp = staticmethod(lambda x: np.logaddexp.reduce(x, -1))
    stop_gradient = staticmethod(lambda x: x)
    gammaln = staticmethod(special.gammaln)
    digamma = staticmethod(special.digamma)
    trigamma = staticmethod(lambda x: special.polygamma(1, x))

    def __init__(self) -> None:
        self.sites: list[tuple[str, str, tuple[int, ...], tuple[tuple[str, int, int], ...]]] = []
        self.rules: dict[str, str] = {}
        self.draws: dict[str, Recorded] = {}
        self.plates: tuple[tuple[str, int, int], ...] = ()

    def _record(self, kind: str, name: str, shape: tuple[int, ...]) -> None:
        site = (kind, name, tuple(shape), self.plates if kind == "sample" else ())
        if site not in self.sites:
            assert kind != "sample" or name not in [n for _, n, _, _ in self.sites], f"site '{name}' twice"
            self.sites.append(site)

    @contextmanager
    def plate(self, name: str, size: int, *, subsample: Any = None, dim: int | None = None) -> Iterator[None]:
        assert dim is None or dim < 0
        rows = size if subsample is None else subsample if isinstance(subsample, int) else len(subsample)
        self._record("plate", name, (rows,))
        before, self.plates = self.plates, (*self.plates, (name, rows, size))
        yield
        self.plates = before

    def param(self, name: str, init: Any = None, *, constraint: Any = "real", event_dim: int | None = None) -> Any:
        value = init() if callable(init) else init
        self._record("param", name, value.shape)
        self.rules[name] = constraint
        return value

    def sample(self, name: str, fn: Recorded, *, obs: Any = None) -> Any:
        # Plates take the dims left of the event from the right, as in both libraries.
        around = tuple(rows for _, rows, _ in self.plates)
        fn = fn.expand(np.broadcast_shapes(around, fn.batch_shape))
        self._record("sample", name, fn.batch_shape + fn.event_shape)
        if obs is None:
            self.draws[name] = fn
        else:
            assert np.shape(obs) == fn.batch_shape + fn.event_shape
        return fn.sample() if obs is None else obs

    def subsample(self, data: Any, *, event_dim: int) -> Any:
        rows = self.plates[-1][1]
        return data[:rows]

    def factor(self, name: str, log_factor: Any) -> None:
        self._record("sample", name, (*np.shape(log_factor), 0))  # both libraries give it an empty event

    def deterministic(self, name: str, value: Any) -> Any:
        return value

    def scan(self, f: Any, carry: Any, *xs: Any, reverse: bool = False) -> Any:
        order, outputs = range(xs[0].shape[-2])[:: -1 if reverse else 1], []
        for t in order:
            carry, y = f(carry, *(x[..., t, :] for x in xs))
            outputs.append(y)
        return np.stack(outputs[:: -1 if reverse else 1], -2)

    def conv(self, x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
        out = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[-2:], weight.shape[-2:], strict=True)]
        return np.zeros((*x.shape[:-3], weight.shape[0], *out))

    def conv_transpose(self, x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
        out = [(n - 1) * stride + k - 2 * padding for n, k in zip(x.shape[-2:], weight.shape[-2:], strict=True)]
        return np.zeros((*x.shape[:-3], weight.shape[1], *out))


def inputs(data: np.ndarray | Inputs) -> Inputs:
    """The rows alone, or the tuple that a declaration takes, as that tuple."""
    return data if isinstance(data, tuple) else (data,)


def record(declaration: Any, data: np.ndarray | Inputs, total: int | None = None) -> dict[str, Recorder]:
    out = {}
    for method in ("model", "guide"):
        out[method] = Recorder()
        getattr(declaration, method)(out[method], *inputs(data), total=total)
    return out


# --- values -----------------------------------------------------------------------------------------------------------


def random_params(declaration: Any, data: np.ndarray | Inputs, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of scale 1 by name; positive ones exp of half a normal."""
    out: dict[str, np.ndarray] = {}
    for recorder in record(declaration, data).values():
        for kind, name, shape, _ in recorder.sites:
            if kind == "param" and name not in out:
                value = rng.normal(size=shape)
                out[name] = {"real": value, "positive": np.exp(value / 2)}[recorder.rules[name]]
    return out


def tail_latents(declaration: Any, data: np.ndarray | Inputs, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A value of every latent: out to 6 in each dimension for normals, any of the values of discrete ones."""
    out = {}
    for name, fn in record(declaration, data)["guide"].draws.items():
        shape = fn.batch_shape + fn.event_shape
        if fn.choices:
            out[name] = rng.integers(0, fn.choices, shape)
        elif fn.name == "OneHotCategorical":
            out[name] = np.eye(shape[-1])[rng.integers(0, shape[-1], fn.batch_shape)]
        elif fn.name == "Bernoulli":
            out[name] = rng.integers(0, 2, shape).astype(float)
        else:
            value = rng.uniform(-6, 6, shape)
            value.flat[0], value.flat[-1] = 6, -6
            out[name] = value
    return out


def all_values(values: int, n: int) -> np.ndarray:
    """Every vector of n whole numbers below `values`, (valuesⁿ, n), the last one fastest."""
    return np.array(list(product(range(values), repeat=n)), float)


# --- both engines in float64 on the CPU -------------------------------------------------------------------------------


def shared(engine: str) -> Any:
    return import_module(f"inference._{engine}")


def words(engine: str) -> Any:
    return import_module(f"ppl_models._{engine}")


def exact(engine: str) -> Any:
    """A session in float64 on the CPU."""
    return shared(engine).session("float64", "cpu")


def close(a: Any, b: Any, tolerance: float) -> None:
    """|a − b| ≤ tolerance · max(1, |b|) at every entry, and finite."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()
    error = np.abs(a - b) / np.maximum(1, np.abs(b))
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error[worst] <= tolerance, f"{a[worst]!r} is not {b[worst]!r} at {worst}: relative error {error[worst]:.3g}"


def arrays(engine: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shared(engine).array(value) for name, value in values.items()}


__all__ = ["CATALOGUE", "ENGINES", "IDS", "Recorder", "Row"]
