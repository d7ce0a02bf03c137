"""Both engines, and a third Language, give every declaration the same sites, densities, gradients and files."""

from collections.abc import Mapping
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from jax import random
from numpyro import handlers
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample

from inference._pyro import Parameters
from inference.files import load_params, save_params
from ppl_models import bind
from ppl_models.language import ENGINES, WORDS, language

from .catalogue import CATALOGUE, IDS, Inputs, Recorder, Row, arrays, close, exact, random_params, record, shared
from .catalogue import tail_latents as tails
from .exact import QUICK

TOTAL = 20
METHODS = ("model", "guide")
PARTICLES = 2
each_row = pytest.mark.parametrize("row", CATALOGUE, ids=IDS)
each_engine = pytest.mark.parametrize("engine", ENGINES)


# --- sites ------------------------------------------------------------------------------------------------------------


def test_every_language_has_every_word():
    for ppl in (*map(language, ENGINES), Recorder()):
        assert [word for word in WORDS if not hasattr(ppl, word)] == []
    public = {name for name in vars(Recorder) if not name.startswith("_")}
    assert public == set(WORDS)


def numpyro_sites(program: Any, data: Inputs) -> list[tuple]:
    found = []

    def run(*data: Any) -> None:
        trace = handlers.trace(handlers.seed(program, random.key(0))).get_trace(*data)
        for name, site in trace.items():
            if site["type"] == "plate":
                found.append(("plate", name, (site["args"][1],), ()))
            else:
                frames = sorted(site["cond_indep_stack"], key=lambda f: f.dim)
                plates = tuple((f.name, f.size, trace[f.name]["args"][0]) for f in frames)
                sample = site["type"] == "sample"
                found.append((site["type"], name, np.shape(site["value"]), plates if sample else ()))

    jax.eval_shape(run, *data)
    return found


def pyro_sites(program: Any, data: Inputs) -> list[tuple]:
    with pyro.get_param_store().scope():
        trace = poutine.trace(program).get_trace(*map(torch.tensor, data))
    found = []
    for name, site in trace.nodes.items():
        if isinstance(site.get("fn"), _Subsample):  # how Pyro's trace shows a plate
            found.append(("plate", name, (len(site["value"]),), ()))
        elif site["type"] in ("param", "sample"):
            frames = sorted((f for f in site["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
            plates = tuple((f.name, f.size, f.full_size or f.size) for f in frames)
            found.append((site["type"], name, tuple(site["value"].shape), plates if site["type"] == "sample" else ()))
    return found


@each_row
@pytest.mark.parametrize(("size", "total"), [(5, None), (3, TOTAL)])
def test_sites_are_those_of_the_recording_language(row: Row, size: int, total: int | None):
    data = tuple(part[:size] for part in row.data(np.random.default_rng(0)))
    static = {} if total is None else {"total": total}
    for method, recorder in record(row.declaration, data, total).items():
        assert recorder.sites or method == "guide", "nothing was recorded"
        for name, shape, plates in [site[1:] for site in recorder.sites if site[0] == "sample"]:
            assert plates == (("data", size, total or size),), name
            assert shape[0] == size
        with exact("numpyro"):
            assert numpyro_sites(getattr(bind(row.declaration, "numpyro", **static), method), data) == recorder.sites
        with exact("pyro"):
            assert pyro_sites(getattr(bind(row.declaration, "pyro", **static), method), data) == recorder.sites


# --- densities and their gradients ------------------------------------------------------------------------------------


class Densities(SimpleNamespace):
    """By method: log p of each site for each datum, and gradients of their sum in constrained coordinates."""

    sites: dict[str, dict[str, np.ndarray]]
    gradients: dict[str, dict[str, np.ndarray]]


@cache
def numpyro_program(declaration: Any) -> Any:
    bound = bind(declaration, "numpyro", total=TOTAL)

    def density(params: Any, latents: Any, data: Any, method: str) -> Any:
        program = handlers.substitute(handlers.seed(getattr(bound, method), 0), data={**params, **latents})
        trace = handlers.trace(program).get_trace(*data)
        sites = {n: s["scale"] * s["fn"].log_prob(s["value"]) for n, s in trace.items() if s["type"] == "sample"}
        return sum((v.sum() for v in sites.values()), jax.numpy.zeros(())), sites

    both = {m: partial(jax.value_and_grad(density, has_aux=True), method=m) for m in METHODS}
    return jax.jit(lambda *args: {m: f(*args) for m, f in both.items()}, compiler_options=QUICK)


def numpyro_densities(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> Densities:
    with exact("numpyro"):
        program = numpyro_program(declaration)
        out = program(*(arrays("numpyro", v) for v in (params, latents)), tuple(map(shared("numpyro").array, data)))
        out = jax.tree.map(np.asarray, out)
    return Densities(sites={m: v[0][1] for m, v in out.items()}, gradients={m: v[1] for m, v in out.items()})


def pyro_densities(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> Densities:
    bound = bind(declaration, "pyro", total=TOTAL)
    out = Densities(sites={}, gradients={})
    with exact("pyro"):
        for method in METHODS:
            leaves = {name: value.requires_grad_() for name, value in arrays("pyro", params).items()}
            program = poutine.condition(getattr(bound, method), data=arrays("pyro", latents))
            with Parameters(leaves):
                trace = poutine.trace(program).get_trace(*map(shared("pyro").array, data))
            trace.compute_log_prob()
            sites = {n: trace.nodes[n]["log_prob"] for n in trace.stochastic_nodes + trace.observation_nodes}
            sites = {n: v for n, v in sites.items() if not isinstance(trace.nodes[n]["fn"], _Subsample)}
            out.sites[method] = {n: v.detach().numpy() for n, v in sites.items()}
            total = sum((v.sum() for v in sites.values()), 0.0 * sum(v.sum() for v in leaves.values()))
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
            out.gradients[method] = {n: g.numpy() for n, g in zip(leaves, found, strict=True)}
    return out


@each_row
def test_densities_and_gradients_agree(row: Row):
    rng = np.random.default_rng(1)
    data = row.data(rng)
    params, latents = random_params(row.declaration, data, rng), tails(row.declaration, data, rng)
    a, b = (f(row.declaration, params, latents, data) for f in (numpyro_densities, pyro_densities))
    moved = set()
    for method in METHODS:
        assert a.sites[method].keys() == b.sites[method].keys()
        for name, value in a.sites[method].items():
            assert value.shape == data[0].shape[:1], name
            close(value, b.sites[method][name], 1e-10)
        for name in params:
            close(a.gradients[method][name], b.gradients[method][name], 1e-10)
            if a.gradients[method][name].any():
                moved.add(name)
    assert moved == set(params) - row.unmoved, "some parameters have no gradient at all"


def pyro_particles(declaration: Any, params: Mapping, data: Inputs) -> tuple[dict, dict]:
    """Latents drawn in an outer plate of PARTICLES, and log p or log q of each site there."""
    bound = bind(declaration, "pyro", total=TOTAL)
    with exact("pyro"), torch.no_grad(), Parameters(arrays("pyro", params)):
        torch.manual_seed(0)
        given = tuple(map(shared("pyro").array, data))
        with pyro.plate("particles", PARTICLES, dim=-2):
            guide = poutine.trace(bound.guide).get_trace(*given)
            model = poutine.trace(poutine.replay(bound.model, trace=guide)).get_trace(*given)
        sites = {}
        for method, trace in zip(METHODS, (model, guide), strict=True):
            trace.compute_log_prob()
            found = {n: s for n, s in trace.nodes.items() if "log_prob" in s and not isinstance(s["fn"], _Subsample)}
            sites[method] = {n: s["log_prob"].numpy() for n, s in found.items()}
        return {n: guide.nodes[n]["value"].numpy() for n in sites["guide"]}, sites


def numpyro_particles(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> dict:
    bound = bind(declaration, "numpyro", total=TOTAL)

    def run(values: Any, data: Any) -> Any:
        sites = {}
        for method in METHODS:
            with numpyro.plate("particles", PARTICLES, dim=-2):
                program = handlers.substitute(handlers.seed(getattr(bound, method), 0), data=values)
                trace = handlers.trace(program).get_trace(*data)
            found = {n: s for n, s in trace.items() if s["type"] == "sample"}
            sites[method] = {n: s["scale"] * s["fn"].log_prob(s["value"]) for n, s in found.items()}
        return sites

    with exact("numpyro"):
        values = arrays("numpyro", {**params, **latents})
        out = jax.jit(run, compiler_options=QUICK)(values, tuple(map(shared("numpyro").array, data)))
        return jax.tree.map(np.asarray, out)


@each_row
def test_particles_are_drawn_and_scored_as_each_alone(row: Row):
    """A further left dimension, as a plate of particles or an enumerated site gives, changes nothing but the shape."""
    rng = np.random.default_rng(7)
    data = row.data(rng)
    params = random_params(row.declaration, data, rng)
    latents, sites = pyro_particles(row.declaration, params, data)
    drawn = record(row.declaration, data)["guide"].draws
    assert {n: v.shape for n, v in latents.items()} == {
        n: (PARTICLES, *fn.batch_shape, *fn.event_shape) for n, fn in drawn.items()
    }
    other = numpyro_particles(row.declaration, params, latents, data)
    for i in range(PARTICLES):
        alone = pyro_densities(row.declaration, params, {n: v[i] for n, v in latents.items()}, data).sites
        for method in METHODS:
            assert sites[method].keys() == other[method].keys() == alone[method].keys()
            for name, value in alone[method].items():
                assert other[method][name].shape == (PARTICLES, len(data[0])), name
                close(sites[method][name][i], value, 1e-10)
                close(other[method][name][i], value, 1e-10)


# --- files ------------------------------------------------------------------------------------------------------------


@each_row
def test_a_file_of_one_engine_is_a_file_of_the_other(row: Row, tmp_path):
    """Initial values of each engine, saved under their names, give the other engine the same log p."""
    rng = np.random.default_rng(2)
    data = row.data(rng)
    latents = tails(row.declaration, data, rng)
    for engine in ENGINES:
        here = shared(engine)
        with exact(engine):
            made, shape = here.parameters(*bind(row.declaration, engine), tuple(map(here.array, data)), {}, here.key(3))
            # A step in the coordinates that training moves in.
            free = {n: v + here.array(rng.normal(0, 0.3, tuple(v.shape))) for n, v in shape.free(made).items()}
            save_params(tmp_path / engine, here.to_numpy(shape.constrain(free)))
        params = load_params(tmp_path / engine)
        assert {n: v.shape for n, v in params.items()} == {
            n: v.shape for n, v in random_params(row.declaration, data, rng).items()
        }
        a, b = (f(row.declaration, params, latents, data) for f in (numpyro_densities, pyro_densities))
        for name, value in a.sites["model"].items():
            close(value, b.sites["model"][name], 1e-10)


@each_engine
@each_row
def test_constrained_values_survive_training_coordinates(row: Row, engine: str):
    data = row.data(np.random.default_rng(0))
    params = random_params(row.declaration, data, np.random.default_rng(4))
    with exact(engine):
        here = shared(engine)
        shape = here.coordinates(*bind(row.declaration, engine), tuple(map(here.array, data)), {})
        free = shape.free(arrays(engine, params))
        back = here.to_numpy(shape.constrain(free))
        logs = {n for n, rule in record(row.declaration, data)["model"].rules.items() if rule == "positive"}
        for name, value in params.items():
            close(back[name], value, 1e-14)
            close(here.to_numpy(free)[name], np.log(value) if name in logs else value, 1e-14)
