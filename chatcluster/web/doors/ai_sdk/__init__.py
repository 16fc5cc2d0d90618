"""``/api/ai``: the UI message stream of Vercel's AI SDK (``useChat``), versions 6 and 7.

Rules of its streams, on which its client insists: a piece is opened before it is added to, a ``type`` that it does not
know is an error, so what is ours is in ``data-…`` chunks, and a stream that ends in order without ``finish``, ``abort``
or ``error`` counts as finished: so it never does. A client that comes back is told everything from ``start`` on.

A message of the client is a turn: all that follows a user's message. Its ID follows from that one's, so it is the same
whenever it is told.
"""
