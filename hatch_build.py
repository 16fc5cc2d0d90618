"""Puts the built page into wheels and source distributions. An editable install has none: scripts/run builds it.

Building it needs npm's registry, and Node unless pip can fetch it. CHATCLUSTER_WITHOUT_PAGE=1 leaves the page out: the
API is the same without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        is_unpacked_sdist = (root / "PKG-INFO").exists()
        if version == "editable" or is_unpacked_sdist or os.environ.get("CHATCLUSTER_WITHOUT_PAGE") == "1":
            return
        built = subprocess.run([sys.executable, str(root / "site" / "build.py")], check=False)
        if built.returncode:
            raise RuntimeError("the page was not built, see above; CHATCLUSTER_WITHOUT_PAGE=1 leaves it out")
