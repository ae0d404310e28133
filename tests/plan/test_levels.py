"""What of a loop's step may be done beside the rest."""

from rgraph.plan.levels import levels
from rgraph.plan.program import Buffer, Holds, Instruction, LoopProgram, Place, Rule


class Call:
    """A call of an operation that draws nothing and for which nobody waits."""

    class node:
        class op:
            draws = waits = False


def program(*instructions, rules=()):
    """Instructions as (operands, results), over values of which each has a buffer of its own."""
    count = 1 + max(v for i in instructions for values in i for v in values)
    places = [Place(dict(rules).get(v, Rule.FIRST_ROWS), v) for v in range(count)]
    buffers = [Buffer(Holds.STEP, v) for v in range(count)]
    made = [Instruction((Call(),), tuple(reads), tuple(writes)) for reads, writes in instructions]
    return LoopProgram(buffers, places, made)


def test_both_gates_of_a_gru_and_then_what_reads_them():
    h, z, r, new = range(4)
    found = levels(program(([h], [z]), ([h], [r]), ([h, z, r], [new])))
    assert found == [([0], [1]), ([2], [])]


def test_what_is_written_where_another_reads_or_writes_comes_after_it():
    assert levels(program(([0], [1]), ([2], [0]))) == [([0], []), ([1], [])]
    assert levels(program(([0], [1]), ([2], [1]))) == [([0], []), ([1], [])]
    for sharing in ("shared", "over"):
        same = program(([0], [1]), ([2], [3]))
        setattr(same, sharing, {3: 1})
        assert levels(same) == [([0], []), ([1], [])]


def test_memory_of_a_kernel_s_own_stays_in_order():
    given = {3: Rule.RESULT}.items()
    assert levels(program(([0], [1]), ([2], [3]), rules=given)) == [([0, 1], [])]


def test_half_of_what_is_free_goes_beside_the_rest():
    assert levels(program(*(([0], [n]) for n in range(1, 6)))) == [([0, 2, 4], [1, 3])]
