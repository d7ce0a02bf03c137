"""Every estimator is right, shown twice: over all outcomes of its draws, and statistically on the compiled path."""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from inference import LeaveOneOut, probe
from inference.gradients.blocks import Blocks
from inference.metrics import Moments, Reference, directions, judge
from ppl_models import InputError, bind
from tests import exact as programs
from tests.exact import ALONE, LINE, MEAN, MIXED, MIXTURE, THREE, Case, Net, Setting, bias, exact, expectation

ENGINES = ("numpyro", "pyro")
TOLERANCE = 1e-9
WHERE = [(case, where) for case in ALONE for where in ("full", "subsampled", "scaled", "masked")]
WHERE += [(case, where) for case in MIXED for where in ("full", "all")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("case", "where"), WHERE, ids=lambda x: str(x))
def test_expectation_over_all_outcomes_is_the_exact_gradient(engine, case, where):
    assert bias(engine, case, where) < TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", ["score", "enumerate"])
def test_a_mask_inside_the_event_is_not_a_mask_on_the_score(engine, spec):
    assert bias(engine, Case(Net((2,), inner=True), spec), "masked") < TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", ["pathwise", "pathwise-kl"])
def test_masks_that_differ_are_no_closed_form(engine, spec):
    """log p − m log q is not −KL: where the guide alone is masked, `pathwise-kl` is refused or right."""
    try:
        found = bias(engine, Case(replace(LINE, apart=True), spec, 1), "masked")
    except InputError:
        assert spec == "pathwise-kl"
    else:
        assert found < TOLERANCE


def test_leave_one_out_is_the_mean_of_the_others():
    """The exact value: K for K − 1 would leave the expectation right and the variance wrong."""
    cost = np.array([1.0, 4.0, 10.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(LeaveOneOut(3).baseline(cost, 1.0, None)[0].ravel(), [7.0, 5.5, 2.5])


@pytest.mark.parametrize("engine", ENGINES)
def test_running_mean_knows_past_costs_only(engine):
    setting, (total, weight), decay = Setting(2, 3), MEAN["z1"], 0.9
    given = {"z1": np.array([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])}
    value, plain, _ = programs.once(engine, "score", THREE, setting, given, {})
    _, fresh, first = programs.once(engine, "running-mean", THREE, setting, given, {"z1": (0.0, 0.0)})
    _, later, second = programs.once(engine, "running-mean", THREE, setting, given, MEAN)
    np.testing.assert_allclose(fresh, plain, rtol=1e-12)  # before the first step there is nothing to subtract
    # Afterwards the past mean is subtracted, in units of one row, whatever the current cost is.
    x, params = setting.minibatches(THREE.data(3))[0], THREE.params()
    logits = x[:, :2] @ params["encoder"] + params["encoder.bias"]
    residual = given["z1"][0] - 1 / (1 + np.exp(-logits))  # ∂ log q / ∂ logits
    score = np.zeros_like(plain)
    blocks = Blocks.of(THREE.shapes).slices
    score[blocks["encoder"]] = (x[:, :2].T @ residual).ravel()
    score[blocks["encoder.bias"]] = residual.sum(0)
    np.testing.assert_allclose(later - plain, -1.5 * total / weight * score, rtol=1e-10, atol=1e-12)
    # The current cost, per row, enters the next state.
    np.testing.assert_allclose(first["z1"], ((1 - decay) * value / 3, 1 - decay), rtol=1e-12)
    np.testing.assert_allclose(
        second["z1"], (decay * total + (1 - decay) * value / 3, decay * weight + 1 - decay), rtol=1e-12)  # fmt: skip


# The libraries' own, measured by the same machine.


@pytest.mark.parametrize("name", ["stock-trace", "stock-tracegraph"])
@pytest.mark.parametrize("setting", [Setting(1, 1), Setting(1, 3), Setting(1, 1, 3.0)], ids=str)
def test_pyros_own_elbos_are_right(name, setting):
    found = expectation("pyro", name, THREE, setting)
    assert programs.error(found, exact(THREE, setting.total, setting.scale)) < TOLERANCE


@pytest.mark.parametrize(("batch", "total", "factor"), [(4, 4, 1.0), (4, 20, 5.0), (2, 20, 10.0)])
def test_numpyro_tracegraph_scales_the_score_twice(batch, total, factor):
    """By N / B under subsampling; the gradient of the model's parameters, which has no score, is right."""
    one = Net((1,))
    found, truth = expectation("numpyro", "stock-tracegraph", one, Setting(batch, total)), exact(one, total)
    for name, block in Blocks.of(one.shapes).slices.items():
        wanted = factor if name.startswith("encoder") else 1.0
        np.testing.assert_allclose(found[block], wanted * truth[block], rtol=1e-9)


def test_numpyro_tracegraph_masks_the_score_of_a_masked_latent():
    one, masked = Net((1,)), Net((1,), masked=True)
    block = Blocks.of(one.shapes).slices["encoder.bias"]
    found, truth = expectation("numpyro", "stock-tracegraph", masked, Setting(2, 2)), exact(masked, 2)
    assert abs(truth[block]).max() > 0.01
    assert abs(found[block] - truth[block]).max() > 0.01


@pytest.mark.parametrize("setting", [Setting(2, 2), Setting(2, 3)], ids=str)
def test_numpyro_trace_drops_the_score(setting):
    found, truth = expectation("numpyro", "stock-trace", THREE, setting), exact(THREE, setting.total)
    for name, block in Blocks.of(THREE.shapes).slices.items():
        if name.startswith("encoder"):
            assert abs(truth[block]).max() > 0.01
            np.testing.assert_allclose(found[block], 0.0, atol=1e-12)
        else:
            np.testing.assert_allclose(found[block], truth[block], rtol=1e-9)


# The compiled path, in single precision.

#: Replicates that detect a bias of 2 % of the gradient, and those drawn on NumPyro and on Pyro.
STATISTICAL = [
    (Case(THREE, "score"), 2_600_000, 100_000, 40_000),
    (Case(THREE, "running-mean"), 260_000, 260_000, 40_000),
    (Case(THREE, "leave-one-out"), 140_000, 140_000, 140_000),
    (Case(THREE, "enumerate"), 100, 100, 20),
    (Case(LINE, "pathwise"), 220_000, 220_000, 220_000),
    (Case(LINE, "pathwise-kl"), 120_000, 120_000, 120_000),
    (Case(LINE, "path-only"), 220_000, 220_000, 40_000),
    (Case(LINE, "leave-one-out"), 480_000, 60_000, 40_000),
    (Case(MIXTURE, None), 120_000, 120_000, 20_000),
]


def judged(engine: str, case: Case, replicates: int) -> Any:
    program, rows = case.program, case.batch
    truth = exact(program, rows) / rows
    blocks = Blocks.of(program.shapes)
    if "scale" in program.shapes:  # to the unconstrained coordinate log scale
        truth[blocks.slices["scale"]] *= program.params()["scale"]
    bound = bind(program, engine, total=rows)
    args, params = (program.data(rows),), program.params()
    found = probe(*bound, args, case.spec, params, replicates, seed=1, engine=engine, device="cpu")
    moments = Moments(directions(truth, blocks))
    for chunk in np.array_split(found, 10):
        moments.add(chunk)
    return judge(moments, Reference("enumerated", truth), 2 * len(STATISTICAL) + 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("case", "enough", "numpyro", "pyro"), STATISTICAL, ids=lambda x: str(x))
def test_mean_of_many_compiled_gradients(engine, case, enough, numpyro, pyro):
    replicates = {"numpyro": numpyro, "pyro": pyro}[engine]
    found = judged(engine, case, replicates)
    print(engine, case, replicates, found)
    wanted = "exact" if case.spec == "enumerate" else "unbiased" if replicates >= enough else "inconclusive"
    assert found.verdict == wanted


def test_numpyro_trace_is_found_biased():
    assert judged("numpyro", Case(THREE, "stock-trace"), 20_000).verdict == "biased"


def test_too_few_replicates_are_inconclusive():
    assert judged("numpyro", Case(THREE, "score"), 200).verdict == "inconclusive"


# Closed forms of Mohamed et al. 2020, figure 2: the variance, not only the mean.


@dataclass(frozen=True)
class Square:
    """Gradients of E[x²], x ~ Normal(loc, scale): the sites' own log probabilities are masked out of the bound."""

    def model(self, ppl: Any, x: Any) -> None:
        value = ppl.sample("value", ppl.dist.Normal(ppl.xp.zeros(()), 1.0).mask(False))
        ppl.factor("square", value**2)

    def guide(self, ppl: Any, x: Any) -> None:
        loc = ppl.param("loc", ppl.xp.zeros(()))
        scale = ppl.param("scale", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        ppl.sample("value", ppl.dist.Normal(loc, scale).mask(False))


#: Variances at scale 1 and loc d, of the derivatives in loc and in scale, and the estimates themselves.
CLOSED = {
    "score": (lambda d: (d**4 + 14 * d**2 + 15, 2 * d**4 + 60 * d**2 + 74),
              lambda d, e: np.stack([(d + e) ** 2 * e, (d + e) ** 2 * (e**2 - 1)])),
    "pathwise": (lambda d: (4.0, 4 * d**2 + 8), lambda d, e: np.stack([2 * (d + e), 2 * (d + e) * e])),
}  # fmt: skip
DISTANCES = (0.0, 1.0, -2.0, 4.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CLOSED)
def test_variances_have_their_closed_forms(engine, name):
    replicates, (variances, estimate) = 100_000, CLOSED[name]
    nodes, mass = np.polynomial.hermite_e.hermegauss(30)
    mass = mass / mass.sum()
    family = 2 * 2 * 2 * 2 * len(DISTANCES)  # engines, estimators, parameters, moments
    critical = norm.isf(1e-6 / family / 2)
    probes, bound, rows = import_module(f"inference.gradients._{engine}"), bind(Square(), engine), (np.zeros((1, 1)),)
    with import_module(f"inference._{engine}").session("float32", "cpu"):
        gradients = probes.Gradients(*bound, rows, {}, name, {"loc": np.zeros(()), "scale": np.ones(())}, 1)
        for seed, d in enumerate(DISTANCES):
            params = {"loc": np.asarray(d), "scale": np.ones(())}
            found = gradients.many(params, {}, replicates, seed).astype(np.float64)
            values = estimate(d, nodes)
            mean = (values * mass).sum(1)
            np.testing.assert_allclose(mean, (2 * d, 2.0), atol=1e-10)
            central = values - mean[:, None]
            variance, fourth = (central**2 * mass).sum(1), (central**4 * mass).sum(1)
            np.testing.assert_allclose(variance, variances(d), rtol=1e-10)
            assert (abs(found.mean(0) - mean) < critical * np.sqrt(variance / replicates)).all()
            sample = found.var(0, ddof=1)
            print(engine, name, d, sample, variances(d))
            assert (abs(sample - variance) < critical * np.sqrt((fourth - variance**2) / replicates)).all()
