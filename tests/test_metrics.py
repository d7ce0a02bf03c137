"""`judge` and what it stands on, held to synthetic gradients whose mean and covariance are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import norm

from inference import files
from inference.estimate import Estimate, mean
from inference.gradients.blocks import Blocks
from inference.metrics import DETECTABLE, POWER, PROJECTIONS, Judgement, Moments, Reference, directions, judge
from inference.words import sentence

BLOCKS = Blocks.of({"a": (3, 4), "b": (8,), "c": (20,)})
RNG = np.random.default_rng(11)
TRUTH = RNG.normal(size=BLOCKS.size)
NORM = float(np.linalg.norm(TRUTH))
SPREAD = 0.1 * NORM / math.sqrt(BLOCKS.size) * RNG.uniform(0.5, 1.5, BLOCKS.size)  # sd of each coordinate
EXACT = Reference("enumerated", TRUTH)
FEW, SOME, MANY = 20, 300, 4000

ONE = np.zeros(BLOCKS.size)
ONE[5] = 0.05 * NORM
EVERYWHERE = 0.05 * NORM * np.where(np.arange(BLOCKS.size) % 3, 1, -1) / math.sqrt(BLOCKS.size)
BIASES = {"one coordinate": ONE, "all coordinates": EVERYWHERE, "shrinkage": -0.03 * TRUTH}


def draws(count: int, seed: int, bias: np.ndarray | float = 0.0) -> np.ndarray:
    return TRUTH + bias + SPREAD * np.random.default_rng(seed).normal(size=(count, BLOCKS.size))


def gathered(gradients: np.ndarray, chunks: int = 10) -> Moments:
    moments = Moments(directions(TRUTH, BLOCKS))
    for chunk in np.array_split(gradients, chunks):
        moments.add(chunk)
    return moments


def judged(gradients: np.ndarray, reference: Reference = EXACT, chunks: int = 10, family: int = 20) -> Judgement:
    return judge(gathered(gradients, chunks), reference, family)


def test_directions_are_signs_then_the_gradient_of_each_block():
    found = directions(TRUTH, BLOCKS)
    assert found.shape == (BLOCKS.size, PROJECTIONS + 3)
    assert set(np.unique(found[:, :PROJECTIONS])) == {-1.0, 1.0}
    np.testing.assert_array_equal(found, directions(TRUTH, BLOCKS))  # fixed
    for column, where in enumerate(BLOCKS.slices.values()):
        own = found[:, PROJECTIONS + column]
        np.testing.assert_allclose(own[where], TRUTH[where] / np.linalg.norm(TRUTH[where]), rtol=1e-6)
        assert not own[: where.start].any()
        assert not own[where.stop :].any()
    assert np.isfinite(directions(np.zeros(BLOCKS.size), BLOCKS)).all()


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("count", [FEW, SOME, MANY])
def test_a_planted_bias_is_found_once_it_is_detectable(bias, count):
    found = [judged(draws(count, seed, bias)) for seed in range(20)]
    verdicts = {one.verdict for one in found}
    if all(one.minimal_detectable_bias < np.linalg.norm(bias) / NORM for one in found):
        assert verdicts == {"biased"}
        sizes = np.array([one.bias_relative.value for one in found])
        assert abs(sizes.mean() - np.linalg.norm(bias) / NORM) < 0.005
    assert "unbiased" not in verdicts


def test_the_cases_above_lie_on_both_sides_of_what_is_detectable():
    found = {count: judged(draws(count, 0)).minimal_detectable_bias for count in (FEW, SOME, MANY)}
    assert found[FEW] > 0.05 > found[SOME] > DETECTABLE > found[MANY]


def test_the_minimal_detectable_bias_is_that_of_the_noisiest_direction():
    """A sign vector's standard error is known, and the largest of 67 measured ones is a little above it."""
    for family in (1, 1000):
        found = judged(draws(MANY, 0), family=family).minimal_detectable_bias
        tests = family * (PROJECTIONS + len(BLOCKS.slices))
        known = (norm.isf(1e-6 / tests / 2) + POWER) * math.sqrt((SPREAD**2).sum() / MANY) / NORM
        assert known < found < 1.06 * known


@pytest.mark.parametrize(("count", "wanted"), [(FEW, "inconclusive"), (SOME, "inconclusive"), (MANY, "unbiased")])
def test_unbiased_noise_never_alarms(count, wanted):
    found = [judged(draws(count, seed)) for seed in range(200)]
    assert {one.verdict for one in found} == {wanted}
    if wanted == "inconclusive":
        assert min(one.minimal_detectable_bias for one in found) > DETECTABLE
    assert np.mean([one.bias_relative.low == 0 for one in found]) > 0.9


@pytest.mark.parametrize(("factor", "wanted"), [(1.0, "exact"), (1.01, "biased"), (0.97, "biased")])
def test_without_noise_any_difference_is_a_bias(factor, wanted):
    found = judged(np.tile((factor * TRUTH).astype(np.float32), (20, 1)))
    assert found.verdict == wanted
    assert found.snr is None
    assert found.variance_trace.value < 1e-10 * NORM**2
    assert abs(found.bias_relative.value - abs(factor - 1)) < 1e-5
    assert found.minimal_detectable_bias < 1e-4


def test_rounding_to_single_precision_is_no_bias():
    noisy = [np.float32(TRUTH * (1 + 1e-6 * sign)) for sign in (1, -1)]
    assert judged(np.stack(noisy * 10)).verdict == "exact"


def long_run(count: int, seed: int, known: bool = True) -> Reference:
    """A reference as `compare` makes it, or one that keeps its error to itself."""
    moments = gathered(draws(count, seed))
    trace = float(np.mean(moments.traces)) / count
    along = np.concatenate([moments.errors[:PROJECTIONS], np.full(len(BLOCKS.slices), math.sqrt(trace))])
    return Reference("long-run", moments.mean, trace, along) if known else Reference("long-run", moments.mean)


def test_the_error_of_a_long_run_is_accounted_for():
    short = 100  # a reference far noisier than what is held to it
    wild = [judged(draws(MANY, seed), long_run(short, 1000 + seed, known=False)) for seed in range(50)]
    fair = [judged(draws(MANY, seed), long_run(short, 1000 + seed)) for seed in range(200)]
    assert {one.verdict for one in wild} == {"biased"}  # what the error is there for
    assert {one.verdict for one in fair} == {"inconclusive"}
    assert np.mean([one.bias_relative.low == 0 for one in fair]) > 0.9
    assert fair[0].minimal_detectable_bias > 5 * judged(draws(MANY, 0)).minimal_detectable_bias
    same = draws(MANY, 3)
    assert judged(same, long_run(MANY, 3)).verdict in ("unbiased", "inconclusive")  # the very same draws
    assert judged(draws(MANY, 4, ONE), long_run(4 * MANY, 5)).verdict == "biased"
    assert judged(draws(4 * MANY, 4), long_run(4 * MANY, 5)).verdict == "unbiased"


def test_the_relative_error_of_a_reference_is_that_of_its_mean():
    assert EXACT.relative_error == 0
    found = np.mean([long_run(SOME, seed).relative_error for seed in range(20)])
    assert abs(found / (math.sqrt((SPREAD**2).sum() / SOME) / NORM) - 1) < 0.02
    assert Reference("enumerated", np.zeros(3)).relative_error == 0


def test_the_interval_of_the_variance_covers_the_truth():
    truth = float((SPREAD**2).sum())
    found = [judged(draws(SOME, seed), chunks=20).variance_trace for seed in range(200)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.85 <= covered <= 0.99
    assert abs(np.mean([one.value for one in found]) / truth - 1) < 0.01
    assert np.mean([one.high - one.low for one in found]) < 0.2 * truth


def test_the_signal_to_noise_ratio_is_that_of_one_gradient():
    assert abs(judged(draws(MANY, 0)).snr / (NORM / math.sqrt((SPREAD**2).sum())) - 1) < 0.02


@pytest.mark.parametrize("chunks", [2, 7, 100])
def test_chunks_change_nothing_but_the_interval_of_the_variance(chunks):
    gradients = draws(SOME, 1, ONE)
    whole, parts = judged(gradients, chunks=1), judged(gradients, chunks=chunks)
    assert parts.verdict == whole.verdict
    for name in ("bias_max_abs_z", "minimal_detectable_bias"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)
    # Each chunk's variance is about its own mean, so that only their average is the same.
    np.testing.assert_allclose(parts.variance_trace.value, whole.variance_trace.value, rtol=0.05)
    np.testing.assert_allclose(parts.bias_relative, whole.bias_relative, rtol=0.05)
    assert math.isinf(whole.variance_trace.high)
    assert whole.variance_trace.low == 0
    assert math.isfinite(parts.variance_trace.high)
    moments = gathered(gradients, chunks)
    assert moments.count == SOME
    np.testing.assert_allclose(moments.mean, gradients.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        moments.errors, (gradients @ moments.directions).std(0, ddof=1) / math.sqrt(SOME), rtol=1e-12)  # fmt: skip


def test_a_gradient_of_zero_is_judged_without_dividing_by_it():
    zero = Reference("enumerated", np.zeros(BLOCKS.size))
    for gradients, wanted in ((np.zeros((20, BLOCKS.size)), "exact"), (draws(SOME, 0) - TRUTH, "inconclusive")):
        moments = Moments(directions(zero.gradient, BLOCKS))
        moments.add(gradients[:10])
        moments.add(gradients[10:])
        assert judge(moments, zero, 1).verdict == wanted


def test_gradients_that_are_not_finite_are_counted_and_named():
    gradients = draws(20, 0)
    gradients[3, 1], gradients[17] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        assert gathered(gradients, 2).lost == 2
    fine = {"point": "trained", "applicable": True, "verdict": "unbiased", "unbiased_for": ["elbo"], "efficiency": 1.0,
            "variance_trace": {"value": 2.0}}  # fmt: skip
    rows = [fine | {"name": "score", "reason": None}, fine | {"name": "bad", "reason": "2 of 20 were lost; a cure"}]
    told = sentence({"estimators": rows, "model": "M", "data": {"name": "d"}, "engine": "pyro"})
    assert told == "On M with d (pyro): score buys the most precision per second; of bad, 2 of 20 were lost."


def test_the_mean_of_values_and_its_interval():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    found = mean(values)
    half = 1.96 * math.sqrt((4 + 1 + 0 + 9) / 3 / 4)
    np.testing.assert_allclose(found, (3.0, 3.0 - half, 3.0 + half), rtol=1e-12)
    alone = mean(np.array([2.0], np.float32))
    assert (alone.value, alone.low, alone.high) == (2.0, -math.inf, math.inf)
    rng = np.random.default_rng(0)
    intervals = [mean(rng.normal(5, 2, 100)) for _ in range(500)]
    assert 0.92 < np.mean([one.low <= 5 <= one.high for one in intervals]) < 0.98


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (math.nan, None),
        (math.inf, None),
        (-np.inf, None),
        (np.float32("nan"), None),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (Estimate(1.0, -math.inf, math.inf), {"value": 1.0, "low": None, "high": None}),
        (Estimate(np.float32(1), np.float64(0), 2.0), {"value": 1.0, "low": 0.0, "high": 2.0}),
        ({1: [math.nan, (np.int32(2), "nan")], "b": None}, {"1": [None, [2, "nan"]], "b": None}),
    ],
    ids=repr,
)
def test_strict_json_holds_python_numbers_and_no_nan(value, wanted):
    found = files.strict(value)
    assert found == wanted
    assert type(found) is type(wanted)
    assert not any(isinstance(one, np.generic) for one in (found.values() if isinstance(found, dict) else [found]))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(files.to_json({"x": value}), parse_constant=refuse) == {"x": wanted}
