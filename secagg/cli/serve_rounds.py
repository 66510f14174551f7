"""The rounds that ``secagg serve`` is told to host: their layout, their cohort, their deadlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from secagg.adapters.net import model_files
from secagg.adapters.net.ballot_layout import MOST_CANDIDATE_BYTES, BallotLayout
from secagg.adapters.net.model_files import NPZ, SAFETENSORS, Header
from secagg.adapters.net.round_spec import DEFAULT_DEADLINES, RoundSpec
from secagg.cli.complaints import complaint_arguments
from secagg.cli.layout_options import LayoutOptions, parse_layout
from secagg.cli.option_words import option_words
from secagg.cli.output import names_of
from secagg.cli.private_options import check_one_clip
from secagg.cli.private_sums import layout_notes, promise_lines
from secagg.cli.promise_options import PLAIN_BITS, PrivacyOptions, need_extra
from secagg.cli.rounds import config_for, grouped_arguments, private_arguments
from secagg.cli.serve_options import ServeOptions
from secagg.credentials import load_directory
from secagg.encoding import Exact, Template
from secagg.encoding.layout import Layout
from secagg.encoding.limits import FEWEST_BITS, LARGEST_WEIGHT, MOST_BITS, integer
from secagg.encoding.settings import resolved
from secagg.errors import InputError, ParameterError
from secagg.identity import Directory
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import ThreatModel, default_threat_model
from secagg.privacy import PrivateEncoder, PrivateLayout
from secagg.privacy.cohort import private_cohort
from secagg.privacy.layout import AnyLayout
from secagg.robust.ballots import Ballot
from secagg.simulation.carriers import with_carrier
from secagg.wording import counted

_FEWEST: Final = 3
"""Everybody gets the total: of two, each could take its own away from it."""
_LARGEST_WHOLE: Final = 2**31
"""Of the whole numbers that are summed exactly without an option that says so."""
_NO_CLIP: Final = 1.0
"""Of a layout in which every array has a setting of its own."""
_ROUNDING: Final = 1 + 2.0**-30
"""What the roundings of float64 add to a bound is no reason to refuse it."""


@dataclass(frozen=True, slots=True)
class ServedLayout:
    """What is summed.

    Attributes:
        layout: what clients are told.
        chosen: whole sentences on what was chosen without an option, and on what a private round promises.
        candidate: of a ballot, its bytes.
    """

    layout: AnyLayout | BallotLayout
    chosen: tuple[str, ...]
    candidate: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Invited:
    """Who is invited, in which threat model.

    Attributes:
        clients: how many.
        threat: the threat model.
        directory, names, keys, digest: of the cohort; nothing in an open round.
    """

    clients: int
    threat: ThreatModel
    directory: Directory | None
    names: tuple[str, ...]
    keys: tuple[bytes, ...] | None
    digest: bytes


def layout_of(options: ServeOptions) -> ServedLayout:
    """The layout that the options and the file of --dim-from make.

    Raises ParameterError and InputError: for a file that ``join`` would not take either, for an array without a clip,
    for a layout that loses what a client of weight 1 gives, and for a promise that no noise keeps.  For a ballot the
    layout is that of the candidate and the rules.
    """
    if options.ballot is not None:
        return _ballot_layout(options, options.ballot)
    if options.dim_from is None:
        raise ParameterError("--dim-from is missing: give a file with the arrays to sum, or --ballot with a candidate")
    headers = model_files.read_headers(options.dim_from)
    given = parse_layout(options.clip, options.array_bits, options.exact)
    given.check_names(list(headers))
    if options.bits is not None:
        integer("--bits", options.bits, FEWEST_BITS, MOST_BITS)
    if options.max_weight is not None:
        integer("--max-weight", options.max_weight, 1, LARGEST_WEIGHT)
    if options.epsilon is None:
        return _plain_layout(options, headers, given)
    return _private_layout(options, headers, options.privacy(check_one_clip(given)))


def _ballot_layout(options: ServeOptions, file: Path) -> ServedLayout:
    model_files.read_headers(file)  # members read it, too, and nobody unpickles it
    if (size := file.stat().st_size) > MOST_CANDIDATE_BYTES:
        raise ParameterError(
            f"--ballot {file}: it has {counted(size, 'byte')}, and a candidate can have {MOST_CANDIDATE_BYTES:,}"
        )
    given = {"objecting_share": options.objecting_share, "fewest_voters": options.fewest_voters}
    try:
        ballot = Ballot(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ParameterError as refused:
        raise ParameterError(f"--{str(refused).replace('_', '-', 1)}") from None
    candidate = file.read_bytes()
    layout = BallotLayout.of(candidate, ballot, NPZ if model_files.kind_of(file) == NPZ else SAFETENSORS)
    drops = (
        f"{file}: dropped when more than {ballot.objecting_share:g} of the voters object; undecided with fewer than "
        f"{counted(ballot.fewest_voters, 'voter')}; SHA-256 {layout.candidate.hex()}"
    )
    return ServedLayout(layout, (drops,), candidate)


def _plain_layout(options: ServeOptions, headers: Mapping[str, Header], given: LayoutOptions) -> ServedLayout:
    chosen = _whole_arrays(headers, given)
    _check_clips(given, [name for name in headers if name not in chosen])
    try:
        layout = Layout.of(
            {name: header.shape for name, header in headers.items()},
            clip=_NO_CLIP if given.clip is None else given.clip,
            bits=PLAIN_BITS if options.bits is None else options.bits,
            max_weight=options.max_weight,
            clips=given.clips,
            array_bits=given.array_bits,
            exact={**given.exact, **chosen},
        )
    except ParameterError as refused:
        said = str(refused).replace("narrow the range, or lower decimals or max_weight", "")
        if said == str(refused):
            raise
        raise ParameterError(f"{said}give --exact a narrower range or fewer decimals, or lower --max-weight") from None
    _check_exact(layout)
    _check_precision(layout)
    return ServedLayout(layout, tuple(_said_of(chosen, headers)))


def _private_layout(options: ServeOptions, headers: Mapping[str, Header], privacy: PrivacyOptions) -> ServedLayout:
    """Calibrated for the fewest honest clients that a sum of the cohort can have."""
    invited = invited_by(options)
    asked = privacy.ask(invited.clients)
    if asked is None:
        raise RuntimeError("a private layout of a round that is not private")
    need_extra()
    shapes = {name: header.shape for name, header in headers.items()}
    coordinates = PrivateEncoder.coordinates(Template.from_shapes(shapes), options.max_weight)
    # How many clients are honest follows from the cohort; a layout of one value stands in for the one to be found.
    cohort = _agreed(options, Layout.of({"": ()}, clip=1.0), invited)
    terms = asked.terms(coordinates, cohort)
    layout = PrivateLayout.of(shapes, terms, max_weight=options.max_weight)
    kinds = {name: str(header.dtype) for name, header in headers.items() if _is_whole(header)}
    return ServedLayout(layout, (*layout_notes(layout, kinds), *promise_lines(terms)))


def _is_whole(header: Header) -> bool:
    return header.dtype is not None and header.dtype.kind in "biu"


def _whole_arrays(headers: Mapping[str, Header], given: LayoutOptions) -> dict[str, Exact]:
    """Arrays of whole numbers that no option names: a clip for weights would leave little of a count."""
    named = resolved("", headers, {**given.clips, **given.array_bits, **given.exact})
    return {
        name: _range_of(header.dtype)
        for name, header in headers.items()
        if name not in named and header.dtype is not None and _is_whole(header)
    }


def _range_of(dtype: np.dtype[Any]) -> Exact:
    if dtype.kind == "b":
        return Exact(0, 1)
    limits = np.iinfo(dtype)
    return Exact(max(int(limits.min), -_LARGEST_WHOLE), min(int(limits.max), _LARGEST_WHOLE))


def _said_of(chosen: Mapping[str, Exact], headers: Mapping[str, Header]) -> list[str]:
    by_range: dict[tuple[str, Exact], list[str]] = {}
    for name, exact in chosen.items():
        by_range.setdefault((str(headers[name].dtype), exact), []).append(name)
    return [
        f"{names_of(names)}: whole numbers ({dtype}), which are summed exactly from {exact.low} to {exact.high}; for "
        f"another range give --exact '{names[0]}=LOW..HIGH', to round them give --clip '{names[0]}=VALUE'"
        for (dtype, exact), names in by_range.items()
    ]


def _check_clips(given: LayoutOptions, names: list[str]) -> None:
    if given.clip is None and (bare := given.without_clip(names)):
        raise ParameterError(
            f"--clip is missing: {names_of(bare)} would have none; give --clip VALUE, or --clip '{bare[0]}=VALUE'"
        )


def _check_exact(layout: Layout) -> None:
    for name, exact in layout.exact_by_name().items():
        if not exact.low <= 0 <= exact.high:
            raise ParameterError(
                f"--exact '{name}={exact.low}..{exact.high}': the range leaves out 0, and clients refuse that: write "
                f"{min(exact.low, 0)}..{max(exact.high, 0)}"
            )


def _check_precision(layout: Layout) -> None:
    """A bound above the clip says that a sum may hold nothing of the values: of clients with weight 1, at worst."""
    encoder = layout.encoder()
    bounds = layout.by_name(encoder.error_bounds(1, None if layout.max_weight is None else 1))
    bits = layout.bits_by_name()
    for name, clip in layout.clip_by_name().items():
        if name in bounds and bounds[name] > clip * _ROUNDING:
            needed = (layout.max_weight or 1).bit_length() + 1
            finer = (
                f"give --bits {needed} or --array-bits '{name}={needed}'"
                if needed <= MOST_BITS
                else f"sum it exactly with --exact '{name}=LOW..HIGH:DECIMALS'"
            )
            raise ParameterError(
                f"--max-weight {layout.max_weight}: with {bits[name]} bits, the mean of {name} could be off by "
                f"{bounds[name]:.3g} where the clients' weights are 1, which is more than its clip of {clip:g}; "
                f"{finer}, or lower --max-weight"
            )
    encoder.check_precision()


def round_specs(options: ServeOptions, served: ServedLayout) -> list[RoundSpec]:
    """The rounds that the options ask for.  Raises ParameterError and InputError."""
    invited = invited_by(options)
    seconds = parse_deadlines(options.deadline or [])
    names = options.names
    if len(set(names)) < len(names):
        raise ParameterError(f"--round: {', '.join(names)} has a name twice")
    agreed = _agreed(options, served.layout, invited)
    return [
        RoundSpec(
            name=name,
            config=agreed,
            layout=served.layout,
            candidate=served.candidate,
            deadlines=seconds,
            keys=invited.keys,
            names=invited.names,
            directory=invited.directory,
        )
        for name in names
    ]


def invited_by(options: ServeOptions) -> Invited:
    """Whom the options invite.  Raises ParameterError and InputError."""
    known, members, keys, digest = _cohort(options.directory, options.open_seats)
    if keys is not None and options.clients not in (None, len(keys)):
        raise ParameterError(
            f"--clients {options.clients}: {options.directory} lists {counted(len(keys), 'member')}; leave "
            "--clients out"
        )
    count = len(keys) if keys is not None else options.clients
    if count is None:
        raise ParameterError("--clients is missing: give the number of clients, or a --directory")
    threat = options.threat or default_threat_model(identified=keys is not None)
    if threat.signs and keys is None:
        raise ParameterError(f"--threat-model {threat} needs the cohort's --directory (secagg identity directory)")
    return Invited(count, threat, known, members, keys, digest)


def _agreed(options: ServeOptions, layout: AnyLayout | BallotLayout, invited: Invited) -> RoundConfig:
    with option_words():
        agreed = _config(options, layout, invited, options.min_survivors)
        if options.min_survivors is None and agreed.min_survivors < _FEWEST:
            agreed = _config(options, layout, invited, _FEWEST)
    if options.epsilon is not None and options.min_survivors is None:
        agreed = private_cohort(agreed)
    return with_carrier(agreed, options.carrier)


def _config(
    options: ServeOptions, layout: AnyLayout | BallotLayout, invited: Invited, least: int | None
) -> RoundConfig:
    return config_for(
        invited.clients,
        layout.encoder(),
        invited.threat,
        options.gamma,
        options.privacy().most_lost,
        options.neighbours,
        options.suite,
        min_survivors=least,
        cohort=invited.digest,
        own={
            **(private_arguments(layout, invited.clients) if isinstance(layout, PrivateLayout) else {}),
            **({"context": layout.digest()} if isinstance(layout, BallotLayout) else {}),
            **grouped_arguments(options.groups, options.min_group),
            **complaint_arguments(complaints=options.complaints),
        },
    )


def _cohort(
    directory: Path | None, open_seats: bool
) -> tuple[Directory | None, tuple[str, ...], tuple[bytes, ...] | None, bytes]:
    """The directory, its members' names and keys, and its digest."""
    if directory is None:
        if not open_seats:
            raise ParameterError(
                "--directory is missing: give the cohort's directory, so that only its members take part; or --open, "
                "with which anybody may take a seat"
            )
        return None, (), None, b""
    if open_seats:
        raise ParameterError("--open and --directory exclude each other")
    try:
        known, names, digest = load_directory(directory)
    except (ParameterError, InputError) as wrong:
        raise ParameterError(named(str(wrong), directory)) from None
    return known, names, tuple(known.cohort(digest) or ()), digest


def named(message: str, file: Path) -> str:
    """The message with the file's name in front, unless it is in there."""
    return message if str(file) in message else f"{file}: {message}"


def parse_deadlines(given: Sequence[str]) -> dict[str, float]:
    """``60`` for all phases and the wait for statements, but for what is named, as in ``SHARE=60``.

    Raises ParameterError.
    """
    found, by_phase = dict(DEFAULT_DEADLINES), {}
    for text in given:
        phase, equals, number = text.rpartition("=")
        try:
            seconds = float(number)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 1e9 or (equals and phase.upper() not in DEFAULT_DEADLINES):
            raise ParameterError(
                f"--deadline {text!r}: give SECONDS, or PHASE=SECONDS with one of {', '.join(DEFAULT_DEADLINES)}"
            )
        if equals:
            by_phase[phase.upper()] = seconds
        else:
            found = dict.fromkeys(DEFAULT_DEADLINES, seconds)
    return {**found, **by_phase}
