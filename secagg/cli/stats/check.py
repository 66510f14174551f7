"""``secagg stats check``: what a study would send of one's own data, and whether the data fit it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from secagg.cli.command_options import command_of
from secagg.cli.output import EXIT_FAILED, fact_table, names_of, print_json, results, size, table, usage_errors
from secagg.cli.stats.check_options import CheckOptions
from secagg.cli.stats.data_options import separator_of
from secagg.errors import DisclosureError, InputError
from secagg.statistics import Analyst, Dataset, Question, Site, SiteCheck, SitePolicy, Study, load_policy, open_data
from secagg.statistics.data import MISSING
from secagg.statistics.noise import noise_in_words
from secagg.wording import counted

_ELEMENT_BYTES = 8


@command_of(CheckOptions)
def check(options: CheckOptions) -> None:
    """Say what a study asks for, and whether one's own data fit it. Nothing is sent.

    With --data, the file is read as `secagg stats join` reads it. The command says how many records each method has,
    how many values are missing or outside of their range, and what each round sums: the study is rehearsed on this
    machine with the file alone, so that the later rounds of a session with other organisations can differ.

    With --policy, the study and the number of your records are held to your own rules.

    Exit code 0: the study can be read, the data fit it, and the policy allows it. 1: the data do not fit the study, or
    the policy refuses it. 2: the study, a file or an option cannot be read.
    """
    with usage_errors("stats check"):
        study = Study.load(options.study)
        policy = None if options.policy is None else load_policy(options.policy)
        dataset = dataset_of(options, study)
    with usage_errors("stats check"):
        try:
            found = _found(study, dataset, policy)
        except InputError as misfit:
            _fail(options, study, str(misfit), f"The data do not fit the study {study.name!r}:")
        except DisclosureError as refused:
            _fail(options, study, str(refused), f"The policy {options.policy} refuses the study {study.name!r}:")
    if options.as_json:
        print_json(_as_json(study, found))
    else:
        _show(study, found, policy, results())


@dataclass(frozen=True)
class _Round:
    """The arrays that a round sums: their shapes, and the standard deviations of their noise where they have any."""

    arrays: dict[str, tuple[int, ...]]
    noise: dict[str, float]


@dataclass(frozen=True)
class _Found:
    """What is said of a study; ``site`` is None where no data are read."""

    site: SiteCheck | None
    rounds: list[_Round]


def dataset_of(options: CheckOptions, study: Study) -> Dataset | None:
    """The data that the options name; None without.  Raises ParameterError, InputError and OSError."""
    if options.data is None:
        return None
    return open_data(
        options.data,
        study,
        separator=separator_of(options.separator),
        encoding=options.encoding,
        decimal=options.decimal,
        thousands=options.thousands or "",
        missing=MISSING if options.missing is None else tuple(options.missing),
    )


def _found(study: Study, dataset: Dataset | None, policy: SitePolicy | None) -> _Found:
    analyst = Analyst(study)
    if policy is not None:
        policy.check(study)
    if dataset is None:
        first = analyst.question()
        return _Found(None, [_round(analyst, first)] if first else [])
    site = Site(study, dataset, policy=policy)
    checked = site.check()
    rounds = []
    names = [f"rehearsal {number}" for number in range(study.release.min_organisations)]
    while (question := analyst.question()) is not None:
        rounds.append(_round(analyst, question))
        analyst.release(question, site.answer(question), names)
    return _Found(checked, rounds)


def _round(analyst: Analyst, question: Question) -> _Round:
    layout = analyst.layout(question)
    return _Round(dict(layout.arrays), layout.deviations(analyst.study.release.min_organisations))


def _values(arrays: dict[str, tuple[int, ...]]) -> int:
    return sum(prod(shape) for shape in arrays.values())


def _fail(options: CheckOptions, study: Study, misfit: str, heading: str) -> NoReturn:
    if options.as_json:
        print_json({"name": study.name, "digest": study.digest.hex(), "fits": False, "misfits": misfit.split("; ")})
    else:
        typer.echo(heading, err=True)
        for one in misfit.split("; "):
            typer.echo(f"  {one}", err=True)
    raise typer.Exit(EXIT_FAILED)


def _as_json(study: Study, found: _Found) -> dict[str, Any]:
    site = found.site
    return {
        "name": study.name,
        "purpose": study.purpose,
        "digest": study.digest.hex(),
        "fits": None if site is None else True,
        "read": None if site is None else site.read,
        "records": None if site is None else site.records,
        "methods": {name: {"releases": _words(study, name)} | _records_of(site, name) for name in study.methods},
        "columns": {} if site is None else {name: _column(site, name) for name in study.used},
        "rounds": [
            {
                "values": _values(one.arrays),
                "bytes": _ELEMENT_BYTES * _values(one.arrays),
                "arrays": one.arrays,
                "noise": one.noise,
            }
            for one in found.rounds
        ],
        "noise": None if study.noise is None else msgspec.to_builtins(study.noise) | {"rounds": study.noisy_rounds},
    }


def _words(study: Study, name: str) -> str:
    """What a method releases, and of which records."""
    method = study.methods[name]
    return method.in_words(study.terms) + (f" Only of records with {method.where}." if method.where else "")


def _records_of(site: SiteCheck | None, name: str) -> dict[str, int]:
    if site is None:
        return {}
    complete, incomplete = site.by_method[name]
    return {"complete": complete, "incomplete": incomplete}


def _column(site: SiteCheck, name: str) -> dict[str, Any]:
    return {
        "missing": site.missing[name],
        "outside": site.outside[name],
        "rounded": site.rounded.get(name, 0),
        "never_met": list(site.never_met.get(name, ())),
    }


def _show(study: Study, found: _Found, policy: SitePolicy | None, console: Console) -> None:
    facts = fact_table(escape(study.name))
    if study.purpose:
        facts.add_row("purpose", escape(study.purpose))
    facts.add_row("digest", study.digest.hex())
    for filtered in study.filters:
        facts.add_row("only records with", escape(filtered))
    facts.add_row("organisations", f"at least {study.release.min_organisations} in each sum")
    facts.add_row("small cells", f"counts below {study.release.min_cell} are withheld from the results")
    if found.site is not None:
        facts.add_row("records", f"{found.site.records:,} of the {found.site.read:,} that were read")
    console.print(facts)
    show_methods(study, found.site, console)
    if found.site is not None:
        _show_columns(study, found.site, console)
    _show_rounds(found, console)
    _show_noise(study, found, console)
    if found.site is None:
        console.print("No data were read. Give --data to see whether your own fit.")
    else:
        console.print("The data fit the study. Nothing was sent.")
    if policy is not None:
        console.print("The policy allows the study.")


def show_methods(study: Study, site: SiteCheck | None, console: Console) -> None:
    """A table of what each method releases; of a checked site, with how many records each has; and about noise."""
    rows = table("What is released", "method", "in words", *(("complete", "incomplete") if site is not None else ()))
    rows.columns[1].justify = "left"
    for name in study.methods:
        counts = [f"{count:,}" for count in _records_of(site, name).values()]
        rows.add_row(name, escape(_words(study, name)), *counts)
    console.print(rows)
    if study.noise is not None:
        console.print(noise_in_words(study.noise, study.honest, study.noisy_rounds))


def _show_columns(study: Study, site: SiteCheck, console: Console) -> None:
    rows = table("What is in the data", "column", "missing", "outside", "rounded", "values that no record has")
    rows.columns[-1].justify = "left"
    for name in study.used:
        column = _column(site, name)
        counts = [f"{column[part]:,}" for part in ("missing", "outside", "rounded")]
        rows.add_row(name, *counts, escape(names_of(column["never_met"])))
    console.print(rows)


def _show_noise(study: Study, found: _Found, console: Console) -> None:
    if study.noise is None:
        return
    rows = table("How much noise is in each sum", "round", "sum", "standard deviation")
    rows.columns[1].justify = "left"
    for number, one in enumerate(found.rounds, 1):
        for name, deviation in one.noise.items():
            rows.add_row(str(number), name, f"{deviation:,.3g}")
    console.print(rows)
    console.print(
        f"With {study.release.min_organisations} organisations in a sum; four times as many add twice the noise. Sums "
        "of numbers with decimals are in units of the last digit."
    )


def _show_rounds(found: _Found, console: Console) -> None:
    rows = table("What each round sums", "round", "values", "bytes", "arrays")
    rows.columns[-1].justify = "left"
    for number, one in enumerate(found.rounds, 1):
        values = _values(one.arrays)
        rows.add_row(str(number), f"{values:,}", size(_ELEMENT_BYTES * values), names_of(list(one.arrays)))
    console.print(rows)
    if found.site is not None:
        console.print(f"In a rehearsal with this file alone, the study took {counted(len(found.rounds), 'round')}.")
