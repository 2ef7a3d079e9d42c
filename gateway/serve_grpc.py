"""Entry of a gRPC process: `python -m gateway.serve_grpc --control-fd FD`, started by the control process."""

import argparse
import signal
import socket

import msgspec
import uvloop

from gateway import log
from gateway.config import Config
from gateway.control.grpc_process import GrpcProcess
from gateway.control.link import MESSAGE_BYTES


def main() -> None:
    """Take the configuration from the control socket's first datagram, then serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True, help="SOCK_SEQPACKET socket to the control process")
    control = socket.socket(fileno=parser.parse_args().control_fd)
    config = msgspec.json.decode(control.recv(MESSAGE_BYTES), type=Config)
    log.setup(config.log)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it is the control process that drains and stops

    async def serve() -> None:
        await GrpcProcess(control, config).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
