"""An index of Python source code: modules, their classes, the methods of these.

Ordinary classes that hold ordinary dicts and lists. Nothing here knows of objspace.
"""

import ast
from pathlib import Path


class NotIndexed(LookupError):
    """The index has no such name."""

    def __init__(self, wanted, nearest):
        super().__init__(f"{wanted} is not in the index; the nearest name is {nearest}")
        self.wanted = wanted
        self.nearest = nearest


class Method:
    """A method of a class: its name, line, parameters and docstring."""

    def __init__(self, name, line, parameters, doc):
        self.name = name
        self.line = line
        self.parameters = parameters
        self.doc = doc

    def __repr__(self):
        return f"<Method {self.name}({', '.join(self.parameters)})>"


class Class:
    """A class: its name, line, bases, docstring and methods by name."""

    def __init__(self, name, line, bases, doc):
        self.name = name
        self.line = line
        self.bases = bases
        self.doc = doc
        self.methods = {}

    def __repr__(self):
        return f"<Class {self.name} with {len(self.methods)} methods>"


class Module:
    """A module: its name, path, number of lines, docstring and classes by name."""

    def __init__(self, name, path="", lines=0, doc=None):
        self.name = name
        self.path = path
        self.lines = lines
        self.doc = doc
        self.classes = {}

    def title(self):
        """The first line of the docstring."""
        return (self.doc or "(no docstring)").strip().partition("\n")[0]

    def summary(self):
        """Names and lines of its classes and their methods, as plain containers."""
        return {
            "module": self.name,
            "lines": self.lines,
            "classes": {
                name: {
                    "line": found.line,
                    "methods": [[method.name, method.line] for method in found.methods.values()],
                }
                for name, found in self.classes.items()
            },
        }

    def __len__(self):
        return len(self.classes)


class Index:
    """All modules by name, and ways to look into them."""

    def __init__(self):
        self.modules = {}
        self.unreadable = []

    def add(self, name, path):
        """Parses one file."""
        try:
            source = Path(path).read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError) as error:
            self.unreadable.append((name, str(error)))
            return
        module = Module(name, str(path), source.count("\n"), ast.get_docstring(tree))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                module.classes[node.name] = read_class(node)
        self.modules[name] = module

    def resolve(self, dotted):
        """The class or method that a dotted name stands for; `NotIndexed` if there is none."""
        module, _, rest = dotted.rpartition(":")
        class_name, _, method_name = rest.partition(".")
        return self.look_in_class(self.modules[module], class_name, method_name)

    def look_in_class(self, module, class_name, method_name):
        """One step of `resolve`."""
        found = module.classes[class_name]
        return self.look_in_methods(found, method_name) if method_name else found

    def look_in_methods(self, owner, wanted):
        """The last step of `resolve`."""
        if wanted not in owner.methods:
            nearest = min(owner.methods, key=lambda name: distance(name, wanted))
            raise NotIndexed(f"{owner.name}.{wanted}", nearest)
        return owner.methods[wanted]

    def select(self, module_name, wanted):
        """The methods of a module that `wanted(name, line)`, a function of the caller, selects."""
        return [
            f"{found.name}.{method.name}"
            for found in self.modules[module_name].classes.values()
            for method in found.methods.values()
            if wanted(method.name, method.line)
        ]


def read_class(node):
    found = Class(
        node.name, node.lineno, [ast.unparse(base) for base in node.bases], ast.get_docstring(node)
    )
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [argument.arg for argument in part.args.args]
            found.methods[part.name] = Method(
                part.name, part.lineno, parameters, ast.get_docstring(part)
            )
    return found


def distance(one, other):
    """How many letters differ, counted from the front and by length."""
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))
