"""The reports of libraries' faults: each is reproduced, says so in whole JSON, and would see it mended."""

import json
import math
import runpy
from types import SimpleNamespace

import jax.numpy as jnp
import pyro
import pytest
import torch
from numpyro.infer import TraceGraph_ELBO
from pyro.infer import Trace_ELBO

from benchmarks import upstream_faults
from benchmarks.upstream_faults import FOLDER, judge, whole
from inference.estimators._numpyro import EstimatorELBO

SCRIPTS = sorted(FOLDER.glob("*.py"))
SOUND = {"fault": "f", "library": "l", "version": "1", "expected": 1.0, "got": [2.0, 3.0], "reproduced": True}


def load(name):
    return SimpleNamespace(**runpy.run_path(str(FOLDER / f"{name}.py")))


def exact_renyi_numpyro(script):
    return SimpleNamespace(loss=lambda key, params, *_: -script.bound(params["a"]))


def exact_renyi_pyro(script):
    def loss_and_grads(model, guide):
        guide()
        (-script.bound(pyro.param("a"))).backward()

    return SimpleNamespace(loss_and_grads=loss_and_grads)


def scale_outside(script):
    def loss(model, guide, total):
        log_weights = []
        for _ in range(2):
            drawn = pyro.poutine.trace(guide).get_trace(1)
            told = pyro.poutine.trace(pyro.poutine.replay(model, drawn)).get_trace(1)
            log_weights.append(told.log_prob_sum() - drawn.log_prob_sum())
        return -total * (torch.logsumexp(torch.stack(log_weights), 0).item() - math.log(2))

    return SimpleNamespace(loss=loss)


#: What each script would see of a library without the fault: an ELBO that is right, ours or the library's own, or a stand-in.
MENDED = {
    "numpyro_renyi_discrete_sign": exact_renyi_numpyro,
    "numpyro_trace_elbo_discrete_dropped": lambda _: TraceGraph_ELBO(),
    "numpyro_tracegraph_masked_latent": lambda _: EstimatorELBO("score"),
    "numpyro_tracegraph_scale_twice": lambda _: EstimatorELBO("score"),
    "pyro_renyi_discrete_zero": exact_renyi_pyro,
    "pyro_renyi_subsampling_no_bound": scale_outside,
}


def close(a, b):
    pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
    return all(math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-5) for x, y in pairs)


def test_every_script_is_here():
    assert [script.stem for script in SCRIPTS] == sorted(MENDED)
    assert all(len(script.read_text(encoding="utf-8").splitlines()) < 70 for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_fault_is_reproduced(script, capsys):
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    report = whole(capsys.readouterr().out)
    assert report is not None
    assert not end.value.code
    assert report["reproduced"]
    assert not close(report["expected"], report["got"])


@pytest.mark.parametrize("name", MENDED)
def test_a_mended_library_exits_1_with_the_expected_number(name, capsys):
    script = load(name)
    assert script.main(MENDED[name](script)) == 1
    report = whole(capsys.readouterr().out)
    assert report is not None
    assert not report["reproduced"]
    assert close(report["expected"], report["got"])


def test_the_numbers_are_what_the_texts_say():
    """Twice the scale is its square; the masked and dropped gradients are 0; Rényi's second part has a closed form."""
    scale, sign = load("numpyro_tracegraph_scale_twice"), load("numpyro_renyi_discrete_sign")
    one = scale.mean_gradient(TraceGraph_ELBO(), 1)
    assert math.isclose(scale.mean_gradient(TraceGraph_ELBO(), 3), 9 * one, rel_tol=1e-4)
    q = 1 / (1 + math.exp(-sign.A))
    w = 0.5 * jnp.array(sign.P) / jnp.array([1 - q, q])
    second = q * (1 - q) * (w[0] - w[1]) / w.sum()
    assert math.isclose(sign.mean_gradient(sign.RenyiELBO(num_particles=2)), second, rel_tol=1e-4)


def test_pyros_own_elbo_has_the_gradient_that_renyi_loses():
    """The zero is the library's, not the script's: its forced draws give the ELBO's gradient exactly."""
    script = load("pyro_renyi_discrete_zero")
    q = 1 / (1 + math.exp(-script.A))
    found = script.mean_gradient(Trace_ELBO(num_particles=2))
    assert math.isclose(found, q * (1 - q) * (math.log(4) - script.A), rel_tol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["", "Traceback", "{}", json.dumps(SOUND) * 2, json.dumps([SOUND]), json.dumps({**SOUND, "got": math.nan}),
     json.dumps({**SOUND, "got": [1.0, math.inf]}), json.dumps({**SOUND, "reproduced": 1}), json.dumps({**SOUND, "more": 1})],
)  # fmt: skip
def test_what_is_no_whole_report(text):
    assert whole(text) is None
    assert whole(json.dumps(SOUND)) == SOUND


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder with a script of each end: the fault is there, is mended, the script fails, or contradicts itself."""
    report, mended = json.dumps(SOUND), json.dumps({**SOUND, "reproduced": False})
    texts = {"a": f"print({report!r})", "b": f"print({mended!r}); raise SystemExit(1)", "c": "raise SystemExit(1)",
             "d": f"print({mended!r})", "e": f"print({report!r}); raise RuntimeError"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(upstream_faults, "FOLDER", tmp_path)
    monkeypatch.setattr(upstream_faults.record, "ROOT", tmp_path)
    return tmp_path


def test_the_benchmark_counts_ends_and_hashes_scripts(scripts):
    found = upstream_faults.run(quick=False, budget=None)
    assert (found["scripts"], found["broken"], found["reproduced"], found["not_reproduced"]) == (5, 3, 1, 1)
    assert [row["exit"] for row in found["rows"]] == [0, 1, 1, 0, 1]
    assert (found["device"], found["versions"]) == ("cpu", {"l": "1"})
    assert list(found["sources"]) == ["a.py", "b.py", "c.py", "d.py", "e.py"]


def test_a_script_that_hangs_is_broken(tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    assert judge(tmp_path / "slow.py", longest=0.2)["broken"]
