"""Faults planted in the shipped estimators, shapes intact, and whether the general table of `exact` finds them.

`python -m tests.faults` lists them. Each biases an estimator. What changes the variance alone, such as a baseline that
divides by K for K − 1, or rows' costs that are not kept apart, leaves the expectation right: it is no such fault.
"""

import importlib
import json
import shutil
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ppl_models", "inference", "benchmarks")


class Fault(NamedTuple):
    file: str  # in inference/estimators
    old: str
    new: str
    what: str

    @property
    def engine(self) -> str:
        """Where it is looked for: files that both engines share are tried on Pyro, which compiles nothing."""
        return "numpyro" if self.file == "_numpyro.py" else "pyro"

    def plant(self, root: Path) -> None:
        path = root / "inference" / "estimators" / self.file
        text = path.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.file}: '{self.old}' occurs {text.count(self.old)} times"
        assert self.new.count("\n") <= 2
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


FAULTS = [
    Fault("terms.py", "return x.sum(axis=outside, keepdims=True)", "return x.mean(axis=outside, keepdims=True)",
          "sum_to: the mean over a plate instead of its sum"),
    Fault("terms.py", "xp.exp(site.log_weight) * site.num_values", "xp.exp(site.log_weight)",
          "weights: an enumerated site's uniform weight is not taken back"),
    Fault("terms.py", "t, weight * t.cost)) for t", "t, t.cost)) for t",
          "elbo: downstream costs of a score without the weights of enumerated rows"),
    Fault("terms.py", "(share if t.score is None else", "(stop(share) if t.score is None else",
          "elbo: the wrong tensor stopped, every cost's own gradient"),
    Fault("terms.py", "[stop(sum_to(site.plates, t, weight * t.cost))", "[sum_to(site.plates, t, weight * t.cost)",
          "elbo: the costs beside the score not stopped"),
    Fault("terms.py", "for t, weight in weighted if site.name in t.upstream]",
          "for t, weight in weighted if site.name == t.name]",
          "elbo: a site's own cost for all that lies downstream"),
    Fault("terms.py", "surrogate = surrogate + (site.score * cost).sum()",
          "surrogate = surrogate + 0.0 * (site.score * cost).sum()",
          "elbo: the score dropped"),
    Fault("terms.py", "surrogate = surrogate + (site.score * cost).sum()",
          "surrogate = surrogate + prod(p.scale for p in site.plates) * (site.score * cost).sum()",
          "elbo: the score scaled twice"),
    Fault("terms.py", "surrogate / samples", "surrogate / max(samples - 1, 1)",
          "elbo: K - 1 for K in the mean over samples"),
    Fault("leave_one_out.py", "(total - cost) / (cost.shape[0] - 1)", "total / cost.shape[0]",
          "leave_one_out: its own sample in the baseline"),
    Fault("running_mean.py", "known = scale * total / (weight + (weight == 0))",
          "known = scale * (total + cost.mean() / scale) / (weight + 1)",
          "running_mean: the current cost in the baseline"),
    Fault("running_mean.py", "known = scale * total / (weight + (weight == 0))",
          "known = cost - scale * total / (weight + (weight == 0))",
          "running_mean: the baseline and the cost exchanged"),
    Fault("site.py", "return cls.log_prob(self, value) - fixed + stop(fixed)", "return stop(cls.log_prob(self, value))",
          "path_only: the gradient through the value dropped too"),
    Fault("site.py", "row // n**i % n", "row % (self.size - 1) // n**i % n",
          "enumerate: the last value left out, the first taken twice"),
    Fault("score.py", 'Variant | None] = "score"', "Variant | None] = None",
          "score: no score at all, as in NumPyro's Trace_ELBO"),
    Fault("_pyro.py", "log_q = shape(bare(fn).log_prob(value), plates)", "log_q = shape(fn.log_prob(value), plates)",
          "Pyro: the score masked"),
    Fault("_pyro.py", '["fn"]), site["scale"], site["mask"])', '["fn"]), 1.0, site["mask"])',
          "Pyro: pathwise-kl not scaled"),
    Fault("_pyro.py", '(fn.log_prob(value), site["scale"],', '(fn.log_prob(value), site["scale"] if sign > 0 else 1.0,',
          "Pyro: log q not scaled"),
    Fault("_numpyro.py", 'bare(site["fn"]).log_prob(site["value"])', 'site["fn"].log_prob(site["value"])',
          "NumPyro: the score masked"),
    Fault("_numpyro.py", 'log_q = bare(site["fn"]).log_prob(site["value"])', 'log_q = site["log_prob"]',
          "NumPyro: the score scaled and masked, as in its TraceGraph_ELBO"),
    Fault("_numpyro.py", 'cost = -scale * xp.asarray(', 'cost = -xp.asarray(',
          "NumPyro: pathwise-kl not scaled"),
]  # fmt: skip


def copy(root: Path) -> None:
    """The packages and the table, without compiled files."""
    for name in PACKAGES[:2]:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    for name in ("__init__.py", "exact.py", "faults.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)


TRUTH: dict[tuple[str, int, float], object] = {}  # exact gradients, which no fault touches


def table(engine: str) -> dict[str, object]:
    """The general table on freshly loaded sources: the first case whose expectation is wrong."""
    for name in [n for n in sys.modules if n.partition(".")[0] in PACKAGES or n == "tests.exact"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    exact = importlib.import_module("tests.exact")
    derive = exact.exact

    def known(program: object, rows: int, scale: float) -> object:
        key = (repr(program), rows, scale)
        if key not in TRUTH:
            TRUTH[key] = derive(program, rows, scale)
        return TRUTH[key]

    exact.exact = known
    assert Path(sys.modules["inference"].__file__ or "").is_relative_to(Path.cwd())
    cases = exact.ALONE if engine == "numpyro" else [*exact.ALONE, *exact.MIXED]  # compiling takes NumPyro long
    for case in cases:
        try:
            bias = exact.bias(engine, case, "all")
        except Exception:  # a fault that breaks a run is not one that a bias finds
            return {"case": str(case), "error": traceback.format_exc(limit=-2)}
        if not bias < 1e-9:
            return {"case": str(case), "bias": bias}
    return {}


def run(engine: str) -> None:
    """In a copy of the tree: one line for the sound code and one for each fault of this engine."""
    print(json.dumps({"fault": None, **table(engine)}), flush=True)
    for fault in (f for f in FAULTS if f.engine == engine):
        path = Path("inference/estimators") / fault.file
        sound = path.read_text(encoding="utf-8")
        fault.plant(Path.cwd())
        print(json.dumps({"fault": fault.what, **table(engine)}), flush=True)
        path.write_text(sound, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.dont_write_bytecode = True
        run(sys.argv[1])
    else:
        for fault in FAULTS:
            print(f"{fault.file:18} {fault.what}")
