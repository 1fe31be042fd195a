"""Random programs, paused at every yield, pickled, and run on in another process.

What a program yields, returns, raises (with the lines of its traceback) and writes to its log must be
exactly that of the uninterrupted run. 200 programs run here; `make soak-pickling` runs more:
`OBJSPACE_CORPUS=2000`.
"""

import base64
import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from objspace import pickling

HERE = Path(__file__).parent
COUNT = int(os.environ.get("OBJSPACE_CORPUS", "200"))
FIRST = int(os.environ.get("OBJSPACE_CORPUS_FIRST", "0"))
BATCH = 50
MOST = 60
WARM = 40


@pytest.fixture(scope="module")
def corpus():
    spec = importlib.util.spec_from_file_location("objspace_corpus", HERE / "corpus.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Child:
    """A process that loads pickles and drives what is in them."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "corpus.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *question):
        data, *rest = question
        self.process.stdin.write(json.dumps([base64.b64encode(data).decode(), *rest]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the child has died"
        return json.loads(line)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    made = Child(folder)
    made.folder = folder
    yield made
    made.process.communicate(timeout=20)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, BATCH))
def test_a_pause_at_every_yield_changes_nothing(corpus, child, monkeypatch, first):
    seeds = range(first, min(first + BATCH, FIRST + COUNT))
    name = f"corpus_{first}"
    (child.folder / f"{name}.py").write_text(corpus.module(seeds))
    monkeypatch.syspath_prepend(child.folder)
    importlib.invalidate_caches()
    made = importlib.import_module(name)
    pauses = 0
    for seed in seeds:
        function = getattr(made, f"f_{seed}")
        log = []
        whole = corpus.drive(function(log), log, 0, MOST)
        choice = random.Random(seed)
        if choice.random() < 0.5:
            # Specialised code is not what is written.
            for _ in range(WARM):
                log = []
                corpus.drive(function(log), log, 0, MOST)
        yields = sum(1 for entry in whole if entry[0] == "yield")
        for pause in range(yields + 1):
            log = []
            generator = function(log)
            for number in range(pause):
                generator.send(None if number == 0 or number % 3 == 2 else number)
            data = pickling.dumps((generator, log), code=choice.choice(["auto", "value"]))
            told = child.ask(data, pause, MOST)
            assert told == whole[pause:], (
                f"program {seed}, pause {pause}\n{corpus.program(seed)}\n{told}"
            )
            corpus.end(generator)
            pauses += 1
    assert pauses > len(seeds)
    sys.modules.pop(name)


def test_the_programs_contain_what_they_should(corpus):
    text = corpus.module(range(60))
    for part in (
        "while ", "for ", "try:", "except*", "finally:", "with ", "yield from", "lambda", "nonlocal",
        "match ", "else:", "raise", "break", "continue", "return ", "def g", "f'{", "*[",
    ):  # fmt: skip
        assert part in text, part
