"""The console sessions of docs/dump.md run, and print what the document says.

Serials and numbers of operations differ between versions of Python: any number after a # or at the
beginning of a line stands for any other. `…` alone stands for lines, within a line for text.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "dump.md"
BLOCK = re.compile(
    r"(?:^<!-- file: (?P<file>[\w.]+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def pattern(lines):
    """What output must match, from the lines of the document."""
    parts = []
    for line in lines:
        if line == "…":
            parts.append(r"(?:.*\n)*?")
            continue
        text = re.escape(line).replace("…", ".*")
        text = re.sub(r"\\#\d+", r"\\#\\d+", text)
        text = re.sub(r"operation\\ \d+", r"operation\\ \\d+", text)
        text = re.sub(r"^((?:[-+*]|\\[-+*]|\\ )*)\d+\\ ", r"[-+* ]*\\d+\\ ", text)
        parts.append(text + "\n")
    return "".join(parts)


def sessions(text):
    """Each command with the lines that it prints."""
    command, said = None, []
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, said
            command, said = line[2:], []
        else:
            said.append(line)
    yield command, said


def test_sessions(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, arguments in (("objspace", "-m objspace "), ("python", "")):
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    compared = 0
    for block in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8")):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
        if block["kind"] != "console":
            continue
        for command, said in sessions(block["text"]):
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            if said:
                compared += 1
                wanted = pattern(said)
                assert re.fullmatch(wanted, done.stdout), (
                    f"{command}\n{done.stdout}\n{done.stderr}\nwanted:\n{wanted}"
                )
    assert compared == 3
