"""Triton is killed, paused, slowed down and started again under many legs: every packet leaves, nobody hears another
call, and the audio is denoised again when a server is back. Figures are printed (`pytest -s`)."""

import os
import signal

import pytest

from gateway.denoise.triton.link import BAD_ANSWERS
from tests.denoise.triton.legs import Phones, Worker
from tests.denoise.triton.servers import Triton

LEGS = int(os.environ.get("CHAOS_LEGS", "100"))
"""Two cores hold 200 beside phones, worker and server when nothing else runs there."""
FEW = min(LEGS, 60)
"""Of tests beside the first: two servers, or a server and an embedded network, on these cores."""
DEADLINE_MS = 30.0
"""Twice the default: tests share their cores with the server."""
WET = 0.6
"""Share of packets that are denoised while a server is there: batches for which there was no core in time are dry."""
DRY_MS = DEADLINE_MS + 20
"""So soon packets leave without a server."""
QUEUED_MS = 2 * DEADLINE_MS + 20
"""The same while one learns that a server hangs: packets wait for the late batch that is out, and then in their own."""


@pytest.fixture
def server(tritonserver, tmp_path):
    each = Triton(Triton.export(tmp_path / "repository", faulty=True)).start()
    yield each
    each.kill()


def talk(plan, seconds: float, *servers, legs: int = FEW, **engine) -> tuple[Phones, Worker]:
    worker = Worker(legs, endpoints=tuple(each.endpoint for each in servers), deadline_ms=DEADLINE_MS, **engine)
    try:
        phones = Phones(worker, legs, seconds)
        phones.talk(plan)
        phones.close()
        assert worker.process.poll() is None
    finally:
        worker.end()
    return phones, worker


def sound(phones: Phones) -> None:
    """What holds whatever happens to a server."""
    print(phones.figures())  # shown when something fails
    assert phones.lost() == 0 and phones.strange == 0
    assert phones.foreign() == []


def test_killed_paused_slowed_and_started_again(server):
    def restart():
        server.fault("")
        server.start(wait=False)

    def supervise():
        """A server may not survive a pause; whoever runs one starts it again."""
        if server.process.poll() is not None:
            print("the server had died")
            server.start(wait=False)

    plan = {
        2.0: server.kill,
        3.0: restart,
        7.0: lambda: server.signal(signal.SIGSTOP),
        9.0: lambda: server.signal(signal.SIGCONT),
        9.5: supervise, 10.5: supervise,
        14.0: lambda: server.fault("sleep 0.5"),
        15.5: lambda: server.fault(""),
    }  # fmt: skip
    phones, worker = talk(plan, 21.5, server, legs=LEGS)
    print(worker.faults)
    sound(phones)
    counters = worker.stats.counters
    assert phones.wet_share(1.0, 1.9) > WET, "denoised before"
    assert phones.wet_share(2.2, 2.9) < 0.01, "dry without a server"
    assert phones.wet_share(6.4, 6.9) > WET, "denoised again after the restart"
    assert phones.wet_share(7.3, 8.9) < 0.01, "dry while it is paused"
    assert phones.wet_share(13.5, 13.9) > WET, "denoised again after the pause"
    assert phones.wet_share(14.5, 15.5) < 0.1, "dry while it is slow"
    assert phones.wet_share(20.5, 21.5) > WET, "denoised again 5 s after it was slow"
    assert phones.p99_ms(2.0, 3.0) < DRY_MS, "nobody waits for a server that is gone"
    assert phones.p99_ms(7.0, 9.0) < QUEUED_MS, "nor for long for one that hangs"
    assert phones.p99_ms(7.3, 8.9) < DRY_MS, "which is left alone then"
    assert phones.p99_ms(14.0, 15.5) < QUEUED_MS
    assert counters["engine_late"] >= 2 and counters["engine_failed"] >= 3 and counters["engine_connects"] >= 4
    assert worker.faults[8000].reason == "", "and it says so"


def test_answers_of_other_rows_and_of_the_batch_before_are_dry_and_counted(server):
    plan = {1.0: lambda: server.fault("shuffle"), 1.2: lambda: server.fault("previous")}
    phones, worker = talk(plan, 3.0, server)
    sound(phones)
    assert phones.wet_share(0.6, 0.9) > WET, "denoised before"
    assert phones.wet_share(1.8, 3.0) < 0.01, "dry from then on"
    assert worker.stats.counters["engine_bad_answers"] == BAD_ANSWERS, "and it is left alone"


def test_two_servers_take_turns_and_the_embedded_network_is_the_last(server):
    other = Triton(server.repository).start()
    plan = {2.0: server.kill, 5.0: other.kill}
    try:
        phones, worker = talk(plan, 7.0, server, other, fallback="ort")
    finally:
        other.kill()
    sound(phones)
    assert phones.wet_share(4.0, 4.9) > WET, "on the second server"
    assert phones.wet_share(6.2, 7.0) > WET, "on the embedded network"
    assert worker.faults[8000].substitute == "light"
    assert worker.stats.counters["engine_batches_substitute"] > 0


def test_the_models_own_process_dies_and_its_server_does_not_say_so(server):
    """Triton stays ready then, and does not start the process again (its issues 7230 and 8604)."""

    def restart():
        server.kill()
        server.start(wait=False)

    phones, worker = talk({2.0: server.kill_model, 4.0: restart}, 8.0, server)
    print(worker.faults)
    sound(phones)
    assert phones.wet_share(1.0, 1.9) > WET, "denoised before"
    assert phones.wet_share(2.3, 3.9) < 0.01, "dry while nobody answers"
    assert phones.wet_share(7.4, 8.0) > WET, "denoised again after the restart"
