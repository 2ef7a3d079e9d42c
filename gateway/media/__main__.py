"""Entry of a media worker process: `python -m gateway.media --control-fd FD`, started by the control plane."""

import argparse
import os
import socket

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a media process has one thread

import msgspec

from gateway.config import Config
from gateway.media.worker import Worker


def main() -> None:
    """Take the configuration from the control socket's first datagram, then work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True, help="SOCK_SEQPACKET socket to the control plane")
    control = socket.socket(fileno=parser.parse_args().control_fd)
    config = msgspec.json.decode(control.recv(1 << 20), type=Config)
    Worker(control, config).run()


if __name__ == "__main__":
    main()
