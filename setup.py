"""The one compiled module, and how it is built; everything else stands in pyproject.toml.

Environment: ``PADDLEINFER_SANITIZE=thread|address`` and ``PADDLEINFER_DEBUG=1``.
"""

import os
import sys
from pathlib import Path

import numpy
from setuptools import Extension, find_packages, setup

SANITIZERS = ("thread", "address")


def compile_arguments() -> list[str]:
    """For g++ and clang++."""
    arguments = ["-std=c++17", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    # What Cython generates initialises its tables in part.
    arguments += ["-Wno-missing-field-initializers"]
    if os.environ.get("PADDLEINFER_DEBUG") == "1":
        arguments += ["-O0", "-g"]
    else:
        arguments += ["-O2", "-g1"]
    return arguments + sanitizer_arguments()


def sanitizer_arguments() -> list[str]:
    """For compiling and linking."""
    sanitizer = os.environ.get("PADDLEINFER_SANITIZE")
    if not sanitizer:
        return []
    if sanitizer not in SANITIZERS:
        sys.exit(f"PADDLEINFER_SANITIZE must be one of {', '.join(SANITIZERS)}, not {sanitizer!r}")
    return [f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer"]


setup(
    packages=[
        *find_packages(include=["paddleinfer", "paddleinfer.*"]),
        "paddleinfer.shim",
        *(f"paddleinfer.shim.{name}" for name in find_packages("shim")),
    ],
    package_dir={"paddleinfer": "paddleinfer", "paddleinfer.shim": "shim"},
    package_data={"paddleinfer": ["py.typed", "*.pyi"], "paddleinfer.shim.http": ["web/*"]},
    ext_modules=[
        Extension(
            "paddleinfer._ext",
            sources=["_ext/binding/_ext.pyx"],
            depends=sorted(map(str, Path("_ext").rglob("*.[hp]*"))),
            include_dirs=["_ext", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            libraries=["dl", "pthread"],
            language="c++",
            extra_compile_args=compile_arguments(),
            extra_link_args=sanitizer_arguments(),
        )
    ],
    options={"build_ext": {"cython_c_in_temp": True, "cython_directives": {"language_level": "3str"}}},
)
