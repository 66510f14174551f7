"""What ``join`` says and refuses of a client's own file before it connects: by bounds that its own operator states.

A refusal after that, by what a server sets, would tell the server about the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from rich.console import Console
from rich.text import Text

from secagg.adapters.net.own_input import OwnInput
from secagg.cli.inputs import largest_of
from secagg.cli.layout_options import LayoutOptions, parse_bounds
from secagg.cli.output import table
from secagg.cli.precision import decimals_warning, lost_decimals
from secagg.cli.private_sums import promise_json, promise_lines
from secagg.encoding.layout import Layout
from secagg.encoding.settings import Coarse
from secagg.errors import InputError, ParameterError
from secagg.privacy.layout import AnyLayout, PrivateLayout
from secagg.wording import counted, was

_LISTED = 12
"""Arrays in a table: what fits on a screen."""


@final
@dataclass(frozen=True, slots=True)
class OwnLoss:
    """What a layout makes of a client's own file.  It tells of the data, and is for the client's own operator.

    Attributes:
        clipped: how many values are clipped, by array.
        weight_clamped: whether the weight counts as the layout's largest.
        coarse: the arrays that are lost in the rounding, or behind the clip.
        decimals: the most that an exact layout's decimals take off a value, by array.
        shortened: what a private layout's clip multiplies the whole update by; 1.0 for one that fits.
    """

    clipped: Mapping[str, int] = field(repr=False)
    weight_clamped: bool = field(repr=False)
    coarse: Mapping[str, Coarse] = field(repr=False)
    decimals: Mapping[str, float] = field(repr=False)
    shortened: float = field(default=1.0, repr=False)

    def warnings(self, layout: AnyLayout) -> Iterator[str]:
        """Whole sentences, without the stop at the end."""
        if self.shortened < 1:
            yield (
                f"your file is longer than the clip (L2 norm), so that {self.shortened:.3g} times each of its values "
                "counts; ask for a larger --clip of the server if that is too little"
            )
        exact = layout.exact_by_name() if isinstance(layout, Layout) else {}
        for name, count in self.clipped.items():
            beyond = (
                f"outside of the range {exact[name].low}..{exact[name].high}" if name in exact else "beyond the clip"
            )
            yield f"{name}: {counted(count, 'value')} of yours {was(count)} {beyond}, and {was(count)} clipped"
        for name, found in self.coarse.items():
            yield (
                f"{name} is hardly in the sum: the largest of your values is {found.largest:.3g}, the clip "
                f"{found.clip:.3g}, and the rounding {found.rounding:.3g}; ask for another --clip, "
                "more --bits or a lower --max-weight of the server"
            )
        for name, lost in self.decimals.items():
            yield decimals_warning(name, lost, exact[name]).rstrip(".")
        if self.weight_clamped:
            yield f"your weight is above the server's --max-weight, and was reduced to {layout.max_weight}"


def lost_by(layout: AnyLayout, own: OwnInput) -> OwnLoss:
    """What this layout makes of the input.  Raises InputError for an input of another layout, ParameterError."""
    if own.weight is not None and layout.max_weight is None:
        raise ParameterError("--weight: the layout has no weights; leave --weight out")
    weight = 1 if own.weight is None else own.weight
    if isinstance(layout, PrivateLayout):
        layout.encoder_for(own.arrays)
        clamped = layout.max_weight is not None and weight > layout.max_weight
        return OwnLoss({}, clamped, {}, {}, layout.shortening(own.arrays))
    encoder = layout.encoder_for(own.arrays)
    encoder.encode(own.arrays, weight=weight)
    return OwnLoss(
        layout.by_name(encoder.clipped),
        encoder.weight_clamped,
        layout.by_name(encoder.coarse(own.arrays, weight)),
        decimals_lost(layout, own),
    )


def decimals_lost(layout: Layout, own: OwnInput) -> dict[str, float]:
    """Of exact arrays: the most that rounding to their decimals takes off a value of the input."""
    lost = {name: lost_decimals(own.arrays[name], exact) for name, exact in layout.exact_by_name().items()}
    return {name: amount for name, amount in lost.items() if amount}


def check_bounds(own: OwnInput, texts: Sequence[str]) -> None:
    """Raises InputError for a value above a bound of --refuse-above, and ParameterError for a bound that is none."""
    overall, by_name = parse_bounds("--refuse-above", texts)
    bounds = LayoutOptions(clip=overall, clips=by_name)
    for pattern in by_name:
        if not LayoutOptions(clips={pattern: 1.0}).clips_of(own.arrays):
            raise ParameterError(f"--refuse-above '{pattern}=...': no array of your file has this name")
    for name, bound in bounds.clips_of(own.arrays).items():
        largest = largest_of(own.arrays[name])
        if largest > bound:
            raise InputError(
                f"{name} has the absolute value {largest:.6g}, which is above --refuse-above {bound:g}; nothing was "
                "sent"
            )


def check_nothing_clipped(loss: OwnLoss) -> None:
    """Raises InputError when a value or the weight is clipped."""
    if loss.clipped:
        name, count = max(loss.clipped.items(), key=lambda item: item[1])
        raise InputError(f"--refuse-clipped: {counted(count, 'value')} of {name} would be clipped; nothing was sent")
    if loss.shortened < 1:
        raise InputError(
            f"--refuse-clipped: your file would be shortened to {loss.shortened:.3g} times its values; nothing was sent"
        )
    if loss.weight_clamped:
        raise InputError("--refuse-clipped: your weight is above the layout's largest; nothing was sent")


def check_json(own: OwnInput, layout: AnyLayout | None, loss: OwnLoss | None) -> dict[str, Any]:
    """What ``--check --json`` prints."""
    found: dict[str, Any] = {
        "ok": True,
        "values": sum(array.size for array in own.arrays.values()),
        "arrays": {name: {"largest": largest_of(array)} for name, array in own.arrays.items()},
    }
    if layout is not None and loss is not None:
        length, digest = layout.encoder().length, layout.digest().hex()
        found |= {"length": length, "digest": digest, "clipped": dict(loss.clipped)}
        found |= {"weight_clamped": loss.weight_clamped, "warnings": list(loss.warnings(layout))}
    if isinstance(layout, PrivateLayout) and loss is not None:
        found |= {"shortened": loss.shortened, "promise": promise_json(layout.terms)}
    elif isinstance(layout, Layout) and loss is not None:
        for name, rounding in _roundings(layout, own).items():
            found["arrays"][name] |= {"rounding": rounding, "clipped": loss.clipped.get(name, 0)}
    return found


def show_check(own: OwnInput, layout: AnyLayout | None, loss: OwnLoss | None, console: Console) -> None:
    """What ``--check`` prints for a person."""
    values = sum(array.size for array in own.arrays.values())
    said = f"The file has {counted(values, 'value')} in {counted(len(own.arrays), 'array')}."
    if layout is None:
        said += " Without --layout, the server says what is clipped when the client connects."
    else:
        length = layout.encoder().length
        said += (
            f" They would be sent as {counted(length, 'masked number')}; nothing else about them leaves this machine."
        )
    console.print(said, soft_wrap=True)
    if isinstance(layout, PrivateLayout):
        for line in promise_lines(layout.terms):
            console.print(Text(line), soft_wrap=True)
    plain = layout if isinstance(layout, Layout) else None
    rounding = {} if plain is None else _roundings(plain, own)
    clipped = {} if loss is None else loss.clipped
    columns = ("array", "largest value") if plain is None else ("array", "largest value", "rounded by", "clipped")
    rows = table("Your file", *columns)
    order = sorted(own.arrays, key=lambda name: clipped.get(name, 0), reverse=True)
    for name in order[:_LISTED]:
        cells = [] if plain is None else [f"{rounding.get(name, 0.0):.3g}", f"{clipped.get(name, 0):,}"]
        rows.add_row(Text(name), f"{largest_of(own.arrays[name]):.6g}", *cells)
    console.print(rows)
    if len(order) > _LISTED:
        console.print(f"Not shown: {counted(len(order) - _LISTED, 'more array')}. --json prints all of them.")


def _roundings(layout: Layout, own: OwnInput) -> dict[str, float]:
    """By array, the most that the rounding of this client adds to its own values."""
    encoder = layout.encoder()
    weight = None if layout.max_weight is None else min(layout.max_weight, own.weight or 1)
    exact = dict.fromkeys(layout.exact_by_name(), 0.0)
    return layout.by_name(encoder.error_bounds(1, weight)) | exact
