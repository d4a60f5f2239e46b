"""From a function as it is written to one that the compiler takes, with every name checked.

The guest's tables and its host's become the first two parameters; reads and stores through
pointers, the kernel's words and static variables become calls of `compiled/own`, each with its
line; each round of a loop is counted. Lines stay what they are in the file, so that the compiler's
own messages and a debugger show them.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field

from p2mbatch.model.own import vocabulary as vo
from p2mbatch.model.own.expressions import TABLES, Expressions, call, number, tables
from p2mbatch.model.own.source import Function, Source, Written

_VALUE = "_p2m_value"


class Site:
    """A BUG of the policy: where it is, and what is told of it."""

    def __init__(self, source: Source, line: int, text: str) -> None:
        self.shown, self.line, self.text = source.shown, line, text


@dataclass
class Rewritten:
    """What came of a policy's functions."""

    nodes: list[tuple[Function, ast.FunctionDef]] = field(default_factory=list)
    """Callees before those that call them."""
    sites: list[Site] = field(default_factory=list)


def rewrite_all(written: Written, wanted: list[str]) -> Rewritten:
    """Rewrite the functions of a policy that the names `wanted` need, each with what it calls.

    Raises `PolicyError` with the line of what is wrong.
    """
    out = Rewritten()
    done: dict[str, bool] = {}

    def visit(function: Function, caller: ast.AST | None, source: Source) -> None:
        if done.get(function.compiled):
            return
        if function.compiled in done:
            raise source.error(caller or function.node, f"{function.name} comes to call itself")
        done[function.compiled] = False
        rewriter = _Rewriter(written, function, out)
        node = rewriter.rewritten()
        for callee, at in rewriter.callees:
            visit(callee, at, function.source)
        out.nodes.append((function, node))
        done[function.compiled] = True

    for name in wanted:
        visit(written.functions[name], None, written.module.source)
    return out


def arrays_function(written: Written) -> ast.FunctionDef:
    """Return the function that lays a policy's static arrays out, in their order."""
    plan = ast.parse("def arrays(self):\n    pass").body[0]
    assert isinstance(plan, ast.FunctionDef)
    function = Function("arrays", plan, written.module.source, written.name)
    rewriter = _Rewriter(written, function, Rewritten())
    made = rewriter.rewritten()
    for name, words in written.arrays.items():
        places = (rewriter.register(name), rewriter.register(f"{name}[]"))
        line, count = rewriter.line(words), rewriter.visit(copy.deepcopy(words))
        step: ast.stmt = ast.Expr(call("make_array", *tables(), *places, count, line))
        made.body.append(ast.copy_location(step, words))
    return ast.fix_missing_locations(made)


def callees_of(written: Written, name: str) -> set[str]:
    """Return the names of the policy's functions that its function `name` comes to call, and it."""
    found: set[str] = set()
    todo = [name]
    while todo:
        at = todo.pop()
        if at in found or at not in written.functions:
            continue
        found.add(at)
        for node in ast.walk(written.functions[at].node):
            if isinstance(node, ast.Attribute):
                todo.append(node.attr)
    return found


class _Rewriter(Expressions):
    """Rewrites one function."""

    def __init__(self, written: Written, function: Function, out: Rewritten) -> None:
        super().__init__(written, function)
        self.out = out

    def rewritten(self) -> ast.FunctionDef:
        """Return the function as the compiler takes it."""
        # What is rewritten is changed in its place.
        node = copy.deepcopy(self.function.node)
        for name in sorted(self.locals):
            if name.startswith("_p2m"):
                raise self.wrong(node, f"{name}: names that begin with _p2m are p2mbatch's own")
        self._check_returns(node)
        names = [*TABLES, *self.function.parameters]
        made = ast.FunctionDef(
            name=self.function.compiled,
            args=ast.arguments(
                posonlyargs=[], args=[ast.arg(arg=n) for n in names], kwonlyargs=[],
                kw_defaults=[], defaults=[],
            ),
            body=self._block(node.body) or [ast.Pass()],
            decorator_list=[ast.Name(id="_p2m_inner_kernel", ctx=ast.Load())],
        )  # fmt: skip
        ast.copy_location(made, node)
        return ast.fix_missing_locations(made)

    # --- statements ---------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for node in body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            new = self._statement(node)
            for part in new:
                ast.copy_location(part, node)
                ast.fix_missing_locations(part)
            made += new
        return made

    def _statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.Assign):
            if len(node.targets) != 1:
                raise self.wrong(node, "one target for each assignment")
            if isinstance(node.targets[0], ast.Tuple):
                return self._together(node.targets[0], node.value)
            return self._assign(node.targets[0], self.visit(node.value), node)
        if isinstance(node, ast.AnnAssign):
            if node.value is None:
                return []
            return self._assign(node.target, self.visit(node.value), node)
        if isinstance(node, ast.AugAssign):
            return self._augmented(node)
        if isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Call):
                raise self.wrong(node, "this does nothing: is a call or an assignment meant?")
            return self._call_alone(node.value)
        if isinstance(node, ast.If):
            test = self.visit(node.test)
            return [ast.If(test, self._block(node.body) or [ast.Pass()], self._block(node.orelse))]
        if isinstance(node, ast.While):
            return [self._loop(node, ast.While(self.visit(node.test), [], []))]
        if isinstance(node, ast.For):
            return [self._for(node)]
        if isinstance(node, ast.Return):
            return [ast.Return(None if node.value is None else self.visit(node.value))]
        if isinstance(node, ast.Pass | ast.Break | ast.Continue):
            return [type(node)()]
        what = type(node).__name__.lower()
        raise self.wrong(node, f"{what} is not among what a policy may use (docs/own-policy.md)")

    def _loop(self, node: ast.While | ast.For, made: ast.While | ast.For) -> ast.stmt:
        if node.orelse:
            raise self.wrong(node, "a loop with else is not among what a policy may use")
        count = ast.Expr(call("step", ast.Name(TABLES[0], ast.Load()), self.line(node)))
        made.body = [count, *self._block(node.body)]
        return made

    def _for(self, node: ast.For) -> ast.stmt:
        over = node.iter
        ranged = isinstance(over, ast.Call) and isinstance(over.func, ast.Name)
        if not ranged or over.func.id != "range" or not isinstance(node.target, ast.Name):  # type: ignore[attr-defined]
            raise self.wrong(node, "for goes over a range: for i in range(…)")
        assert isinstance(over, ast.Call)
        # The compiler must see which way a range goes.
        plain = [
            a if isinstance(a, ast.Constant) and type(a.value) is int else self.visit(a)
            for a in over.args
        ]
        call = ast.Call(ast.Name("range", ast.Load()), plain, [])
        return self._loop(node, ast.For(node.target, call, [], []))

    def _assign(self, target: ast.expr, value: ast.expr, node: ast.AST) -> list[ast.stmt]:
        if isinstance(target, ast.Name):
            return [ast.Assign([ast.Name(target.id, ast.Store())], value)]
        if isinstance(target, ast.Attribute):
            return [ast.Expr(self._set_static(target, value))]
        if isinstance(target, ast.Subscript):
            # What is stored is worked out before the place that it goes to.
            array = self.array_of(target)
            where = array or (self.visit(target.value),)
            stored = call(
                "store_in" if array else "store", *tables(), *where, self.index(target),
                ast.Name(_VALUE, ast.Load()), self.line(target),
            )  # fmt: skip
            return [ast.Assign([ast.Name(_VALUE, ast.Store())], value), ast.Expr(stored)]
        raise self.wrong(node, "what is assigned to is a name, self.name or a word p[i]")

    def _together(self, target: ast.Tuple, value: ast.expr) -> list[ast.stmt]:
        """Return `a, b = x, y`: all values are worked out before the first is assigned."""
        if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
            raise self.wrong(target, "as many values as names, with commas between: a, b = x, y")
        held = [f"{_VALUE}_{k}" for k in range(len(value.elts))]
        made: list[ast.stmt] = [
            ast.Assign([ast.Name(name, ast.Store())], self.visit(one))
            for name, one in zip(held, value.elts, strict=True)
        ]
        for name, one in zip(held, target.elts, strict=True):
            made += self._assign(one, ast.Name(name, ast.Load()), target)
        return made

    def _augmented(self, node: ast.AugAssign) -> list[ast.stmt]:
        self._check_operator(node, node.op)
        target = node.target
        if isinstance(target, ast.Name):
            return [ast.AugAssign(target, node.op, self.visit(node.value))]
        again = ast.parse(ast.unparse(target), mode="eval").body
        for part in ast.walk(again):
            ast.copy_location(part, target)
        value = ast.BinOp(self.visit(again), node.op, self.visit(node.value))
        return self._assign(target, value, node)

    def _call_alone(self, node: ast.Call) -> list[ast.stmt]:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in vo.BUGS and name not in self.locals:
            return [self._bug(node, name)]
        return [ast.Expr(self.visit(node))]

    def _bug(self, node: ast.Call, name: str) -> ast.stmt:
        before = vo.BUGS[name]
        texts = node.args[before:]
        if len(node.args) < before or len(texts) > 1 or node.keywords:
            raise self.wrong(
                node, f"{name} takes " + ("a condition and a text" if before else "a text")
            )
        text = self._told(node.args[0]) if before else name
        if texts:
            if not isinstance(texts[0], ast.Constant) or not isinstance(texts[0].value, str):
                raise self.wrong(node, f"{name}'s text is written out, as 'mididx'")
            text = texts[0].value
        self.out.sites.append(Site(self.source, node.lineno, text))
        site = number(len(self.out.sites) - 1)
        stop: ast.stmt = ast.Expr(
            call("bug", ast.Name(TABLES[0], ast.Load()), site, self.line(node))
        )
        return ast.If(self.visit(node.args[0]), [stop], []) if before else stop

    def _told(self, node: ast.expr) -> str:
        text = ast.get_source_segment(self.source.text, node) or ast.unparse(node)
        if self.function.self_name:
            text = text.replace(f"{self.function.self_name}.", "")
        return " ".join(text.split())

    # --- what a function answers --------------------------------------------------------------

    def _check_returns(self, node: ast.FunctionDef) -> None:
        returns = [n for n in ast.walk(node) if isinstance(n, ast.Return)]
        wanted = vo.RETURNS.get(self.function.name) if self.function.owner else None
        answers = [n for n in returns if n.value is not None]
        if not answers and not wanted:
            return
        what = f"it answers {wanted}" if wanted else "it answers something elsewhere"
        for found in returns:
            if found.value is None:
                raise self.wrong(found, f"{self.function.name} returns nothing here: {what}")
        if not _always_returns(node.body):
            raise self.wrong(node, f"{self.function.name} comes to an end without return: {what}")


def _always_returns(body: list[ast.stmt]) -> bool:
    """Return whether no way through `body` comes to its end."""
    for node in body:
        if isinstance(node, ast.Return):
            return True
        if isinstance(node, ast.If) and node.orelse:
            if _always_returns(node.body) and _always_returns(node.orelse):
                return True
        elif isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
            if node.test.value and not any(isinstance(n, ast.Break) for n in ast.walk(node)):
                return True
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            func = node.value.func
            if isinstance(func, ast.Name) and func.id == "BUG":
                return True
    return False
