"""What a name means: imports, aliases and variables followed to one dotted name, such as `numpy.random.rand`.

A call adds `()`: after `scaler = StandardScaler()`, `scaler.fit` is `sklearn.preprocessing.StandardScaler().fit`.
A name that may mean several things, or comes from outside the function, means nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WRAPPERS = {"Optional", "Annotated", "ResourceParam", "Final", "ClassVar"}


@dataclass(frozen=True)
class Instance:
    """What a parameter holds, by its annotation."""

    annotation: ast.expr


Bound = str | ast.expr | Instance | None


@dataclass(eq=False)
class Scope:
    """The names that a module, a class or a function binds, each with all that it may mean."""

    parent: Scope | None
    label: str
    of_class: bool = False
    bound: dict[str, list[Bound]] = field(default_factory=dict)

    def bind(self, name: str, meaning: Bound) -> None:
        """Add a meaning."""
        self.bound.setdefault(name, []).append(meaning)

    def home(self, name: str) -> Scope | None:
        """The scope in which a name used here is bound."""
        scope: Scope | None = self
        while scope is not None and (name not in scope.bound or (scope.of_class and scope is not self)):
            scope = scope.parent
        return scope


class Names:
    """Every scope of a module, and the meaning of every expression in it."""

    def __init__(self, tree: ast.Module, module: str, package: str) -> None:
        self.package = package
        self.top = Scope(None, module)
        self.scope_of: dict[ast.AST, Scope] = {}
        self.defined: list[tuple[str, ast.AST]] = []
        self._enter(tree.body, self.top)

    def meaning(self, node: ast.AST | None) -> str:
        """The dotted name of an expression; empty where it has none."""
        try:
            return self._meaning(node, frozenset())
        except RecursionError:
            return ""

    def of_bound(self, bound: Bound) -> str:
        """The dotted name of what a scope binds; empty where it has none."""
        return self._bound(bound, frozenset())

    def _meaning(self, node: ast.AST | None, seen: frozenset[tuple[int, str]]) -> str:
        match node:
            case ast.Name(id=name):
                return self._named(name, self.scope_of.get(node, self.top), seen)
            case ast.Attribute(value=value, attr=attribute):
                base = self._meaning(value, seen)
                return f"{base}.{attribute}" if base else ""
            case ast.Call(func=function):
                base = self._meaning(function, seen)
                return f"{base}()" if base else ""
            case ast.Await(value=value):
                return self._meaning(value, seen)
        return ""

    def _named(self, name: str, used_in: Scope, seen: frozenset[tuple[int, str]]) -> str:
        scope = used_in.home(name)
        if scope is None:
            return name
        if (id(scope), name) in seen:
            return ""
        seen |= {(id(scope), name)}
        meanings = {self._bound(each, seen) for each in scope.bound[name]}
        return meanings.pop() if len(meanings) == 1 else ""

    def _bound(self, bound: Bound, seen: frozenset[tuple[int, str]]) -> str:
        match bound:
            case str():
                return bound
            case Instance(annotation=annotation):
                base = self._meaning(_plain(annotation), seen)
                return f"{base}()" if base else ""
        return self._meaning(bound, seen)

    def _enter(self, body: Sequence[ast.AST], scope: Scope) -> None:
        """Bind what `body` binds in `scope`, then enter what has a scope of its own."""
        inner = []
        for node in _own(body):
            self.scope_of[node] = scope
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                label = f"{scope.label}.{node.name}"
                scope.bind(node.name, label)
                self.defined.append((label, node))
                inner.append((node, Scope(scope, label, isinstance(node, ast.ClassDef))))
            else:
                self._bind(node, scope)
        for node, own in inner:
            if isinstance(node, FUNCTIONS):
                self._parameters(node.args, own, scope)
            self._enter(node.body, own)

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Import(names=names):
                for each in names:
                    first = each.name.partition(".")[0]
                    scope.bind(each.asname or first, each.name if each.asname else first)
            case ast.ImportFrom(names=names):
                for each in names:
                    scope.bind(each.asname or each.name, f"{self._source(node)}.{each.name}")
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ):
                scope.bind(name, value)
            case ast.ExceptHandler(name=str(name)):
                scope.bind(name, None)
            case _:
                _bind_unknown(node, scope)

    def _parameters(self, given: ast.arguments, scope: Scope, outside: Scope) -> None:
        for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]:
            scope.bind(each.arg, Instance(each.annotation) if each.annotation else None)
            for node in ast.walk(each.annotation) if each.annotation else ():
                self.scope_of[node] = outside
        for each in (given.vararg, given.kwarg):
            if each is not None:
                scope.bind(each.arg, None)
        if isinstance(outside, Scope) and outside.of_class and given.args:
            scope.bound[given.args[0].arg] = [f"{outside.label}()"]

    def _source(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below this one, the last one first, without those that only say how a name is used."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    found.reverse()
    return found


def walk(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every node below and including these, in the order of the source, functions and classes inside them included."""
    waiting = list(reversed(nodes))
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


def own(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every node below and including these, in the order of the source, without the bodies of functions and classes."""
    waiting = list(reversed(nodes))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            waiting.extend(children(node))


def _own(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """As `own`, with what a definition evaluates outside itself: decorators, defaults, bases."""
    for node in own(body):
        yield node
        match node:
            case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
                yield from walk([*node.decorator_list, *args.defaults, *(each for each in args.kw_defaults if each)])
                yield from walk([node.returns] if node.returns else [])
            case ast.ClassDef():
                yield from walk([*node.decorator_list, *node.bases, *node.keywords])
            case ast.Lambda():
                yield from walk([node.body])


def _bind_unknown(node: ast.AST, scope: Scope) -> None:
    """Bind what a loop, a `with` or an unpacking gives a value that cannot be read here."""
    match node:
        case ast.Assign(targets=targets):
            changed: Sequence[ast.AST | None] = targets
        case ast.For(target=target) | ast.AsyncFor(target=target) | ast.AugAssign(target=target):
            changed = [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            changed = [item.optional_vars for item in items]
        case _:
            return
    for inner in walk([each for each in changed if each is not None]):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            scope.bind(inner.id, None)


def _plain(annotation: ast.expr) -> ast.expr:
    """The class in an annotation: what `Optional`, `ResourceParam` or `| None` wraps."""
    match annotation:
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner) if name in _WRAPPERS:
            return _plain(inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner)
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _plain(left)
    return annotation
