"""How many arrays an engine holds alive in this process, and how many bytes."""

from __future__ import annotations

from importlib import import_module


def live(engine: str) -> tuple[int, int]:
    """Their number and their bytes, after a collection of what nothing refers to."""
    return import_module(f"benchmarks.live._{engine}").live()
