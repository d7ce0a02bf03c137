"""What the packages may load: no engine before it is asked for, and never a file that can run code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ppl_models", "inference", "benchmarks")
ENGINES = {"torch", "pyro", "jax", "numpyro", "optax"}
UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "jax.numpy.load",
                "eval", "exec"}  # fmt: skip
ONLY_IN = {
    "_pyro.py": {"torch", "pyro"},
    "_numpyro.py": {"jax", "numpyro", "optax"},
}
#: Reports of a library's faults: each is a script that stands alone, named after its library, and never imported.
UPSTREAM = sorted((ROOT / "benchmarks" / "upstream").glob("*.py"))


def loaded(package: str) -> set[str]:
    code = f"import {package}, sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                names[a.asname or a.name.partition(".")[0]] = a.name if a.asname else a.name.partition(".")[0]
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def modules(tree: ast.AST) -> set[str]:
    """Top names of the modules imported, at any depth of the file; a literal `import_module` counts."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {name.partition(".")[0] for name in found}


def rights(file: Path) -> str:
    """The name of the file that may import what this one may."""
    return f"_{file.name.partition('_')[0]}.py" if file in UPSTREAM else file.name


def faults(text: str, file: str = "any.py") -> list[str]:
    tree = ast.parse(text)
    names, imported = aliases(tree), modules(tree)
    wrong = [f"imports {name}" for name in sorted(imported & UNSAFE_MODULES)]
    wrong += [f"imports {name}" for name in sorted(imported & (ENGINES - ONLY_IN.get(file, set())))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, _, tail = ast.unparse(node).partition(".")
            full = ".".join(filter(None, (names.get(head, head), tail)))
            wrong += [f"uses {full}"] if full in UNSAFE_CALLS and isinstance(node.ctx, ast.Load) else []
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            wrong += [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["allows pickle"]
    return wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_engine(package):
    assert not loaded(package) & (ENGINES | {"funsor", "pyroapi"})


@pytest.mark.parametrize("file", [f for p in PACKAGES for f in sorted((ROOT / p).rglob("*.py"))],
                         ids=lambda f: f.relative_to(ROOT).as_posix())  # fmt: skip
def test_a_file_keeps_to_its_engine_and_unpickles_nothing(file):
    assert faults(file.read_text(), rights(file)) == []


@pytest.mark.parametrize("file", UPSTREAM, ids=lambda f: f.name)
def test_a_report_of_a_librarys_fault_imports_that_library_and_nothing_of_this_project(file):
    tree = ast.parse(file.read_text())
    assert rights(file) in ONLY_IN
    assert modules(tree) <= ONLY_IN[rights(file)] | {"numpy"} | set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_no_file_of_the_packages_imports_a_report():
    assert UPSTREAM
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert not [file for file in files if re.search(r"\bbenchmarks(\.| import )upstream\b", file.read_text())]


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("import torch", "svi.py"),
        ("import torch.nn as nn", "_numpyro.py"),
        ("def f():\n    from jax import numpy", "_pyro.py"),
        ("import importlib\nimportlib.import_module('optax')", "svi.py"),
        ("import pickle", "a.py"),
        ("import torch as t\nt.load('x')", "_pyro.py"),
        ("from torch import load\nload('x')", "_pyro.py"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "a.py"),
        ("import yaml\nyaml.load('x')", "a.py"),
        ("eval('1')", "a.py"),
    ],
)
def test_a_planted_fault_is_found(text, file):
    assert faults(text, file)
