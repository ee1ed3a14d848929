"""Digests of the declared worlds, set down before policies are tuned in them.

A test recomputes them. Whoever changes a number adds a version of the world and its digest; no line here is edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DIGESTS"]

DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "calm@1": "09508003c9c1c3959235a5953593dffdae57395a6cfc6768128efda4fc482f8a",
        "stress@1": "5d2d71484a7a0d4ce9f24a71bcfb8b1b04e8088de8bcc2befd1dfff91e87e0a1",
        "basis_shock@1": "51dd91cc37d504310ccb714f423e7a630ece0ddbe229834f9651b994ba8153d5",
        "correlation_break@1": "e94f2cda76305beac1777401b164ff46e5593b4b2c0ea477540eb68746e85000",
        "roll_day@1": "b0a5c92512b69c05a5b52084984eb13239d2911f5b9291439f7dd8544449f795",
        "funding@1": "56d62b457667189326a64f6965bad9fc098a9263ec11c952fdd149004e8945f5",
        "revisions@1": "98fec795e54c0e31abeb96c2609ded4b812c5857a32288f2938a67c3d4f194ac",
        "rate_limited@1": "8e24ab32aa625058fef9624987319771259f040927efb6b3b593137edfabb3f3",
        "zero_impact@1": "8bb8e27d2c452f3d76fa005fcf1c735f3d480fb16dbc91a8f7564f542dd6b49d",
        "misspecified@1": "1e6a77f72993c52959bb57e35cd1c91cf72d1ec4743366a3f05c8d258c5284c3",
    }
)
