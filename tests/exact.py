"""Programs small enough to enumerate, their exact gradients by hand, and an estimator's expectation over its own draws.

The exact ELBO is summed here, state by state, in float64, from formulas of this file: nothing of `inference` is used.
`expectation` forces every joint outcome of all the draws an estimator makes through the shipped `evaluate`, weighs the
outcomes by their probability, and averages over all minibatches. Continuous noise is forced at Gauss-Hermite nodes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference import Disarm, LeaveOneOut, MeasureValued, Nvil, Ovis, Rebar, Relax, Score
from inference.estimators import Latent, num_samples
from inference.gradients.blocks import Blocks
from ppl_models import bind

Arrays = Mapping[str, Any]
#: Each program is run once: compiling it well does not pay.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
RELAXED = {1: 120, 2: 56, 3: 25}  # points a number, by how many numbers are drawn
NODES = 8  # Gauss-Hermite: exact for polynomials up to degree 15; the largest here has degree 6


def bernoulli(logits: Any, value: Any) -> Any:
    return value * logits - jax.nn.softplus(logits)


def normal(loc: Any, scale: Any, value: Any) -> Any:
    return -0.5 * ((value - loc) / scale) ** 2 - jnp.log(scale) - 0.5 * np.log(2 * np.pi)


def grid(sizes: tuple[int, ...]) -> np.ndarray:
    """Every joint value, (states, variables)."""
    table = np.array(list(product(*map(range, sizes))), dtype=np.float64)
    return table.reshape(int(np.prod(sizes, dtype=int)), len(sizes))


def hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (nodes ** count, count) and weights of `count` independent standard normals."""
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    index = grid((NODES,) * count).astype(int)
    return x[index], (w / w.sum())[index].prod(-1)


@dataclass(frozen=True)
class Net:
    """A belief net of bits: z1 (and z2 below it), each one event, and with `shared` a global bit g that x depends on.

    Columns of x: two observed bits; then, used if `masked`, whether x and whether z1 counts in this row.
    """

    bits: tuple[int, ...] = (3,)
    shared: bool = False
    masked: bool = False
    inner: bool = False  # the mask lies inside the event

    def __str__(self) -> str:
        return f"net-{'-'.join(map(str, self.bits))}{'-global' * self.shared}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        b, out = self.bits[0], {}
        out |= {"prior": (b,), "decoder": (b, 2), "decoder.bias": (2,), "encoder": (2, b), "encoder.bias": (b,)}
        if len(self.bits) == 2:
            c = self.bits[1]
            out |= {"prior2": (b, c), "decoder2": (c, 2), "encoder2": (2, c), "encoder12": (b, c)}
        return out | ({"g.prior": (), "g.guide": (), "g.decoder": (2,)} if self.shared else {})

    #: Discrete sites in the guide's order: shape of one draw, and whether it is drawn once for each row of data.
    @property
    def sites(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        rows = {f"z{i + 1}": ((b,), True) for i, b in enumerate(self.bits)}
        return ({"g": ((), False)} if self.shared else {}) | rows

    noise = 0  # standard normals a row

    def params(self, seed: int = 11) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {name: np.asarray(rng.normal(size=shape)) for name, shape in self.shapes.items()}

    def data(self, rows: int, seed: int = 0) -> np.ndarray:
        x = np.random.default_rng(seed).integers(0, 2, (rows, 4)).astype(float)
        x[:, 2], x[:, 3] = np.arange(rows) % 2, (np.arange(rows) + 1) % 2
        return x

    def hide(self, fn: Any, counts: Any) -> Any:
        if not self.masked:
            return fn.to_event(1)
        return fn.mask(counts[:, None]).to_event(1) if self.inner else fn.to_event(1).mask(counts)

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        def p(name: str) -> Any:
            return ppl.param(name, ppl.xp.zeros(self.shapes[name]))

        if self.shared:
            g = ppl.sample("g", ppl.dist.Bernoulli(logits=p("g.prior")))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z1 = ppl.sample("z1", self.hide(ppl.dist.Bernoulli(logits=p("prior") + 0 * x[:, :1]), x[:, 3] > 0))
            logits = z1 @ p("decoder") + p("decoder.bias")
            if len(self.bits) == 2:
                z2 = ppl.sample("z2", ppl.dist.Bernoulli(logits=z1 @ p("prior2")).to_event(1))
                logits = logits + z2 @ p("decoder2")
            if self.shared:
                logits = logits + g[..., None] * p("g.decoder")
            ppl.sample("x", self.hide(ppl.dist.Bernoulli(logits=logits), x[:, 2] > 0), obs=x[:, :2])

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        def p(name: str) -> Any:
            return ppl.param(name, ppl.xp.zeros(self.shapes[name]))

        if self.shared:
            ppl.sample("g", ppl.dist.Bernoulli(logits=p("g.guide")))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            logits = x[:, :2] @ p("encoder") + p("encoder.bias")
            z1 = ppl.sample("z1", self.hide(ppl.dist.Bernoulli(logits=logits), x[:, 3] > 0))
            if len(self.bits) == 2:
                logits = x[:, :2] @ p("encoder2") + z1 @ p("encoder12")
                ppl.sample("z2", ppl.dist.Bernoulli(logits=logits).to_event(1))

    def chance(self, p: Arrays, x: np.ndarray, name: str) -> np.ndarray:
        """q(bit = 1) of a site whose bits depend on no other draw, (rows, bits) or, of the global bit, a number."""
        logits = p["g.guide"] if name == "g" else x[..., :2] @ p["encoder"] + p["encoder.bias"]
        return 1 / (1 + np.exp(-logits))

    def log_q(self, p: Arrays, x: Any, v: Arrays) -> dict[str, Any]:
        """Of each site at the values v, one number a row."""
        out = {"g": bernoulli(p["g.guide"], v["g"])} if self.shared else {}
        out["z1"] = bernoulli(x[..., :2] @ p["encoder"] + p["encoder.bias"], v["z1"]).sum(-1)
        if len(self.bits) == 2:
            out["z2"] = bernoulli(x[..., :2] @ p["encoder2"] + v["z1"] @ p["encoder12"], v["z2"]).sum(-1)
        return out

    def of_states(self, p: Arrays, x: Any) -> tuple[Any, Any, Any]:
        """log p − log q as the ELBO counts them, log q, and log q as counted, of every state of a row, (states, rows)."""
        counts_x, counts_z = (x[:, 2], x[:, 3]) if self.masked else (1.0, 1.0)
        z = grid((2,) * self.bits[0])[:, None]
        log_q = bernoulli(x[:, :2] @ p["encoder"] + p["encoder.bias"], z).sum(-1)
        cost = counts_z * (bernoulli(p["prior"], z).sum(-1) - log_q)
        logits = z @ p["decoder"] + p["decoder.bias"]
        return cost + counts_x * bernoulli(logits, x[:, :2]).sum(-1), log_q, counts_z * log_q

    def exact(self, p: Arrays, x: Any) -> Any:
        """The ELBO of all rows of x."""
        total = 0.0
        counts_x, counts_z = (x[:, 2], x[:, 3]) if self.masked else (1.0, 1.0)
        states = grid((2,) * sum(self.bits))[:, None]  # (states, 1, bits): costs are (states, rows)
        z1, z2 = states[..., : self.bits[0]], states[..., self.bits[0] :]
        log_q = bernoulli(x[:, :2] @ p["encoder"] + p["encoder.bias"], z1).sum(-1)
        cost = counts_z * (bernoulli(p["prior"], z1).sum(-1) - log_q)
        logits = z1 @ p["decoder"] + p["decoder.bias"]
        if len(self.bits) == 2:
            log_q2 = bernoulli(x[:, :2] @ p["encoder2"] + z1 @ p["encoder12"], z2).sum(-1)
            cost, log_q = cost + bernoulli(z1 @ p["prior2"], z2).sum(-1) - log_q2, log_q + log_q2
            logits = logits + z2 @ p["decoder2"]
        for g in (0.0, 1.0) if self.shared else (None,):
            weight, given_g = 1.0, logits
            if g is not None:
                log_g, given_g = bernoulli(p["g.guide"], g), logits + g * p["g.decoder"]
                weight = jnp.exp(log_g)
                total = total + weight * (bernoulli(p["g.prior"], g) - log_g)
            all_costs = cost + counts_x * bernoulli(given_g, x[:, :2]).sum(-1)
            total = total + (weight * jnp.exp(log_q) * all_costs).sum()
        return total


@dataclass(frozen=True)
class Curve:
    """z ~ Normal (shifted by a bit c if `switch`), x ~ Normal(w z + v z²): log p(x | z) is a polynomial of degree 4."""

    dim: int = 1
    switch: bool = False
    masked: bool = False
    apart: bool = False  # z is masked in the guide alone

    def __str__(self) -> str:
        return f"curve-{self.dim}{'-switch' * self.switch}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.dim
        out = {"loc": (d,), "w": (d, 1), "v": (d, 1), "encoder": (1, d), "encoder.bias": (d,), "scale": (d,)}
        return out | ({"c.prior": (), "c.encoder": (1,), "shift": (d,), "q.shift": (d,)} if self.switch else {})

    @property
    def sites(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        return {"c": ((), True)} if self.switch else {}

    @property
    def noise(self) -> int:
        return self.dim

    def params(self, seed: int = 32) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        out = {name: np.asarray(rng.normal(size=shape)) for name, shape in self.shapes.items()}
        return out | {"scale": np.exp(0.5 * out["scale"])}

    def data(self, rows: int, seed: int = 0) -> np.ndarray:
        x = np.random.default_rng(seed).normal(size=(rows, 3))
        x[:, 1], x[:, 2] = np.arange(rows) % 2, (np.arange(rows) + 1) % 2
        return x

    def hide(self, fn: Any, counts: Any) -> Any:
        return fn.to_event(1).mask(counts) if self.masked else fn.to_event(1)

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        def p(name: str) -> Any:
            return ppl.param(name, ppl.xp.zeros(self.shapes[name]))

        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            loc = p("loc") + 0 * x[:, :1]
            if self.switch:
                c = ppl.sample("c", ppl.dist.Bernoulli(logits=p("c.prior") + 0 * x[:, 0]))
                loc = loc + c[..., None] * p("shift")
            prior = ppl.dist.Normal(loc, 1.0)
            z = ppl.sample("z", prior.to_event(1) if self.apart else self.hide(prior, x[:, 2] > 0))
            ppl.sample("x", self.hide(ppl.dist.Normal(z @ p("w") + z * z @ p("v"), 0.7), x[:, 1] > 0), obs=x[:, :1])

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        def p(name: str) -> Any:
            return ppl.param(name, ppl.xp.zeros(self.shapes[name]))

        scale = ppl.param("scale", ppl.xp.ones((self.dim,)), constraint=ppl.constraints.positive)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            loc = x[:, :1] @ p("encoder") + p("encoder.bias")
            if self.switch:
                c = ppl.sample("c", ppl.dist.Bernoulli(logits=x[:, 0] * p("c.encoder")))
                loc = loc + c[..., None] * p("q.shift")
            ppl.sample("z", self.hide(ppl.dist.Normal(loc, scale), x[:, 2] > 0))

    def log_q(self, p: Arrays, x: Any, v: Arrays) -> dict[str, Any]:
        """Of the discrete site."""
        return {"c": bernoulli(x[..., 0] * p["c.encoder"], v["c"])} if self.switch else {}

    def chance(self, p: Arrays, x: np.ndarray, name: str) -> np.ndarray:
        """q(c = 1), (rows,)."""
        return 1 / (1 + np.exp(-x[..., 0] * p["c.encoder"]))

    def q(self, p: Arrays, x: Any) -> tuple[Any, Any]:
        """Location and scale of the guide's z where there is no c."""
        return x[..., :1] @ p["encoder"] + p["encoder.bias"], p["scale"]

    def exact(self, p: Arrays, x: Any) -> Any:
        """The ELBO of all rows of x, by quadrature over the noise."""
        total = 0.0
        counts_x, counts_z = (x[:, 1], x[:, 2]) if self.masked else (1.0, 1.0)
        for c in (0.0, 1.0) if self.switch else (None,):
            loc_p, (loc_q, scale), weight_c, cost_c = p["loc"], self.q(p, x), 1.0, 0.0
            if c is not None:
                loc_p, loc_q = loc_p + c * p["shift"], loc_q + c * p["q.shift"]
                log_q = bernoulli(x[:, 0] * p["c.encoder"], c)
                weight_c, cost_c = jnp.exp(log_q), bernoulli(p["c.prior"], c) - log_q
            eps, weight = hermite(self.dim)
            z = loc_q + scale * eps[:, None]  # (nodes, rows, dim)
            log_p, log_q = normal(loc_p, 1.0, z).sum(-1), normal(loc_q, scale, z).sum(-1)
            cost = cost_c + (1.0 if self.apart else counts_z) * log_p - counts_z * log_q
            cost = cost + counts_x * normal(z @ p["w"] + z * z @ p["v"], 0.7, x[:, :1]).sum(-1)
            total = total + (weight[:, None] * weight_c * cost).sum()
        return total


@dataclass(frozen=True)
class Choice:
    """A category k, one-hot or by its index, on which x, two observed bits, depends; see `Net`'s columns."""

    by_index: bool = False
    masked: bool = False
    count: int = 3
    noise = 0

    def __str__(self) -> str:
        return f"choice-{self.count}" + "-by-index" * self.by_index

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        c = self.count
        return {"prior": (c,), "decoder": (c, 2), "encoder": (2, c), "encoder.bias": (c,)}

    @property
    def sites(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        return {"k": (() if self.by_index else (self.count,), True)}

    def values(self, name: str) -> np.ndarray:
        return np.arange(self.count) if self.by_index else np.eye(self.count)

    params, data = Net.params, Net.data

    def draw(self, ppl: Any, logits: Any, counts: Any) -> Any:
        fn = ppl.dist.Categorical(logits=logits) if self.by_index else ppl.one_hot_categorical(logits)
        return fn.mask(counts) if self.masked else fn

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        prior, decoder = (ppl.param(n, ppl.xp.zeros(self.shapes[n])) for n in ("prior", "decoder"))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            k = ppl.sample("k", self.draw(ppl, prior + 0 * x[:, :1], x[:, 3] > 0))
            of_x = ppl.dist.Bernoulli(logits=decoder[k] if self.by_index else k @ decoder).to_event(1)
            ppl.sample("x", of_x.mask(x[:, 2] > 0) if self.masked else of_x, obs=x[:, :2])

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        weight, bias = (ppl.param(n, ppl.xp.zeros(self.shapes[n])) for n in ("encoder", "encoder.bias"))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("k", self.draw(ppl, x[:, :2] @ weight + bias, x[:, 3] > 0))

    def chance(self, p: Arrays, x: np.ndarray, name: str) -> np.ndarray:
        """Of each stick, that it is chosen where none before it was."""
        q = np.exp(x[..., :2] @ p["encoder"] + p["encoder.bias"])
        return q[..., :-1] / np.cumsum(q[..., ::-1], -1)[..., ::-1][..., :-1]

    def log_q(self, p: Arrays, x: Any, v: Arrays) -> dict[str, Any]:
        q = jax.nn.log_softmax(x[..., :2] @ p["encoder"] + p["encoder.bias"])
        one_hot = np.eye(self.count)[v["k"]] if self.by_index else v["k"]
        return {"k": (one_hot * q).sum(-1)}

    def of_states(self, p: Arrays, x: Any) -> tuple[Any, Any, Any]:
        counts_x, counts_k = (x[:, 2], x[:, 3]) if self.masked else (1.0, 1.0)
        log_q = jax.nn.log_softmax(x[:, :2] @ p["encoder"] + p["encoder.bias"]).T
        cost = counts_k * (jax.nn.log_softmax(p["prior"])[:, None] - log_q)
        return cost + counts_x * bernoulli(p["decoder"][:, None], x[:, :2]).sum(-1), log_q, counts_k * log_q

    def exact(self, p: Arrays, x: Any) -> Any:
        """The ELBO of all rows of x."""
        log_w, log_q, _ = self.of_states(p, x)
        return (jnp.exp(log_q) * log_w).sum()


class Setting(NamedTuple):
    """How many rows a minibatch has, of how many, and what scales the whole."""

    batch: int
    total: int
    scale: float = 1.0

    def minibatches(self, data: np.ndarray) -> np.ndarray:
        """(minibatches, batch, columns)."""
        return np.stack([data[list(rows)] for rows in combinations(range(self.total), self.batch)])


@cache
def exact(program: Any, rows: int, scale: float = 1.0) -> np.ndarray:
    """The gradient of scale · ELBO in the constrained parameters, one flat vector in order of name."""
    with jax.enable_x64(True):
        data, params = jnp.asarray(program.data(rows)), {n: jnp.asarray(v) for n, v in program.params().items()}
        out = jax.jit(jax.grad(program.exact), compiler_options=QUICK)(params, data)
        return scale * flat({name: np.asarray(value) for name, value in out.items()})


@cache
def exact_bound(program: Any, rows: int, particles: int, scale: float = 1.0, wake: bool = False) -> np.ndarray:
    """The gradient of scale · L_K, summed over every tuple of K states of each row; or what wake-sleep stands for."""

    def total(p: Arrays, x: Any) -> Any:
        log_w, log_q, counted = program.of_states(p, x)
        index = grid((len(log_w),) * particles).astype(int)
        value = jax.nn.logsumexp(log_w[index], axis=1) - np.log(particles)
        if not wake:
            return (jnp.exp(log_q[index].sum(1)) * value).sum()
        # The model's part of ∇L_K, and the mean of Σₖ w̃ₖ ∇log q(zₖ): draws and weights are given.
        mass, share = jnp.exp(log_q[index].sum(1)), jax.nn.softmax(log_w[index], axis=1)
        return (jax.lax.stop_gradient(mass[:, None] * share) * (log_w + 2 * counted)[index]).sum()

    with jax.enable_x64(True):
        data, params = jnp.asarray(program.data(rows)), {n: jnp.asarray(v) for n, v in program.params().items()}
        out = jax.jit(jax.grad(total), compiler_options=QUICK)(params, data)
        return scale * flat({name: np.asarray(value) for name, value in out.items()})


def flat(gradient: Arrays) -> np.ndarray:
    return np.concatenate([np.asarray(gradient[name]).ravel() for name in sorted(gradient)])


class Outcomes(NamedTuple):
    """All joint outcomes of an estimator's draws: forced values by site, forced noise, and probabilities."""

    given: dict[str, np.ndarray]  # (outcomes, minibatches or 1, samples × rows, *draw)
    noise: np.ndarray | None  # (outcomes, noise)
    probability: np.ndarray  # (outcomes, minibatches)


def values_of(program: Any, name: str) -> np.ndarray:
    """Every value of one draw, (values, *shape): of bits, unless the program says otherwise."""
    told = getattr(program, "values", None)
    shape = program.sites[name][0]
    return told(name) if told else grid((2,) * int(np.prod(shape, dtype=int))).reshape(-1, *shape)


def outcomes(program: Any, plan: Mapping[str, Any], params: Arrays, x: np.ndarray, particles: int = 1) -> Outcomes:
    """Of the draws that `plan` makes on the minibatches x (minibatches, batch, columns)."""
    samples, batch = num_samples(plan, particles) if plan else 1, x.shape[1]
    summed = [n for n in program.sites if n in plan and plan[n].variant == "enumerate"]
    drawn = [n for n in program.sites if n not in summed]
    single = {n: values_of(program, n) for n in program.sites}
    plates = {n: (batch,) if per_row else () for n, (_, per_row) in program.sites.items()}
    table = grid(tuple(len(single[n]) for n in summed)).astype(int)
    rows = len(table)
    count = {n: samples * rows * int(np.prod(plates[n], dtype=int)) for n in drawn}
    sizes = tuple(len(single[n]) for n in drawn for _ in range(count[n]))
    assert np.prod(sizes) <= 2**12, f"{np.prod(sizes)} are too many outcomes"
    draws = grid(sizes).astype(int)
    sampled = "z" in plan and plan["z"].variant == "score" and samples > 1  # coupled samples: force z itself
    eps, mass = hermite(program.noise * samples if sampled else program.noise) if program.noise else (None, np.ones(1))
    nodes = len(mass)
    given, values, start = {}, {}, 0
    for name in drawn:  # outcomes: discrete draws slowest, noise fastest
        value = single[name][draws[:, start : start + count[name]]]
        value = value.reshape(-1, 1, samples * rows, *plates[name], *single[name].shape[1:])
        start, given[name], values[name] = start + count[name], value.repeat(nodes, 0), value
    for i, name in enumerate(summed):
        value = np.tile(single[name][table[:, i]], (samples, *(1,) * (single[name].ndim - 1)))
        values[name] = value.reshape(1, 1, samples * rows, *(1,) * len(plates[name]), *single[name].shape[1:])
    with jax.enable_x64(True):
        log_q = program.log_q(params, x[None, :, None], values)
    log_mass = np.zeros((len(draws), len(x)))
    for name in drawn:
        value = np.asarray(log_q[name])
        log_mass = log_mass + value.reshape(*value.shape[:2], -1).sum(-1) if value.shape[2:] else log_mass + value
    probability = (np.exp(log_mass)[:, None] * mass[None, :, None]).reshape(-1, len(x))
    if sampled:
        loc, scale = program.q({n: np.asarray(v) for n, v in params.items()}, x)
        eps = eps.reshape(nodes, 1, samples, 1, program.noise)
        given["z"] = np.tile(loc[None, :, None] + scale * eps, (len(draws), 1, 1, 1, 1))
    found = Outcomes(given, None if eps is None or sampled else np.tile(eps, (len(draws), 1)), probability)
    for name in plan:
        if isinstance(plan[name], Disarm):
            found = paired(name, program.chance(params, x, name), found)
        elif isinstance(plan[name], Rebar):
            relaxed = [n for n in plan if isinstance(plan[n], Rebar)]
            points = RELAXED[sum(int(np.prod(given[n].shape[2:], dtype=int)) for n in relaxed)]
            found = conditioned(name, points, hasattr(program, "values"), found)
        elif isinstance(plan[name], MeasureValued):
            found = replaced(name, (samples * rows, batch, program.noise), found)
    assert np.allclose(found.probability.sum(0), 1.0, atol=1e-12)
    return found


def paired(name: str, p: np.ndarray, found: Outcomes) -> Outcomes:
    """With the uniform noise of an antithetic pair: of each bit, every range of u that leads to another pair.

    `p` are the chances of a row's independent bits, (minibatches, rows, bits), or one number: of a category those of its
    sticks, one fewer than the one-hot value is long. What is estimated is linear in u within a range, which is forced just
    inside of both its ends: a range that the estimator takes to end elsewhere is seen.
    """
    value = found.given[name]  # (outcomes, 1, samples × rows, *draw)
    if value.ndim == p.ndim + 1:  # an index
        value = np.eye(p.shape[-1] + 1)[value]
    p = p[None, :, None] if p.ndim > 1 else p.reshape(1, 1, 1, *p.shape)
    if bits := p.shape[-1] == value.shape[-1] or value.ndim == 3:
        before = np.zeros_like(value)
    else:
        value = value[..., :-1]
        before = np.cumsum(value, -1) - value
    p = np.broadcast_to(p, (value.shape[0], found.probability.shape[1], *value.shape[2:]))
    value, before = np.broadcast_to(value, p.shape), np.broadcast_to(before, p.shape)
    cut = np.where(value > 0, (1 - p) / p, (1 - 2 * p) / (1 - p)).clip(0, 1)  # of the noise: above it the partner is 1
    low, high = np.where(before > 0, np.minimum(p, 1 - p), cut), np.where(before > 0, np.maximum(p, 1 - p), 1.0)
    edges = np.stack([np.zeros_like(p), low, *(() if bits else (high,)), np.ones_like(p)])
    count = int(np.prod(value.shape[2:], dtype=int))
    near = np.stack([edges[:-1] + 1e-9 * np.diff(edges, axis=0), edges[1:] - 1e-9 * np.diff(edges, axis=0)], 1)
    near, share = near.reshape(-1, *p.shape), np.diff(edges, axis=0).repeat(2, 0) / 2
    which = grid((len(near),) * count).astype(int).reshape(-1, 1, 1, *value.shape[2:])
    noise, mass = (np.stack([np.choose(w, of) for w in which]) for of in (near, share))
    mass = mass.reshape(*mass.shape[:3], -1).prod(-1)
    if not bits:
        noise = np.concatenate([noise, np.full_like(noise[..., :1], 0.5)], -1)
    given = {n: np.tile(v, (len(which), *(1,) * (v.ndim - 1))) for n, v in found.given.items()}
    given[f"{name}~"] = noise.reshape(-1, *noise.shape[2:])
    return Outcomes(given, _tiled(found.noise, len(which)), (mass * found.probability).reshape(-1, found.probability.shape[1]))


def conditioned(name: str, points: int, gumbel: bool, found: Outcomes) -> Outcomes:
    """With the noise u of a relaxed draw given the draw, by the trapezoidal rule in log u / (1 − u), or −log(−log u).

    Of analytic integrands that fall off at both ends it converges as exp(−points).
    """
    value = found.given[name]  # (outcomes, 1, samples × rows, *draw)
    count, far = int(np.prod(value.shape[2:], dtype=int)), 30 if points > 100 else 18
    t, width = np.linspace(-4 if gumbel else -far, far, points, retstep=True)
    u, slope = (np.exp(-np.exp(-t)), np.exp(-t)) if gumbel else (1 / (1 + np.exp(-t)), 1 / (1 + np.exp(t)))
    index = np.array(list(product(range(points), repeat=count)))
    mass = (width * u * slope)[index].prod(-1)
    given = {n: np.tile(v, (len(index), *(1,) * (v.ndim - 1))) for n, v in found.given.items()}
    given[f"{name}~"] = u[index].reshape(-1, 1, *value.shape[2:]).repeat(len(value), 0)
    probability = (mass[:, None, None] * found.probability).reshape(-1, found.probability.shape[1])
    return Outcomes(given, _tiled(found.noise, len(index)), probability / probability.sum(0))


def replaced(name: str, shape: tuple[int, ...], found: Outcomes) -> Outcomes:
    """With the noise of measure-valued pairs, at nodes exact for polynomials of degree 5: w, and jointly m and u.

    Coordinates and rows add up, so that all of them may share their noise.
    """
    (w, of_w), (m, of_m) = gauss(lambda t: t * np.exp(-t * t / 2), 0, 5), gauss(lambda t: t * t * np.exp(-t * t / 2), -12, 4)
    u, of_u = np.polynomial.legendre.leggauss(3)
    index = np.array(list(product(range(5), range(4), range(3))))
    w, m, u = w[index[:, 0]], m[index[:, 1]], (u[index[:, 2]] + 1) / 2
    mass = of_w[index[:, 0]] * of_m[index[:, 1]] * of_u[index[:, 2]] / 2
    noise = np.stack([1 - np.exp(-w * w / 2), 1 - np.exp(-m * m / 2), 0 * m, 0 * m, (m > 0) * 1.0, u], 1)
    noise = np.broadcast_to(noise.reshape(len(mass), 1, 6, *(1,) * len(shape)), (len(mass), 1, 6, *shape))
    given = {n: np.tile(v, (len(mass), *(1,) * (v.ndim - 1))) for n, v in found.given.items()}
    given[f"{name}~"] = noise.repeat(len(found.probability), 0)
    probability = (mass[:, None, None] * found.probability).reshape(-1, found.probability.shape[1])
    return Outcomes(given, _tiled(found.noise, len(mass)), probability)


def _tiled(noise: np.ndarray | None, times: int) -> np.ndarray | None:
    return None if noise is None else np.tile(noise, (times, 1))


def gauss(density: Callable[[np.ndarray], np.ndarray], low: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss rule of a density on (low, 12), which is scaled to one (Golub and Welsch 1969)."""
    t, weight = np.polynomial.legendre.leggauss(400)
    t, weight = low + (t + 1) * (12 - low) / 2, weight * density(low + (t + 1) * (12 - low) / 2)
    weight = weight / weight.sum()
    before, now, beta, matrix = np.zeros_like(t), np.ones_like(t), 0.0, np.zeros((count, count))
    for i in range(count):
        matrix[i, i] = (weight * t * now * now).sum()
        after = (t - matrix[i, i]) * now - beta * before
        beta = np.sqrt((weight * after**2).sum())
        before, now = now, after / beta
        if i + 1 < count:
            matrix[i, i + 1] = matrix[i + 1, i] = beta
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes, vectors[0] ** 2


@contextmanager
def forced_noise(engine: str, noise: Callable[[], Any]) -> Iterator[None]:
    """Let every standard normal that the engine draws be `noise()`, broadcast."""
    if engine == "numpyro":
        targets = [(jax.random, "normal", lambda key, shape=(), dtype=float, **_: jnp.broadcast_to(noise(), shape))]
    else:
        import torch

        module = torch.distributions.normal
        targets = [
            (module, "_standard_normal", lambda shape, dtype, device: noise().expand(shape)),
            (torch, "normal", lambda mean, std: mean + std * noise()),
        ]
    before = [getattr(owner, name) for owner, name, _ in targets]
    for owner, name, new in targets:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for (owner, name, _), old in zip(targets, before, strict=True):
            setattr(owner, name, old)


def expectation(
    engine: str, spec: Any, program: Any, setting: Setting, state: Arrays | None = None, particles: int = 0
) -> np.ndarray:
    """E[gradient] over all outcomes of the estimator's draws, averaged over all minibatches, flat in order of name.

    `state` is of the controls, by site; the gradient is of the ELBO (not the loss), or of the K-sample bound of so many
    `particles`, in constrained parameters.
    """
    x, bound = setting.minibatches(program.data(setting.total)), {"bound": "iwae", "num_particles": particles}
    how = bound if particles else {}
    return {"numpyro": _numpyro, "pyro": _pyro}[engine](spec, program, setting, x, program.params(), state or {}, how)


def _numpyro(
    spec: Any, program: Any, setting: Setting, x: np.ndarray, params: Arrays, state: Arrays, how: Arrays
) -> np.ndarray:
    from numpyro import handlers

    from inference._numpyro import session
    from inference.estimators._numpyro import make

    with session("float64", "cpu"):
        model, guide = bind(program, "numpyro", total=setting.total)
        if setting.scale != 1:
            model, guide = handlers.scale(model, setting.scale), handlers.scale(guide, setting.scale)
        elbo, params = make(spec, **how), {n: jnp.asarray(v) for n, v in params.items()}
        plan = elbo.plan(model, guide, (jnp.asarray(x[0]),), {}, params)[0] if hasattr(elbo, "plan") else {}
        found = outcomes(program, plan, {n: np.asarray(v) for n, v in params.items()}, x, how.get("num_particles", 1))
        state = {name: tuple(jnp.asarray(s) for s in pair) for name, pair in state.items()}
        axes = {name: (0 if value.shape[1] > 1 else None) for name, value in found.given.items()}
        given = {name: value if axes[name] == 0 else value[:, 0] for name, value in found.given.items()}
        noise = np.zeros(len(found.probability)) if found.noise is None else found.noise

        def loss(params: Any, given: Any, noise: Any, x: Any) -> Any:
            with forced_noise("numpyro", lambda: noise):
                return elbo.evaluate(jax.random.key(0), params, state, model, guide, (x,), {}, given)[0]

        def mean(params: Any, x: Any, given: Any, noise: Any, weight: Any) -> Any:
            inner = jax.vmap(loss, in_axes=(None, axes, None, 0))
            values = jax.vmap(inner, in_axes=(None, 0, 0, None))(params, given, noise, x)
            return -(weight * values).sum(0).mean()

        out = jax.jit(jax.grad(mean), compiler_options=QUICK)(params, x, given, noise, found.probability)
        return flat({name: np.asarray(value) for name, value in out.items()})


def _pyro(
    spec: Any, program: Any, setting: Setting, x: np.ndarray, params: Arrays, state: Arrays, how: Arrays
) -> np.ndarray:
    import torch
    from pyro import poutine

    from inference._pyro import array, session
    from inference.estimators._pyro import make

    with session("float64", "cpu"):
        model, guide = bind(program, "pyro", total=setting.total)
        if setting.scale != 1:
            model, guide = poutine.scale(model, scale=setting.scale), poutine.scale(guide, scale=setting.scale)
        elbo, leaves = make(spec, **how), {n: array(v).requires_grad_() for n, v in params.items()}
        ours = hasattr(elbo, "plan")
        plan = elbo.plan(model, guide, (array(x[0]),), {}, leaves)[0] if ours else {}
        found = outcomes(program, plan, params, x, how.get("num_particles", 1))
        state = {name: tuple(array(s) for s in pair) for name, pair in state.items()}
        count, batches = found.probability.shape
        given = {n: array(np.broadcast_to(v, (count, batches, *v.shape[2:])).reshape(-1, *v.shape[2:]))
                 for n, v in found.given.items()}  # fmt: skip
        noise = array(np.zeros((count, 1)) if found.noise is None else found.noise).repeat_interleave(batches, 0)
        rows, weight = array(np.tile(x, (count, 1, 1))), array(found.probability.reshape(-1))

        def loss(given: Any, noise: Any, x: Any) -> Any:
            with forced_noise("pyro", lambda: noise):
                return elbo.evaluate(leaves, state, model, guide, (x,), {}, given)[0]

        if ours:
            # What a relaxed draw leads to is drawn anew, the same in all outcomes.
            randomness = "same" if any(isinstance(e, Rebar) for e in plan.values()) else "error"
            values = torch.func.vmap(loss, randomness=randomness)(given, noise, rows)
        else:  # the library's classes call backward, which vmap refuses
            one = [loss({n: v[i] for n, v in given.items()}, noise[i], rows[i]) for i in range(len(rows))]
            values = torch.stack(one)
        mean = -(weight * values).sum() / batches
        out = torch.autograd.grad(mean, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return flat({name: value.numpy() for name, value in zip(leaves, out, strict=True)})


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference, as a share of the norm."""
    return float(np.abs(found - truth).max() / np.linalg.norm(truth))


def once(
    engine: str, spec: Any, program: Any, setting: Setting, given: Arrays, state: Arrays
) -> tuple[float, np.ndarray, dict[str, tuple[float, float]]]:
    """One run at forced draws on the first minibatch: the ELBO, its gradient estimate, and the controls' next state."""
    x, values = setting.minibatches(program.data(setting.total))[0], program.params()
    if engine == "numpyro":
        from inference._numpyro import session
        from inference.estimators._numpyro import make

        with session("float64", "cpu"):
            bound, elbo = bind(program, engine, total=setting.total), make(spec)

            def loss(params: Any) -> Any:
                return elbo.evaluate(jax.random.key(0), params, carried, *bound, (x,), {}, given)

            carried = {name: tuple(jnp.asarray(s) for s in pair) for name, pair in state.items()}
            step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
            (value, after), out = step({n: jnp.asarray(v) for n, v in values.items()})
            return -value.item(), -flat(out), {n: (float(a), float(b)) for n, (a, b) in after.items()}
    import torch

    from inference._pyro import array, session
    from inference.estimators._pyro import make

    with session("float64", "cpu"):
        leaves = {n: array(v).requires_grad_() for n, v in values.items()}
        carried = {n: tuple(map(array, pair)) for n, pair in state.items()}
        forced = {n: array(v) for n, v in given.items()}
        bound = bind(program, engine, total=setting.total)
        value, after = make(spec).evaluate(leaves, carried, *bound, (array(x),), {}, forced)
        found = torch.autograd.grad(value, list(leaves.values()))
        out = {name: g.numpy() for name, g in zip(leaves, found, strict=True)}
        return -value.item(), -flat(out), {n: (float(a), float(b)) for n, (a, b) in after.items()}


class Case(NamedTuple):
    """An estimator on a program that it applies to; `batch` keeps its joint outcomes at most 2¹²."""

    program: Any
    spec: Any
    batch: int = 2
    state: Any = None  # of the controls, frozen
    particles: int = 0  # K of the K-sample bound; 0 is the ELBO
    tolerance: float = 1e-9  # of its bias: looser where the noise of two relaxed numbers is summed on a grid

    def __str__(self) -> str:
        spec = self.spec or "default"
        if isinstance(spec, Mapping):
            spec = "+".join(f"{site}:{e}" for site, e in spec.items())
        return f"{spec}@{self.program}" + (f"-K{self.particles}" if self.particles else "")


THREE, TWO, GLOBAL = Net(), Net((2, 1)), Net((2,), shared=True)
CHOICE = Choice()
LINE, PLANE, MIXTURE = Curve(), Curve(2), Curve(switch=True)
ONE = Net((1,))
MEAN = {"z1": (0.37, 0.9)}  # the running mean of some past steps


def trained(estimator: Any, size: int = 2, columns: int = 4) -> tuple[np.ndarray, ...]:
    """A state of a control as some training might leave it: what it holds at zero moved, squares positive."""
    rng, site = np.random.default_rng(5), Latent("", "", False, None, False, True, size=size)
    return tuple(0.5 * np.abs(rng.normal(size=v.shape)) + 0.2 for v in estimator.start(site, columns))


#: Every estimator alone. A new estimator joins by a row.
ALONE = [
    Case(THREE, "score"),
    Case(THREE, "running-mean", state=MEAN),
    Case(THREE, Score(Nvil(hidden=2)), state={"z1": trained(Nvil(hidden=2))}),
    Case(THREE, "leave-one-out"),
    Case(Net((2,)), Score(LeaveOneOut(3))),
    Case(THREE, "disarm", 1),
    Case(THREE, "arm", 1),
    Case(CHOICE, "disarm", 1),
    Case(CHOICE, "arm", 1),
    Case(Choice(by_index=True), "disarm", 1),
    Case(CHOICE, "enumerate"),
    Case(ONE, "rebar", 1, {"z1": trained(Rebar())}),
    Case(ONE, Relax(hidden=2), 1, {"z1": trained(Relax(hidden=2), 1)}),
    Case(Net((2,)), "rebar", 1, {"z1": trained(Rebar())}, tolerance=1e-7),
    Case(Choice(count=2), "rebar", 1, {"k": trained(Rebar())}, tolerance=1e-7),
    Case(THREE, "enumerate-local"),
    Case(THREE, "enumerate"),
    Case(LINE, "pathwise", 1),
    Case(PLANE, "pathwise-kl", 1),
    Case(PLANE, "path-only", 1),
    Case(PLANE, "score", 1),
    Case(LINE, "leave-one-out", 1),
    Case(LINE, "measure-valued", 1),
    Case(PLANE, "measure-valued", 1),
    Case(THREE, "score", 1, None, 2),
    Case(THREE, "vimco", 1, None, 2),
    Case(Net((2,)), "vimco", 1, None, 5),
    Case(THREE, "ovis", 1, None, 2),
    Case(CHOICE, "vimco", 1, None, 3),
    Case(THREE, "wake-sleep", 1, None, 2),
    Case(CHOICE, "wake-sleep", 1, None, 3),
    Case(Net((2,)), Score(Ovis(2)), 1, None, 3),
]
#: Plans of several sites.
MIXED = [
    Case(TWO, "score"),
    Case(TWO, {"z1": "enumerate", "z2": "score"}),
    Case(TWO, {"z1": "leave-one-out", "z2": "enumerate"}, 1),
    Case(TWO, {"z1": "running-mean", "z2": "leave-one-out"}, 1, MEAN),
    Case(TWO, None),
    Case(GLOBAL, "leave-one-out"),
    Case(GLOBAL, {"g": "score"}),
    Case(GLOBAL, {"g": "disarm", "z1": "score"}, 1),
    Case(GLOBAL, "disarm", 1),
    Case(GLOBAL, {"g": "enumerate", "z1": "disarm"}, 1),
    Case(GLOBAL, {"g": "enumerate-local", "z1": "leave-one-out"}, 1),
    Case(MIXTURE, {"c": "disarm", "z": "pathwise"}, 1),
    Case(MIXTURE, {"c": "rebar", "z": "pathwise"}, 1, {"c": trained(Rebar())}),
    Case(Net((1, 1)), "rebar", 1, {"z1": trained(Rebar()), "z2": trained(Rebar())}, tolerance=1e-7),
    Case(Net((1, 1)), {"z1": "rebar", "z2": "enumerate"}, 1, {"z1": trained(Rebar())}, tolerance=1e-7),
    Case(GLOBAL, {"g": "enumerate", "z1": "score"}),
    Case(MIXTURE, None, 1),
    Case(MIXTURE, {"c": "leave-one-out", "z": "pathwise-kl"}, 1),
    Case(MIXTURE, {"c": "score", "z": "path-only"}, 1),
    Case(MIXTURE, {"c": "enumerate", "z": "score"}, 1),
    Case(MIXTURE, {"c": "enumerate", "z": "measure-valued"}, 1),
    Case(MIXTURE, {"c": "enumerate-local", "z": "pathwise"}, 1),
]


def settings(case: Case) -> dict[str, tuple[Any, Setting]]:
    """The case's program and minibatches: plain, and in every way that the libraries' scales and masks can bend."""
    masked, batch = replace(case.program, masked=True), case.batch
    return {
        "full": (case.program, Setting(batch, batch)),
        "subsampled": (case.program, Setting(batch, 3)),
        "scaled": (case.program, Setting(batch, batch, 3.0)),
        "masked": (masked, Setting(2 if case.batch == 2 else 1, 2)),
        "all": (masked, Setting(batch, 3, 3.0)),
    }


def bias(engine: str, case: Case, where: str) -> float:
    """Of the estimator's expectation, as a share of the exact gradient's norm."""
    program, setting = settings(case)[where]
    found = expectation(engine, case.spec, program, setting, case.state, case.particles)
    if case.particles:
        wake = case.spec == "wake-sleep"
        return error(found, exact_bound(program, setting.total, case.particles, setting.scale, wake))
    return error(found, exact(program, setting.total, setting.scale))


#: Where each case is tried by the tests and by `python -m tests.exact`.
WHERE = [(case, where) for case in ALONE for where in ("full", "subsampled", "scaled", "masked")]
WHERE += [(case, where) for case in MIXED for where in ("full", "all")]


def tracegraph_factor(batch: int, total: int) -> float:
    """What NumPyro's own TraceGraph_ELBO multiplies the guide's gradient by, one Bernoulli latent, by exact expectation."""
    found, truth = expectation("numpyro", "stock-tracegraph", ONE, Setting(batch, total)), exact(ONE, total)
    block = Blocks.of(ONE.shapes).slices["encoder.bias"]
    return float(found[block][0] / truth[block][0])


def main() -> None:
    """Print the whole table as JSON: largest relative bias of every case, setting and engine."""
    table = {f"{engine}/{case}/{where}": bias(engine, case, where) for engine in ("numpyro", "pyro") for case, where in WHERE}
    factors = {f"{batch} of {total}": tracegraph_factor(batch, total) for batch, total in ((4, 4), (4, 20), (2, 20))}
    allowed = {f"{case}/{where}": case.tolerance / 1e-9 for case, where in WHERE}
    largest = max(found / allowed[name.partition("/")[2]] for name, found in table.items())
    print(json.dumps({"bias": table, "largest": largest, "tracegraph_factor": factors}))


if __name__ == "__main__":
    main()
