"""What is seen of an energy's chains, as ArviZ takes it; the verdict's thresholds; `ppl diagnose` and its exit code."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.diagnostics import data_energies, observe, ranks, summary, to_tree, verdict
from inference.diagnostics.tree import rows as figures
from inference.energy_training import EnergyFit
from inference.files import save_params
from inference.kernels import BlockGibbs, Tempering
from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM, BoltzmannMachine

from .catalogue import exact as session
from .catalogue import shared
from .command import ROOT, assert_estimate, assert_one_sentence, run, strict
from .stationary import energies, parameters, target
from .test_kernels import each_engine
from .transition import states


def found(model: Any, engine: str, params: dict[str, np.ndarray], chains: Any = None, kernel: Any = None) -> EnergyFit:
    x = np.random.default_rng(0).integers(0, 2, (200, model.data_dim)).astype(float)
    return EnergyFit(model, engine, Dataset("bits", x, x, "none"), "pcd", params, [], chains, 0.0, {}, kernel)


def law(model: Any, params: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The probability and the energy of each state."""
    with session("pyro"):
        arrays = {name: shared("pyro").array(value) for name, value in params.items()}
        return target(model, "pyro", arrays, 1.0), energies(model, "pyro", arrays)


def pinned(model: Any) -> dict[str, np.ndarray]:
    """Parameters under which the first visible unit is always on."""
    params = parameters(model)
    return params | {"x.bias": np.where(np.arange(model.data_dim) == 0, 60.0, params["x.bias"])}


@each_engine
@pytest.mark.parametrize("tempered", [False, True])
def test_observables_are_those_of_the_law(tempered: bool, engine: str):
    """Means of energy and of the visible units of a pinned machine within 5.3 standard errors by ESS (about 0.03 nats)."""
    model = RBM(3, 2)
    params = pinned(model)
    kernel = Tempering(BlockGibbs(model), (1.0, 0.5, 0.1)) if tempered else None
    seen = observe(found(model, engine, params, kernel=kernel), chains=16, draws=800, every=2, warm=50)
    p, energy = law(model, params)
    x = states(model.sites)["x"]
    told = {row["name"]: row for row in figures(seen)}
    for name, truth in (("energy", energy), ("magnetisation", x.mean(1))):
        error = told[name]["sd"] / np.sqrt(told[name]["ess_bulk"])
        assert abs(told[name]["mean"] - p @ truth) < 5.3 * error + 1e-4, name
        assert abs(told[name]["sd"] / np.sqrt(p @ truth**2 - (p @ truth) ** 2) - 1) < 0.1
        assert told[name]["rhat"] < 1.01
    assert seen.energy.shape == seen.accept_prob.shape == (16, 800)
    assert seen.snapshots.shape == (16, 10, 3)
    assert set(np.unique(seen.snapshots)) <= {0.0, 1.0}
    np.testing.assert_array_equal(seen.constant["x"], [True, False, False])
    assert (seen.trips is not None) is tempered
    assert seen.trips is None or seen.trips.min() > 0


@each_engine
def test_energies_of_rows_have_hidden_units_drawn_given_each(engine: str):
    """Rows uniform over all x, not as the model has them: mean and sd of E within 5 standard errors of 16,000 rows."""
    for model in (RBM(3, 2), BoltzmannMachine(3, 2)):
        params = parameters(model)
        p, energy = law(model, params)
        x, each = np.unique(states(model.sites)["x"], axis=0, return_inverse=True)
        p = p / np.bincount(each.ravel(), p)[each.ravel()] / len(x)
        drawn = data_energies(found(model, engine, params), np.tile(x, (2000, 1)))
        sd = np.sqrt(p @ energy**2 - (p @ energy) ** 2)
        assert abs(drawn.mean() - p @ energy) < 5 * sd / np.sqrt(16_000)
        assert abs(drawn.std() / sd - 1) < 0.05


def test_a_unit_that_moved_once_is_not_constant():
    """All units off but one, which is on in four of a thousand draws: constant if and only if it was never seen on."""
    model = RBM(3, 2)
    params = {name: np.zeros_like(value) for name, value in parameters(model).items()}
    params["x.bias"] = np.array([-60.0, -5.5, -60.0])
    for seed in range(6):
        seen = observe(found(model, "pyro", params), chains=4, draws=200, every=1, warm=5, seed=seed)
        np.testing.assert_array_equal(seen.constant["x"], [True, seen.magnetisation.max() == 0, True])


def test_the_tree_goes_through_arviz():
    import arviz_base
    import arviz_stats

    model = RBM(3, 2)
    fit = found(model, "pyro", parameters(model))
    tree = fit.to_arviz(chains=4, draws=60, seed=2)
    seen = observe(fit, chains=4, draws=60, seed=2)
    assert tree.posterior["energy"].dims == ("chain", "draw")
    assert tree.posterior["projection"].dims == ("chain", "draw", "direction")
    np.testing.assert_array_equal(tree.sample_stats["lp"].values, -seen.energy)
    assert float(tree.sample_stats["acceptance_rate"].min()) == 1.0
    table = arviz_stats.summary(tree, round_to="none")
    told = {row["name"]: row for row in figures(seen)}
    for name, mine in (("energy", "energy"), ("projection[singular vector 1]", "projection 1")):
        np.testing.assert_allclose(float(table.loc[name, "r_hat"]), told[mine]["rhat"], rtol=1e-12)
        np.testing.assert_allclose(float(table.loc[name, "ess_bulk"]), told[mine]["ess_bulk"], rtol=1e-12)
    assert set(arviz_base.extract(to_tree(seen)).data_vars) == {"energy", "magnetisation", "projection"}
    drawn = np.random.default_rng(0).normal(size=(3, 50))
    np.testing.assert_array_equal(ranks(drawn).ravel(), drawn.ravel().argsort().argsort() + 1)
    tied = ranks(np.zeros((4, 500))).mean(1)  # no chain stands higher for its place: 26 is the standard error
    assert np.abs(tied - 1000.5).max() < 130


@pytest.mark.parametrize("engine", ["pyro"])
def test_chains_in_two_wells_are_found_out(engine: str):
    """Two visible units tied by 40 nats, half of the chains in each well: Gibbs never crosses, and R-hat says so."""
    model = BoltzmannMachine(2)
    params = {"bias": np.full(2, -20.0), "coupling": np.array([[0.0, 0.0], [40.0, 0.0]])}
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 4, axis=0)
    fit = found(model, engine, params, {"x": x})
    numbers = summary(observe(fit, chains=8, draws=50), fit.data.x)
    told = {row["name"]: row for row in numbers["observables"]}
    assert told["magnetisation"]["rhat"] == np.inf
    assert np.isnan(told["energy"]["rhat"])  # of one value throughout: no figure, not 400 effective draws
    assert np.isnan(told["energy"]["ess_bulk"])
    judged = verdict(GOOD, numbers)
    assert judged.word == "caution"
    assert "R-hat of magnetisation is infinite" in judged.reasons[0]


# --- the verdict ------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "command": "ppl fit rbm --lr 0.01 --out runs/rbm --json", "model": "rbm", "epochs": 5,
    "manifest": {"lr": 0.01, "sweeps": 1},
    "heldout_log_likelihood": {"value": -18.0, "low": -18.5, "high": -17.5}, "baseline": {"value": -24.0},
    "likelihood": {"bound": "log p(x)", "sides": {"optimistic": -17.9, "approximate": -18.1}},
}  # fmt: skip
ROW = {"name": "energy", "mean": 0.0, "sd": 1.0, "rhat": 1.002, "ess_bulk": 900.0, "ess_tail": 880.0}
MIXED: dict[str, Any] = {"observables": [ROW, {**ROW, "name": "projection 1"}], "chains": 8, "draws": 500, "stuck_share": 0.0,
                         "trips": None}  # fmt: skip


def worse(**row: Any) -> dict[str, Any]:
    return {**MIXED, "observables": [ROW, {**ROW, "name": "projection 1", **row}]}


def level(value: Any, low: Any = None) -> dict[str, Any]:
    return {**GOOD, "heldout_log_likelihood": {"value": value, "low": value if low is None else low, "high": value}}


def sides(optimistic: Any, approximate: Any) -> dict[str, Any]:
    return {**GOOD, "likelihood": {"bound": "log p(x)", "sides": {"optimistic": optimistic, "approximate": approximate}}}


@pytest.mark.parametrize(
    ("told", "chains", "word", "reason", "next_"),
    [
        (GOOD, MIXED, "trust", None, "ppl sample runs/rbm"),
        (level(-24.01), MIXED, "do not use", "worse than", "ppl resume runs/rbm --epochs 10"),
        (level(-23.99), MIXED, "trust", None, "ppl sample runs/rbm"),
        (level(-23.9, -24.1), MIXED, "caution", "reaches down", "ppl resume runs/rbm --epochs 10"),
        (level(None), MIXED, "do not use", "not a finite number", "ppl fit rbm --lr 0.001 --out runs/rbm-slower"),
        (sides(-17.7, -18.19), MIXED, "trust", None, "ppl sample runs/rbm"),
        (sides(-17.7, -18.21), MIXED, "caution", "two sides", "ppl resume runs/rbm --epochs 10"),
        (sides(-17.7, None), MIXED, "caution", "not a finite number", "ppl resume runs/rbm --epochs 10"),
        ({**GOOD, "likelihood": None, "heldout_log_likelihood": None}, MIXED, "caution", "not computed", "ppl sample runs/rbm"),
        (GOOD, worse(rhat=1.0099), "trust", None, "ppl sample runs/rbm"),
        (GOOD, worse(rhat=1.0101), "caution", "R-hat of projection 1", "ppl diagnose runs/rbm --draws 2000"),
        (GOOD, worse(ess_tail=799.0), "caution", "99.9 effective", "ppl diagnose runs/rbm --draws 2000"),
        (GOOD, {**worse(ess_bulk=80.0), "draws": 2000}, "caution", "10.0 effective",
         "ppl fit rbm --lr 0.01 --sweeps 5 --out runs/rbm-sweeps"),
        (GOOD, {**MIXED, "stuck_share": 0.011}, "caution", "never moved", "ppl diagnose runs/rbm --draws 2000"),
        (GOOD, {**MIXED, "trips": [3, 0]}, "caution", "no walker", "ppl diagnose runs/rbm --draws 2000"),
        (GOOD, {**MIXED, "trips": [3, 1]}, "trust", None, "ppl sample runs/rbm"),
        (GOOD, {**MIXED, "observables": [{**ROW, "rhat": np.nan}]}, "do not use", "No chain moved", None),
        (GOOD, worse(mean=np.inf), "do not use", "not finite numbers", None),
        (level(-30.0), worse(rhat=2.0), "do not use", "worse than", "ppl resume runs/rbm --epochs 10"),
    ],
)  # fmt: skip
def test_the_verdict_turns_at_its_thresholds(told: Any, chains: Any, word: str, reason: str | None, next_: str | None):
    judged = verdict(told, chains, "runs/rbm")
    assert judged.word == word
    assert judged.reasons == () if reason is None else any(reason in why for why in judged.reasons)
    assert next_ is None or judged.next == next_
    assert judged.sentences.count(". ") == 1
    assert judged.sentences.endswith(f"type `{judged.next}`.")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small machine."""
    from .command import ppl

    folder = tmp_path_factory.mktemp("runs") / "rbm"
    ran = ppl("fit", "rbm", "--set", "num_hidden=8", "--epochs", "12", "--lr", "0.01", "--engine", "pyro", "--out", folder)
    assert ran.code == 0, ran
    assert "Next, type" in ran.err
    return folder


def test_diagnose_tells_what_the_report_tells(kept, capsys, monkeypatch):
    ran = run(capsys, monkeypatch, "diagnose", kept, "--json")
    told = strict(ran.out)
    assert ran.code == 0
    assert told["verdict"] in ("trust", "caution")
    assert_estimate(told["heldout_log_likelihood"])
    assert {row["name"] for row in told["observables"]} >= {"energy", "magnetisation", "projection 1"}
    assert (told["chains"], told["draws"], told["units"]) == (8, 500, {"x": 64, "h": 8})
    assert told["verdict"] == "trust" or told["reasons"]
    page = (kept / "report.html").read_text(encoding="utf-8")
    kept_one = strict((kept / "results.json").read_text())["diagnosis"]
    assert kept_one["verdict"] == told["verdict"]
    assert kept_one["next"] in page
    for title in ("Do model and data agree?", "Do the chains mix?", "Chains as they go on", "Units that never moved"):
        assert title in page
    words = shlex.split(told["next"])
    assert words[0] == "ppl"
    assert run(capsys, monkeypatch, *words[1:]).code == 0  # the advice is a command that runs


@pytest.mark.parametrize("value", [-99.0, None])
def test_exit_3_if_and_only_if_it_is_not_to_be_used(value, kept, tmp_path, capsys, monkeypatch):
    told = json.loads((kept / "results.json").read_text())
    told["heldout_log_likelihood"] = {"value": value, "low": value, "high": value}
    for name in ("run.json", "params.safetensors", "chains.safetensors"):
        (tmp_path / name).write_bytes((kept / name).read_bytes())
    (tmp_path / "results.json").write_text(json.dumps(told))
    ran = run(capsys, monkeypatch, "diagnose", tmp_path, "--draws", "10", "--json")
    assert ran.code == 3
    assert strict(ran.out)["verdict"] == "do not use"


def test_what_cannot_be_diagnosed_is_refused(kept, tmp_path, capsys, monkeypatch):
    other = tmp_path / "svi"
    other.mkdir()
    asked = {"model": "factor_analysis", "data": "iris", "engine": "pyro", "settings": [], "data_dir": None}
    (other / "run.json").write_text(json.dumps({"source": asked}))
    save_params(other / "params.safetensors", {"a": np.zeros(1)})
    for arguments, words in (
        ([other], ["results.json", "cannot be read", "fit again"]), (["rbm"], ["ppl fit rbm"]),
        ([tmp_path], ["holds no run"]), ([kept, "--draws", "2"], ["at least 2 chains, 4 draws"]),
    ):  # fmt: skip
        ran = run(capsys, monkeypatch, "diagnose", *arguments)
        assert ran.code == 2, ran
        assert_one_sentence(ran.err, *words, hide=[tmp_path, kept])
    with pytest.raises(InputError, match="at least 2 chains"):
        observe(found(RBM(3, 2), "pyro", parameters(RBM(3, 2))), chains=1)


def test_arviz_is_loaded_by_the_diagnostics_alone_when_they_are_called():
    def takes(path: Path) -> bool:
        lines = path.read_text(encoding="utf-8").splitlines()
        return any(line.strip().startswith(("import arviz", "from arviz")) for line in lines)

    hits = sorted(path.name for path in (ROOT / "inference").rglob("*.py") if takes(path))
    assert hits == ["convergence.py", "fit_tree.py", "importance.py", "tree.py"]
    code = "import sys, inference.cli, inference.diagnostics, inference.energy_runs; print('arviz_base' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
