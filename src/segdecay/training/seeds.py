"""Seeds for every random draw of a cell, as a function of what is drawn; so a resumed cell draws the same.

Knows numbers only.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed from 0 to 2**62 - 1 that depends on all parts and on nothing else.

    >>> derive_seed(0, "init") == derive_seed(0, "init"), derive_seed(0, "init") == derive_seed(1, "init")
    (True, False)
    """
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
