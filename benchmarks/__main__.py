"""`python -m benchmarks NAME [--quick] [--budget MINUTES] [--json]` measures; `--list` shows what stands."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.claims import CLAIMS, known, row
from ppl_models.errors import InputError, NumericalError


def minutes(text: str) -> float:
    """A positive number of minutes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"a positive number of minutes was expected, {text!r} came")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parse.add_argument("name", nargs="?", help=f"one of {', '.join(known())}")
    parse.add_argument("--list", action="store_true", help="every claim, with its value and whether it holds")
    parse.add_argument("--quick", action="store_true", help="measure in under five minutes; nothing is stored")
    parse.add_argument("--budget", type=minutes, metavar="MINUTES", help="stop measuring after so long")
    parse.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")
    return parse


def rows(records: dict[str, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The claims that the named benchmarks settle, each beside its record."""
    claims = [claim for claim in CLAIMS if claim.benchmark in records]
    found = [(claim, records[claim.benchmark]) for claim in claims]
    return [row(claim, kept, stale=kept is not None and record.stale(kept)) for claim, kept in found]


def measure(name: str, quick: bool, budget: float | None) -> dict[str, Any]:
    """Run one benchmark. Its result may name its `device` and the `sources` that its subprocesses imported."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        result = dict(importlib.import_module(f"benchmarks.{name}").run(quick=quick, budget=budget))
    sources = {**record.sources(f"benchmarks.{name}"), **result.pop("sources", {})}
    device = result.pop("device", "cpu")
    made = record.manifest(time.perf_counter() - start, quick, device)
    return record.strict({"name": name, "result": result, "manifest": made, "sources": sources})


def line(row: dict[str, Any]) -> str:
    """A claim for people."""
    verdict = {True: "holds", False: "FAILS", None: "stale" if row["stale"] else "open"}[row["holds"]]
    value = row["value"]
    if isinstance(value, dict):
        value = f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    needs = f" (needs {row['needs']})" if row["needs"] else ""
    return f"{verdict:5}  {row['name']}: {value} {row['target']['op']} {row['target']['value']}{needs}  {row['claim']}"


def main(arguments: list[str] | None = None, folder: Path = record.RESULTS) -> int:
    """Exit 0 if measured or listed, 2 on bad input, 4 if the computation broke."""
    given = parser().parse_args(arguments)
    if given.list:
        table = rows({name: record.load(name, folder) for name in known()})
        print(record.dumps({"claims": table}) if given.json else "\n".join(map(line, table)))
        return 0
    if given.name not in known():
        print(f"There is no benchmark {given.name!r}: the known ones are {', '.join(known())}.", file=sys.stderr)
        return 2
    try:
        kept = measure(given.name, given.quick, given.budget)
    except (InputError, NumericalError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 4
    if not given.quick:
        print(f"Stored {record.store(kept, folder).name}.", file=sys.stderr)
    table = rows({given.name: kept})
    print(record.dumps({**kept, "claims": table}) if given.json else "\n".join(map(line, table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
