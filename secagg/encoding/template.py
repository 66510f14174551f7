"""The shape of an update: how names, nesting, shapes and types map to positions in one flat vector, and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray, is_foreign, to_array, type_name
from secagg.encoding.libraries import Origin, origin_of
from secagg.errors import InputError
from secagg.wording import counted

Key = str | int
"""One step of a path: a dict key, a namedtuple's field, or a position in a list or tuple."""

_DEEPEST: Final = 100  # nesting; a list that contains itself must not end in RecursionError
_LISTED: Final = 8  # names spelt out in one message


@final
@dataclass(frozen=True, slots=True)
class Leaf:
    """One array of the template.

    Attributes:
        name: readable path, ``layer1.weight`` or ``[0].bias``; unique within the template.
        keys: the same path, step by step.
        shape: () for 0-d arrays and Python numbers.
        dtype: what ``restore`` turns into on request; float32 for a bfloat16 that NumPy has no type for.
        scalar: bool, int or float if the template held a Python number, else None.
        start: position of the first element in the flat vector.
        size: number of elements.
        origin: the library that ``decode`` gives the array back to on request; None for NumPy and for Python numbers.
            It makes no difference to whether two leaves are equal.
    """

    name: str
    keys: tuple[Key, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scalar: type[bool] | type[int] | type[float] | None
    start: int
    size: int
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Array:
    index: int


@dataclass(frozen=True, slots=True)
class _Nothing:
    pass


@dataclass(frozen=True, slots=True)
class _Dict:
    kind: type[dict[Any, Any]]
    children: tuple[tuple[Key, _Node], ...]


@dataclass(frozen=True, slots=True)
class _Row:
    kind: type[Any]  # list, tuple, or the namedtuple's class
    children: tuple[tuple[Key, _Node], ...]


_Node = _Array | _Nothing | _Dict | _Row


@final
@dataclass(frozen=True, slots=True)
class Template:
    """Names, nesting, shapes and dtypes of an update, without its values.

    The flat vector holds the arrays in the order in which the template's dicts, lists and tuples list them, each in C
    order.  Two templates are equal when all of that is equal.

    Nesting is by dicts (any Mapping with str or int keys), lists, tuples, namedtuples and None (which holds nothing, as
    in JAX pytrees); any other container, dataclasses among them, is refused by name.  A list is always a container,
    never an array: ``[0.5, 1.5]`` is two 0-d arrays.

    Attributes:
        leaves: the arrays, in the order of the flat vector.
        size: number of elements over all leaves.
    """

    leaves: tuple[Leaf, ...]
    size: int
    _root: _Node

    @classmethod
    def of(cls, update: object) -> Template:
        """The template of ``update``, or ``update`` itself if it is one.  InputError names what it cannot hold."""
        if isinstance(update, Template):
            return update
        leaves: list[Leaf] = []
        root = _build(update, (), leaves)
        names = [leaf.name for leaf in leaves]
        if len(set(names)) < len(names):  # {"a.b": x, "a": {"b": y}}: spell every path out
            leaves = [_renamed(leaf, "".join(f"[{key!r}]" for key in leaf.keys)) for leaf in leaves]
        return cls(tuple(leaves), sum(leaf.size for leaf in leaves), root)

    @classmethod
    def from_shapes(cls, shapes: object, dtype: npt.DTypeLike = np.float32) -> Template:
        """A template from shapes alone: dicts and lists nest, every tuple of ints is the shape of one array.

        ``Template.from_shapes({"weight": (784, 10), "bias": (10,), "steps": ()})``.  ``dtype`` holds for all arrays.
        """
        try:
            element = np.zeros((), np.dtype(dtype))
        except TypeError as refused:
            raise InputError(f"dtype {dtype!r} is none that NumPy knows: pass one such as 'float32'") from refused
        return cls.of(_virtual(shapes, element, ()))

    @property
    def slices(self) -> dict[str, slice]:
        """Where each named array lies in the flat vector."""
        return {leaf.name: slice(leaf.start, leaf.start + leaf.size) for leaf in self.leaves}

    def flatten(self, update: object) -> list[RealArray]:
        """The arrays of ``update`` as 1-D views (copies where they are not C-contiguous), one for each leaf, in order.

        Dicts must have exactly the template's keys, in any order, and arrays exactly its shapes: nothing is broadcast.
        Lists and tuples stand for one another, and any real dtype will do.  Raises InputError with the array's name.
        """
        arrays: list[RealArray] = []
        self._collect(self._root, update, (), arrays)
        return arrays

    def restore(self, arrays: Sequence[object]) -> Any:
        """Nest one value per leaf as the template was nested.

        dicts and OrderedDicts, lists, tuples and namedtuples come back as such, any other Mapping as a dict.
        """
        return _restore(self._root, arrays)

    def _collect(self, node: _Node, value: object, keys: tuple[Key, ...], arrays: list[RealArray]) -> None:
        match node:
            case _Array(index):
                leaf = self.leaves[index]
                array = to_array(value, leaf.name)
                if array.shape != leaf.shape:
                    raise InputError(
                        f"{leaf.name} has shape {array.shape}, the template's has {leaf.shape}: "
                        "reshape it, or build the encoder from an update of this model"
                    )
                arrays.append(array.reshape(-1))
            case _Nothing():
                if value is not None:
                    raise InputError(f"{_name(keys)} is a {type_name(value)}, the template has None there")
            case _Dict(_, children):
                if not isinstance(value, Mapping):
                    raise InputError(f"{_name(keys)} is a {type_name(value)}, the template has a dict there")
                _check_keys(value, children, keys)
                for key, child in children:
                    self._collect(child, value[key], (*keys, key), arrays)
            case _Row(kind, children):
                row = _check_row(value, kind, children, keys)
                for (key, child), item in zip(children, row, strict=True):
                    self._collect(child, item, (*keys, key), arrays)

    def __repr__(self) -> str:
        return f"Template({counted(len(self.leaves), 'array')}, {counted(self.size, 'element')})"


def _name(keys: tuple[Key, ...]) -> str:
    """``layer1.weight``, ``[0].bias``; keys that would not read back as such are quoted."""
    name = ""
    for key in keys:
        if isinstance(key, str) and key and key.isprintable():
            name += f".{key}" if name else key
        else:
            name += f"[{key!r}]"
    return name or "update"


def _renamed(leaf: Leaf, name: str) -> Leaf:
    return replace(leaf, name=name)


def _build(value: object, keys: tuple[Key, ...], leaves: list[Leaf]) -> _Node:
    if len(keys) > _DEEPEST:
        raise InputError(f"{_name(keys[:3])}... is nested deeper than {_DEEPEST} levels: does it contain itself?")
    if value is None:
        return _Nothing()
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return _Dict(kind, _children(((_key(key, keys), child) for key, child in value.items()), keys, leaves))
    if isinstance(value, (list, tuple)) and not is_foreign(value):
        fields = _fields(type(value))
        row = type(value) if fields else tuple if isinstance(value, tuple) else list
        return _Row(row, _children(zip(fields or range(len(value)), value, strict=True), keys, leaves))
    array = to_array(value, _name(keys))
    start = leaves[-1].start + leaves[-1].size if leaves else 0
    origin = origin_of(value)
    leaves.append(Leaf(_name(keys), keys, array.shape, array.dtype, _scalar(value), start, array.size, origin))
    return _Array(len(leaves) - 1)


def _children(
    items: Iterator[tuple[Key, object]], keys: tuple[Key, ...], leaves: list[Leaf]
) -> tuple[tuple[Key, _Node], ...]:
    return tuple((key, _build(child, (*keys, key), leaves)) for key, child in items)


def _key(key: object, keys: tuple[Key, ...]) -> Key:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise InputError(
            f"{_name(keys)} has the key {key!r} of type {type_name(key)}: the keys of an update must be str or int"
        )
    return key


def _fields(kind: type[Any]) -> tuple[str, ...]:
    """The field names of a namedtuple class, else ()."""
    fields = getattr(kind, "_fields", ())
    return tuple(fields) if issubclass(kind, tuple) and hasattr(kind, "_make") else ()


def _scalar(value: object) -> type[bool] | type[int] | type[float] | None:
    if isinstance(value, np.generic):  # numpy.float64 is a float as well
        return None
    return next((kind for kind in (bool, int, float) if isinstance(value, kind)), None)


def _virtual(shapes: object, element: RealArray, keys: tuple[Key, ...]) -> object:
    """Arrays of these shapes that all share one element's memory."""
    if len(keys) > _DEEPEST:
        raise InputError(f"{_name(keys[:3])}... is nested deeper than {_DEEPEST} levels: does it contain itself?")
    if isinstance(shapes, Mapping):
        return {(step := _key(key, keys)): _virtual(child, element, (*keys, step)) for key, child in shapes.items()}
    if isinstance(shapes, list):
        return [_virtual(child, element, (*keys, index)) for index, child in enumerate(shapes)]
    if isinstance(shapes, tuple) and all(type(extent) is int and extent >= 0 for extent in shapes):
        return np.broadcast_to(element, shapes)
    raise InputError(f"{_name(keys)}: {shapes!r} is no shape: allowed is a tuple of ints from 0 up, such as (784, 10)")


def _check_keys(value: Mapping[Any, Any], children: tuple[tuple[Key, _Node], ...], keys: tuple[Key, ...]) -> None:
    wanted = {key for key, _ in children}
    if value.keys() == wanted:
        return
    faults = []
    for label, names in (
        ("lacks", [_name((*keys, key)) for key, _ in children if key not in value]),
        ("holds unknown", [_name((*keys, key)) for key in value if key not in wanted]),
    ):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            faults.append(f"{label} {', '.join(names[:_LISTED])}{more}")
    raise InputError(
        f"the update {' and '.join(faults)}: give it the keys of the encoder's template, all of them and no others"
    )


def _check_row(
    value: object, kind: type[Any], children: tuple[tuple[Key, _Node], ...], keys: tuple[Key, ...]
) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{_name(keys)} is a {type_name(value)}, the template has a {kind.__name__} there")
    wanted, met = _fields(kind), _fields(type(value))
    if wanted and met and wanted != met:
        raise InputError(f"{_name(keys)} has the fields {', '.join(met)}, the template's has {', '.join(wanted)}")
    if len(value) != len(children):
        raise InputError(f"{_name(keys)} has {len(value)} entries, the template's has {len(children)}")
    return value


def _restore(node: _Node, arrays: Sequence[object]) -> Any:
    match node:
        case _Array(index):
            return arrays[index]
        case _Nothing():
            return None
        case _Dict(kind, children):
            return kind((key, _restore(child, arrays)) for key, child in children)
        case _Row(kind, children):
            items = [_restore(child, arrays) for _, child in children]
            return cast("Any", kind)._make(items) if _fields(kind) else kind(items)
