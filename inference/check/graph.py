"""A model's graph as text: an arrow from each site that a density reads to the site whose density it is."""

from __future__ import annotations

from collections.abc import Iterator

from .walk import Relations, Site, Walk

ARROWS = {"latent": "([{}])", "observed": "[{}]", "factor": "{{{{{}}}}}"}  # mermaid's round, square and six-sided nodes


def mermaid(walk: Walk, relations: Relations) -> str:
    """The model as a Mermaid flowchart: latents round, observed sites square, factors six-sided, plates as boxes.

    Args:
        walk: The sites.
        relations: What each reads.
    """
    sites = list(walk.of("model").values())
    ids = {site.name: f"s{i}" for i, site in enumerate(sites)}
    lines = ["flowchart TD", *_boxes(sites, ids, ())]
    lines += [f"  {ids[parent]} --> {ids[name]}" for parent, name in edges(walk, relations)]
    return "\n".join(lines)


def edges(walk: Walk, relations: Relations) -> list[tuple[str, str]]:
    """Pairs (parent, site) of the model, in the order of its sites."""
    names = walk.of("model")
    return [(parent, name) for name in names for parent in relations.parents.get(name, ()) if parent in names]


def _boxes(sites: list[Site], ids: dict[str, str], outer: tuple[str, ...]) -> Iterator[str]:
    """The sites that stand in the plates `outer` and no others, then each further plate with what stands in it."""
    pad, depth = "  " * (len(outer) + 1), len(outer)
    here = [site for site in sites if site.plates[:depth] == outer]
    for site in here:
        if len(site.plates) == depth:
            label = f'"{_quoted(site.name)} ~ {site.distribution}"' if not site.factor else f'"{_quoted(site.name)}"'
            yield pad + ids[site.name] + ARROWS[site.kind].format(label)
    for name in dict.fromkeys(site.plates[depth] for site in here if len(site.plates) > depth):
        frame = next(f for site in here for f in site.frames if f.name == name)
        rows = f"{frame.rows} of {frame.size}" if frame.rows != frame.size else f"{frame.size}"
        box = f"plate_{ids[next(s.name for s in here if name in s.plates)]}_{depth}"
        yield f'{pad}subgraph {box}["{_quoted(name)}: {rows}"]'
        yield from _boxes([site for site in here if site.plates[depth : depth + 1] == (name,)], ids, (*outer, name))
        yield f"{pad}end"


def _quoted(name: str) -> str:
    return name.replace('"', "#quot;")


def arrows(edges: list[tuple[str, str]], names: list[str]) -> str:
    """The graph in lines for a terminal: `z → x`, and sites that read nothing and are read by none by themselves."""
    alone = [name for name in names if not any(name in pair for pair in edges)]
    return "\n".join([*(f"{parent} → {name}" for parent, name in edges), *alone])
