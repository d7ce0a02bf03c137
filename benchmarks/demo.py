"""The demo's own run, after installation, and what its comparison found."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import record


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """`python -m inference.demo` once, timed from outside; the table's rows at the trained point."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "inference.demo", "--out", folder], cwd=record.ROOT, stdout=sys.stderr, check=True
        )
        seconds = time.perf_counter() - began
        found = {path.parent.name: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*/results.json"))}
    table = {
        name: {
            "sentence": results["verdict_sentence"],
            "reference": results["reference"]["kind"],
            **{row["name"]: row for row in results["estimators"] if row["point"] == "trained"},
        }
        for name, results in found.items()
    }
    score, left = (table["sbn-numpyro"][name]["variance_trace"]["value"] for name in ("score", "leave-one-out"))
    return {
        "device": "cpu",
        "seconds": seconds,
        "stock_trace_bias": table["sbn-numpyro"]["stock-trace"]["bias_relative"],
        "stock_trace_is_biased": float(table["sbn-numpyro"]["stock-trace"]["verdict"] == "biased"),
        "leave_one_out_gain": score / left,
        "runs": table,
        "sources": record.tree("ppl_models", "inference"),
    }
