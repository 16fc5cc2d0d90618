"""``python -m chatcluster.embedded.fake_redis HOST PORT``: fakeredis's server, where there is no Redis.

The password comes in the environment, so that no list of processes shows it.
"""

import os
import sys

from fakeredis import TcpFakeServer

from chatcluster.embedded.redis_server import FAKE_REDIS_PASSWORD_VARIABLE


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    server = TcpFakeServer((host, port))
    server.daemon_threads = True  # it ends at once when told to, whoever is connected
    server.fake_server.config[b"requirepass"] = os.environ[FAKE_REDIS_PASSWORD_VARIABLE].encode()
    server.serve_forever()


if __name__ == "__main__":
    main()
