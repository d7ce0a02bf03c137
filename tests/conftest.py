"""What a test process needs to live through the whole suite."""

from __future__ import annotations

import gc
import sys
from itertools import count
from pathlib import Path

import pytest

MAPS = Path("/proc/self/maps")
#: Linux gives a process 65,530 memory maps. XLA takes about six for a compiled program, and crashes where there are no more.
MOST = 25_000
TESTS = count(1)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Every 25 tests, let go of all compiled programs if they have taken too many maps: those still wanted compile again."""
    if next(TESTS) % 25 or "jax" not in sys.modules or not MAPS.exists():
        return
    with MAPS.open() as lines:
        if sum(1 for _ in lines) > MOST:
            sys.modules["jax"].clear_caches()
            gc.collect()
