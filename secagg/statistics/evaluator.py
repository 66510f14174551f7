"""simpleeval over whole columns: what each operator and function of the language does with arrays.

Imports simpleeval, so ``secagg.statistics.expressions`` imports it only for a study that has expressions.

Every operation keeps to one rule: a value that is missing, or that does not exist (a division by zero, a logarithm of
a negative number, a number beyond float64), makes the result missing.  Conditions have three values, as in SQL: true,
false and missing; ``and`` with a false side is false and ``or`` with a true side is true, whatever the other side is.
What raises, raises for the kinds of the values alone, so that columns of no records show it when a study is loaded.
"""

from __future__ import annotations

import ast
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn, TypeAlias, final

import numpy as np
import numpy.typing as npt
import simpleeval

from secagg.errors import ParameterError
from secagg.statistics.columns import days_of

Kind: TypeAlias = Literal["number", "condition", "date", "text"]

_LARGEST: Final = float(np.finfo(np.float64).max)
_FAR: Final = 3_000_000.0
"""Days from 1970 within which a date has a year of four digits."""


@final
@dataclass(frozen=True, eq=False)
class Value:
    """A column, or a constant, in an expression.  Secret: no data shows in its repr.

    Attributes:
        kind: what it is.
        data: float64 with NaN for a missing value (conditions are 0 and 1, dates are days from 1970-01-01); for texts
            int64, positions among ``levels``, with -1 for a missing value.  Shape (records,), or () of a constant.
        levels: the texts.
        column: the category whose values the texts are; empty for texts that the expression itself has.
    """

    kind: Kind
    data: npt.NDArray[Any]
    levels: tuple[str, ...] = ()
    column: str = ""

    def __repr__(self) -> str:
        return f"Value({self.kind})"


Binary: TypeAlias = Callable[[Value, Value], Value]


class Evaluator(simpleeval.SimpleEval):  # type: ignore[misc]
    """The language: simpleeval's walk over a parsed expression, with the operators and functions of this module."""

    def __init__(self, names: Mapping[str, Value]) -> None:
        super().__init__(operators=OPERATORS, functions=FUNCTIONS, names=names)
        self.nodes = {
            ast.Name: self._eval_name,
            ast.UnaryOp: self._eval_unaryop,
            ast.BinOp: self._eval_binop,
            ast.BoolOp: self._eval_boolop,
            ast.Compare: self._eval_compare,
            ast.IfExp: self._eval_ifexp,
            ast.Call: self._eval_call,
            ast.Constant: self._eval_constant,
            ast.List: self._eval_list,
            ast.Tuple: self._eval_list,
        }

    def _eval_constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, bool):
            return Value("condition", np.array(float(node.value)))
        if isinstance(node.value, int | float):
            return Value("number", np.array(_finite(node.value)))
        if isinstance(node.value, str):
            return Value("text", np.array(0), (node.value,))
        return _refuse(f"{node.value!r} is neither a number, a text, True nor False")

    def _eval_list(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self._eval(element) for element in node.elts]

    def _eval_boolop(self, node: ast.BoolOp) -> Value:
        join = _and if isinstance(node.op, ast.And) else _or
        first, *others = [self._eval(value) for value in node.values]
        found: Value = first
        for other in others:
            found = join(found, other)
        return found

    def _eval_compare(self, node: ast.Compare) -> Value:
        found: Value | None = None
        left = self._eval(node.left)
        for operation, comparator in zip(node.ops, node.comparators, strict=True):
            if type(operation) not in self.operators:
                raise simpleeval.OperatorNotDefined(operation, self.expr)
            right = self._eval(comparator)
            one = self.operators[type(operation)](left, right)
            found = one if found is None else _and(found, one)
            left = right
        return found or _refuse("a comparison needs two sides")

    def _eval_ifexp(self, node: ast.IfExp) -> Value:
        test = _condition(self._eval(node.test), "if")
        one, other = _alike(self._eval(node.body), self._eval(node.orelse), "if ... else")
        chosen = np.where(test == 1.0, one.data, other.data)
        return replace(one, data=np.where(np.isnan(test), -1 if one.kind == "text" else np.nan, chosen))


def explained(error: simpleeval.InvalidExpression) -> str:
    """What is wrong with an expression, in words."""
    match error:
        case simpleeval.NameNotDefined():
            return f"the study has no column {error.name!r}"
        case simpleeval.FunctionNotDefined():
            return f"there is no function {error.func_name!r}; there are {', '.join(sorted(FUNCTIONS))}"
        case simpleeval.OperatorNotDefined():
            return f"the operator {type(error.attr).__name__} is not part of the language"
    return f"it has something that is not part of the language: {error}"


def _refuse(why: str) -> NoReturn:
    raise ParameterError(why)


def _finite(value: float) -> float:
    if not -_LARGEST <= value <= _LARGEST:
        _refuse("it has a number beyond float64")
    return float(value)


def _value(given: Any, what: str) -> Value:
    if not isinstance(given, Value):
        _refuse(f"{what} needs a column or a value, not a list or a function")
    return given


def _condition(given: Any, what: str) -> npt.NDArray[np.float64]:
    value = _value(given, what)
    if value.kind != "condition":
        _refuse(f"{what} needs a condition, such as age >= 65, and was given a {value.kind}; put comparisons in (...)")
    return value.data


def _number(given: Any, what: str) -> npt.NDArray[np.float64]:
    """A condition counts as 1 where it is true, and as 0 where it is false."""
    value = _value(given, what)
    if value.kind not in ("number", "condition"):
        _refuse(f"{what} needs a number, and was given a {value.kind}")
    return value.data


def _date(given: Any, what: str) -> npt.NDArray[np.float64]:
    value = _value(given, what)
    if value.kind != "date":
        _refuse(f"{what} needs a date, and was given a {value.kind}")
    return value.data


def _made(data: npt.NDArray[Any], kind: Kind = "number") -> Value:
    """What was computed; of constants alone, it must be a number."""
    finite = np.isfinite(data)
    if data.ndim == 0 and not finite:
        _refuse("a part of it that has numbers alone is no finite number, such as 1 / 0 or 10 ** 400")
    return Value(kind, np.where(finite, data, np.nan))


def _and(one: Any, other: Any) -> Value:
    left, right = _condition(one, "and"), _condition(other, "and")
    unknown = np.where(np.isnan(left) | np.isnan(right), np.nan, 1.0)
    return Value("condition", np.where((left == 0.0) | (right == 0.0), 0.0, unknown))


def _or(one: Any, other: Any) -> Value:
    return _not(_and(_not(one), _not(other)))


def _not(given: Any) -> Value:
    return Value("condition", 1.0 - _condition(given, "not"))


def _plus(one: Any, other: Any) -> Value:
    if isinstance(one, Value) and one.kind == "date":
        return _made(one.data + _number(other, "a date + ..."), "date")
    return _made(_number(one, "+") + _number(other, "+"))


def _minus(one: Any, other: Any) -> Value:
    if isinstance(one, Value) and one.kind == "date":
        one, other = _alike(one, other, "-") if getattr(other, "kind", "") in ("date", "text") else (one, other)
        if other.kind == "date":
            return _made(one.data - other.data)
        return _made(one.data - _number(other, "a date - ..."), "date")
    return _made(_number(one, "-") - _number(other, "-"))


def _arithmetic(what: str, compute: Callable[[Any, Any], npt.NDArray[np.float64]]) -> Binary:
    def operation(one: Any, other: Any) -> Value:
        left, right = _number(one, what), _number(other, what)
        return _made(np.where(np.isnan(left) | np.isnan(right), np.nan, compute(left, right)))

    return operation


def _alike(one: Any, other: Any, what: str) -> tuple[Value, Value]:
    """Two values of one kind: texts over the same levels, dates also where one side is a text such as "2024-12-31"."""
    left, right = _value(one, what), _value(other, what)
    kinds = {left.kind, right.kind}
    if kinds == {"text"}:
        return _over_one_list(left, right)
    if kinds == {"date", "text"}:
        return _as_date(left), _as_date(right)
    if kinds == {"number", "condition"}:
        return replace(left, kind="number"), replace(right, kind="number")
    if len(kinds) > 1:
        _refuse(f"{what} has a {left.kind} on one side and a {right.kind} on the other")
    return left, right


def _over_one_list(left: Value, right: Value) -> tuple[Value, Value]:
    for column, constant in ((left, right), (right, left)):
        if column.column and not constant.column:
            for text in constant.levels:
                if text not in column.levels:
                    shown = ", ".join(repr(level) for level in column.levels[:20])
                    _refuse(f"the column {column.column} has no value {text!r}; it has {shown}")
    levels = tuple(dict.fromkeys((*left.levels, *right.levels)))
    return _relisted(left, levels), _relisted(right, levels)


def _relisted(value: Value, levels: tuple[str, ...]) -> Value:
    at = {text: position for position, text in enumerate(levels)}
    positions = np.array([*(at[text] for text in value.levels), -1], np.int64)
    return replace(value, data=positions[value.data], levels=levels)


def _as_date(value: Value) -> Value:
    if value.kind == "date":
        return value
    if value.column:
        _refuse(f"the category {value.column} cannot be compared with a date")
    try:
        days = [days_of(datetime.date.fromisoformat(text)) for text in value.levels]
    except ValueError:
        _refuse(f"{value.levels[0]!r} is compared with a date: write it as in '2024-12-31'")
    return Value("date", np.array([*days, np.nan])[value.data])


def _equal(one: Any, other: Any) -> Value:
    left, right = _alike(one, other, "==")
    gone = _missing(left).data + _missing(right).data > 0
    return Value("condition", np.where(gone, np.nan, left.data == right.data))


def _unequal(one: Any, other: Any) -> Value:
    return _not(_equal(one, other))


def _ordered(what: str, compare: Callable[[Any, Any], npt.NDArray[np.bool_]]) -> Binary:
    def operation(one: Any, other: Any) -> Value:
        left, right = _alike(one, other, what)
        if left.kind == "text":
            _refuse(f"{what} orders numbers and dates; compare a category by == or in [...]")
        return Value(
            "condition",
            np.where(np.isnan(left.data) | np.isnan(right.data), np.nan, compare(left.data, right.data)),
        )

    return operation


def _within(one: Any, listed: Any) -> Value:
    if not isinstance(listed, list) or not listed:
        _refuse("in needs a list, such as in ['a', 'b']")
    found = _equal(one, listed[0])
    for other in listed[1:]:
        found = _or(found, _equal(one, other))
    return found


def _not_within(one: Any, listed: Any) -> Value:
    return _not(_within(one, listed))


def _missing(given: Any) -> Value:
    value = _value(given, "missing")
    gone = value.data < 0 if value.kind == "text" else np.isnan(value.data)
    return Value("condition", gone.astype(np.float64))


def _function(name: str, count: int, compute: Callable[..., Value]) -> Callable[..., Value]:
    def call(*given: Any) -> Value:
        if len(given) != count:
            _refuse(f"{name}(...) takes {count} value{'s' if count > 1 else ''}, and was given {len(given)}")
        return compute(*given)

    return call


def _of_number(name: str, compute: Callable[[Any], npt.NDArray[np.float64]]) -> Callable[..., Value]:
    return _function(name, 1, lambda given: _made(compute(_number(given, name))))


def _of_date(name: str, part: Callable[[npt.NDArray[np.datetime64]], npt.NDArray[Any]]) -> Callable[..., Value]:
    def compute(given: Any) -> Value:
        days = _date(given, name)
        known = np.abs(days) <= _FAR
        dates = np.where(known, np.floor(days), 0.0).astype(np.int64).astype("datetime64[D]")
        return Value("number", np.where(known, part(dates), np.nan))

    return _function(name, 1, compute)


def _extreme(name: str, choose: Callable[[Any, Any], npt.NDArray[np.float64]]) -> Callable[..., Value]:
    def call(*given: Any) -> Value:
        if len(given) < 2:
            _refuse(f"{name}(...) is taken over the values of one record: give it two or more")
        found = _value(given[0], name)
        for other in given[1:]:
            left, right = _alike(found, other, name)
            if left.kind == "text":
                _refuse(f"{name}(...) takes numbers or dates")
            found = _made(choose(left.data, right.data), "date" if left.kind == "date" else "number")
        return found

    return call


def _years(dates: npt.NDArray[np.datetime64]) -> npt.NDArray[Any]:
    return dates.astype("datetime64[Y]").astype(np.int64) + 1970


def _months(dates: npt.NDArray[np.datetime64]) -> npt.NDArray[Any]:
    return dates.astype("datetime64[M]").astype(np.int64) % 12 + 1


OPERATORS: Final[dict[type[ast.AST], Callable[..., Value]]] = {
    ast.Add: _plus,
    ast.Sub: _minus,
    ast.Mult: _arithmetic("*", np.multiply),
    ast.Div: _arithmetic("/", np.divide),
    ast.FloorDiv: _arithmetic("//", np.floor_divide),
    ast.Mod: _arithmetic("%", np.mod),
    ast.Pow: _arithmetic("**", np.power),
    ast.USub: lambda one: _made(-_number(one, "-")),
    ast.UAdd: lambda one: _made(_number(one, "+")),
    ast.Not: _not,
    ast.Invert: _not,
    ast.BitAnd: _and,
    ast.BitOr: _or,
    ast.Eq: _equal,
    ast.NotEq: _unequal,
    ast.Lt: _ordered("<", np.less),
    ast.LtE: _ordered("<=", np.less_equal),
    ast.Gt: _ordered(">", np.greater),
    ast.GtE: _ordered(">=", np.greater_equal),
    ast.In: _within,
    ast.NotIn: _not_within,
}

FUNCTIONS: Final[dict[str, Callable[..., Value]]] = {
    "abs": _of_number("abs", np.abs),
    "ceil": _of_number("ceil", np.ceil),
    "exp": _of_number("exp", np.exp),
    "floor": _of_number("floor", np.floor),
    "log": _of_number("log", np.log),
    "max": _extreme("max", np.maximum),
    "min": _extreme("min", np.minimum),
    "missing": _function("missing", 1, _missing),
    "month": _of_date("month", _months),
    "sqrt": _of_number("sqrt", np.sqrt),
    "year": _of_date("year", _years),
}
