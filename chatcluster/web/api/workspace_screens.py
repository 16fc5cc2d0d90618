"""The route of a workspace's screen: a picture of it as it is now, to look on while a chat works there."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.http.etags import IfNoneMatch, is_known
from chatcluster.web.request import ApiRequest
from chatcluster.workspace_errors import WorkspaceNotFound

PICTURE = ResponseSpec(
    data_container=bytes, media_type="image/png", generate_examples=False, description="The screen, as a picture"
)


@get("/chats/{chat_id:str}/workspace/screen", responses={**REFUSALS, 200: PICTURE})
async def get_screen(
    request: ApiRequest,
    chat_id: FromPath[str],
    if_none_match: IfNoneMatch = None,
) -> Response[bytes]:
    """The screen of the chat's workspace, as it is now; an agent's is that of the chat at the top of its family. Ask
    again to follow it, with the picture's `ETag`: what is asked for more often than twice a second is the same
    picture."""
    chat = await request.owned_chat(chat_id)
    services = request.services.workspaces
    row = await services.rows.of_chat(chat.family_id)
    if row is None:
        raise WorkspaceNotFound("this chat has no workspace")
    picture = await services.screens.look(row)
    headers = {
        "ETag": (tag := f'"{picture.digest}"'),
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if is_known(tag, if_none_match):
        return Response(b"", status_code=304, headers=headers, media_type=picture.media_type)
    return Response(picture.content, headers=headers, media_type=picture.media_type)


ROUTES = [get_screen]
