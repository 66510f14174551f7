"""Vectors that bind one rule of a server's each: everything else about the message, or the close, is in order."""

from __future__ import annotations

from .cases import INDEX, ServerCases, changed, flipped


def server_rules(tests: ServerCases) -> None:
    """Adds the tests."""
    _late_inputs(tests)
    _taken(tests)


def _late_inputs(tests: ServerCases) -> None:
    """Masked inputs after MASK closed: one that was taken is known as such for ever, another is late."""
    for setup, phase in (("semi_honest", "UNMASK"), ("active", "CONFIRM")):
        masked = tests.message(setup, f"masked-input-{INDEX}")
        zeros = changed(masked, vector=lambda vector: bytes(len(vector)))
        again = [(INDEX, masked), (INDEX, zeros)]
        comment = "a masked input that was taken comes again after the close, as it was and otherwise"
        tests.sequence(setup, phase, "MASK-7", "FIRST_COUNTS", comment, lambda s, again=again: again)  # type: ignore[misc]
    late = changed(tests.message("large", f"masked-input-{INDEX}"), vector=lambda vector: bytes(len(vector)))
    comment = "a first masked input after the close"
    tests.sequence("large", "CONFIRM", "MASK-9", "ORDER", comment, lambda s: [(9, late)])


def _taken(tests: ServerCases) -> None:
    """An Unmask of which one opening is bad is taken all the same."""
    honest = tests.message("active", f"unmask-{INDEX}")
    bad = changed(honest, openings=lambda openings: flipped(openings, 3))
    comment = "an answer with one bad share, the same again, and then the right one"
    three = [(INDEX, bad), (INDEX, bad), (INDEX, honest)]
    tests.sequence("active", "UNMASK", "UNMASK-4 WIRE-8", "BAD_SHARE", comment, lambda s: three)
