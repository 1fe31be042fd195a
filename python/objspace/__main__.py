"""`python -m objspace` is the `objspace` command."""

import sys

from _objspace import main

if __name__ == "__main__":
    sys.exit(main())
