"""Faults of the libraries we stand on, each told by a script to paste into a report: `benchmarks/upstream/NAME.py`.

A script stands alone, computes the right answer and the library's, prints one JSON object and exits 0 while the fault is
there, 1 once it is mended. One that ends in any other way is broken, and says nothing of the library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import record

FOLDER = record.ROOT / "benchmarks" / "upstream"
#: What a script prints, and of what type.
REPORT = {"fault": str, "library": str, "version": str, "expected": (float, list), "got": (float, list), "reproduced": bool}


def whole(text: str) -> dict[str, Any] | None:
    """The report, if the text is that and nothing else."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    if not isinstance(report, dict) or report.keys() != REPORT.keys():
        return None
    typed = all(isinstance(report[key], kind) for key, kind in REPORT.items())
    # Python reads NaN and Infinity, which JSON does not know: `strict` makes them null.
    return report if typed and record.strict(report) == report else None


def judge(script: Path, longest: float = 120.0) -> dict[str, Any]:
    """One script in a process of its own, away from this project's folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    began, command = time.perf_counter(), [sys.executable, str(script)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=longest)
            status, report = done.returncode, whole(done.stdout)
        except subprocess.TimeoutExpired:
            status, report = None, None
    # A traceback exits 1 as well: the report tells a mended fault from a broken script.
    broken = report is None or status != (0 if report["reproduced"] else 1)
    return {"script": script.name, "exit": status, "broken": broken, "seconds": time.perf_counter() - began, **(report or {})}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """A row a script."""
    scripts = sorted(FOLDER.glob("*.py"))
    rows = [judge(script) for script in scripts]
    sound = [row for row in rows if not row["broken"]]
    return {
        "device": "cpu",
        "scripts": len(rows),
        "broken": len(rows) - len(sound),
        "reproduced": sum(row["reproduced"] for row in sound),
        "not_reproduced": sum(not row["reproduced"] for row in sound),
        "versions": {row["library"]: row["version"] for row in sound},
        "rows": rows,
        "sources": record.files(*(script.relative_to(record.ROOT).as_posix() for script in scripts)),
    }
