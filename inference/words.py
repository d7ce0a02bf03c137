"""A comparison in words: the table as text, and its finding in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plots import number, percent, seconds


def table(results: Mapping[str, Any], point: str = "trained") -> str:
    """The comparison as text, the rows of one point."""
    head = ("estimator", "verdict", "bias", "detectable", "variance", "a gradient", "efficiency", "held-out ELBO")
    lines: list[tuple[str, ...]] = [head]
    for row in results["estimators"]:
        if row["point"] != point:
            continue
        if not row["applicable"]:
            lines.append((row["name"], "does not apply", "", "", "", "", "", ""))
            continue
        final = row["final_elbo"]
        lines.append((
            row["name"], row["verdict"], percent(row["bias_relative"]["value"]), percent(row["minimal_detectable_bias"]),
            number(row["variance_trace"]["value"]), seconds(row["seconds_per_gradient"]), number(row["efficiency"]),
            number(final["value"]) if final else "–",
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def sentence(results: Mapping[str, Any]) -> str:
    """The finding in one sentence: who is exact, which honest estimator is the most efficient, and who is biased."""
    rows = [r for r in results["estimators"] if r["point"] == "trained" and r["applicable"]]
    broken = [r for r in rows if r["reason"]]
    honest = [r for r in rows if r["verdict"] != "biased" and r["unbiased_for"] and not r["reason"]]
    biased = [r["name"] for r in rows if r["verdict"] == "biased"]
    exact = [r["name"] for r in honest if r["efficiency"] is None]
    noisy = sorted((r for r in honest if r["efficiency"] is not None), key=lambda r: -r["efficiency"])
    parts = []
    if exact:
        parts.append(f"{exact[0]} is exact here")
    if noisy:
        best = noisy[0]
        text = f"{best['name']} buys the most precision per second" + (" of the sampled estimators" if exact else "")
        plain = next((r for r in noisy if r["name"] == "score"), None)
        if plain is not None and plain is not best:
            ratio = plain["variance_trace"]["value"] / best["variance_trace"]["value"]
            text += f", its variance {_times(ratio)} below the score function's"
        parts.append(text)
    parts += [f"of {r['name']}, {r['reason'].partition(';')[0]}" for r in broken]
    if biased:
        listed = " and ".join(filter(None, [", ".join(biased[:-1]), biased[-1]]))
        parts.append(f"{listed} {'is' if len(biased) == 1 else 'are'} biased")
    return f"On {results['model']} with {results['data']['name']} ({results['engine']}): {'; '.join(parts)}."


def _times(ratio: float) -> str:
    return f"{ratio:.2g}×" if ratio < 100 else f"{ratio:,.0f}×"
