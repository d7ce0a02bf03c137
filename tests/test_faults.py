"""The table that calls the estimators right finds every fault planted in them."""

import json
import subprocess
import sys

import pytest

from tests.faults import FAULTS, copy


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


def test_faults_are_many_and_everywhere():
    assert len(FAULTS) >= 12
    assert len({f.what for f in FAULTS}) == len(FAULTS)
    files = {"terms.py", "leave_one_out.py", "running_mean.py", "site.py", "score.py", "_pyro.py", "_numpyro.py"}
    assert {f.file for f in FAULTS} == files
