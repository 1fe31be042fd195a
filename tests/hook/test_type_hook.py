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
        "print(sorted({'typing', 'subprocess', 'json', 're', 'dataclasses', 'contextlib', 'random', 'functools'}"
        " & (set(sys.modules) - before)))"
    )
    assert done.stdout == "[]\n"


TAKEN_OUT_AND_PUT_BACK = """
from objspace.tproxy import install_type_hook, type_hook_installed, uninstall_type_hook
from objspace.tputil import delegate, make_proxy

flags = type.__flags__
proxy = make_proxy(delegate, obj=[1])

def is_list(x):
    return type(x) is list

for _ in range(3):
    assert type_hook_installed()
    for _ in range(1000):
        assert is_list(proxy) and is_list([])
    assert list(map(type, [proxy])) == [list]
    uninstall_type_hook()
    uninstall_type_hook()
    assert not type_hook_installed()
    for _ in range(1000):
        assert not is_list(proxy) and is_list([])
    assert proxy.__class__ is list and isinstance(proxy, list) and proxy + [2] == [1, 2]
    assert type.__flags__ != flags
    install_type_hook()
    install_type_hook()
    assert type.__flags__ == flags
print("held")
"""

MANY_THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
from objspace.tproxy import install_type_hook, uninstall_type_hook
from objspace.tputil import delegate, make_proxy

proxy = make_proxy(delegate, obj=[1])
uninstall_type_hook()
hidden = type(proxy)
assert hidden is not list
stop = threading.Event()
wrong = []

def ask():
    while not stop.is_set():
        for value, answers in [(proxy, (list, hidden)), ([], (list,)), (3, (int,)), (int, (type,))]:
            if type(value) not in answers:
                wrong.append((value, type(value)))
                return

def toggle():
    for _ in range(30):
        install_type_hook()
        uninstall_type_hook()

askers = [threading.Thread(target=ask) for _ in range(3)]
togglers = [threading.Thread(target=toggle) for _ in range(3)]
for thread in askers + togglers:
    thread.start()
for thread in togglers:
    thread.join()
stop.set()
for thread in askers:
    thread.join()
install_type_hook()
assert type(proxy) is list and not wrong, wrong
print("held")
"""

FORKED = """
import os
from objspace.tproxy import uninstall_type_hook
from objspace.tputil import delegate, make_proxy

proxy = make_proxy(delegate, obj=[1])

def is_list(x):
    return type(x) is list

for _ in range(1000):
    assert is_list(proxy)
if (pid := os.fork()) == 0:
    kept = is_list(proxy) and is_list(make_proxy(delegate, obj=[2])) and not is_list(3)
    uninstall_type_hook()
    os._exit(0 if kept and not is_list(proxy) else 1)
assert os.waitpid(pid, 0)[1] == 0
assert is_list(proxy)
print("held")
"""

# In an interpreter that is older than the hook, and in one that is younger.
IN_INTERPRETERS = """
import sys
interpreters = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")

def run(interpreter, code):
    failure = interpreters.run_string(interpreter, code)
    assert failure is None, failure

HOT = '''
class M(type): pass
class A(metaclass=M): pass
def kind(x): return type(x)
for _ in range(1000): assert kind([]) is list and kind(A()) is A and kind(A) is M
A.x = 1
try: type.x = 1
except TypeError as e: assert "immutable" in str(e)
else: assert False
'''
BY_NAME = '''
type.__setattr__(A, "x", 2)
assert A.x == 2
'''
older = interpreters.create()
run(older, HOT + BY_NAME)
from objspace.tproxy import uninstall_type_hook
from objspace.tputil import delegate, make_proxy
proxy = make_proxy(delegate, obj=[1])
younger = interpreters.create()
run(older, HOT)
run(younger, HOT + BY_NAME)
assert type(proxy) is list
# The package itself is for the main interpreter alone, and says so.
run(younger, '''
try: import objspace
except ImportError as e: assert "interpreter" in str(e), e
else: assert False
''')
uninstall_type_hook()
run(older, HOT + BY_NAME)
interpreters.destroy(older)
interpreters.destroy(younger)
print("held")
"""


def test_the_hook_can_be_taken_out_and_put_back(python):
    done = python(TAKEN_OUT_AND_PUT_BACK)
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_threads_ask_while_others_put_the_hook_in_and_take_it_out(python):
    done = python(MANY_THREADS)
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_a_fork_has_a_hook_of_its_own(python):
    done = python(FORKED)
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_other_interpreters_of_the_process(python):
    done = python(IN_INTERPRETERS)
    assert (done.stdout, done.stderr) == ("held\n", "")
