"""A benchmark's result on file: the numbers, how they came about, and the sources they stand for."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("ppl_models", "inference", "benchmarks")
LIBRARIES = ("arviz-base", "jax", "jaxlib", "numpy", "numpyro", "optax", "pyro-ppl", "scikit-learn", "scipy", "torch")
# The framework measures nothing: a new claim or a new column leaves the results valid.
FRAMEWORK = tuple(ROOT / "benchmarks" / name for name in ("__init__.py", "__main__.py", "claims.py", "record.py"))
STARTED = time.time()


def strict(x: Any) -> Any:
    """The same tree as strict JSON knows it: no NaN, no infinity, no array or numpy scalar."""
    if isinstance(x, Mapping):
        return {str(key): strict(value) for key, value in x.items()}
    if hasattr(x, "tolist"):
        return strict(x.tolist())
    if isinstance(x, Iterable) and not isinstance(x, str):
        return [strict(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def dumps(x: Any) -> str:
    """One strict JSON text."""
    return json.dumps(strict(x), allow_nan=False, indent=1)


def digest(path: Path) -> str | None:
    """The file's sha256, None if it is gone."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def ours(name: str) -> Path | None:
    """The file of a module in memory, if it is the project's and no part of the framework."""
    file = getattr(sys.modules.get(name), "__file__", None)
    path = Path(file).resolve() if file else None
    held = path is not None and path not in FRAMEWORK and any((ROOT / package) in path.parents for package in PACKAGES)
    return path if held else None


def imports(name: str) -> set[str]:
    """The modules that a module's text imports from, names that a package only passes on traced to where they are made."""
    path, found = ours(name), set[str]()
    if path is None:
        return found
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                made = getattr(sys.modules.get(base), alias.name, None)
                found.add(made.__name__ if isinstance(made, ModuleType) else getattr(made, "__module__", None) or base)
    return found


def sources(*entries: str) -> dict[str, str | None]:
    """The project's files in memory that these modules stand on, each with its hash.

    They are those whose texts import each other, and the engine files, which are imported by name, of every package among
    them: a declaration that nothing here uses may change. None for a file written to since the process began: what was
    measured may be either text.
    """
    left, reached = list(entries), set[str]()
    while left:
        name = left.pop()
        if name in reached or ours(name) is None:
            continue
        reached.add(name)
        parents = {name, name.rpartition(".")[0]}
        left += [*imports(name), *(f"{parent}.{engine}" for parent in parents for engine in ("_numpyro", "_pyro"))]
    paths = sorted(path for name in reached if (path := ours(name)) is not None)
    return {p.relative_to(ROOT).as_posix(): None if p.stat().st_mtime > STARTED else digest(p) for p in paths}


def files(*names: str) -> dict[str, str | None]:
    """These sources, each with its hash; None for a file written to since the process began."""
    return {name: None if (ROOT / name).stat().st_mtime > STARTED else digest(ROOT / name) for name in sorted(names)}


def tree(*packages: str) -> dict[str, str | None]:
    """Every source of these packages, for a benchmark that measures them in another process."""
    paths = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    return files(*(path.relative_to(ROOT).as_posix() for path in paths))


def stale(record: Mapping[str, Any], root: Path = ROOT) -> bool:
    """Whether a source of the record is no longer the one that was measured."""
    return any(measured is None or digest(root / file) != measured for file, measured in record["sources"].items())


def git(*arguments: str) -> str | None:
    """What git says in the project's folder; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The installed libraries that a number can depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def manifest(seconds: float, quick: bool, device: str) -> dict[str, Any]:
    """When, where and with what the numbers were measured."""
    status = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return {
        "versions": versions(),
        "device": device,
        "cpu": cpu(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "quick": quick,
    }


def store(record: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Put a full record in the place of the last one, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{record['name']}.", suffix=".json")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(dumps(record) + "\n")
        os.chmod(temporary, 0o644)
        path = folder / f"{record['name']}.json"
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def load(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The stored record, None if there is none."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None
