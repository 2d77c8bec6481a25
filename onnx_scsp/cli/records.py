"""Options that belong together, as records: verbs take the record, the command line its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def flattened(verb: Callable[..., None]) -> Callable[..., None]:
    """A command whose options are a verb's parameters and the fields of those that are records.

    Args:
        verb: A function; where a parameter is annotated with a dataclass, the fields of that, with
            their annotations and defaults, stand in its place.

    Returns:
        A function of the same name and description that takes all of them by name.
    """
    hints = get_type_hints(verb, include_extras=True)
    parameters: list[inspect.Parameter] = []
    records: dict[str, type] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(hints[name]):
            records[name] = hints[name]
            parameters += _options(hints[name])
        else:
            named = parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY)
            parameters.append(named)

    def command(**given: Any) -> None:
        made = {
            name: record(**{option.name: given.pop(option.name) for option in fields(record)})
            for name, record in records.items()
        }
        verb(**made, **given)

    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _options(record: type) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if option.default is MISSING else option.default,
            annotation=hints[option.name],
        )
        for option in fields(record)
    ]
