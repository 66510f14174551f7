"""A study's results as one page of HTML that loads nothing: styles and pictures are in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, final

from secagg.statistics.results import Reported, StudyResult, Table, Value, text_of
from secagg.wording import counted

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f23; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; margin-bottom: .3rem; }
h2 { margin-top: 2.6rem; border-bottom: 1px solid #d0d7de; padding-bottom: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #e3e7eb; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #57606a; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.facts, .words, footer { color: #57606a; font-size: .92rem; }
.withheld { border-left: 4px solid #d29922; background: #fff8e5; padding: .5rem .9rem; }
code { overflow-wrap: anywhere; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; width: 44rem; height: auto; }
@media print { body { margin: 0; max-width: none; } h2, figure, tr { break-inside: avoid; } }
"""
_LONG: Final = 12
"""Rows: a table with more of them stands below the pictures."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Nothing is loaded, and no script runs, whatever a label holds."""


@final
@dataclass(frozen=True)
class Picture:
    """A figure as it was drawn: what it shows, in words, and the bytes of a PNG file."""

    title: str
    png: bytes


def page(result: StudyResult, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The page; ``pictures`` are by method."""
    sections = "".join(_section(name, one, pictures.get(name, ())) for name, one in result.sections.items())
    purpose = f'<p class="words">{escape(result.purpose)}</p>' if result.purpose else ""
    return document(
        result.name,
        f"""{purpose}
<p class="facts">Computed from secure sums: the protocol shows nobody what another organisation put in.<br>
Study digest <code>{escape(result.digest)}</code>{"<br>" * bool(result.privacy)}{escape(privacy(result))}</p>
{sections}
{_rounds(result)}
<footer><p>A dash stands for a value that is withheld because few records are behind it, or that is not defined.
The files beside this page have every digit.</p></footer>""",
    )


def document(title: str, body: str) -> str:
    """A whole page of HTML in the style of reports; ``body`` is HTML, and the title is text."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def _section(name: str, reported: Reported, pictures: Sequence[Picture]) -> str:
    found = reported.result
    withheld = f'<p class="withheld">Nothing is reported: {escape(found.withheld)}.</p>' if found.withheld else ""
    short = "".join(table_html(table) for table in found.tables if len(table.rows) <= _LONG)
    long = "".join(table_html(table) for table in found.tables if len(table.rows) > _LONG)
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return f"""<section>
<h2 id="{escape(name)}">{escape(reported.label or name)}</h2>
<p class="words">{escape(reported.words)}</p>
<p class="facts">{escape(facts(reported))}</p>
{withheld}{short}{"".join(map(picture_html, pictures))}{long}{f"<ul>{notes}</ul>" if notes else ""}
</section>
"""


def privacy(result: StudyResult) -> str:
    """What the study has cost of the privacy of each record, in sentences; empty without noise."""
    cost = result.privacy
    if cost is None:
        return ""
    return (
        f"Noise hides whether any single record is in the data: epsilon {cost.promised:g} was promised, and "
        f"{cost.reached:.4g} reached by the organisations that took part, at delta {cost.delta:g}, against the server "
        f"with up to {counted(cost.colluders, 'organisation')}."
    )


def facts(reported: Reported) -> str:
    """What a method's result rests on, as a line of text."""
    known = [] if reported.records is None else [counted(reported.records, "complete record")]
    if reported.incomplete is not None:
        known.append(f"{reported.incomplete:,} incomplete")
    known += [counted(len(reported.sites), "organisation"), counted(reported.rounds, "round")]
    return ", ".join(known)


def numeric(table: Table) -> list[bool]:
    """For each column, whether it holds numbers, so that they are aligned at their ends."""
    return [
        any(isinstance(row[at], int | float) for row in table.rows)
        and not any(isinstance(row[at], str) and row[at] for row in table.rows)
        for at in range(len(table.columns))
    ]


def table_html(table: Table) -> str:
    """A table as HTML."""
    classes = [' class="number"' if is_number else "" for is_number in numeric(table)]
    head = "".join(f"<th{one}>{escape(name)}</th>" for one, name in zip(classes, table.columns, strict=True))
    rows = "".join(f"<tr>{_cells(row, classes)}</tr>\n" for row in table.rows)
    return f"""<div class="scroll"><table>
<caption>{escape(table.title)}</caption>
<thead><tr>{head}</tr></thead>
<tbody>{rows}</tbody>
</table></div>
"""


def _cells(row: Sequence[Value], classes: Sequence[str]) -> str:
    return "".join(f"<td{one}>{escape(text_of(value))}</td>" for one, value in zip(classes, row, strict=True))


def picture_html(picture: Picture) -> str:
    """A picture as HTML that holds all of it."""
    data = base64.b64encode(picture.png).decode("ascii")
    return f'<figure><img alt="{escape(picture.title)}" src="data:image/png;base64,{data}"></figure>\n'


def _rounds(result: StudyResult) -> str:
    rows = tuple(
        (
            number,
            "; ".join(f"{name}: {stage}" for name, stage in one.asked.items()),
            len(one.sites),
            ", ".join(one.sites),
        )
        for number, one in enumerate(result.rounds, 1)
    )
    table = table_html(Table("What was summed, and over whom", ("round", "summed", "organisations", "which"), rows))
    failed = (
        f'<p class="facts">{counted(result.failed_rounds, "further round")} did not complete, and released nothing.</p>'
        if result.failed_rounds
        else ""
    )
    return f"<section>\n<h2>Rounds</h2>\n{table}{failed}</section>"
