"""The expressions of a policy's function, each name checked, as the compiler takes them."""

from __future__ import annotations

import ast
from typing import NoReturn

from p2mbatch.base.errors import PolicyError
from p2mbatch.compiled.own.registers import K_MISSING, K_OWN
from p2mbatch.model.own import vocabulary as vo
from p2mbatch.model.own.source import Function, Written, nearest

TABLES = ("_p2m_t", "_p2m_h")
"""What a compiled function calls the guest's tables and its host's."""


class Expressions(ast.NodeTransformer):
    """Rewrites the expressions of one function."""

    def __init__(self, written: Written, function: Function) -> None:
        self.written, self.function = written, function
        self.source = function.source
        self.callees: list[tuple[Function, ast.AST]] = []
        body = [n for part in function.node.body for n in ast.walk(part)]
        self.locals = set(function.parameters) | {
            n.id for n in body if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }

    def line(self, node: ast.AST) -> ast.expr:
        """Return the line of a node, as a number that tells the files apart."""
        shipped = self.source is not self.written.module.source
        return number(getattr(node, "lineno", 0) + shipped * vo.SHIPPED_LINES)

    def wrong(self, node: ast.AST, problem: str) -> PolicyError:
        """Return the error that something at a node is wrong."""
        return self.source.error(node, problem)

    # --- expressions --------------------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Take an operation of numbers, and nothing that has no place of its own here."""
        allowed = (ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.operator,
                   ast.unaryop, ast.boolop, ast.cmpop)  # fmt: skip
        if not isinstance(node, allowed):
            what = type(node).__name__.lower()
            raise self.wrong(
                node, f"{what} is not among what a policy may use (docs/own-policy.md)"
            )
        if isinstance(node, ast.BinOp):
            self._check_operator(node, node.op)
        if isinstance(node, ast.Compare) and any(
            isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops
        ):
            raise self.wrong(node, "numbers are compared by ==, !=, <, <=, > and >=")
        return super().generic_visit(node)

    def _check_operator(self, node: ast.AST, op: ast.operator) -> None:
        if isinstance(op, ast.Div | ast.Pow | ast.MatMult):
            raise self.wrong(node, "numbers are whole: use + - * // % << >> & | ^")

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Take a whole number."""
        if type(node.value) is int:
            if not -(1 << 63) <= node.value < 1 << 63:
                raise self.wrong(node, f"{node.value} is no number of 64 bits with a sign")
            return number(node.value)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Take a variable, or a number with a name."""
        name = node.id
        if name in self.locals:
            return node
        if name in self.written.module.constants and self.source is self.written.module.source:
            return number(self.written.module.constants[name])
        if name in vo.CONSTANTS:
            return call("as_int", ast.Name(f"_p2m_{vo.CONSTANTS[name]}", ast.Load()))
        if name in vo.OF_THE_WIDTH:
            return call(vo.OF_THE_WIDTH[name], ast.Name(TABLES[0], ast.Load()))
        if self.function.self_name and name in self.written.functions:
            raise self.wrong(node, f"{name} is a function of the class: self.{name}")
        if name == self.function.self_name or name in vo.ALL or name in vo.PYTHON:
            raise self.wrong(node, f"{name} can't stand alone here")
        if self.function.self_name and name in (*self.written.statics, *vo.FIELDS):
            raise self.wrong(node, f"{name} is not known here: self.{name} is")
        raise self.wrong(node, f"{name} is not known{nearest(name, self._names())}")

    def _names(self) -> list[str]:
        return [*self.locals, *self.written.module.functions, *self.written.module.constants,
                *vo.ALL, *vo.PYTHON]  # fmt: skip

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Take a static variable."""
        name = self._member(node)
        if name in self.written.statics:
            if name in self.written.known or name in self._declared():
                return call("static", ast.Name(TABLES[0], ast.Load()), self.register(name))
        elif name in vo.FIELDS:
            reader = vo.READERS.get(name, name)
            return call(reader, ast.Name(TABLES[0], ast.Load()))
        return self._unknown_member(node, name)

    def _declared(self) -> set[str]:
        return {name for part in self.written.line for name in part.statics}

    def _unknown_member(self, node: ast.AST, name: str) -> NoReturn:
        if name in self.written.functions:
            raise self.wrong(node, f"self.{name} is a function: call it")
        members = [*self._declared(), *vo.FIELDS, *self.written.functions]
        raise self.wrong(
            node, f"self.{name} is not known{nearest(name, members)} "
            f"(a static variable is declared in the class: {name} = NULL)",
        )  # fmt: skip

    def _member(self, node: ast.Attribute) -> str:
        own = self.function.self_name
        if not isinstance(node.value, ast.Name) or not own or node.value.id != own:
            raise self.wrong(node, f".{node.attr}: only {own or 'self'} has members")
        return node.attr

    def register(self, name: str) -> ast.expr:
        """Return where a static variable is kept."""
        place = self.written.statics.index(name)
        known = len(self.written.known)
        return number(K_MISSING + place if place < known else K_OWN + place - known)

    def _set_static(self, node: ast.Attribute, value: ast.expr) -> ast.expr:
        name, tables = self._member(node), ast.Name(TABLES[0], ast.Load())
        if name in vo.FIELDS:
            if not vo.FIELDS[name]:
                raise self.wrong(
                    node, f"self.{name} is what the guest booted with: it can't be set"
                )
            return call(vo.FIELDS[name], tables, value)
        if name not in self._declared() and name not in self.written.known:
            self._unknown_member(node, name)
        setter = "set_pointer" if name in self.written.known else "set_static"
        return call(setter, tables, self.register(name), value)

    def array_of(self, node: ast.Subscript) -> tuple[ast.expr, ...]:
        """Return a static array's address and its words, () where the subscript is of a page."""
        value = node.value
        if not isinstance(value, ast.Attribute) or value.attr not in self.written.arrays:
            return ()
        table = ast.Name(TABLES[0], ast.Load())
        names = (self._member(value), f"{value.attr}[]")
        return tuple(call("static", table, self.register(name)) for name in names)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Take a read of a word."""
        array = self.array_of(node)
        if array:
            return call("load_in", *tables(), *array, self.index(node), self.line(node))
        return call("load", *tables(), self.visit(node.value), self.index(node), self.line(node))

    def index(self, node: ast.Subscript) -> ast.expr:
        """Return which word is meant."""
        if isinstance(node.slice, ast.Slice | ast.Tuple):
            raise self.wrong(node, "a page is read and stored word by word: p[i]")
        made: ast.expr = self.visit(node.slice)
        return made

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Take a call of a word or of a function of the file."""
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.wrong(node, "arguments are given in their order, without names")
        func = node.func
        if isinstance(func, ast.Attribute):
            return self._method(node, func)
        if not isinstance(func, ast.Name) or func.id in self.locals:
            raise self.wrong(node, "what is called is a function's name")
        name = func.id
        if name in vo.WORDS:
            word = vo.WORDS[name]
            self._check_count(node, name, word.arguments)
            if name in vo.OWN_WAY and self.written.own_tree:
                return self._own_way(node, name)
            return call(word.compiled, *tables(), *map(self.visit, node.args), self.line(node))
        if name in vo.BUGS:
            raise self.wrong(node, f"{name} stands on a line of its own")
        if name in self.written.module.functions and (self.source is self.written.module.source):
            return self._to(self.written.module.functions[name], node)
        if name in vo.PYTHON and name != "range":
            return ast.Call(ast.Name(name, ast.Load()), list(map(self.visit, node.args)), [])
        if self.function.self_name and name in self.written.functions:
            raise self.wrong(node, f"{name} is a function of the class: self.{name}(…)")
        raise self.wrong(node, f"{name} is not known{nearest(name, self._names())}")

    def _own_way(self, node: ast.Call, name: str) -> ast.expr:
        """Return a word that goes by the policy's own lookup."""
        functions = self.written.functions
        for needed in ("get_phys_to_machine", "pfn_to_mfn"):
            if not functions[needed].is_abstract:
                self.callees.append((functions[needed], node))
        where = map(self.visit, node.args)
        if name == "pfn_to_mfn":
            return ast.Call(ast.Name("PFN_TO_MFN", ast.Load()), [*tables(), *where], [])
        return call(vo.OWN_WAY[name], *tables(), *where, self.line(node))

    def _method(self, node: ast.Call, func: ast.Attribute) -> ast.expr:
        name = func.attr
        inner = func.value
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name):
            if inner.func.id != "super" or not self.function.self_name:
                raise self.wrong(node, "what is called is a function's name")
            function = self.written.after(self.function.owner, name)
        else:
            self._member(func)
            function = self.written.functions.get(name)
        if function is None:
            members = list(self.written.functions)
            raise self.wrong(node, f"{name} is not known{nearest(name, members)}")
        if function.is_abstract:
            if name not in vo.BUILT_IN:
                raise self.wrong(node, f"{name}: there is none above this class")
            word = vo.BUILT_IN[name]
            self._check_count(node, name, word.arguments)
            return call(word.compiled, *tables(), *map(self.visit, node.args), self.line(node))
        return self._to(function, node)

    def _to(self, function: Function, node: ast.Call) -> ast.expr:
        self._check_count(node, function.name, len(function.parameters))
        self.callees.append((function, node))
        return ast.Call(
            ast.Name(function.compiled, ast.Load()),
            [*tables(), *map(self.visit, node.args)],
            [],
        )

    def _check_count(self, node: ast.Call, name: str, wanted: int) -> None:
        if len(node.args) != wanted:
            one = "argument" if wanted == 1 else "arguments"
            raise self.wrong(node, f"{name} takes {wanted} {one}, not {len(node.args)}")


def tables() -> tuple[ast.expr, ...]:
    """Return the first two arguments of what works on the guest."""
    return tuple(ast.Name(name, ast.Load()) for name in TABLES)


def number(value: int) -> ast.expr:
    """Return a number as the compiler takes it."""
    # A literal would be a type of its own, and what it is handed to be compiled for each.
    return ast.Call(ast.Name("_p2m_int64", ast.Load()), [ast.Constant(value)], [])


def call(name: str, *arguments: ast.expr) -> ast.expr:
    """Return the call of something in `compiled/own`."""
    return ast.Call(ast.Name(f"_p2m_{name}", ast.Load()), list(arguments), [])
