"""A fit that was stopped, or killed, goes on to the very bits of one that was not; damaged checkpoints are never used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import mutations
from inference.checkpoint import Checkpoints
from inference.energy_training import EnergyFit, fit_energy
from inference.kernels import BlockGibbs, Tempering
from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM

from .command import ROOT, assert_one_sentence, run, strict
from .stationary import parameters
from .test_kernels import each_engine

MODEL = RBM(8, 5, centred=True)
KERNELS = {"gibbs": None, "tempered": Tempering(BlockGibbs(MODEL), (1.0, 0.95, 0.9))}
TOTAL = 6
# Strong couplings: under weak ones, chains that share their random numbers meet at once, wherever they began.
START = {name: 3.0 * value for name, value in parameters(MODEL).items()}


def data(seed: int = 0) -> Dataset:
    x = np.random.default_rng(seed).integers(0, 2, (200, 8)).astype(float)
    return Dataset("bits", x[:160], x[160:], "none")


def fitted(folder: Path, engine: str, kernel: str, epochs: int = TOTAL, rows: Dataset | None = None, **given: Any) -> EnergyFit:
    settings: dict[str, Any] = {"batch": 40, "chains": 12, "lr": 0.01, "centring": 0.1, "init": START, **given}
    settings["kernel"] = KERNELS[kernel]
    model = settings.pop("model", MODEL)
    return fit_energy(model, data() if rows is None else rows, engine=engine, epochs=epochs,
                      checkpoints=Checkpoints(folder, 2), **settings)  # fmt: skip


def assert_same(folder: Path, other: Path, found: EnergyFit, whole: EnergyFit) -> None:
    """Bit for bit: parameters, chains, and the whole state: optimiser, keys, walkers and trips."""
    here, there = Checkpoints(folder).load(), Checkpoints(other).load()
    assert here.step == there.step == TOTAL
    assert set(here.tensors) == set(there.tensors)
    assert {name.partition("/")[0] for name in here.tensors} == {"params", "optimiser", "chains", "rng_key"}
    assert "params/x.offset" in here.tensors
    for name, value in here.tensors.items():
        np.testing.assert_array_equal(value, there.tensors[name], err_msg=name)
    assert here.facts["carry"] == there.facts["carry"]
    assert [row["objective"] for row in found.history] == [row["objective"] for row in whole.history]
    assert [row["epoch"] for row in found.history] == list(range(1, TOTAL + 1))
    assert whole.chains is not None
    assert found.chains is not None
    for mine, theirs in ((found.params, whole.params), (found.chains, whole.chains)):
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@each_engine
@pytest.mark.parametrize("kernel", KERNELS)
def test_stopped_after_any_epoch_it_ends_in_the_same_bits(kernel: str, engine: str, tmp_path: Path):
    whole = fitted(tmp_path / "whole", engine, kernel)
    after = int(np.random.default_rng(len(kernel)).integers(1, TOTAL))
    stop = (lambda row: row["epoch"] == after,)
    assert len(fitted(tmp_path / "parts", engine, kernel, callbacks=stop).history) == after
    found = fitted(tmp_path / "parts", engine, kernel, resume=True)
    assert_same(tmp_path / "parts", tmp_path / "whole", found, whole)
    assert whole.history[0]["objective"] != whole.history[-1]["objective"]
    if kernel == "tempered":
        assert Checkpoints(tmp_path / "whole").load().tensors["chains/trips"].any()


KILLED = """
import pathlib, sys
from tests.test_resume import Checkpoints, fitted
folder, engine = pathlib.Path(sys.argv[1]), sys.argv[2]
fitted(folder, engine, "gibbs", epochs=10**6, resume=bool(Checkpoints(folder).steps()))
"""


def start(code: str, *arguments: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=env, cwd=ROOT, stderr=subprocess.PIPE)


def killed(process: subprocess.Popen[bytes], ready: Any, wait: float) -> None:
    """kill -9 some time after it is ready."""
    try:
        begun = time.monotonic()
        while not ready():
            assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()
            assert time.monotonic() - begun < 120
            time.sleep(0.01)
        time.sleep(wait)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@each_engine
def test_killed_at_any_moment_it_ends_in_the_same_bits(engine: str, tmp_path: Path):
    """Killed while it saves every other epoch; then to an epoch beyond, against a fit that was left alone."""
    kept = Checkpoints(tmp_path / "parts")
    killed(start(KILLED, kept.folder, engine), lambda: len(kept.steps()) > 2, np.random.default_rng(7).uniform(0, 0.2))
    reached = kept.load()
    assert reached.damaged == []
    total = reached.step + 3
    found = fitted(kept.folder, engine, "gibbs", epochs=total, resume=True)
    whole = fitted(tmp_path / "whole", engine, "gibbs", epochs=total)
    for name, value in Checkpoints(tmp_path / "whole").load().tensors.items():
        np.testing.assert_array_equal(kept.load().tensors[name], value, err_msg=name)
    assert [row["objective"] for row in found.history] == [row["objective"] for row in whole.history]


SAVING = """
import pathlib, sys
import numpy as np
from inference.checkpoint import Checkpoints
kept = Checkpoints(pathlib.Path(sys.argv[1]))
for step in range(1, 10**6):
    kept.save(step, {"a": np.full(100_000, step), "b": np.full(3, step)}, {"step": step})
"""


def test_killed_while_saving_it_leaves_the_last_step_whole(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(5):
        kept = Checkpoints(tmp_path / str(i))
        killed(start(SAVING, kept.folder), lambda kept=kept: len(kept.steps()) > 1, rng.uniform(0, 0.05))
        saved = kept.load()
        assert saved.damaged == []
        assert saved.facts["step"] == saved.step
        assert all((value == saved.step).all() for value in saved.tensors.values())


def test_the_last_three_stay(tmp_path: Path):
    kept = Checkpoints(tmp_path)
    for step in range(0, 50, 10):
        kept.save(step, {"a": np.arange(step)}, {})
    assert kept.steps() == [20, 30, 40]
    files = [f"000000{step}{ending}" for step in (20, 30, 40) for ending in (".json", ".safetensors")]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    kept.save(25, {"a": np.zeros(1)}, {})  # what is later is of a run that this one replaces
    assert kept.steps() == [20, 25]


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
@pytest.mark.parametrize("how", ["flipped", "truncated", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(how: str, ending: str, tmp_path: Path):
    """Any bit of either file, any length: fifty of each."""
    kept, rng = Checkpoints(tmp_path), np.random.default_rng(1)
    for step in (1, 2):
        kept.save(step, {"weight": rng.normal(size=(4, 3)).astype(np.float32)}, {"history": [{"objective": 0.1 * step}]})
    before = Checkpoints(tmp_path)._read(1)
    file = tmp_path / f"00000002{ending}"
    sound = file.read_bytes()
    for _ in range(50 if how != "gone" else 1):
        if how == "gone":
            file.unlink()
        elif how == "truncated":
            file.write_bytes(sound[: rng.integers(len(sound))])
        else:
            place, bit = rng.integers(len(sound)), rng.integers(8)
            file.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << bit]) + sound[place + 1 :])
        saved = kept.load()
        if saved.step == 2:  # white space of the manifest carries nothing
            assert (how, ending) == ("flipped", ".json")
            assert saved.facts["history"] == [{"objective": 0.2}]
            continue
        assert saved.step == 1
        assert saved.facts == before[1]
        np.testing.assert_array_equal(saved.tensors["weight"], before[0]["weight"])
        assert how == "gone" and ending == ".json" or file.name in saved.damaged[0]
    if how != "gone":
        (tmp_path / "00000001.safetensors").write_bytes(b"")
        file.write_bytes(sound[:10])
        with pytest.raises(InputError, match="whole"):
            kept.load()


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of two, which no test changes."""
    folder = tmp_path_factory.mktemp("two")
    fitted(folder, "numpyro", "gibbs", epochs=2)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": RBM(8, 6, centred=True), "init": None}, ["its model is", "num_hidden=5", "num_hidden=6"]),
        ({"rows": data(1)}, ["other data"]),
        ({"lr": 0.02}, ["its lr is 0.01", "0.02"]),
        ({"kernel": "tempered"}, ["its kernel is", "Tempering"]),
        ({"seed": 1}, ["its seed is 0"]),
        ({"engine": "pyro"}, ["its engine is numpyro"]),
        ({"epochs": 1}, ["at least the 2 done"]),
    ],
)
def test_what_is_another_training_is_refused(change: dict[str, Any], words: list[str], two_epochs: Path):
    with pytest.raises(InputError) as caught:
        fitted(two_epochs, **{"engine": "numpyro", "kernel": "gibbs", "epochs": 3, **change}, resume=True)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


def test_other_versions_are_refused_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fitted(tmp_path, "numpyro", "gibbs", epochs=2)
    monkeypatch.setattr(np, "__version__", "0.0")
    with pytest.raises(InputError, match=r"numpy [\d.]+\).*other_versions=True"):
        fitted(tmp_path, "numpyro", "gibbs", epochs=3, resume=True)
    assert len(fitted(tmp_path, "numpyro", "gibbs", epochs=3, resume=True, other_versions=True).history) == 3


def unbounded(held: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    name = mutations.some(held, rng, ("params/", "optimiser/", "chains/"))
    held[name] = held[name].astype(float) * np.nan


@each_engine
def test_a_forged_state_gives_way_to_the_one_before(engine: str, tmp_path: Path):
    """Of each family of `benchmarks.mutations` every fifth: the bits of a training left alone, or one sentence."""
    fitted(tmp_path / "base", engine, "gibbs", epochs=mutations.LAST)
    total = mutations.LAST + 1
    whole, ends = fitted(tmp_path / "whole", engine, "gibbs", epochs=total).params, set[str]()
    for number, (family, count, change) in enumerate(mutations.MUTATIONS):
        if family == "not finite":
            change = mutations.tensors(unbounded)
        for i in range(0, count, 5):
            folder = Path(shutil.copytree(tmp_path / "base", tmp_path / f"{number}-{i}" / "checkpoint"))
            change(folder, np.random.default_rng([number, i]))
            try:
                found = fitted(folder, engine, "gibbs", epochs=total, resume=True).params
            except InputError as error:
                ends.add("refused" if "\n" not in str(error) else f"many lines: {error}")
                continue
            ends.add("same")
            for name, value in whole.items():
                np.testing.assert_array_equal(found[name], value, err_msg=f"{family} {i}")
    assert ends == {"refused", "same"}


# --- the command line -------------------------------------------------------------------------------------------------

ASKED = ("rbm", "--set", "num_hidden=4", "--set", "centred=true", "--checkpoint-every", "1")


def test_resume_takes_no_setting_back(tmp_path, capsys, monkeypatch):
    asked = ("fit", *ASKED, "--seed", "3")
    assert run(capsys, monkeypatch, *asked, "--epochs", "1", "--out", tmp_path / "a").code == 0
    for name in ("run.json", "results.json", "report.html"):  # as if it had been killed after its first epoch
        (tmp_path / "a" / name).unlink()
    refused = run(capsys, monkeypatch, *asked, "--out", tmp_path / "a")
    assert refused.code == 2
    assert_one_sentence(refused.err, "stopped", "ppl resume", hide=[tmp_path])
    ran = run(capsys, monkeypatch, "resume", tmp_path / "a", "--epochs", "3", "--json")
    assert ran.code == 0, ran
    assert "going on after epoch 1 of 3" in ran.err
    assert run(capsys, monkeypatch, *asked, "--epochs", "3", "--out", tmp_path / "b").code == 0
    for name in ("params.safetensors", "chains.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    told, whole = strict(ran.out), strict((tmp_path / "b" / "results.json").read_text())
    assert told["heldout_log_likelihood"] == whole["heldout_log_likelihood"]
    assert told["epochs"] == len((tmp_path / "a" / "history.jsonl").read_text().splitlines()) == 3
    assert told["command"].startswith("ppl fit rbm")
    assert (tmp_path / "a" / "report.html").is_file()
    fewer = run(capsys, monkeypatch, "resume", tmp_path / "a", "--epochs", "2")
    assert fewer.code == 2
    assert_one_sentence(fewer.err, "at least the 3 done")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume", "rbm"], ["got the model 'rbm'", "ppl fit rbm"]),
        (["resume", "nowhere"], ["no directory"]),
        (["resume", "/"], ["no checkpoint"]),
        (["fit", "pca", "--data", "iris", "--checkpoint-every", "2", "--out", "run"], ["svi and energies, and em"]),
        (["fit", "rbm", "--checkpoint-every", "2"], ["--checkpoint-every", "--out"]),
        (["fit", "rbm", "--checkpoint-every", "0", "--out", "run"], ["every 1 or more", "0"]),
    ],
)
def test_what_cannot_be_resumed_leaves_one_sentence(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, monkeypatch, *arguments)
    assert ran.code == 2, ran
    assert_one_sentence(ran.err, *words)
    assert not list(tmp_path.iterdir())
