"""Users apart from those of the main load: bystanders, victims, a greedy one."""

from __future__ import annotations

import random

from chaos.api import Api


async def sign_up(api: Api, user: str, draw: random.Random) -> tuple[Api, str]:
    """Access for another user, and its token; ``api`` is an administrator's. Raises ``RuntimeError`` if refused."""
    answer = await api.write("POST", "/tokens", {"user": user, "name": "chaos"})
    token = answer.body.get("token")
    if answer.status != 201 or not isinstance(token, str):
        raise RuntimeError(f"no token could be made for {user}: {answer.status} {answer.body}")
    return Api(api.base_url, token, draw), token
