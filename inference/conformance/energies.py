"""Checks of an energy: its program, its energy at any states, and the conditionals that it states."""

from __future__ import annotations

import numpy as np

from . import behaviour, structure
from .density import EXACT
from .energy_subject import EnergySubject
from .subject import Skipped, same

UNITS = 16  # of a site, whose log odds are looked at


def runs(s: EnergySubject, engine: str) -> str | None:
    """The program of the energy runs, and so does the energy of one state."""
    s.walk(engine)
    s.energy(engine, s.states())


def has_its_sites(s: EnergySubject, engine: str) -> str | None:
    """The program draws the sites that `sites` names, of these sizes, and no others."""
    told = {name: (size,) for name, size in s.model.sites.items()}
    drawn = {x.name: x.value.shape for x in s.walk(engine).sites if x.kind != "factor"}
    for name in [*told, *drawn]:
        if told.get(name) != drawn.get(name):
            return (f"site '{name}' has shape {told.get(name)} by `sites` and {drawn.get(name)} in the program; give both the "
                    "same.")  # fmt: skip
    return None


def density_is_minus_energy(s: EnergySubject, engine: str) -> str | None:
    """The log density of the program at any values of its sites is the energy with its sign turned."""
    for seed in range(3):
        values = s.states(seed=seed)
        sites = s.fresh(engine, init=s.params, values=values).sites
        density, energy = np.asarray(sum(x.scale * x.log_prob.sum() for x in sites)), s.energy(engine, values).sum()
        if not same(density, -energy, EXACT):
            return (f"the program has log density {density:.6g} where the energy is {energy:.6g}; mask what draws the sites, "
                    "and give -energy to one factor.")  # fmt: skip
    return None


def batches_by_row(s: EnergySubject, engine: str) -> str | None:
    """The energy of a batch, whatever its leading dims, is that of each state alone."""
    lead = (2, 3)
    values = s.states(*lead)
    batch = s.energy(engine, values)
    if batch.shape != lead:
        return (f"the energy of states with leading dims {lead} has shape {batch.shape}; sum over the last dim of each site "
                "and keep the others.")  # fmt: skip
    for spot in np.ndindex(lead):
        alone = s.energy(engine, {name: value[spot] for name, value in values.items()})
        if not same(batch[spot], alone, EXACT):
            return (f"the energy of one state is {alone.sum():.6g} alone and {batch[spot]:.6g} in a batch; count dims from the "
                    "right.")  # fmt: skip
    return None


def engines_agree_on_energy(s: EnergySubject, engine: str) -> str | None:
    """At the same parameters and states both engines have the same energy."""
    if len(s.engines) < 2:
        raise Skipped("needs both engines")
    ours, theirs = (s.energy(other, s.states(8)) for other in s.engines)
    return None if same(ours, theirs, EXACT) else f"{_unlike(ours, theirs)} on the two engines; use a word that both have."


def _unlike(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return f"the energy has shapes {a.shape} and {b.shape}"
    spot = np.unravel_index(int(np.argmax(np.abs(a - b))), a.shape)
    return f"the energy of one state is {a[spot]:.10g} and {b[spot]:.10g}"


def energy_is_finite(s: EnergySubject, engine: str) -> str | None:
    """The energy of the rows of data is finite at the values that `initial` gives."""
    values = s.states(s.total) | {"x": s.rows.arrays[0]}
    energy = s.energy(engine, values, params=s.start)
    if np.isfinite(energy).all():
        return None
    return f"the energy of a row of the data is {energy[~np.isfinite(energy)][0]} at the start; check the values of `initial`."


def float32_and_float64(s: EnergySubject, engine: str) -> str | None:
    """The energy is of the session's dtype, and of nearly the same value in both."""
    found = {dtype: s.energy(engine, s.states(4), dtype=dtype) for dtype in ("float64", "float32")}
    for dtype, energy in found.items():
        if str(energy.dtype) != dtype:
            return f"the energy is {energy.dtype} in a session of {dtype}; let arrays take their dtype from others."
    if same(found["float32"], found["float64"], 1e-3):
        return None
    return f"{_unlike(found['float32'], found['float64'])} in float32 and float64; rearrange what cancels there."


def logits_are_differences(s: EnergySubject, engine: str) -> str | None:
    """The log odds of a bit are its energy at 0 less that at 1, all other units as they are."""
    s.needs("logits")
    if not s.bits:
        raise Skipped("no site is of bits")
    values, rng = s.states(3), np.random.default_rng(0)
    for name, odds in s.logits(engine, values).items():
        size = s.model.sites[name]
        if odds.shape != (3, size):
            return f"`logits` of 3 states of site '{name}' have shape {odds.shape}, not (3, {size}); keep the leading dims."
        units = rng.permutation(size)[:UNITS]
        ends = {n: np.tile(value, (2, len(units), 1, 1)) for n, value in values.items()}
        for i, unit in enumerate(units):
            ends[name][:, i, :, unit] = [[0.0], [1.0]]
        energy = s.energy(engine, {n: value.reshape(-1, value.shape[-1]) for n, value in ends.items()}).reshape(2, -1, 3)
        if not same(energy[1] + odds[:, units].T, energy[0], EXACT):
            return f"`logits` of site '{name}' are not differences of the energy; derive them from it anew."
    return None


def colours_are_independent(s: EnergySubject, engine: str) -> str | None:
    """`colours` holds each site once, and given the rest the energy is a sum over the units of a colour."""
    s.needs("colours")
    if sorted(name for colour in s.model.colours for name in colour) != sorted(s.model.sites):
        return f"`colours` is {s.model.colours} where the sites are {tuple(s.model.sites)}; put each into one colour."
    rng = np.random.default_rng(0)
    for colour in s.model.colours:
        a, other, b, mixed, rest = s.states(8), s.states(8, seed=1), {}, {}, {}
        for name, value in a.items():
            take = rng.random(value.shape) < 0.5
            b[name] = other[name] if name in colour else value
            mixed[name], rest[name] = np.where(take, value, b[name]), np.where(take, b[name], value)
        whole, swapped = (sum(s.energy(engine, part) for part in pair) for pair in ((a, b), (mixed, rest)))
        if not same(np.asarray(whole), np.asarray(swapped), EXACT):
            return f"units of the colour {colour} are not independent given the others; put what interacts into two colours."
    return None


def colours_left_out_are_zeros(s: EnergySubject, engine: str) -> str | None:
    """The energy of states that leave out the bits of a colour is that of zeros there, as `free_energy` takes it."""
    s.needs("colours")
    for colour in s.model.colours:
        if not set(colour) <= set(s.bits) or len(colour) == len(s.model.sites):
            continue
        values = s.states(4)
        without = {name: value for name, value in values.items() if name not in colour}
        zeros = {name: 0.0 * value if name in colour else value for name, value in values.items()}
        if not same(s.energy(engine, without), s.energy(engine, zeros), EXACT):
            return f"without {colour} the energy is not that of zeros there; take the bits of a site left out for zeros."
    return None


def normal_is_conditional(s: EnergySubject, engine: str) -> str | None:
    """`normal` gives location and scale of the Gaussian that x is given the other sites, by the energy."""
    s.needs("normal")
    if "x" in s.bits:
        raise Skipped("x is of bits")
    a, b = s.states(4), s.states(4) | {"x": s.states(4, seed=1)["x"]}
    loc, scale = s.evaluate(engine, s.model.normal, a)
    wanted = (((a["x"] - loc) ** 2 - (b["x"] - loc) ** 2) / (2 * scale**2)).sum(-1)
    if same(s.energy(engine, a) - s.energy(engine, b), wanted, EXACT):
        return None
    return "`normal` is not the law of x given the others by the energy; complete the square in x anew."


def pure(s: EnergySubject, engine: str) -> str | None:
    """At given parameters and states the energy is the same bits each time."""
    a, b = (s.energy(engine, s.states(4)) for _ in range(2))
    cure = "let it depend on its arguments alone"
    return None if np.array_equal(a, b) else f"the energy is not the same twice at the same parameters and states; {cure}."


def arguments_left_alone(s: EnergySubject, engine: str) -> str | None:
    """The parameters and states that `energy` and the program are given are as before afterwards."""
    values = s.states(3)

    def energy(ppl: object, params: dict, values: dict) -> tuple[dict, dict]:
        s.model.energy(ppl, params, values)
        return params, values

    after = (*s.evaluate(engine, energy, values), s.fresh(engine, init=s.params, values=s.states()).values)
    for given, found in zip((s.params, values, s.params), after, strict=True):
        for name in [*given, *found]:
            if name not in given or name not in found or not np.array_equal(given[name], found[name]):
                return f"the energy writes into '{name}' of what it is given; copy a mapping or an array before changing it."
    return None


CHECKS = (runs, has_its_sites, structure.shapes_fit_plates, structure.engines_agree_on_sites,
          structure.engines_agree_on_parameters, density_is_minus_energy, batches_by_row, engines_agree_on_energy,
          energy_is_finite, float32_and_float64, logits_are_differences, colours_are_independent, colours_left_out_are_zeros,
          normal_is_conditional, behaviour.same_seed_same_start, pure, arguments_left_alone,
          behaviour.starts_inside_constraints, behaviour.parameters_survive_a_file, behaviour.initial_fits,
          behaviour.equal_by_value, behaviour.frozen, behaviour.repr_tells_settings, behaviour.columns_are_counted,
          behaviour.leaves_no_global_state)  # fmt: skip
