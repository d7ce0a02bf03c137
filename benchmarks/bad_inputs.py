"""Bad inputs × models × engines: each refused by one sentence of ours that names it, in under a second, with nothing written.

The kinds and what each must name are in `bad_kinds`; a pair of kind and model that makes no sense is told with its reason
and not counted. Good input in unusual clothes must be taken.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bad_kinds import KINDS, TWINS, Attempt, Case, cases
from inference import check
from ppl_models import InputError
from ppl_models.language import ENGINES

LIMIT = 1.0  # seconds of the process, engines imported


def tried(attempt: Attempt, engine: str) -> tuple[str | None, float, str]:
    """What is wrong with the refusal (None if nothing), the seconds of this process that it took, and what it says."""
    began = time.process_time()
    try:
        attempt.run(engine)
    except InputError as error:
        seconds, said = time.process_time() - began, str(error)
        missing = [word for word in attempt.words if word not in said]
        if missing:
            return f"does not say {missing[0]!r}: {said}", seconds, said
        if "\n" in said or len(said) < 20:
            return f"is no sentence: {said}", seconds, said
        return (None if seconds < LIMIT else f"took {seconds:.2f} s: {said}"), seconds, said
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"[:300], time.process_time() - began, ""
    return "accepts it", time.process_time() - began, ""


def twin(case: Case, change: Any, engine: str) -> str | None:
    """Why a good twin is refused, None if it is taken."""
    try:
        check(case.model, case.data(x=change(case.x.copy())), engine=engine)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"[:300]
    return None


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All kinds on all models and engines; `quick` takes every fifth model."""
    for engine in ENGINES:
        import_module(f"inference.check._{engine}")
        import_module(f"inference.svi._{engine}")
    table = cases()[:: 5 if quick else 1]
    failures, apart, seconds, said = list[str](), dict[str, int](), list[float](), dict[str, str]()
    twins, refused_twins, here = 0, list[str](), os.getcwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        os.chdir(folder)
        try:
            for case in table:
                for engine in ENGINES:  # what an engine does once in a process is no part of a refusal
                    check(case.model, case.data(), engine=engine)
                for kind in KINDS:
                    attempt = kind.make(case)
                    if isinstance(attempt, str):
                        reason = f"{kind.name}: {attempt}"
                        apart[reason] = apart.get(reason, 0) + 1
                        continue
                    for engine in ENGINES:
                        wrong, took, words = tried(attempt, engine)
                        seconds.append(took)
                        said.setdefault(kind.name, words)
                        if wrong:
                            failures.append(f"{kind.name}, {case.name}, {engine}: {wrong}")
                for name, change in TWINS.items():
                    if case.sequences and name == "lists":
                        continue
                    for engine in ENGINES:
                        twins += 1
                        if (wrong := twin(case, change, engine)) is not None:
                            refused_twins.append(f"{name}, {case.name}, {engine}: {wrong}")
            files = sorted(path.name for path in Path(folder).rglob("*"))
        finally:
            os.chdir(here)
    return {
        "device": "cpu", "kinds": len(KINDS), "models": len(table), "engines": len(ENGINES), "tried": len(seconds),
        "refused": len(seconds) - len(failures), "failed": len(failures), "failures": failures[:200],
        "not_counted": sum(apart.values()), "not_counted_why": apart, "slowest_seconds": max(seconds), "files": files,
        "files_written": len(files), "good_twins": twins, "good_twins_refused": len(refused_twins),
        "good_twin_failures": refused_twins[:100], "said": said,
    }  # fmt: skip
