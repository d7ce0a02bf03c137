"""What JAX and NumPyro supply everywhere: a session's dtype and device, and parameters by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpy as np
from jax import random
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves_with_path, tree_unflatten
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer.autoguide import AutoGuide

from ppl_models import InputError
from ppl_models.language import Program

from .identity import check_shapes

VERSIONS = {name: version(name) for name in ("numpyro", "jax", "jaxlib", "optax")}


@contextmanager
def session(dtype: str = "float32", device: str | None = None) -> Iterator[str]:
    """Run with this dtype on this device (None: a GPU if there is one); yields the device's name.

    Raises:
        InputError: The device is not there.
    """
    platform = {"cuda": "gpu", None: None}.get(device, device)
    try:
        chosen = jax.devices(platform)[0] if platform else jax.devices()[0]
    except RuntimeError:
        raise InputError(f"device '{device}' is not available to JAX; use --device cpu, or install jax with CUDA.") from None
    with jax.enable_x64(dtype == "float64"), jax.default_device(chosen):
        yield f"{'cuda' if chosen.platform == 'gpu' else chosen.platform} ({chosen.device_kind})"


def array(x: Any) -> Any:
    """`x` on the session's device, floats in the session's dtype."""
    x = np.asarray(x)
    return xp.asarray(x, dtype=xp.result_type(float)) if x.dtype.kind == "f" else xp.asarray(x)


def key(seed: int) -> Any:
    return random.key(seed)


class Coordinates(NamedTuple):
    """The constraints of a program's parameters: training moves in unconstrained coordinates, files hold constrained values."""

    constraints: Mapping[str, Any]
    model_names: frozenset[str] = frozenset()  # of the parameters that the model reads; the others are the guide's own

    def constrain(self, free: Mapping[str, Any]) -> dict[str, Any]:
        return {name: biject_to(self.constraints.get(name, constraints.real))(value) for name, value in free.items()}

    def free(self, params: Mapping[str, Any]) -> dict[str, Any]:
        out = {}
        for name, value in params.items():
            out[name] = biject_to(self.constraints.get(name, constraints.real)).inv(xp.asarray(value))
        return out


def parameters(model: Any, guide: Any, args: tuple, kwargs: Mapping, seed: Any) -> tuple[dict[str, Any], Coordinates]:
    """Initial values (constrained) and constraints, in the order in which guide and model first name them."""
    rules: dict[str, Any] = {}
    model_names: set[str] = set()

    def run(rng: Any) -> dict[str, Any]:
        guide_key, model_key = random.split(rng)
        guide_trace = handlers.trace(handlers.seed(guide, guide_key)).get_trace(*args, **kwargs)
        with handlers.substitute(data={n: s["value"] for n, s in guide_trace.items() if s["type"] == "param"}):
            seeded = handlers.seed(handlers.replay(model, guide_trace), model_key)
            model_trace = handlers.trace(seeded).get_trace(*args, **kwargs)
        out = {}
        model_names.update(name for name, site in model_trace.items() if site["type"] == "param")
        for trace in (guide_trace, model_trace):
            for name, site in trace.items():
                if site["type"] == "param" and name not in out:
                    rules[name] = site["kwargs"].get("constraint", constraints.real)
                    # A weakly typed initial value would compile the training step twice.
                    out[name] = xp.asarray(site["value"], dtype=xp.result_type(site["value"]))
        return out

    values = jax.jit(run)(seed)
    return values, Coordinates(rules, frozenset(model_names))


def coordinates(model: Any, guide: Any, args: tuple, kwargs: Mapping) -> Coordinates:
    """The constraints alone, from shapes."""
    found: list[Coordinates] = []

    def run() -> None:
        found.append(parameters(model, guide, args, kwargs, random.key(0))[1])

    jax.eval_shape(run)
    return found[0]


def set_up(guide: Any, args: tuple, kwargs: Mapping) -> None:
    """An autoguide learns its sites in its first run, of which a traced one would keep tracers; so that run is had here."""
    if isinstance(guide, AutoGuide) and getattr(guide, "prototype_trace", None) is None:
        with handlers.block(), handlers.seed(rng_seed=0):
            guide(*args, **kwargs)


def to_numpy(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in params.items()}


def log_evidence(declaration: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> np.ndarray | None:
    """log p(x) of each row, nats, where the declaration has it in closed form; None elsewhere."""
    if not hasattr(declaration, "log_evidence"):
        return None
    values = {n: array(v) for n, v in params.items()}
    return np.asarray(_log_evidence(values, tuple(map(array, args)), declaration=declaration), np.float64)


@partial(jax.jit, static_argnames="declaration")
def _log_evidence(params: Mapping[str, Any], args: tuple, *, declaration: Any) -> Any:
    return handlers.substitute(Program(declaration, "log_evidence", "numpyro"), data=dict(params))(*args)


def frozen(carry: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A tree as arrays by path, and of each random key the name of its generator."""
    tensors, generators = {}, {}
    for path, leaf in tree_leaves_with_path(carry):
        name = keystr(path, simple=True, separator="/")
        if is_key(leaf):
            generators[name], leaf = str(random.key_impl(leaf)), random.key_data(leaf)
        tensors[name] = np.asarray(leaf)
    return tensors, generators


def thawed(carry: Any, tensors: Mapping[str, np.ndarray], generators: Mapping[str, Any]) -> Any:
    """The inverse of `frozen`; `carry` is any tree of the same training.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    leaves, tree = tree_flatten_with_path(carry)
    named = {keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    shapes = {name: np.shape(random.key_data(leaf) if is_key(leaf) else leaf) for name, leaf in named.items()}
    check_shapes(tensors, shapes)
    found = []
    for name, leaf in named.items():
        if is_key(leaf):
            found.append(random.wrap_key_data(xp.asarray(tensors[name]), impl=generators[name]))
        else:
            found.append(xp.asarray(tensors[name], dtype=xp.result_type(leaf)))
    return tree_unflatten(tree, found)


def is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and xp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
