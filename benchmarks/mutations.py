"""Checkpoints cut, flipped, forged and swapped: each gives way to the one before, or ends in one sentence; none runs code.

A fit keeps the epochs 2, 4 and 6; what was done to the last of them is one of `MUTATIONS`. Then it is resumed to epoch 7. Fine
is an `InputError` of one line; or a checkpoint passed over, with a sentence, and the very bits of the fit that goes on
from the one before; or, where the change carries nothing (a blank in a manifest), the bits of the fit left alone. Files
with matching hashes stand for whoever can write them: the hash is against decay, and what is read is checked besides.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from inference.checkpoint import Checkpoints, sha256
from inference.files import load_params
from inference.svi import Stop, fit
from ppl_models import InputError, SigmoidBeliefNet
from ppl_models.datasets import Dataset, from_arrays

ENGINES, LAST, BEFORE, LONGEST = ("numpyro", "pyro"), 6, 4, 5.0  # seconds
Change = Callable[[Path, np.random.Generator], object]


def data() -> Dataset:
    """A few rows of bits."""
    return from_arrays((np.random.default_rng(0).random((60, 4)) > 0.5).astype(float))


def trained(engine: str, folder: Path, epochs: int, resume: bool = False) -> Any:
    """A fit with a control that carries state."""
    settings: dict[str, Any] = {"estimator": {"z*": "running-mean"}, "batch": 16, "lr": 0.05, "stop": Stop(rhat=1.1)}
    kept = Checkpoints(folder, 2)
    return fit(SigmoidBeliefNet(4, 2), data(), engine=engine, epochs=epochs, checkpoints=kept, resume=resume, **settings)


# --- what is done to the folder -----------------------------------------------------------------------------------------


def file(folder: Path, ending: str, step: int | None = None) -> Path:
    """Of a checkpoint, the last one if no step is given, its tensors or its manifest."""
    return folder / f"{max(Checkpoints(folder).steps()) if step is None else step:08d}{ending}"


def forge(folder: Path, edit: Callable[[dict[str, Any]], Any] = lambda body: None, step: int | None = None) -> None:
    """Edit the manifest and have every hash agree again."""
    body = json.loads(file(folder, ".json").read_text())
    del body["sha256"]
    body["tensors"] = sha256(file(folder, ".safetensors").read_bytes())
    body = edit(body) or body
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    file(folder, ".json", step).write_text(json.dumps({"sha256": sha256(text.encode()), **body}))


def tensors(change: Callable[[dict[str, np.ndarray], np.random.Generator], None]) -> Change:
    """Tensors changed, hashes made to agree."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        held = load_params(file(folder, ".safetensors"))
        change(held, rng)
        save_file({name: np.asarray(value, order="C") for name, value in held.items()}, file(folder, ".safetensors"))
        forge(folder)

    return apply


def raw(ending: str, content: Callable[[bytes, np.random.Generator], bytes], agree: bool = False) -> Change:
    """The bytes of a file changed; where hashes are to `agree`, the manifest is forged."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = file(folder, ending)
        path.write_bytes(content(path.read_bytes(), rng))
        if agree:
            forge(folder)

    return apply


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit."""
    place, bit = rng.integers(len(data)), int(rng.integers(8))
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def some(held: dict[str, np.ndarray], rng: np.random.Generator, like: tuple[str, ...] = ("",)) -> str:
    """The name of a tensor in which one of the words occurs."""
    return str(rng.choice(sorted(name for name in held if any(word in name for word in like))))


def reshaped(held: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Twice as large, or an entry short."""
    name = some(held, rng)
    value = held[name]
    held[name] = np.stack([value, value]) if rng.random() < 0.5 or not value.size else np.ravel(value)[:-1]


def retyped(held: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """The same numbers, up to rounding."""
    name = some(held, rng)
    kinds = [kind for kind in ("float64", "float16", "int32", "uint8", "bool") if kind != held[name].dtype.name]
    held[name] = held[name].astype(str(rng.choice(kinds)))


def dropped(held: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """One tensor less."""
    del held[some(held, rng)]


def unbounded(held: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """A parameter, or an iterate."""
    name = some(held, rng, ("now/params", "now/leaves", "iterates"))
    held[name] = held[name].copy()
    held[name].flat[0] = [np.nan, np.inf, -np.inf][rng.integers(3)]


def extra(name: str) -> Change:
    """One tensor more."""
    return tensors(lambda held, rng: held.update({name: np.zeros(2, np.float32)}))


def junk(folder: Path, rng: np.random.Generator) -> None:
    """One entry of what the manifest says of the training, at any depth, replaced by something else."""

    def edit(body: dict[str, Any]) -> None:
        here: Any = body["facts"]
        place: Any = str(rng.choice(sorted(here)))
        while isinstance(here[place], (dict, list)) and here[place] and rng.random() < 0.8:
            here = here[place]
            place = str(rng.choice(sorted(here))) if isinstance(here, dict) else int(rng.integers(len(here)))
        choices = [None, -1, "x", [], {}, [[1]], 10**400, -0.5, True]
        here[place] = choices[rng.integers(len(choices))]

    forge(folder, edit)


def endless(name: str) -> Change:
    """An entry of the last history row replaced by a whole number that no float holds."""
    return lambda folder, rng: forge(folder, lambda body: body["facts"]["history"][-1].update({name: 10**400}))


def without(name: str) -> Change:
    """An entry of the manifest less."""
    return lambda folder, rng: forge(folder, lambda body: {key: value for key, value in body.items() if key != name})


def said(name: str, value: Any) -> Change:
    """An entry of the manifest replaced."""
    return lambda folder, rng: forge(folder, lambda body: {**body, name: value})


def header(text: bytes, length: int | None = None) -> Change:
    """A safetensors header of this text, or one that says it is so long."""
    size = struct.pack("<Q", len(text) if length is None else length)
    return raw(".safetensors", lambda data, rng: size + text + bytes(64), agree=True)


def entry(shape: str, offsets: str) -> bytes:
    """A header of one tensor."""
    return f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}'.encode()


def harmful(folder: Path) -> bytes:
    """A pickle that would make a file."""
    return f"cos\nsystem\n(S'touch {folder.parent / 'canary'}'\ntR.".encode()


def pickled(ending: str) -> Change:
    """A pickle under a file's name."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        file(folder, ending).write_bytes(harmful(folder))
        if ending == ".safetensors":
            forge(folder)

    return apply


def gone(ending: str) -> Change:
    """A file less."""
    return lambda folder, rng: file(folder, ending).unlink()


def directory(ending: str) -> Change:
    """A directory under a file's name."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path = file(folder, ending)
        path.unlink()
        path.mkdir()

    return apply


def linked(ending: str, whole: bool) -> Change:
    """To a file outside that holds the same, or to one that does not."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        path, outside = file(folder, ending), folder.parent / f"outside{ending}"
        outside.write_bytes(path.read_bytes() if whole else b"outside")
        path.unlink()
        path.symlink_to(outside)

    return apply


def swapped(ending: str) -> Change:
    """A file of the checkpoint before in the place of the last one's."""
    return lambda folder, rng: shutil.copy(file(folder, ending, BEFORE), file(folder, ending))


def moved(step: int) -> Change:
    """The whole checkpoint, hashes and all, as that of another step."""

    def apply(folder: Path, rng: np.random.Generator) -> None:
        shutil.copy(file(folder, ".safetensors"), file(folder, ".safetensors", step))
        forge(folder, lambda body: {**body, "step": step}, step)

    return apply


#: A family, how often, and what is done.
MUTATIONS: tuple[tuple[str, int, Change], ...] = (
    ("tensors truncated", 8, raw(".safetensors", lambda d, rng: d[: rng.integers(len(d))])),
    ("tensors truncated, hashes agree", 4, raw(".safetensors", lambda d, rng: d[: rng.integers(len(d))], agree=True)),
    ("manifest truncated", 8, raw(".json", lambda d, rng: d[: rng.integers(len(d))])),
    ("tensors flipped", 10, raw(".safetensors", flipped)),
    ("manifest flipped", 10, raw(".json", flipped)),
    ("shape", 12, tensors(reshaped)),
    ("type", 12, tensors(retyped)),
    ("tensor missing", 8, tensors(dropped)),
    ("not finite", 8, tensors(unbounded)),
    ("facts", 30, junk),
    *((f"endless {name}", 1, endless(name)) for name in ("seconds", "step", "skipped")),
    ("name leads outside", 1, extra("../../outside")),
    ("name leads outside", 1, extra("state/../../../outside")),
    ("name is absolute", 1, extra("/outside")),
    ("header", 1, header(b"{}", 2**63 - 1)),
    ("header", 1, header(b"{}", 2**40)),
    ("header", 1, header(b"[" * 100_000)),
    ("header", 1, header(b"{}")),
    ("header", 1, header(entry("[1000000000000]", "[0,4000000000000]"))),
    ("header", 1, header(entry("[4]", "[16,0]"))),
    ("header", 1, header(entry("[-1]", "[0,4]"))),
    ("pickle", 1, pickled(".safetensors")),
    ("pickle", 1, pickled(".json")),
    ("deep", 1, raw(".json", lambda d, rng: b"[" * 1_000_000)),
    ("deep", 1, raw(".json", lambda d, rng: b'{"facts":' * 200_000)),
    ("deep", 1, said("facts", json.loads("[" * 500 + "]" * 500))),
    ("digits", 1, raw(".json", lambda d, rng: b'{"step":' + b"9" * 100_000 + b"}")),
    ("empty", 1, raw(".json", lambda d, rng: b"")),
    ("empty", 1, raw(".safetensors", lambda d, rng: b"")),
    ("empty, hashes agree", 1, raw(".safetensors", lambda d, rng: b"", agree=True)),
    ("encoding", 1, raw(".json", lambda d, rng: d.decode().encode("utf-16"))),
    ("encoding", 1, raw(".json", lambda d, rng: b"\xff" + d)),
    ("no object", 1, raw(".json", lambda d, rng: b"null")),
    ("no object", 1, raw(".json", lambda d, rng: b'"text"')),
    ("no object", 1, raw(".json", lambda d, rng: b'{"sha256": null}')),
    ("gone", 1, gone(".json")),
    ("gone", 1, gone(".safetensors")),
    ("directory", 1, directory(".json")),
    ("directory", 1, directory(".safetensors")),
    ("link", 1, linked(".json", True)),
    ("link", 1, linked(".safetensors", True)),
    ("link", 1, linked(".json", False)),
    ("link", 1, linked(".safetensors", False)),
    ("of another step", 1, swapped(".json")),
    ("of another step", 1, swapped(".safetensors")),
    ("of another step", 1, moved(LAST + 1)),
    ("of another step", 1, moved(99_999_999)),
    ("of another step", 1, moved(10**30)),
    ("step", 1, lambda folder, rng: (folder / f"{'9' * 200}.json").write_text("{}")),
    ("format", 1, said("format", 2)),
    *((f"no {name}", 1, without(name)) for name in ("format", "step", "tensors", "about", "facts")),
    *((f"{name} is null", 1, said(name, None)) for name in ("about", "facts", "tensors")),
)


# --- what comes of it ---------------------------------------------------------------------------------------------------


def outcome(engine: str, folder: Path, sound: dict[int, dict[str, np.ndarray]]) -> tuple[str, str]:
    """How resuming to epoch 7 ends, "refused", "passed over", "harmless" or what is wrong, and the sentence."""
    try:
        found = trained(engine, folder, 7, resume=True)
    except InputError as error:
        return ("refused" if "\n" not in str(error) else "many lines"), str(error)
    except BaseException as error:
        return "broken", f"{type(error).__name__}: {error}"
    same = {step: all(np.array_equal(found.params[n], v) for n, v in params.items()) for step, params in sound.items()}
    if found.passed_over:
        return ("passed over" if same[BEFORE] and "\n" not in found.passed_over[0] else "fooled"), found.passed_over[0]
    return ("harmless" if same[LAST] else "fooled"), ""


def outside(folder: Path) -> dict[str, bytes]:
    """What lies beside the folder."""
    return {path.name: path.read_bytes() for path in folder.parent.iterdir() if path.is_file()}


def measure(engine: str, share: int = 1, mutations: tuple[tuple[str, int, Change], ...] = MUTATIONS) -> list[dict[str, Any]]:
    """A row a mutation; of each family every `share`-th and the first."""
    with tempfile.TemporaryDirectory() as made:
        base, rows = Path(made) / "base", list[dict[str, Any]]()
        trained(engine, base, LAST)
        whole = trained(engine, Path(made) / "whole", 7).params  # never stopped: what either checkpoint must lead to
        sound = {BEFORE: whole, LAST: whole}
        for number, (family, count, change) in enumerate(mutations):
            for i in range(0, count, share):
                place = Path(made) / f"{number}-{i}"
                folder = Path(shutil.copytree(base, place / "checkpoint"))
                change(folder, np.random.default_rng([number, i]))
                before, began = outside(folder), time.perf_counter()
                how, sentence = outcome(engine, folder, sound)
                rows.append({
                    "engine": engine, "family": family, "outcome": how, "seconds": time.perf_counter() - began,
                    "outside": outside(folder) != before, "sentence": sentence.replace(made, "")[:300],
                })  # fmt: skip
                shutil.rmtree(place)
    return rows


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All mutations on both engines; quick, a fifth of each family."""
    rows = [row for engine in ENGINES for row in measure(engine, 5 if quick else 1)]
    fine = [row["outcome"] in ("refused", "passed over", "harmless") for row in rows]
    counts = {how: sum(row["outcome"] == how for row in rows) for how in {row["outcome"] for row in rows}}
    return {
        "device": "cpu", "share": float(np.mean(fine)), "mutations": min(sum(r["engine"] == e for r in rows) for e in ENGINES),
        "outside": sum(row["outside"] for row in rows), "longest": max(row["seconds"] for row in rows), "counts": counts,
        "rows": rows,
    }  # fmt: skip
