"""Mutants: a module with one node of its source changed."""

from __future__ import annotations

import ast
import collections
import importlib.machinery
import importlib.util
import re
from pathlib import Path

__all__ = ["Mutated", "mutants", "mutated"]

ROOT = Path(__file__).resolve().parents[1]

SWAPPED = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq},
    **{ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn},
    **{ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div},
    **{ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And},
}

PLAIN = (ast.Constant, ast.BinOp, ast.operator)


def variants(node: ast.AST) -> list[ast.AST]:  # noqa: PLR0912 (one case for each kind of node)
    """What a node is changed into, each in turn."""
    new: list[ast.AST] = []

    def changed(**fields) -> None:
        new.append(ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **fields}), node))

    match node:
        case ast.Compare(ops=ops):
            for k, op in enumerate(ops):
                changed(ops=[*ops[:k], SWAPPED[type(op)](), *ops[k + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPPED:
            changed(op=SWAPPED[type(op)]())
        case ast.UnaryOp(operand=operand) if not isinstance(operand, ast.Constant):
            new.append(operand)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
                changed(test=ast.copy_location(ast.UnaryOp(ast.Not(), test), test))
        case ast.Constant(value=bool(value)):
            changed(value=not value)
        case ast.Constant(value=int() | float() as value):
            changed(value=value + 1)
        # What holds a space is a message.
        case ast.Constant(value=str(value)) if " " not in value:
            changed(value="" if value else "XX")
        case ast.Call(keywords=keywords):
            for k, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    changed(keywords=keywords[:k] + keywords[k + 1 :])
        case ast.Return(value=ast.AST() as value) if not isinstance(value, ast.Constant):
            changed(value=ast.copy_location(ast.Constant(None), value))
        case ast.Expr() | ast.Raise() | ast.Break() | ast.Continue():
            new.append(ast.copy_location(ast.Pass(), node))
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            new.append(ast.copy_location(ast.Pass(), node))
    return new


def is_left_out(node: ast.AST) -> bool:
    """Whether nothing in a node can be told by a test: types, texts, and lists of names."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) if re.fullmatch("_[A-Z_]+", name):
            # Bounds and shares that were chosen by measuring.
            return all(isinstance(n, PLAIN) for n in ast.walk(node.value))
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Call(func=ast.Name(id="TypeVar")):
            return True
    return False


def mutants(source: str) -> list[dict]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    number = {node: k for k, node in enumerate(ast.walk(tree))}
    found: list[dict] = []

    def visit(
        node: ast.AST, function: str, lines: tuple[int, int], is_text: bool, imported: bool
    ) -> None:
        if is_left_out(node):
            return
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            lines = (node.lineno, max(node.lineno, body[0].lineno - 1) if body else node.end_lineno)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            function = f"{function}.{node.name}".lstrip(".")
            if isinstance(node, ast.FunctionDef):
                lines = (node.body[0].lineno, node.end_lineno)
        for k, new in enumerate([] if is_text else variants(node)):
            was, now = (" ".join(ast.unparse(n).split()) for n in (node, new))
            change = f"{was} → {now}" if now != "pass" else f"{was} → left out"
            where = {"function": function, "lines": lines, "node": number[node], "variant": k}
            where["imported"] = imported
            found.append({"change": change, **where})
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(
                        child,
                        function,
                        lines,
                        is_text or isinstance(node, ast.Raise),
                        imported or isinstance(node, ast.arguments),
                    )

    visit(tree, "", (1, 1), False, False)
    times: collections.Counter = collections.Counter()
    for mutant in found:
        name = (mutant["function"], mutant["change"])
        times[name] += 1
        mutant["change"] += f" ({times[name]})" if times[name] > 1 else ""
    return found


def mutated(source: str, mutant: dict) -> ast.Module:
    """Syntax tree of a module in which one node is changed."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[mutant["node"]]
    new = variants(node)[mutant["variant"]]

    class Swap(ast.NodeTransformer):
        def visit(self, at: ast.AST) -> ast.AST:
            return new if at is node else self.generic_visit(at)

    return ast.fix_missing_locations(Swap().visit(tree))


class Mutated(importlib.machinery.SourceFileLoader):
    """Finds and loads one module, from a tree instead of its file."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.is_room = parts[-1] == "__init__"
        super().__init__(".".join(parts[:-1] if self.is_room else parts), str(path))
        self.tree = tree

    def find_spec(self, name, path=None, target=None):
        found = name == self.name
        return (
            importlib.util.spec_from_file_location(name, self.path, loader=self) if found else None
        )

    def get_code(self, fullname):
        return compile(self.tree, self.path, "exec")
