"""The `objspace` command; also `python -m objspace`."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    from objspace._cli import run

    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
