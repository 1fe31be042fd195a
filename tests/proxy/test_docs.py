"""The guide's programs run, and the table of operations is the one in the code."""

import os
import re
from pathlib import Path

import pytest
from objspace._core import operation_table

DOCS = Path(__file__).parents[2] / "docs"

TITLE = """# Operations

What reaches the controller of a proxy, and what a proxy answers itself. This table is made from the
one that makes the slots of proxy types (`OBJSPACE_WRITE_DOCS=1 pytest tests/proxy/test_docs.py`).

A proxy type has those of them that its proxied type has: what the type lacks fails as it fails there,
and the controller is not asked.

| name | enters as | answered by | reason |
| --- | --- | --- | --- |
"""


def programs():
    text = (DOCS / "proxies.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("number", range(len(programs())))
def test_programs_of_the_guide_run(number):
    exec(compile(programs()[number], f"docs/proxies.md program {number + 1}", "exec"), {})


def test_the_table_of_operations_is_up_to_date():
    rows = "".join(
        f"| `{name}` | {entry} | {answer} | {reason} |\n"
        for name, entry, answer, reason in operation_table()
    )
    path = DOCS / "operations.md"
    if os.environ.get("OBJSPACE_WRITE_DOCS"):
        path.write_text(TITLE + rows)
    assert path.read_text() == TITLE + rows
