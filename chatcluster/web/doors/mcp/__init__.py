"""``/mcp``: chats as tools, for clients of the Model Context Protocol over streamable HTTP.

A request is one JSON-RPC message in a POST, and its answer comes in the response to that POST. Nothing is kept from one
request to the next, and there is no session, so each may go to another replica. Both eras of the protocol
are spoken that way: those that begin with ``initialize``, which is answered and forgotten, and the stateless one, whose
requests say themselves what they are of.

Who is authoritative: chats, as everywhere. ``chat_wait`` is the one call that takes time. If its replica dies, its
client goes on with it at any other, by the ID of an event (``resumption.py``), or repeats it with the same cursor; what
it was to be told is in the chat.

What goes wrong within a tool is a result with ``isError``, in words that help a model; what is no request of this
protocol is a JSON-RPC error.
"""
