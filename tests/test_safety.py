"""Training cannot be lost or fooled: it resumes to the same bits, refuses what is not its own, and stops where it should."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import mutations, nonfinite
from benchmarks.crashes import differences
from benchmarks.live import live
from inference.checkpoint import Checkpoints
from inference.files import load_params
from inference.svi import Stop, fit
from inference.svi.nonfinite import IN_A_ROW, ROLLBACKS, Guard, judged
from ppl_models import InputError, SigmoidBeliefNet
from ppl_models.datasets import Dataset, from_arrays

from .command import ENGINES, assert_one_sentence, binary, ppl, run, spawn

each_engine = pytest.mark.parametrize("engine", ENGINES)

# --- resuming -----------------------------------------------------------------------------------------------------------

MODEL, HALF, TOTAL = SigmoidBeliefNet(4, 2), 24, 27
#: What decides how much there is to bring back.
CASES: dict[str, dict[str, Any]] = {
    "one": {"anneal": 30},
    "two": {"restarts": 2, "alternate": True, "stop": Stop(rhat=1e6)},  # averages as soon as the ELBO no longer rises
}


def data(dynamic: bool, rows: int = 40) -> Dataset:
    x = np.random.default_rng(3).random((rows, 4))
    return from_arrays(x if dynamic else np.round(x), heldout=np.round(x[:8]), binarise="dynamic" if dynamic else "none")


def trained(engine: str, folder: Path, case: str, epochs: int = TOTAL, **given: Any) -> Any:
    settings: dict[str, Any] = {"estimator": {"z*": "running-mean"}, "batch": 16, "lr": 1e-3, **CASES[case], **given}
    model, rows = settings.pop("model", MODEL), settings.pop("data", data(case == "two"))
    return fit(model, rows, engine=engine, epochs=epochs, checkpoints=Checkpoints(folder, 5), **settings)


@pytest.mark.parametrize(("engine", "case"), [("numpyro", "two"), ("pyro", "one"), ("pyro", "two")])
def test_stopped_and_resumed_it_ends_in_the_same_bits(case, engine, tmp_path):
    """Parameters, moments, controls, random state, averages and history: of tensors, the last bit; NaN would be equal too."""
    whole = trained(engine, tmp_path / "whole", case)
    seen = list[int]()
    stops = [lambda row: "enough" if row["epoch"] == HALF else None, lambda row: seen.append(row["epoch"])]
    part = trained(engine, tmp_path / "parts", case, callbacks=stops)
    assert part.stopped == "enough"
    assert seen == list(range(HALF + 1))  # the second saw the row at which the first had it stop
    course = Checkpoints(tmp_path / "parts").load().facts["course"]
    assert course["averaging"] is (case == "two")
    assert not course["averaging"] or 0 < course["averaged"] < 10
    found = trained(engine, tmp_path / "parts", case, resume=True)
    assert differences(tmp_path / "parts", tmp_path / "whole") == []
    for name, value in whole.params.items():
        np.testing.assert_array_equal(found.params[name], value)
        assert (value != part.params[name]).any()
    assert found.restarts == whole.restarts
    assert found.heldout_elbo == whole.heldout_elbo
    tensors = Checkpoints(tmp_path / "whole").load().tensors
    kinds = {name.split("/")[-2] for name in tensors if "/now/" in name}
    assert "z1" in kinds  # the control is among them
    # The comparison can fail: one bit of one moment.
    name = next(n for n in tensors if "/now/" in n and ("nu/" in n or "exp_avg_sq" in n))
    tensors[name] = np.nextafter(tensors[name], np.float32(1))
    kept = Checkpoints(tmp_path / "whole").load()
    Checkpoints(tmp_path / "whole", keep=9).save(kept.step, tensors, {k: v for k, v in kept.facts.items() if k != "about"})
    assert differences(tmp_path / "parts", tmp_path / "whole") == [name]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of one fit, which no test changes."""
    folder = tmp_path_factory.mktemp("kept")
    trained("pyro", folder, "one", 1)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": SigmoidBeliefNet(4, 3)}, ["its model is", "latent_dim=2"]),
        ({"data": data(False, 41)}, ["other data"]),
        ({"estimator": "score"}, ["its estimator is", "running-mean", "score"]),
        ({"lr": 2e-3}, ["its lr is 0.001"]),
        ({"batch": 8}, ["its batch is 16"]),
        ({"restarts": 2}, ["its restarts is 1"]),
        ({"dtype": "float64"}, ["its dtype is float32"]),
        ({"alternate": True}, ["its schedule is", "alternate=True"]),
        ({"engine": "numpyro"}, ["its engine is pyro"]),
        ({"epochs": 0}, ["at least the 1 done"]),
    ],
)
def test_what_is_another_training_is_refused(change, words, kept):
    with pytest.raises(InputError) as caught:
        trained(**{"engine": "pyro", "folder": kept, "case": "one", "epochs": 2, **change}, resume=True)
    assert all(word in str(caught.value) for word in words), caught.value
    assert Checkpoints(kept).steps() == [0, 1]


def test_other_versions_are_refused_unless_asked_for(kept, tmp_path, monkeypatch):
    shutil.copytree(kept, tmp_path / "run")
    monkeypatch.setattr(np, "__version__", "0.0")
    with pytest.raises(InputError, match=r"numpy [\d.]+\).*other_versions=True"):
        trained("pyro", tmp_path / "run", "one", 2, resume=True)
    assert len(trained("pyro", tmp_path / "run", "one", 2, resume=True, other_versions=True).history) == 3


def test_a_checkpoint_before_any_finite_step_can_be_gone_on_from(tmp_path):
    """One epoch of one step that is not finite: its training ELBO, minus infinity, is null in JSON."""
    rows = nonfinite.data(tuple(range(nonfinite.ROWS)))
    settings: dict[str, Any] = {"engine": "pyro", "checkpoints": Checkpoints(tmp_path, 1), "lr": 0.05, "epochs": 9}
    fit(nonfinite.Faulty("rows"), rows, callbacks=[lambda row: row["epoch"] == 1], **settings)
    found = fit(nonfinite.Faulty("rows"), rows, resume=True, callbacks=[lambda row: row["epoch"] == 2], **settings)
    assert found.passed_over == []
    assert found.skipped == 2


# --- forged and damaged checkpoints -------------------------------------------------------------------------------------


#: About what is in the files.
INSIDE = ("shape", "type", "tensor missing", "not finite", "facts")


@each_engine
def test_one_of_each_family_of_mutations_ends_well(engine):
    """Thirty and more, of which NumPyro has those that are about what is in the files; most must have been passed over."""
    chosen = {family: (family, 1, change) for family, _, change in reversed(mutations.MUTATIONS)}
    if engine == "numpyro":
        chosen = {family: (family, 2, chosen[family][2]) for family in INSIDE}
    rows = mutations.measure(engine, mutations=tuple(chosen.values()))
    assert len(rows) >= (30 if engine == "pyro" else 10)
    for row in rows:
        assert row["outcome"] in ("passed over", "refused", "harmless"), row
        assert not row["outside"], row
        assert row["seconds"] < 5, row
        assert (row["sentence"] == "") is (row["outcome"] == "harmless"), row
    assert sum(row["outcome"] == "passed over" for row in rows) >= 0.7 * len(rows)


def test_a_forged_state_that_were_used_is_noticed(monkeypatch):
    """The planted fault: nothing is checked beyond the hashes."""
    monkeypatch.setattr("inference.svi.course.check", lambda *_: None)
    rows = mutations.measure("pyro", 3, tuple(m for m in mutations.MUTATIONS if m[0] in ("type", "not finite")))
    assert {row["outcome"] for row in rows} & {"fooled", "broken"}


def test_the_canary_sings(tmp_path):
    """The pickle in disguise is one that would make a file, were it read as one."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    pickle.loads(mutations.harmful(folder))
    assert (tmp_path / "canary").exists()


# --- what is not finite -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "fault"), [("numpyro", "level"), *(("pyro", fault) for fault in nonfinite.FAULTS)]
)
def test_injected_faults_end_in_a_stop_that_says_where(engine, fault, tmp_path):
    bad = tuple(range(nonfinite.ROWS)) if fault in ("data", "rows", "slope") else ()
    rows = nonfinite.data(bad, 0.3 if fault in ("level", "draw") else 1e6, fault)
    told = nonfinite.one(engine, fault, rows, 0, tmp_path)
    where = {"data": "x", "rows": "x", "slope": "scale", "level": "x", "draw": "z"}[fault]
    assert (told["ended"], told["site"], told["bad_files"]) == ("stopped", where, 0), told
    assert told["rollbacks"] == (0 if bad else ROLLBACKS)
    # After each return it climbs once more, at half the pace; without returns every epoch from the third on would be dead.
    assert told["epoch"] == 1 if bad else told["epoch"] >= 8


@pytest.mark.parametrize(("engine", "fault"), [("numpyro", "level"), ("pyro", "slope")])
def test_a_few_bad_rows_are_skipped(engine, fault, tmp_path):
    """And the held-out ELBO is that without them, to 0.1 nats; a fit that had stood still would be 0.5 nats and more below."""
    bad = nonfinite.data((3, 50), fault="data" if fault == "level" else fault)  # or NaN where no threshold is
    told = nonfinite.one(engine, fault, bad, 0, tmp_path)
    clean: Any = fit(nonfinite.Faulty(fault), nonfinite.data(), engine=engine, **nonfinite.SETTINGS)
    still: Any = fit(nonfinite.Faulty(fault), nonfinite.data(), engine=engine, **{**nonfinite.SETTINGS, "epochs": 0})
    assert told["ended"] == "recovered"
    assert nonfinite.EPOCHS <= told["skipped"] <= 2 * nonfinite.EPOCHS
    assert told["elbo"] > clean.heldout_elbo.value - 0.1 > still.heldout_elbo.value + 0.4


@each_engine
def test_a_gradient_whose_square_overflows_moves_nothing(engine):
    """Adam's mean square would be infinite for good, and the parameter would never move again."""
    rows = nonfinite.data()
    rows.x[7, 0] = 1e12  # its square is finite in float32, the square of that is not
    found = fit(nonfinite.Faulty("level"), rows, engine=engine, **nonfinite.SETTINGS)
    assert found.skipped == nonfinite.EPOCHS
    assert abs(found.params["loc"] - 3) < 1


@pytest.mark.parametrize(
    ("guard", "bad", "finite", "last", "expected"),
    [
        (Guard(), "0000", True, False, (Guard(0, 0, True), "on")),
        (Guard(), "0110", True, False, (Guard(0, 0, True), "on")),
        (Guard(), "1111", True, False, (Guard(4, 0, False), "on")),  # perhaps the next one succeeds
        (Guard(), "1111", True, True, (Guard(4, 0, False), "stop")),
        (Guard(7, 0, True), "111", True, False, (Guard(0, 1, True), "back")),  # runs go on across epochs
        (Guard(7, 0, False), "111", True, False, (Guard(10, 0, False), "stop")),
        (Guard(7, 0, True), "0111", True, False, (Guard(3, 0, True), "on")),
        (Guard(0, 0, True), "0" + "1" * IN_A_ROW + "0", True, False, (Guard(0, 1, True), "back")),
        (Guard(0, ROLLBACKS, True), "1" * IN_A_ROW, True, False, (Guard(IN_A_ROW, ROLLBACKS, True), "stop")),
        (Guard(0, 0, True), "00", False, False, (Guard(0, 1, True), "back")),
    ],
)
def test_when_training_goes_on_back_or_stops(guard, bad, finite, last, expected):
    losses = np.where([digit == "1" for digit in bad], np.nan, 1.0)
    assert judged(guard, losses, {"a": np.array([1.0 if finite else np.nan])}, last) == expected


# --- rules that stop ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Means:
    """p(x, z) = N(z; m, I) N(x; z, I) with the exact posterior: the optimum of m is the mean of the rows."""

    data_dim: int = 8

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        m = ppl.param("m", ppl.xp.zeros(self.data_dim))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", ppl.dist.Normal(m + 0 * x, 1.0).to_event(1))
            ppl.sample("x", ppl.dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        m = ppl.param("m", ppl.xp.zeros(self.data_dim))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal((m + x) / 2, 0.5**0.5).to_event(1))


ROWS = np.random.default_rng(5).normal(1.0, 1.4, (80, 8))
CLIMB: dict[str, Any] = {"batch": 8, "lr": 0.05}


@each_engine
def test_converged_iterates_are_averaged_nearer_to_the_optimum(engine):
    rows = from_arrays(ROWS[:64], heldout=ROWS[64:])
    found: Any = fit(Means(), rows, engine=engine, epochs=400, stop=Stop(rhat=1.1), **CLIMB)
    assert found.stopped == "r-hat"
    assert found.history[-1]["epoch"] < 200
    last = found.iterates[-1, 0]
    gaps = [np.linalg.norm(value - ROWS[:64].mean(0)) for value in (found.params["m"], last)]
    assert gaps[0] < 0.6 * gaps[1]
    assert gaps[0] < 0.3 < np.linalg.norm(ROWS[:64].mean(0))
    # The other rules, with the program that is compiled already.
    for rule, name in ((Stop(steps=12), "steps"), (Stop(seconds=1e-9), "seconds"), (Stop(patience=3), "patience")):
        short = fit(Means(), rows, engine=engine, epochs=400, stop=rule, **CLIMB)
        assert short.stopped == name
        assert short.history[-1]["epoch"] < 400
        if name == "steps":
            assert [row["step"] for row in short.history] == [0, 8, 16]
        if name == "seconds":
            assert len(short.history) == 2
        if name == "patience":
            scores = [row["heldout_elbo"].value for row in short.history]
            assert len(scores) - 1 - int(np.argmax(scores)) == 3
    assert fit(Means(), rows, engine=engine, epochs=2, stop=Stop(rhat=1.1), **CLIMB).stopped == "epochs"


def test_a_rule_that_ended_a_fit_ends_it_again_when_resumed(tmp_path):
    rows, kept = from_arrays(ROWS[:64], heldout=ROWS[64:]), Checkpoints(tmp_path, 5)
    first, again = (fit(Means(), rows, engine="numpyro", epochs=400, stop=Stop(patience=3), checkpoints=kept,
                        resume=resume, **CLIMB) for resume in (False, True))  # fmt: skip
    assert again.stopped == first.stopped == "patience"
    assert len(again.history) == len(first.history)
    np.testing.assert_array_equal(again.params["m"], first.params["m"])
    assert again.heldout_elbo == first.heldout_elbo


@each_engine
def test_nothing_piles_up(engine):
    """Arrays alive after each epoch and after each fit; one kept a step, or a fit, would be seen."""
    rows, levels, fits = from_arrays(ROWS[:64], heldout=ROWS[64:]), list[tuple[int, int]](), list[tuple[int, int]]()
    held = list[Any]()
    looks = [lambda row: levels.append(live(engine)) if row["epoch"] in (2, 8) else None]
    for seed in range(3):
        fit(Means(), rows, engine=engine, epochs=8, seed=seed, callbacks=looks if seed == 2 else (), **CLIMB)
        fits += [live(engine)] if seed else []
    assert levels[0] == levels[1]
    assert fits[0] == fits[1]
    words = __import__(f"ppl_models._{engine}", fromlist=["xp"])
    held.append(words.xp.ones(7))
    assert live(engine)[0] == fits[1][0] + 1


# --- the command line ---------------------------------------------------------------------------------------------------

NET = ("sbn", "--data", "digits", "--set", "latent_dim=3", "--engine", "pyro", "--evaluate", "0", "--checkpoint-every", "1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, `part`, and one of four, `whole`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, epochs in (("part", "2"), ("whole", "4")):
        assert ppl("fit", *NET, "--epochs", epochs, "--out", folder / name).code == 0
    return folder


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_resumes(folder: Path, whole: Path, capsys: Any, monkeypatch: Any) -> str:
    """To the bits of the whole; what it said."""
    ran = run(capsys, monkeypatch, "resume", folder, "--epochs", "4")
    assert ran.code == 0, ran
    assert (folder / "params.safetensors").read_bytes() == (whole / "params.safetensors").read_bytes()
    mine, theirs = ([{**row, "seconds": 0} for row in history(one)] for one in (folder, whole))
    assert mine == theirs
    return ran.err


def test_a_full_disk_leaves_the_last_checkpoint(runs, tmp_path, capsys, monkeypatch):
    """For real: a limit on the size of files, at which the system refuses to write."""
    folder = Path(shutil.copytree(runs / "part", tmp_path / "run"))
    size = (folder / "checkpoint" / "00000002.safetensors").stat().st_size
    before = {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))\n"
    ran = spawn("resume", folder, "--epochs", "4", code=code + "from inference.cli import main\nmain()")
    assert ran.code == 4, ran
    assert_one_sentence(ran.err.splitlines()[-1] + "\n", "disk is full", f"`ppl resume {folder}`", hide=[tmp_path])
    assert "Traceback" not in ran.err
    assert {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()} == before
    assert_resumes(folder, runs / "whole", capsys, monkeypatch)


def test_resume_tells_what_it_passed_over(runs, tmp_path, capsys, monkeypatch):
    """A whole file that holds no state of this training, and then one that cannot be read at all."""
    for change, words in (
        (mutations.tensors(lambda held, rng: held.update({"state/0/now/leaves/prior.logits": np.zeros(2)})), "prior.logits"),
        (mutations.raw(".json", lambda content, rng: b"[" * 100_000), "cannot be read"),
    ):
        folder = Path(shutil.copytree(runs / "part", tmp_path / f"run-{len(words)}"))
        change(folder / "checkpoint", np.random.default_rng(0))
        told = assert_resumes(folder, runs / "whole", capsys, monkeypatch)
        assert "passed over: " in told
        assert words in told
        assert json.loads((folder / "run.json").read_text())["resumed_after"] == 1


def test_resume_refuses_settings_that_are_none(runs, tmp_path, capsys, monkeypatch):
    changes = ({"options": {"os": 1}}, {"method": "none"}, {"options": None}, {"epochs": "x"}, {"source": {}})
    for i, change in enumerate(changes):
        folder = Path(shutil.copytree(runs / "part", tmp_path / str(i)))
        about = {**json.loads((folder / "checkpoint" / "00000002.json").read_text())["about"], **change}
        mutations.said("about", about)(folder / "checkpoint", np.random.default_rng(0))
        ran = run(capsys, monkeypatch, "resume", folder)
        assert ran.code == 2, ran
        assert_one_sentence(ran.err, "was not written by `ppl fit`", hide=[tmp_path])


def test_a_fit_that_leaves_the_finite_numbers_exits_4_and_keeps_why(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "huge.npy", np.full((12, 3), 1e30) * np.arange(1, 13)[:, None])
    ran = run(capsys, monkeypatch, "fit", "factor_analysis", "--data", tmp_path / "huge.npy", "--method", "svi", "--engine",
              "pyro", "--epochs", "2", "--out", tmp_path / "run")  # fmt: skip
    assert ran.code == 4, ran
    assert_one_sentence(ran.err.splitlines()[-1] + "\n", "left the finite numbers", "step 1 of epoch", hide=[tmp_path])
    kept = tmp_path / "run" / "nonfinite"
    assert sorted(path.name for path in kept.iterdir()) == ["nonfinite.json", "nonfinite.safetensors"]
    facts = json.loads((kept / "nonfinite.json").read_text())
    assert facts["site"]
    assert facts["source"]["model"] == "factor_analysis"
    assert np.isfinite(load_params(kept / "nonfinite.safetensors")["rows/0"]).all()
    asked = run(capsys, monkeypatch, "diagnose", tmp_path / "run")
    assert asked.code == 2
    assert_one_sentence(asked.err, "did not end", "step 1 of epoch", hide=[tmp_path])
    for file in (tmp_path / "run" / "checkpoint").glob("*.safetensors"):
        assert all(np.isfinite(value).all() for value in load_params(file).values())


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ("factor_analysis --data iris --method svi --epochs 2 --evaluate 0", [0, 1, 2]),
        ("gaussian_mixture --data iris --method em --epochs 2 --evaluate 0", [0, 1, 2]),
        ("bayesian_gaussian_mixture --data iris --method cavi --epochs 2", [0, 1, 2]),
        ("rbm --data ROWS --set num_hidden=2 --epochs 2", [1, 2]),
    ],
)
def test_every_run_keeps_its_history_and_finite_parameters(arguments, rows, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "bits.npy", binary(40, 4))
    arguments = arguments.replace("ROWS", str(tmp_path / "bits.npy")).split()
    ran = run(capsys, monkeypatch, "fit", *arguments, "--engine", "pyro", "--out", tmp_path / "run")
    assert ran.code == 0, ran
    assert [row["epoch"] for row in history(tmp_path / "run")] == rows
    assert all(np.isfinite(value).all() for value in load_params(tmp_path / "run" / "params.safetensors").values())
