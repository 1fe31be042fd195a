"""Run by frames.rs, which provides remote_code, new_frame and make_traceback."""

import collections.abc
import gc
import inspect
import io
import linecache
import pdb
import sys
import traceback
import types
import weakref

FILE = "/remote/app.py"
source = ["import sys\n"] + ["\n"] * 38 + [
    "def outer(n):\n",  # 40
    "    return inner(n, [n])\n",
    "\n",
    "def inner(a, b):\n",  # 43
    "    c = a + 1\n",
    "    return 1 / 0  # here\n",  # 45
    "\n",
    "after = 1\n",
]
linecache.cache[FILE] = (sum(map(len, source)), None, source, FILE)


class Remote(collections.abc.MutableMapping):
    """Locals that are fetched when they are looked at."""

    def __init__(self, values):
        self.values_, self.fetched = values, []

    def __getitem__(self, key):
        self.fetched.append(key)
        return self.values_[key]

    def __setitem__(self, key, value):
        self.values_[key] = value

    def __delitem__(self, key):
        del self.values_[key]

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)


class Globals(dict):
    pass


def frame(name, first, line, values):
    code = remote_code(FILE, name, "app." + name, first, line)
    return new_frame(code, Globals(__name__="app", __builtins__=__builtins__), Remote(values))


# ---------------------------------------------------------------- code
for first, line in [(1, 1), (1, 2), (40, 41), (43, 45), (43, 43), (1, 100_000), (2**30, 2**30 + 7), (50, 3)]:
    code = remote_code(FILE, "näme", "Cläss.näme", first, line)
    assert type(code) is types.CodeType
    assert (code.co_filename, code.co_name, code.co_qualname) == (FILE, "näme", "Cläss.näme")
    assert code.co_firstlineno == first
    assert {position[:2] for position in code.co_positions()} == {(line, line)}, list(code.co_positions())
    assert {l for _, _, l in code.co_lines()} == {line}
    assert not code.co_flags & inspect.CO_OPTIMIZED and not code.co_varnames and not code.co_freevars
    f = new_frame(code, {}, {"x": 1})
    assert type(f) is types.FrameType and f.f_code is code
    assert f.f_lineno == line, (f.f_lineno, line)
    assert f.f_lasti == 0 and f.f_back is None and f.f_locals == {"x": 1}
    tb = make_traceback(None, f, line)
    assert (tb.tb_lineno, tb.tb_frame, tb.tb_next) == (line, f, None)
    try:
        exec(code)
    except AssertionError as e:
        assert e.__traceback__.tb_next.tb_lineno == line
    else:
        raise AssertionError("it was executed")
for bad in [lambda: remote_code(1, "n", "q", 1, 1), lambda: remote_code(FILE, b"n", "q", 1, 1),
            lambda: new_frame(code, [], {}), lambda: new_frame(code, Remote({}), {})]:
    try:
        bad()
    except TypeError:
        pass
    else:
        raise AssertionError
try:
    make_traceback(None, f, 0)
except ValueError:
    pass
else:
    raise AssertionError

# ---------------------------------------------------------------- a traceback
inner = frame("inner", 43, 45, {"a": 1, "b": [1], "c": 2})
outer = frame("outer", 40, 41, {"n": 1})
remote = make_traceback(make_traceback(None, inner, 45), outer, 41)


def local():
    raise ZeroDivisionError("division by zero").with_traceback(remote)


try:
    local()
except ZeroDivisionError as e:
    error = e
text = "".join(traceback.format_exception(error))
wanted = """  File "/remote/app.py", line 41, in outer
    return inner(n, [n])
  File "/remote/app.py", line 45, in inner
    return 1 / 0  # here
ZeroDivisionError: division by zero
"""
assert text.endswith(wanted), text
assert not inner.f_locals.fetched and not outer.f_locals.fetched
summary = traceback.extract_tb(error.__traceback__)
assert [(s.name, s.lineno) for s in summary][-2:] == [("outer", 41), ("inner", 45)]
captured = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
assert "c = 2" in captured and "n = 1" in captured, captured
printed = io.StringIO()
sys.stderr, old = printed, sys.stderr
try:
    sys.excepthook(type(error), error, error.__traceback__)
finally:
    sys.stderr = old
# Before 3.13 this is C code, which opens the file itself and knows no `linecache`.
if sys.version_info < (3, 13):
    wanted = "".join(line + "\n" for line in wanted.splitlines() if not line.startswith("    "))
assert wanted in printed.getvalue(), printed.getvalue()

# ---------------------------------------------------------------- inspect
assert inspect.isframe(inner) and inspect.getfile(inner) == FILE
info = inspect.getframeinfo(inner)
assert (info.filename, info.lineno, info.function) == (FILE, 45, "inner")
assert [(i.function, i.lineno) for i in inspect.getinnerframes(remote)] == [("outer", 41), ("inner", 45)]
lines, start = inspect.getsourcelines(inner)
assert (lines, start) == (source[42:45], 43), (lines, start)
assert inspect.getsource(outer) == "".join(source[39:41])
assert inspect.getargvalues(inner).args == []
stack = traceback.StackSummary.extract(traceback.walk_stack(inner))
assert [(s.name, s.lineno) for s in stack] == [("inner", 45)]
assert eval("a + c", inner.f_globals, inner.f_locals) == 3


# ---------------------------------------------------------------- pdb
def debug(*commands):
    output = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("\n".join([*commands, "q", ""])), stdout=output, nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.reset()
    debugger.interaction(None, error.__traceback__)
    return output.getvalue()


output = debug("w")
assert "/remote/app.py(45)inner()" in output and "/remote/app.py(41)outer()" in output, output
output = debug("p a", "p b", "p c + len(b)", "p 'n' in locals()", "p nothing")
for wanted in ["1", "[1]", "3", "False", "NameError"]:
    assert wanted in output, output
assert "globals must be" not in output
output = debug("up", "p n", "p __name__", "down", "p a")
assert "(41)outer" in output and "'app'" in output
output = debug("l")
assert "45  ->" in output and "return 1 / 0" in output and "47" in output, output
output = debug("ll")
assert "43  " in output and "45  ->" in output and "outer" not in output.split("ll", 1)[-1].split("43")[1], output
output = debug("up", "ll")
assert "40  " in output and "41  ->" in output, output
output = debug("!d = a + 41", "p d", "!a = 5", "p a")
assert "42" in output and "5" in output and inner.f_locals["d"] == 42, output
output = debug("[x for x in b]", "p [c for c in (1, 2)]", "pp b", "whatis c", "args", "source pdb" if 0 else "p 1")
assert "<class 'int'>" in output, output

# ---------------------------------------------------------------- lifetimes
error.__traceback__ = None
del error, f, tb, code, info, stack, summary, lines, captured
values = inner.f_locals
ref = weakref.ref(values)
inner.clear()
del values, remote, inner, outer
gc.collect()
assert ref() is None
before = len(gc.get_objects())
for _ in range(1000):
    frame("inner", 43, 45, {"a": 1})
gc.collect()
assert len(gc.get_objects()) - before < 50
