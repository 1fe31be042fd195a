"""The programs in the documents run, and print what the documents say.

A `python` block is a program; the `text` block after it, if any, is its output. A comment
`<!-- file: NAME -->` before it makes it a file that the later blocks find. A `console` block that
runs `objspace serve` starts that server for the rest of the document.
"""

import contextlib
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    if "```python" in path.read_text(encoding="utf-8")
)
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>file): (?P<argument>[\w.]+) -->\n)?"
    r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PORT = "127.0.0.1:7000"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(line, folder):
    """The process that a line such as `$ objspace serve bank` starts."""
    _, *arguments = shlex.split(line.removeprefix("$ "))
    with subprocess.Popen(
        [sys.executable, "-m", "objspace", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            greeting = process.stderr.readline()
            assert greeting.startswith("serving "), greeting + process.stderr.read()
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document(name, tmp_path):
    text = (ROOT / name).read_text(encoding="utf-8")
    port = f"127.0.0.1:{free_port()}"
    output, where = None, ""
    # Programs stand in a folder of their own: clients have none of the server's files.
    client = tmp_path / "client"
    client.mkdir()
    with contextlib.ExitStack() as stack:
        for block in BLOCK.finditer(text):
            body = block["text"].replace(PORT, port)
            line = text.count("\n", 0, block.start()) + 1
            if block["kind"] == "python" and block["argument"]:
                (tmp_path / block["argument"]).write_text(body)
            elif block["kind"] == "python":
                where = f"{name}, line {line}"
                done = subprocess.run(
                    [sys.executable, "-c", body],
                    cwd=client,
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
                assert (done.returncode, done.stderr) == (0, ""), f"{where}\n{done.stderr}"
                output = done.stdout
            elif block["kind"] == "text" and block["argument"]:
                # What both sides have: a key, say.
                for folder in (tmp_path, client):
                    (folder / block["argument"]).write_text(body)
            elif block["kind"] == "text" and output is not None:
                assert output == body, where
                output = None
            elif block["kind"] == "console":
                for command in body.splitlines():
                    if command.startswith("$ objspace serve "):
                        stack.enter_context(server(command, tmp_path))


def test_documents_were_found():
    assert "README.md" in DOCUMENTS


LINK = re.compile(r"\[[^\]]*\]\((?!https?:)(?P<path>[^)#]+)[^)]*\)")


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]))
def test_links_lead_somewhere(path):
    for link in LINK.finditer(path.read_text(encoding="utf-8")):
        assert (path.parent / link["path"]).exists(), link[0]
