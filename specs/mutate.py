"""Remove each check of the executable reference in turn, and see that a test vector fails.

    python specs/mutate.py                    # every change: some minutes on two cores
    python specs/mutate.py --list             # what the changes are
    python specs/mutate.py roster             # those whose name contains a word

A rule that a vector binds is one that no implementation can forget and still keep the vectors.  So each check of the
reference is taken out, alone, and all vectors are replayed until one differs.  A change is

- a check that is left out: a ``require``, or an ``if`` that refuses, returns or raises;
- one condition of it that is left out: a part of an ``and`` or an ``or``, a link of ``a <= b <= c``;
- a bound that is moved: ``<`` for ``<=`` and the reverse; in the formulas of section 4.2 and of the size limits also a
  number that is off by one, and an addend that is left out.

What survives is listed in ``specs/survivors.toml``, with the reason: another check refuses the same, or the difference
is none that a message can show.  The run fails when something survives that is not listed, and when something that is
listed does not.  Exit status: 0 or 1.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SPECS = Path(__file__).resolve().parent
MODULES = (
    *("wire", "arithmetic", "envelopes", "primitives", "rules", "hybrid", "policy", "chain", "client", "server"),
    "private",
)
PROTOCOL = ("vectors.replay", ("v1", "v2"))
REPLAYS = {"private": ("vectors.replay_private", ("private-v1",))}
"""Modules that have other vectors than the protocol's: what replays these, and where they are."""
FORMULAS = ("connects", "thresholds", "quantile", "is_sound", "graph_is_sound", "groups_are_sound", "max_bytes")
FORMULAS += ("levels_of", "variance_that_counts")
"""Functions in which numbers are moved by one."""
SECONDS = 60
"""A changed reference that has not finished then never will: that is a difference too."""
BYTES = 2 << 30
_SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Mutant:
    """A changed module of the reference.

    Attributes:
        module: its name.
        name: where, and what it was, and what it is; unique.
        place: which node of the module's tree is replaced, in the order of ``ast.walk``.
        new: what stands there instead.
    """

    module: str
    name: str
    place: int
    new: ast.AST

    def tree(self) -> ast.Module:
        """The changed module."""
        tree = _parsed(self.module)
        made: ast.Module = _Replace([*ast.walk(tree)][self.place], self.new).visit(tree)
        return ast.fix_missing_locations(made)


class _Replace(ast.NodeTransformer):
    """Puts another node in the place of one."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _parsed(module: str) -> ast.Module:
    return ast.parse((SPECS / "reference" / f"{module}.py").read_text(encoding="utf-8"))


# Finding what to change.


class _Module:
    """A module's tree, and what stands around each node."""

    def __init__(self, name: str) -> None:
        self.name, self.tree = name, _parsed(name)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """From the node outwards."""
        while node in self.parents:
            yield node
            node = self.parents[node]

    def function(self, node: ast.AST) -> str:
        """The names of the classes and functions around a node."""
        names = [at.name for at in self.around(node) if isinstance(at, ast.FunctionDef | ast.ClassDef)]
        return ".".join(reversed(names))

    def context(self, number: ast.Constant) -> str:
        """Where a number stands, so that its name tells it from others."""
        outer = next(
            at for at in self.around(number) if isinstance(at, ast.Compare | ast.Assign | ast.AugAssign | ast.Return)
        )
        numbers = [node for node in ast.walk(outer) if isinstance(node, ast.Constant)]
        return f" in {ast.unparse(outer)}, number {numbers.index(number) + 1}"

    def changes(self) -> Iterator[Mutant]:
        """Every change of this module, by names that are not unique yet."""
        for place, node in enumerate(ast.walk(self.tree)):
            inside = self.function(node)
            if not inside or inside.startswith("require"):
                continue
            for what, new in self._changes_of(node, in_formula=inside.split(".")[-1] in FORMULAS):
                yield Mutant(self.name, f"{self.name}.{inside}: {what}", place, new)

    def _changes_of(self, node: ast.AST, *, in_formula: bool) -> Iterator[tuple[str, ast.AST]]:
        if _is_require(node):
            yield f"without {ast.unparse(node)}", ast.Pass()
        elif isinstance(node, ast.If) and _is_guard(node):
            yield f"without if {ast.unparse(node.test)}", ast.Pass()
        elif isinstance(node, ast.BoolOp):
            joined = " and " if isinstance(node.op, ast.And) else " or "
            for left_out, part in enumerate(node.values):
                rest = node.values[:left_out] + node.values[left_out + 1 :]
                short = [ast.unparse(value) for value in rest]
                among = joined.join(short) if len(short) < 3 else f"{len(short)} others"
                yield f"without {ast.unparse(part)}, beside {among}", _joined(node.op, rest)
        elif isinstance(node, ast.Compare):
            yield from _compared(node)
        elif in_formula and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            yield f"{ast.unparse(node.left)} for {ast.unparse(node)}", node.left
        elif in_formula and isinstance(node, ast.Constant) and type(node.value) is int:
            for value in (node.value + 1, *([node.value - 1] if node.value else [])):
                yield f"{value} for {node.value}{self.context(node)}", ast.Constant(value)


def _is_require(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "require"
    )


def _is_guard(node: ast.AST) -> bool:
    """An ``if`` without an else that leaves the function."""
    return isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], ast.Return | ast.Raise)


def _joined(op: ast.boolop, values: list[ast.expr]) -> ast.expr:
    return values[0] if len(values) == 1 else ast.BoolOp(op, values)


def _compared(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    sides, whole = [node.left, *node.comparators], ast.unparse(node)
    links: list[ast.expr] = [ast.Compare(sides[at], [op], [sides[at + 1]]) for at, op in enumerate(node.ops)]
    if len(links) > 1:
        for left_out, link in enumerate(links):
            yield f"{whole}, without {ast.unparse(link)}", _joined(ast.And(), links[:left_out] + links[left_out + 1 :])
    for place, op in enumerate(node.ops):
        if type(op) in _SWAPS:
            new = ast.Compare(
                node.left, [*node.ops[:place], _SWAPS[type(op)](), *node.ops[place + 1 :]], node.comparators
            )
            yield f"{ast.unparse(new)} for {whole}", new


def mutants() -> list[Mutant]:
    """Every change, module by module."""
    return _numbered(mutant for name in MODULES for mutant in _Module(name).changes())


def _numbered(found: Iterable[Mutant]) -> list[Mutant]:
    """With names that are unique: the second of a name ends in #2."""
    seen: dict[str, int] = {}
    unique = []
    for mutant in found:
        seen[mutant.name] = seen.get(mutant.name, 0) + 1
        suffix = f" #{seen[mutant.name]}" if seen[mutant.name] > 1 else ""
        unique.append(replace(mutant, name=mutant.name + suffix))
    return unique


def survivors() -> dict[str, str]:
    """What is known to survive, and why: each reason, with the changes that it is for."""
    listed = tomllib.loads((SPECS / "survivors.toml").read_text(encoding="utf-8"))["reason"]
    return {name: entry["why"] for entry in listed for name in entry["changes"]}


# Trying a change, in a process of its own.


def first_failure(mutant: Mutant) -> str:
    """The first vector that fails with a changed reference, or nothing.  Call it in a process of its own."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("reference", "vectors")]:
        del sys.modules[name]
    package = __import__("reference")
    module = type(sys)(f"reference.{mutant.module}")
    module.__package__ = "reference"
    sys.modules[module.__name__] = module
    exec(compile(mutant.tree(), f"{mutant.module}.py, changed", "exec"), module.__dict__)  # noqa: S102
    setattr(package, mutant.module, module)
    replay, folders = REPLAYS.get(mutant.module, PROTOCOL)
    failures = importlib.import_module(replay).failures
    files = [path for folder in folders for path in (SPECS / "vectors" / folder).glob("*.json")]
    for path in sorted(files, key=lambda path: path.stat().st_size):
        for test, detail in failures(json.loads(path.read_text(encoding="utf-8"))):
            return f"{test}: {detail}"
    return ""


def _start(mutant: Mutant) -> tuple[int, int]:
    """Begin to try a change; gives the process's id and the end of a pipe from which its verdict comes."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    os.close(reading)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    verdict = "the reference cannot be imported, or a vector cannot be read"
    try:
        verdict = first_failure(mutant)
    finally:
        with contextlib.suppress(OSError):
            os.write(writing, verdict[:500].encode())
        os._exit(0)


def verdicts(chosen: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """Each change with the first vector that fails; nothing where none does."""
    running: dict[int, tuple[Mutant, int]] = {}
    waiting = list(chosen)
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop(0)
            pid, reading = _start(mutant)
            running[pid] = mutant, reading
        pid = next(iter(running))
        mutant, reading = running.pop(pid)
        with os.fdopen(reading, "rb") as pipe:
            verdict = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pid, 0)
        yield mutant, verdict or (f"it did not end in {SECONDS} s, or crashed" if status else "")


def main(words: list[str]) -> int:
    """Try the changes whose names contain every word; see the module."""
    only_listed = "--list" in words
    words = [word for word in words if word != "--list"]
    chosen = [mutant for mutant in mutants() if all(word in mutant.name for word in words)]
    if only_listed:
        _say("\n".join(mutant.name for mutant in chosen))
        return 0
    known, began, wrong, killed = survivors(), time.monotonic(), 0, 0
    for mutant, verdict in verdicts(chosen, os.cpu_count() or 1):
        killed += bool(verdict)
        if bool(verdict) == (mutant.name in known):
            wrong += 1
            about = f"is listed as a survivor, and is found by {verdict}" if verdict else "survives, and is not listed"
            _say(f"{mutant.name}\n    {about}")
    stale = [] if words else sorted(set(known) - {mutant.name for mutant in chosen})
    for name in stale:
        _say(f"{name}\n    is listed as a survivor, and is no change any more")
    seconds = time.monotonic() - began
    _say(f"{len(chosen)} changes in {seconds:.0f} s: {killed} found by a vector, {len(chosen) - killed} not")
    return 1 if wrong or stale else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
