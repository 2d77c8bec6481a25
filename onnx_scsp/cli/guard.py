"""Exit statuses: 0 ok, 1 a check failed, 2 the user's error in one sentence, 3 our bug."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from onnx_scsp.errors import ScspError, VerifyError

CHECK_FAILED, USER_ERROR, OUR_BUG = 1, 2, 3


@contextmanager
def guarded() -> Iterator[None]:
    """Turns exceptions into messages on stderr and an exit status."""
    try:
        yield
    except typer.Exit:
        raise
    except VerifyError as error:
        _say(error)
        raise typer.Exit(CHECK_FAILED) from None
    except ScspError as error:
        _say(error)
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None
    except Exception:
        traceback.print_exc()
        print("this is a bug of onnx-scsp; please report it with the text above", file=sys.stderr)
        raise typer.Exit(OUR_BUG) from None


def _say(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
