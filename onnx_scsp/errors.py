"""Errors that tell a user what is wrong, where, and what to do.

`ScspError` and its children are the user's to mend: the command line prints their text as one
sentence and exits with 2 (or 1 for `VerifyError`). `InternalError` is ours: it keeps its traceback
and exits with 3.
"""

from __future__ import annotations


class ScspError(Exception):
    """Base of every error that the caller can act on."""


class ModelError(ScspError):
    """The model file cannot be read, is not valid, or has nothing to prune."""


class ConfigError(ScspError):
    """An option, or a combination of options, cannot be used."""


class BudgetError(ScspError):
    """The budget asked for cannot be reached; the text names the reachable floor.

    Attributes:
        floor: The smallest fraction that can be, where it is known.
    """

    def __init__(self, text: str, *, floor: float | None = None) -> None:
        super().__init__(text)
        self.floor = floor


class PlanError(ScspError):
    """A plan file is malformed, contradicts itself, or was made for another model."""


class OutputError(ScspError):
    """The output cannot be written where the caller asked for it."""


class VerifyError(ScspError):
    """A check of the result failed; nothing was written."""


class UnsupportedError(ScspError):
    """The model uses an operator, or a form of one, that has no counterpart in PyTorch yet."""


class MissingExtraError(ScspError):
    """An optional dependency is needed and is not installed."""


class InternalError(Exception):
    """An invariant of this package is broken: a bug of ours, not of the caller."""
