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
    parameters: list[inspect.Parameter] = []
    records: dict[str, type] = {}
    for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            records[name] = kind
            parameters += _options(kind)
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))

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
