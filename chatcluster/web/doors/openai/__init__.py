"""``/v1``: what clients of OpenAI's API expect: Responses, Conversations, Models, Chat Completions.

Rules of its streams, which its clients insist on: no ``id:`` and no ``retry:`` lines, a comment of one line as a sign
of life, a terminal event and ``[DONE]`` at the end, or a connection that is cut. Never a clean end in between.
"""
