"""Fits by gradient and by EM, their evaluation, a comparison and draws on each engine, in a process without the other."""

from __future__ import annotations

import numpy as np
import pytest

from .command import ENGINES, LIBRARIES, binary, spawn, strict

#: Every command in one process, which then says what it has loaded.
ALL = """
import sys
from inference.cli import main
data, engine, out = sys.argv[1:]
common = ["--data", data, "--set", "latent_dim=3", "--engine", engine, "--epochs", "1", "--json", "--out"]
for args in (["fit", "sbn", *common, out + "/fit"],
             ["compare", "sbn", *common, out + "/compare", "--replicates", "10", "--seeds", "0",
              "--estimators", "score,enumerate,stock-trace"],
             ["fit", "ppca", "--data", "iris", "--method", "em", "--engine", engine, "--json"],
             ["sample", out + "/fit", "--out", out + "/draws.npz"]):
    sys.argv = ["ppl", *args]
    try:
        main()
    except SystemExit as left:
        assert not left.code, left.code
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(("engine", "other"), [(e, next(o for o in ENGINES if o != e)) for e in ENGINES])
def test_an_engine_needs_nothing_of_the_other(engine, other, tmp_path):
    np.save(tmp_path / "x.npy", binary())
    ran = spawn(tmp_path / "x.npy", engine, tmp_path, without=other, code=ALL)
    assert ran.code == 0, ran
    loaded = set(ran.err.splitlines()[-1].split())
    assert not loaded & set(LIBRARIES[other])
    assert set(LIBRARIES[engine]) <= loaded
    for name in ("fit", "compare"):
        result = strict((tmp_path / name / "results.json").read_text())
        assert result["engine"] == engine
        assert (tmp_path / name / "report.html").stat().st_size > 1000
        if name == "fit":
            assert result["evaluation"]["kind"] == "importance-sampled"
    assert '"method": "em"' in ran.out
    with np.load(tmp_path / "draws.npz") as drawn:
        assert drawn["x"].shape == (64, 4)


def test_the_door_is_shut():
    """The finder that these tests trust does keep a library out, submodules included."""
    code = (
        "import importlib.util\n"
        "for name in ('torch', 'pyro', 'pyro.infer'):\n"
        "    try: __import__(name)\n"
        "    except ModuleNotFoundError: print(name)\n"
        "import json, numpy\n"
    )
    ran = spawn(without="pyro", code=code)
    assert (ran.code, ran.out.split()) == (0, ["torch", "pyro", "pyro.infer"])
