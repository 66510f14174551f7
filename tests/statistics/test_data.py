"""A site's own data: every kind of column from CSV, Parquet and frames, and what becomes of what does not fit."""

from __future__ import annotations

import datetime
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from secagg import InputError, ParameterError
from secagg.statistics import Site, SiteCheck, Study, open_data, sources
from secagg.statistics.columns import Number, Whole
from secagg.statistics.reading import TextForm, read

STUDY = """
name = "Ages"
[columns.age]
type = "number"
min = 0
max = 120
decimals = 1
{age}
[columns.visits]
type = "whole"
min = 0
max = 50
{visits}
[columns.smoker]
type = "flag"
{smoker}
[columns.sex]
type = "category"
values = ["female", "male", "unknown"]
codes = {{"1" = "female", "2" = "male"}}
{sex}
[columns.seen]
type = "date"
min = 2000-01-01
max = 2025-12-31
{seen}
[methods.of_age]
method = "describe"
of = ["age"]
[methods.of_visits]
method = "describe"
of = ["visits"]
[methods.of_smoker]
method = "describe"
of = ["smoker"]
[methods.of_seen]
method = "describe"
of = ["seen"]
[methods.of_sex]
method = "describe"
of = ["woman"]
[columns.woman]
type = "flag"
expression = "sex == 'female'"
"""
TEXT = "age,visits,smoker,sex,seen\n40.5,3,yes,1,2020-02-29\n,NA,,,\n61.0,0,No,male,2000-01-01\n"
ROWS = {
    "age": [40.5, np.nan, 61.0],
    "visits": [3, np.nan, 0],
    "smoker": [1, np.nan, 0],
    "woman": [1, np.nan, 0],
    "seen": [18321, np.nan, 10957],
}


def study(**more: str) -> Study:
    rules = dict.fromkeys(("age", "visits", "smoker", "sex", "seen"), "")
    filters = more.pop("filters", "")
    return Study.from_toml(filters + STUDY.format(**rules | more))


def rows_of(data: Any, names: dict[str, Any] = ROWS) -> dict[str, list[float]]:
    chunks = list(data.chunks())
    return {name: [float(value) for chunk in chunks for value in chunk.numbers(name)] for name in names}


def checked(text: str, file: Path, how: dict[str, Any] | None = None, **rules: str) -> SiteCheck:
    file.write_text(text, encoding="utf-8")
    own = study(**rules)
    return Site(own, open_data(file, own, **how or {})).check()


def noted(name: str, value: str) -> str:
    """The text with one more column, of the same value in all records."""
    header, *lines = TEXT.splitlines()
    return "\n".join([f"{name},{header}", *(f"{value},{line}" for line in lines)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "patients.csv"


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_csv(file: Path, rows: int) -> None:
    file.write_text(TEXT)
    np.testing.assert_equal(rows_of(open_data(file, study(), rows=rows)), ROWS)


@pytest.mark.parametrize(
    ("how", "text", "encoding"),
    [
        ({"separator": ";", "decimal": ","}, TEXT.replace(",", ";").replace(".", ","), "utf-8"),
        ({"separator": "\t", "quote": "'"}, TEXT.replace(",", "\t").replace("male", "'male'"), "utf-8"),
        ({"encoding": "latin-1"}, noted("Größe", "ä"), "latin-1"),
        ({"encoding": "utf-16"}, TEXT, "utf-16"),
        ({}, TEXT, "utf-8-sig"),
        ({}, TEXT.replace("\n", "\r\n"), "utf-8"),
        ({}, TEXT.replace("40.5", '" 40.5 "').replace("male", '"male"'), "utf-8"),
        ({}, TEXT.replace("40.5", "4.05e1").replace("61.0", "+61"), "utf-8"),
        ({"missing": ("-", "NA", "")}, TEXT.replace("\n,", "\n-,"), "utf-8"),
        ({}, noted("note", '"two\nlines"'), "utf-8"),
    ],
)
def test_csv_in_other_forms(file: Path, how: dict[str, Any], text: str, encoding: str) -> None:
    file.write_bytes(text.encode(encoding))
    np.testing.assert_equal(rows_of(open_data(file, study(), **how)), ROWS)


def test_thousands_are_groups_of_three(file: Path) -> None:
    own = Study.from_toml(
        'name = "a"\n[columns.x]\ntype = "number"\nmin = 0\nmax = 1e9\noutside = "missing"\n'
        '[methods.m]\nmethod = "describe"\nof = ["x"]'
    )
    file.write_text("x;y\n1.234.567,5;\n12,5;\n1234,5;\n1.5;\n")
    data = open_data(file, own, separator=";", decimal=",", thousands=".")
    np.testing.assert_equal(rows_of(data, {"x": 0}), {"x": [1234567.5, 12.5, 1234.5, np.nan]})


def test_a_point_is_no_decimal_comma(file: Path) -> None:
    with pytest.raises(
        InputError, match=r"columns\.age: 1 value that cannot be read as a number, the first in record 1$"
    ):
        checked(TEXT.replace(",", ";").replace("61.0", "61"), file, {"separator": ";", "decimal": ","})


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [40.5, np.nan, 61.0],
            "visits": pd.array([3, None, 0], "Int64"),
            "smoker": pd.array([True, None, False], "boolean"),
            "sex": pd.Categorical(["female", None, "male"]),
            "seen": pd.to_datetime(["2020-02-29T23:59", None, "2000-01-01T00:00"]),
        }
    )


OTHERS = {
    "as they are": lambda of: of,
    "texts": lambda of: pd.DataFrame({**{name: of[name].astype("string") for name in of}, "seen": of["seen"].dt.date}),
    "objects": lambda of: of.astype(object).assign(sex=[1, None, "male"], smoker=["Y", None, 0]),
    "codes": lambda of: of.assign(sex=[1.0, np.nan, 2.0], smoker=[1.0, np.nan, 0.0]),
    "small": lambda of: of.astype({"age": "float32"}).assign(seen=of["seen"].dt.tz_localize("Asia/Tokyo")),
}


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize("rows", [1, 100])
def test_frames_and_parquet(tmp_path: Path, form: str, rows: int) -> None:
    made = OTHERS[form](frame())
    np.testing.assert_equal(rows_of(open_data(made, study(), rows=rows)), ROWS)
    if form != "objects":
        made.assign(other=1).to_parquet(tmp_path / "patients.parquet", row_group_size=2)
        np.testing.assert_equal(rows_of(open_data(tmp_path / "patients.parquet", study(), rows=rows)), ROWS)


REFUSED = {
    "age": ("x", "121", "-1", "1e400", "inf"),
    "visits": ("2.5", "many", "51", "9007199254740993"),
    "smoker": ("2", "maybe"),
    "sex": ("3", "Female"),
    "seen": ("1999-12-31", "2024-02-30", "31.12.2024", "9999-12-31"),
}
FAULTS = [(column, value) for column, values in REFUSED.items() for value in values]


def broken(column: str, value: str) -> str:
    """The second record has the value, and so has the fourth."""
    place = list(REFUSED).index(column)
    lines = [line.split(",") for line in TEXT.splitlines()]
    lines[2][place] = value
    return "\n".join(",".join(line) for line in [*lines, lines[2]]) + "\n"


@pytest.mark.parametrize(("column", "value"), FAULTS)
@pytest.mark.parametrize("rows", [1, 100])
def test_what_does_not_fit_is_refused_and_named(file: Path, column: str, value: str, rows: int) -> None:
    with pytest.raises(InputError) as refused:
        checked(broken(column, value), file, {"rows": rows})
    assert str(refused.value).startswith(f"columns.{column}: 2 values ")
    assert str(refused.value).endswith(", the first in record 2")
    assert value not in str(refused.value).split(" values ")[1] or value in ("2", "1", "-1")


@pytest.mark.parametrize(("column", "value"), FAULTS)
def test_or_it_counts_as_missing(file: Path, column: str, value: str) -> None:
    rule = 'other = "missing"' if column in ("smoker", "sex") else 'outside = "missing"'
    found = checked(broken(column, value), file, **{column: rule})
    counted = "sex" if column == "sex" else column
    assert found.outside.get(counted, 2) == 2  # sex itself is read by no method
    assert found.records == 4
    derived = {"sex": "woman"}.get(column, column)
    assert found.missing[derived] == (0 if column != "sex" else 2)


@pytest.mark.parametrize(
    ("column", "value", "end"), [("age", "1e400", 120), ("visits", "51", 50), ("seen", "1990-01-01", 10957)]
)
def test_or_the_nearer_end_stands_for_it(file: Path, column: str, value: str, end: float) -> None:
    file.write_text(broken(column, value))
    own = study(**{column: 'outside = "clip"'})
    data = open_data(file, own)
    assert Site(own, data).check().outside[column] == 2
    assert rows_of(data)[column][1] == end


def test_what_stands_for_missing_values(file: Path) -> None:
    file.write_text(TEXT)
    own = study(age="fill = 7.5", visits="fill = 0", sex='missing = "female"')
    data = open_data(file, own)
    found = Site(own, data).check()
    assert (found.missing["age"], found.missing["visits"]) == (1, 1)
    rows = rows_of(data)
    assert [rows[name][1] for name in ("age", "visits", "woman")] == [7.5, 0, 1]


def test_another_value_stands_for_what_is_not_listed(file: Path) -> None:
    assert checked(broken("sex", "x"), file, sex='other = "unknown"').missing["woman"] == 0


def test_a_category_that_lists_a_marker_has_it_as_a_value() -> None:
    own = Study.from_toml(
        'name = "a"\ncolumns.x = {type = "category", values = ["None", "some"]}\n'
        'columns.y = {type = "flag", expression = "x == \'None\'"}\nmethods.m = {method = "describe", of = ["y"]}'
    )
    assert rows_of(open_data(pd.DataFrame({"x": ["None", "some", ""]}), own), {"y": 0})["y"][:2] == [1, 0]


def test_dates_of_another_format(file: Path) -> None:
    file.write_text(TEXT.replace("2020-02-29", "29.02.2020").replace("2000-01-01", "1.1.2000"))
    np.testing.assert_equal(rows_of(open_data(file, study(seen='format = "%d.%m.%Y"'))), ROWS)
    with pytest.raises(ParameterError, match="does not say which day"):
        study(seen='format = "%m.%Y"')


def test_a_range_is_asked_of_the_records_that_pass_the_filters(file: Path) -> None:
    """What cannot be read is refused wherever it is."""
    own = {"filters": 'filters = ["age <= 120"]\n'}
    assert checked(broken("age", "121"), file, **own).records == 2
    with pytest.raises(InputError, match="cannot be read as a number"):
        checked(broken("age", "x"), file, **own)


def test_decimals_are_rounded_and_counted(file: Path) -> None:
    found = checked(TEXT.replace("40.5", "40.54"), file)
    assert found.rounded == {"age": 1}


def test_everything_is_counted(file: Path) -> None:
    found = checked(TEXT, file, filters='filters = ["age > 50 or missing(age)"]\n')
    assert (found.read, found.records) == (3, 2)
    assert found.by_method["of_age"] == (2, 0)
    assert found.missing == {"age": 1, "visits": 1, "smoker": 1, "woman": 1, "seen": 1}


@pytest.mark.parametrize(
    ("text", "how", "part"),
    [
        ("", {}, "cannot be read as CSV"),
        (TEXT.replace("age,", "years,"), {}, "no column 'age', the source of columns.age; there are years, visits"),
        (TEXT.replace("visits", "age"), {}, "more than one column 'age'"),
        (TEXT, {"separator": ";"}, "no column 'age'"),
        (TEXT.encode().replace(b"male", b"\xe4"), {}, "the encoding utf-8"),
        (
            TEXT + "1,2\n1,2,3,4,5,6\n",
            {},
            "2 lines with another number of values than the header, the first in record 4",
        ),
    ],
)
def test_files_that_cannot_be_read(file: Path, text: str | bytes, how: dict[str, str], part: str) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as refused:
        Site(study(), open_data(file, study(), **how)).check()
    assert part in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("separator", ";;"), ("separator", ""), ("quote", "\n"), ("encoding", "x"), ("decimal", "x"), ("thousands", ".")],
)
def test_forms_that_there_are_not(file: Path, option: str, value: str) -> None:
    file.write_text(TEXT)
    how: dict[str, Any] = {option: value}
    with pytest.raises(ParameterError, match=option):
        open_data(file, study(), **how)


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="no Parquet file"):
        open_data(tmp_path / "a", study())


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_must_not_change(tmp_path: Path, form: str) -> None:
    file = tmp_path / "patients"
    frame().to_csv(file) if form == "csv" else frame().to_parquet(file)
    kept, read_again = open_data(file, study()), open_data(file, study(), memory=0)
    for data in (kept, read_again):
        assert len(rows_of(data)["age"]) == 3
    os.utime(file, (1, 1))
    assert len(rows_of(kept)["age"]) == 3
    with pytest.raises(InputError, match="has changed since it was opened"):
        list(read_again.chunks())


def test_what_fits_into_the_memory_is_read_once(file: Path) -> None:
    file.write_text(TEXT)
    for memory, kept in ((10_000, True), (50, False)):
        data = open_data(file, study(), memory=memory, rows=1)
        first, second = list(data.chunks()), list(data.chunks())
        assert all(one is other for one, other in zip(first, second, strict=True)) is kept


def test_no_record_shows(file: Path) -> None:
    file.write_text(TEXT)
    data = open_data(file, study())
    shown = repr((data, list(data.chunks()), Site(study(), data).check()))
    assert "40.5" not in shown
    assert "records" not in shown


def test_the_largest_numbers_are_exact() -> None:
    with pytest.raises(ParameterError, match=r"2\^53"):
        Whole(min=0, max=2**53)
    with pytest.raises(ParameterError, match="more digits than a float64 holds"):
        Number(min=0, max=2**51, decimals=1)
    rng = np.random.default_rng(5)
    for decimals in range(1, 13):
        units = 10**decimals
        column = Number(min=0, max=2**51 // units, decimals=decimals)
        whole = rng.integers(0, int(column.max) * units, 1000)
        texts = [f"{value // units}.{value % units:0{decimals}d}" for value in whole.tolist()]
        own = Study.from_toml(
            f'name = "a"\ncolumns.x = {{type = "number", min = 0, max = {column.max}, decimals = {decimals}}}\n'
            'methods.m = {method = "describe", of = ["x"]}'
        )
        data = rows_of(open_data(pd.DataFrame({"x": texts}), own), {"x": 0})["x"]
        assert np.rint(np.array(data) * units).astype(np.int64).tolist() == whole.tolist()
    own = Study.from_toml(
        f'name = "a"\ncolumns.x = {{type = "whole", min = {1 - 2**53}, max = {2**53 - 1}, outside = "clip"}}\n'
        'methods.m = {method = "describe", of = ["x"]}'
    )
    values = [2**53 - 1, 1 - 2**53, 2**53 + 1, -(2**60)]
    for column in (values, [str(value) for value in values]):
        found = Site(own, open_data(pd.DataFrame({"x": column}), own)).check()
        assert found.outside == {"x": 2}


DAY = datetime.datetime(2001, 1, 1)
OF_OTHER_TYPES = [
    pa.array([[1], None]),
    pa.array([{"a": 1}, None]),
    pa.array([b"\xff", None]),
    pa.array([b"1", None], pa.large_binary()),
    pa.array(["1", None], pa.large_string()),
    pa.array(["1", None]).dictionary_encode(),
    pa.array([datetime.time(1), None]),
    pa.array([datetime.timedelta(1), None]),
    pa.array([DAY, None], pa.timestamp("us", "UTC")),
    pa.array([DAY, None], pa.date64()),
    pa.array([Decimal("1.5"), None]),
    pa.array([Decimal("1e30"), None], pa.decimal256(50, 2)),
    pa.array([2**63, None], pa.uint64()),
    pa.array([1.0, None], pa.float16()),
    pa.array([1e300, None]),
    pa.array([True, None]),
    pa.array([None, None]),
]


@pytest.mark.parametrize("array", OF_OTHER_TYPES, ids=lambda array: str(array.type))
@pytest.mark.parametrize("name", ["age", "visits", "smoker", "sex", "seen"])
def test_no_type_of_a_file_makes_it_raise(array: pa.Array, name: str) -> None:
    """The second value is missing, and the first one is read or marked."""
    found = read(study().columns[name], array, TextForm(".", "", ()))
    codes = name == "sex"
    gone = found.data < 0 if codes else np.isnan(found.data)
    assert gone[1]
    assert not found.unreadable[1]
    assert gone[0] == (found.unreadable[0] or array[0].as_py() is None)
    takes_days = pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    if pa.types.is_temporal(array.type):
        assert found.unreadable[0] == (name != "seen" or not takes_days)


def test_files_without_records(file: Path) -> None:
    for data in (frame().iloc[:0], file):
        file.write_text(TEXT.splitlines()[0] + "\n")
        found = Site(study(), open_data(data, study())).check()
        assert (found.read, found.records) == (0, 0)


def test_dates_before_1970(file: Path) -> None:
    day = datetime.date(1969, 12, 31)
    own = Study.from_toml(
        'name = "a"\ncolumns.x = {type = "date", min = 1900-01-01, max = 2000-01-01}\n'
        'methods.m = {method = "describe", of = ["x"]}'
    )
    for column in ([day], [pd.Timestamp("1969-12-31T23:59:59.5")], ["1969-12-31"]):
        assert rows_of(open_data(pd.DataFrame({"x": column}), own), {"x": 0}) == {"x": [-1.0]}


@pytest.mark.parametrize(("text", "handlers"), [("age\n1\n2\n", 1), ("age\n1\n2,3\n", 2)])
def test_the_columns_of_a_file_are_read_without_a_function_for_arrow_to_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, handlers: int
) -> None:
    """Its threads would drop it when the interpreter ends.  A file with a line that is no record needs one."""
    given: list[Any] = []
    parse_options = sources.pacsv.ParseOptions

    def seen(**options: Any) -> Any:
        given.append(options["invalid_row_handler"])
        return parse_options(**options)

    monkeypatch.setattr(sources.pacsv, "ParseOptions", seen)
    file = tmp_path / "patients.csv"
    file.write_text(text)
    assert sources.CsvSource(file, sources.CsvForm()).columns == ("age",)
    assert given[0] is None
    assert len(given) == handlers
