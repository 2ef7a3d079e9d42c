"""A WAV file through the service, with a progress bar: `python denoise_file.py noisy.wav clean.wav [TARGET]`."""

import sys
from pathlib import Path

import soundfile
from tqdm import tqdm

from gateway.client import SyncDenoiseClient


def main() -> None:
    source, result = Path(sys.argv[1]), Path(sys.argv[2])
    target = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1:50051"
    pcm, rate = soundfile.read(source, dtype="int16", always_2d=True)
    audio, step = pcm[:, 0].tobytes(), rate // 10 * 2
    frames = (audio[at : at + step] for at in range(0, len(audio), step))
    heard = bytearray()
    with SyncDenoiseClient(target) as client, tqdm(total=len(pcm), unit="samples", unit_scale=True) as bar:
        for piece in client.stream(frames, rate, align=True, label=source.name):
            heard += piece
            bar.update(len(piece) // 2)
    with soundfile.SoundFile(result, "w", rate, 1, "PCM_16") as file:
        file.buffer_write(bytes(heard), "int16")
    print(f"{result}: {len(heard) // 2} samples")


if __name__ == "__main__":
    main()
