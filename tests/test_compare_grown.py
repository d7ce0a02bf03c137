"""What `compare` tells beside bias and variance: one trajectory, the noise of the rows, paired seeds, equal tuning."""

from typing import Any

import numpy as np
import pytest

from inference import Relaxed, compare, probe
from inference.estimators import listed, named
from inference.minibatch_noise import minibatch_noise
from inference.paired import paired
from ppl_models import InputError, SigmoidBeliefNet, bind
from tests.exact import Net

ENGINES = ("numpyro", "pyro")


def curve(name: str, seed: int, end: float) -> dict[str, Any]:
    return {"name": name, "seed": seed, "elbo": [-9.0, end]}


def test_seeds_are_paired():
    """Differences −1, −2, −3 of means −2: Student's interval −2 ± 4.303 / √3; the seeds' own spread of 10 cancels."""
    ends = [10.0, 0.0, -10.0]
    curves = [curve("best", s, e) for s, e in enumerate(ends)] + [curve("less", s, e - 1 - s) for s, e in enumerate(ends)]
    best, less = paired(curves)
    assert (best["name"], best["value"], best["low"]) == ("best", 0.0, None)
    assert (less["against"], less["seeds"]) == ("best", 3)
    np.testing.assert_allclose([less["value"], less["low"], less["high"]], [-2, -2 - 4.30265 / 3**0.5, -2 + 4.30265 / 3**0.5],
                               rtol=1e-5)  # fmt: skip
    assert paired(curves[:3]) == []
    assert [row["name"] for row in paired([*curves, curve("lost", 0, float("nan"))])] == ["best", "less"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_noise_of_the_rows_is_that_of_the_exact_gradient(engine):
    """By enumeration each minibatch's gradient is exact, so its variance over minibatches is the whole; with draws it is found
    again although they are noisier than it."""
    from importlib import import_module

    net, data = Net((2,)), Net((2,)).data(60)
    rng = np.random.default_rng(0)
    batches = [(data[rng.permutation(60)[:12]],) for _ in range(40)]
    with import_module(f"inference._{engine}").session("float32", "cpu"):
        make = import_module(f"inference.gradients._{engine}").Gradients
        found = {}
        for name in ("enumerate", "leave-one-out"):
            gradients = make(*bind(net, engine, total=60), batches[0], {}, name, net.params(), 60)
            found[name] = minibatch_noise(gradients, net.params(), {}, batches, 100, 0)
    exact = np.stack([probe(*bind(net, engine, total=60), rows, "enumerate", net.params(), 1, engine=engine, num_data=60)[0]
                      for rows in batches]).astype(np.float64)  # fmt: skip
    whole = exact.var(0, ddof=1).sum()
    assert found["enumerate"][0].value == pytest.approx(whole, rel=1e-3)
    assert found["enumerate"][1] < 1e-9
    sampled, latents = found["leave-one-out"]
    assert sampled.low < whole < sampled.high
    assert latents > 0.2 * whole  # 100 gradients of it make a hundredth of this: what was subtracted matters
    assert abs(sampled.value / whole - 1) < 0.2


@pytest.mark.parametrize("engine", ENGINES)
def test_compare_tells_all_of_it(engine):
    x = np.repeat(np.array([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], float), 20, 0)
    found = compare(SigmoidBeliefNet(4, 2), x, engine=engine, estimators={"score": "score", "soft": Relaxed(0.3)}, epochs=10,
                    replicates=100, seeds=2, batch=16, lr=[0.003, 0.03], trajectory=True, minibatch_noise=True)  # fmt: skip
    told = found.results
    assert {row["point"] for row in told["estimators"]} == {"initial", "early", "trained"}
    assert set(told["minibatch_noise"]) == {"initial", "early", "trained"}
    for noise in told["minibatch_noise"].values():
        assert noise["by"] == "score"
        assert noise["low"] < noise["value"] < noise["high"]
    assert set(told["tuning"]) == {"score", "soft"}
    for name, ends in told["tuning"].items():
        best = max(ends, key=lambda rate: ends[rate])
        assert {f"{c['lr']:g}" for c in told["curves"] if c["name"] == name} == {best}
    assert [c["seed"] for c in told["curves"] if c["name"] == "soft"] == [0, 1]
    assert {row["name"] for row in told["paired"]} == {"score", "soft"}
    assert "early" in found.html()


def test_settings_may_stand_in_a_name():
    assert named("relaxed(temperature=0.1)") == Relaxed(0.1)
    assert named("leave-one-out(num_particles=4)").num_particles == 4
    assert listed("relaxed(temperature=0.1|0.5), score,ovis(auxiliary=1|2,num_particles=3)") == [
        "relaxed(temperature=0.1)", "relaxed(temperature=0.5)", "score", "ovis(auxiliary=1,num_particles=3)",
        "ovis(auxiliary=2,num_particles=3)"]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), [
    ("relaxed(temp=1)", r"no setting 'temp'; its settings are temperature, num_particles"),
    ("relaxed(temperature=x)", r"expected temperature of .* to be a number, got 'x'"),
    ("relaxed(temperature=-1)", "positive temperature, got -1"),
    ("relaxed(temperature=0.3", "expected an estimator among"),
])  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(text, told):
    with pytest.raises(InputError, match=told):
        named(text)
