"""README stays true: its Python runs, its commands run, and what it names exists."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.claims import known

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
COMMANDS = [line.split("#")[0].strip() for kind, code in BLOCKS if kind == "sh" for line in code.splitlines() if line.strip()]
# Most of the time is XLA's: it compiles twice as fast where the code need not be good.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.mark.parametrize("code", PYTHON, ids=[str(i) for i in range(len(PYTHON))])
def test_python_runs(code, tmp_path):
    words = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Commands run in the README's order in one directory: some open what others wrote."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make ")])
def test_commands_run(command, folder):
    words = shlex.split(command)
    module = {"ppl": ["-m", "inference.cli"], "python": []}[words[0]]
    env = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *module, *words[1:]], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "--out" in words:
        out = folder / words[words.index("--out") + 1]
        assert (out if out.is_file() else out / "report.html").stat().st_size > 2_000


def test_make_targets_and_benchmarks_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"make (\w+)", " ".join(COMMANDS))
    assert named
    assert set(named) <= set(targets)
    benchmarks = {name for name in re.findall(r"python -m benchmarks (\w+)", TEXT) if name != "NAME"}
    assert benchmarks
    assert benchmarks <= set(known())


def test_files_that_it_names_exist():
    for name in re.findall(r"`((?:ppl_models|inference|tests|benchmarks)/[\w./]*)`", TEXT):
        assert "NAME" in name or (ROOT / name).exists(), name


def test_every_estimator_stands_in_the_table():
    from inference.estimators import ESTIMATORS

    assert set(ESTIMATORS) <= set(re.findall(r"^\| `([\w-]+)`", TEXT, re.M))
