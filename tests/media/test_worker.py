"""A real worker process: commands and sockets go in, packets come out, events come up."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from gateway.config import Config, EngineConfig, MediaConfig
from gateway.messages import (
    LEG_STATS,
    CloseLeg,
    Latched,
    Lease,
    LegSpec,
    LegStats,
    OpenLeg,
    Payload,
    ReadLegs,
    Ready,
    Stop,
    UpdateLeg,
    encoder,
    events,
)
from gateway.protocol import rtp
from tests.media.test_sockets import udp

PCMU = (Payload(0, "PCMU", 8000, 1, 0),)


class WorkerProcess:
    """`python -m gateway.media` and the control plane's end of its socket."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(10)
        config = Config(media=MediaConfig(slots=16), engine=EngineConfig(kind="passthrough"))
        command = [sys.executable, "-m", "gateway.media", "--control-fd", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.control.send(msgspec.json.encode(config))
        self.wait_for(Ready)

    def wait_for(self, kind: type):
        while not isinstance(event := events.decode(self.control.recv(1 << 20)), kind):
            pass
        return event

    def open(self, spec: LegSpec, sock: socket.socket) -> None:
        socket.send_fds(self.control, [encoder.encode(OpenLeg(spec))], [sock.fileno()])

    def tell(self, command) -> None:
        self.control.send(encoder.encode(command))

    def stats(self, slot: int):
        self.tell(ReadLegs(7, (slot,)))
        while (report := self.wait_for(LegStats)).request_id != 7:
            pass
        return np.frombuffer(report.rows, LEG_STATS)[0]


@pytest.fixture
def worker():
    running = WorkerProcess()
    yield running
    running.control.close()
    assert running.process.wait(5) == 0, "a worker ends when the control plane is gone"


@pytest.fixture
def call(worker):
    """Two legs of one call: (worker, phones, our ports)."""
    phones, ports = (udp(), udp()), (udp(), udp())
    for slot in (0, 1):
        spec = LegSpec(
            slot=slot, generation=1, call_id="call", peer=1 - slot, rtp_remote=phones[slot].getsockname(),
            payloads=PCMU, bypass="on", rtcp_mux=True,
        )  # fmt: skip
        worker.open(spec, ports[slot])
    return worker, phones, ports


def packet(number: int) -> bytes:
    return rtp.pack(bytes([number]) * 160, payload_type=0, sequence=number, timestamp=160 * number, ssrc=5)


def talk(phones, ports, numbers) -> list[rtp.Packet]:
    """What phone 1 hears of what phone 0 says."""
    heard = []
    for number in numbers:
        phones[0].sendto(packet(number), ports[0].getsockname())
        heard.append(rtp.unpack(phones[1].recv(2048)))
    return heard


def test_packets_cross_the_worker_delayed_and_with_its_own_header(call):
    _, phones, ports = call
    heard = talk(phones, ports, range(1, 20))
    assert b"".join(p.payload for p in heard)[80:] == b"".join(bytes([n]) * 160 for n in range(1, 20))[:-80]
    assert {p.ssrc for p in heard} != {5} and len({p.ssrc for p in heard}) == 1


def test_a_source_that_is_learned_is_told(call):
    worker, phones, ports = call
    talk(phones, ports, [1])
    assert worker.wait_for(Latched) == Latched(Lease(0, 1), phones[0].getsockname(), None)


def test_statistics_are_given_when_asked_for(call):
    worker, phones, ports = call
    talk(phones, ports, range(1, 11))
    row = worker.stats(0)
    assert (row["packets"], row["bytes"], row["ssrc_in"]) == (10, 1720, 5)
    assert worker.stats(1)["packets_out"] == 10


def test_a_receivers_report_means_the_senders_own_stream(call):
    _, phones, ports = call
    heard = talk(phones, ports, range(1, 6))[-1]
    report = b"\x81\xc9\x00\x07" + (77).to_bytes(4, "big") + heard.ssrc.to_bytes(4, "big")
    report += b"\x00\x00\x00\x00" + heard.sequence.to_bytes(4, "big") + bytes(12)
    phones[1].sendto(report, ports[1].getsockname())
    relayed = phones[0].recv(2048)
    assert int.from_bytes(relayed[8:12], "big") == 5
    assert int.from_bytes(relayed[16:20], "big") & 0xFFFF == 5


def test_commands_with_a_stale_lease_change_nothing(call):
    worker, phones, ports = call
    worker.tell(CloseLeg(Lease(0, 0)))
    worker.tell(UpdateLeg(LegSpec(slot=0, generation=0, call_id="old")))
    assert len(talk(phones, ports, [1, 2])) == 2


def test_a_closed_leg_is_silent_and_its_slot_can_be_leased_again(call):
    worker, phones, ports = call
    talk(phones, ports, [1])
    worker.tell(CloseLeg(Lease(0, 1)))
    assert worker.stats(0)["generation"] == -1
    phones[0].sendto(packet(2), ports[0].getsockname())
    phones[1].settimeout(0.1)
    with pytest.raises(TimeoutError):
        phones[1].recv(2048)
    spec = LegSpec(slot=0, generation=2, call_id="next", peer=1, rtp_remote=phones[0].getsockname(), payloads=PCMU)
    worker.open(spec, ports[0])
    phones[1].settimeout(2)
    assert len(talk(phones, ports, [3])) == 1


def test_a_new_worker_takes_the_sockets_of_a_killed_one(call):
    worker, phones, ports = call
    talk(phones, ports, [1, 2, 3])
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait(5)
    heir = WorkerProcess()
    for slot in (0, 1):
        pinned = phones[slot].getsockname()
        spec = LegSpec(slot=slot, generation=1, call_id="call", peer=1 - slot, rtp_remote=pinned, pinned=pinned,
                       payloads=PCMU)  # fmt: skip
        heir.open(spec, ports[slot])
    assert len(talk(phones, ports, [4, 5, 6])) == 3
    heir.tell(Stop())
    assert heir.process.wait(5) == 0
    worker.process.returncode = 0


def test_hostile_traffic_does_not_stop_the_others(call):
    _, phones, ports = call
    talk(phones, ports, [1])
    stranger = udp("127.0.0.2")
    for size in (0, 1, 11, 12, 2047, 2048, 9000):
        with contextlib.suppress(OSError):
            stranger.sendto(os.urandom(size), ports[0].getsockname())
        phones[0].sendto(os.urandom(size), ports[0].getsockname())
    time.sleep(0.05)
    assert talk(phones, ports, [2])[0].payload[80:] == bytes([2]) * 80


def test_a_command_that_cannot_be_read_costs_nobody_a_worker(call):
    worker, phones, ports = call
    socket.send_fds(worker.control, [encoder.encode(OpenLeg(LegSpec(slot=3, generation=1, call_id="x")))[:-9]],
                    [ports[0].fileno()])  # fmt: skip
    worker.control.send(b"{}")
    assert len(talk(phones, ports, [1, 2])) == 2
