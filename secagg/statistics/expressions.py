"""The small language of filters, of a method's ``where``, and of derived columns.

It has columns by name, numbers, texts in quotes, and dates as texts (``"2024-12-31"``); ``+ - * / // % **``; the
comparisons, also chained (``18 <= age < 65``) and ``in [...]``; ``and``, ``or``, ``not``, or ``& | ~`` between
parentheses; ``a if condition else b``; and the functions ``abs ceil exp floor log max min missing month sqrt year``.
simpleeval walks it; nothing of it is ever given to Python's own ``eval``.

A missing value makes whatever is computed from it missing, and a comparison with it is not true: neither ``age < 65``
nor ``age >= 65`` keeps a record without an age.  Ask for it with ``missing(age)``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import ModuleType
from typing import TYPE_CHECKING, Final, final

import numpy as np

from secagg._install import how_to_install
from secagg.errors import ParameterError
from secagg.statistics.columns import Category, Column, Date, Flag

if TYPE_CHECKING:
    from secagg.statistics.evaluator import Kind, Value

_LONGEST: Final = 4_000
_DEEPEST: Final = 100


@final
@dataclass(frozen=True)
class Expression:
    """One expression that was parsed.

    Attributes:
        text: as the study has it.
        names: of columns, and of what is not known.
    """

    text: str
    tree: ast.expr
    names: frozenset[str]

    def value(self, columns: Mapping[str, Value]) -> Value:
        """What it is for each record of these columns.

        Raises ParameterError for kinds of columns that do not suit it; never for what is in them.
        """
        evaluator = _evaluator()
        from simpleeval import InvalidExpression

        try:
            with np.errstate(all="ignore"):
                found = evaluator.Evaluator(columns).eval(self.text, self.tree)
        except InvalidExpression as wrong:
            raise ParameterError(evaluator.explained(wrong)) from None
        if not isinstance(found, evaluator.Value):
            raise ParameterError("it is a list or a function, and no value")
        value: Value = found
        return value


def where_column(expression: str) -> str:
    """What a chunk calls the column that says for which records a method's ``where`` is true."""
    return f"where {expression}"


def parsed(text: str) -> Expression:
    """Raises ParameterError for what is no expression of the language."""
    if len(text) > _LONGEST:
        raise ParameterError(f"it has {len(text)} characters; at most {_LONGEST} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ParameterError("it cannot be read as an expression") from None
    _check_depth(tree)
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called}
    return Expression(text, tree, frozenset(names))


def value_of(column: Column, name: str, data: np.ndarray) -> Value:
    """A column of a chunk as an expression sees it."""
    evaluator = _evaluator()
    if isinstance(column, Category):
        return evaluator.Value("text", data, column.values, name)  # type: ignore[no-any-return]
    kind: Kind = "date" if isinstance(column, Date) else "condition" if isinstance(column, Flag) else "number"
    return evaluator.Value(kind, data)  # type: ignore[no-any-return]


def derived_columns(columns: Mapping[str, Column]) -> dict[str, Expression]:
    """The derived columns in an order in which each one comes after those that it is computed from.

    Raises ParameterError, which names the column, for an expression that cannot be read, and for a cycle.
    """
    found = {name: _parsed_in(f"columns.{name}", one.expression) for name, one in columns.items() if one.expression}
    sorter = TopologicalSorter({name: sorted(one.names & found.keys()) for name, one in sorted(found.items())})
    try:
        return {name: found[name] for name in sorter.static_order()}
    except CycleError as cycle:
        circle = " -> ".join(reversed(cycle.args[1]))
        raise ParameterError(f"columns are computed from one another in a circle: {circle}") from None


def check_expressions(columns: Mapping[str, Column], conditions: Mapping[str, str]) -> None:
    """Raises ParameterError, which names the entry, for expressions that do not fit the columns.

    ``conditions`` has filters and each method's ``where``, by what a message calls them; a study without any
    expression needs no simpleeval.
    """
    derived = derived_columns(columns)
    if not derived and not conditions:
        return
    values = {
        name: value_of(column, name, np.zeros(0, np.int64 if isinstance(column, Category) else np.float64))
        for name, column in columns.items()
        if name not in derived
    }
    for name, expression in derived.items():
        values[name] = _checked(f"columns.{name}", expression, values, columns[name], name)
    for entry, text in conditions.items():
        found = _value_in(entry, _parsed_in(entry, text), values)
        if found.kind != "condition":
            raise ParameterError(f"{entry}: {text!r} is a {found.kind}: it must be a condition, such as age >= 65")


def derived_data(column: Column, found: Value, size: int) -> np.ndarray:
    """A derived column's data as a chunk has it, shape (size,), before its range is looked at."""
    data = found.data
    if isinstance(column, Category):
        accepted = {**{value: value for value in column.values}, **column.codes}
        positions = [column.values.index(accepted[text]) if text in accepted else -1 for text in found.levels]
        data = np.array([*positions, -1], np.int64)[data]
    return np.array(np.broadcast_to(data, (size,)))


def _checked(entry: str, expression: Expression, values: Mapping[str, Value], column: Column, name: str) -> Value:
    found = _value_in(entry, expression, values)
    match column:
        case Category():
            suits: tuple[str, ...] = ("text",)
            accepted = {*column.values, *column.codes}
            for text in found.levels:
                if text not in accepted and not found.column:
                    raise ParameterError(f"{entry}: {text!r} is not among the values of this category")
        case Flag():
            suits = ("condition",)
        case Date():
            suits = ("date",)
        case _:
            suits = ("number", "condition")
    if found.kind not in suits:
        raise ParameterError(f"{entry}: {expression.text!r} is a {found.kind}: it must be a {suits[0]}")
    return value_of(column, name, derived_data(column, found, 0))


def _value_in(entry: str, expression: Expression, values: Mapping[str, Value]) -> Value:
    try:
        return expression.value(values)
    except ParameterError as wrong:
        raise ParameterError(f"{entry}: {expression.text[:80]!r}: {wrong}") from None


def _parsed_in(entry: str, text: str) -> Expression:
    try:
        return parsed(text)
    except ParameterError as wrong:
        raise ParameterError(f"{entry}: {text[:80]!r}: {wrong}") from None


def _check_depth(tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ParameterError(f"it is nested more than {_DEEPEST} levels deep")


def _evaluator() -> ModuleType:
    try:
        from secagg.statistics import evaluator
    except ModuleNotFoundError as missing:
        if missing.name != "simpleeval":
            raise
        raise ParameterError(
            f"simpleeval is not installed, and the expressions of a study need it: {how_to_install('stats')}"
        ) from None
    return evaluator
