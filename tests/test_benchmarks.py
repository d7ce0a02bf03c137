import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import checkpoint, record, staged, step_time
from benchmarks.claims import CLAIMS, OPERATORS, Claim, known, meets, row
from benchmarks.hand.weights import greys, weights
from inference.evaluate import log_likelihood_rows
from ppl_models import VAE, InputError
from ppl_models.datasets import from_arrays

CLAIM = Claim("c", "step_time", 7, "A sentence.", {"op": "<=", "value": 1.1}, "a.ratio")


def made(ratio, device="cpu", sources=None, **result):
    manifest = {"device": device, "commit": "abc"}
    return {"name": "step_time", "result": {"a": {"ratio": ratio, **result}}, "manifest": manifest,
            "sources": sources or {}}  # fmt: skip


def strictly(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def toy(monkeypatch):
    """A benchmark that takes no time; `toy.result` is what it gives."""
    toy = SimpleNamespace(result={"a": {"ratio": 1.0}})
    module = SimpleNamespace(run=lambda quick, budget: print("noise") or {**toy.result, "given": [quick, budget]})
    monkeypatch.setitem(sys.modules, "benchmarks.step_time", module)
    monkeypatch.setattr(program, "CLAIMS", (CLAIM,))
    return toy


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [("<=", True, True, False), ("<", True, False, False), (">=", False, True, True), (">", False, False, True),
     ("==", False, True, False)],
)  # fmt: skip
def test_each_operator_of_a_target(op, below, equal, above):
    target = {"op": op, "value": 2}
    assert [meets(x, target) for x in (1.9, 2.0, 2.1)] == [below, equal, above]
    assert [meets({"value": x, "low": 0, "high": 9}, target) for x in (1.9, 2.0, 2.1)] == [below, equal, above]


@pytest.mark.parametrize(("op", "inside"), [("<=", (0.9, 1.1)), (">=", (1.3, 1.5)), ("<", (0.9, 1.1)), (">", (1.3, 2))])
def test_an_interval_must_lie_on_the_right_side_whole(op, inside):
    target = {"op": op, "value": 1.2, "interval": True}
    low, high = inside
    assert meets({"value": 1.0, "low": low, "high": high}, target) is True
    assert meets({"value": 1.0, "low": min(low, 1.19), "high": max(high, 1.21)}, target) is False


@pytest.mark.parametrize("value", [None, math.nan, math.inf, {"value": None}, "fast", {}])
def test_a_value_that_is_no_number_decides_nothing(value):
    assert meets(value, {"op": "<=", "value": 1}) is None


def test_an_interval_target_needs_an_interval():
    assert meets(1.0, {"op": "<=", "value": 2, "interval": True}) is None


def test_a_row_has_the_promised_columns_and_holds_is_computed():
    given = row(CLAIM, made(1.05))
    assert {"name", "issue", "claim", "target", "value", "holds", "needs", "device", "commit", "stale"} == set(given)
    assert (given["holds"], given["value"], given["device"], given["commit"]) == (True, 1.05, "cpu", "abc")
    assert row(CLAIM, made(1.2))["holds"] is False
    assert row(CLAIM, None)["holds"] is None
    assert row(CLAIM, made(1.05), stale=True)["holds"] is None


@pytest.mark.parametrize(("device", "holds"), [("cpu", None), ("cuda: H200", True), ("gpu", True), ("GPU:0", True)])
def test_a_claim_that_needs_a_gpu_is_open_on_a_cpu(device, holds):
    assert row(replace(CLAIM, needs="gpu"), made(1.0, device))["holds"] is holds


@pytest.mark.parametrize(("ok", "holds"), [(True, True), (False, None), (None, None)])
def test_a_claim_with_an_unfit_peer_is_void(ok, holds):
    assert row(replace(CLAIM, valid="a.peer_ok"), made(1.0, peer_ok=ok))["holds"] is holds


def test_claims_have_names_of_their_own_and_benchmarks_that_exist():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.target["op"] in OPERATORS and claim.needs in (None, "gpu") for claim in CLAIMS)
    assert all((record.ROOT / "benchmarks" / f"{name}.py").is_file() for name in known())


def test_a_changed_or_missing_source_makes_a_record_stale(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    kept = made(1.0, sources={"a.py": record.digest(tmp_path / "a.py")})
    assert not record.stale(kept, tmp_path)
    (tmp_path / "a.py").write_text("x = 2\n")
    assert record.stale(kept, tmp_path)
    (tmp_path / "a.py").unlink()
    assert record.stale(kept, tmp_path)


def test_sources_are_what_a_benchmark_stands_on_without_the_framework():
    import_module("benchmarks.vae_likelihood")
    for module in checkpoint.ENGINE:
        import_module(module)
    found = record.sources("benchmarks.vae_likelihood")
    used = ["benchmarks/vae_likelihood.py", "ppl_models/vae.py", "ppl_models/_numpyro.py", "inference/svi/__init__.py",
            "inference/svi/_numpyro.py", "inference/estimators/terms.py", "inference/evaluate/__init__.py"]  # fmt: skip
    assert set(used) <= set(found)
    # Declarations and methods that it never uses, though packages import them, and the framework.
    unused = ["ppl_models/__init__.py", "ppl_models/flow_vae.py", "inference/em/__init__.py", "benchmarks/record.py"]
    assert not set(unused) & set(found)
    assert not [file for file in found if file.startswith((".venv", "tests"))]


def test_a_stale_result_is_listed_as_open(toy, tmp_path, capsys):
    assert program.main(["step_time", "--json"], tmp_path) == 0
    kept = strictly((tmp_path / "step_time.json").read_text())
    assert set(kept) == {"name", "result", "manifest", "sources"}
    assert set(kept["manifest"]) == {"versions", "device", "cpu", "commit", "dirty", "python", "date", "seconds",
                                     "quick"}  # fmt: skip
    kept["sources"]["ppl_models/errors.py"] = record.digest(record.ROOT / "ppl_models" / "errors.py")
    for sha, stale, holds in ((kept["sources"]["ppl_models/errors.py"], False, True), ("0" * 64, True, None)):
        record.store({**kept, "sources": {"ppl_models/errors.py": sha}}, tmp_path)
        capsys.readouterr()
        assert program.main(["--list", "--json"], tmp_path) == 0
        (given,) = strictly(capsys.readouterr().out)["claims"]
        assert (given["stale"], given["holds"], given["value"]) == (stale, holds, 1.0)


def test_quick_prints_and_never_overwrites(toy, tmp_path, capsys):
    program.main(["step_time", "--budget", "3"], tmp_path)
    before = (tmp_path / "step_time.json").read_text()
    assert strictly(before)["result"]["given"] == [False, 3.0]
    toy.result = {"a": {"ratio": 9.0}}
    capsys.readouterr()
    assert program.main(["step_time", "--quick", "--json"], tmp_path) == 0
    assert strictly(capsys.readouterr().out)["claims"][0]["value"] == 9.0
    assert [file.name for file in tmp_path.iterdir()] == ["step_time.json"]
    assert (tmp_path / "step_time.json").read_text() == before


def test_json_is_strict_and_alone_on_stdout(toy, tmp_path, capsys):
    toy.result = {"a": {"ratio": math.nan, "worst": np.float32(math.inf), "all": np.arange(3.0)}}
    program.main(["step_time", "--json"], tmp_path)
    given = capsys.readouterr()
    result = strictly(given.out)["result"]
    assert result["a"] == {"ratio": None, "worst": None, "all": [0.0, 1.0, 2.0]}
    assert "noise" in given.err
    assert strictly((tmp_path / "step_time.json").read_text())["result"] == result


def test_a_failed_store_leaves_the_old_record(tmp_path, monkeypatch):
    record.store(made(1.0), tmp_path)

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(record.os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        record.store(made(2.0), tmp_path)
    assert record.load("step_time", tmp_path)["result"]["a"]["ratio"] == 1.0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("arguments", [["nonsense"], [], ["../step_time"]])
def test_an_unknown_name_exits_2_and_names_the_known(arguments, capsys):
    assert program.main(arguments) == 2
    given = capsys.readouterr()
    assert given.out == ""
    assert given.err.count("\n") == 1
    assert all(name in given.err for name in known())


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "soon"])
def test_a_budget_is_a_positive_number_of_minutes(budget, capsys):
    with pytest.raises(SystemExit, match="2"):
        program.main(["step_time", "--budget", budget])
    assert "minutes" in capsys.readouterr().err


def test_the_list_needs_no_engine(tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['benchmarks', '--list', '--json']\n"
        "try:\n    runpy.run_module('benchmarks', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*sorted({'torch', 'pyro', 'jax', 'numpyro'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=record.ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert {given["name"] for given in strictly(done.stdout)["claims"]} == {claim.name for claim in CLAIMS}


def test_the_ratio_is_that_of_the_medians_with_an_interval_around():
    rng = np.random.default_rng(0)
    given = step_time.summary(list(1.2 * rng.normal(5, 0.1, 25)), list(rng.normal(5, 0.1, 25)))
    ratio = given["ratio"]
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert ratio["low"] < 1.2 < ratio["high"]
    assert ratio["value"] == given["ours_ms"] / given["peer_ms"]


@pytest.mark.parametrize(("engine", "peer_ms", "gflops", "ok"), [
    ("numpyro", 3.4, 203, True), ("numpyro", 3.5, 203, False), ("pyro", 6.4, 105, True), ("pyro", 6.5, 105, False),
    ("numpyro", 6.8, 101.5, True), ("numpyro", 6.9, 101.5, False),  # products half as fast
    ("numpyro", 3.5, 406, False), ("pyro", 6.4, 210, True),  # and twice as fast, which demands no more
])  # fmt: skip
def test_a_peer_must_reach_nine_tenths_of_its_floor(engine, peer_ms, gflops, ok):
    assert step_time.floor(engine, peer_ms, gflops)["peer_ok"] is ok


def test_the_two_peers_take_the_same_step():
    jax = pytest.importorskip("benchmarks.hand._numpyro")
    torch = pytest.importorskip("benchmarks.hand._pyro")
    rng = np.random.default_rng(1)
    params, noise = weights(0), rng.normal(size=(128, 20)).astype(np.float32)
    x = (rng.random((128, 784)) < greys(128, 1)).astype(np.float32)
    doubles = {name: w.astype(np.float64) for name, w in params.items()}
    truth = torch.gradient(doubles, x.astype(np.float64), noise.astype(np.float64))
    for peer in (jax, torch):
        given = peer.gradient(params, x, noise)
        assert given.keys() == params.keys()
        for name, g in truth.items():
            np.testing.assert_allclose(given[name], g, rtol=0, atol=1e-5 * np.abs(g).max(), err_msg=peer.__name__)


def counting():
    """A stage's work that says how often it was done."""
    calls = []

    def work():
        calls.append(1)
        return {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3).T}, {"value": np.float32(0.5), "bad": math.nan}

    return work, calls


def test_a_stage_is_done_once_and_read_back(tmp_path):
    work, calls = counting()
    first, again = (checkpoint.Stages(tmp_path)("one", work) for _ in range(2))
    assert len(calls) == 1
    assert again.told == {"value": 0.5, "bad": None, "seconds": first.told["seconds"]}
    np.testing.assert_array_equal(again.arrays["a"], [[0, 3], [1, 4], [2, 5]])
    checkpoint.Stages(tmp_path)("two", work)
    assert len(calls) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]


def test_a_stage_without_arrays_is_a_stage(tmp_path):
    assert [checkpoint.Stages(tmp_path)("one", lambda n=n: ({}, {"n": n})).told["n"] for n in (1, 2)] == [1, 1]


def test_a_stage_that_broke_leaves_the_earlier_ones_and_no_file(tmp_path):
    work, calls = counting()
    checkpoint.Stages(tmp_path)("one", work)

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.Stages(tmp_path)("two", killed)
    assert [file.name for file in tmp_path.iterdir()] == ["one.safetensors"]
    checkpoint.Stages(tmp_path)("one", work)
    assert len(calls) == 1


@pytest.mark.parametrize("broken", ["empty", "half", "other"])
def test_a_file_that_is_not_whole_is_done_again(broken, tmp_path):
    work, calls = counting()
    checkpoint.Stages(tmp_path)("one", work)
    path = tmp_path / "one.safetensors"
    path.write_bytes({"empty": b"", "half": path.read_bytes()[:-5], "other": b"{}" * 100}[broken])
    checkpoint.Stages(tmp_path)("one", work)
    assert len(calls) == 2


def test_the_key_is_that_of_set_up_sources_and_device():
    asked, sources = {"epochs": 3, "legs": [(1, 2.0)]}, {"a.py": "0" * 64}
    key = checkpoint.key(asked, sources, "cpu")
    assert key == checkpoint.key({"legs": ((1, 2.0),), "epochs": 3}, dict(sources), "cpu")
    assert key != checkpoint.key({**asked, "epochs": 4}, sources, "cpu")
    assert key != checkpoint.key(asked, {"a.py": "1" * 64}, "cpu")
    assert key != checkpoint.key(asked, sources | {"b.py": "0" * 64}, "cpu")
    assert key != checkpoint.key(asked, sources, "cuda")
    with pytest.raises(InputError, match="a.py was written to just now"):
        checkpoint.key(asked, {"a.py": None}, "cpu")


@dataclass
class Toy:
    epochs: int


def test_a_budget_ends_between_stages_and_the_next_call_goes_on(tmp_path, monkeypatch, capsys):
    pytest.importorskip("numpyro")
    monkeypatch.setattr(record, "sources", lambda *_: {"a.py": "0" * 64})
    clock, done = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock.now)

    def stage(name):
        def work():
            clock.now += 40
            done.append(name)
            return {}, {}

        return work

    def work(stages, setup):
        for name in ("one", "two", "three"):
            stages(name, stage(name))
        return {"value": 7}

    def call(epochs, budget):
        done.clear()
        return checkpoint.measured("toy", Toy(epochs), budget, work, tmp_path), list(done)

    found, did = call(1, 1)
    assert (found["complete"], found["setup"], list(found["seconds"])) == (False, {"epochs": 1}, ["one", "two"])
    assert did == ["one", "two"]
    assert "three" in capsys.readouterr().err
    found, did = call(1, 1)
    assert (found["complete"], found["value"], list(found["seconds"])) == (True, 7, ["one", "two", "three"])
    assert did == ["three"]
    assert call(2, None)[1] == ["one", "two", "three"]  # another set-up takes nothing over


def test_training_and_judging_by_stages_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    pytest.importorskip("numpyro")
    monkeypatch.setattr(staged, "PIECE", 3)
    x = (np.random.default_rng(0).random((16, 8)) < 0.9).astype(np.float32)
    data = from_arrays(x, heldout=np.tri(7, 8))
    model, legs = VAE(8, 2, (3,)), (staged.Leg(9, 1e-1), staged.Leg(1, 1e-6))

    def run(folder, legs=legs):
        stages = checkpoint.Stages(folder)
        found = staged.trained(stages, "vae", model, data, legs, 0, batch=8)
        return stages, found, staged.likelihood(stages, "vae", found, 7, 900)

    stages, found, rows = run(tmp_path / "whole")
    assert list(stages.seconds) == ["vae-leg-0", "vae-leg-1", "vae-rows-0", "vae-rows-3", "vae-rows-6"]
    staged.trained(checkpoint.Stages(tmp_path / "killed"), "vae", model, data, legs[:1], 0, batch=8)  # here it was killed
    _, again, after = run(tmp_path / "killed")
    first = checkpoint.load(tmp_path / "whole" / "vae-leg-0.safetensors").arrays
    for name, value in found.params.items():
        np.testing.assert_array_equal(again.params[name], value)
        assert 0 < np.abs(first[name] - value).max() < 1e-4  # the second leg goes on where the first ended
    np.testing.assert_array_equal(after.log_likelihood, rows.log_likelihood)
    assert rows.log_likelihood.shape == (7,)
    apart = log_likelihood_rows(found, num_samples=900, seed=100).log_likelihood - rows.log_likelihood
    assert np.abs(apart).max() < 0.2 < np.diff(rows.log_likelihood).min()  # every row, in its place
