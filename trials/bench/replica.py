"""A replica whose model is inside: ``python -m bench.replica --ready-fd N``. Settings come from the environment."""

from __future__ import annotations

import sys
from functools import partial

import trio

from bench.model import InsideModel
from chatcluster import config
from chatcluster.cluster import serve


def main() -> None:
    ready_fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
    settings = config.from_environment(port=0)
    trio.run(partial(serve, settings, ready_fd=ready_fd, model=InsideModel()))


if __name__ == "__main__":
    main()
