"""How requests about files are refused: the branch of ``errors.py`` that is theirs."""

from __future__ import annotations

from chatcluster.errors import CallerError, Conflict, NotFound


class FileNotFound(NotFound):
    """There is no such file, it is another user's, or it was never sent along and is gone."""

    code = "file_not_found"


class FileInUse(Conflict):
    """A chat has the file in its history or its queue. Edit that message, or delete the chat, first."""

    code = "file_in_use"


class TooManyFiles(Conflict):
    """A chat would have more files than it may have. Edit an earlier message, or start a new chat."""

    code = "too_many_files"


class FilesFull(Conflict):
    """The files of this user take all the room that they may have. Delete some."""

    code = "files_full"


class UnsupportedFile(CallerError):
    """The bytes are of no kind of file that is taken, or are no whole file of their kind."""

    code = "unsupported_file"
    status = 415
