"""Every conformance check on every row of the contract tests' catalogue, on both engines, and on its broken model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import record

CODE = """
import json, numpy as np
from inference.broken_models import BROKEN, data
from inference.conformance import check_model, checks
from tests.catalogue import CATALOGUE
told, failures = {"passed": 0, "failed": 0, "skipped": 0}, []
rows = CATALOGUE[:: 6 if QUICK else 1]
for row in rows:
    given = row.data(np.random.default_rng(0))
    for result in check_model(row.declaration, given if len(given) > 1 else given[0], raises=False):
        told[result.outcome] += 1
        failures += [f"{row.id}: {result}"] if result.outcome == "failed" else []
caught = 0
for check in checks():
    found = check_model(BROKEN[check.name].model, data(), raises=False)
    failed = {result.check for result in found if result.outcome == "failed"}
    caught += failed == {check.name, *BROKEN[check.name].also}
print(json.dumps({"checks": len(checks()), "declarations": len(rows), **told, "failures": failures,
                  "caught": caught, "not_caught": len(checks()) - caught}))
"""


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """The table, in a process of its own: the rows are the tests'."""
    command = [sys.executable, "-c", f"QUICK = {quick}\n{CODE}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(record.ROOT)}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    paths = [path for name in ("check", "conformance") for path in (record.ROOT / "inference" / name).glob("*.py")]
    own = record.files(*(path.relative_to(record.ROOT).as_posix() for path in paths))
    more = record.files("tests/__init__.py", "tests/catalogue.py", "inference/broken_models.py")
    sources = record.tree("ppl_models") | own | more
    return {"device": "cpu", **json.loads(done.stdout.splitlines()[-1]), "sources": sources}
