"""Bad input leaves with exit 2 and one sentence that names it and its cure, nothing written; its good twin works."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .command import ENGINES, assert_one_sentence, binary, real, run, spawn, strict

LIMIT = 5.0  # times the processor time that importing the engine takes in a process of its own: machines differ


def spoilt(value: float) -> np.ndarray:
    x = binary()
    x[3, 1] = value
    return x


def objects() -> np.ndarray:
    return np.array([[1, "a", 2.0, None]] * 12, dtype=object)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def archive(cut: int | None = None, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()[:cut]


def unreadable_member() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", b"no array")
    return buffer.getvalue()


#: By file name: what every test finds in its directory.
FILES: dict[str, Callable[[], np.ndarray | bytes]] = {
    "good.npy": binary,
    "real.npy": real,
    "good.npz": lambda: archive(x=binary(), y=np.arange(12) % 3),
    "good.csv": lambda: b"a,b,c,d\n" + b"\n".join(b"%d,%d,%d,%d" % tuple(row) for row in binary().astype(int)) + b"\n",
    "held.npy": lambda: binary(3),
    "real.npz": lambda: archive(x=binary(12, 10)),
    "wide.npy": lambda: binary(3, 5),
    "whole.npy": lambda: np.arange(48).reshape(12, 4) % 3,
    "nan.npy": lambda: spoilt(np.nan),
    "inf.npy": lambda: spoilt(np.inf),
    "nan.csv": lambda: b"1,0\n0,nan\n1,1\n",
    "two.npy": lambda: spoilt(2.0),
    "half.npy": lambda: spoilt(0.5),
    "flat.npy": lambda: binary()[:, 0],
    "cube.npy": lambda: binary().reshape(12, 2, 2),
    "one.npy": lambda: binary(1),
    "empty.npy": lambda: b"",
    "empty.csv": lambda: b"",
    "no-rows.npy": lambda: np.zeros((0, 4)),
    "objects.npy": objects,
    "text.npy": lambda: np.array([["a", "b"]] * 12),
    "text.csv": lambda: b"1,2\n3,x\n",
    "rows.txt": lambda: b"1 2\n",
    "gaps.csv": lambda: b"1.5,,2\n0.5,1,-1\n" * 6,
    "labels.npz": lambda: archive(x=binary(), y=np.arange(12) % 5),
    "partly.npz": lambda: archive(x=binary(), y=np.arange(12) % 3 - 1),
    "cut.npz": lambda: archive(cut=-40, x=binary()),
    "cut.npy": lambda: npy(binary())[:-9],
    "member.npz": unreadable_member,
    "no-x.npz": lambda: archive(data=binary()),
    "noise.npz": lambda: b"PK\x03\x04" + bytes(range(200)),
    "file": lambda: b"not a directory",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every file of `FILES` and a finished run."""
    folder = tmp_path_factory.mktemp("bad")
    for name, make in FILES.items():
        content = make()
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            # Objects have to be pickled to be written at all; the point is that they are never read back.
            np.save(folder / name, content)
    (folder / "finished").mkdir()
    (folder / "finished" / "run.json").write_text("{}")
    return folder


GOOD = "fit sbn --data good.npy --set latent_dim=3 --epochs 1"
MODEL = "--set latent_dim=3 --epochs 1"

#: id, arguments (names of `FILES` are looked up), words that the sentence holds.
BAD: list[tuple[str, str, tuple[str, ...]]] = [
    ("nan", f"fit sbn --data nan.npy {MODEL}", ("nan.npy", "row 3, column 1", "drop the row")),
    ("inf", f"fit sbn --data inf.npy {MODEL}", ("inf.npy", "row 3, column 1")),
    ("nan-csv", f"fit sbn --data nan.csv {MODEL}", ("nan.csv", "row 1, column 1")),
    ("nan-heldout", f"fit sbn --data good.npy --heldout nan.npy {MODEL}", ("nan.npy", "row 3, column 1")),
    ("rank-1", f"fit sbn --data flat.npy {MODEL}", ("flat.npy", "1-D", "reshape")),
    ("rank-3", f"fit sbn --data cube.npy {MODEL}", ("cube.npy", "3-D", "reshape")),
    ("heldout-columns", f"fit sbn --data good.npy --heldout wide.npy {MODEL}", ("wide.npy", "4 columns", "has 5")),
    ("data-dim", f"{GOOD} --set data_dim=5", ("data_dim=5", "set data_dim=4")),
    ("one-row", f"fit sbn --data one.npy {MODEL}", ("at least 2 rows",)),
    ("empty", f"fit sbn --data empty.npy {MODEL}", ("empty.npy", "empty file")),
    ("empty-csv", f"fit sbn --data empty.csv {MODEL}", ("empty.csv", "empty file")),
    ("no-rows", f"fit sbn --data no-rows.npy {MODEL}", ("no-rows.npy", "(0, 4)")),
    ("objects", f"fit sbn --data objects.npy {MODEL}", ("objects.npy", "never unpickled", ".astype")),
    ("text", f"fit sbn --data text.npy {MODEL}", ("text.npy", "dtype", ".astype")),
    ("text-csv", f"fit sbn --data text.csv {MODEL}", ("text.csv line 2, column 2", "'x'")),
    ("suffix", f"fit sbn --data rows.txt {MODEL}", ("rows.txt", ".npy, .npz, .csv")),
    ("cut-archive", f"fit sbn --data cut.npz {MODEL}", ("cut.npz", "write it again")),
    ("cut-npy", f"fit sbn --data cut.npy {MODEL}", ("cut.npy", "write it again")),
    ("broken-member", f"fit sbn --data member.npz {MODEL}", ("member.npz",)),
    ("noise", f"fit sbn --data noise.npz {MODEL}", ("noise.npz", "write it again")),
    ("no-x", f"fit sbn --data no-x.npz {MODEL}", ("no-x.npz", "'x'", "np.savez")),
    ("support", f"fit sbn --data two.npy {MODEL}", ("Bernoulli", "[0, 1]", "row 3, column 1", "is 2")),
    ("support-real", f"fit vae --data real.npy {MODEL}", ("Bernoulli", "[0, 1]")),
    ("support-heldout", f"fit sbn --data good.npy --heldout two.npy {MODEL}", ("held-out row 3, column 1",)),
    ("support-classes", f"fit sbn --data half.npy --likelihood categorical:3 {MODEL}", ("0, 1, …, 2", "is 0.5")),
    ("support-cb", f"fit sbn --data two.npy --likelihood continuous-bernoulli {MODEL}", ("ContinuousBernoulli", "is 2")),
    ("support-binarise", f"fit sbn --data two.npy --binarise static {MODEL}", ("[0, 1] to be binarised",)),
    ("model", "fit vaee --data good.npy", ("'vaee'", "did you mean 'vae'?")),
    ("estimator", f"{GOOD} --estimator leave-one", ("'leave-one'", "did you mean 'leave-one-out'?")),
    ("estimator-stock", f"{GOOD} --estimator stock-foo", ("'stock-foo'",)),
    ("engine", f"{GOOD} --engine jax", ("'jax'", "numpyro, pyro")),
    ("data", f"fit sbn --data digit {MODEL}", ("'digit'", "did you mean digits?")),
    ("data-missing", f"fit sbn --data absent.npy {MODEL}", ("absent.npy", "does not exist")),
    ("heldout-missing", f"{GOOD} --heldout absent.npy", ("absent.npy", "does not exist")),
    ("heldout-of-digits", "fit sbn --data digits --heldout held.npy", ("digits", "leave it out")),
    ("data-dir", "fit sbn --data mnist --data-dir nowhere", ("nowhere", "does not exist")),
    ("key", f"{GOOD} --set latent=3", ("'latent'", "did you mean 'latent_dim'?")),
    ("key-alone", f"{GOOD} --set latent_dim", ("key=value", "'latent_dim'")),
    ("value-text", f"{GOOD} --set latent_dim=x", ("latent_dim", "'x'", "at least 1")),
    ("value-zero", f"{GOOD} --set latent_dim=0", ("latent_dim", "'0'", "at least 1")),
    ("value-negative", f"{GOOD} --set latent_dim=-2", ("latent_dim", "'-2'")),
    ("value-half", f"{GOOD} --set latent_dim=2.5", ("latent_dim", "'2.5'")),
    ("value-list", f"{GOOD} --set hidden=3,x", ("hidden", "'3,x'", "200,200")),
    ("value-bool", "fit factor_analysis --data real.npy --set isotropic=maybe", ("isotropic", "true or false")),
    ("value-choice", "fit gaussian_mixture --data real.npy --set covariance=round", ("covariance", "'round'", "full")),
    ("value-layers", f"{GOOD} --set num_layers=3", ("num_layers", "1 or 2")),
    ("activation", f"{GOOD} --set activation=tan", ("activation", "'tan'", "softplus, relu, sigmoid or tanh")),
    ("likelihood", f"{GOOD} --likelihood bernouli", ("'bernouli'", "did you mean 'bernoulli'?")),
    ("likelihood-argument", f"{GOOD} --likelihood normal:x", ("'x'", "normal:0.5")),
    ("likelihood-scale", f"{GOOD} --likelihood normal:-1", ("scale", "-1.0")),
    ("likelihood-nan", f"{GOOD} --likelihood normal:nan", ("scale", "nan")),
    ("likelihood-classes", f"{GOOD} --likelihood categorical:1", ("2 classes", "got 1")),
    ("likelihood-built-in", "fit factor_analysis --data real.npy --likelihood normal", ("leave that option out",)),
    ("binarise", f"{GOOD} --binarise dynamics", ("'dynamics'", "did you mean dynamic?")),
    ("epochs-text", f"{GOOD} --epochs x", ("--epochs", "see ppl fit --help")),
    ("epochs-negative", f"{GOOD} --epochs -1", ("epochs", "at least 0", "got -1")),
    ("lr-text", f"{GOOD} --lr fast", ("--lr", "see ppl fit --help")),
    ("lr-nan", f"{GOOD} --lr nan", ("lr", "positive", "got nan")),
    ("lr-inf", f"{GOOD} --lr inf", ("lr", "positive", "got inf")),
    ("lr-zero", f"{GOOD} --lr 0", ("lr", "positive", "got 0.0")),
    ("lr-negative", f"{GOOD} --lr -0.1", ("lr", "positive", "got -0.1")),
    ("batch-zero", f"{GOOD} --batch 0", ("batch", "at least 1", "got 0")),
    ("restarts-zero", f"{GOOD} --restarts 0", ("restarts", "at least 1", "got 0")),
    ("patience-zero", f"{GOOD} --patience 0", ("patience", "at least 1", "got 0")),
    ("seed-negative", f"{GOOD} --seed -1", ("seed", "got -1")),
    ("seed-large", f"{GOOD} --seed 2147483648", ("seed", "2147483647")),
    ("dtype", f"{GOOD} --dtype float16", ("dtype", "float32 or float64", "'float16'")),
    ("device", f"{GOOD} --device tpu", ("--device", "cpu or cuda", "'tpu'")),
    ("option", f"{GOOD} --epoch 3", ("--epoch", "see ppl fit --help")),
    ("no-model", "fit", ("model", "see ppl fit --help")),
    ("command", "fitt", ("fitt", "see ppl --help")),
    ("no-command", "", ("see ppl --help",)),
    ("kind", "list modules", ("'modules'", "models")),
    ("pathwise-on-sbn", f"{GOOD} --estimator pathwise", ("'pathwise' does not apply", "'z1'", "use leave-one-out")),
    ("enumerate-on-vae", "fit vae --data good.npy --set hidden=3 --set latent_dim=2 --epochs 1 --estimator enumerate",
     ("'enumerate' does not apply", "'z'", "use pathwise")),
    ("enumerate-large", "fit sbn --data good.npy --set latent_dim=30 --estimator enumerate", ("'z1'", "use leave-one-out")),
    ("out-below-file", f"{GOOD} --out file/run", ("file is a file", "choose a directory")),
    ("out-is-file", f"{GOOD} --out file", ("file is a file", "choose a directory")),
    ("out-holds-run", f"{GOOD} --out finished", ("finished holds a run already", "--overwrite")),
    ("out-name-too-long", f"{GOOD} --out {'n' * 300}", ("too long", "choose another directory")),
    ("method", f"{GOOD} --method vi", ("--method svi, em, cavi, mcmc", "'vi'")),
    ("method-em", f"{GOOD} --method em", ("sbn cannot be fitted by em", "its methods are svi")),
    ("method-cavi", "fit gaussian_mixture --data real.npy --method cavi", ("cannot be fitted by cavi", "svi, em")),
    ("method-mcmc", "fit factor_analysis --data real.npy --method mcmc", ("cannot be fitted by mcmc", "svi, em")),
    ("method-em-bayesian", "fit bayesian_gaussian_mixture --data real.npy --method em", ("cannot be fitted by em", "cavi")),
    ("method-svi-kmeans", "fit kmeans --data real.npy --method svi", ("kmeans cannot be fitted by svi", "its methods are em")),
    ("mcmc-discrete", "fit bayesian_gaussian_mixture --data real.npy --method mcmc", ("'assignment' is discrete", "marginal")),
    ("mcmc-draws", "fit bayesian_gaussian_mixture --data real.npy --method mcmc --set marginal=true --epochs 0",
     ("num_samples", "at least 1", "got 0")),
    ("em-iterations", "fit ppca --data real.npy --method em --epochs 0", ("iterations", "at least 1", "got 0")),
    ("em-estimator", "fit ppca --data real.npy --method em --estimator score", ("--estimator", "--method svi", "by em")),
    ("em-bound", "fit ppca --data real.npy --method em --bound iwae", ("--bound", "--method svi", "by em")),
    ("cavi-lr", "fit bayesian_gaussian_mixture --data real.npy --method cavi --lr 0.1", ("--lr", "--method svi", "by cavi")),
    ("em-dynamic", "fit ppca --data half.npy --method em --binarise dynamic", ("'dynamic'", "EM")),
    ("labels-elsewhere", f"{GOOD} --labels 5", ("--labels", "sbn", "leave it out")),
    ("labels-of-all-rows", f"fit cvae --data good.npz {MODEL} --labels 5", ("--labels", "cvae", "leave it out")),
    ("labels-too-many", f"fit ssvae_m2 --data good.npz {MODEL} --labels 500", ("from 3", "is 500")),
    ("labels-too-few", f"fit ssvae_m2 --data good.npz {MODEL} --labels 2", ("from 3", "is 2")),
    ("labels-by-default", f"fit ssvae_m2 --data good.npz {MODEL}", ("from 3", "is 100")),
    ("labels-without-y", f"fit ssvae_m2 --data good.npy {MODEL} --labels 5", ("good.npy has none", "key y")),
    ("condition-without-y", f"fit cvae --data good.npy {MODEL}", ("good.npy have none", "key y")),
    ("condition-partly-known", f"fit cvae --data partly.npz {MODEL}", ("label for every row", "has -1")),
    ("classes-too-few", f"fit cvae --data labels.npz {MODEL} --set num_classes=3", ("labels 0 to 2", "set num_classes=5")),
    ("classes-too-few-m2", f"fit ssvae_m2 --data labels.npz {MODEL} --labels 5 --set num_classes=3", ("set num_classes=5",)),
    ("condition", f"fit cvae --data good.npz {MODEL} --set condition=colour", ("labels or quadrants", "'colour'")),
    ("quadrants", f"fit cvae --data real.npz {MODEL} --set condition=quadrants", ("even side", "10 pixels")),
    ("quadrants-four", f"fit cvae --data good.npy {MODEL} --set condition=quadrants --set quadrants=4", ("1, 2 or 3", "got 4")),
    ("sequences", f"fit markov_vae --data good.npy {MODEL}", ("needs sequences", "good.npy are not")),
    ("sweep-two", "fit mixture_vae --data good.npy --set latent_dim=2,3 --set num_components=2,3",
     ("one setting", "latent_dim and num_components")),
    ("sweep-value", "fit vae --data good.npy --set latent_dim=2,x", ("latent_dim", "'x'")),
    ("sweep-zero", "fit vae --data good.npy --set latent_dim=2,0", ("latent_dim", "'0'")),
    ("sweep-mcmc", "fit bayesian_gaussian_mixture --data real.npy --method mcmc --set num_components=2,3",
     ("mcmc has none", "one value")),
    ("sweep-kmeans", "fit kmeans --data real.npy --set num_components=2,3", ("kmeans has none", "one value")),
    ("value-float", "fit ssvae_m2 --data good.npz --labels 5 --set classifier_weight=x", ("classifier_weight", "a number")),
    ("value-float-nan", "fit ssvae_m2 --data good.npz --labels 5 --set classifier_weight=nan", ("a number", "'nan'")),
    ("prior-zero", "fit bayesian_gaussian_mixture --data real.npy --set concentration=0", ("concentration", "positive")),
    ("layers-unequal", "fit hierarchical_vae --data good.npy --set latent_dim=3,2 --set hidden=4", ("equally long",)),
    ("bound", f"{GOOD} --bound elbow", ("bound", "elbo or iwae", "'elbow'")),
    ("bound-path-only", "fit vae --data good.npy --set hidden=3 --set latent_dim=2 --bound iwae --estimator path-only",
     ("'path-only' does not apply", "K-sample bound", "use pathwise or doubly-reparameterised")),
    ("bound-doubly", "fit vae --data good.npy --set hidden=3 --set latent_dim=2 --estimator doubly-reparameterised",
     ("'doubly-reparameterised' does not apply", "ELBO", "use path-only")),
    ("bound-beta", f"fit vae --data good.npy {MODEL} --bound iwae --beta 2", ("beta", "K-sample bound", "use bound elbo")),
    ("iwae-anneal", f"fit iwae --data good.npy {MODEL} --anneal 2", ("anneal", "K-sample bound", "use bound elbo")),
    ("beta-negative", f"{GOOD} --beta -1", ("beta", "at least 0", "got -1")),
    ("anneal-negative", f"{GOOD} --anneal -1", ("anneal", "whole number of epochs", "got -1")),
    ("beta-stock", f"{GOOD} --beta 2 --estimator stock-trace", ("'stock-trace'", "leave out beta")),
    ("particles-zero", f"{GOOD} --particles 0", ("num_particles", "at least 1", "got 0")),
    ("alternate-one-side", "fit conditional_baseline --data good.npz --set hidden=3 --epochs 1 --alternate",
     ("both sides", "the guide has none")),
    ("evaluate-negative", f"{GOOD} --evaluate -1", ("--evaluate", "at least 0", "got -1")),
    ("evaluate-shared-latents", "fit bayesian_gaussian_mixture --data real.npy --evaluate 5", ("--evaluate", "leave it out")),
    ("gaps", "fit factor_analysis --data gaps.csv", ("gaps.csv line 1, column 2", "--set missing=true")),
    ("gaps-nan", "fit factor_analysis --data nan.npy", ("row 3, column 1", "missing=true")),
    ("gaps-elsewhere", "fit gaussian_mixture --data gaps.csv --set missing=true", ("no setting 'missing'",)),
    ("compare-kmeans", "compare kmeans --data real.npy", ("kmeans cannot be fitted by svi",)),
    ("compare-bound", f"compare sbn --data good.npy {MODEL} --bound elbow", ("bound", "'elbow'")),
    ("compare-bound-path-only", "compare vae --data good.npy --set hidden=3 --set latent_dim=2 --epochs 1 --bound iwae "
     "--estimators path-only", ("'path-only' does not apply", "K-sample bound")),
    ("compare-labels", f"compare sbn --data good.npy {MODEL} --labels 5", ("--labels", "leave it out")),
    ("compare-pathwise", f"compare sbn --data good.npy {MODEL} --estimators score,pathwise",
     ("'pathwise' does not apply", "'z1'", "use leave-one-out")),
    ("compare-enumerate", "compare vae --data good.npy --set hidden=3 --set latent_dim=2 --epochs 1 --estimators enumerate",
     ("'enumerate' does not apply", "'z'", "use pathwise")),
    ("compare-estimator", f"compare sbn --data good.npy {MODEL} --estimators score,scor", ("'scor'", "did you mean 'score'?")),
    ("compare-none", f"compare sbn --data good.npy {MODEL} --estimators ,", ("no estimator", "choose")),
    ("compare-replicates", f"compare sbn --data good.npy {MODEL} --replicates 1", ("replicates", "at least 2", "got 1")),
    ("compare-budget", f"compare sbn --data good.npy {MODEL} --budget nan", ("budget", "positive", "got nan")),
    ("compare-seeds", f"compare sbn --data good.npy {MODEL} --seeds -1", ("seeds", "at least 0", "got -1")),
    ("compare-epochs", "compare sbn --data good.npy --set latent_dim=3 --epochs -1", ("epochs", "at least 0", "got -1")),
    ("compare-lr", f"compare sbn --data good.npy {MODEL} --lr nan", ("lr", "positive", "got nan")),
    ("compare-batch", f"compare sbn --data good.npy {MODEL} --batch 0", ("batch", "at least 1", "got 0")),
    ("compare-nan", f"compare sbn --data nan.npy {MODEL}", ("nan.npy", "row 3, column 1")),
    ("compare-out", f"compare sbn --data good.npy {MODEL} --out file/run", ("file is a file",)),
]  # fmt: skip

#: What only one engine refuses.
OF_ONE_ENGINE: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("numpyro", "fit", f"{GOOD} --estimator stock-traceenum", ("'stock-traceenum' does not apply", "leave the estimator out")),
    ("numpyro", "compare", f"compare sbn --data good.npy {MODEL} --estimators stock-traceenum",
     ("'stock-traceenum' does not apply", "leave it out")),
]  # fmt: skip

#: The good twins: id and arguments, for the rows of `BAD` that differ from `GOOD` in more than an option left out.
TWINS: list[tuple[str, str]] = [
    ("npy", GOOD),
    ("npz", f"fit sbn --data good.npz {MODEL}"),
    ("csv", f"fit sbn --data good.csv {MODEL}"),
    ("heldout", f"fit sbn --data good.npy --heldout held.npy {MODEL}"),
    ("settings", f"{GOOD} --set data_dim=4 --set num_layers=1 --lr 1e-3 --batch 128 --restarts 1 --patience 1 --seed 0 "
                 "--dtype float32 --device cpu --estimator enumerate"),
    ("binarise", f"{GOOD} --binarise threshold"),
    ("overwrite", f"{GOOD} --out finished --overwrite"),
]  # fmt: skip


def words(text: str, here: Path) -> list[str]:
    """Arguments, with the names of files in `here` spelt out."""
    known = {*FILES, "finished", "absent.npy", "nowhere", "file/run", "n" * 300}
    return [str(here / word) if word in known else word for word in text.split()]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below with its size and time of change."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def in_full(args: str, engine: str, here: Path, folder: Path) -> list[str]:
    out = words(args, here)
    if out and out[0] in ("fit", "compare"):
        out += [] if "--engine" in out else ["--engine", engine]
        out += [] if "--out" in out else ["--out", str(folder / "out")]
        out += ["--json"]
    return out


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("args", "expected"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_leaves_one_sentence(here, tmp_path, capsys, monkeypatch, engine, args, expected):
    refused(here, tmp_path, capsys, monkeypatch, engine, args, expected)


@pytest.mark.parametrize(("engine", "args", "expected"), [(r[0], *r[2:]) for r in OF_ONE_ENGINE],
                         ids=["-".join(r[:2]) for r in OF_ONE_ENGINE])  # fmt: skip
def test_what_one_engine_refuses_leaves_one_sentence(here, tmp_path, capsys, monkeypatch, engine, args, expected):
    refused(here, tmp_path, capsys, monkeypatch, engine, args, expected)


def refused(here, folder, capsys, monkeypatch, engine, args, expected):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PPL_DATA_DIR", raising=False)
    before = tree(here)
    ran = run(capsys, monkeypatch, *in_full(args, engine, here, folder))
    assert ran.code == 2, ran
    assert ran.out == ""
    assert_one_sentence(ran.err, *expected, hide=[here, folder])
    assert tree(here) == before
    assert list(folder.iterdir()) == []


def test_a_missing_data_directory_of_the_environment(here, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PPL_DATA_DIR", str(tmp_path / "nowhere"))
    ran = run(capsys, monkeypatch, "fit", "vae", "--data", "mnist", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert_one_sentence(ran.err, str(tmp_path / "nowhere"), hide=[tmp_path])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_directory(here, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        ran = run(capsys, monkeypatch, *words(GOOD, here), "--out", folder / "run", "--json")
    finally:
        folder.chmod(0o700)
    assert (ran.code, ran.out) == (2, "")
    assert_one_sentence(ran.err, "read-only", "choose another directory", hide=[tmp_path])
    assert list(folder.iterdir()) == []


def test_a_directory_that_says_it_is_read_only(here, tmp_path, capsys, monkeypatch):
    """The same for root, whom no permission stops."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    ran = run(capsys, monkeypatch, *words(GOOD, here), "--out", tmp_path / "run", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert_one_sentence(ran.err, "read-only", "choose another directory", hide=[tmp_path])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("args", [row[1] for row in TWINS], ids=[row[0] for row in TWINS])
def test_the_good_twin_works(here, tmp_path, capsys, monkeypatch, engine, args):
    given = words(args, here)
    out = here / "finished" if "--out" in given else tmp_path / "new" / "out"
    ran = run(capsys, monkeypatch, *given, "--engine", engine, *([] if "--out" in given else ["--out", out]), "--json")
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert result["heldout_elbo"]["low"] <= result["heldout_elbo"]["value"] <= result["heldout_elbo"]["high"]
    expected = ["checkpoint", "history.jsonl", "params.safetensors", "report.html", "restarts.safetensors", "results.json",
                "run.json"]  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == expected
    assert strict((out / "results.json").read_text()) == result


#: Rows that are run for real: id, arguments, engine, the engine made unimportable, words.
def timed(*args, **how):
    """A process, and the processor time it took."""
    began = os.times()
    ran = spawn(*args, **how)
    ended = os.times()
    return ran, ended.children_user - began.children_user + ended.children_system - began.children_system


@pytest.fixture(scope="module")
def importing():
    """Seconds of processor time to import each engine."""
    return {engine: timed(code=f"import inference.svi._{engine}")[1] for engine in ENGINES}


REAL = [
    ("nan-pyro", f"fit sbn --data nan.npy {MODEL}", "pyro", None, ("row 3, column 1",)),
    ("lr-numpyro", f"{GOOD} --lr nan", "numpyro", None, ("lr", "got nan")),
    ("pathwise-pyro", f"{GOOD} --estimator pathwise", "pyro", None, ("'pathwise' does not apply", "'z1'")),
    ("pathwise-numpyro", f"{GOOD} --estimator pathwise", "numpyro", None, ("'pathwise' does not apply", "'z1'")),
    ("traceenum-numpyro", f"{GOOD} --estimator stock-traceenum", "numpyro", None, ("'stock-traceenum' does not apply",)),
    ("compare-pyro", "compare sbn --set latent_dim=3 --estimators score,pathwise", "pyro", None, ("'pathwise'", "'z1'")),
    ("compare-numpyro", "compare sbn --set latent_dim=3 --estimators score,pathwise", "numpyro", None, ("'pathwise'",)),
    ("no-pyro", GOOD, "pyro", "pyro", ("'pyro' is not installed", "pip install 'ppl-models[pyro]'")),
    ("no-numpyro", GOOD, "numpyro", "numpyro", ("'numpyro' is not installed", "pip install ppl-models")),
]


@pytest.mark.parametrize(("args", "engine", "without", "expected"), [r[1:] for r in REAL], ids=[r[0] for r in REAL])
def test_a_process_refuses_soon(here, importing, tmp_path, args, engine, without, expected):
    asked = words(args, here)
    ran, seconds = timed(*asked, "--engine", engine, "--out", tmp_path / "out", "--json", without=without)
    assert ran.code == 2, ran
    assert ran.out == ""
    assert_one_sentence(ran.err, *expected, hide=[here, tmp_path])
    assert list(tmp_path.iterdir()) == []
    assert seconds < LIMIT * importing[engine], f"{seconds:.1f} s where the import takes {importing[engine]:.1f} s"
