"""`type(p) is T` for proxies of remote objects, whatever ran before."""

HOT_BEFORE_THE_IMPORT = """
def is_list(x):
    return type(x) is list

for _ in range(10_000):
    assert is_list([])

import sys
assert "objspace" not in sys.modules
import objspace
from objspace.distributed import pair

here, there = pair({}, {"numbers": [1, 2, 3]})
numbers = here.remote.numbers
for _ in range(10_000):
    assert is_list(numbers)
    assert is_list([]) and not is_list(())
here.close()
print("held")
"""

HOT_WHILE_IMPORTING = """
count = 0
proxy = []
while count < 20_000:
    if count == 10_000:
        from objspace.tputil import make_proxy
        proxy = make_proxy(lambda operation: operation.delegate(), obj=[1])
    assert type(proxy) is list
    count += 1
print("held")
"""

WITHOUT_THE_HOOK = """
from objspace.tputil import make_proxy

proxy = make_proxy(lambda operation: operation.delegate(), obj=[1])
assert type(proxy) is not list
assert proxy.__class__ is list and isinstance(proxy, list) and len(proxy) == 1
print("left out")
"""


def test_a_loop_that_was_hot_before_the_import_sees_the_true_type(python):
    done = python(HOT_BEFORE_THE_IMPORT)
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_a_loop_that_is_running_during_the_import_sees_the_true_type(python):
    done = python(HOT_WHILE_IMPORTING)
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_the_hook_can_be_left_out(python):
    import os

    done = python(WITHOUT_THE_HOOK, env={**os.environ, "OBJSPACE_TYPE_HOOK": "0"})
    assert (done.stdout, done.stderr) == ("left out\n", "")


def test_the_import_brings_no_slow_modules_with_it(python):
    """They would take longer to import than everything of objspace."""
    done = python(
        "import sys; before = set(sys.modules); import objspace.tproxy, objspace.tputil;"
        "print(sorted({'typing', 'subprocess', 'json', 're', 'dataclasses', 'contextlib'}"
        " & (set(sys.modules) - before)))"
    )
    assert done.stdout == "[]\n"
