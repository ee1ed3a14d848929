"""The compiled part of the package; all else stands in pyproject.toml, whose table for extensions is experimental.

Where no compiler is at hand the package installs without it, and numpy does the same work slower: `crosswind solvers`
says which one is in use.
"""

import os

from setuptools import Extension, setup

SOURCES = ("check", "mpc", "mpc_face", "schedule", "schedule_face", "module")

setup(
    ext_modules=[
        Extension(
            "crosswind.solvers.native._core",
            sources=[f"solvers/native/{name}.c" for name in SOURCES],
            depends=[f"solvers/native/{name}.h" for name in SOURCES if name != "module"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            # No fused multiply-adds: decisions are the same to the last bit on every machine.
            extra_compile_args=[] if os.name == "nt" else ["-ffp-contract=off"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
