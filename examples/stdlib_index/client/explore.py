"""The client: explores the server's index as if it were here. It has none of the server's code.

usage: explore.py URL
"""

import importlib.util
import inspect
import io
import json
import pdb
import sys
import traceback

import objspace
from objspace.distributed import session_of
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
WRONG = "json.decoder:JSONDecoder.decod"


def main(url):
    check(importlib.util.find_spec("index") is None, "the client can see the server's module")
    remote = objspace.connect(url)
    session = session_of(remote)
    meter = Meter(session)

    types(remote, meter)
    containers(remote, meter)
    callback(remote, meter)
    subclass(remote, meter)
    error = exception(remote, meter)
    post_mortem(error, meter)

    whole = remote.size_if_copied()
    meter.print_table(whole)
    check(meter.bytes < whole / 4, f"{meter.bytes} bytes were moved, the whole index has {whole}")
    session.close()


def types(remote, meter):
    chapter("Types are what they are over there")
    index = meter("remote.index", lambda: remote.index)
    modules = meter("index.modules", lambda: index.modules)
    index_class = meter("remote.Index", lambda: remote.Index)
    kinds = meter("type(index), type(modules)", lambda: (type(index), type(modules)), expected=0)
    show("type(index), type(index.modules)", kinds)
    check(kinds[0] is index_class and kinds[1] is dict, f"the types are {kinds}")
    same = isinstance(index, remote.Index), isinstance(modules, dict), isinstance(modules, list)
    show("isinstance(index, remote.Index), isinstance(index.modules, dict)", same[:2])
    check(same == (True, True, False), f"isinstance says {same}")
    signature = str(inspect.signature(index_class.resolve))
    show("inspect.signature(remote.Index.resolve)", signature)
    check(signature == "(self, dotted)", f"the signature is {signature}")


def containers(remote, meter):
    chapter("Indexing into nested containers, len, for, sorted, json")
    modules = remote.index.modules

    count = meter("len(modules)", lambda: len(modules), expected=1)
    show("len(index.modules)", count)
    check(type(count) is int and count > 300, f"there are {count} modules")

    decode = meter(
        'modules["json.decoder"].classes[…].methods["decode"]',
        lambda: modules["json.decoder"].classes["JSONDecoder"].methods["decode"],
    )
    place = meter("decode.name, decode.line", lambda: (decode.name, decode.line))
    show('decode = index.modules["json.decoder"].classes["JSONDecoder"].methods["decode"]', decode)
    show("decode.name, decode.line", place)
    check(place[0] == "decode" and type(place[1]) is int, f"the method is {place}")

    decimal = modules["_pydecimal"]
    names = []

    def loop():
        for name in decimal.classes:
            names.append(name)  # noqa: PERF402 - the loop is what is shown

    meter("for name in module.classes", loop)
    show('for name in index.modules["_pydecimal"].classes: …', ", ".join(names[:6]) + ", …")
    check("Decimal" in names and type(names[0]) is str, f"the classes are {names}")

    methods = meter(
        "list(class.methods.values())", lambda: list(decimal.classes["Decimal"].methods.values())
    )
    methods = methods[:20]
    first = meter(
        f"sorted({len(methods)} methods, key=…) with a local function",
        lambda: sorted(methods, key=lambda method: method.name.strip("_"))[:4],
    )
    ordered = [method.name for method in first]
    show('sorted(methods, key=lambda method: method.name.strip("_"))[:4]', ordered)
    check(ordered == sorted(ordered, key=lambda name: name.strip("_")), "not sorted")

    text = meter("json.dumps(module.summary())", lambda: json.dumps(modules["queue"].summary()))
    show('json.dumps(index.modules["queue"].summary())', text[:82] + "…")
    check("Queue" in json.loads(text)["classes"], f"the summary is {text}")


def callback(remote, meter):
    chapter("The server calls a function of the client")
    asked = []

    def wanted(name, line):
        asked.append((name, line))
        return name.startswith("put")

    index = remote.index
    found = meter(
        'index.select("queue", wanted), callbacks included',
        lambda: list(index.select("queue", wanted)),
    )
    show('index.select("queue", wanted)', found)
    show("len(asked)", f"{len(asked)} calls came back to this process")
    check(found[:2] == ["Queue.put", "Queue.put_nowait"], f"found {found}")
    check(len(asked) > 10, f"only {len(asked)} calls came")


def subclass(remote, meter):
    chapter("A class of the client, on a base class of the server")
    module_class = remote.Module

    class Shouted(module_class):
        """Defined here, on a base that is defined there."""

        def title(self):
            return super().title().upper() + "!"

    mine = meter('Shouted("mine", doc="Made here.")', lambda: Shouted("mine", doc="Made here."))
    title = meter("mine.title()", lambda: mine.title())
    show("mine.title(), isinstance(mine, remote.Module)", (title, isinstance(mine, module_class)))
    check(title == "MADE HERE.!", f"the title is {title!r}")
    check(isinstance(mine, module_class), "an instance of the subclass is none of its base")
    check(issubclass(Shouted, module_class) and mine.name == "mine", "the subclass is not one")


def exception(remote, meter):
    chapter("An exception from three frames deep on the server: one traceback, with its source")
    index = remote.index
    error = meter(f'index.resolve("{WRONG}")', lambda: fail(index))
    printed = "".join(traceback.format_exception(error))
    console.print(indent(printed), markup=False)
    check(isinstance(error, remote.NotIndexed), "the class of the exception is lost")
    check(error.nearest == "decode", f"its attribute says {error.nearest}")
    for expected in ("in fail", "in resolve", "in look_in_class", "in look_in_methods"):
        check(expected in printed, f"the traceback lacks {expected!r}")
    check("raise NotIndexed(f" in printed, "the traceback lacks the server's source")
    return error


def fail(index):
    """Keeps the error, as a program would that looks at it later."""
    try:
        index.resolve(WRONG)
    except LookupError as error:
        return error
    raise SystemExit("demo failed: no exception")


def post_mortem(error, meter):
    chapter("pdb.post_mortem, by script, in the server's frames")
    shown = meter("pdb.post_mortem(), 4 commands", lambda: debug(error))
    console.print(indent(shown), markup=False)
    for expected in ("'decod'", "<Class JSONDecoder with", "'JSONDecoder'"):
        check(expected in shown, f"pdb does not show {expected}")


def debug(error):
    """What pdb shows at the place of the error."""
    stdin, stdout = sys.stdin, sys.stdout
    sys.stdin, sys.stdout = Typist("p wanted\np owner\nup\np class_name\nq\n"), io.StringIO()
    try:
        pdb.post_mortem(error.__traceback__)
        return sys.stdout.getvalue()
    finally:
        sys.stdin, sys.stdout = stdin, stdout


class Typist(io.StringIO):
    """Standard input for pdb that shows what it types."""

    def readline(self, *limit):
        line = super().readline(*limit)
        print(line, end="")
        return line


class Meter:
    """Notes what the wire carried for each step, from the session's own counters."""

    def __init__(self, session):
        self.session = session
        self.rows = []

    @property
    def bytes(self):
        return sum(moved for _, _, moved in self.rows)

    def __call__(self, label, step, expected=None):
        before = self.session.stats()
        result = step()
        after = self.session.stats()
        trips = after["round_trips"] - before["round_trips"]
        moved = sum(after[key] - before[key] for key in ("bytes_sent", "bytes_received"))
        self.rows.append((label, trips, moved))
        if expected is not None:
            check(trips == expected, f"{label}: {trips} round trips instead of {expected}")
        return result

    def print_table(self, whole):
        chapter("What went over the wire")
        trips = sum(trips for _, trips, _ in self.rows)
        rows = [
            *self.rows,
            None,
            ("all of it", trips, self.bytes),
            ("the whole index copied, as one pickle", 1, whole),
        ]
        width = max(len(row[0]) for row in rows if row)
        console.print(f"  {'operation':{width}}  round trips  {'bytes':>10}", style="dim")
        for row in rows:
            text = f"{row[0]:{width}}  {row[1]:11,}  {row[2]:10,}" if row else ""
            console.print(f"  {text}".rstrip(), markup=False)


def check(true, otherwise):
    """The demo is a test as well: what does not hold ends it."""
    if not true:
        raise SystemExit(f"demo failed: {otherwise}")


def chapter(text):
    console.print(f"\n[bold]{text}[/bold]")


def show(expression, value):
    console.print(f"  >>> {expression}", style="cyan", markup=False)
    console.print(f"  {value}", markup=False)


def indent(text):
    return "\n".join(f"  {line}".rstrip() for line in text.rstrip().splitlines())


if __name__ == "__main__":
    main(sys.argv[1])
