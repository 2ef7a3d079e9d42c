"""Our network in torch, one 10 ms frame of all its streams at a time, with every stream's memory on the device.

For GPUs, and for servers that own one: this file needs only torch and NumPy, and what `arrays.read` gives, so it can be
copied to where no gateway is installed: `export-triton --runtime torch` does. Audio comes and goes as 16 bits, each
product runs once for all rows, torch.compile fuses what lies between products, and a batch size is one CUDA graph
between pinned buffers.

Two precisions. `fp32` does what the embedded engine does: int8 networks round the inputs of products to codes, and sums
of products of codes are integers that float32 holds exactly. An input within a rounding error of the middle between two
codes may still fall to the other side than in the engine. `bf16` runs the network's products in bfloat16, which holds
codes and int8 weights exactly too; only the sums are rounded. Transforms, gates, memories and audio stay float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Precision = Literal["fp32", "bf16"]
Arrays = Mapping[str, np.ndarray]
PCM_SCALE = 32768.0
SIZES = tuple(sorted({*(1 << i for i in range(6, 19)), 49152, 98304, 163840, 204800}))
"""Rows of the batches that are prepared, powers of two and some between; a batch is padded to the next one, or to
all slots."""


class Product:
    """A layer: its input clamped, or rounded to int8 codes, times a matrix, and a bias."""

    def __init__(self, arrays: Arrays, names: Sequence[str], reach: float, precision: Precision, device: str) -> None:
        """names: layers that share the input; their outputs stand side by side."""
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32

        def joined(part: str) -> Tensor:
            return torch.from_numpy(np.concatenate([arrays[f"{name}.{part}"] for name in names], axis=-1)).to(device)

        self.reach, self.dtype, self.bias = reach, dtype, joined("bias")
        self.codes = f"{names[0]}.codes" in arrays
        self.step = float(np.float32(reach / 127))
        self.matrix = joined("codes" if self.codes else "weight").to(dtype).contiguous()
        self.scales = joined("scales") * self.step if self.codes else None

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [n, inputs] -> float32 [n, outputs]."""
        if self.scales is None:
            return torch.mm(x.clamp(-self.reach, self.reach).to(self.dtype), self.matrix).float() + self.bias
        codes = torch.round(x / self.step).clamp(-128, 127)
        return torch.mm(codes.to(self.dtype), self.matrix).float() * self.scales + self.bias


class Network:
    """The arithmetic of a frame, without state of its own: see `frame`."""

    def __init__(self, arrays: Arrays, precision: Precision, device: str) -> None:
        self.device, self.bins, self.width = device, len(arrays["cosines"]), arrays["keep_music"].shape[1]
        self.hop, self.window = arrays["synthesis"].shape[1] // 2, 2 * self.bins
        self.blocks = sum(name.startswith("blocks.") and name.endswith(".outer.bias") for name in arrays)
        self.head = int(arrays["head"])
        self.scalar = {name: float(value) for name, value in arrays.items() if value.ndim == 0}
        tables = ("older_window", "newer_window", "cosines", "sines", "synthesis", "keep_music")
        self.table = {name: torch.from_numpy(arrays[name]).to(device) for name in tables}
        self.table["level_band"] = torch.from_numpy(arrays["level_band"][:, :1].copy()).to(device)

        def product(reach: str, *names: str) -> Product:
            return Product(arrays, names, self.scalar[reach], precision, device)

        self.input = product("feature_range", "input")
        self.inner = [product("norm_range", *(f"blocks.{i}.inner.{k}" for k in range(3))) for i in range(self.blocks)]
        self.outer = [product("memory_range", f"blocks.{i}.outer") for i in range(self.blocks)]
        self.output = product("norm_range", "output.0", "output.1")

    @property
    def widths(self) -> tuple[int, ...]:
        """Floats a stream of: past audio, overlap tail, level, features before, gains before, memory of each block."""
        return (self.window - self.hop, self.hop, 1, self.bins, self.bins, *([self.width] * self.blocks))

    def frame(self, pcm: Tensor, control: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One frame of n streams: int16 [n, hop], float32 [n, 2] (smallest gain, keep music) and the parts of their
        state -> (int16 [n, hop], float32 [n, 4] probabilities, state).

        Rows without numbers have probabilities of NaN.
        """
        past, tail, level, before, gains, *memories = state
        heard = torch.cat([past, pcm.float() / PCM_SCALE], dim=1)
        cosine, sine = self.analysed(heard)
        features, level = self.features(cosine, sine, level)
        x = self.input(torch.cat([features, before], dim=1)) + control[:, 1:] * self.table["keep_music"]
        for i, memory in enumerate(memories):
            x, memories[i] = self.block(i, x, memory)
        out = torch.sigmoid(self.output(normalised(x, self.scalar["norm_range"])))
        mask, head = out[:, : self.bins], out[:, self.bins : self.bins + self.head]
        gains = torch.maximum(mask, gains + (mask - gains) * self.scalar["gain_release"])
        gain = torch.maximum(gains, control[:, :1])
        parts = torch.cat([cosine * gain, sine * gain], dim=1) @ self.table["synthesis"]
        clean = (parts[:, : self.hop] + tail) * PCM_SCALE
        numbers = torch.isfinite(clean.sum(dim=1, keepdim=True) + head.sum(dim=1, keepdim=True))
        head = torch.where(numbers, head, torch.nan)
        clean = torch.round(clean).clamp(-PCM_SCALE, PCM_SCALE - 1).to(torch.int16)
        return clean, head, [heard[:, self.hop :], parts[:, self.hop :], level, features, gains, *memories]

    def analysed(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """The window's spectrum, by the symmetry of the transform: (cosine, sine parts) float32 [n, bins]."""
        older = heard[:, : self.bins] * self.table["older_window"]
        newer = heard[:, self.bins :].flip(1) * self.table["newer_window"]
        return (older + newer) @ self.table["cosines"], (older - newer) @ self.table["sines"]

    def features(self, cosine: Tensor, sine: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """(log power above the level that is followed, that level)."""
        c = self.scalar
        power = torch.log(cosine.square() + sine.square() + c["log_power_floor"])
        difference = power @ self.table["level_band"] - c["reference_log_power"] - level
        level = level + torch.maximum(difference * c["level_attack"], difference * c["level_release"])
        return (power - (level + c["reference_log_power"])) * c["feature_scale"], level

    def block(self, i: int, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        update, candidate, gate = self.inner[i](normalised(x, self.scalar["norm_range"])).chunk(3, dim=1)
        memory = memory + torch.sigmoid(update) * (candidate - memory)
        return x + self.outer[i](gate * torch.sigmoid(gate) * memory), memory


def normalised(x: Tensor, reach: float) -> Tensor:
    """Rows divided by their RMS; what the next product clamps anyway is clamped there."""
    return (x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)).clamp(-2 * reach, 2 * reach)


class DeviceNetwork:
    """All streams of a network on one device. Not for threads: one caller at a time."""

    def __init__(
        self, arrays: Arrays, slots: int, device: str = "cuda", precision: Precision = "bf16", fuse: bool | None = None
    ) -> None:
        """slots: streams at most. fuse: compile what lies between products (needs a C++ compiler); None: on CUDA."""
        self.network = Network(arrays, precision, device)
        self.slots, self.hop, self.device = slots, self.network.hop, torch.device(device)
        # the row behind the last slot takes what padding writes
        self.state = [torch.zeros((slots + 1, width), device=device) for width in self.network.widths]
        if self.device.type == "cuda":  # long sums are not to be rounded to bf16 on their way
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        fuse = self.device.type == "cuda" if fuse is None else fuse
        self._frame: Callable[..., tuple[Tensor, Tensor, list[Tensor]]] = (
            torch.compile(self.network.frame, dynamic=True) if fuse else self.network.frame
        )
        self._batches: dict[int, Batch] = {}

    def prepare(self, rows: int) -> Batch:
        """The batch that so many rows go into, made on its first use (slow: do it before the first call)."""
        size = min((size for size in (*SIZES, self.slots) if size >= rows), default=rows)
        if size not in self._batches:
            self._batches[size] = Batch(self, size)
        return self._batches[size]

    def step(
        self, slots: np.ndarray, pcm: np.ndarray, control: np.ndarray, reset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A frame of each of these streams. slots: int64 [n], unique; pcm: int16 [n, hop]; control: float32 [n, 2]
        (smallest gain, keep music); reset: bool [n], begins the stream anew.

        Returns (int16 [n, hop], delayed by one hop; float32 [n, 4], probabilities), valid until the next step. Raises
        ValueError for slots that do not exist, come twice, or arrays of another shape.
        """
        n = len(slots)
        if pcm.shape != (n, self.hop) or control.shape != (n, 2) or reset.shape != (n,):
            raise ValueError(f"expected pcm [{n}, {self.hop}], control [{n}, 2], reset [{n}]; found {pcm.shape}, "
                             f"{control.shape}, {reset.shape}")  # fmt: skip
        if n and (slots.min() < 0 or slots.max() >= self.slots or len(np.unique(slots)) < n):
            raise ValueError(f"slots must be unique and from 0 to {self.slots - 1}")
        return self.prepare(n).run(slots, pcm, control, reset)

    def advance(self, slots: Tensor, pcm: Tensor, control: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """`step` on tensors of the device; what is captured. reset: float32 [n, 1], 1 begins anew."""
        fresh = reset > 0  # filled rather than multiplied: what a spoilt stream left is no number
        state = [part.index_select(0, slots).masked_fill(fresh, 0.0) for part in self.state]
        clean, head, state = self._frame(pcm, control, state)
        for part, rows in zip(self.state, state, strict=True):
            part.index_copy_(0, slots, rows)
        return clean, head


class Batch:
    """One number of rows: pinned buffers on the host, buffers on the device, on CUDA a graph between those."""

    WARM_UPS = 3

    def __init__(self, owner: DeviceNetwork, rows: int) -> None:
        self._owner, self._device = owner, owner.device
        self._cuda = owner.device.type == "cuda"
        shapes = (
            ((rows,), torch.int64),
            ((rows, owner.hop), torch.int16),
            ((rows, 2), torch.float32),
            ((rows, 1), torch.float32),
        )
        self._host = [torch.zeros(shape, dtype=dtype, pin_memory=self._cuda) for shape, dtype in shapes]
        self._host[0].fill_(owner.slots)
        self._filled = 0
        self._inputs = [tensor.to(self._device) for tensor in self._host]
        self._graph = self._captured() if self._cuda else None
        if self._graph is None:
            self._outputs = self._advance()
        self._answers = [torch.zeros_like(x, device="cpu", pin_memory=self._cuda) for x in self._outputs]

    @torch.inference_mode()
    def _advance(self) -> tuple[Tensor, Tensor]:
        return self._owner.advance(*self._inputs)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Runs on the padding row only, so that no stream is touched."""
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(self.WARM_UPS):
                self._advance()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._advance()
        return graph

    def run(
        self, slots: np.ndarray, pcm: np.ndarray, control: np.ndarray, reset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `DeviceNetwork.step`."""
        n = len(slots)
        for tensor, rows in zip(self._host, (slots, pcm, control, reset[:, None]), strict=True):
            tensor.numpy()[:n] = rows
        self._host[0][n : self._filled] = self._owner.slots
        self._filled = n
        for there, here in zip(self._inputs, self._host, strict=True):
            there.copy_(here, non_blocking=True)
        if self._graph is None:
            self._outputs = self._advance()
        else:
            self._graph.replay()
        for here, there in zip(self._answers, self._outputs, strict=True):
            here.copy_(there, non_blocking=True)
        if self._cuda:
            torch.cuda.current_stream(self._device).synchronize()
        return self._answers[0].numpy()[:n], self._answers[1].numpy()[:n]
