"""What PyTorch and Pyro supply everywhere: a session's dtype and device, and parameters by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to, constraints

from ppl_models import InputError
from ppl_models.language import Program

from .identity import check_shapes

VERSIONS = {"pyro-ppl": version("pyro-ppl"), "torch": version("torch")}


@contextmanager
def session(dtype: str = "float32", device: str | None = None) -> Iterator[str]:
    """Run with this dtype on this device (None: a GPU if there is one); yields the device's name.

    Inside, draws come from a private random state and Pyro's run-time validation is off: `inference` checks data once.

    Raises:
        InputError: The device is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not available to PyTorch; use --device cpu, or install torch with CUDA.")
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if dtype == "float64" else torch.float32)
    try:
        # A device context slows every call down, by a twentieth of a step in all; the CPU is the default without one.
        with torch.random.fork_rng(), chosen if chosen.type != "cpu" else nullcontext(), pyro.validation_enabled(False):
            yield f"cuda ({torch.cuda.get_device_name(chosen)})" if chosen.type == "cuda" else "cpu (cpu)"
    finally:
        torch.set_default_dtype(before)


def array(x: Any) -> Any:
    """`x` on the session's device, floats in the session's dtype."""
    x = np.array(x)  # a copy: torch would share the caller's memory
    return torch.as_tensor(x, dtype=torch.get_default_dtype() if x.dtype.kind == "f" else None).to(torch.get_default_device())


def key(seed: int) -> int:
    return seed


def nodes(trace: Any) -> Any:
    """A trace's sites by name, in order; Pyro types them more narrowly than it fills them."""
    return trace.nodes.items()


class Parameters(Messenger):
    """Answers `param` with the values given, so that Pyro's global store is never read or written."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        value = self.values.get(msg["name"])
        if value is not None:
            value._pyro_unconstrained_param = value  # a plate that slices the parameter asks for it
            msg["value"] = value


class Fixed(Messenger):
    """Lets no gradient reach a parameter."""

    def _pyro_post_param(self, msg: Any) -> None:
        msg["value"] = msg["value"].detach()
        msg["value"]._pyro_unconstrained_param = msg["value"]


class Coordinates(NamedTuple):
    """The constraints of a program's parameters: training moves in unconstrained coordinates, files hold constrained values."""

    constraints: Mapping[str, Any]
    model_names: frozenset[str] = frozenset()  # of the parameters that the model reads; the others are the guide's own

    def constrain(self, free: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._map(name)(value) if name in self.constraints else value for name, value in free.items()}

    def free(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._map(name).inv(torch.as_tensor(value)).detach().clone() for name, value in params.items()}

    def _map(self, name: str) -> Any:
        return biject_to(self.constraints.get(name, constraints.real))


def parameters(model: Any, guide: Any, args: tuple, kwargs: Mapping, seed: int) -> tuple[dict[str, Any], Coordinates]:
    """Initial values (constrained) and constraints, in the order in which guide and model first name them."""
    rules, out = {}, {}
    with pyro.get_param_store().scope(), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    for trace in (guide_trace, model_trace):
        for name, site in nodes(trace):
            if site["type"] == "param" and name not in out:
                rule = site["kwargs"].get("constraint", constraints.real)
                if rule is not constraints.real:
                    rules[name] = rule
                out[name] = site["value"].detach().clone()
    return out, Coordinates(rules, frozenset(name for name, site in nodes(model_trace) if site["type"] == "param"))


def coordinates(model: Any, guide: Any, args: tuple, kwargs: Mapping) -> Coordinates:
    """The constraints alone."""
    return parameters(model, guide, args, kwargs, 0)[1]


def to_numpy(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in params.items()}


def log_evidence(declaration: Any, params: Mapping[str, Any], args: tuple[np.ndarray, ...]) -> np.ndarray | None:
    """log p(x) of each row, nats, where the declaration has it in closed form; None elsewhere."""
    if not hasattr(declaration, "log_evidence"):
        return None
    with torch.no_grad(), Parameters({n: array(v) for n, v in params.items()}):
        return Program(declaration, "log_evidence", "pyro")(*map(array, args)).double().cpu().numpy()


# --- state on disk ----------------------------------------------------------------------------------------------------


def optimiser_state(optimiser: Any) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """What a torch optimiser remembers of each parameter, as arrays by `index/entry`, and its settings."""
    state = optimiser.state_dict()
    moments = leaves("", {str(index): entries for index, entries in state["state"].items()})
    return {name: value.detach().cpu().numpy().copy() for name, value in moments.items()}, state["param_groups"]


def restore_optimiser(optimiser: Any, moments: Mapping[str, np.ndarray], groups: Any) -> None:
    """The inverse of `optimiser_state`, for an optimiser of the same parameters."""
    if isinstance(optimiser, torch.optim.Adam):
        check_adam(optimiser, moments)
    state: dict[int, dict[str, Any]] = {}
    for name, value in moments.items():
        index, entry = name.split("/", 1)
        state.setdefault(int(index), {})[entry] = torch.tensor(value)
    # JSON has no tuples; the optimiser as it stands tells where it has some.
    settings = []
    for fresh, kept in zip(optimiser.state_dict()["param_groups"], groups, strict=True):
        given = {key: tuple(v) if isinstance(fresh.get(key), tuple) else v for key, v in kept.items()}
        for key, value in given.items():
            if outline(value) != outline(fresh.get(key)):
                raise ValueError(f"the optimiser's '{key}' is {value!r}")
        settings.append({**fresh, **given})
    optimiser.load_state_dict({"state": state, "param_groups": settings})


def outline(value: Any) -> Any:
    """What kind of setting it is: numbers are alike, and so are tuples of as many."""
    if isinstance(value, (list, tuple)):
        return [outline(part) for part in value]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)


def check_adam(optimiser: Any, moments: Mapping[str, np.ndarray]) -> None:
    """Raise unless these are what Adam remembers of such parameters."""
    leaves = [leaf for group in optimiser.param_groups for leaf in group["params"]]
    entries: dict[str, set[str]] = {}
    for name in moments:
        index, entry = name.split("/", 1)
        check_shapes(moments, {name: () if entry == "step" else tuple(leaves[int(index)].shape)})
        entries.setdefault(index, set()).add(entry)
    if any(found != {"step", "exp_avg", "exp_avg_sq"} for found in entries.values()):
        raise ValueError("Adam remembers step, exp_avg and exp_avg_sq of each parameter")


def beneath(path: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Those whose name begins with `path/`, without it."""
    return {name[len(path) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{path}/")}


def read(path: str, like: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """What `leaves` took apart, made again of new tensors: those at the start may share memory."""
    if like is None:
        return None
    if isinstance(like, torch.Generator):
        return like.set_state(torch.tensor(tensors[path]))
    if isinstance(like, torch.Tensor):
        return torch.tensor(tensors[path], dtype=like.dtype, device=like.device)
    parts = {name: read(f"{path}/{name}", part, tensors) for name, part in getattr(like, "_asdict", lambda: like)().items()}
    return type(like)(**parts)


def leaves(path: str, value: Any) -> dict[str, Any]:
    """Tensors and generators by path, of dictionaries and named tuples of any depth."""
    if value is None:
        return {}
    inner = value._asdict() if hasattr(value, "_asdict") else value
    if not isinstance(inner, dict):
        return {path: value}
    out: dict[str, Any] = {}
    for name, part in inner.items():
        out |= leaves(f"{path}/{name}" if path else str(name), part)
    return out
