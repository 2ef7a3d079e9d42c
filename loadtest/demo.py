"""One call through a gateway, with a noisy recording: what the far phone hears, measured and drawn.

    python -m loadtest.demo            (or: make demo)

Starts a gateway of its own on loopback, places a call over NG as a proxy would, lets the first phone send
tests/audio/noisy_8k.wav in real time as PCMU, and writes what the second phone gets. The clean recording beside it
says where the pauses are and how loud the speech was.
"""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from gateway.measure import change_db, frame_levels_db
from gateway.protocol import rtp
from loadtest.calls import Call, hang_up, place
from loadtest.material import FRAME, RATE_HZ, ULAW_OF_INT16, ulaw_to_linear
from loadtest.ng import NgClient, NgError

Floats = npt.NDArray[np.float32]
RECORDINGS = Path(__file__).parent.parent / "tests" / "audio"
PACKET_S = FRAME / RATE_HZ
READY_S = 15.0
LINGER_S = 0.3
"""How long the second phone listens after the last packet was sent."""
SETTLE_FRAMES = 50
"""Not measured: the network has to hear the noise first."""
SILENCE_DB, SPEECH_RANGE_DB = -60.0, 20.0
"""Pauses: the clean recording lies below this. Speech: at most so far below its loudest frame."""
LONGEST_DELAY_S = 0.06
COLOURS = 32
"""Of the picture: noise in full colour takes a megabyte."""


class Arrival(NamedTuple):
    """One packet at the second phone."""

    sequence: int
    payload: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What the call measured."""

    seconds: float
    packets_sent: int
    packets_lost: int
    noise_in_pauses_db: float
    """Change; negative is quieter."""
    speech_level_db: float
    """Change against the clean speech."""
    algorithm_ms: float
    """Delay of the content within the packets."""
    transit_p50_ms: float
    transit_p99_ms: float
    """From the first phone's send to the second one's receive."""


@contextmanager
def gateway() -> Iterator[tuple[str, int]]:
    """A gateway on loopback with one worker; gives its NG address. Raises NgError when it does not get ready."""
    ng, admin, media = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    settings = {
        "NG__LISTEN": f"127.0.0.1:{ng}",
        "ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "INTERFACES__DEFAULT__ADDRESS": "127.0.0.1",
        "MEDIA__WORKERS": "1",
        "MEDIA__SLOTS": "16",
        "MEDIA__PORT_MIN": str(min(media, 65000)),
        "MEDIA__PORT_MAX": str(min(media, 65000) + 200),
        "LOG__LEVEL": "warning",
        "LOG__FORMAT": "text",
    }
    environ = os.environ | {f"DENOISE_GATEWAY_{key}": value for key, value in settings.items()}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"], env=environ, stdout=output, stderr=output
        )
        try:
            wait_ready(process, f"http://127.0.0.1:{admin}/readyz")
            yield "127.0.0.1", ng
        except NgError as fault:
            output.seek(0)
            raise NgError(f"{fault}\n{output.read().decode(errors='replace')}") from None
        finally:
            for _ in range(2):  # the first SIGTERM drains, the second ends
                process.terminate()
            process.wait(10)


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the gateway takes calls."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NgError(f"the gateway ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise NgError(f"the gateway is not ready after {READY_S:.0f} s")


def call(server: tuple[str, int], payloads: list[bytes]) -> tuple[list[float], list[Arrival]]:
    """Place a call and send the payloads in real time. Returns when each was sent, and what arrived."""
    phones = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for phone in phones:
        phone.bind(("127.0.0.1", 0))
    ng = NgClient(server)
    placed = Call.between((0, phones[0].getsockname()), (1, phones[1].getsockname()))
    legs = place(ng, [placed])
    try:
        return talk(phones[0], legs[0].enters, phones[1], payloads)
    finally:
        hang_up(ng, [placed])
        ng.close()
        for phone in phones:
            phone.close()


def talk(
    mouth: socket.socket, enters: tuple[str, int], ear: socket.socket, payloads: list[bytes]
) -> tuple[list[float], list[Arrival]]:
    """One packet every 20 ms into the gateway, and everything that comes out of it."""
    sent_s: list[float] = []
    arrivals: list[Arrival] = []
    begin = time.monotonic() + 0.1
    for index, payload in enumerate(payloads):
        listen(ear, begin + index * PACKET_S, arrivals)
        sent_s.append(time.monotonic())
        datagram = rtp.pack(
            payload, payload_type=0, sequence=index, timestamp=index * FRAME, ssrc=0xDE401, marker=index == 0
        )
        mouth.sendto(datagram, enters)
    listen(ear, time.monotonic() + LINGER_S, arrivals)
    return sent_s, arrivals


def listen(ear: socket.socket, until_s: float, arrivals: list[Arrival]) -> None:
    """Take packets until a moment has come."""
    while (left := until_s - time.monotonic()) > 0:
        if select.select([ear], [], [], left)[0]:
            datagram, at_s = ear.recv(2048), time.monotonic()
            packet = rtp.unpack(datagram)
            arrivals.append(Arrival(packet.sequence, packet.payload, at_s))


def assemble(arrivals: list[Arrival], packets: int) -> tuple[Floats, dict[int, float]]:
    """What the second phone plays, silence where a packet is missing, and when each packet came.

    The gateway numbers packets its own way, so the first to arrive is taken for the first sent. Returns float32
    [packets * 160] and arrival times by index.
    """
    heard = np.zeros((packets, FRAME), np.float32)
    came: dict[int, float] = {}
    for arrival in arrivals:
        index = arrival.sequence - arrivals[0].sequence & 0xFFFF
        if index < packets and index not in came:
            came[index] = arrival.at_s
            heard[index] = ulaw_to_linear(np.frombuffer(arrival.payload, np.uint8)) / np.float32(32768)
    return heard.reshape(-1), came


def content_delay(before: Floats, after: Floats) -> int:
    """Samples by which `after` lies behind: where their correlation is highest."""
    lags = range(round(LONGEST_DELAY_S * RATE_HZ))
    length = len(before) - len(lags)
    return int(np.argmax([np.dot(before[:length], after[lag : lag + length]) for lag in lags]))


def measure(clean: Floats, noisy: Floats, heard: Floats, sent_s: list[float], came: dict[int, float]) -> Figures:
    """The figures of a call. clean, noisy, heard: float32 [samples], as sent and as received."""
    delay = content_delay(noisy, heard)
    heard = heard[delay:]
    clean, noisy = clean[: len(heard)], noisy[: len(heard)]
    level = frame_levels_db(clean, RATE_HZ)
    counted = np.arange(len(level)) >= SETTLE_FRAMES
    around = np.lib.stride_tricks.sliding_window_view(np.pad(level, 5, mode="edge"), 11).max(axis=1)
    pauses, speech = counted & (around < SILENCE_DB), counted & (level > level.max() - SPEECH_RANGE_DB)
    transit_ms = [(at_s - sent_s[index]) * 1000 for index, at_s in came.items()]
    return Figures(
        seconds=len(sent_s) * PACKET_S,
        packets_sent=len(sent_s),
        packets_lost=len(sent_s) - len(came),
        noise_in_pauses_db=change_db(noisy, heard, pauses, RATE_HZ),
        speech_level_db=change_db(clean, heard, speech, RATE_HZ),
        algorithm_ms=delay / RATE_HZ * 1000,
        transit_p50_ms=float(np.percentile(transit_ms, 50)),
        transit_p99_ms=float(np.percentile(transit_ms, 99)),
    )


def draw(path: Path, before: Floats, after: Floats) -> None:
    """Both spectrograms, one above the other, on the same scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, axes = pyplot.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for axis, pcm, title in zip(
        axes, (before, after), ("sent into the gateway", "heard at the other end"), strict=True
    ):
        quiet = pcm + np.random.default_rng(0).normal(0, 1e-5, len(pcm))  # digital silence has no logarithm
        *_, image = axis.specgram(quiet, NFFT=256, Fs=RATE_HZ, noverlap=192, vmin=-120, vmax=-45, cmap="magma")
        axis.set(title=title, ylabel="Hz")
    axes[1].set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB/Hz, relative to full scale")
    figure.savefig(path, dpi=90)
    Image.open(path).quantize(COLOURS).save(path, optimize=True)


def show(figures: Figures, out: Path) -> str:
    """The figures for a person."""
    total_ms = figures.algorithm_ms + figures.transit_p50_ms
    return "\n".join(
        (
            f"one PCMU call of {figures.seconds:.0f} s through the gateway, {figures.packets_sent} packets",
            f"  noise in the pauses   {figures.noise_in_pauses_db:+6.1f} dB",
            f"  level of the speech   {figures.speech_level_db:+6.1f} dB, against the clean recording",
            f"  added delay           {total_ms:6.1f} ms: {figures.algorithm_ms:.1f} of the algorithm, "
            f"{figures.transit_p50_ms:.1f} on the way (p99 {figures.transit_p99_ms:.1f})",
            f"  packets lost          {figures.packets_lost:6d}",
            f"listen: {out / 'before.wav'} and {out / 'after.wav'}; look: {out / 'spectrograms.png'}",
        )
    )


def main() -> int:
    """Place the call, write files, print figures."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.demo", description="One noisy call through the gateway.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the recordings and the picture")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clean, noisy = (soundfile.read(RECORDINGS / f"{name}_8k.wav", dtype="int16")[0] for name in ("clean", "noisy"))
    packets = len(noisy) // FRAME
    coded = ULAW_OF_INT16[noisy[: packets * FRAME].astype(np.int32) + 32768].reshape(packets, FRAME)
    try:
        with gateway() as server:
            sent_s, arrivals = call(server, [row.tobytes() for row in coded])
    except NgError as fault:
        print(f"demo: {fault}", file=sys.stderr)
        return 1
    if not arrivals:
        print("demo: nothing arrived at the second phone", file=sys.stderr)
        return 1
    heard, came = assemble(arrivals, packets)
    before = (ulaw_to_linear(coded.reshape(-1)) / 32768).astype(np.float32)
    figures = measure((clean[: packets * FRAME] / 32768).astype(np.float32), before, heard, sent_s, came)
    soundfile.write(options.out / "before.wav", before, RATE_HZ, subtype="PCM_16")
    soundfile.write(options.out / "after.wav", heard, RATE_HZ, subtype="PCM_16")
    draw(options.out / "spectrograms.png", before, heard)
    print(json.dumps(asdict(figures), indent=2) if options.json else show(figures, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
