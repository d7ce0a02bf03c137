"""Every estimator is right, shown twice: over all outcomes of its draws, and statistically on the compiled path."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import closed_forms
from inference import LeaveOneOut, probe
from inference.gradients.blocks import Blocks
from inference.metrics import Moments, Reference, directions, judge
from ppl_models import InputError, bind
from tests import exact as programs
from tests.exact import LINE, MEAN, MIXTURE, ONE, THREE, WHERE, Case, Net, Setting, bias, exact, expectation

ENGINES = ("numpyro", "pyro")
TOLERANCE = 1e-9


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
    found, truth = expectation("numpyro", "stock-tracegraph", ONE, Setting(batch, total)), exact(ONE, total)
    for name, block in Blocks.of(ONE.shapes).slices.items():
        wanted = factor if name.startswith("encoder") else 1.0
        np.testing.assert_allclose(found[block], wanted * truth[block], rtol=1e-9)


def test_numpyro_tracegraph_masks_the_score_of_a_masked_latent():
    masked = Net((1,), masked=True)
    block = Blocks.of(ONE.shapes).slices["encoder.bias"]
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


@pytest.mark.parametrize("engine", ENGINES)
def test_variances_have_their_closed_forms(engine):
    for row in closed_forms.measure(engine):
        assert row["mean_z"] < row["critical"], row
        assert row["variance_z"] < row["critical"], row


@pytest.mark.parametrize("name", closed_forms.CLOSED)
@pytest.mark.parametrize("d", closed_forms.DISTANCES)
def test_closed_forms_are_the_quadrature(name, d):
    mean, variance, _ = closed_forms.moments(name, d)
    np.testing.assert_allclose(mean, (2 * d, 2.0), atol=1e-10)
    np.testing.assert_allclose(variance, closed_forms.CLOSED[name][0](d), rtol=1e-10)
