"""The compiled part of the package; all else stands in pyproject.toml, whose table for extensions is experimental.

Where no compiler is at hand the package installs without it, and numpy does the same work slower: `crosswind solvers`
says which one is in use.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "crosswind.solvers.native._core",
            sources=["solvers/native/check.c", "solvers/native/module.c"],
            depends=["solvers/native/check.h"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
