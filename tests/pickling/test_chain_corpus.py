"""Random programs that run deep, pickled at every place where that is possible, one after the other.

40 programs run here; `make soak-pickling` runs more: `OBJSPACE_CHAINS=1000`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("chain_corpus.py")
COUNT = int(os.environ.get("OBJSPACE_CHAINS", "40"))
FIRST = int(os.environ.get("OBJSPACE_CHAINS_FIRST", "0"))
BATCH = 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, BATCH))
def test_a_program_that_moves_wherever_it_can_does_what_it_would_have_done(first):
    done = subprocess.run(
        [sys.executable, PROGRAM, str(first), str(BATCH)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moves, refused = map(int, done.stdout.split())
    assert moves > 10 * BATCH
    # Where C code stands in between: `in` with a truth of its own, `list()`, unpacking.
    assert refused < moves / 4
