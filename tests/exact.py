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

from inference import LeaveOneOut, Score
from inference.estimators import num_samples
from inference.gradients.blocks import Blocks
from ppl_models import bind

Arrays = Mapping[str, Any]
#: Each program is run once: compiling it well does not pay.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
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

    def log_q(self, p: Arrays, x: Any, v: Arrays) -> dict[str, Any]:
        """Of each site at the values v, one number a row."""
        out = {"g": bernoulli(p["g.guide"], v["g"])} if self.shared else {}
        out["z1"] = bernoulli(x[..., :2] @ p["encoder"] + p["encoder.bias"], v["z1"]).sum(-1)
        if len(self.bits) == 2:
            out["z2"] = bernoulli(x[..., :2] @ p["encoder2"] + v["z1"] @ p["encoder12"], v["z2"]).sum(-1)
        return out

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


def flat(gradient: Arrays) -> np.ndarray:
    return np.concatenate([np.asarray(gradient[name]).ravel() for name in sorted(gradient)])


class Outcomes(NamedTuple):
    """All joint outcomes of an estimator's draws: forced values by site, forced noise, and probabilities."""

    given: dict[str, np.ndarray]  # (outcomes, minibatches or 1, samples × rows, *draw)
    noise: np.ndarray | None  # (outcomes, noise)
    probability: np.ndarray  # (outcomes, minibatches)


def outcomes(program: Any, plan: Mapping[str, Any], params: Arrays, x: np.ndarray) -> Outcomes:
    """Of the draws that `plan` makes on the minibatches x (minibatches, batch, columns)."""
    samples, batch = num_samples(plan) if plan else 1, x.shape[1]
    summed = [n for n in program.sites if n in plan and plan[n].variant == "enumerate"]
    shapes = {n: (*((batch,) if per_row else ()), *shape) for n, (shape, per_row) in program.sites.items()}
    sizes = {n: int(np.prod(program.sites[n][0], dtype=int)) for n in summed}
    table = grid((2,) * sum(sizes.values()))
    rows = len(table)
    drawn = [n for n in program.sites if n not in summed]
    count = {n: samples * rows * int(np.prod(shapes[n], dtype=int)) for n in drawn}
    bits = sum(count.values())
    assert bits <= 12, f"{bits} bits are too many outcomes"
    draws = grid((2,) * bits)
    sampled = "z" in plan and plan["z"].variant == "score" and samples > 1  # coupled samples: force z itself
    eps, mass = hermite(program.noise * samples if sampled else program.noise) if program.noise else (None, np.ones(1))
    nodes = len(mass)
    given, values, start = {}, {}, 0
    for name in drawn:  # outcomes: bits slowest, noise fastest
        value = draws[:, start : start + count[name]].reshape(-1, 1, samples * rows, *shapes[name])
        start, given[name], values[name] = start + count[name], value.repeat(nodes, 0), value
    start = 0
    for name in summed:
        value = np.tile(table[:, start : start + sizes[name]], (samples, 1))
        per_row = program.sites[name][1]
        values[name] = value.reshape(1, 1, samples * rows, *((1,) if per_row else ()), *program.sites[name][0])
        start += sizes[name]
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
    assert np.allclose(probability.sum(0), 1.0, atol=1e-12)
    return Outcomes(given, None if eps is None or sampled else np.tile(eps, (len(draws), 1)), probability)


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


def expectation(engine: str, spec: Any, program: Any, setting: Setting, state: Arrays | None = None) -> np.ndarray:
    """E[gradient] over all outcomes of the estimator's draws, averaged over all minibatches, flat in order of name.

    `state` is of the controls, by site; the gradient is of the ELBO (not the loss), in constrained parameters.
    """
    x = setting.minibatches(program.data(setting.total))
    return {"numpyro": _numpyro, "pyro": _pyro}[engine](spec, program, setting, x, program.params(), state or {})


def _numpyro(spec: Any, program: Any, setting: Setting, x: np.ndarray, params: Arrays, state: Arrays) -> np.ndarray:
    from numpyro import handlers

    from inference._numpyro import session
    from inference.estimators._numpyro import make

    with session("float64", "cpu"):
        model, guide = bind(program, "numpyro", total=setting.total)
        if setting.scale != 1:
            model, guide = handlers.scale(model, setting.scale), handlers.scale(guide, setting.scale)
        elbo, params = make(spec), {n: jnp.asarray(v) for n, v in params.items()}
        plan = elbo.plan(model, guide, (jnp.asarray(x[0]),), {}, params)[0] if hasattr(elbo, "plan") else {}
        found = outcomes(program, plan, {n: np.asarray(v) for n, v in params.items()}, x)
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


def _pyro(spec: Any, program: Any, setting: Setting, x: np.ndarray, params: Arrays, state: Arrays) -> np.ndarray:
    import torch
    from pyro import poutine

    from inference._pyro import array, session
    from inference.estimators._pyro import make

    with session("float64", "cpu"):
        model, guide = bind(program, "pyro", total=setting.total)
        if setting.scale != 1:
            model, guide = poutine.scale(model, scale=setting.scale), poutine.scale(guide, scale=setting.scale)
        elbo, leaves = make(spec), {n: array(v).requires_grad_() for n, v in params.items()}
        ours = hasattr(elbo, "plan")
        plan = elbo.plan(model, guide, (array(x[0]),), {}, leaves)[0] if ours else {}
        found = outcomes(program, plan, params, x)
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
            values = torch.func.vmap(loss, randomness="error")(given, noise, rows)
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

    def __str__(self) -> str:
        spec = self.spec or "default"
        if isinstance(spec, Mapping):
            spec = "+".join(f"{site}:{e}" for site, e in spec.items())
        return f"{spec}@{self.program}"


THREE, TWO, GLOBAL = Net(), Net((2, 1)), Net((2,), shared=True)
LINE, PLANE, MIXTURE = Curve(), Curve(2), Curve(switch=True)
MEAN = {"z1": (0.37, 0.9)}  # the running mean of some past steps

#: Every estimator alone. A new estimator joins by a row.
ALONE = [
    Case(THREE, "score"),
    Case(THREE, "running-mean", state=MEAN),
    Case(THREE, "leave-one-out"),
    Case(Net((2,)), Score(LeaveOneOut(3))),
    Case(THREE, "enumerate"),
    Case(LINE, "pathwise", 1),
    Case(PLANE, "pathwise-kl", 1),
    Case(PLANE, "path-only", 1),
    Case(PLANE, "score", 1),
    Case(LINE, "leave-one-out", 1),
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
    Case(GLOBAL, {"g": "enumerate", "z1": "score"}),
    Case(MIXTURE, None, 1),
    Case(MIXTURE, {"c": "leave-one-out", "z": "pathwise-kl"}, 1),
    Case(MIXTURE, {"c": "score", "z": "path-only"}, 1),
    Case(MIXTURE, {"c": "enumerate", "z": "score"}, 1),
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
    found = expectation(engine, case.spec, program, setting, case.state)
    return error(found, exact(program, setting.total, setting.scale))


#: Where each case is tried by the tests and by `python -m tests.exact`.
WHERE = [(case, where) for case in ALONE for where in ("full", "subsampled", "scaled", "masked")]
WHERE += [(case, where) for case in MIXED for where in ("full", "all")]
ONE = Net((1,))


def tracegraph_factor(batch: int, total: int) -> float:
    """What NumPyro's own TraceGraph_ELBO multiplies the guide's gradient by, one Bernoulli latent, by exact expectation."""
    found, truth = expectation("numpyro", "stock-tracegraph", ONE, Setting(batch, total)), exact(ONE, total)
    block = Blocks.of(ONE.shapes).slices["encoder.bias"]
    return float(found[block][0] / truth[block][0])


def main() -> None:
    """Print the whole table as JSON: largest relative bias of every case, setting and engine."""
    table = {f"{engine}/{case}/{where}": bias(engine, case, where) for engine in ("numpyro", "pyro") for case, where in WHERE}
    factors = {f"{batch} of {total}": tracegraph_factor(batch, total) for batch, total in ((4, 4), (4, 20), (2, 20))}
    print(json.dumps({"bias": table, "largest": max(table.values()), "tracegraph_factor": factors}))


if __name__ == "__main__":
    main()
