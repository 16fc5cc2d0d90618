"""The Python client: requests that are repeated safely, streams that resume, and a view to keep of a chat."""

from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import ApiError, Client, Event, StreamEvent, Unreachable

__all__ = ["ApiError", "ChatView", "Client", "Event", "StreamEvent", "Unreachable"]
