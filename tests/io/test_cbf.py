"""CNTK's binary format: files written by hand, byte for byte, that real CNTK 2.7 reads alike."""

import struct

import numpy as np
import pytest

import rgraph as C
from rgraph.io import CBFDeserializer, CTFDeserializer, MinibatchSource, StreamDef, StreamDefs

MAGIC = 0x636E746B5F62696E

# Of each sequence: frames of x (dense, 2), frames of y (sparse, of 5) as lists of pairs
DATA = [
    ([[1, 2], [3, 4], [5, 6]], [[(0, 1.5), (4, -2)], []]),
    ([[7, 8]], [[(3, 9)], [(1, 2)]]),
    ([[9, 10], [11, 12]], [[(2, 0.25)]]),
]


def binary(chunks, number="f"):
    """The file's bytes."""
    out = struct.pack("<QI", MAGIC, 1)
    table = b""
    for chunk in chunks:
        lengths = [max(len(x), len(y)) for x, y in chunk]
        table += struct.pack("<qII", len(out), len(chunk), sum(lengths))
        out += struct.pack(f"<{len(chunk)}I", *lengths)
        for x, _ in chunk:
            out += struct.pack(f"<I{2 * len(x)}{number}", len(x), *np.ravel(x).tolist())
        for _, y in chunk:
            pairs = [pair for frame in y for pair in frame]
            out += struct.pack("<Ii", len(y), len(pairs))
            out += struct.pack(f"<{len(pairs)}{number}", *(v for _, v in pairs))
            out += struct.pack(f"<{len(pairs)}i", *(i for i, _ in pairs))
            out += struct.pack(f"<{len(y)}i", *map(len, y))
    header = struct.pack("<QII", MAGIC, len(chunks), 2)
    for kind, name, size in ((0, b"x", 2), (1, b"why", 5)):
        header += (
            struct.pack("<BI", kind, len(name)) + name + struct.pack("<BI", number == "d", size)
        )
    return out + header + table + struct.pack("<q", len(out))


def text():
    lines = ""
    for i, (x, y) in enumerate(DATA):
        for t in range(max(len(x), len(y))):
            lines += f"{i} "
            if t < len(x):
                lines += f"|x {x[t][0]} {x[t][1]} "
            if t < len(y):
                lines += "|why " + " ".join(f"{k}:{v}" for k, v in y[t])
            lines += "\n"
    return lines


@pytest.mark.parametrize("number", ["f", "d"])
@pytest.mark.parametrize("chunks", [[DATA], [DATA[:1], DATA[1:]]])
@pytest.mark.parametrize("randomize", [False, True])
def test_it_reads_what_the_text_says(tmp_path, number, chunks, randomize):
    (tmp_path / "data.bin").write_bytes(binary(chunks, number))
    (tmp_path / "data.txt").write_text(text())
    streams = StreamDefs(x=StreamDef("x", 2), y=StreamDef("why", 5, is_sparse=True))
    options = {"randomize": randomize and len(chunks) == 1}
    one = MinibatchSource(CBFDeserializer(str(tmp_path / "data.bin"), streams), **options)
    two = MinibatchSource(CTFDeserializer(str(tmp_path / "data.txt"), streams), **options)
    for size in (4, 1, 10, 3):
        first, second = one.next_minibatch(size), two.next_minibatch(size)
        for name in ("x", "y"):
            a, b = first[one.streams[name]], second[two.streams[name]]
            assert (a.num_samples, a.end_of_sweep, a.shape) == (
                b.num_samples,
                b.end_of_sweep,
                b.shape,
            )
            for u, v in zip(a.as_sequences(), b.as_sequences(), strict=True):
                if a.is_sparse:
                    u, v = u.toarray(), v.toarray()
                np.testing.assert_array_equal(u, v)


def test_samples_and_names(tmp_path):
    (tmp_path / "data.bin").write_bytes(binary([[([[i, -i]], [[(i, 1)]]) for i in range(5)]]))
    source = MinibatchSource(CBFDeserializer(str(tmp_path / "data.bin")), randomize=False)
    assert list(source.streams) == ["x", "why"]
    minibatch = source.next_minibatch(3)
    assert minibatch[source.streams.x].asarray().tolist() == [[[0, 0]], [[1, -1]], [[2, -2]]]
    assert minibatch[source.streams.why].asarray().argmax(2).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda b: b"x" + b[1:], "is not in CNTK's binary format"),
        (lambda b: b[:8] + b"\2" + b[9:], "has version 2"),
        (lambda b: b[:-40], "is damaged"),
        (lambda b: b[:6], "is damaged"),
        (lambda b: b[:24] + b"\xff" + b[25:], "can't read a chunk"),
    ],
)
def test_damaged_files(tmp_path, spoil, message):
    (tmp_path / "data.bin").write_bytes(spoil(binary([DATA])))
    with pytest.raises(C.GraphError, match=message):
        MinibatchSource(
            CBFDeserializer(str(tmp_path / "data.bin")), randomize=False
        ).next_minibatch(9)
    with pytest.raises(C.GraphError, match="there is no file"):
        MinibatchSource(CBFDeserializer("nowhere.bin"))
