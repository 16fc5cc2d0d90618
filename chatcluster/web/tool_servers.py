"""What routes about servers of tools stand on; a part of ``Services``."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.mcp_administration import McpAdministration
from chatcluster.ports import McpClient
from chatcluster.sign_ins import SignIns


@dataclass(frozen=True, kw_only=True)
class Mcp:
    """Servers of tools: what administrators do with them, how they are spoken to, whom they have to let in."""

    admin: McpAdministration
    client: McpClient
    sign_ins: SignIns
