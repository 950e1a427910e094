"""Cells of a chapter that the reader's own run cannot fill: each is skipped with a sentence, and the rest goes on."""

import ast
import builtins
from collections.abc import Mapping, MutableMapping


class Skipping:
    """What a cell becomes before it runs, an input transformer of IPython.

    A cell that asks for a method of which there is no run, as in `chapter.models["vanilla"]`, becomes a line that says
    so. A cell that uses a name which such a cell alone would have given becomes one too.

    Args:
        missing: attribute of `chapter` -> method that it lacks -> what to say of it.
        names: the notebook's names; what a skipped cell would have given is taken out of them, for an earlier run of
            the cell may have left it there.
    """

    def __init__(self, missing: Mapping[str, Mapping[str, str]], names: MutableMapping[str, object]):
        self._missing = missing
        self._names = names
        self._lost: set[str] = set()

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines of a cell: as they are, or the one that says why it is skipped."""
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            return lines  # Python says what is wrong
        given = assigned_names(tree)
        reason = self._asks_for(tree) or self._builds_on(tree, given)
        if reason is None:
            return lines
        self._lost |= given
        for name in given:
            self._names.pop(name, None)
        return [f"print({f'skipped: {reason}'!r})\n"]

    def _asks_for(self, tree: ast.Module) -> str | None:
        """Return what to say of the first method that the cell asks for in vain."""
        for node in ast.walk(tree):
            match node:
                case ast.Subscript(
                    value=ast.Attribute(value=ast.Name(id="chapter"), attr=kind), slice=ast.Constant(value=method)
                ) if method in self._missing.get(kind, ()):
                    return self._missing[kind][method]
        return None

    def _builds_on(self, tree: ast.Module, given: set[str]) -> str | None:
        """Return what to say if the cell uses a name that a skipped cell has not given."""
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        used = {name.id for name in names if isinstance(name.ctx, ast.Load)}
        own = given | {name.id for name in names if isinstance(name.ctx, ast.Store)}
        own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        lost = (used & self._lost) - own - self._names.keys() - set(dir(builtins))
        return f"it builds on a cell that was skipped ({', '.join(sorted(lost))})" if lost else None


def assigned_names(tree: ast.Module) -> set[str]:
    """Return the names that a cell gives to the notebook."""
    names, nodes = set(), list(ast.iter_child_nodes(tree))
    while nodes:
        match node := nodes.pop():
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue  # names of their own
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case _:
                nodes.extend(ast.iter_child_nodes(node))
    return names
