"""`check_model` of energies: each check fails on its broken energy, and on none of the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from inference import check_model, checks
from inference.broken_energies import BROKEN, SOUND, D, H, data
from ppl_models import CATALOGUE, RBM, InputError
from ppl_models.language import ENGINES

from .stationary import MODELS, OF_REALS, rows

ROWS = {**MODELS, **OF_REALS, "rbm-wide": RBM(784, 500)}
#: What does not concern an energy without conditionals, without layers, or over bits.
MAY_SKIP = {"logits_are_differences", "colours_are_independent", "colours_left_out_are_zeros", "normal_is_conditional"}
CHECKS = checks(energy=True)


def failures(told):
    return [result for result in told if result.outcome == "failed"]


def test_every_check_has_a_broken_energy_and_every_energy_of_the_catalogue_is_tried():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names) >= 20
    assert list(BROKEN) == names
    assert all(check.sentence.endswith(".") and len(check.sentence) > 20 for check in CHECKS)
    assert {cls for cls, _ in CATALOGUE.values() if hasattr(cls, "energy")} <= set(map(type, ROWS.values()))


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_a_check_fails_on_its_broken_energy(check):
    """On no other check does it fail, but those that it must."""
    broken = BROKEN[check.name]
    failed = failures(check_model(broken.model, data(), raises=False))
    assert {result.check for result in failed} == {check.name, *broken.also}
    mine = [result for result in failed if result.check == check.name]
    on = ["both"] if check.together else list(ENGINES) if broken.engine is None else [broken.engine]
    assert [result.engine for result in mine] == on
    for result in mine:
        assert result.reason.endswith((".", ")"))
        assert len(result.reason) > 30
    with pytest.raises(InputError, match=f"fails {check.name} on {on[-1]}"):
        check_model(broken.model, data(), only=check, engine=None if check.together else on[-1])


@pytest.mark.parametrize("name", ROWS)
def test_every_energy_passes_every_check(name):
    told = check_model(ROWS[name], rows(ROWS[name]), raises=False)
    assert failures(told) == []
    assert {result.engine for result in told} == {*ENGINES, "both"}
    assert {result.check for result in told if result.outcome == "skipped"} <= MAY_SKIP
    assert {result.check for result in told} == {check.name for check in CHECKS}


def test_conditionals_are_looked_at_where_there_are_some():
    for model, skipped in ((SOUND, {"normal_is_conditional"}), (OF_REALS["rbm-normal"], set())):
        told = check_model(model, rows(model), raises=False)
        assert {result.check for result in told if result.outcome == "skipped"} == skipped


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(InputError, match="values in"):
        check_model(SOUND, np.full((5, D), 2.0))
    with pytest.raises(InputError, match="reads x alone, but 2 arrays"):
        check_model(SOUND, (data(), data()))
    with pytest.raises(InputError, match="a check among runs, .* got 'scaled_once'"):
        check_model(SOUND, data(), only="scaled_once")
    with pytest.raises(InputError, match="with energy, model, initial, sites, .* got Bare"):
        check_model(type("Bare", (), {"energy": RBM.energy, "model": RBM.model})(), data())
    grey = np.random.default_rng(0).random((5, D))
    assert check_model(RBM(D, H), grey, only="energy_is_finite", engine="pyro")[0].outcome == "passed"
