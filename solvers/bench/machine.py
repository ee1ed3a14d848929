"""What a reader needs to place the figures: machine, versions, threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from crosswind.solvers.bench.lane import thread_environment
from crosswind.solvers.bench.memory import total_mb

__all__ = ["machine_facts"]


def machine_facts() -> dict[str, Any]:
    """Return processor, cores, memory, load over the last minute, system, versions and the workers' thread settings."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version()}
    for name in ("crosswind", "numpy", "scipy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": usable,
        "memory_mb": round(total_mb()),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "threads": thread_environment(),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
