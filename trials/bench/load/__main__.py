"""Obey orders until there are no more."""

from __future__ import annotations

import gc
import json
import signal
import sys
from typing import Any

from bench.load.loop import Loop
from bench.load.orders import ORDERS, LoadError


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who gives the orders, and kills us then
    gc.disable()  # a pause here would be taken for one of the cluster's; an order leaves little garbage in cycles
    for line in sys.stdin:
        order = json.loads(line)
        loop = Loop()
        try:
            answer = {"result": ORDERS[order.pop("do")](loop, _say, **order)}
        except (LoadError, ConnectionError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            loop.close()
        gc.collect()
        _write(answer)


def _say(said: object, *, wait: bool = False) -> None:
    _write({"said": said, "waits": wait})
    if wait:
        sys.stdin.readline()


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
