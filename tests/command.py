"""The command line from inside a test: run in this process, or for real in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from inference.cli import main

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("numpyro", "pyro")
LIBRARIES = {"numpyro": ("numpyro", "jax", "jaxlib", "optax"), "pyro": ("pyro", "torch")}

#: Run first in a process: the modules named after it cannot be imported.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> Ran:
    """`ppl *args` in this process."""
    monkeypatch.setattr(sys, "argv", ["ppl", *map(str, args)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    return Ran(int(left.value.code or 0), *capsys.readouterr())


def spawn(*args: str | Path, without: str | None = None, code: str = "", timeout: float = 60) -> Ran:
    """`ppl *args`, or else `code`, in a process of its own where warnings are errors; `without` that engine."""
    names = LIBRARIES.get(without or "", ())
    code = WITHOUT.format(names=set(names)) + (code or "from inference.cli import main\nmain()")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True,
        timeout=timeout, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def strict(text: str) -> Any:
    """The one JSON object in `text`, where NaN and Infinity are errors."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def assert_one_sentence(text: str, *words: str, hide: Sequence[Path] = ()) -> None:
    """`text` is `ppl: …`, one line and one sentence that holds the words, with a cure after its semicolon."""
    assert text.startswith("ppl: "), text
    assert text.endswith("\n"), text
    line = text[:-1]
    assert "\n" not in line, text
    for word in words:
        assert word in line, text
    for path in hide:
        line = line.replace(str(path), "PATH")
    assert ". " not in line.removesuffix("."), text
    assert "; " in line or ": " in line.removeprefix("ppl: "), text
    assert "Error" not in line.replace("NotImplementedError", ""), text
    assert "Traceback" not in line, text


def binary(rows: int = 12, columns: int = 4) -> np.ndarray:
    return (np.random.default_rng(0).random((rows, columns)) > 0.5).astype(float)


def real(rows: int = 12, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, columns))
