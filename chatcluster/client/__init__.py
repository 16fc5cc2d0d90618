"""The Python client: requests that are repeated safely, streams that resume, and a view to keep of a chat."""

from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import ApiError, Client, StreamEvent
from chatcluster.client.events import Event
from chatcluster.client.files import file_part
from chatcluster.client.patience import STREAM_SECONDS, Unreachable, Unusable

__all__ = [
    "STREAM_SECONDS",
    "ApiError",
    "ChatView",
    "Client",
    "Event",
    "StreamEvent",
    "Unreachable",
    "Unusable",
    "file_part",
]
