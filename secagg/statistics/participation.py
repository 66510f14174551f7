"""Which sets of organisations may be summed one after another.

Sums of the same data over several sets can be combined.  Whoever combines them with weights gets a weighted sum of the
organisations' own parts, and the weight of an organisation depends only on the sets that it is in.  Organisations that
were in the same sets, which form a *class*, therefore always have the same weight: when every class has T members, no
combination is about fewer than T organisations, whatever the weights.  A smaller class is refused even where no sum of
its own follows yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def smallest_class(sets: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The smallest class of the organisations that are in any of these sets, ascending; empty without a set."""
    histories: dict[str, set[int]] = defaultdict(set)
    for position, organisations in enumerate(sets):
        for organisation in organisations:
            histories[organisation].add(position)
    classes: dict[frozenset[int], list[str]] = defaultdict(list)
    for organisation in sorted(histories):
        classes[frozenset(histories[organisation])].append(organisation)
    smallest: list[str] = min(sorted(classes.values()), key=len, default=[])
    return tuple(smallest)


def refused_difference(earlier: Iterable[Iterable[str]], organisations: Iterable[str], least: int) -> str:
    """Why these organisations may not be summed after the earlier sets; empty when they may.

    ``least`` is the fewest members of a class.  A set that was summed before adds no combination.
    """
    sets = {frozenset(one) for one in earlier}
    new = frozenset(organisations)
    if new in sets:
        return ""
    few = smallest_class([*sets, new])
    if len(few) >= least:
        return ""
    return (
        f"sums over this set of {len(new)} organisations and over earlier ones could be combined to tell of "
        f"{', '.join(few)} alone: at least {least} must always be in and out together (min_difference)"
    )
