"""Chains of a trained energy, seen through a few numbers a sweep: never every unit of every state."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from ..kernels import BlockGibbs, ChromaticGibbs, State, Tempering, swept
from ..kernels.state import bernoulli
from ..log_partition.annealed import kernel as default_kernel

CHAINS, DRAWS, EVERY, WARM = 8, 500, 2, 100
DIRECTIONS = 4  # projections
SHOTS = 10  # moments at which whole states are kept
ROWS = 10_000  # of the data, from which the directions come


@dataclass(frozen=True, eq=False)
class Observed:
    """What chains at β = 1 did, every `every` sweeps.

    Attributes:
        energy: E of the joint state, nats, (chains, draws).
        magnetisation: The mean visible unit, (chains, draws).
        projections: xᵀu along the leading right singular vectors u of the centred training rows, (chains, draws, directions).
        accept_prob: Of the kernel, its mean over the sweeps between draws, (chains, draws); 1 of Gibbs.
        constant: By site, which units had one value in every draw of every chain, (size,).
        snapshots: Visible states at moments equally far apart, (chains, moments, data_dim).
        trips: Of a tempered kernel, how often each chain's walkers came home from the hottest replica, (chains,); else None.
        every: Sweeps between draws.
    """

    energy: np.ndarray
    magnetisation: np.ndarray
    projections: np.ndarray
    accept_prob: np.ndarray
    constant: dict[str, np.ndarray]
    snapshots: np.ndarray
    trips: np.ndarray | None
    every: int


def observe(
    found: Any, *, chains: int = CHAINS, draws: int = DRAWS, every: int = EVERY, warm: int = WARM, seed: int = 0,
    kernel: Any = None, device: str | None = None,
) -> Observed:  # fmt: skip
    """Go on with the fit's persistent chains; where it keeps none, half start from training rows and half from noise.

    Args:
        found: An `EnergyFit`.
        chains: How many, each with a start of its own.
        draws: Kept of each chain.
        every: Sweeps between them.
        warm: Sweeps before the first.
        seed: Of everything random.
        kernel: What moves them; the fit's own if left out.
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: There are fewer than two chains or four draws, of which R-hat cannot be told.
    """
    if chains < 2 or draws < 4 or every < 1 or warm < 0:
        raise InputError(f"expected at least 2 chains, 4 draws and 1 sweep between, got {chains}, {draws}, {every}; ask "
                         "for more.")  # fmt: skip
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    rng, model = np.random.default_rng(seed), found.model
    moved = next((k for k in (kernel, found.kernel) if k is not None), None) or default_kernel(model)
    begun = {name: np.asarray(value, np.float32) for name, value in starts(found, chains, rng).items()}
    if isinstance(moved, Tempering):
        begun = {name: np.stack([value] * len(moved.betas)) for name, value in begun.items()}
    parts = np.diff(np.linspace(0, draws, min(SHOTS, draws) + 1).round().astype(int))
    traces, shots, low, high = [], [], {}, {}
    with shared.session(device=device):
        params = {name: shared.array(np.asarray(value, np.float32)) for name, value in found.params.items()}
        along = shared.array(directions(found.data.x).astype(np.float32))
        state = moved.init(words, words.seeded(seed), {name: shared.array(value) for name, value in begun.items()})
        state = words.program(swept, moved, warm)(state, params)
        for count in parts:
            state, trace, least, most = words.program(recorded, moved, int(count), every)(state, params, along)
            traces.append(shared.to_numpy({"trace": trace})["trace"])
            shots.append(shared.to_numpy(coldest(moved, state.values))["x"])
            for ends, new, pick in ((low, least, np.minimum), (high, most, np.maximum)):
                for name, value in shared.to_numpy(new).items():
                    ends[name] = pick(ends.get(name, value), value)
        trips = shared.to_numpy({"trips": state.trips})["trips"] if isinstance(moved, Tempering) else None
    energy, mean, accept, *projections = np.concatenate(traces, -1).astype(np.float64)
    constant = {name: low[name] == high[name] for name in low}
    return Observed(energy, mean, np.stack(projections, -1), accept, constant, np.stack(shots, 1), trips, every)


def starts(found: Any, chains: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A state of every site for each chain."""
    if found.chains is not None:
        size = len(found.chains["x"])
        some = rng.choice(size, chains, replace=size < chains)
        return {name: value[some] for name, value in found.chains.items()}
    model, half = found.model, chains // 2
    out = {name: rng.integers(0, 2, (chains, size)).astype(float) for name, size in model.sites.items()}
    if is_gaussian(model):
        out["x"] = found.data.x.mean(0) + 2 * found.data.x.std(0) * rng.normal(size=out["x"].shape)
    out["x"][:half] = found.data.x[rng.integers(len(found.data.x), size=half)]
    return out


def directions(x: np.ndarray) -> np.ndarray:
    """Leading right singular vectors of the centred rows, (data_dim, at most 4), the largest entry of each positive."""
    x = np.asarray(x[:ROWS], np.float64)
    scatter = np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])
    out = np.linalg.eigh(scatter)[1][:, ::-1][:, :DIRECTIONS]
    return out * np.sign(out[np.abs(out).argmax(0), np.arange(out.shape[1])])


def coldest(kernel: Any, values: Any) -> dict[str, Any]:
    """The chains at the first temperature, where there are several."""
    return {name: value[0] for name, value in values.items()} if isinstance(kernel, Tempering) else dict(values)


def recorded(ppl: Any, kernel: Any, draws: int, every: int, state: Any, params: Any, along: Any) -> tuple[Any, Any, Any, Any]:
    """The state after `draws × every` steps, what was seen of each draw, and the least and the largest value of each unit.

    The second is (3 + directions, chains, draws): energy, mean visible unit, acceptance, projections.
    """
    xp, first = ppl.xp, coldest(kernel, state.values)
    chains, none = first["x"].shape[0], 0.0 * first["x"][:, 0]

    def sweep(_: Any, carry: Any) -> Any:
        state, total = carry
        state, info = kernel.step(ppl, state, params)
        taken = info.accept_prob[0] if isinstance(kernel, Tempering) else info.accept_prob
        return state, total + taken

    def draw(i: Any, carry: Any) -> Any:
        state, trace, low, high = carry
        state, taken = ppl.loop(every, sweep, (state, none))
        values = coldest(kernel, state.values)
        x = values["x"]
        seen = [kernel.model.energy(ppl, params, values), x.mean(-1), taken / every]
        projected = x @ along
        seen += [projected[:, j] for j in range(along.shape[1])]
        low = {name: xp.minimum(low[name], xp.min(value, axis=0)) for name, value in values.items()}
        high = {name: xp.maximum(high[name], xp.max(value, axis=0)) for name, value in values.items()}
        return state, ppl.put(trace, i, xp.stack(seen)), low, high

    trace = xp.zeros((draws, 3 + along.shape[1], chains), dtype=first["x"].dtype)
    low, high = ({name: 0.0 * value[0] + end for name, value in first.items()} for end in (xp.inf, -xp.inf))
    state, trace, low, high = ppl.loop(draws, draw, (state, trace, low, high))
    return state, xp.moveaxis(trace, 0, -1), low, high


def data_energies(found: Any, x: np.ndarray, sweeps: int = 20, seed: int = 0) -> np.ndarray:
    """E of rows, nats, (rows,), their hidden units drawn given the row by `sweeps` of Gibbs (one is enough of a single layer).

    Those of a directed net are drawn by its recognition, which is not its posterior. Were the model the law of the data, these
    would be distributed as E of its own states.
    """
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    model, hidden = found.model, [name for name in found.model.sites if name != "x"]
    rng = np.random.default_rng(seed)
    values = {name: rng.integers(0, 2, (len(x), model.sites[name])).astype(np.float32) for name in hidden}
    values = {name: np.asarray(x, np.float32) if name == "x" else values[name] for name in model.sites}
    with shared.session():
        params = {name: shared.array(np.asarray(value, np.float32)) for name, value in found.params.items()}
        state = State(words.seeded(seed), {name: shared.array(value) for name, value in values.items()})
        if hasattr(model, "top"):
            state = words.program(recognised, model)(state, params)
        elif hidden:
            layers = hasattr(model, "colours")
            clamped = BlockGibbs(model, ("x",)) if layers else ChromaticGibbs(model, clamp=tuple(range(model.data_dim)))
            state = words.program(swept, clamped, sweeps)(state, params)
        energy = words.program(energies, model)(params, state.values)
        return shared.to_numpy({"energy": energy})["energy"].astype(np.float64)


def recognised(ppl: Any, model: Any, state: Any, params: Any) -> Any:
    """Hidden layers drawn upwards from x."""
    rng_key, values = state.rng_key, dict(state.values)
    for below, name in pairwise(model.sites):
        rng_key, values[name] = bernoulli(ppl, rng_key, model.up(ppl, params, name, values[below]))
    return State(rng_key, values)


def energies(ppl: Any, model: Any, params: Any, values: Any) -> Any:
    """E of states."""
    return model.energy(ppl, params, values)
