"""Digests of the declared worlds, set down before policies are tuned in them.

A test recomputes them. Whoever changes a number adds a version of the world and its digest; no line here is edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DIGESTS"]

DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "calm@1": "1156ae40fdfb9fb58153cd73ef24a7c4db2b45a9c4e87cfbc253ffe35e6d090d",
        "stress@1": "8db60ca2220a8e3ac28ffa83891b33ac89b9a82a7a1154da4a6d6081461ca850",
        "basis_shock@1": "64b894099b04c66e96ff80521bdbb71f8724e086f5528b26e5843917783d0aff",
        "correlation_break@1": "ba888bc6563d37cf38991a3b98abee3e9e415160d610f711c02152403bbed5ff",
        "roll_day@1": "43aae3551a10d89f67272955fb973d423aa6483808f12363b131633086afac4b",
        "funding@1": "94e7ebb092115bc3b4ddf5b03ede635b14fc0da413638a6c2e18aa23b04fe9d9",
        "revisions@1": "324ac4e28442eb7e003be8f3020320d402e3035ecdd1a0db45a6211c4829363b",
        "rate_limited@1": "434fa9a018945d1c989871ba2bb75d6d90f7aba775eb3cc7a7d33e8d7b43bad3",
        "zero_impact@1": "7c8b0b010ec08094f91235b7d7864b96644efc86088feee57219179fe564df9a",
        "misspecified@1": "e1207c85498f7ca7ec6dd97f394bfa640bf7a3fa9b39da16cbe2acbaa7ecc1f0",
    }
)
