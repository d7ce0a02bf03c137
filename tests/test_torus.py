"""The Ising model on a torus: Kaufman's log Z against enumeration, the infinite lattice, and estimates where none can count."""

from __future__ import annotations

import numpy as np
import pytest

from inference.log_partition import annealed, bridge, exact, torus_edges, torus_log_partition
from ppl_models import InputError
from ppl_models.energy import BoltzmannMachine

from .catalogue import close
from .stationary import CRITICAL, torus_gap


def test_kaufmans_value_is_the_sum_over_all_states():
    """To 1e-12, at six couplings on six tori, those of a side of 2 among them."""
    assert torus_gap() < 1e-12


def test_an_antiferromagnet_on_even_sides():
    model, params = machine(4, 4, -0.3)
    close(torus_log_partition(4, 4, -0.3), exact(model, params, "pyro"), 1e-12)


def test_a_large_torus_has_the_free_energy_of_onsager():
    """log Z / N at the critical point is log √2 + 2 G / π on the plane (Onsager 1944), G Catalan's constant; finite ones add
    a number of order 1 to log Z. Turned by a quarter, a torus is what it was; far from the point, log Z is a ground state's."""
    found = torus_log_partition(1000, 1000, CRITICAL)
    plane = 1e6 * (np.log(2) / 2 + 2 * 0.915965594177219 / np.pi)
    assert 0 < found - plane < 2
    close(torus_log_partition(700, 1000, 0.5), torus_log_partition(1000, 700, 0.5), 1e-12)
    close(torus_log_partition(1000, 1000, 299.0), 2e6 * 299 + np.log(2), 1e-12)
    close(torus_log_partition(1000, 1000, 1e-9), 1e6 * np.log(2), 1e-12)


def machine(rows: int, columns: int, coupling: float) -> tuple[BoltzmannMachine, dict[str, np.ndarray]]:
    edges = torus_edges(rows, columns)
    model = BoltzmannMachine(rows * columns, edges=edges, spins="ising")
    return model, {"coupling": np.full(len(edges), coupling), "bias": np.zeros(rows * columns)}


def test_the_edges_are_those_of_the_torus():
    for shape in ((3, 3), (3, 4)):
        close(exact(*machine(*shape, 0.4), "pyro"), torus_log_partition(*shape, 0.4), 1e-12)
    assert len(torus_edges(5, 7)) == 70


def test_estimates_find_kaufmans_value_on_a_torus_that_none_can_count():
    """2⁶⁴ states near the critical point: annealed and bridged, within 5.5 of errors below 0.05 nats."""
    model, params = machine(8, 8, 0.4)
    truth = torus_log_partition(8, 8, 0.4)
    for found in (
        annealed(model, params, engine="pyro", betas=300, chains=500),
        bridge(model, params, engine="pyro", betas=10, chains=40, draws=300),
    ):
        error = (found.log_partition.high - found.log_partition.value) / 1.96
        assert error < 0.05
        assert abs(found.log_partition.value - truth) < 5.5 * error


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: torus_edges(2, 5), "2 x 5"),
        (lambda: torus_log_partition(1, 5, 0.1), "is a ring"),
        (lambda: torus_log_partition(3, 4, -0.1), "even sides"),
        (lambda: torus_log_partition(3, 4, np.inf), "within 300"),
        (lambda: torus_log_partition(3, 4, np.nan), "within 300"),
    ],
)
def test_what_has_no_closed_form_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
