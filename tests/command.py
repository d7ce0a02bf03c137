"""The command line from inside a test: run in this process, or for real in one of its own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
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


#: What a second run cannot repeat.
TIMES = ("seconds", "wall_seconds", "seconds_per_step", "setup_seconds", "seconds_per_gradient",
         "seconds_per_gradient_vectorised", "efficiency", "argv", "command")  # fmt: skip


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


def ppl(*args: str | Path) -> Ran:
    """`ppl *args` in this process, where a test's own capture is not at hand, as in a fixture of a whole module."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ppl", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            main()
    return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())


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


def timeless(value: object) -> object:
    """`value` without the facts that a second run cannot repeat."""
    if isinstance(value, dict):
        return {key: timeless(v) for key, v in value.items() if key not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def assert_estimate(value: Any) -> None:
    """A finite number inside its interval."""
    assert set(value) == {"value", "low", "high"}
    assert value["low"] <= value["value"] <= value["high"]


def assert_self_contained(page: str) -> None:
    """The page asks nothing of a network: whatever it loads or links to lies within it."""
    assert page.lower().startswith("<!doctype html>")
    tags = " ".join(re.findall(r"<[a-zA-Z][^>]*>", page))
    addresses = re.findall(r"\s(?:[\w-]+:)?(?:src|srcset|href|action|data|poster)\s*=\s*[\"']?([^\"'\s>]*)", tags)
    addresses += re.findall(r"url\(\s*[\"']?([^\"')]*)", page)
    assert not [address for address in addresses if not address.startswith(("data:", "#"))]
    assert "@import" not in page


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
