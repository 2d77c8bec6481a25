"""LSTM, GRU and RNN, one step of time after the other.

X is (T, N, I), or (N, T, I) with `layout` 1; Y is (T, D, N, H), D directions. Weights W (D, G H, I)
and R (D, G H, H) hold G gates, in the order i o f c (LSTM) or z r h (GRU); B (D, 2 G H) holds the
biases of both. Where `sequence_lens` are given, a sample's state stops at its length and Y is 0
behind it; the reverse direction begins at the length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onnx_scsp.retrain.lift.op import Op

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
}

_State = tuple[Tensor, ...]
_Cell = Callable[[Tensor, _State], _State]


def lstm(
    op: Op,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Long short-term memory."""
    names = _activations(op, ["sigmoid", "tanh", "tanh"], len(w))

    def cell(direction: int) -> _Cell:
        f, g, h = names[3 * direction : 3 * direction + 3]
        weight = r[direction].T
        peep = None if peepholes is None else peepholes[direction].chunk(3)

        def step(gates: Tensor, state: _State) -> _State:
            i, o, forget, c = (gates + state[0] @ weight).chunk(4, -1)
            if peep is not None:
                i, forget = i + peep[0] * state[1], forget + peep[2] * state[1]
            i, forget = f(i), f(forget)
            if op.attr("input_forget", 0):
                forget = 1 - i
            memory = forget * state[1] + i * g(c)
            o = f(o if peep is None else o + peep[1] * memory)
            return o * h(memory), memory

        return step

    gates = _gates(op, x, w, b, 4)
    return _run(op, gates, cell, lengths, (initial_h, initial_c), r.shape[-1])


def gru(
    op: Op,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gated recurrent unit; `linear_before_reset` says whether the reset comes after R."""
    names = _activations(op, ["sigmoid", "tanh"], len(w))
    size, after = r.shape[-1], bool(op.attr("linear_before_reset", 0))

    def cell(direction: int) -> _Cell:
        f, g = names[2 * direction : 2 * direction + 2]
        weight = r[direction]
        hidden = weight[2 * size :].T
        extra = None if b is None else b[direction, 5 * size :]

        def step(gates: Tensor, state: _State) -> _State:
            h = state[0]
            z, reset = (gates[..., : 2 * size] + h @ weight[: 2 * size].T).chunk(2, -1)
            z, reset = f(z), f(reset)
            if after:
                own = h @ hidden if extra is None else h @ hidden + extra
                new = g(gates[..., 2 * size :] + reset * own)
            else:
                own = (reset * h) @ hidden
                new = g(gates[..., 2 * size :] + (own if extra is None else own + extra))
            return ((1 - z) * new + z * h,)

        return step

    return _run(op, _gates(op, x, w, b, 3), cell, lengths, (initial_h,), size)


def rnn(
    op: Op,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Plain recurrence."""
    names = _activations(op, ["tanh"], len(w))

    def cell(direction: int) -> _Cell:
        return lambda gates, state: (names[direction](gates + state[0] @ r[direction].T),)

    return _run(op, _gates(op, x, w, b, 1), cell, lengths, (initial_h,), r.shape[-1])


def _activations(op: Op, default: list[str], directions: int) -> list[Callable[[Tensor], Tensor]]:
    names = [name.lower() for name in op.attr("activations") or default * directions]
    if any(name not in _FUNCTIONS for name in names):
        raise op.unsupported(f"activation {next(n for n in names if n not in _FUNCTIONS)}")
    if op.attr("clip"):
        raise op.unsupported("attribute clip")
    return [_FUNCTIONS[name] for name in names]


def _gates(op: Op, x: Tensor, w: Tensor, b: Tensor | None, count: int) -> Tensor:
    """What inputs and biases give to all gates, (D, T, N, G H), except what a reset multiplies."""
    if op.attr("layout", 0):
        x = x.transpose(0, 1)
    gates = torch.einsum("tni,dgi->dtng", x, w)
    if b is None:
        return gates
    inputs, hidden = b.chunk(2, -1)
    if count == 3:  # the hidden gate's second bias belongs behind the reset
        size = hidden.shape[-1] // 3
        hidden = torch.cat((hidden[:, : 2 * size], torch.zeros_like(hidden[:, 2 * size :])), -1)
    return gates + (inputs + hidden)[:, None, None, :]


def _run(
    op: Op,
    gates: Tensor,
    cell: Callable[[int], _Cell],
    lengths: Tensor | None,
    initial: tuple[Tensor | None, ...],
    size: int,
) -> tuple[Tensor, ...]:
    directions, _, samples, _ = gates.shape
    first_axis = bool(op.attr("layout", 0))
    rows, finals = [], []
    for direction in range(directions):
        state = tuple(
            gates.new_zeros((samples, size))
            if given is None
            else (given[:, direction] if first_axis else given[direction])
            for given in initial
        )
        backwards = direction == 1 or op.attr("direction", "forward") == "reverse"
        outputs, state = _walk(gates[direction], cell(direction), state, lengths, backwards)
        rows.append(outputs)
        finals.append(state)
    y = torch.stack(rows, 1)
    ends = [torch.stack(parts) for parts in zip(*finals, strict=True)]
    if first_axis:
        return (y.permute(2, 0, 1, 3), *(end.transpose(0, 1) for end in ends))
    return (y, *ends)


def _walk(
    gates: Tensor, step: _Cell, state: _State, lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, _State]:
    """Outputs (T, N, H) and the last state."""
    times = range(gates.shape[0])
    outputs: list[Any] = [None] * len(times)
    for time in reversed(times) if backwards else times:
        new = step(gates[time], state)
        if lengths is not None:
            alive = (time < lengths)[:, None]
            kept = tuple(torch.where(alive, a, b) for a, b in zip(new, state, strict=True))
            outputs[time] = torch.where(alive, new[0], torch.zeros_like(new[0]))
            state = kept
        else:
            outputs[time], state = new[0], new
    return torch.stack(outputs), state
