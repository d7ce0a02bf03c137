"""`check_model`: each check fails on its broken model, and on nothing of the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from inference import check_model, checks
from inference.broken_models import BROKEN, SOUND, data
from ppl_models import PCA, BayesianGaussianMixture, Bound, InputError, bind
from ppl_models.language import ENGINES

from .catalogue import CATALOGUE, Row, real

#: One row of each kind; `benchmarks/conformance.py` runs all.
GOOD = ["vae-bernoulli", "cvae-labels", "m1", "m2", "sbn-2", "factor-analysis-missing", "mixture-full", "flow-vae",
        "linear-markov"]  # fmt: skip
ROWS = [row for row in CATALOGUE if row.id in GOOD] + [Row("bayesian", BayesianGaussianMixture(6, 2), real)]


def test_every_check_has_a_broken_model():
    names = [check.name for check in checks()]
    assert len(set(names)) == len(names) >= 20
    assert list(BROKEN) == names
    assert all(check.sentence.endswith(".") and len(check.sentence) > 20 for check in checks())


@pytest.mark.parametrize("check", checks(), ids=str)
def test_a_check_fails_on_its_broken_model(check):
    """On no other check does it fail, but those that it must; this on Pyro, which is quick."""
    broken = BROKEN[check.name]
    together = {c.name for c in checks() if c.together}
    told = check_model(broken.model, data(), engine="pyro", raises=False)
    failed = {result.check for result in told if result.outcome == "failed"}
    assert failed == {check.name, *broken.also} - together
    mine = [result for result in check_model(broken.model, data(), only=check, raises=False) if result.outcome == "failed"]
    on = ["both"] if check.together else list(ENGINES) if broken.engine is None else [broken.engine]
    assert [result.engine for result in mine] == on
    for result in mine:
        assert result.reason.endswith((".", ")"))
        assert len(result.reason) > 30
    with pytest.raises(InputError) as raised:
        check_model(broken.model, data(), only=check, engine=None if check.together else on[-1])
    assert f"fails {check.name} on {on[-1]}" in str(raised.value)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_catalogue_passes_every_check(row):
    given = row.data(np.random.default_rng(0))
    told = check_model(row.declaration, given if len(given) > 1 else given[0], raises=False)
    assert [result for result in told if result.outcome == "failed"] == []
    assert {result.engine for result in told} == {*ENGINES, "both"}
    passed = [result for result in told if result.outcome == "passed"]
    assert len(passed) >= 2 * 26


def pair(declaration, engine):
    """A user's own functions."""
    program = bind(declaration, engine)

    def model(x, total=None):
        program.model(x, total=total)

    def guide(x, total=None):
        program.guide(x, total=total)

    return Bound(model, guide)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_users_own_pair_is_checked_on_its_engine(engine):
    told = check_model(pair(SOUND, engine), data(), engine=engine)
    outcomes = {result.check: result for result in told}
    assert {result.engine for result in told} == {engine}
    assert outcomes["scaled_once"].outcome == "passed"
    assert outcomes["particles_broadcast"].outcome == "passed"
    for name in ("frozen", "engines_agree_on_density", "elbo_below_evidence"):
        assert outcomes[name].outcome == "skipped"
        assert outcomes[name].reason
    assert sum(result.outcome == "passed" for result in told) >= 18
    with pytest.raises(InputError, match="scaled_once"):
        check_model(pair(BROKEN["scaled_once"].model, engine), data(), engine=engine)


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(InputError, match="belongs to one engine"):
        check_model(Bound(*bind(SOUND, "pyro")), data())
    with pytest.raises(InputError, match="a check among runs, .* got 'shape'"):
        check_model(SOUND, data(), only="shape")
    with pytest.raises(InputError, match="at least 3 rows"):
        check_model(SOUND, data(2))
    with pytest.raises(InputError, match="with model, guide, .* got PCA"):
        check_model(PCA(4), data())
    with pytest.raises(InputError, match="'stan'"):
        check_model(SOUND, data(), engine="stan")
    assert [r.check for r in check_model(SOUND, data(), only=["pure", "frozen"], engine="pyro")] == ["pure", "frozen"]
