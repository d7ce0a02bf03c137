"""Ladders that an adapted pilot gives, tempering on them where plain Gibbs is stuck, its round trips counted again; cooling."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from inference.kernels import (
    BlockGibbs,
    ChromaticGibbs,
    Cooling,
    SequentialGibbs,
    State,
    Tempering,
    geometric_schedule,
    ladder,
    linear_schedule,
    logarithmic_schedule,
)
from inference.log_partition import torus_edges
from ppl_models import InputError
from ppl_models.energy import RBM, BoltzmannMachine

from .catalogue import ENGINES, close, shared
from .catalogue import exact as session
from .stationary import cooled, energies, target, words
from .test_kernels import each_engine
from .test_native_kernels import agrees_in_number
from .transition import states

#: Eight spins that hold together in two unequal modes; between them lies a barrier of 16 nats.
MAGNET = BoltzmannMachine(8, spins="ising")
HELD = {"coupling": np.full((8, 8), 0.5), "bias": np.full(8, 0.05)}


def refusals(E: np.ndarray, betas: tuple[float, ...]) -> np.ndarray:
    """1 − the mean chance to swap of each pair of neighbours, over all pairs of states."""
    laws = [np.exp(-beta * (E - E.min())) for beta in betas]
    laws = [law / law.sum() for law in laws]
    out = []
    for (a, b), (p, q) in zip(pairwise(betas), pairwise(laws), strict=True):
        out.append(1 - p @ np.minimum(1, np.exp((a - b) * (E[:, None] - E))) @ q)
    return np.array(out)


def energies_of_the_magnet() -> np.ndarray:
    with session("pyro"):
        array = shared("pyro").array
        return energies(MAGNET, "pyro", {name: array(value) for name, value in HELD.items()})


@each_engine
def test_neighbours_on_an_adapted_ladder_refuse_alike(engine: str):
    """By the enumerated law: within 6 % of each other, where equal steps of β differ by ten times."""
    E = energies_of_the_magnet()
    betas = ladder(SequentialGibbs(MAGNET), HELD, count=6, engine=engine, rounds=5)
    assert (betas[0], betas[-1], len(betas)) == (1.0, 0.0, 6)
    assert (np.diff(betas) < 0).all()
    even, found = refusals(E, tuple(np.linspace(1, 0, 6))), refusals(E, betas)
    assert even.max() > 10 * even.min()
    close(found / found.mean(), np.ones(5), 0.06)


def test_a_rate_of_exchange_decides_how_many():
    E = energies_of_the_magnet()
    betas, more = (ladder(SequentialGibbs(MAGNET), HELD, rate=rate, engine="pyro", rounds=3) for rate in (0.7, 0.85))
    assert refusals(E, betas).max() < 0.32, "rounded up: rather too many than too few"
    assert refusals(E, betas).min() > 0.2
    assert refusals(E, more).max() < 0.17
    assert len(betas) < len(more)
    short = {"count": 3, "last": 0.2, "engine": "pyro", "rounds": 1}
    assert ladder(SequentialGibbs(MAGNET), HELD, **short)[-1] == 0.2
    assert ladder(SequentialGibbs(MAGNET), HELD, **short) == ladder(SequentialGibbs(MAGNET), HELD, **short)
    assert ladder(SequentialGibbs(MAGNET), HELD, **short) != ladder(SequentialGibbs(MAGNET), HELD, seed=1, **short)


@each_engine
def test_tempering_finds_both_modes_where_gibbs_is_stuck(engine: str):
    """2,048 chains that start in the worse mode: after 100 steps the magnet's own law, and no round trip is miscounted.

    Pearson's test at 1e-6 / 200 on the number of spins that are up; of the plain chains 99 % are still where they were.
    """
    betas = (1.0, 0.51, 0.38, 0.29, 0.18, 0.0)  # as adapted above, rounded
    kernel, count = Tempering(SequentialGibbs(MAGNET), betas), 2048
    ppl = words(engine)
    with session(engine):
        array = shared(engine).array
        params = {name: array(value) for name, value in HELD.items()}
        p = target(MAGNET, engine, params, 1.0)
        step = ppl.program(stepped, kernel)
        state = kernel.init(ppl, ppl.seeded(0), {"x": array(np.zeros((len(betas), count, 8)))})
        walkers = [np.asarray(state.walker)]
        for _ in range(100):
            state = step(state, params)
            walkers.append(np.asarray(state.walker))
        values, trips = np.asarray(state.values["x"][0]), np.asarray(state.trips)
        plain = State(ppl.seeded(1), {"x": array(np.zeros((count, 8)))})
        alone = ppl.program(stepped, kernel.kernel)
        for _ in range(100):
            plain = alone(plain, params)
        stuck = np.asarray(plain.values["x"])
    ups = states(MAGNET.sites)["x"].sum(1).astype(int)
    law = np.bincount(ups, p)
    assert 0.6 < law[5:].sum() < 0.95
    agrees_in_number(values.sum(1).astype(int), law)
    assert np.mean(stuck.sum(1) < 4) > 0.99
    np.testing.assert_array_equal(trips, recounted(np.stack(walkers), len(betas)))
    assert trips.mean() > 1


def stepped(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return kernel.step(ppl, state, params)[0]


def recounted(walkers: np.ndarray, replicas: int) -> np.ndarray:
    """Of each chain: how often a walker stood at the first β that had stood at the last since it was here before."""
    trips = np.zeros(walkers.shape[2])
    for chain in range(walkers.shape[2]):
        far = np.zeros(replicas, bool)
        for now in walkers[:, :, chain].astype(int):
            trips[chain] += far[now[0]]
            far[now[0]], far[now[-1]] = False, True
    return trips


# --- cooling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 2, 5])
def test_each_step_of_cooling_leaves_its_own_law_as_it_is(step: int):
    """|πT − π|∞ < 1e-12 at β_t, past the last step at the last β, and both engines have the same T."""
    (pi, T), (other_pi, other) = (cooled(step, engine) for engine in ENGINES)
    close(T, other, 1e-12)
    close(pi, other_pi, 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12


@each_engine
def test_cooling_finds_the_ground_state_of_a_spin_glass(engine: str):
    """Sixteen spins, couplings ±1 on a 4 x 4 torus, whose 2¹⁶ energies are all known: of 500 chains 95 % end in a ground state
    and of those that never cool (β = 0.5) fewer than half as many."""
    edges = torus_edges(4, 4)
    model = BoltzmannMachine(16, edges=edges, spins="ising")
    values = {"coupling": np.random.default_rng(0).choice([-1.0, 1.0], len(edges)), "bias": np.zeros(16)}
    x = np.arange(2**16)[:, None] >> np.arange(16) & 1
    s = 2.0 * x - 1
    lowest = -(s[:, [i for i, _ in edges]] * s[:, [j for _, j in edges]] @ values["coupling"]).max()
    shares = []
    for betas in (geometric_schedule(100, 0.1, 5.0), np.full(100, 0.5)):
        kernel, ppl = Cooling(ChromaticGibbs(model), betas), words(engine)
        with session(engine):
            array = shared(engine).array
            params = {name: array(value) for name, value in values.items()}
            state = kernel.init(ppl, ppl.seeded(0), {"x": array(np.random.default_rng(0).integers(0, 2, (500, 16)) * 1.0)})
            state = ppl.program(whole, kernel, 100)(state, params)
            E = np.asarray(model.energy(ppl, params, state.values))
        assert int(state.step) == 100
        assert E.min() > lowest - 1e-9
        shares.append(np.mean(E < lowest + 1e-9))
    assert shares[0] >= 0.95
    assert shares[1] < shares[0] / 2


def whole(ppl: Any, kernel: Any, steps: int, state: Any, params: Any) -> Any:
    return ppl.loop(steps, lambda _, state: kernel.step(ppl, state, params)[0], state)


def test_schedules_rise_as_they_say():
    close(linear_schedule(3, 0.5, 1.5), [0.5, 1.0, 1.5], 1e-12)
    close(geometric_schedule(3, 0.5, 2.0), [0.5, 1.0, 2.0], 1e-12)
    slow = logarithmic_schedule(1000, 4.0)
    close(slow[-1], 4.0, 1e-12)
    close(slow / np.log(np.arange(2, 1002)), np.full(1000, 4.0 / np.log(1001)), 1e-12)
    assert Cooling(BlockGibbs(RBM(2, 2)), slow) == Cooling(BlockGibbs(RBM(2, 2)), tuple(slow))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Cooling(BlockGibbs(RBM(2, 2)), ()), "do not fall"),
        (lambda: Cooling(BlockGibbs(RBM(2, 2)), (1.0, 0.5)), "do not fall"),
        (lambda: Cooling(BlockGibbs(RBM(2, 2)), (1.0, np.inf)), "finite"),
        (lambda: geometric_schedule(10, 0.0, 1.0), "linear_schedule"),
        (lambda: linear_schedule(10, 2.0, 1.0), "up to a higher one"),
        (lambda: logarithmic_schedule(1, 1.0), "at least 2 steps"),
        (lambda: ladder(BlockGibbs(RBM(2, 2)), {}), "either count or rate"),
        (lambda: ladder(BlockGibbs(RBM(2, 2)), {}, count=5, rate=0.5), "either count or rate"),
        (lambda: ladder(BlockGibbs(RBM(2, 2)), {}, count=1), "at least 2 temperatures"),
        (lambda: ladder(BlockGibbs(RBM(2, 2)), {}, rate=1.0), "between 0 and 1"),
        (lambda: ladder(BlockGibbs(RBM(2, 2)), {}, count=3, last=1.0), "hottest"),
        (lambda: ladder(BlockGibbs(RBM(2, 2, visible="normal")), {}, count=3), "over bits"),
    ],
)
def test_ladders_and_schedules_that_cannot_be_are_refused(call: Any, words: str):
    with pytest.raises(InputError, match=words):
        call()
