"""Every conformance check on every row of the contract tests' catalogues, on both engines, and on its broken model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import record

CODE = """
import json, numpy as np
from inference import broken_energies, broken_models
from inference.conformance import check_model, checks
from tests.catalogue import CATALOGUE
from tests.stationary import MODELS, OF_REALS, rows
told, failures = {"passed": 0, "failed": 0, "skipped": 0}, []
given = [(row.id, row.declaration, row.data(np.random.default_rng(0))) for row in CATALOGUE]
given += [(name, model, (rows(model),)) for name, model in (MODELS | OF_REALS).items()]
given = given[:: 6 if QUICK else 1]
for name, model, data in given:
    for result in check_model(model, data if len(data) > 1 else data[0], raises=False):
        told[result.outcome] += 1
        failures += [f"{name}: {result}"] if result.outcome == "failed" else []
every = [(check, broken_models) for check in checks()] + [(check, broken_energies) for check in checks(energy=True)]
caught = 0
for check, kind in every:
    broken = kind.BROKEN[check.name]
    failed = {result.check for result in check_model(broken.model, kind.data(), raises=False) if result.outcome == "failed"}
    caught += failed == {check.name, *broken.also}
print(json.dumps({"checks": len(every), "declarations": len(given), **told, "failures": failures,
                  "caught": caught, "not_caught": len(every) - caught}))
"""


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """The table, in a process of its own: the rows are the tests'."""
    command = [sys.executable, "-c", f"QUICK = {quick}\n{CODE}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(record.ROOT)}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    paths = [path for name in ("check", "conformance") for path in (record.ROOT / "inference" / name).glob("*.py")]
    own = record.files(*(path.relative_to(record.ROOT).as_posix() for path in paths))
    more = record.files("inference/broken_models.py", "inference/broken_energies.py",
                        *(f"tests/{name}.py" for name in ("__init__", "catalogue", "stationary", "transition")))  # fmt: skip
    sources = record.tree("ppl_models") | own | more
    return {"device": "cpu", **json.loads(done.stdout.splitlines()[-1]), "sources": sources}
