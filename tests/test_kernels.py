"""Kernels leave p^β as it is: the enumerated transition matrix of the shipped code, on both engines."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from inference.kernels import BlockGibbs, ChromaticGibbs, GibbsWithGradients, SequentialGibbs, Tempering, coloured
from ppl_models import InputError
from ppl_models.energy import RBM, BoltzmannMachine
from ppl_models.language import ENGINES

from .catalogue import close, shared
from .catalogue import exact as session
from .stationary import CASES, CONDITIONAL, MODELS, RING, ROWS, clamped, gaussian_sweep, parameters, tempered, transition, words
from .transition import matrix

each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize(("kernel", "model"), CASES)
def test_kernel_leaves_the_target_as_it_is(kernel: str, model: str, beta: float):
    """|πT − π|∞ < 1e-12, rows sum to one, every state is reached from every other, and both engines have the same T."""
    (pi, T), (other_pi, other) = (transition(kernel, model, beta, engine) for engine in ENGINES)
    close(T, other, 1e-12)
    close(pi, other_pi, 1e-12)
    close(T.sum(1), np.ones(len(T)), 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    assert (np.linalg.matrix_power(T, 8) > 0).all()
    flow = pi[:, None] * T
    assert (np.abs(flow - flow.T).max() < 1e-12) == ROWS[kernel].reversible


def test_delayed_updates_are_the_plain_scan():
    for model in ROWS["sequential"].models:
        plain = transition("sequential-1", model, 1.0, "pyro")[1]
        for block in ("sequential", "sequential-3", "chromatic"):
            close(transition(block, model, 1.0, "pyro")[1].sum(), plain.sum(), 1e-12)
        close(transition("sequential", model, 1.0, "pyro")[1], plain, 1e-12)
        close(transition("sequential-3", model, 1.0, "pyro")[1], plain, 1e-12)


@each_engine
@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("inner", [BlockGibbs, GibbsWithGradients])
def test_tempering_leaves_the_product_of_all_replicas_as_it_is(inner: Any, parity: int, engine: str):
    pi, T = tempered(inner, parity, engine)
    close(T.sum(1), np.ones(64), 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    if inner is BlockGibbs:
        swaps = np.einsum("abc->bac" if parity == 0 else "abc->acb", np.arange(64).reshape(4, 4, 4)).reshape(-1)
        assert T[np.arange(64), swaps].min() > 0


@each_engine
def test_tempering_leaves_them_as_they_are_after_an_even_and_an_odd_step(engine: str):
    """Two steps that count for themselves: the product of the two transitions, whose law is the product's still.

    Held x makes the outcomes of two steps few enough to force: states still travel between replicas.
    """
    inner = partial(BlockGibbs, clamp=("x",))
    pi, T = tempered(inner, 0, engine, steps=2)
    close(T, tempered(inner, 0, engine)[1] @ tempered(inner, 1, engine)[1], 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    assert np.abs(T - tempered(inner, 1, engine)[1] @ tempered(inner, 0, engine)[1]).max() > 1e-3


# --- clamping ---------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("name", ["rbm", "rbm-centred", "dbm", "ring", "ring-ising", "dense"])
def test_clamped_units_stay_and_the_others_have_the_law_given_them(name: str, engine: str):
    """T among the states of one clamped value: p(the rest | it) is left as it is, and every such state is reached."""
    assert clamped(name, engine) < 1e-12


# --- relations --------------------------------------------------------------------------------------------------------


def transition_at(kernel: str, model: Any, values: dict[str, np.ndarray], beta: float) -> np.ndarray:
    with session("pyro"):
        array, made = shared("pyro").array, ROWS[kernel].kernel(model)
        params = {name: array(value) for name, value in values.items()}
        return matrix(lambda ppl, state: made.step(ppl, state, params, beta), words("pyro"), array, model.sites)


@pytest.mark.parametrize(("kernel", "name"), [case for case in CASES if case[1] in CONDITIONAL])
def test_temperature_is_a_factor_of_the_parameters(kernel: str, name: str):
    """β E(θ) = E(β θ), and so T at β is T at 1 of the scaled machine; offsets are places and stay."""
    model, values = MODELS[name], parameters(MODELS[name])
    scaled = {key: value if key.endswith("offset") else 0.3 * value for key, value in values.items()}
    close(transition_at(kernel, model, values, 0.3), transition_at(kernel, model, scaled, 1.0), 1e-12)


@pytest.mark.parametrize(("kernel", "name"), [case for case in CASES if case[1] in ("dense-ising", "hidden", "ring-ising")])
def test_spins_turned_with_their_couplings_move_alike(kernel: str, name: str):
    """J'ᵢⱼ = gᵢ gⱼ Jᵢⱼ, b'ᵢ = gᵢ bᵢ (a gauge, Toulouse 1977): T'(g x, g y) = T(x, y)."""
    model, values, g = MODELS[name], parameters(MODELS[name]), np.array([1.0, -1.0, -1.0, 1.0])
    pairs = np.outer(g, g) if model.edges is None else np.array([g[i] * g[j] for i, j in model.edges])
    turned = {"coupling": pairs * values["coupling"], "bias": g * values["bias"]}
    there = np.arange(16) ^ 0b0110
    close(transition_at(kernel, model, turned, 0.7)[np.ix_(there, there)], transition_at(kernel, model, values, 0.7), 1e-12)


# --- Gaussian units ---------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_a_sweep_over_gaussian_units_draws_from_both_conditionals(beta: float, centred: bool, engine: str):
    """p(h | x)^β by its sum over states and the moments of p(x | h)^β by quadrature, from the energy alone, to 1e-8."""
    assert gaussian_sweep(beta, centred, engine) < 1e-8


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("edges", "most"), [(RING, 2), (((0, 1), (1, 2), (2, 0)), 3), ((), 1), (((0, 3), (1, 3), (2, 3)), 2)])
def test_colours_found_are_valid_and_few(edges: Any, most: int):
    colours = coloured(4, edges)
    assert all(colours[i] != colours[j] for i, j in edges)
    assert max(colours) + 1 == most


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ChromaticGibbs(MODELS["ring"], (0, 1, 1, 0)), ["edge (1, 2)", "colour 1", "leave `colours` out"]),
        (lambda: ChromaticGibbs(MODELS["dense"], (0, 1, 2, 0)), ["edge (3, 0)", "colour 0"]),
        (lambda: ChromaticGibbs(MODELS["ring"], (0, 1)), ["each of 4 units", "got 2"]),
        (lambda: SequentialGibbs(MODELS["dense"], 0), ["at least 1 unit", "got 0"]),
        (lambda: SequentialGibbs(MODELS["ring"]), ["couples every pair", "ChromaticGibbs"]),
        (lambda: BlockGibbs(RBM(2, 2), clamp=("y",)), ["among x, h", "'y'"]),
        (lambda: Tempering(BlockGibbs(RBM(2, 2)), (1.0,)), ["at least two", "(1.0,)"]),
        (lambda: Tempering(BlockGibbs(RBM(2, 2)), (0.5, 1.0)), ["falling", "(0.5, 1.0)"]),
        (lambda: BoltzmannMachine(3, edges=((0, 1), (1, 0))), ["(1, 0) as edge 1", "leave it out"]),
        (lambda: BoltzmannMachine(3, edges=((0, 3),)), ["(0, 3)", "3 units"]),
        (lambda: BoltzmannMachine(3, temperature=0.0), ["above 0", "0.0"]),
        (lambda: BoltzmannMachine(3, spins="potts"), ["binary or ising", "potts"]),  # type: ignore[arg-type]
        (lambda: RBM(3, 2, visible="relu"), ["bernoulli or normal", "relu"]),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_by_name(make: Any, words: list[str]):
    with pytest.raises(InputError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value
