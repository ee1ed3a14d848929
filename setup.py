"""The compiled part of the package; all else stands in pyproject.toml, whose table for extensions is experimental.

Where no compiler is at hand the package installs without it, and numpy does the same work slower: `crosswind solvers`
says which one is in use.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "crosswind.solvers.native._core",
            sources=[f"solvers/native/{name}.c" for name in ("check", "schedule", "schedule_face", "module")],
            depends=[f"solvers/native/{name}.h" for name in ("check", "schedule", "schedule_face")],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
