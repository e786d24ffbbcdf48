"""Fingerprints of source code: a digest of the modules that a result can depend on.

The modules are found in the source, without importing anything: what a module imports, what that
imports, and so on, within its own package and this one. A name imported from a package leads to the
module that defines it, past the ``__init__`` that only hands it on; a name that cannot be traced
counts for the whole ``__init__``. Imports for type checkers do not count. Comments, formatting and
docstrings do not count either: the digest is that of the syntax tree without them, written so that
it is the same with every version of Python that parses the source alike.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message

PACKAGE = __name__.partition(".")[0]
"""This package; its modules count for the stages of other packages as well."""

_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}
"""Of syntax trees: they say nothing that the rest does not say."""


@dataclass(frozen=True)
class _Import:
    """An import of a module, or of one name from it."""

    module: str
    name: str | None = None


@dataclass(frozen=True)
class _Module:
    """What the source of one module says.

    Attributes:
        digest: of its syntax tree.
        imports: everything that it imports.
        bindings: name at its top level → where that comes from; None where it is defined here.
            Also those that only type checkers see, which tell where a lazy package has its names.
        is_package: it has submodules.
    """

    digest: str = ""
    imports: tuple[_Import, ...] = ()
    bindings: dict[str, _Import | None] = field(default_factory=dict)
    is_package: bool = False


class SourceTree:
    """The source of packages, read once.

    Args:
        path: folders in which top-level packages are looked for; None takes those of this process.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = path
        self._specs: dict[str, ModuleSpec | None] = {}
        self._modules: dict[str, _Module | None] = {}

    def fingerprint(self, modules: Iterable[str], without: Iterable[str] = ()) -> str:
        """Digest modules and all that they import; see ``fingerprint_code``."""
        digest = hashlib.sha256()
        for name in self.closure(modules, without):
            module = self._read(name)
            digest.update(f"{name} {module.digest if module else ''}\n".encode())
        return digest.hexdigest()

    def closure(self, modules: Iterable[str], without: Iterable[str] = ()) -> tuple[str, ...]:
        """List modules and all that they import; see ``list_modules``."""
        todo = sorted(set(modules))
        for name in todo:
            if self._read(name) is None:
                raise DataError(
                    message(
                        f"module {name}",
                        "no source code",
                        "a module in a file, whose results can be told from those of other code",
                        "Put it into a file of a package that Python finds.",
                    )
                )
        packages = {name.partition(".")[0] for name in todo} | {PACKAGE}
        left_out = set(without)
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name in found or _lies_in(name, left_out) or not _lies_in(name, packages):
                continue
            module = self._read(name)
            if module is None:  # an optional part that is not installed
                continue
            found.add(name)
            todo += [self._resolve(x) for x in module.imports if _lies_in(x.module, packages)]
        return tuple(sorted(found))

    def _resolve(self, item: _Import) -> str:
        """Find the module that an import leads to, past packages that only hand a name on."""
        seen = {item}
        while item.name is not None:
            module = self._read(item.module)
            if module is None or not module.is_package:
                break
            submodule = _Import(f"{item.module}.{item.name}")
            origin = module.bindings.get(item.name, submodule)
            origin = submodule if origin in seen else origin  # "from . import name" of a package
            if origin is None or self._find(origin.module) is None:
                break
            item = origin
            seen.add(item)
        return item.module

    def _read(self, name: str) -> _Module | None:
        if name not in self._modules:
            spec = self._find(name)
            self._modules[name] = None if spec is None else _read_module(name, spec)
        return self._modules[name]

    def _find(self, name: str) -> ModuleSpec | None:
        """Find a module without importing the packages above it."""
        if name not in self._specs:
            parent = name.rpartition(".")[0]
            if parent:
                above = self._find(parent)
                places = None if above is None else above.submodule_search_locations
                spec = None if places is None else PathFinder.find_spec(name, list(places))
            elif self._path is not None:
                spec = PathFinder.find_spec(name, list(self._path))
            else:
                spec = _find_top(name)
            self._specs[name] = spec
        return self._specs[name]


_PROCESS = SourceTree()
"""The source that this process runs; read once, so that later edits are not taken for it."""


def fingerprint_code(modules: Iterable[str], without: Iterable[str] = ()) -> str:
    """Digest the source of modules and of all that they import within their packages.

    Args:
        modules: full names; their top-level packages, and this one, are followed.
        without: modules and packages that cannot change a result (how it is stored or drawn); they
            are neither read nor followed.

    Returns:
        SHA-256; the same for source that differs in comments, docstrings or formatting only.

    Raises:
        DataError: one of the modules has no source.
    """
    return _PROCESS.fingerprint(modules, without)


def list_modules(modules: Iterable[str], without: Iterable[str] = ()) -> tuple[str, ...]:
    """List the modules whose source ``fingerprint_code`` digests, sorted by name.

    Args:
        modules: see there.
        without: see there.

    Raises:
        DataError: one of the modules has no source.
    """
    return _PROCESS.closure(modules, without)


def modules_of(thing: object, packages: Iterable[str] = (PACKAGE,)) -> set[str]:
    """Find the modules that define the class of an object and of the networks inside it.

    Args:
        thing: any object; a network (it has ``modules()``) counts with all of its layers, also
            where it is an attribute of the object, or of an attribute of these packages.
        packages: top-level packages; classes of others are left out.

    Returns:
        Names of modules.
    """
    known, names = set(packages), set()
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        layers = getattr(item, "modules", None)
        if callable(layers):
            names |= {type(layer).__module__ for layer in layers()}
        elif item is thing or type(item).__module__.partition(".")[0] in known:
            names.add(type(item).__module__)
            waiting += getattr(item, "__dict__", {}).values()
    return {name for name in names if name.partition(".")[0] in known}


def _find_top(name: str) -> ModuleSpec | None:
    """Find a top-level module; those without a file, ``__main__`` among them, have no spec."""
    try:
        return importlib.util.find_spec(name)
    except ValueError:
        return None


def _lies_in(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _read_module(name: str, spec: ModuleSpec) -> _Module | None:
    is_package = spec.submodule_search_locations is not None
    if spec.origin is None or not Path(spec.origin).is_file():
        return _Module(is_package=True) if is_package else None
    content = Path(spec.origin).read_bytes()
    if not spec.origin.endswith(".py"):  # compiled
        return _Module(hashlib.sha256(content).hexdigest())
    tree = ast.parse(content)
    package = name if is_package else name.rpartition(".")[0]
    bindings = dict(_find_bindings(tree.body, package))
    _strip(tree)
    imports = [item for node in _statements(tree) for _, item in _read_import(node, package)]
    pieces: list[str] = []
    _write(tree, pieces.append)
    digest = hashlib.sha256(" ".join(pieces).encode()).hexdigest()
    return _Module(digest, tuple(dict.fromkeys(imports)), bindings, is_package)


def _strip(tree: ast.AST) -> None:
    """Take docstrings and what only type checkers see off a syntax tree."""
    for node in _statements(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                block[:] = [x for x in block if not _is_text(x) and not _is_for_checkers(x)]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_checkers(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and not node.orelse
        and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    )


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all statements in it; expressions hold none."""
    yield node
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(node, name, None)
        for child in block if isinstance(block, list) else ():
            yield from _statements(child)


def _read_import(node: ast.AST, package: str) -> Iterator[tuple[str, _Import]]:
    """Yield the names that a statement binds by importing, with where they come from.

    Args:
        node: any statement.
        package: of the module, from which relative imports start.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], _Import(alias.name)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        above = parents[: len(parents) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, _Import(module, alias.name)


def _find_bindings(body: Sequence[ast.AST], package: str) -> Iterator[tuple[str, _Import | None]]:
    """Yield the names at the top level of a module, blocks of ``if`` and ``try`` included."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, None
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from ((x.id, None) for x in ast.walk(target) if isinstance(x, ast.Name))
        else:
            yield from _read_import(node, package)
            for name in ("body", "orelse", "finalbody", "handlers"):
                yield from _find_bindings(getattr(node, name, []), package)


def _write(node: Any, write: Callable[[str], object]) -> None:
    """Write a syntax tree as text, leaving out whatever is empty."""
    if isinstance(node, ast.AST):
        write(f"({node.__class__.__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in _IGNORED_FIELDS:
                write(name)
                _write(value, write)
        write(")")
    elif isinstance(node, list):
        write("[")
        for item in node:
            _write(item, write)
        write("]")
    else:
        write(repr(node))
