"""What a worker tells of itself: rows of leg statistics, and totals."""

import numpy as np
import numpy.typing as npt

from gateway.detect.detection import Detection
from gateway.detect.sines import RATE
from gateway.media.pipeline import Pipeline
from gateway.messages import LEG_STATS, Detected, Lease, Reason, WorkerStats


def leg_rows(pipeline: Pipeline, slots: npt.NDArray[np.integer]) -> np.ndarray:
    """Rows of `LEG_STATS` for these slots."""
    streams, voice = pipeline.streams, pipeline.voice
    rows = np.zeros(len(slots), LEG_STATS)
    rows["slot"] = slots
    rows["generation"] = pipeline.legs.generation[slots]
    rows["packets"], rows["bytes"] = streams.packets[slots], streams.bytes[slots]
    rows["errors"], rows["lost"] = streams.errors[slots], streams.lost[slots]
    rows["last_packet_s"] = np.where(streams.packets[slots] > 0, streams.last_s[slots], 0.0)
    rows["ssrc_in"] = np.maximum(streams.ssrc[slots], 0)
    rows["ssrc_out"] = streams.out_ssrc[slots]
    rows["packets_out"], rows["bytes_out"] = pipeline.packets_out[slots], pipeline.bytes_out[slots]
    rows["jitter_ms"] = streams.jitter_s[slots] * 1000
    rows["frames_wet"], rows["frames_dry"] = voice.frames_wet[slots], voice.frames_dry[slots]
    rows["wet"] = voice.wet[slots] > 0
    rows["reason"] = voice.reason[slots]
    return rows


def detected(detection: Detection, lease: Lease, digits: bool) -> Detected:
    """What is told of a detection; digits: also which keys a party pressed."""
    private = detection.kind in ("dtmf", "event") and not digits
    lasting = detection.end - detection.begin if detection.end >= 0 else None
    return Detected(
        lease,
        detection.kind,
        "" if private else detection.value,
        detection.begin * 1000 / RATE,
        None if lasting is None else lasting * 1000 / RATE,
        *(round(value, 1) if np.isfinite(value) else None for value in (detection.level_dbm0, detection.twist_db)),
    )


def worker_stats(
    pipeline: Pipeline, counters: dict[str, int], seconds: dict[str, float], delay_buckets: list[int]
) -> WorkerStats:
    """Totals since the start; frames are of the legs there are now and were before."""
    voice = pipeline.voice
    frames = {
        "frames_wet": int(voice.totals[Reason.NONE]),
        **{f"frames_dry_{reason.name.lower()}": int(voice.totals[reason]) for reason in Reason if reason},
        "rows_spoilt": voice.total_spoilt,
        "detections_untold": voice.ear.unreported,
        "events_malformed": pipeline.events.malformed,
        "legs_shed": int(voice.shed.sum()),
    }
    for engine in voice.remotes.values():
        for name, value in engine.counters.items():
            frames[f"engine_{name}"] = frames.get(f"engine_{name}", 0) + value
    return WorkerStats({**counters, **pipeline.streams.counters, **frames}, dict(seconds), list(delay_buckets))
