"""Uploads as fast as they go, in a process of its own: `python -m loadtest.upload_client HOST PORT UPLOADS`.

Says on stdout when all have begun, ends at a line on stdin, and prints how many seconds of audio a second came back.
"""

import json
import select
import sys
import time

from gateway._pb import denoise_pb2 as pb
from loadtest.h2 import Connection
from loadtest.material import Material

PATH = "/denoise.v1.DenoiseService/DenoiseStream"
PIECE_BYTES = 800
"""100 ms of PCMU."""
BYTES_PER_S = 8000
AHEAD_BYTES = 1 << 18
"""Nothing more is handed over while the kernel has so much to take."""


class Uploads:
    """All uploads, over one connection."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self._connection = Connection(host, port)
        self._epoll = select.epoll()
        self._epoll.register(self._connection.socket.fileno(), select.EPOLLIN)
        audio = bytes(Material().pcmu(0, 1000))
        self._pieces = [
            pb.DenoiseRequest(audio=audio[at : at + PIECE_BYTES]).SerializeToString()
            for at in range(0, len(audio), PIECE_BYTES)
        ]
        configuration = pb.Configuration(sample_rate_hz=8000, encoding=pb.ENCODING_MULAW)
        first = pb.DenoiseRequest(configuration=configuration).SerializeToString()
        self._streams = [self._connection.open(PATH) for _ in range(count)]
        self._sent = dict.fromkeys(self._streams, 0)
        for stream in self._streams:
            self._connection.send(stream, first)
        self.bytes_back = 0

    @property
    def ended(self) -> int:
        """Uploads that the gateway has ended."""
        return len(self._connection.ended)

    def turn(self) -> None:
        """Send what flow control lets out, and read what has come."""
        for stream in self._streams:
            while self._connection.waiting_bytes < AHEAD_BYTES:
                if not self._connection.send(stream, self._pieces[self._sent[stream] % len(self._pieces)]):
                    break
                self._sent[stream] += 1
        self._connection.flush()
        if self._epoll.poll(0.005):
            for _, body in self._connection.receive():
                self.bytes_back += len(pb.DenoiseResponse.FromString(body).audio)


def main() -> None:
    """Send until told to stop."""
    uploads = Uploads(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    stop = select.epoll()
    stop.register(sys.stdin.fileno(), select.EPOLLIN)
    while not uploads.bytes_back:
        uploads.turn()
    print("ready", flush=True)
    begun, cpu_s, before = time.monotonic(), time.process_time(), uploads.bytes_back
    while not stop.poll(0):
        uploads.turn()
    span_s = time.monotonic() - begun
    rate = (uploads.bytes_back - before) / BYTES_PER_S / span_s
    print(json.dumps({"rate": rate, "cpu": (time.process_time() - cpu_s) / span_s, "ended": uploads.ended}))


if __name__ == "__main__":
    main()
