"""The array records of a message as one model: a strategy may send several, SCAFFOLD's control variates say.

What is summed, announced and digested is one list of arrays.  With one record the arrays have their own names.  With
several, each has its record's name before its own, ``control/layer.weight``, so that clips and patterns can tell them
apart; what comes back of the sum is cut into the same records again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from flwr.app import ArrayRecord

from secagg.errors import InputError

RecordSizes: TypeAlias = tuple[tuple[str, int], ...]
"""Name of each record, and how many arrays it has, ascending by name; empty where there is one record alone."""

SEPARATOR: Final = "/"


def record_sizes(records: Mapping[str, ArrayRecord]) -> RecordSizes:
    """What is announced of a message's array records."""
    return () if len(records) == 1 else tuple((name, len(records[name])) for name in sorted(records))


def flat_model(records: Mapping[str, ArrayRecord]) -> ArrayRecord:
    """All arrays of these records, by the names under which they are summed.

    Raises InputError when two arrays would have one name.
    """
    if len(records) == 1:
        return next(iter(records.values()))
    arrays = {}
    for record in sorted(records):
        for own, array in records[record].items():
            name = flat_name(record, own)
            if name in arrays:
                raise InputError(
                    f"two arrays of the message's records would both be called {name!r}: rename a record, so that no "
                    f"record's name is another one's and {SEPARATOR!r} behind it"
                )
            arrays[name] = array
    return ArrayRecord(arrays)


def flat_name(record: str, array: str) -> str:
    """The name under which an array of one of several records is summed."""
    return f"{record}{SEPARATOR}{array}"


def bare_names(names: Iterator[str], sizes: RecordSizes) -> list[str]:
    """The arrays' names within their records, from the names of a flat model."""
    if not sizes:
        return list(names)
    return [next(names).removeprefix(flat_name(record, "")) for record, count in sizes for _ in range(count)]


def by_record(flat: ArrayRecord, sizes: RecordSizes, alone: str) -> dict[str, ArrayRecord]:
    """The records of a flat model again; ``alone`` is the name of the record where there is one."""
    if not sizes:
        return {alone: flat}
    items = iter(flat.items())
    records = {}
    for record, count in sizes:
        arrays = (next(items) for _ in range(count))
        records[record] = ArrayRecord({name.removeprefix(flat_name(record, "")): array for name, array in arrays})
    return records


def flat_reply(records: Mapping[str, ArrayRecord], sizes: RecordSizes) -> ArrayRecord:
    """The arrays of an app's reply by the names under which they are summed.

    Raises InputError unless the reply has the records of the model: one of whatever name where there was one.
    """
    listed = ", ".join(map(repr, records)) or "none"
    if not sizes and len(records) != 1:
        raise InputError(f"the app's reply has {len(records)} array records ({listed}); it must have one")
    wanted = [name for name, _ in sizes]
    if sizes and sorted(records) != wanted:
        raise InputError(
            f"the app's reply has the array records {listed}; it must have those that it was sent: "
            f"{', '.join(map(repr, wanted))}"
        )
    return flat_model(records)
