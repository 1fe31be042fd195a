"""Runs the doctests of CPython's `test_generators` as a process of its own. Before each `next()`, `send()`,
`throw()` and each turn of a `for` loop the generator is pickled, and what was loaded takes its place.

Prints, as JSON, the examples that fail, the number of round trips in each doctest, and how often a
generator was not replaced because it, or one that it needs, ran.

The source of the examples is rewritten: `next(g)` to `next(g := again(g))`, `g.send(x)` to
`(g := again(g)).send(x)`, `for x in f():` to `for x in each(f()):`.
"""

import ast
import collections
import contextlib
import doctest
import io
import json
import sys
import types

from objspace import pickling

trips = collections.Counter()
running = collections.Counter()
current = None


def again(generator):
    if type(generator) is not types.GeneratorType:
        return generator
    try:
        data = pickling.dumps(generator)
    except pickling.PicklingError as error:
        # It runs, or what it takes its values from does, being asked by it.
        if "it is running" not in str(error):
            raise
        running[current] += 1
        return generator
    trips[current] += 1
    return pickling.loads(data)


def again_in(owner, name):
    value = getattr(owner, name)
    copied = again(value)
    if copied is not value:
        setattr(owner, name, copied)
    return copied


def again_at(owner, key):
    value = owner[key]
    copied = again(value)
    if copied is not value:
        owner[key] = copied
    return copied


def each(iterable):
    iterator = iter(iterable)
    while True:
        iterator = again(iterator)
        try:
            value = next(iterator)
        except StopIteration:
            return
        yield value


class Rewrite(ast.NodeTransformer):
    """Rewrites where the variable is one of the scope itself. What a function was given stays with who has
    called it, who would go on with the original."""

    def __init__(self):
        self.local = [None]

    def visit_FunctionDef(self, node):
        arguments = node.args
        names = set()
        given = {a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
            elif isinstance(inner, ast.Global | ast.Nonlocal):
                given |= set(inner.names)
        self.local.append(names - given)
        self.generic_visit(node)
        self.local.pop()
        return node

    def visit_ClassDef(self, node):
        return self._closed(node)

    def visit_Lambda(self, node):
        return self._closed(node)

    def visit_GeneratorExp(self, node):
        return self._closed(node)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp

    def _closed(self, node):
        self.local.append(set())
        self.generic_visit(node)
        self.local.pop()
        return node

    def copied(self, node):
        """An expression that replaces the generator that `node` is; `None`: it is no variable."""
        call = None
        if isinstance(node, ast.Name):
            local = self.local[-1]
            if local is None or node.id in local:
                value = ast.Call(ast.Name("again", ast.Load()), [node], [])
                return ast.NamedExpr(ast.Name(node.id, ast.Store()), value)
        elif isinstance(node, ast.Attribute):
            call = "again_in", [node.value, ast.Constant(node.attr)]
        elif isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            call = "again_at", [node.value, node.slice]
        return call and ast.Call(ast.Name(call[0], ast.Load()), call[1], [])

    def visit_Call(self, node):
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Name) and function.id == "next" and node.args:
            copied = self.copied(node.args[0])
            if copied is None and isinstance(node.args[0], ast.Call):
                copied = ast.Call(ast.Name("again", ast.Load()), [node.args[0]], [])
            if copied is not None:
                node.args[0] = copied
        elif isinstance(function, ast.Attribute) and function.attr in ("send", "throw", "__next__"):
            copied = self.copied(function.value)
            if copied is not None:
                function.value = copied
        return node

    def visit_For(self, node):
        self.generic_visit(node)
        if isinstance(node.iter, ast.Call):
            node.iter = ast.Call(ast.Name("each", ast.Load()), [node.iter], [])
        return node


def rewritten(source):
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    tree = ast.fix_missing_locations(Rewrite().visit(tree))
    # Several statements stay on one line.
    return "; ".join(ast.unparse(statement) for statement in tree.body) + "\n"


def main():
    global current
    import test.test_generators as tested

    failed = []
    for test in doctest.DocTestFinder().find(tested, "test_generators"):
        if not test.examples:
            continue
        current = test.name.rpartition(".")[2]
        # The globals are those of a module, as they are where programs run.
        module = types.ModuleType("examples_" + current)
        sys.modules[module.__name__] = module
        own = {"again": again, "again_in": again_in, "again_at": again_at, "each": each}
        vars(module).update({**test.globs, **own, "__name__": module.__name__})
        test.globs = vars(module)
        for example in test.examples:
            example.original, example.source = example.source, rewritten(example.source)

        class Runner(doctest.DocTestRunner):
            def report_failure(self, out, test, example, got):
                failed.append((current, example.original, got))

            def report_unexpected_exception(self, out, test, example, exc_info):
                failed.append((current, example.original, repr(exc_info[1])))

        with contextlib.redirect_stdout(io.StringIO()):
            Runner(verbose=False).run(test, out=lambda _text: None, clear_globs=False)
    print(json.dumps({"failed": failed, "trips": trips, "running": running}))


if __name__ == "__main__":
    main()
