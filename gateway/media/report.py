"""What a worker tells of itself: rows of leg statistics, and totals."""

import numpy as np
import numpy.typing as npt

from gateway.media.pipeline import Pipeline
from gateway.messages import LEG_STATS, WorkerStats


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
    return rows


def worker_stats(
    pipeline: Pipeline, counters: dict[str, int], seconds: dict[str, float], delay_buckets: list[int]
) -> WorkerStats:
    """Totals since the start; frames are of the legs there are now and were before."""
    voice = pipeline.voice
    frames = {
        "frames_wet": voice.total_wet,
        "frames_dry": voice.total_dry,
        "rows_spoilt": voice.total_spoilt,
        "legs_shed": int(voice.shed.sum()),
    }
    return WorkerStats({**counters, **pipeline.streams.counters, **frames}, dict(seconds), list(delay_buckets))
