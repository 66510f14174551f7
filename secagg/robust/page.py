"""What stands out, as one page of HTML for a person: the scores of clients, and the groups of the last round."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from secagg._install import how_to_install
from secagg.robust.anomalies import STANDS_OUT, RoundReport
from secagg.robust.scores import ClientScore, Scores
from secagg.statistics.page import Picture, document, picture_html, table_html
from secagg.statistics.results import Forest, Table
from secagg.wording import counted

_DRAWN: Final = 30
"""Clients in the picture: the highest scores."""
_INTERVAL: Final = 1.96
_MEANING: Final = """<p class="words">Nobody saw a client's update: everything here is made from the sums of groups.
A client's score is the mean distance of its groups from the robust centre, in units of the round's median distance.
A score is a hint for a person, and no proof. A client whose data differ from all others' scores high without doing
anything wrong, and so does one that was often drawn into a group with an attacker. The scores also tell whoever reads
them whose data are unusual: keep this page as you keep the group sums.</p>"""


def write_anomalies(
    scores: Scores,
    report: RoundReport | None,
    file: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
) -> None:
    """Write a page with a table and a picture of the clients' scores, which loads nothing from anywhere.

    Args:
        scores: of all rounds.
        report: of the last round, whose groups are shown below; None leaves them out.
        file: where to; a file of this name is replaced.
        names: of the clients, by the index that the report has; by default the index itself.

    Raises ModuleNotFoundError, which says what to install, without Matplotlib, and OSError.
    """
    try:
        from secagg.statistics import drawing
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{missing.name} is not installed, and the page needs it: {how_to_install('stats')}", name=missing.name
        ) from None
    ranking = scores.ranking()
    known = [one for one in ranking if one.rounds > 1][:_DRAWN]
    pictures = [Picture("The highest scores", drawing.draw(_forest(known)))] if known else []
    body = [
        f'<p class="facts">{counted(len(ranking), "client")}, {counted(scores.rounds, "round")}</p>',
        _MEANING,
        *map(picture_html, pictures),
        table_html(_score_table(ranking)),
    ]
    if report is not None:
        body += ["<h2>The last round</h2>", f'<p class="facts">{escape(_summary(report))}</p>']
        body.append(table_html(_group_table(report, names)))
    Path(file).write_text(document("Groups and clients that stand out", "\n".join(body)), encoding="utf-8")


def _forest(ranking: list[ClientScore]) -> Forest:
    return Forest(
        title="The highest scores",
        label="score",
        names=tuple(one.client for one in ranking),
        estimates=tuple(one.score for one in ranking),
        low=tuple(one.score - _INTERVAL * one.error for one in ranking),
        high=tuple(one.score + _INTERVAL * one.error for one in ranking),
        reference=1.0,
    )


def _score_table(ranking: list[ClientScore]) -> Table:
    rows = tuple((one.client, one.rounds, one.score, one.error, one.excess) for one in ranking)
    columns = ("client", "rounds", "score", "standard error", "standard errors above the mean")
    return Table("Scores of clients, the highest first", columns, rows)


def _group_table(report: RoundReport, names: Sequence[str] | None) -> Table:
    rows = tuple(
        (
            group.number,
            ", ".join(str(member) if names is None else names[member] for member in group.members),
            group.distance,
            group.cosine,
            group.norm,
            group.stands_out,
        )
        for group in sorted(report.groups, key=lambda group: -group.distance)
    )
    columns = ("group", "members", "distance", "cosine", "norm", "stands out")
    return Table("Groups, the farthest from the robust centre first", columns, rows)


def _summary(report: RoundReport) -> str:
    return (
        f"The median distance of a group from the robust centre is {report.median_distance:.4g}, and the centre's norm "
        f"{report.centre_norm:.4g}. A group stands out when it is more than {STANDS_OUT:g} median distances away."
    )
