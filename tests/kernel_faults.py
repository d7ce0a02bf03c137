"""Faults planted in the shipped kernels and energies, shapes intact, and whether the table of `stationary` finds them.

`python -m tests.kernel_faults` lists them.
"""

import importlib
import json
import shutil
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
KERNELS, ENERGY, LOG_Z = "inference/kernels", "ppl_models/energy", "inference/log_partition"


class Fault(NamedTuple):
    file: str
    old: str
    new: str
    what: str

    def plant(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.file}: '{self.old}' occurs {text.count(self.old)} times"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


FAULTS = [
    Fault(f"{KERNELS}/block_gibbs.py", "beta * self.model.logits(ppl, params, values, site)",
          "self.model.logits(ppl, params, values, site)", "block Gibbs: β missing"),
    Fault(f"{KERNELS}/block_gibbs.py", "        values |= drawn\n", "        values = {**state.values, **drawn}\n",
          "block Gibbs: a colour that sees the others as they were"),
    Fault(f"{KERNELS}/chromatic_gibbs.py", "taken = {colours[other] for other in near[unit]}", "taken = set()",
          "colouring: neighbours of one colour"),
    Fault(f"{KERNELS}/chromatic_gibbs.py", "row(beta) * logits)", "logits)", "chromatic Gibbs: β missing"),
    Fault(f"{KERNELS}/chromatic_gibbs.py", "prepared, units, group)",
          "prepared, columns(ppl, self.model, state.values), group)",
          "chromatic Gibbs: fields of the units as they were"),
    Fault(f"{KERNELS}/sequential_gibbs.py", "fields + within[i]", "fields + 0.0 * within[i]",
          "sequential Gibbs: stale fields within a block"),
    Fault(f"{KERNELS}/sequential_gibbs.py", "row(beta) * fields", "fields", "sequential Gibbs: β missing"),
    Fault(f"{KERNELS}/metropolis.py", "row(beta) * (1.0", "(1.0", "Metropolis: β missing"),
    Fault(f"{KERNELS}/metropolis.py", "(1.0 - 2.0 * bit) * log_odds", "log_odds", "Metropolis: down priced as up"),
    Fault(f"{KERNELS}/gibbs_with_gradients.py", " + log_q(ppl, backward, chosen) - log_q(ppl, forward, chosen)", "",
          "Gibbs with gradients: the proposal's ratio forgotten"),
    Fault(f"{KERNELS}/gibbs_with_gradients.py", "backward = gains(proposal) / 2", "backward = gains(values) / 2",
          "Gibbs with gradients: the way back proposed from here"),
    Fault(f"{KERNELS}/gibbs_with_gradients.py", "return -row(beta) * model", "return -1.0 * model",
          "Gibbs with gradients: β missing"),
    Fault(f"{KERNELS}/discrete_langevin.py", "log_ratio + ways[0] - ways[1]", "log_ratio + 0.0 * ways[0]",
          "Langevin over bits: the proposal's ratio forgotten"),
    Fault(f"{KERNELS}/discrete_langevin.py", "log_ratio = row(beta) * (model", "log_ratio = 1.0 * (model",
          "Langevin over bits: β missing"),
    Fault(f"{KERNELS}/discrete_langevin.py", "back = log_odds(there)", "back = log_odds(here)",
          "Langevin over bits: the way back proposed from here"),
    Fault(f"{LOG_Z}/from_base.py", "path[k + 1] * end[name] for", "path[k] * end[name] for",
          "annealing of a network: a step behind its weight"),
    Fault(f"{KERNELS}/tempering.py", "        energy = model.energy(ppl, params, inner.values)\n",
          "        from ppl_models.energy import free_energy\n"
          "        energy = free_energy(ppl, model, params, {'x': inner.values['x']})\n",
          "tempering: the marginal's energy in the swap"),
    Fault(f"{KERNELS}/tempering.py", "(betas[:-1] - betas[1:])[:, None]", "(betas[1:] - betas[:-1])[:, None]",
          "tempering: swaps the wrong way"),
    Fault(f"{KERNELS}/tempering.py", "params, betas[:, None, None])", "params, 0 * betas[:, None, None] + 1.0)",
          "tempering: every replica at β = 1"),
    Fault(f"{KERNELS}/tempering.py", "values, state.step + 1, walker", "values, state.step, walker",
          "tempering: the same pairs at every step"),
    Fault(f"{KERNELS}/cooling.py", "max=len(self.betas) - 1)]", "max=0)]", "cooling: never cools"),
    Fault(f"{KERNELS}/cooling.py", "clip(state.step, max", "clip(state.step - 1, max", "cooling: a step late"),
    Fault(f"{KERNELS}/block_gibbs.py", "if site in self.clamp:", "if site in self.clamp[1:]:",
          "block Gibbs: a clamped site drawn"),
    Fault(f"{KERNELS}/chromatic_gibbs.py", "self.model.num_units), self.clamp)", "self.model.num_units), self.clamp[1:])",
          "chromatic Gibbs: a clamped unit drawn"),
    Fault(f"{KERNELS}/block_gibbs.py", "scale * noise / beta**0.5", "scale * noise", "block Gibbs: Gaussian units at β = 1"),
    Fault(f"{ENERGY}/rbm.py", 'params["x.bias"] + scale * (self', 'params["x.bias"] + (self',
          "Gaussian machine: the scale of x missing in its mean"),
    Fault(f"{LOG_Z}/bridge.py", "logistic(hot - middle).mean() > logistic(middle - cold).mean()",
          "logistic(hot - middle).mean() > logistic(cold - middle).mean()", "bridge: the ratio the wrong way up on one side"),
    Fault(f"{LOG_Z}/bridge.py", "hotter = betas[r + 1] - betas[r]", "hotter = betas[r] - betas[r + 1]",
          "bridge: from hot to cold"),
    Fault(f"{LOG_Z}/bridge.py", "one_each += (won - lost).mean(1) / slope", "one_each += won.mean(1) / slope",
          "bridge: one side of a chain's equation"),
    Fault(f"{LOG_Z}/raised.py", "beta = path[last - i]", "beta = path[last - i - 1]", "RAISE: a temperature late"),
    Fault(f"{LOG_Z}/raised.py", "come - gone - lost", "gone - come - lost", "RAISE: ratios the wrong way up"),
    Fault(f"{LOG_Z}/torus.py", "half[0] = np.sign(s - 1) * half[0]", "half[0] = abs(half[0])",
          "torus: γ₀ above 0 at every temperature"),
    Fault(f"{LOG_Z}/torus.py", "np.arange(first, 2 * columns, 2)", "np.arange(1 - first, 2 * columns, 2)",
          "torus: odd and even momenta exchanged"),
    Fault(f"{KERNELS}/state.py", "    rng_key, u = ppl.uniform(rng_key, logits)\n    return ppl.flip(rng_key, u, logits)",
          "    _, u = ppl.uniform(rng_key, logits)\n    return ppl.flip(rng_key, u, logits)", "a key used twice"),
    Fault(f"{ENERGY}/boltzmann.py", "            return below + below.mT\n", "            return 2.0 * (below + below.mT)\n",
          "dense machine: couplings doubled in the fields"),
    Fault(f"{ENERGY}/boltzmann.py", '"bias": params["bias"] * self._step}', '"bias": params["bias"]}',
          "machine: biases without temperature or spin"),
    Fault(f"{ENERGY}/layered.py", "if i + 1 < len(names):", "if i == 0:", "deep machine: a middle layer hears one side"),
    Fault(f"{ENERGY}/rbm.py", 'return self._centred(params, "h", values["h"]) @ params["weight"].mT + params["x.bias"]',
          'return values["h"] @ params["weight"].mT + params["x.bias"]', "centred machine: the hidden offset forgotten"),
    Fault(f"{LOG_Z}/annealed.py", "between(path[k + 1]))", "between(path[k]))", "annealing: a sweep behind its weight"),
    Fault(f"{LOG_Z}/annealed.py", "free_at(path[k], found) - free_at(path[k + 1], found) - lost",
          "free_at(path[0], found) - free_at(path[k + 1], found) - lost", "annealing: every ratio from the start"),
    Fault(f"{ENERGY}/replicated.py", 'self._folded(values["h"], 1) @ params["weight"].mT',
          'values["h"][..., : self.num_hidden] @ params["weight"].mT', "copies: only the first is heard"),
    Fault(f"{ENERGY}/deep_belief_net.py", "(values[name] * logits - ppl.softplus(logits)).sum(-1)",
          "(values[name] * logits).sum(-1)", "belief net: the way down not normalised"),
    Fault(f"{ENERGY}/deep_belief_net.py", 'below @ params[f"{name}.weight"] + params',
          'below @ params[f"{name}.weight"] - params', "belief net: biases of recognition the wrong way"),
    Fault(f"{LOG_Z}/layered.py", "    return others - energy, ", "    return 0.0 * others - energy, ",
          "layered: the other layers forgotten in the rows"),
    Fault(f"{LOG_Z}/mixture.py", "top + (ends[0] + ends[1])[:, 0]", "top + ends[0][:, 0]", "mixture: a scale not put back"),
    Fault(f"{LOG_Z}/directed.py", "    log_p = log_p - log_z\n", "", "belief net: log Z forgotten"),
    Fault(f"{LOG_Z}/directed.py", " - log_bernoulli(ppl, up, h)", "", "recognition: q forgotten in the weights"),
]  # fmt: skip


def copy(root: Path) -> None:
    """The packages and the table, without compiled files."""
    for name in ("ppl_models", "inference"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    for name in ("__init__.py", "catalogue.py", "kernel_faults.py", "stationary.py", "transition.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)


def table() -> dict[str, object]:
    """The table on freshly loaded sources, on Pyro, which compiles nothing: the first case that is wrong, and by how much."""
    fresh = ("ppl_models", "inference")
    for name in [n for n in sys.modules if n.partition(".")[0] in fresh or n in ("tests.stationary", "tests.transition")]:
        del sys.modules[name]
    for name in [n for n in sys.modules if n == "tests.catalogue"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    stationary = importlib.import_module("tests.stationary")
    assert Path(sys.modules["inference"].__file__ or "").is_relative_to(Path.cwd())
    kernels = sys.modules["inference.kernels"]
    cases: dict[str, tuple[Any, ...]] = {}
    for kernel, model in stationary.CASES:
        cases[f"{kernel} on {model}"] = (stationary.transition, kernel, model, 0.3, "pyro")
    for inner in (kernels.BlockGibbs, kernels.GibbsWithGradients):
        for parity in (0, 1):
            cases[f"tempering of {inner.__name__}, parity {parity}"] = (stationary.tempered, inner, parity, "pyro")
    held = partial(kernels.BlockGibbs, clamp=("x",))
    cases["tempering, an even and an odd step"] = (two_steps, stationary, held)
    cases |= {f"cooling, step {step}": (stationary.cooled, step, "pyro") for step in (0, 1, 5)}
    for name, (work, *arguments) in cases.items():
        try:
            pi, T = work(*arguments)
        except Exception:  # a fault that breaks a run is not one that the law finds
            return {"case": name, "error": traceback.format_exc(limit=-2)}
        gap = max(float(np.abs(pi @ T - pi).max()), float(np.abs(T.sum(1) - 1).max()))
        if not gap < 1e-12:
            return {"case": name, "gap": gap}
    gaps: dict[str, tuple[Any, float]] = {
        f"clamping of {name}": (partial(stationary.clamped, name, "pyro"), 1e-12) for name in ("rbm", "ring")
    }
    gaps |= {"Gaussian units": (partial(stationary.gaussian_sweep, 0.4, True, "pyro"), 1e-8),
             "bridge": (stationary.bridged_gap, 1e-12),
             "RAISE": (partial(stationary.raised_gap, "pyro"), 1e-12), "torus": (stationary.torus_gap, 1e-12)}  # fmt: skip
    for name, (work, limit) in gaps.items():
        try:
            gap = work()
        except Exception:
            return {"case": name, "error": traceback.format_exc(limit=-2)}
        if not gap < limit:
            return {"case": name, "gap": gap}
    for name in stationary.PAIRS:
        total, mean_weight, ratio = stationary.annealed_ratio(name, "pyro")
        gap = max(abs(total - 1), abs(mean_weight / ratio - 1))
        if not gap < 1e-12:
            return {"case": f"annealing of {name}", "gap": gap}
    deep = {"a machine": stationary.DeepBoltzmannMachine(3, (2, 3, 1)), "a net": stationary.NETS["three"]}
    rows = {f"log p(x) of {name}": (stationary.likelihoods, model, "pyro") for name, model in deep.items()}
    for name, (work, *arguments) in {**rows, "recognition": (stationary.transposed, "pyro")}.items():
        gap = float(np.abs(np.subtract(*work(*arguments))).max())
        if not gap < 1e-12:
            return {"case": name, "gap": gap}
    return {}


def two_steps(stationary: Any, inner: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of tempering: the law after an even and an odd step, and what makes it of the law, unless the steps are not those."""
    pi, T = stationary.tempered(inner, 0, "pyro", steps=2)
    wanted = stationary.tempered(inner, 0, "pyro")[1] @ stationary.tempered(inner, 1, "pyro")[1]
    return pi, T if np.abs(T - wanted).max() < 1e-12 else np.zeros_like(T)


def run() -> None:
    """In a copy of the tree: one line for the sound code and one for each fault."""
    print(json.dumps({"fault": None, **table()}), flush=True)
    for fault in FAULTS:
        path = Path(fault.file)
        sound = path.read_text(encoding="utf-8")
        fault.plant(Path.cwd())
        print(json.dumps({"fault": fault.what, **table()}), flush=True)
        path.write_text(sound, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        sys.dont_write_bytecode = True
        run()
    else:
        for fault in FAULTS:
            print(f"{fault.file:40} {fault.what}")
