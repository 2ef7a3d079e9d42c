"""The gateway's network inside of Triton: the Python backend's model, written into the repository by `export-triton`.

It runs in Triton's Python and imports nothing of the gateway. The state of all calls is one matrix that stays on the
device; a media worker holds a block of its rows. A request is a batch: slots, and for each so many frames of 10 ms.
Requests of several workers that wait at the same time are run together.

Input, with n slots and t frames in all (every tensor has Triton's batch dimension, 1, in front):
BATCH int64 [3]: batch_id, worker, rows that it wants; SLOTS int32 [n]; COUNTS int32 [n], frames of each slot;
PCM int16 [t, hop], the slots' frames one after another; CONTROL float32 [n, 2]; RESET uint8 [n], 1: a new stream.
Output: BATCH int64 [2 + t]: batch_id, epoch, the slot of each frame (a tensor of its own would take 0.3 ms a batch);
PCM int16 [t, hop]; PROB float32 [t, 4], NaN where there are no numbers.
"""

import json
import os
import secrets
import time

import numpy as np
import triton_python_backend_utils as pb_utils

FRAMES = 64
"""Most frames of a slot in a request."""
IDLE_S = 10.0
"""A worker that has been quiet for so long gives its rows up when another needs them: no stream of it still runs."""
WARM_ROWS = (1, 16, 64, 256, 512)


class RequestError(Exception):
    """What a request asks for cannot be."""


class Block:
    """The rows of a worker."""

    def __init__(self, base, size, first):
        self.base, self.size = base, size
        self.epoch = secrets.randbits(62) + 1
        self.last = np.full(size, first - 1, np.int64)  # the newest batch that each row has seen
        self.used_s = time.monotonic()


class Batch:
    """A request, read and checked."""

    def __init__(self, request, hop):
        def read(name):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise RequestError(f"input {name} is missing")
            return tensor.as_numpy()[0]

        self.id, self.worker, self.rows = (int(value) for value in read("BATCH"))
        self.start = bool(read("START")[0])
        self.slots, self.counts = read("SLOTS").astype(np.int64), read("COUNTS").astype(np.int64)
        self.pcm, self.control, self.reset = read("PCM"), read("CONTROL"), read("RESET") != 0
        n = len(self.slots)
        if len(self.counts) != n or self.control.shape != (n, 2) or len(self.reset) != n:
            raise RequestError("SLOTS, COUNTS, CONTROL and RESET differ in length")
        if n and (self.counts.min() < 1 or self.counts.max() > FRAMES):
            raise RequestError(f"COUNTS are to be 1 to {FRAMES}")
        if self.pcm.shape != (self.counts.sum(), hop):
            raise RequestError(f"PCM is {self.pcm.shape}, expected {(int(self.counts.sum()), hop)}")
        if len(np.unique(self.slots)) != n:
            raise RequestError("a slot comes twice")

    def claim(self, block):
        """Turn slots into rows of the matrix."""
        if len(self.slots) and (self.slots.min() < 0 or self.slots.max() >= block.size):
            raise RequestError(f"a slot is beyond the {block.size} rows of this worker")
        if len(self.slots) and block.last[self.slots].max() >= self.id:
            raise RequestError(f"batch {self.id} came after a later one")
        block.last[self.slots] = self.id
        block.used_s = time.monotonic()
        self.block = block
        self.matrix_rows = self.slots + block.base


class TritonPythonModel:
    """See the module's text."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.hop, self.width, self.capacity = (int(parameters[key]) for key in ("hop", "state", "rows"))
        folder = os.path.join(args["model_repository"], args["model_version"])
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        if parameters["runtime"] == "torch":
            self.network = TorchNetwork(folder, self.capacity, parameters["precision"], gpu)
        else:
            self.network = GraphNetwork(os.path.join(folder, "graph.onnx"), self.capacity, self.width, gpu)
        self.blocks = {}
        for rows in WARM_ROWS:
            rows = min(rows, self.capacity)
            self.network.step(np.arange(rows), np.zeros((rows, self.hop), np.int16), np.ones((rows, 2), np.float32))
        self.network.clear(np.arange(min(WARM_ROWS[-1], self.capacity)))

    def execute(self, requests):
        """Run all requests together, a frame at a time; each has its own answer or error."""
        batches, answers = [], []
        for request in requests:
            try:
                batch = Batch(request, self.hop)
                batch.claim(self.block(batch))
                batches.append(batch)
                answers.append(batch)
            except RequestError as error:
                answers.append(error)
        if batches:
            try:
                self.run(batches)
            except Exception as error:  # the state may be half new: all these workers begin anew
                for batch in batches:
                    self.blocks.pop(batch.worker, None)
                answers = [error if isinstance(answer, Batch) else answer for answer in answers]
        return [self.answer(each) for each in answers]

    def block(self, batch):
        """The rows of the request's worker; new ones at the start of its sequence."""
        if batch.start:
            self.blocks.pop(batch.worker, None)
            self.blocks[batch.worker] = Block(self.room(batch.rows), batch.rows, batch.id)
            fresh = self.blocks[batch.worker]
            self.network.clear(np.arange(fresh.base, fresh.base + fresh.size))
        if batch.worker not in self.blocks:
            raise RequestError("the rows of this worker are gone: start the sequence again")
        return self.blocks[batch.worker]

    def room(self, rows):
        """Where so many rows are free."""
        if not 0 < rows <= self.capacity:
            raise RequestError(f"a worker of {rows} slots: this model has {self.capacity} rows")
        now = time.monotonic()
        for only_idle in (False, True):
            if only_idle:
                self.blocks = {k: b for k, b in self.blocks.items() if now - b.used_s < IDLE_S}
            base = 0
            for block in sorted(self.blocks.values(), key=lambda block: block.base):
                if block.base - base >= rows:
                    return base
                base = block.base + block.size
            if self.capacity - base >= rows:
                return base
        taken = sum(block.size for block in self.blocks.values())
        raise RequestError(
            f"no room for a worker of {rows} slots: {taken} of {self.capacity} rows are taken; export with more --rows"
        )

    def run(self, batches):
        """Advance every row by its frames; fills `clean`, `prob` and `whose` of each batch."""
        rows, counts, control, reset, pcm = (
            joined([getattr(batch, name) for batch in batches])
            for name in ("matrix_rows", "counts", "control", "reset", "pcm")
        )
        if reset.any():
            self.network.clear(rows[reset])
        if len(rows) == len(pcm) > 0:  # a frame of each
            whose = rows
            clean, prob = self.step(rows, pcm, control)
        else:
            whose = np.zeros(len(pcm), np.int64)  # goes the way of the audio, so that it tells when that goes astray
            clean, prob = np.zeros_like(pcm), np.zeros((len(pcm), 4), np.float32)
            begins = np.cumsum(counts) - counts
            for frame in range(int(counts.max()) if len(counts) else 0):
                on = np.flatnonzero(counts > frame)
                at = begins[on] + frame
                whose[at] = rows[on]
                clean[at], prob[at] = self.step(rows[on], pcm[at], control[on])
        ends = np.cumsum([len(batch.pcm) for batch in batches])
        for batch, end in zip(batches, ends, strict=True):
            of = slice(end - len(batch.pcm), end)
            batch.clean, batch.prob, batch.whose = clean[of], prob[of], whose[of] - batch.block.base

    def step(self, rows, pcm, control):
        """One frame of these rows; those without numbers are silent, have probabilities of NaN, and begin anew."""
        clean, prob = self.network.step(rows, pcm, control)
        spoilt = np.isnan(prob[:, 0])
        if spoilt.any():
            clean[spoilt] = 0
            self.network.clear(rows[spoilt])
        return clean, prob

    def answer(self, made):
        if not isinstance(made, Batch):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(made)))
        names = np.concatenate([[made.id, made.block.epoch], made.whose])
        tensors = [("BATCH", names), ("PCM", made.clean), ("PROB", made.prob)]
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value[None]) for name, value in tensors])


def joined(arrays):
    """One array of all; the only one as it is."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class GraphNetwork:
    """A graph whose state matrix is bound in place, on the CPU or a GPU: the rows of a batch never leave the device."""

    def __init__(self, path, rows, width, gpu):
        """gpu: its number; None is the CPU."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # batch sizes vary
        options.log_severity_level = 3
        providers = [] if gpu is None else [("CUDAExecutionProvider", {"device_id": gpu})]
        self.session = ort.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
        if gpu is not None and "CUDAExecutionProvider" not in self.session.get_providers():
            raise RuntimeError("this Python's onnxruntime has no CUDA: pip install onnxruntime-gpu, or export for cpu")
        place = ("cpu", 0) if gpu is None else ("cuda", gpu)
        self.matrix = ort.OrtValue.ortvalue_from_numpy(np.zeros((rows + 1, width), np.float32), *place)
        self.zero = rows  # this row is never written
        self.fresh = np.ones(rows, np.bool_)  # rows whose stream has not begun: whatever they hold is not read

    def clear(self, rows):
        """These rows begin a new stream."""
        self.fresh[rows] = True

    def step(self, rows, pcm, control):
        """One frame of these rows: int16 [n, hop] and float32 [n, 2]. Returns int16 [n, hop] and float32 [n, 4], NaN
        in rows without numbers."""
        binding = self.session.io_binding()
        read = np.where(self.fresh[rows], self.zero, rows)
        feeds = {"pcm16": pcm, "control": control, "read": read, "write": rows[:, None]}
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.bind_ortvalue_input("matrix", self.matrix)
        binding.bind_ortvalue_output("matrix_out", self.matrix)  # in place: see stateful() in export
        binding.bind_output("pcm16_out")
        binding.bind_output("prob_out")
        self.session.run_with_iobinding(binding)
        self.fresh[rows] = False
        _, clean, prob = (output.numpy() for output in binding.get_outputs())
        return clean, prob


class TorchNetwork:
    """The network of `device_network.py` beside this file: CUDA graphs of padded batches on a GPU, eager on the CPU."""

    def __init__(self, folder, rows, precision, gpu):
        """gpu: its number; None is the CPU."""
        try:
            import torch
        except ImportError:
            raise RuntimeError(
                "this Python has no torch: install it (deploy/triton/local.sh --setup --torch), "
                "or write the repository with export-triton --runtime onnx"
            ) from None
        from device_network import SIZES, DeviceNetwork

        with np.load(os.path.join(folder, "weights.npz")) as stored:
            arrays = dict(stored)
        products = "bf16" if precision == "bfloat16" else "fp32"
        self.torch, self.gpu = torch, gpu
        self.fresh = np.ones(rows, np.bool_)  # rows whose stream has not begun
        if gpu is None:
            torch.set_num_threads(1)  # an instance is a core, as with the graph
        elif not torch.cuda.is_available():
            raise RuntimeError("this Python's torch finds no CUDA device: install a torch for it, or export for cpu")
        else:
            torch.cuda.set_device(gpu)
        self.network = DeviceNetwork(arrays, rows, "cpu" if gpu is None else f"cuda:{gpu}", products)
        if gpu is not None:  # every batch that can come is captured before the first call
            for size in [size for size in SIZES if size < rows] + [rows]:
                self.network.prepare(size)

    def clear(self, rows):
        """These rows begin a new stream."""
        self.fresh[rows] = True

    def step(self, rows, pcm, control):
        """See `GraphNetwork.step`."""
        reset = self.fresh[rows]
        self.fresh[rows] = False
        if self.gpu is not None:
            clean, prob = self.network.prepare(len(rows)).run(rows, pcm, control, reset)
            return clean.copy(), prob.copy()  # the next batch is written over them
        inputs = (rows, pcm, control, reset[:, None].astype(np.float32))
        with self.torch.inference_mode():
            clean, prob = self.network.advance(*(self.torch.tensor(value) for value in inputs))
        return clean.numpy(), prob.numpy()
