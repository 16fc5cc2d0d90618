"""P3 on a screen: nothing twice, nothing missing, whatever becomes of an attempt."""

from __future__ import annotations

import io

from chatcluster.cli.printed import Printer


def printed(*states: str, finished: str | None = None) -> str:
    out = io.StringIO()
    printer = Printer(out)
    for text in states:
        printer.show(text)
    if finished is not None:
        printer.finish(finished)
    return out.getvalue()


def test_what_is_new_is_printed() -> None:
    assert printed("a", "ab", "abc") == "abc"


def test_an_attempt_that_repeats_what_was_said_is_not_printed_again() -> None:
    assert printed("abc", "a", "ab", "abc", "abcd", finished="abcd") == "abcd\n"


def test_an_attempt_that_says_something_else_is_printed_anew() -> None:
    assert printed("abc", "ax", finished="axy") == "abc\n\n[the answer begins anew]\n\naxy\n"


def test_what_the_stream_did_not_show_comes_with_the_message() -> None:
    assert printed("ab", finished="abcd") == "abcd\n"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_answer_commands_no_terminal_and_stays_as_it_is_in_a_file() -> None:
    """A page that the model has read may make it say anything: to write into the clipboard, say."""
    answer = "\x1b]52;c;cm0gLXJm\x07a\r\tb\x9b2J\nשלום"
    screen, file = Screen(), io.StringIO()
    for out in (screen, file):
        Printer(out).finish(answer)
    assert screen.getvalue() == "]52;c;cm0gLXJma\tb2J\nשלום\n"
    assert file.getvalue() == f"{answer}\n"


def test_an_answer_without_text_prints_nothing() -> None:
    assert printed(finished="") == ""
