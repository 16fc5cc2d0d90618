"""How a command ends: each error of ours becomes one line and an exit code, never a traceback.

Exit codes: 0 done; 1 it failed; 2 a flag, a setting or a server that is missing is to blame; 130 interrupted;
141 nobody reads its output any more. A full disk, or a terminal that is gone, is no bug: it failed. A bug stays a
traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from chatcluster.errors import ChatclusterError, ConfigError, first_error
from chatcluster.texts import tame

FAILED = 1
USAGE = 2
INTERRUPTED = 130
UNHEARD = 141

Intended = ChatclusterError | KeyboardInterrupt | UnicodeError | OSError
UNWRITTEN = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of an ``OSError`` which mean that there is nothing to write to, or no room."""
NOT_TEXT = "an argument, a file or an answer has bytes that are no text in the encoding that is used here"


def exit_code_of(command: Callable[[], object]) -> int:
    """Run ``command``, say in one line what went wrong, and return the exit code.

    ``command`` may return an exit code itself.
    """
    try:
        status = command()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort:
        return INTERRUPTED
    except (ChatclusterError, KeyboardInterrupt, UnicodeError, OSError) as error:
        if not _is_intended(error):
            raise
        return _end(error)
    except BaseExceptionGroup as group:
        intended = _only_intended(group)
        if intended is None:
            raise
        return _end(intended)
    return status if isinstance(status, int) else 0


def _is_intended(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in UNWRITTEN or isinstance(error, BrokenPipeError)
    return isinstance(error, (ChatclusterError, KeyboardInterrupt, UnicodeError))


def _only_intended(group: BaseExceptionGroup[BaseException]) -> Intended | None:
    """The first error of a group in which there is nothing that is not meant; else None."""
    intended, others = group.split(lambda error: not isinstance(error, BaseExceptionGroup) and _is_intended(error))
    if intended is None or others is not None:
        return None
    first = first_error(intended)
    assert isinstance(first, Intended)
    return first


def _end(error: Intended) -> int:
    match error:
        case ChatclusterError():
            return _fail(error.message, USAGE if isinstance(error, ConfigError) else FAILED)
        case UnicodeError():
            return _fail(f"{NOT_TEXT}: {error}", USAGE)
        case OSError():
            # What is still buffered goes nowhere, rather than failing once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return UNHEARD
            return _fail(
                f"{error.filename or 'a file, or what there is to say,'} cannot be written: {error.strerror}", FAILED
            )
        case _:
            return INTERRUPTED


def _fail(message: str, status: int) -> int:
    with suppress(OSError):  # standard error may be the same full disk: the exit code says it
        click.echo("Error: " + tame(" ".join(message.split())), err=True)
    return status
