"""Commands whose options are the fields of a dataclass: what a command is given travels as one value."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, get_type_hints

from secagg.errors import ParameterError

_O = TypeVar("_O")


def command_of(options: type[_O]) -> Callable[[Callable[[_O], None]], Callable[..., None]]:
    """Make a command of a function that takes the options.

    The command has a parameter for each field of the dataclass, which says with ``Annotated`` what typer shows of it.
    """
    annotations = get_type_hints(options, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=annotations[field.name],
        )
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
    ]

    def decorate(run: Callable[[_O], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            run(options(**given))

        command.__name__, command.__doc__, command.__module__ = run.__name__, run.__doc__, run.__module__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def check_no_others(options: Any, chosen: str, why: str, others: Iterable[str]) -> None:
    """Raises ParameterError, which names them, when fields have been given that do not go with the chosen option.

    ``others`` are fields of the dataclass of the options; their options have the same names, unless typer says another.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    given = [name for name in others if getattr(options, name) != defaults[name]]
    if given:
        annotations = get_type_hints(type(options), include_extras=True)
        raise ParameterError(f"{chosen}: {why}; leave out {', '.join(_option_of(n, annotations[n]) for n in given)}")


def flags_given(options: Any) -> list[str]:
    """The options without a value that have been given, as a user writes them: ``--json`` and the like."""
    annotations = get_type_hints(type(options), include_extras=True)
    return [
        _option_of(field.name, annotations[field.name])
        for field in dataclasses.fields(options)
        if getattr(options, field.name) is True
    ]


def _option_of(name: str, annotation: Any) -> str:
    """The option's name: the one that is declared, or else the field's own.

    Within ``Annotated``, the first name that ``typer.Option`` is given arrives as its ``default``.
    """
    for part in _parts_of(annotation):
        for declared in (getattr(part, "default", None), *(getattr(part, "param_decls", None) or ())):
            if isinstance(declared, str) and declared.startswith("--"):
                return declared
    return f"--{name.replace('_', '-')}"


def _parts_of(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())


def check_range(option: str, value: float | None, low: float, high: float | None = None) -> None:
    """Raises ParameterError, which names the option, for a value outside of the range; None is an option not given."""
    if value is None or (value >= low and (high is None or value <= high)):
        return
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    raise ParameterError(f"{option} {value:g}: it must be {allowed}")
