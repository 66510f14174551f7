"""Filters and derived columns: what the language computes, and what it refuses when a study is loaded."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ParameterError
from secagg._install import how_to_install
from secagg.statistics import Study
from secagg.statistics.columns import Category, Column, Date, Flag, Number
from secagg.statistics.expressions import check_expressions, derived_columns, parsed, value_of

NAN = math.nan
COLUMNS: dict[str, Column] = {
    "age": Number(min=0, max=120),
    "bmi": Number(min=10, max=70),
    "smoker": Flag(),
    "sex": Category(values=("female", "male")),
    "seen": Date(min=datetime.date(1900, 1, 1), max=datetime.date(2100, 1, 1)),
}
DATA: dict[str, npt.NDArray[np.generic]] = {
    "age": np.array([10.0, 64.0, 65.0, NAN]),
    "bmi": np.array([20.0, NAN, 30.0, 25.0]),
    "smoker": np.array([1.0, 0.0, NAN, 1.0]),
    "sex": np.array([0, 1, -1, 0]),
    "seen": np.array([0.0, -1.0, NAN, 19782.0]),  # 1970-01-01, 1969-12-31, none, 2024-02-29
}


def computed(text: str) -> list[float]:
    values = {name: value_of(column, name, DATA[name]) for name, column in COLUMNS.items()}
    return np.broadcast_to(parsed(text).value(values).data, (4,)).astype(float).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age + bmi", [30, NAN, 95, NAN]),
        ("2 * (age - 10) / 4 ** 2", [0, 6.75, 6.875, NAN]),
        ("age // 60 + age % 60", [10, 5, 6, NAN]),
        ("-age", [-10, -64, -65, NAN]),
        ("1 / (age - 10)", [NAN, 1 / 54, 1 / 55, NAN]),
        ("exp(100 * age)", [NAN] * 4),
        ("log(64 - age)", [math.log(54), NAN, NAN, NAN]),
        ("sqrt(age - 64) + floor(0.5) + ceil(0.5) + abs(-1)", [NAN, 2, 3, NAN]),
        ("missing(age) ** 0 + age ** 0", [2, 2, 2, NAN]),
        ("min(age, bmi, 25)", [10, NAN, 25, NAN]),
        ("max(age, 65)", [65, 65, 65, NAN]),
        ("age >= 65", [0, 0, 1, NAN]),
        ("18 <= age < 65", [0, 1, 0, NAN]),
        ("not age >= 65", [1, 1, 0, NAN]),
        ("age < 65 and bmi > 15", [1, NAN, 0, NAN]),
        ("age < 65 or bmi > 15", [1, 1, 1, 1]),
        ("(age < 65) & (bmi > 15) | ~(age < 65)", [1, NAN, 1, NAN]),
        ("smoker", [1, 0, NAN, 1]),
        ("smoker == True", [1, 0, NAN, 1]),
        ("smoker + (age > 60)", [1, 1, NAN, NAN]),
        ("sex == 'female'", [1, 0, NAN, 1]),
        ("'male' != sex", [1, 0, NAN, 1]),
        ("sex in ['male', 'female']", [1, 1, NAN, 1]),
        ("age not in [10, 65]", [0, 1, 0, NAN]),
        ("missing(sex) or missing(age)", [0, 0, 1, 1]),
        ("year(seen)", [1970, 1969, NAN, 2024]),
        ("month(seen)", [1, 12, NAN, 2]),
        ("seen >= '1970-01-01'", [1, 0, NAN, 1]),
        ("seen - '1969-12-31'", [1, 0, NAN, 19783]),
        ("'2024-02-28' < seen + 1", [0, 0, NAN, 1]),
        ("year(seen + 1e200)", [NAN] * 4),
        ("age if age < 65 else 0", [10, 64, 0, NAN]),
        ("('a' if age < 65 else 'b') == 'a'", [1, 1, 0, NAN]),
        ("sex == ('male' if age > 60 else 'female')", [1, 1, NAN, NAN]),
    ],
)
def test_what_is_computed(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(computed(text), expected, rtol=1e-15, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cannot be read"),
        ("age >", "cannot be read"),
        ("age; bmi", "cannot be read"),
        ("age = 3", "cannot be read"),
        ("\0", "cannot be read"),
        ("(" * 400, "cannot be read"),
        ("not " * 150 + "smoker", "nested more than 100"),
        ("age > 1" + " " * 4000, "at most 4000"),
        ("age", "must be a condition"),
        ("height > 1", "no column 'height'"),
        ("sex == 'f'", "no value 'f'; it has 'female', 'male'"),
        ("sex in ['female', 'f']", "no value 'f'"),
        ("sex < 'male'", "compare a category by =="),
        ("sex == 1", "a text on one side and a number"),
        ("sex == seen", "cannot be compared with a date"),
        ("seen > '31.12.2024'", "write it as in '2024-12-31'"),
        ("age > 5 & smoker", "put comparisons in"),
        ("age or smoker", "needs a condition"),
        ("sex + 1 > 0", "needs a number"),
        ("year(age) > 1", "needs a date"),
        ("min(age) > 1", "two or more"),
        ("abs(age, bmi) > 1", "takes 1 value"),
        ("abs(x=age) > 1", "not part of the language"),
        ("age in []", "needs a list"),
        ("abs", "list or a function"),
        ("[age]", "list or a function"),
        ("abs > 1", "not a list or a function"),
        ("age is 3", "operator Is"),
        ("age @ 2 > 1", "operator MatMult"),
        ("age << 2 > 1", "operator LShift"),
        ("9 ** 9 ** 9 > age", "no finite number"),
        ("age / (1 - 1) > 2 / 0", "no finite number"),
        ("age < 1e999", "beyond float64"),
        ("age < 1" + "0" * 400, "beyond float64"),
        ("age.real > 1", "not part of the language"),
        ("age[0] > 1", "not part of the language"),
        ("().__class__ == 1", "not part of the language"),
        ("__import__('os') == 1", "no function '__import__'"),
        ("open('/etc/passwd') == 1", "no function 'open'"),
        ("(lambda: 1)() == 1", "not part of the language"),
        ("[x for x in [1]] == 1", "not part of the language"),
        ("f'{age}' == '1'", "not part of the language"),
        ("None == age", "neither a number"),
        ("age > 1j", "neither a number"),
    ],
)
def test_what_is_refused_names_the_entry(text: str, part: str) -> None:
    with pytest.raises(ParameterError) as refused:
        check_expressions(COLUMNS, {"filters, entry 1": text})
    assert str(refused.value).startswith("filters, entry 1: ")
    assert part in str(refused.value)


OPERATORS = ["+", "-", "*", "/", "//", "%", "**"]
TERMS = st.recursive(
    st.sampled_from(["age", "bmi", "smoker", "3", "0", "-2.5", "year(seen)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            lambda t: f"({' '.join(t)})"
        ),
        st.tuples(st.sampled_from(["abs", "log", "exp", "sqrt", "floor"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
    ),
    max_leaves=8,
)


@given(text=TERMS, rows=st.lists(st.tuples(*[st.floats(allow_nan=True) for _ in range(3)]), max_size=5))
def test_no_data_make_a_checked_expression_raise(text: str, rows: list[tuple[float, float, float]]) -> None:
    """What is computed is a finite number or missing, and each record's own: cut in two, the same comes out."""
    try:
        check_expressions(COLUMNS, {"filter": f"{text} > 1"})
    except ParameterError:  # a part of it that has numbers alone
        return
    table = np.array(rows, np.float64).reshape(-1, 3)
    data = {**DATA, "age": table[:, 0], "bmi": table[:, 1], "smoker": np.isnan(table[:, 2]) * 1.0}
    data["seen"], data["sex"] = table[:, 2], np.zeros(len(table), np.int64)

    def found(part: slice) -> npt.NDArray[np.float64]:
        values = {name: value_of(column, name, data[name][part]) for name, column in COLUMNS.items()}
        result = parsed(text).value(values).data
        return np.broadcast_to(result, table[part, 0].shape)

    whole = found(slice(None))
    assert not np.isinf(whole).any()
    np.testing.assert_array_equal(whole, np.concatenate([found(slice(0, 2)), found(slice(2, None))]))


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), max_size=8), st.floats(-1e6, 1e6))
def test_comparisons_are_those_of_pandas(ages: list[float], limit: float) -> None:
    series = pd.Series(ages, dtype="Float64").replace(NAN, pd.NA)
    value = value_of(COLUMNS["age"], "age", np.array(ages, np.float64))
    found = parsed(f"age <= {limit!r} and not age == 3").value({"age": value}).data == 1.0
    assert found.tolist() == ((series <= limit) & ~(series == 3)).fillna(False).tolist()


def study(columns: str, **more: str) -> Study:
    where = f"where = '''{more['where']}'''" if "where" in more else ""
    filters = f"filters = ['''{more['filters']}''']" if "filters" in more else ""
    return Study.from_toml(
        f"""
        name = "Ages"
        {filters}
        [columns.age]
        type = "number"
        min = 0
        max = 120
        {columns}
        [methods.basic]
        method = "describe"
        of = ["age"]
        {where}
        """
    )


DERIVED = '[columns.{0}]\ntype = "number"\nmin = 0\nmax = 9\nexpression = "{1}"\n'


def test_a_study_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ParameterError, match=r"methods\.basic\.where: 'hight > 1': the study has no column 'hight'"):
        study("", where="hight > 1")
    with pytest.raises(ParameterError, match="filters, entry 1: 'age' is a number"):
        study("", filters="age")
    with pytest.raises(ParameterError, match=r"columns\.half: 'age / ': it cannot be read"):
        study(DERIVED.format("half", "age / "))
    with pytest.raises(ParameterError, match=r"columns\.half: 'missing\(age\)' is a condition: it must be a date"):
        study('[columns.half]\ntype = "date"\nmin = 2000-01-01\nmax = 2001-01-01\nexpression = "missing(age)"\n')
    with pytest.raises(ParameterError, match=r"columns\.old: 'no' is not among the values"):
        study('[columns.old]\ntype = "category"\nvalues = ["yes"]\nexpression = "\'yes\' if age > 1 else \'no\'"\n')


def test_derived_columns_come_after_what_they_are_computed_from() -> None:
    found = study(DERIVED.format("a", "b + 1") + DERIVED.format("b", "c + 1") + DERIVED.format("c", "age"))
    assert list(derived_columns(found.columns)) == ["c", "b", "a"]
    with pytest.raises(ParameterError, match=r"in a circle: [ab] -> [ab] -> [ab]"):
        study(DERIVED.format("a", "b + 1") + DERIVED.format("b", "a + 1"))
    with pytest.raises(ParameterError, match="in a circle: a -> a"):
        study(DERIVED.format("a", "a"))


def test_a_study_without_expressions_needs_no_simpleeval() -> None:
    program = (
        "import sys; sys.modules['simpleeval'] = None\n"
        "from secagg.statistics import Study\n"
        'text = \'name = "a"\\n[columns.x]\\ntype = "flag"\\n[methods.m]\\nmethod = "describe"\\nof = ["x"]\\n\'\n'
        "Study.from_toml(text)\n"
        "try: Study.from_toml(text + 'where = \"x\"\\n')\n"
        "except ValueError as refused: print(refused)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(
        f"simpleeval is not installed, and the expressions of a study need it: {how_to_install('stats')}"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max = 120", "max = -1", "columns.age: a range from 0 to -1: both must be finite, and max above min"),
        ("max = 120", "most = 1", "columns.age: Object contains unknown field `most`"),
        ('"number"', '"numbr"', "columns.age: Invalid value 'numbr' - at `$.type`"),
        ('of = ["age"]', "of = 3", "methods.basic: Expected `array`, got `int` - at `$.of`"),
        ('name = "Ages"', "name = 1", "Expected `str`, got `int` - at `$.name`"),
        ('name = "Ages"', "name = ", "this is no TOML document: "),
    ],
)
def test_what_is_wrong_with_a_study_is_named(old: str, new: str, message: str) -> None:
    text = 'name = "Ages"\n[columns.age]\ntype = "number"\nmin = 0\nmax = 120\n[methods.basic]\nmethod = "describe"\n'
    with pytest.raises(ParameterError) as refused:
        Study.from_toml((text + 'of = ["age"]\n').replace(old, new))
    assert str(refused.value).startswith(message)
