#!/usr/bin/env python3
"""Compare the struct layouts and opcodes of objspace-interp with the headers of a Python.

    python3 tools/layout-check/layout_check.py [PYTHON ...]

Each PYTHON (the running one if none is given) is a path or a command. The facts come from the crate
itself, which is built for that Python; the truth comes from a C program that is compiled against its
internal headers. Exit status: 0 all equal, 1 something differs, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Where the expressions of the crate's tables are declared. A header that a version lacks is left out.
HEADERS = [
    "Python.h",
    "opcode.h",
    "internal/pycore_frame.h",
    "internal/pycore_code.h",
    "internal/pycore_long.h",
    "internal/pycore_opcode.h",
    "internal/pycore_opcode_metadata.h",
    "internal/pycore_opcode_utils.h",
]
REQUIRED = ["Python.h", "opcode.h", "internal/pycore_frame.h", "internal/pycore_code.h"]

ASK = """
import json, platform, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "include": sysconfig.get_path("include"),
    "platinclude": sysconfig.get_path("platinclude"),
}))
"""


class CannotCheckError(Exception):
    """Something that the check needs is missing; the message says what."""


def run(command: list[str], **options: object) -> str:
    """The output of a command."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if result.returncode != 0:
        raise CannotCheckError(f"{' '.join(command[:4])} … failed:\n{result.stderr.strip()}")
    return str(result.stdout)


def describe(python: str) -> dict[str, str]:
    """What there is to know about a Python."""
    path = shutil.which(python)
    if path is None:
        raise CannotCheckError(f"there is no Python {python!r}")
    found: dict[str, str] = json.loads(run([path, "-c", ASK]))
    return found


def facts(python: dict[str, str]) -> list[tuple[str, int]]:
    """The expressions and values of the crate, built for this Python."""
    minor = ".".join(python["version"].split(".")[:2])
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target" / f"py{minor}"))
    environment = {**os.environ, "PYO3_PYTHON": python["executable"], "CARGO_TARGET_DIR": target}
    command = ["cargo", "run", "-q", "-p", "objspace-interp", "--example", "layout"]
    lines = run(command, cwd=ROOT, env=environment).splitlines()
    pairs = (line.split("\t", 1) for line in lines)
    return [(expression, int(value)) for value, expression in pairs]


def truth(python: dict[str, str], expressions: list[str]) -> list[int]:
    """The values of the expressions, by the headers of this Python."""
    include = Path(python["include"])
    missing = [str(include / header) for header in REQUIRED if not (include / header).exists()]
    if missing:
        minor = ".".join(python["version"].split(".")[:2])
        raise CannotCheckError(
            f"headers of {python['executable']} are missing:\n  "
            + "\n  ".join(missing)
            + f"\nInstall them (Debian: python{minor}-dev; other distributions: python{minor}-devel; pyenv has them)."
        )
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise CannotCheckError("there is no C compiler: install one, or name it in CC")
    lines = [
        "#define Py_BUILD_CORE 1",
        "#define NEED_OPCODE_TABLES 1",
        "#define NEED_OPCODE_METADATA 1",
    ]
    lines += [f'#include "{header}"' for header in HEADERS if (include / header).exists()]
    lines += ["#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    lines += [
        f'    printf("%llu\\n", (unsigned long long)({expression}));' for expression in expressions
    ]
    lines += ["    return 0;", "}"]
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "check.c"), Path(folder, "check")
        source.write_text("\n".join(lines) + "\n")
        includes = [f"-I{include}", f"-I{include / 'internal'}", f"-I{python['platinclude']}"]
        # Functions of the headers that the program does not use may need libpython: leave them out.
        run(
            [
                compiler,
                "-O1",
                "-w",
                "-ffunction-sections",
                "-fdata-sections",
                "-Wl,--gc-sections",
                "-Wl,--unresolved-symbols=ignore-all",
                *includes,
                str(source),
                "-o",
                str(program),
            ]
        )
        return [int(line) for line in run([str(program)]).split()]


def check(name: str, *, quiet: bool) -> bool:
    """Prints the table of one Python; whether all is equal."""
    python = describe(name)
    print(f"{python['implementation']} {python['version']}, {python['executable']}")
    ours = facts(python)
    theirs = truth(python, [expression for expression, _ in ours])
    width = max(len(expression) for expression, _ in ours)
    different = 0
    for (expression, value), real in zip(ours, theirs, strict=True):
        different += value != real
        if value != real or not quiet:
            print(
                f"  {expression:{width}}  {value:6} {real:6}  {'ok' if value == real else 'DIFFERENT'}"
            )
    print(f"  {len(ours)} facts, {different} different")
    return not different


def main() -> int:
    """The command."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "python", nargs="*", default=[sys.executable], help="path or command of a Python"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print differences only")
    options = parser.parse_args()
    status = 0
    for python in options.python:
        try:
            if not check(python, quiet=options.quiet):
                status = max(status, 1)
        except CannotCheckError as error:
            print(f"{python}: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
