"""The last check: limits on lots that hold whatever the program or a rule has asked for.

It shares no code with the program. Each cut is towards fewer lots; what comes out keeps room (clip and liquidity),
order size, notional, messages and rate, and does not increase an excess of the gap caps. A rate bounds how fast a trade
grows or turns; slowing down and stopping are always allowed.
"""

from __future__ import annotations

import math

__all__ = ["cut_lots"]

_EDGE = 1e-9  # of a lot


def _whole(lots: float) -> int:
    """Return the whole lots within a bound, which may be infinite."""
    return math.floor(lots + _EDGE) if lots < 1e15 else 10**15


def _kept(lots: int, sent: int, before: int, rate: float) -> bool:
    """Return whether a trade keeps the rate: it stops, changes by no more than that, or slows down without turning."""
    total = sent + lots
    return lots == 0 or abs(total - before) <= rate + _EDGE or (total * before >= 0 and abs(total) < abs(before))


def cut_lots(
    lots: list[int],
    *,
    room: list[float],
    size: list[float],
    rate: list[float],
    before: list[int],
    sent: list[int],
    worst: list[tuple[float, float]],
    notional: list[float],
    gap: list[float],
    gap_cap: tuple[float, ...],
    loadings: list[list[float]],
    messages: float,
    names: list[str],
) -> tuple[list[int], tuple[str, ...]]:
    """Return the lots that may be sent and the limits that cut them.

    Parameters
    ----------
    lots
        Asked for (m,).
    room, size, rate, notional
        Limits in lots (m,): what the slice still takes, one order, change between slices, position.
    before, sent
        Lots of the slice before and those already sent in this one (m,).
    worst
        Lowest and highest position with what is in flight (m,) [lots].
    gap, gap_cap
        By exposure (k,) [currency].
    loadings
        Exposure of one lot (k, m) [currency].
    messages
        Orders that may still be sent.
    names
        Of the instruments.
    """
    out, binding = list(lots), []
    for j, want in enumerate(lots):
        n = want
        if not _kept(n, sent[j], before[j], rate[j]):
            low, high = before[j] - rate[j] - sent[j], before[j] + rate[j] - sent[j]
            n = math.ceil(low - _EDGE) if n < low else math.floor(high + _EDGE)
            # Where the band lies on the other side, the way to turn is to stop first.
            n = n if n * want > 0 else 0
            binding.append(f"rate: {names[j]}")
        for bound, name in ((room[j], "room"), (size[j], "order size")):
            whole = _whole(bound)
            if abs(n) > whole:
                n = whole if n > 0 else -whole
                binding.append(f"{name}: {names[j]}")
        if n and notional[j] != math.inf:
            free = notional[j] - worst[j][1] if n > 0 else notional[j] + worst[j][0]
            # A trade that lessens what is held needs no room.
            lessens = max(0.0, -worst[j][1]) if n > 0 else max(0.0, worst[j][0])
            whole = _whole(max(free, lessens, 0.0))
            if abs(n) > whole:
                n = whole if n > 0 else -whole
                binding.append(f"notional: {names[j]}")
        out[j] = n if _kept(n, sent[j], before[j], rate[j]) else 0
    out = _within_gap(out, gap, gap_cap, loadings, rate, before, sent, binding)
    wanted = [j for j, n in enumerate(out) if n]
    if len(wanted) > messages:
        wanted.sort(key=lambda j: (abs(sum(row[j] for row in loadings) * out[j]), j))
        for j in wanted[: len(wanted) - int(messages)]:
            out[j] = 0
            binding.append(f"messages: {names[j]}")
        # A leg that is missing may turn the rest against the gap.
        if any(out) and not _allowed(out, gap, gap_cap, loadings):
            out = [0] * len(out)
    return out, tuple(dict.fromkeys(binding))


def _allowed(lots: list[int], gap: list[float], gap_cap: tuple[float, ...], loadings: list[list[float]]) -> bool:
    for i, row in enumerate(loadings):
        after = gap[i]
        for j, n in enumerate(lots):
            if n:
                after -= row[j] * n
        if abs(after) > max(gap_cap[i], abs(gap[i])) * (1.0 + 1e-12):
            return False
    return True


def _within_gap(
    lots: list[int],
    gap: list[float],
    gap_cap: tuple[float, ...],
    loadings: list[list[float]],
    rate: list[float],
    before: list[int],
    sent: list[int],
    binding: list[str],
) -> list[int]:
    if not any(lots) or _allowed(lots, gap, gap_cap, loadings):
        return lots
    share = 1.0
    for i, row in enumerate(loadings):
        effect = math.fsum(row[j] * n for j, n in enumerate(lots))
        most = max(gap_cap[i], abs(gap[i]))
        if effect > 0.0:
            share = min(share, (gap[i] + most) / effect)
        elif effect < 0.0:
            share = min(share, (gap[i] - most) / effect)
    binding.append("gap cap")
    out = [int(n * share) for n in lots]  # towards zero
    for j, n in enumerate(out):
        if not _kept(n, sent[j], before[j], rate[j]):
            out[j] = 0
    return out if _allowed(out, gap, gap_cap, loadings) else [0] * len(out)
