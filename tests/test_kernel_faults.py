"""The table that calls the kernels right finds every fault planted in them."""

import json
import subprocess
import sys

from tests.kernel_faults import FAULTS, copy


def test_the_table_finds_every_planted_fault(tmp_path):
    copy(tmp_path)
    command = [sys.executable, "-B", "-W", "error", "-m", "tests.kernel_faults", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    sound, *found = map(json.loads, done.stdout.splitlines())
    assert sound == {"fault": None}, "the code without a fault must pass"
    assert [row["fault"] for row in found] == [fault.what for fault in FAULTS]
    for row in found:
        print(row)
        assert "error" not in row, row
        assert row.get("gap", 0.0) > 1e-6, f"not found: {row['fault']}"


def test_faults_are_in_every_kernel_file():
    assert len({fault.what for fault in FAULTS}) == len(FAULTS) >= 20
    named = (
        "block_gibbs",
        "chromatic_gibbs",
        "sequential_gibbs",
        "metropolis",
        "gibbs_with_gradients",
        "tempering",
        "cooling",
        "state",
    )
    assert {f"inference/kernels/{name}.py" for name in named} <= {fault.file for fault in FAULTS}
