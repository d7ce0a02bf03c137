"""Unbiasedness by exact expectation: every estimator, engine and setting, all outcomes of its draws forced and weighed.

The programs, their hand-summed gradients and the forcing are the tests' own (`tests/exact.py`): this runs their whole
table and keeps it, with the factor by which NumPyro's own TraceGraph_ELBO scales a subsampled score.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import record


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """The table, in a process of its own with one thread: the programs are tiny."""
    command = [sys.executable, "-m", "tests.exact"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    sources = record.tree("ppl_models", "inference") | record.files("tests/__init__.py", "tests/exact.py")
    return {"device": "cpu", **json.loads(done.stdout), "sources": sources}
