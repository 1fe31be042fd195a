"""Writes and reads pickles of suspended and running frames, as a process of its own.

`drive.py write FILE MODE WARM [PROGRAM …]`: runs each program to each point where it can be captured,
and writes the pickles to FILE with what the uninterrupted program returns.
`drive.py read FILE MODE`: loads each, runs it to its end, and compares. Both print how many there were.

OBJSPACE_CODE in the environment says how code travels: "auto" if it is not set.
MODE is what watches the interpreter meanwhile: nothing, trace, profile, monitor, hook. WARM is how often
each program is run before, so that its bytecode is specialised.
"""

import contextlib
import os
import pickle
import sys
import warnings

import chain_programs
import suspended_programs
from objspace import pickling
from objspace._core import _parts

CODE = os.environ.get("OBJSPACE_CODE", "auto")


@contextlib.contextmanager
def watched(mode):
    """Something watches, and has been seen to work."""
    seen = []

    def note(*_args):
        seen.append(1)
        del seen[1:]
        return note

    match mode:
        case "nothing":
            seen.append(1)
            yield
        case "trace":
            sys.settrace(note)
            yield
            sys.settrace(None)
        case "profile":
            sys.setprofile(note)
            yield
            sys.setprofile(None)
        case "monitor":
            monitoring = sys.monitoring
            events = monitoring.events
            monitoring.use_tool_id(3, "drive")
            for event in (events.PY_START, events.LINE, events.INSTRUCTION, events.CALL):
                monitoring.register_callback(3, event, lambda *_args: note() and None)
            monitoring.set_events(
                3, events.PY_START | events.LINE | events.INSTRUCTION | events.CALL
            )
            yield
            monitoring.set_events(3, 0)
            monitoring.free_tool_id(3)
        case "hook":
            before = _parts.foreign_hook(True)
            yield
            seen.extend([1] * (_parts.foreign_hook(False) - before))
        case _:
            raise ValueError(mode)
    assert seen, f"{mode} has seen nothing"


def write(warm, names):
    """`(kind, name, point, pickle, what the program returns)` for each point."""
    found = []
    for name in suspended_programs.PROGRAMS:
        if names and name not in names:
            continue
        for _ in range(warm):
            suspended_programs.finish(suspended_programs.start(name))
        steps, result = suspended_programs.finish(suspended_programs.start(name))
        for point in range(steps + 1):
            program = suspended_programs.start(name)
            assert suspended_programs.advance(program, point)
            data = pickling.dumps(program, code=CODE)
            found.append(("suspended", name, point, data, repr(result)))
            # To be pickled changes nothing.
            assert repr(suspended_programs.finish(program)[1]) == repr(result), (name, point)
    for name in chain_programs.PROGRAMS:
        if names and name not in names:
            continue
        for _ in range(warm):
            chain_programs.run(name)
        result, points, _ = chain_programs.run(name)
        for point in range(points):
            same, _, data = chain_programs.run(name, point)
            assert repr(same) == repr(result), (name, point)
            found.append(("chain", name, point, data, repr(result)))
    return found


def read(found):
    for kind, name, point, data, expected in found:
        if kind == "suspended":
            result = suspended_programs.finish(pickling.loads(data))[1]
        else:
            result = chain_programs.resume(data)
        assert repr(result) == expected, f"{name} at {point}: {result!r}, not {expected}"


def relay():
    """Each running program is pickled, and goes on from the pickle, at every point in turn."""
    found = []
    for name in chain_programs.PROGRAMS:
        result, points, _ = chain_programs.run(name)
        again, moves = chain_programs.relay(name)
        assert repr(again) == repr(result), name
        assert moves == points, name
        found += range(moves)
    return found


def main(command, path, mode, warm="0", *names):
    chain_programs.holder.code = CODE
    warnings.simplefilter("error")
    unraisable = []
    sys.unraisablehook = unraisable.append
    if command == "write":
        with watched(mode):
            found = write(int(warm), names)
        with open(path, "wb") as file:
            pickle.dump(found, file)
    elif command == "relay":
        with watched(mode):
            found = relay()
    else:
        with open(path, "rb") as file:
            found = pickle.load(file)
        with watched(mode):
            read(found)
    assert not unraisable, unraisable
    print(len(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
