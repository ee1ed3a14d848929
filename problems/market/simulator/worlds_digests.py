"""Digests of the declared worlds, set down before policies are tuned in them.

A test recomputes them. Whoever changes a number adds a version of the world and its digest; no line here is edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DIGESTS"]

DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "calm@1": "853dde5155cda85223c0600e653afe2b7d963109f69ed0f3448d0bc1665994d1",
        "stress@1": "5fdf0b6bb4fffbe4e4844db1be0f37ca62e6987edde1ea004792e0d421e3e9cb",
        "basis_shock@1": "dc92444fd427892aa792b329b1ee8e418757a4ee1bae9833941ed10bb2926b47",
        "correlation_break@1": "07cb380a69cf91e786562e7d8e035708910305b5af672e83a00da08ff9aa8bf4",
        "roll_day@1": "012b7b7fec75d3ff6ef69f6c724e4fa1cd625327460625cffd9bfa77e2babef3",
        "funding@1": "7815e58e6576e92fe20b36f056c3e43315e29bae806ce29be39909141f78f947",
        "revisions@1": "305dcec9653af0dcd1c3a21ae6e5c793d2e417d1dc845f9bf825f35be5a6c2b8",
        "rate_limited@1": "b8c1fc94ff8e8e908ddaf84569bf14ce66b781b08d1e4fff594d2141d5da57d0",
        "zero_impact@1": "afd0341fd1b1e9b1ebd742b28fb4ea5bc9047b4cd89d71f4b7ad2bca551f9351",
        "misspecified@1": "30338fb3e7bd950bd574b4a3bb4f2f19bf38be01ff1ed8d020ebbbb9839ce1c1",
    }
)
