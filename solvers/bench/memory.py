"""Memory of a process, from the kernel's own account."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["peak_mb", "reset_peak", "resident_mb", "total_mb"]


def resident_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process [MB], NaN where the system does not tell."""
    return _field("VmRSS", pid)


def peak_mb() -> float:
    """Return the largest resident memory of this process since :func:`reset_peak` [MB]."""
    found = _field("VmHWM", "self")
    if found == found:
        return found
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def reset_peak() -> None:
    """Start the account of :func:`peak_mb` anew, where the kernel allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def total_mb() -> float:
    """Return the machine's memory [MB], NaN where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal"):
                return float(line.split()[1]) / 1024.0
    return float("nan")


def _field(name: str, pid: int | str) -> float:
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return float(line.split()[1]) / 1024.0
    return float("nan")
