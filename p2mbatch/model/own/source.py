"""The file of a policy of one's own: its text, its classes, and which of them is meant."""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from p2mbatch.base.errors import PolicyError
from p2mbatch.model import policies
from p2mbatch.model.own.vocabulary import ALL, KNOWN, SHIPPED

MAX_BYTES = 1 << 20

_TREES = Path(__file__).resolve().parents[2] / "linux" / "trees.py"


@dataclass(frozen=True)
class Source:
    """A file's text; `shown` is its name as messages have it."""

    shown: str
    text: str
    path: Path
    """Where it lies, for the compiler's own messages and for debuggers."""

    def error(self, where: ast.AST | int, problem: str) -> PolicyError:
        """Return the error that something in a line, or at a node, is wrong."""
        line = where if isinstance(where, int) else getattr(where, "lineno", 1)
        return PolicyError(f"{self.shown}, line {line}: {problem}")

    @cached_property
    def tree(self) -> ast.Module:
        """Return its syntax tree; raises `PolicyError` where it is no Python."""
        try:
            return ast.parse(self.text, filename=str(self.path))
        except SyntaxError as error:
            raise self.error(error.lineno or 1, f"not Python: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self.error(1, f"not Python: {error}") from None


@dataclass(frozen=True)
class Function:
    """A function of a file, one of a class or one beside them."""

    name: str
    node: ast.FunctionDef
    source: Source
    owner: str
    """Its class; "" for one beside them."""

    @property
    def compiled(self) -> str:
        """Return its name in the compiled module."""
        return f"_p2m_{self.owner}_{self.name}"

    @property
    def self_name(self) -> str:
        """Return what the function calls its guest; "" for one beside the classes."""
        return self.node.args.args[0].arg if self.owner else ""

    @property
    def is_abstract(self) -> bool:
        """Return whether a function of `Kernel` only says that there must be one."""
        return self.owner == "Kernel" and isinstance(self.node.body[-1], ast.Raise)

    @property
    def parameters(self) -> list[str]:
        """Return its parameters but for `self`."""
        return [a.arg for a in self.node.args.args][1 if self.owner else 0 :]


@dataclass
class Class:
    """A class of a file: a policy, or part of one."""

    name: str
    node: ast.ClassDef
    source: Source
    base: str
    functions: dict[str, Function] = field(default_factory=dict)
    statics: dict[str, int] = field(default_factory=dict)
    """Its static variables and the lines that declare them."""
    arrays: dict[str, ast.expr] = field(default_factory=dict)
    """Its static arrays, which are static variables too, and how many words each has."""
    fields: set[str] = field(default_factory=set)


@dataclass
class Module:
    """What a file has: classes, functions beside them, constants."""

    source: Source
    classes: dict[str, Class] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?" where a name is like another."""
    found = difflib.get_close_matches(name, list(names), 1)
    return f": did you mean {found[0]}?" if found else ""


def read_module(source: Source) -> Module:
    """Return what a file has; raises `PolicyError` with the line of what it may not have."""
    module = Module(source)
    for node in source.tree.body:
        if _is_text(node) or isinstance(node, ast.Pass):
            continue
        if isinstance(node, ast.ImportFrom):
            _check_import(source, node)
        elif isinstance(node, ast.ClassDef):
            module.classes[node.name] = _read_class(source, node)
        elif isinstance(node, ast.FunctionDef):
            module.functions[node.name] = _function(source, node, "")
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            _read_constant(module, node)
        else:
            raise source.error(
                node, f"{_kind(node)} can't stand here: a policy's file has imports of "
                "p2mbatch.linux, numbers with a name, functions and classes",
            )  # fmt: skip
    return module


def shipped_module() -> Module:
    """Return the classes of `p2mbatch/linux`."""
    text = _TREES.read_text(encoding="utf-8")
    return read_module(Source("p2mbatch.linux", text, _TREES))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _kind(node: ast.AST) -> str:
    return {"Expr": "an expression", "Import": "import", "AsyncFunctionDef": "async"}.get(
        type(node).__name__, type(node).__name__.lower()
    )


def _check_import(source: Source, node: ast.ImportFrom) -> None:
    if node.module == "__future__":
        return
    if node.module not in ("p2mbatch.linux", "p2mbatch.linux.words"):
        raise source.error(node, f"from {node.module}: a policy imports from p2mbatch.linux alone")
    for alias in node.names:
        if alias.name not in (*ALL, "*") or alias.asname:
            raise source.error(
                node, f"p2mbatch.linux has no {alias.asname or alias.name!r}"
                f"{nearest(alias.name, ALL)}",
            )  # fmt: skip


def _read_constant(module: Module, node: ast.Assign) -> None:
    source, target = module.source, node.targets[0]
    try:
        value = eval_number(node.value, module.constants)
    except ValueError:
        raise source.error(
            node, "beside its functions a policy has whole numbers with a name, as LIMIT = 16",
        ) from None  # fmt: skip
    if not isinstance(target, ast.Name):
        raise source.error(node, "a number's name is one word")
    module.constants[target.id] = value


def eval_number(node: ast.expr, known: dict[str, int]) -> int:
    """Return the whole number that an expression of numbers is; ValueError for another."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -eval_number(node.operand, known)
    if isinstance(node, ast.BinOp):
        left, right = eval_number(node.left, known), eval_number(node.right, known)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv) and right > 0:
            return left // right
        if isinstance(node.op, ast.LShift) and 0 <= right < 64:
            return left << right
    raise ValueError


def _read_class(source: Source, node: ast.ClassDef) -> Class:
    if len(node.bases) > 1 or node.keywords or node.decorator_list:
        raise source.error(node, f"class {node.name}: give it one base, as Tracked, and no more")
    base = node.bases[0] if node.bases else None
    if base is not None and not isinstance(base, ast.Name):
        raise source.error(node, f"class {node.name}: its base is a name, as Tracked")
    found = Class(node.name, node, source, base.id if base is not None else "")
    for part in node.body:
        if _is_text(part) or isinstance(part, ast.Pass):
            continue
        if isinstance(part, ast.FunctionDef):
            if part.name in found.functions:
                raise source.error(part, f"{part.name} is there twice")
            found.functions[part.name] = _function(source, part, node.name)
        elif isinstance(part, ast.AnnAssign | ast.Assign):
            _read_static(source, found, part)
        else:
            raise source.error(part, f"{_kind(part)} can't stand in a policy's class")
    return found


def _read_static(source: Source, found: Class, node: ast.AnnAssign | ast.Assign) -> None:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if not isinstance(target, ast.Name):
        raise source.error(node, "a static variable's name is one word")
    if node.value is None:
        if source.path != _TREES:
            raise source.error(node, f"{target.id} has no value: a static variable begins as NULL")
        found.fields.add(target.id)
        return
    value = node.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id != "array" or len(value.args) != 1 or value.keywords:
            raise source.error(node, f"{target.id}: a static array is array(words)")
        found.arrays[target.id] = value.args[0]
        found.statics[target.id] = node.lineno
        return
    is_null = (isinstance(value, ast.Name) and value.id == "NULL") or (
        isinstance(value, ast.Constant) and type(value.value) is int and value.value == 0
    )
    if not is_null:
        raise source.error(node, f"{target.id}: a static variable begins as NULL or 0")
    found.statics[target.id] = node.lineno


def _function(source: Source, node: ast.FunctionDef, owner: str) -> Function:
    args = node.args
    if args.posonlyargs or args.kwonlyargs or args.vararg or args.kwarg or args.defaults:
        raise source.error(node, f"{node.name}: plain parameters only")
    if node.decorator_list:
        raise source.error(node, f"{node.name}: a policy's functions have no decorators")
    if owner and not args.args:
        raise source.error(node, f"{node.name}: its first parameter is self")
    return Function(node.name, node, source, owner)


@dataclass(frozen=True)
class Written:
    """One policy as it is written: its class and those that it inherits from, nearest first."""

    module: Module
    line: list[Class]
    """The class and its ancestors, up to `Kernel`."""

    @property
    def name(self) -> str:
        """Return the class's name."""
        return self.line[0].name

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Return the function that each name means to the policy."""
        found: dict[str, Function] = {}
        for part in reversed(self.line):
            found |= part.functions
        return found

    @property
    def own_tree(self) -> bool:
        """Return whether it looks PFNs up itself, in a p2m that it lays out itself."""
        return not self.functions["get_phys_to_machine"].is_abstract

    @property
    def known(self) -> tuple[str, ...]:
        """Return the static pointers that the model knows too."""
        return KNOWN[:1] if self.own_tree else KNOWN

    @cached_property
    def arrays(self) -> dict[str, ast.expr]:
        """Return its static arrays."""
        found: dict[str, ast.expr] = {}
        for part in reversed(self.line):
            found |= part.arrays
        return found

    @cached_property
    def statics(self) -> list[str]:
        """Return its static variables, those that the model knows too first and in their order.

        The words of an array are kept in a variable of their own, "NAME[]".
        """
        declared = [name for part in reversed(self.line) for name in part.statics]
        own = dict.fromkeys(name for name in declared if name not in self.known)
        return [*self.known, *own, *(f"{name}[]" for name in self.arrays)]

    @property
    def shipped(self) -> str:
        """Return the class of `p2mbatch/linux` that it inherits from; "" where it does not."""
        theirs = (part.name for part in self.line if part.source is not self.module.source)
        return next(theirs, "")

    @property
    def base(self) -> str:
        """Return the policy of p2mbatch that it inherits from; "" where it is none."""
        name = self.shipped.lower()
        return name if name in policies.names() else ""

    def after(self, owner: str, name: str) -> Function | None:
        """Return what `super().name` means in a function of the class `owner`."""
        places = [part.name for part in self.line]
        for part in self.line[places.index(owner) + 1 :]:
            if name in part.functions:
                return part.functions[name]
        return None


def choose(module: Module, name: str) -> Written:
    """Return the policy `name` of a file, or the only one where that is empty."""
    source, classes = module.source, module.classes
    if not classes:
        raise source.error(1, "there is no policy in it: write a class, as class Mine(Tracked):")
    if name and name not in classes:
        raise PolicyError(f"{source.shown}: has no class {name!r}: it has {', '.join(classes)}")
    if not name:
        inherited = {found.base for found in classes.values()}
        last = [known for known in classes if known not in inherited]
        if len(last) != 1:
            raise PolicyError(
                f"{source.shown}: has several policies ({', '.join(last)}): say which, "
                f"as {source.shown}:{last[0]}"
            )
        name = last[0]
    return Written(module, _lineage(module, classes[name]))


def _lineage(module: Module, found: Class) -> list[Class]:
    shipped, line = shipped_module(), [found]
    while line[-1].base:
        last = line[-1]
        known = module.classes.get(last.base) if last.source is module.source else None
        known = known or shipped.classes.get(last.base)
        if known is None:
            names = (*SHIPPED, *module.classes)
            raise last.source.error(
                last.node, f"class {last.name}: its base {last.base} is unknown"
                f"{nearest(last.base, names)}",
            )  # fmt: skip
        if known in line:
            raise last.source.error(last.node, f"class {last.name} inherits from itself")
        line.append(known)
    if line[-1].name != "Kernel":
        raise line[-1].source.error(
            line[-1].node, f"class {line[-1].name}: has no base: inherit from {', '.join(SHIPPED)}"
        )
    return line


def digest_of(text: str, name: str) -> str:
    """Return what tells a policy from another: a digest of its file's text and its class."""
    return hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:16]
