"""A loop: a cycle of the graph, run step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ..graph import Axis, GraphError, Layout, Node
from ..graph.inference import check_loop
from ..graph.types import Array
from ..ops.delays import initial_rows
from .call import Call, Env
from .grouping import bring_together
from .interpreter import Interpreter
from .lowering import Delay, Lowering
from .program import Buffer, Holds, Instruction, LoopProgram, Rule
from .run import Run

if TYPE_CHECKING:
    from ..engines.base import Engine, Kernel


class Loop:
    """A cycle of the graph: what it reads from outside, what it computes, what it keeps.

    It keeps all frames of values that are read outside (`whole`), the last frames of values of
    which only those are read (`lasts`), and otherwise only the frames that its delays reach.

    Attributes:
        places: for results that overwrite a value that is not needed any more, the value's slot.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        whole: set[Node],
        lasts: set[Node],
        engine: Engine,
        slot: Callable[[Node], int],
    ) -> None:
        self.nodes, self.engine = nodes, engine
        delays = [n for n in nodes if n.is_delay]
        self.axis, self.forward = _direction(nodes, delays)
        self.calls = bring_together([Call(n, engine, slot) for n in nodes if not n.is_delay])
        self.delays = [_delay(d, slot) for d in delays]
        inside = set(nodes)
        read = {i: None for n in nodes for i in (n.inputs[1:] if n.is_delay else n.inputs)}
        outer = [i for i in read if i not in inside]
        self.types = {slot(n): (n.shape or (), n.dtype) for n in (*outer, *nodes)}
        self.frames = [slot(i) for i in outer if len(i.axes or ()) == 2]
        self.whole = [slot(n) for n in nodes if n in whole]
        self.lasts = [slot(n) for n in nodes if n in lasts]
        self.made = {slot(n) for n in nodes}
        self.reads = {slot(i) for i in outer} | {d.initial for d in self.delays}
        self.dead: list[int] = []
        self.places: dict[int, int] = {}
        self.program = self._lowered()
        self.interpreter = self._interpreted()

    def _lowered(self, separate: bool = False) -> LoopProgram:
        whole, lasts = ({i: self.types[i] for i in slots} for slots in (self.whole, self.lasts))
        args = self.calls, self.delays, self.frames, whole, lasts, self.engine, separate
        return Lowering(*args).program

    def _interpreted(self) -> Interpreter:
        return Interpreter(self.program, self.axis, 1 if self.forward else -1)

    @cached_property
    def compiled(self) -> Callable[..., bool] | None:
        """Runs all steps without Python; None if the engine can't."""
        compiler = self.engine.compiler
        return None if compiler is None else compiler.loop(self.program)

    def observe(self, around: Callable[..., Kernel], separate: bool) -> None:
        """Replace each kernel by `around(kernel, *nodes)`.

        Args:
            separate: whether operations must be called one by one.
        """
        if separate:
            self.program = self._lowered(separate=True)
        self.compiled, self.places = None, {}  # observers may keep the arrays they are shown
        for instruction in self.program.instructions:
            instruction.observe(around)
        self.interpreter = self._interpreted()

    def take_places(self, lone: Sequence[int]) -> None:
        """Find results that can overwrite a value of the same form that is not needed any more.

        Each step reads only its own frames of such a value, so it is enough that no instruction
        after the one that computes the result reads them.

        Args:
            lone: the values read frame by frame whose memory no other value shares.
        """
        program, initial = self.program, {d.initial for d in self.delays}
        memory = program.memory()
        first, last = program.first_writes(memory), program.last_reads(memory)
        buffer = {(b.holds, b.of): n for n, b in enumerate(program.buffers)}
        made = {c.result for c in self.calls}
        free = [i for i in lone if i in self.dead and i not in initial]
        for result in self.whole:
            target = buffer[Holds.FRAMES, result]
            if result not in made or target not in first:
                continue
            for i in free:
                source = buffer[Holds.OUTER, i]
                if self.types[i] != self.types[result]:
                    continue
                writer = program.instructions[first[target]]
                reads = [v for v in writer.operands if source in memory[v]]
                if last[source] < first[target] or (
                    last[source] == first[target]
                    and all(program.places[v].rule == Rule.FRAME for v in reads)
                    and _write_over(writer, result, i, self.engine)
                ):
                    self.places[result] = i
                    free.remove(i)
                    break

    def __call__(self, run: Run, env: Env) -> None:
        layout = run.layouts[self.axis]
        buffers, shared = self.program.buffers, self.program.shared
        made = (n in shared or self._array(b, run, env, layout) for n, b in enumerate(buffers))
        arrays: list[Array] = list(made)
        for buffer, other in shared.items():
            arrays[buffer] = arrays[other]
        step = 1 if self.forward else -1
        done = layout.steps and self.compiled and self.compiled(run, arrays, layout, step)
        if not done:
            self.interpreter.run(run, arrays, layout)
        for b, array in zip(buffers, arrays, strict=True):
            if b.holds in (Holds.FRAMES, Holds.LAST):
                env[b.of] = array

    def _array(self, buffer: Buffer, run: Run, env: Env, layout: Layout) -> Array:
        match buffer.holds:
            case Holds.OUTER:
                return env[buffer.of]
            case Holds.INITIAL:
                d = self.delays[buffer.of]
                return initial_rows(run, env[d.initial], d.axes, layout, d.shape)
            case Holds.FRAMES:
                if buffer.of in run.places:
                    return run.places[buffer.of]
                place = self.places.get(buffer.of)
                if place is not None:
                    # A new view: kernels cache by an array's identity.
                    return env[place][...]
                rows = layout.rows
            case Holds.LAST:
                rows = len(layout)
            case _:
                rows = layout.counts[0] if layout.steps else 0
        return run.empty((rows, *buffer.shape), buffer.dtype)


def _write_over(instruction: Instruction, result: int, operand: int, engine: Engine) -> bool:
    """Let an instruction write a result over one of its operands, if it can."""
    call = next((c for c in instruction.calls if c.result == result), None)
    joined = instruction.joined
    if call is None:
        return False
    if joined is not None:
        if call.in_place and not joined.writes_over(result, operand):
            joined = joined.with_last(result)
            together = engine.program(joined.program, call.dtype)
            if together is None:
                return False
            instruction.joined, instruction.together = joined, together
        return call.in_place
    return call.writes_over(call.operands.index(operand) if operand in call.operands else None)


def _delay(node: Node, slot: Callable[[Node], int]) -> Delay:
    source, initial = node.inputs
    return Delay(
        slot(node), slot(source), slot(initial), abs(node.attrs["offset"]),
        len(initial.axes or ()), node.shape or (), node.dtype,
    )  # fmt: skip


def _direction(nodes: Sequence[Node], delays: Sequence[Node]) -> tuple[Axis, bool]:
    """The time axis of a loop, and whether it runs forward.

    Raises `GraphError` if its delays point in both directions, or if an operation needs all frames.
    """
    offsets = [d.attrs["offset"] for d in delays]
    if min(offsets) < 0 < max(offsets):
        lines = [f"  {d.title} at {d.origin}" for d in delays]
        raise GraphError(
            "a cycle depends on both past and future frames, so no step can be first:\n"
            + "\n".join(lines),
            hint="use two recurrences, one per direction, and splice their outputs",
        )
    check_loop(nodes)
    return delays[0].time_axis, offsets[0] > 0
