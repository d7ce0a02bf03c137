"""Threefry-2x32 with 20 rounds: random words from a key and a counter (Salmon, Moraes, Dror and Shaw 2011, section 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def words(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """The cipher of two 32-bit words under two: elementwise, so that a compiler fuses it with what uses the words.

    Arrays of uint32 of NumPy or JAX; each counter gives two words. Passes BigCrush from 13 rounds on (table 2 there).
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for bits in ROTATIONS[block % 2]:
            a = a + b
            b = a ^ (b << np.uint32(bits) | b >> np.uint32(32 - bits))
        a, b = a + keys[(block + 1) % 3], b + keys[(block + 2) % 3] + np.uint32(block + 1)
    return a, b
