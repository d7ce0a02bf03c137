"""Diagnostics of trained energies: observables of their chains, as an ArviZ tree, and a verdict."""

from .diagnose import diagnose
from .observe import Observed, data_energies, observe
from .summary import summary
from .tree import ranks, to_tree
from .verdict import Verdict, verdict

__all__ = ["Observed", "Verdict", "data_energies", "diagnose", "observe", "ranks", "summary", "to_tree", "verdict"]
