"""How requests about servers of tools are refused: the branch of ``errors.py`` that is theirs."""

from __future__ import annotations

from chatcluster.errors import Conflict, Forbidden, NotFound


class McpServerNotFound(NotFound):
    code = "mcp_server_not_found"


class LoginNotFound(NotFound):
    """A sign-in that was never begun, has been used, or waited for too long. Begin it again."""

    code = "login_not_found"


class SignInOfAnother(Forbidden):
    """The sign-in was begun by another user than the one who is signed in on the page in this browser. A person who
    went on would give that other user a grant of their own. Begin a sign-in of your own."""

    def __init__(self) -> None:
        super().__init__(
            "this sign-in is another user's than the one who is signed in on the page here: do not go on with it, "
            "or sign out of the page if both are you"
        )


class SlugTaken(Conflict):
    code = "slug_taken"


class McpServerChanged(Conflict):
    """Somebody else changed the server at the same time. Read it again."""

    code = "mcp_server_changed"


class McpServersFull(Conflict):
    code = "too_many_mcp_servers"


class SignInFailed(Conflict):
    """The authorization server, or the way to it, does not let anybody sign in now; the message says why."""

    code = "sign_in_failed"
