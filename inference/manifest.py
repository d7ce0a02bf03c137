"""What a result needs beside it to be made again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def manifest(*, versions: dict[str, str], **facts: Any) -> dict[str, Any]:
    """Versions, machine, commit and the facts given, ready for JSON."""
    try:
        own = version("ppl-models")
    except PackageNotFoundError:
        own = "unknown"
    return {
        "versions": {"ppl-models": own, "python": platform.python_version(), "numpy": version("numpy"), **versions},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cpus": os.cpu_count()},
        "commit": commit(),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **facts,
    }


def commit() -> str | None:
    """The commit of the checkout this code runs from; None outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        out = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.strip() or None
