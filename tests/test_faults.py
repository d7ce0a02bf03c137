"""The table that calls the estimators right finds every fault planted in them."""

import json
import subprocess
import sys

import pytest

from tests.faults import FAULTS, ROOT, copy


@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_the_table_finds_every_planted_fault(engine, tmp_path):
    copy(tmp_path)
    command = [sys.executable, "-B", "-W", "error", "-m", "tests.faults", engine]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    sound, *found = map(json.loads, done.stdout.splitlines())
    assert sound == {"fault": None}, "the code without a fault must pass"
    assert [row["fault"] for row in found] == [f.what for f in FAULTS if f.engine == engine]
    for row in found:
        print(row)
        assert "error" not in row, row
        assert row.get("bias", 0.0) > 1e-6, f"not found: {row['fault']}"
    if engine == "pyro":  # where nearly all of them are
        assert sum(row["bias"] < 0.05 for row in found) >= len(FAULTS) / 3, "a third of them are small"


def test_faults_are_many_and_everywhere():
    assert len(FAULTS) >= 30
    assert len({f.what for f in FAULTS}) == len(FAULTS)
    files = {path.name for path in (ROOT / "inference" / "estimators").glob("*.py")}
    # What is not here has no draws to enumerate, is biased, or biases nothing; each has its own faults or tests.
    elsewhere = {"__init__.py", "adam.py", "doubly_reparameterised.py", "enumerate.py", "path_only.py", "pathwise.py",
                 "reinmax.py", "relaxed.py", "straight_through.py"}  # fmt: skip
    assert {f.file for f in FAULTS} == files - elsewhere
