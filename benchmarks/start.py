"""How long a person waits for the first words: `ppl --help`, as a whole process."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks import record


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Median of seven runs after one to warm up."""
    timings = []
    for _ in range(8):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "inference.cli", "--help"], cwd=record.ROOT, stdout=subprocess.DEVNULL, check=True
        )
        timings.append(time.perf_counter() - began)
    return {"device": "cpu", "help_seconds": median(timings[1:]), "sources": record.tree("ppl_models", "inference")}
