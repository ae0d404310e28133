"""CNTK's text format. What is read, and what is refused, is as real CNTK 2.7 answered."""

import numpy as np
import pytest

import rgraph as C
from rgraph.engines.native.library import NativeError
from rgraph.engines.native.text import parse as in_c
from rgraph.io import CTFDeserializer, MinibatchSource, StreamDef, StreamDefs, ctf_slow
from rgraph.io import ctf as reader


@pytest.fixture(params=["c", "python"])
def parser(request, monkeypatch):
    """Both parsers must say the same."""
    if request.param == "python":
        monkeypatch.setattr(reader, "_parser", lambda: ctf_slow.parse)
    else:
        try:
            in_c(b"", 0, [])
        except NativeError as error:
            pytest.skip(str(error))


def source(path, text, streams, **options):
    path = path / "data.txt"
    path.write_bytes(text.encode())
    options = {"randomize": False, "max_sweeps": 1, **options}
    return MinibatchSource(CTFDeserializer(str(path), StreamDefs(**streams)), **options)


def read(path, text, **streams):
    s = source(path, text, streams)
    minibatch = s.next_minibatch(100)
    return {n: [v.tolist() for v in minibatch[s.streams[n]].as_sequences()] for n in streams}


X, Y = StreamDef("x", 1), StreamDef("y", 1)

READ = [  # text, streams, sequences of x
    ("|x 1 2\n|x 3\n", StreamDef("x", 3), [[[1, 2, 0]], [[3, 0, 0]]]),
    ("|x 1\n|x 2", X, [[[1]], [[2]]]),
    ("|x 1\r\n|x 2\r\n", X, [[[1]], [[2]]]),
    ("|x\t1\t2\n|x 3 4\n", StreamDef("x", 2), [[[1, 2]], [[3, 4]]]),
    ("|z 9 9 |x 1 |y 2\n|x 3 |# y |y 4 |# end\n", X, [[[1]], [[3]]]),
    ("|xx 1 |x 2\n|x 3 |xx 4\n", X, [[[2]], [[3]]]),
    ("0 |x 1\n|x 2\n1 |x 3\n", X, [[[1], [2]], [[3]]]),
    ("0 |x 1\n1 |x 2\n0 |x 3\n", X, [[[1]], [[2]], [[3]]]),
    ("0|x 1\n0|x 2\n", X, [[[1], [2]]]),
    ("\ufeff|x 1\n", X, [[[1]]]),
    ("  |x 1\n  |x 2\n", X, [[[1]], [[2]]]),
    ("|x |y 1\n|x 3 |y 2\n", StreamDef("x", 2), [[[0, 0]], [[3, 0]]]),
    ("|x 1e2 -3.5E-1 +7 .5\n", StreamDef("x", 4), [[[100, -0.35, 7, 0.5]]]),  # not in CNTK
]


@pytest.mark.parametrize("text, stream, expected", READ)
def test_dense_samples(parser, tmp_path, text, stream, expected):
    for found, wanted in zip(read(tmp_path, text, x=stream)["x"], expected, strict=True):
        np.testing.assert_array_equal(found, np.array(wanted, np.float32))


def test_numbers_are_pythons(parser, tmp_path):
    """To the nearest float32, as Python's float and NumPy's rounding have it."""
    words = "123456789012345678901234567890 1e400 1e-400 0.1234567890123456789 -1e-40 16777217 3."
    (found,) = read(tmp_path, f"|x {words}\n", x=StreamDef("x", 7))["x"]
    with np.errstate(over="ignore"):
        expected = np.array([float(w) for w in words.split()]).astype(np.float32)
    np.testing.assert_array_equal(found[0], expected)
    numbers = np.random.default_rng(0).normal(size=(50, 20)) * 10.0 ** np.arange(-10, 10)
    text = "".join("|x " + " ".join(map(repr, row)) + "\n" for row in numbers.tolist())
    found = read(tmp_path, text, x=StreamDef("x", 20))["x"]
    np.testing.assert_array_equal(np.array(found)[:, 0], numbers.astype(np.float32))


def test_sparse_samples(parser, tmp_path):
    text = "3 |x 1:2 5:7 |y 1\n3 |x 0:1\n4 |x |y 2\n"
    s = source(tmp_path, text, {"x": StreamDef("x", 6, is_sparse=True), "y": Y})
    minibatch = s.next_minibatch(10)
    x = minibatch[s.streams.x]
    assert x.is_sparse and x.shape == (2, 2, 6) and (x.num_sequences, x.num_samples) == (2, 3)
    shaped = source(tmp_path, text, {"x": StreamDef("x", (2, 3), is_sparse=True), "y": Y})
    shaped = shaped.next_minibatch(10)[shaped.streams.x].data
    assert shaped.shape == (2, 2, 2, 3) and shaped.content[0].shape[1:] == (2, 3)
    first, second = x.as_sequences()
    assert first.toarray().tolist() == [[0, 2, 0, 0, 0, 7], [1, 0, 0, 0, 0, 0]]
    assert second.nnz == 0 and "content" not in vars(x.data)  # nobody needed it dense
    v = C.sequence.input_variable(6)
    assert [r.sum() for r in (v * 1).eval({v: x})] == [10, 0]
    assert minibatch[s.streams.y].num_samples == 2


REFUSED = [  # text, size, streams besides x, message
    ("|x 1 2 3 4\n", 3, {}, r"data\.txt, line 1, column 10: '4' of 'x'.*only 3 values"),
    ("|x 1 1 1\n|x 1 a 3\n", 3, {}, "line 2, column 6: 'a' of 'x': is not a number"),
    ("|x nan 1\n", 2, {}, "'nan'"),
    ("|x 0x10 1\n", 2, {}, "'0x10'"),
    ("|x 1,2\n", 2, {}, "'1,2'"),
    ("|x 1#2\n", 2, {}, "'1#2'"),
    ("|x 1\n|x 1 y 2\n", 2, {}, "line 2, column 6: 'y'"),
    ("|x 1\nx 1\n", 1, {}, "line 2, column 1: 'x': a stream begins with"),
    ("|x 1\n| 1\n", 1, {}, "line 2, column 2: '1': '|' must be followed"),
    ("|x 1\n|y 2 |x 4\n", 1, {"y": Y}, "line 1: the sequence has no sample of stream 'y'"),
    ("|x 1\n\n|x 2\n", 1, {}, "line 2: the sequence has no sample of stream 'x'"),
    ("0 |x 1\n0 |# c\n1 |x 3\n", 1, {}, "line 1: the sequence has 2 lines, and 1 samples"),
    ("0 |x 1 |x 2\n1 |x 3\n2 |# c\n", 1, {}, "line 3: the sequence has no sample"),
    ("|x 1 |x 2\n|x 3\n", 1, {}, "a stream has more samples than the sequence has lines"),
    ("a |x 1\n", 1, {}, "line 1: a line must begin with"),
    ("-1 |x 1\n", 1, {}, "line 1: a line must begin with"),
    ("", 1, {}, "is empty"),
    ("|x 1:2 6:7\n", -6, {}, "line 1, column 8: '6:7' of 'x': the stream has 6 columns"),
    ("|x 1 2\n", -6, {}, "written index:value"),
    ("|x 1:a\n", -6, {}, "'a' of 'x': is not a number"),
]


@pytest.mark.parametrize("text, size, others, message", REFUSED)
def test_what_does_not_suit_is_refused_with_its_line(parser, tmp_path, text, size, others, message):
    x = StreamDef("x", abs(size), is_sparse=size < 0)
    with pytest.raises(C.GraphError, match=message):
        source(tmp_path, text, {"x": x, **others}).next_minibatch(10)


def test_a_file_that_is_not_there():
    with pytest.raises(C.GraphError, match="there is no file nowhere"):
        MinibatchSource(CTFDeserializer("nowhere.txt", StreamDefs(x=X)))
    with pytest.raises(ValueError, match="its size"):
        CTFDeserializer("nowhere.txt", StreamDefs(x=StreamDef("x")))


def test_one_stream_defines_the_size(parser, tmp_path):
    """Real CNTK: 3 samples of y are asked for, and come with 5 of x."""
    text = "0 |x 1 |y 1\n0 |x 2\n1 |x 3 |y 2\n1 |x 4\n2 |x 5 |y 3\n3 |x 6 |y 4\n"
    streams = {"x": X, "y": StreamDef("y", 1, defines_mb_size=True)}
    s = source(tmp_path, text, streams)
    minibatch = s.next_minibatch(3)
    assert [minibatch[s.streams[n]].num_samples for n in "xy"] == [5, 3]


@pytest.mark.parametrize("chunk", [1, 60, 10_000])
def test_chunks_change_nothing(parser, tmp_path, monkeypatch, chunk):
    """Whole sequences are in a chunk, and each is found by its number."""
    monkeypatch.setattr(reader, "_CHUNK", chunk)
    lengths = [1, 4, 2, 7, 1, 1, 3]
    lines = [f"{10 + i} |x {i} {t}\n" for i, n in enumerate(lengths) for t in range(n)]
    s = source(tmp_path, "".join(lines), {"x": StreamDef("x", 2)})
    data = s._data
    assert len(data.chunk_infos()) == {1: 7, 60: 4, 10_000: 1}[chunk]
    keys = [k for c in range(len(data.chunk_infos())) for k in data.keys(c)]
    assert keys == [10, 11, 12, 13, 14, 15, 16]
    found = []
    while minibatch := s.next_minibatch(5):
        found += [v.tolist() for v in minibatch[s.streams.x].as_sequences()]
    assert found == [[[i, t] for t in range(n)] for i, n in enumerate(lengths)]


def test_files_are_joined_by_the_sequences_numbers(parser, tmp_path):
    """The first has the order; what the second lacks is left out."""
    (tmp_path / "second.txt").write_text("3 |y 30\n1 |y 10\n1 |y 11\n2 |y 20\n")
    (tmp_path / "first.txt").write_text("1 |x 1\n2 |x 2\n4 |x 4\n3 |x 3\n")
    files = zip(("first.txt", "second.txt"), (StreamDefs(x=X), StreamDefs(y=Y)), strict=True)
    readers = [CTFDeserializer(str(tmp_path / name), streams) for name, streams in files]
    s = MinibatchSource(readers, randomize=False, max_sweeps=1)
    minibatch = s.next_minibatch(100)
    x, y = (minibatch[s.streams[n]].as_sequences() for n in "xy")
    assert [v.ravel().tolist() for v in x] == [[1], [2], [3]]
    assert [v.ravel().tolist() for v in y] == [[10, 11], [20], [30]]


def test_what_is_written_is_read(parser, tmp_path):
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(n, 2, 2)).astype(np.float32) for n in (3, 1)]
    y = [[{2: 1.5, 0: -1.0}], [{1: 2.0}]]
    write = C.io.sequence_to_cntk_text_format
    text = "\n".join(write(i, {"x": a, "y": b}) for i, (a, b) in enumerate(zip(x, y, strict=True)))
    s = source(tmp_path, text, {"x": StreamDef("x", (2, 2)), "y": StreamDef("y", 3, True)})
    minibatch = s.next_minibatch(10)
    for found, given in zip(minibatch[s.streams.x].as_sequences(), x, strict=True):
        np.testing.assert_array_equal(found, given)
    found = [v.toarray().tolist() for v in minibatch[s.streams.y].as_sequences()]
    assert found == [[[-1, 0, 1.5]], [[0, 2, 0]]]
    with pytest.raises(ValueError, match="must be an array"):
        write(0, {"A": [object()]})
    assert write(0, {"W": np.array([])}) == ""


def test_flat_samples_for_an_input_of_another_shape(tmp_path):
    """As CNTK 2.7: what a source read takes the shape of the input, what a program gives not."""
    file = tmp_path / "data.txt"
    file.write_text("0 |a 1 2 3 4 5 6\n0 |a 6 5 4 3 2 1\n1 |a 1 1 1 1 1 1\n")
    streams = StreamDefs(a=StreamDef("a", 6))
    reader = MinibatchSource(CTFDeserializer(str(file), streams), randomize=False)
    x = C.sequence.input_variable((2, 3))
    minibatch = reader.next_minibatch(3, input_map={x: reader.streams.a})
    first, second = C.reduce_sum(x, axis=0).eval(minibatch)
    assert first.tolist() == [[[5, 7, 9]], [[9, 7, 5]]]
    assert second.tolist() == [[[2, 2, 2]]]
    with pytest.raises(C.GraphError, match="was given an array of shape"):
        C.reduce_sum(x).eval({x: np.ones((2, 3, 6))})
