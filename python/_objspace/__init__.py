"""The start of the `objspace` command.

It stands outside the package, because importing the package loads the compiled engine, and that
refuses a Python it does not know: here the refusal becomes a line that says what to do.
"""

import sys

SUPPORTED = "CPython 3.11, 3.12 or 3.13 (with the GIL)"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        from objspace._cli import run
    except ImportError as error:
        print(f"objspace: {refusal(error)}", file=sys.stderr)
        return 2
    return run(sys.argv[1:] if argv is None else argv)


def refusal(error: ImportError) -> str:
    """Why the package cannot be imported, in one line."""
    if isinstance(error, ModuleNotFoundError) and error.name == "objspace._core":
        return (
            f"the compiled part is missing for {sys.executable}; "
            f"install objspace into {SUPPORTED} with 'pip install --force-reinstall objspace'"
        )
    text = " ".join(str(error).split())
    return text if "3.11" in text else f"{text}; use {SUPPORTED}"
