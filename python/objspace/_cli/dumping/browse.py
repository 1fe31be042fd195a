"""`objspace dump browse`: a log in the terminal, as a tree that unfolds.

Left the operations: only a window of the parts of each unfolded one is loaded, so a log of any
length opens at once. Right the source around the operation under the cursor, its operands, and the
calls it is part of; or the life of an object. Searching reads the log in a thread of its own.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from objspace import dump
from objspace._cli import Complaint
from objspace._cli.dumping import object as life
from objspace._cli.dumping import output, source, words

try:
    from rich.syntax import Syntax
    from rich.text import Text
    from textual import work
    from textual.app import App, ComposeResult
    from textual.binding import Binding, BindingType
    from textual.containers import Horizontal, Vertical, VerticalScroll
    from textual.widgets import Footer, Input, Static, Tree
except ImportError:  # pragma: no cover
    raise Complaint(
        "browse needs textual, which is not installed: pip install 'objspace[browse]'"
    ) from None

if TYPE_CHECKING:
    import argparse

    from textual.widgets.tree import TreeNode

#: How many parts of an operation are loaded at once.
WINDOW = 200
#: Lines of source around the one that matters.
AROUND = 12
LIFE_MAX = 500

HELP = (
    "enter: unfold, fold   /: search (a regular expression)   n N: next, previous   "
    "g: go to an operation   o: the life of an object   q: leave"
)


class More:
    """Stands in the tree for operations that are not loaded."""

    def __init__(self, parent: int, after: int) -> None:
        self.parent = parent
        self.after = after


def run(options: argparse.Namespace) -> int:
    """Opens the browser."""
    log = source.open_log(options.log)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Complaint("browse needs a terminal; 'objspace dump show' prints anywhere")
    browser = Browser(log, options.log)
    browser.run()
    return browser.return_code or 0


def line(pieces: tuple[output.Piece, ...]) -> Text:
    """A line as rich wants it."""
    return Text.assemble(
        *(
            output.clean(piece) if isinstance(piece, str) else (output.clean(piece[0]), piece[1])
            for piece in pieces
        )
    )


class Browser(App[None]):
    """The application."""

    CSS = """
    #tree { width: 3fr; }
    #side { width: 2fr; border-left: solid $primary; }
    #source { height: auto; max-height: 60%; }
    #detail { height: auto; padding: 0 1; }
    #ask { display: none; dock: bottom; }
    #ask.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask('search')", "search", key_display="/"),
        Binding("n", "again(False)", "next"),
        Binding("N", "again(True)", "previous"),
        Binding("g", "ask('go')", "go to"),
        Binding("o", "ask('object')", "object"),
        Binding("question_mark", "keys", "keys", key_display="?"),
        Binding("escape", "close", "close", show=False),
        Binding("q", "quit", "leave"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, log: dump.Log, path: str) -> None:
        super().__init__()
        self.log_file = log
        self.path = path
        self.words = words.Words(log)
        self.asked = ""
        self.pattern: re.Pattern[str] | None = None
        self.width = len(str(log.range[1]))

    def compose(self) -> ComposeResult:
        tree: Tree[dump.Operation | More] = Tree(
            f"{self.path}: {self.log_file.operations} operations", id="tree"
        )
        tree.auto_expand = True
        with Horizontal():
            yield tree
            with Vertical(id="side"):
                yield Static(id="source")
                with VerticalScroll():
                    yield Static(id="detail")
        yield Input(id="ask")
        yield Footer()

    @property
    def tree_of(self) -> Tree[dump.Operation | More]:
        """The tree."""
        tree: Tree[dump.Operation | More] = self.query_one("#tree", Tree)
        return tree

    def on_mount(self) -> None:
        """Shows the beginning."""
        root = self.tree_of.root
        self._load(root, 0, 0)
        root.expand()
        self.tree_of.focus()

    def _load(self, node: TreeNode[dump.Operation | More], parent: int, after: int) -> None:
        """Puts a window of the parts of an operation below its node."""
        node.remove_children()
        if after > parent:
            node.add_leaf("↑ from the first one", More(parent, 0))
        self._extend(node, parent, after)

    def _extend(self, node: TreeNode[dump.Operation | More], parent: int, after: int) -> None:
        found = self.log_file.children(parent, after=after, limit=WINDOW + 1)
        for each in found[:WINDOW]:
            label = line(self.words.line(each, width=self.width))
            if self.log_file.children(each.number, limit=1):
                node.add(label, each)
            else:
                node.add_leaf(label, each)
        if len(found) > WINDOW:
            node.add_leaf("↓ more", More(parent, found[WINDOW - 1].number))

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[dump.Operation | More]) -> None:
        """Loads what was folded until now."""
        node = event.node
        if isinstance(node.data, dump.Operation) and not node.children:
            self._load(node, node.data.number, 0)

    def on_tree_node_selected(self, event: Tree.NodeSelected[dump.Operation | More]) -> None:
        """Loads what 'more' stands for."""
        node, data = event.node, event.node.data
        if not isinstance(data, More) or node.parent is None:
            return
        above = node.parent
        if data.after == 0:
            self._load(above, data.parent, 0)
        else:
            node.remove()
            self._extend(above, data.parent, data.after)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[dump.Operation | More]) -> None:
        """Shows the source and operands of the operation under the cursor."""
        if isinstance(event.node.data, dump.Operation):
            self._show(event.node.data)

    def _show(self, each: dump.Operation) -> None:
        site = self.words.site(each.site)
        self.query_one("#source", Static).update(self._source(site))
        lines = [line(self.words.line(each, width=1)), Text()]
        lines += [
            Text(f"operand {index}: {self._about(value)}")
            for index, value in enumerate(each.operands)
        ]
        if each.status in ("result", "raised"):
            lines.append(Text(f"{each.status}: {self._about(each.value)}"))
        else:
            lines.append(Text(f"status: {each.status or 'the log ends before it did'}"))
        names = {index: name for index, _, name in self.log_file.threads}
        lines.append(Text(f"thread: {names.get(each.thread, each.thread)}"))
        if each.task:
            lines.append(Text(f"task: {self.log_file.tasks.get(each.task, each.task)}"))
        lines.append(Text(f"began: {each.time / 1e9:.6f} s"))
        lines += [Text("in ") + line(outer) for outer in reversed(self.words.stack(each.number))]
        self.query_one("#detail", Static).update(Text("\n").join(lines))

    def _source(self, site: dump.Site) -> Any:
        path = self.words.source_path(site.file)
        try:
            if os.path.getsize(path) > 8 << 20:
                raise OSError("too long")
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except (OSError, ValueError):
            return Text(f"{output.clean(site.file)}:{site.line} (its source cannot be read)")
        return Syntax(
            text,
            "python",
            line_numbers=True,
            line_range=(max(1, site.line - AROUND), site.line + AROUND),
            highlight_lines={site.line},
        )

    def _about(self, value: Any) -> str:
        text = self.words.value(value)
        if isinstance(value, dump.Ref) and (known := self.words.object(value.serial)):
            more = f" {known.text}" if known.text and known.value is None else ""
            text += f"  ({known.type_name} #{value.serial}{more})"
        return output.clean(text)

    # --- asking -------------------------------------------------------------------------------

    def action_ask(self, what: str) -> None:
        """Opens the line in which a question is written."""
        ask = self.query_one("#ask", Input)
        self.asked = what
        ask.value = ""
        ask.placeholder = {
            "search": "a regular expression",
            "go": "the number of an operation",
            "object": "the serial of an object",
        }[what]
        ask.add_class("open")
        ask.focus()

    def action_close(self) -> None:
        """Closes it."""
        self.query_one("#ask", Input).remove_class("open")
        self.tree_of.focus()

    def action_keys(self) -> None:
        """Says what the keys do."""
        self.notify(HELP, title="Keys", timeout=20)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answers the question."""
        text = event.value.strip()
        self.action_close()
        if not text:
            return
        if self.asked == "search":
            try:
                self.pattern = re.compile(text)
            except re.error as error:
                self.notify(f"no regular expression: {error}", severity="error", markup=False)
                return
            self.action_again(backwards=False)
            return
        if not re.fullmatch(r"#?[0-9]{1,18}", text):
            self.notify(f"'{text}' is no number", severity="error", markup=False)
            return
        number = int(text.removeprefix("#"))
        if self.asked == "go":
            first, last = self.log_file.range
            if first <= number <= last:
                self._reveal(number)
            else:
                self.notify(f"operations are numbered {first} to {last}", severity="error")
        else:
            self._life(number)

    def _life(self, serial: int) -> None:
        known = self.words.object(serial)
        if known is None:
            self.notify(f"there is no object #{serial}", severity="error")
            return
        first, last = life.operations(self.log_file, serial, LIFE_MAX)
        lines = [Text(f"#{serial} {known.type_name} {output.clean(known.text or '')}")]
        for each in first + last:
            mark = "* " if self.words.changes(each, serial) else "  "
            lines.append(Text(mark) + line(self.words.line(each, width=self.width)))
        if last:
            lines.insert(1 + len(first), Text("  … more in between"))
        death = self.log_file.death(serial)
        lines.append(Text("alive at the end" if death is None else f"gone after #{death[0]}"))
        self.query_one("#detail", Static).update(Text("\n").join(lines))

    # --- searching ----------------------------------------------------------------------------

    def action_again(self, backwards: bool) -> None:
        """Searches on from the cursor."""
        if self.pattern is None:
            self.action_ask("search")
            return
        node = self.tree_of.cursor_node
        data = node.data if node is not None else None
        at = data.number if isinstance(data, dump.Operation) else 0
        self._search(self.pattern, at, backwards)

    @work(thread=True, exclusive=True)
    def _search(self, pattern: re.Pattern[str], at: int, backwards: bool) -> None:
        from textual.worker import get_current_worker

        worker = get_current_worker()
        first, last = self.log_file.range
        span = (first, at - 1) if backwards else (max(first, at + 1), last)
        for each in source.every(self.log_file, {"range": span}, backwards=backwards):
            if worker.is_cancelled:
                return
            if pattern.search(output.plain(self.words.line(each)[1:])):
                self.call_from_thread(self._reveal, each.number)
                return
        self.call_from_thread(
            self.notify, f"nothing {'before' if backwards else 'after'} matches", severity="warning"
        )

    def _reveal(self, number: int) -> None:
        """Unfolds what an operation is part of, and puts the cursor on it."""
        node = self.tree_of.root
        parent = 0
        first = self.log_file.range[0]
        for outer, _ in self.log_file.stack(number):
            if outer < first:
                continue
            child = self._child(node, outer)
            if child is None:
                self._load(node, parent, outer - 1)
                child = self._child(node, outer)
            if child is None:
                self.notify(f"operation {number} is not where it should be", severity="error")
                return
            node.expand()
            node, parent = child, outer
        tree = self.tree_of
        self.call_after_refresh(tree.move_cursor, node)
        self.call_after_refresh(tree.scroll_to_node, node)
        if isinstance(node.data, dump.Operation):
            self._show(node.data)

    def _child(
        self, node: TreeNode[dump.Operation | More], number: int
    ) -> TreeNode[dump.Operation | More] | None:
        for child in node.children:
            if isinstance(child.data, dump.Operation) and child.data.number == number:
                return child
        return None
