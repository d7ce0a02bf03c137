"""`ppl compare`: every field of every row, the same numbers again, and rows that say why they are empty."""

from __future__ import annotations

import numpy as np
import pytest

from .command import ENGINES, assert_self_contained, binary, run, strict, timeless

ROW = set(
    "name engine point applicable reason unbiased_for verdict replicates bias_max_abs_z bias_relative "
    "minimal_detectable_bias variance_trace snr seconds_per_gradient seconds_per_gradient_vectorised model_evaluations "
    "efficiency final_elbo".split()
)  # fmt: skip


@pytest.mark.parametrize(("engine", "absent", "seeds"), [("numpyro", {"stock-traceenum"}, "0"), ("pyro", set(), "1")])
def test_compare_has_every_field(engine, absent, seeds, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", binary())
    args = ["compare", "sbn", "--data", tmp_path / "x.npy", "--set", "latent_dim=3", "--engine", engine, "--replicates", "60",
            "--epochs", "1", "--seeds", seeds, "--out", tmp_path / "run", "--json"]  # fmt: skip
    ran = run(capsys, monkeypatch, *args)
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert result["reference"]["kind"] == "enumerated"
    assert set(result["reference"]["points"]) == {"initial", "trained"}
    names = [row["name"] for row in strict(run(capsys, monkeypatch, "list", "estimators", "--json").out)["estimators"]]
    rows = {(row["name"], row["point"]): row for row in result["estimators"]}
    assert list(rows) == [(name, point) for point in ("initial", "trained") for name in names]
    absent = absent | {"pathwise", "pathwise-kl", "path-only", "doubly-reparameterised"}
    for (name, _), row in rows.items():
        assert set(row) == ROW
        assert row["engine"] == engine
        assert row["applicable"] is (name not in absent)
        assert set(row["unbiased_for"]) <= {"elbo", "iwae"}
        if not row["applicable"]:
            assert row["reason"]
            assert row["verdict"] is None
            continue
        assert row["reason"] is None
        assert row["verdict"] in ("exact", "unbiased", "biased", "inconclusive")
        assert row["replicates"] >= 2
        assert row["seconds_per_gradient"] > 0
        assert row["model_evaluations"] >= 1
        assert set(row["variance_trace"]) == set(row["bias_relative"]) == {"value", "low", "high"}
        assert set(row["final_elbo"] or ()) == ({"value", "low", "high"} if seeds == "1" else set())
    for point in ("initial", "trained"):
        assert rows["enumerate", point]["verdict"] == "exact"
        assert rows["enumerate", point]["model_evaluations"] == 8
        for honest in ("score", "running-mean", "leave-one-out"):
            assert rows[honest, point]["verdict"] != "biased"
        if engine == "numpyro":  # NumPyro's Trace_ELBO leaves the score term of a discrete site out
            assert rows["stock-trace", point]["verdict"] == "biased"
    assert result["manifest"]["versions"]
    assert {"seed", "dtype", "device", "wall_seconds"} <= set(result["manifest"])
    assert "x.npy" in result["verdict_sentence"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "results.json", "run.json"]
    assert strict((tmp_path / "run" / "results.json").read_text()) == result


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_compares_to_the_same_numbers(engine, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", binary())
    args = ["compare", "sbn", "--data", tmp_path / "x.npy", "--set", "latent_dim=3", "--engine", engine, "--replicates", "10",
            "--epochs", "1", "--seeds", "1", "--estimators", "score", "--json"]  # fmt: skip
    first, second = (strict(run(capsys, monkeypatch, *args).out) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert first["estimators"][0]["final_elbo"]["value"] == first["curves"][0]["elbo"][-1]
    if engine == "numpyro":
        return  # the same code, and compiling takes its time
    table = run(capsys, monkeypatch, *args[:-1])
    assert table.code == 0
    assert table.out.startswith("estimator  verdict")
    assert table.out.splitlines()[-1].startswith("On ")


#: Models that mix inputs, sites or bounds: arguments, then what applies to them.
TINY = "--set hidden=3 --set latent_dim=2 --epochs 1 --seeds 0 --replicates 40"
REPARAMETERISED = {"pathwise", "path-only"}
SCORES = {"score", "running-mean", "leave-one-out"}
COMPARED = {
    "labels as a condition": (f"cvae {TINY}", {*REPARAMETERISED, "pathwise-kl", *SCORES}),
    "labels partly known": (f"ssvae_m2 --labels 9 {TINY}", {*SCORES}),
    "K-sample bound": (f"vae --bound iwae --particles 3 {TINY}", {"pathwise", "doubly-reparameterised"}),
}  # fmt: skip


@pytest.mark.parametrize(("args", "applies"), COMPARED.values(), ids=COMPARED)
def test_compare_of_newer_models_and_bounds(args, applies, tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "x.npz", x=binary(30), y=np.arange(30) % 3)
    ran = run(capsys, monkeypatch, "compare", *args.split(), "--engine", "pyro", "--data", tmp_path / "x.npz",
              "--out", tmp_path / "run", "--json")  # fmt: skip
    assert ran.code == 0, ran
    result = strict(ran.out)
    bound = "iwae" if "iwae" in args else "elbo"
    assert (result["bound"], result["num_particles"]) == ((bound, 3) if bound == "iwae" else (bound, 1))
    rows = [row for row in result["estimators"] if not row["name"].startswith("stock-")]
    assert {row["name"] for row in rows if row["applicable"]} == applies
    for row in result["estimators"]:
        if row["applicable"]:
            # Unbiased estimators all: sixty replicates may be too few to say so, never enough to say otherwise.
            if row in rows:
                assert row["verdict"] in ("exact", "unbiased", "inconclusive"), row["name"]
                assert bound in row["unbiased_for"]
        else:
            assert row["reason"]
            assert "\n" not in row["reason"]
            assert (row["verdict"], row["efficiency"]) == (None, None)
    if bound == "iwae":
        named = [row["reason"] for row in rows if row["name"] in (*REPARAMETERISED, *SCORES) and not row["applicable"]]
        assert all("K-sample bound" in reason for reason in named), named
    assert_self_contained((tmp_path / "run" / "report.html").read_text())


def test_the_particles_of_a_bound_cost_that_many_evaluations(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", binary(30))
    args = ["compare", "vae", *TINY.split(), "--data", tmp_path / "x.npy", "--engine", "pyro", "--bound", "iwae", "--json",
            "--estimators", "pathwise,doubly-reparameterised", "--particles"]  # fmt: skip
    for particles in (2, 4):
        result = strict(run(capsys, monkeypatch, *args, str(particles)).out)
        costs = {row["name"]: row["model_evaluations"] for row in result["estimators"]}
        assert costs == {"pathwise": particles, "doubly-reparameterised": 2 * particles}
