"""Puts the built page into wheels and source distributions. An editable install has none: scripts/run builds it.

Building it needs npm's registry, and Node unless pip can fetch it. Where it cannot be built, a warning says so and the
wheel is made without it: the API is the same. For a release, CHATCLUSTER_REQUIRE_PAGE=1 makes that an error.
CHATCLUSTER_WITHOUT_PAGE=1 does not try.
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
        if not built.returncode:
            return
        if os.environ.get("CHATCLUSTER_REQUIRE_PAGE") == "1":
            raise RuntimeError("the page was not built, see above; without CHATCLUSTER_REQUIRE_PAGE it is left out")
        self.app.display_warning("The page was not built, see above: this is made without it. The API is the same.")
