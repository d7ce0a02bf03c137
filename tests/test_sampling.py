"""`ppl sample`: draws of a fitted model, the same again from the same seed, under a label where the model takes one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .command import ENGINES, assert_one_sentence, binary, ppl, strict

CLASSES = np.repeat(np.eye(3), 2, 1)  # each class its own two pixels of six


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of finished runs: of a model without labels on each engine, and of two with."""
    folder = tmp_path_factory.mktemp("runs")
    y = np.arange(90) % 3
    np.savez(folder / "classes.npz", x=CLASSES[y], y=y)
    np.save(folder / "x.npy", binary(20))
    net = ["--set", "hidden=6", "--set", "latent_dim=2", "--batch", "12", "--lr", "0.03"]
    fits = {
        **{engine: ["vae", "--data", folder / "x.npy", *net, "--epochs", "1", "--engine", engine] for engine in ENGINES},
        "cvae": ["cvae", "--data", folder / "classes.npz", *net, "--epochs", "30", "--engine", "pyro"],
        "m2": ["ssvae_m2", "--labels", "9", "--data", folder / "classes.npz", *net, "--epochs", "30", "--engine", "pyro"],
        "m1": ["ssvae_m1", "--labels", "9", "--data", folder / "classes.npz", *net, "--epochs", "1", "--engine", "pyro"],
        "kmeans": ["kmeans", "--data", "iris", "--engine", "pyro"],
    }  # fmt: skip
    for name, args in fits.items():
        ran = ppl("fit", *args, "--out", folder / name)
        assert ran.code == 0, ran
    return folder


def drawn(*args: str | Path, out: Path) -> dict[str, np.ndarray]:
    ran = ppl("sample", *args, "--out", out, "--json")
    assert ran.code == 0, ran
    result = strict(ran.out)
    with np.load(out, allow_pickle=False) as file:
        arrays = dict(file)
    assert result["sites"] == {name: list(value.shape) for name, value in arrays.items()}
    assert abs(result["mean"] - arrays["x"].mean()) < 1e-6
    return arrays


@pytest.mark.parametrize("engine", ENGINES)
def test_draws_their_means_and_latents(engine, runs, tmp_path):
    found = drawn(runs / engine, "--num", "2000", out=tmp_path / "new" / "x.npz")
    assert {name: value.shape for name, value in found.items()} == {"x": (2000, 4), "mean": (2000, 4), "z": (2000, 2)}
    assert set(np.unique(found["x"])) == {0.0, 1.0}
    assert ((found["mean"] > 0) & (found["mean"] < 1)).all()
    # Latents are those of the prior; a pixel is on as often as its mean says.
    assert (abs(found["z"].mean(0)) < 4.5 / np.sqrt(2000)).all()
    assert (abs(found["z"].var(0) - 1) < 4.5 * np.sqrt(2 / 2000)).all()
    error = np.sqrt((found["mean"] * (1 - found["mean"])).sum(0)) / 2000
    assert (abs(found["x"].mean(0) - found["mean"].mean(0)) < 4.5 * error).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_decides(engine, runs, tmp_path):
    first, again, other = (
        drawn(runs / engine, "--seed", seed, out=tmp_path / f"{i}.npz") for i, seed in enumerate(["3", "3", "4"])
    )
    assert len(first["x"]) == 64
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert (value != other[name]).any()


@pytest.mark.parametrize("model", ["cvae", "m2"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_label_says_which_class_is_drawn(model, label, runs, tmp_path):
    found = drawn(runs / model, "--label", str(label), "--num", "20", out=tmp_path / "x.npz")
    mean = found["mean"].mean(0)
    assert mean[CLASSES[label] == 1].min() > 0.7
    assert mean[CLASSES[label] == 0].max() < 0.3
    if model == "m2":
        np.testing.assert_array_equal(found["y"], np.tile(np.eye(3)[label], (20, 1)))


def test_without_a_label_classes_are_drawn_too(runs, tmp_path):
    y = drawn(runs / "m2", "--num", "600", out=tmp_path / "x.npz")["y"]
    assert (abs(y.mean(0) - 1 / 3) < 4.5 * np.sqrt(2 / 9 / 600)).all()


def test_a_run_is_told_in_a_sentence(runs):
    ran = ppl("sample", runs / "pyro", "--num", "5")
    assert (ran.code, ran.out) == (0, f"Drew 5 rows of 4 columns from the pyro fit in {runs / 'pyro'}.\n")


def test_an_archive_is_replaced_only_if_asked(runs, tmp_path):
    drawn(runs / "pyro", "--num", "5", out=tmp_path / "x.npz")
    assert len(drawn(runs / "pyro", "--num", "7", "--overwrite", out=tmp_path / "x.npz")["x"]) == 7


#: Arguments (a word that names a run or file stands for it), and words of the sentence.
BAD = {
    "model": ("vae", ("the directory of a fit", "'vae'", "ppl fit vae --out runs/vae")),
    "absent": ("RUNS/absent", ("holds no run", "ppl fit")),
    "no-run": ("HERE", ("holds no run",)),
    "not-a-fit": ("HERE/strange", ("run.json", "not that of a fit", "fit again")),
    "broken": ("HERE/broken", ("run.json", "not that of a fit")),
    "no-parameters": ("HERE/bare", ("params.safetensors",)),
    "density": ("RUNS/kmeans", ("KMeans",)),
    "label": ("RUNS/cvae --label 3", ("--label", "0 to 2", "got 3")),
    "label-negative": ("RUNS/m2 --label -1", ("--label", "0 to 2", "got -1")),
    "label-elsewhere": ("RUNS/pyro --label 1", ("VAE", "not conditional", "leave out --label")),
    "label-of-no-latent": ("RUNS/m1 --label 1", ("'y'",)),
    "num": ("RUNS/pyro --num 0", ("--num", "at least 1", "got 0")),
    "seed": ("RUNS/pyro --seed -1", ("seed", "got -1")),
    "suffix": ("RUNS/pyro --out HERE/x.npy", (".npz",)),
    "exists": ("RUNS/pyro --out HERE/old.npz", ("old.npz", "--overwrite")),
    "folder": ("RUNS/pyro --out HERE/folder.npz --overwrite", ("folder.npz", "another file")),
    "below-file": ("RUNS/pyro --out HERE/old.npz/x.npz", ("old.npz is a file",)),
    "data-gone": ("HERE/moved", ("does not exist",)),
}  # fmt: skip


@pytest.mark.parametrize(("args", "words"), BAD.values(), ids=BAD)
def test_bad_input_leaves_one_sentence_and_no_file(args, words, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, manifest in {"strange": "{}", "broken": "{", "bare": None, "moved": None}.items():
        (tmp_path / name).mkdir()
        kept = (runs / "pyro" / "run.json").read_text()
        kept = kept.replace("x.npy", "gone.npy") if name == "moved" else kept
        (tmp_path / name / "run.json").write_text(kept if manifest is None else manifest)
    (tmp_path / "old.npz").write_bytes(b"precious")
    (tmp_path / "folder.npz").mkdir()
    before = sorted(tmp_path.rglob("*"))
    ran = ppl("sample", *args.replace("RUNS", str(runs)).replace("HERE", str(tmp_path)).split(), "--json")
    assert (ran.code, ran.out) == (2, ""), ran
    assert_one_sentence(ran.err, *words, hide=[runs, tmp_path])
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.npz").read_bytes() == b"precious"
