"""Inputs and outputs of a brought graph: their shapes, which dimension is the batch, and what a card says of them."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.errors import ConfigError

Array = npt.NDArray[Any]
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    shape: tuple[int, ...]
    """Of a row: without the batch where that is open, else whole."""
    axis: int | None
    """Which dimension is the batch; None where all are fixed."""
    dtype: Any = np.float32

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape without ones: what of it tells numbers apart."""
        return tuple(size for size in self.shape if size != 1)

    @property
    def parts_first(self) -> bool:
        """Whether real and imaginary parts are the outer dimension of a spectrum, not the inner one."""
        return self.sizes[0] == 2

    def batch(self, rows: Array) -> Array:
        """Rows [n, *shape] as the graph takes them together."""
        moved = rows[0] if self.axis is None else np.moveaxis(rows, 0, self.axis)
        return np.ascontiguousarray(moved, self.dtype)

    def rows(self, batch: Array) -> Array:
        """What the graph gave together as rows [n, *shape]."""
        return np.moveaxis(batch, self.axis or 0, 0)

    def layout(self, value: Array) -> Array:
        """A value [n, k], or a spectrum [n, bins, 2], as rows of this input."""
        turned = np.moveaxis(value, 2, 1) if value.ndim == 3 and self.parts_first else value
        return turned.reshape(len(value), *self.shape)

    def value(self, rows: Array) -> Array:
        """The inverse of `layout` for rows of this output."""
        flat = rows.reshape(len(rows), *self.sizes).astype(np.float32, copy=False)
        return np.moveaxis(flat, 1, 2) if flat.ndim == 3 and self.parts_first else flat


def inputs(arguments: list[Any], shapes: dict[str, tuple[Any, ...]], key: str) -> dict[str, Port]:
    """A session's inputs by name. shapes: the card's; key: the step's path in the card. Raises ConfigError."""
    ports = {}
    for argument in arguments:
        shape = list(shapes.get(argument.name, argument.shape))
        axes = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
        if len(axes) > 1:
            raise ConfigError(
                f"{key}.shapes.{argument.name}: missing, because the graph leaves more than the batch open "
                f"({', '.join(map(str, shape))}); expected a list of sizes with n for the batch"
            )
        if argument.type not in TYPES:
            raise ConfigError(f"{key}.graph: input {argument.name!r} is {argument.type}, expected {', '.join(TYPES)}")
        fixed = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        ports[argument.name] = Port(argument.name, fixed, axes[0] if axes else None, TYPES[argument.type])
    return ports


def outputs(tried: dict[str, list[Array]], key: str) -> dict[str, Port]:
    """Outputs from what they gave for two and for three rows, or once where rows run one by one."""
    ports = {}
    for name, given in tried.items():
        few, more = given[0].shape, given[-1].shape
        if len(given) == 1:
            ports[name] = Port(name, few, None)
            continue
        axes = [axis for axis, size in enumerate(few) if len(more) == len(few) and size != more[axis]]
        if len(axes) != 1 or few[axes[0]] != 2:
            raise ConfigError(f"{key}.graph: {name!r} gave {list(few)} for two rows and {list(more)} for three")
        ports[name] = Port(name, tuple(size for axis, size in enumerate(few) if axis != axes[0]), axes[0])
    return ports


def check_size(port: Port, kind: str, window: int, bins: int, path: str) -> None:
    """Whether what a card takes a port for has the port's size. Raises ConfigError."""
    plain, parts = ((bins,),), ((bins, 2), (2, bins))
    right = {"pcm": ((window,),), "spectrum": parts, "mask": plain + parts, "speech": ((),)}.get(kind, plain)
    if port.sizes not in right:
        wanted = " or ".join(str(list(sizes)) for sizes in right)
        raise ConfigError(f"{path}: {kind} of this window is {wanted} a row, but the graph has {list(port.shape)}")
