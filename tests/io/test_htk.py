"""HTK's features and labels of speech. What is expected is what stands in files written here; real
CNTK 2.7 reads the same from them.
"""

import struct

import numpy as np
import pytest

import rgraph as C
from rgraph.io import (
    HTKFeatureDeserializer,
    HTKMLFBinaryDeserializer,
    HTKMLFDeserializer,
    MinibatchSource,
    StreamDef,
    StreamDefs,
)

RNG = np.random.default_rng(0)
USER, MFCC, COMPRESSED = 9, 6, 0o2000


def features(path, frames, order=">", kind=USER, extra=0):
    """An HTK file of these frames."""
    count, size = frames.shape
    header = struct.pack(f"{order}2I2H", count + extra, 100_000, 4 * size, kind)
    path.write_bytes(header + frames.astype(f"{order}f4").tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two utterances of 3 and 4 frames of two numbers, with labels."""
    monkeypatch.chdir(tmp_path)
    features(tmp_path / "all.feat", np.arange(20.0).reshape(10, 2))
    (tmp_path / "x.scp").write_text("say/a.mfc=all.feat[0,2]\nsay/b.mfc=all.feat[5,8]\n")
    (tmp_path / "states").write_text("sil\naa\nbb\n")
    (tmp_path / "y.mlf").write_text(
        '#!MLF!#\n"*/say/b.lab"\n0 200000 bb\n200000 400000 sil\n.\n'
        '"say/a.lab"\n0 100000 sil -1.5 x\n100000 300000 aa\n.\n'
    )
    return tmp_path


def x(**options):
    options = {"shape": 2, "scp": "x.scp"} | options
    return HTKFeatureDeserializer(StreamDefs(x=StreamDef(**options)))


def y(mapping="states", mlf="y.mlf", **options):
    return HTKMLFDeserializer(mapping, StreamDefs(y=StreamDef(shape=3, mlf=mlf)), **options)


def read(deserializers, size=100, **options):
    """All sequences of the next minibatch, by stream."""
    options = {"randomize": False, "max_sweeps": 1} | options
    minibatch = MinibatchSource(deserializers, **options).next_minibatch(size)
    return {s.name: data.as_sequences() for s, data in minibatch.items()}


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        one = one.toarray() if hasattr(one, "toarray") else one
        np.testing.assert_allclose(one, other)


A, B = [[0, 1], [2, 3], [4, 5]], [[10, 11], [12, 13], [14, 15], [16, 17]]


def test_features_and_labels_of_the_same_utterances(folder):
    found = read([x(), y()])
    same(found["x"], [A, B])
    same(found["y"], [np.eye(3)[[0, 1, 1]], np.eye(3)[[2, 2, 0, 0]]])


def test_frames_around_each_stand_beside_it(folder):
    found = read(x(context=(1, 2)))["x"][0]
    same(found, [[0, 1, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 4, 5], [2, 3, 4, 5, 4, 5, 4, 5]])
    by_shape = read(x(shape=6))["x"][0]  # three frames, as the shape says
    same(by_shape, [[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 4, 5]])


def test_the_first_frame_of_a_label_is_marked(folder):
    found = read([x(), y(phoneBoundaries=True)])["y"]
    same(found[1:], [[[0, 0, 2], [0, 0, 1], [2, 0, 0], [1, 0, 0]]])


def test_frame_by_frame(folder):
    found = read([x(context=(1, 0)), y()], size=4, frame_mode=True)
    same(found["x"], [[[0, 1, 0, 1]], [[0, 1, 2, 3]], [[2, 3, 4, 5]], [[10, 11, 10, 11]]])
    same(found["y"], [[[1, 0, 0]], [[0, 1, 0]], [[0, 1, 0]], [[0, 0, 1]]])


def test_one_frame_for_all_of_an_utterance(folder):
    features(folder / "who.feat", np.array([[7.0], [8.0]]))
    (folder / "who.scp").write_text("say/b.mfc=who.feat[1,1]\nsay/a.mfc=who.feat[0,0]\n")
    who = StreamDefs(who=StreamDef(shape=1, scp="who.scp", broadcast=True))
    found = read([x(), HTKFeatureDeserializer(who)])["who"]
    same(found, [[[7]] * 3, [[8]] * 4])


def test_either_order_of_bytes_and_compressed_numbers(folder):
    frames = RNG.normal(size=(6, 3))
    features(folder / "little.feat", frames, "<", MFCC)
    low, high = frames.min(0), frames.max(0)  # The HTK Book: n = x A - B fits into 16 bits
    scale, shift = 2 * 32767 / (high - low), (high + low) * 32767 / (high - low)
    numbers = np.round(frames * scale - shift).astype(">i2")
    header = struct.pack(">2I2H", 6 + 4, 100_000, 6, MFCC | COMPRESSED)
    both = np.array([scale, shift], ">f4")
    (folder / "small.feat").write_bytes(header + both.tobytes() + numbers.tobytes())
    for name in ("little", "small"):
        (folder / "l.scp").write_text(f"u={name}.feat\n")  # the whole file
        (found,) = read(x(shape=3, scp="l.scp"))["x"]
        np.testing.assert_allclose(found, frames, atol=(high - low).max() / 65000)


def test_labels_by_numbers_and_in_frames(folder):
    (folder / "n.mlf").write_text('#!MLF!#\n"say/a.lab"\n0 1 p 2\n1 3 q 0\n.\n')
    found = read([x(), y("", "n.mlf")])
    same(found["x"], [A])
    same(found["y"], [np.eye(3)[[2, 0, 0]]])


def test_long_utterances_are_left_out(folder):
    same(read(x(max_sequence_length=3))["x"], [A])


def test_pieces_of_utterances(folder):
    found = read([x(), y()], size=4, truncation_length=2)
    same(found["x"], [A[:2], B[:2]])
    same(found["y"], [np.eye(3)[[0, 1]], np.eye(3)[[2, 2]]])


def refused(deserializers, *parts):
    with pytest.raises(C.GraphError) as caught:
        read(deserializers)
    for part in parts:
        assert part in str(caught.value)


def binary(version, *utterances):
    """A binary label file; real CNTK 2.7 reads both versions as is expected here."""
    data = struct.pack("<3sh", b"MLF", version)
    for key, labels in utterances:
        named = struct.pack("<H", len(str(key))) + str(key).encode()
        data += struct.pack("<I", key) if version == 1 else named
        data += struct.pack("<IH", sum(n for _, n in labels), len(labels))
        data += b"".join(struct.pack("<2H", *pair) for pair in labels)
    return data


OF_A, OF_B = [(0, 1), (1, 2)], [(2, 2), (0, 2)]


@pytest.mark.parametrize("version, keys", [(1, (7, 9)), (2, ("say/a", "say/b"))])
def test_binary_labels(folder, version, keys):
    a, b = keys
    (folder / "x.scp").write_text(f"{a}.mfc=all.feat[0,2]\n{b}.mfc=all.feat[5,8]\n")
    (folder / "y.bin").write_bytes(binary(version, (b, OF_B), (a, OF_A)))
    labels = HTKMLFBinaryDeserializer(StreamDefs(y=StreamDef(shape=3, mlf="y.bin")))
    found = read([x(), labels])["y"]
    assert [f.toarray().argmax(1).tolist() for f in found] == [[0, 1, 1], [2, 2, 0, 0]]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"MLX" + binary(2, ("say/a", OF_A))[3:], "does not begin with MLF"),
        (binary(3, ("say/a", OF_A)), "has version 3; only versions 1 and 2 are supported"),
        (binary(2, ("say/a", OF_A))[:-3], "y.bin ends within utterance 'say/a'"),
        (binary(2, ("say/a", [(3, 3)])), "utterance 'say/a': a label must be from 0 to 2, got 3"),
        (binary(2, ("say/a", OF_A))[:-2] + b"\1\0", "labels for 2 frames, but its header gives 3"),
    ],
)
def test_what_is_wrong_with_binary_labels(folder, data, message):
    (folder / "y.bin").write_bytes(data)
    labels = HTKMLFBinaryDeserializer(StreamDefs(y=StreamDef(shape=3, mlf="y.bin")))
    with pytest.raises(C.GraphError, match=message):
        read([x(), labels])


def test_what_is_wrong_is_named_with_file_and_line(folder):
    def scp(text):
        (folder / "bad.scp").write_text(text)
        return x(scp="bad.scp")

    def mlf(text):
        (folder / "bad.mlf").write_text(text)
        return [x(), y(mlf="bad.mlf")]

    begin = '#!MLF!#\n"say/a.lab"\n'
    refused(x(scp="no.scp"), "no file no.scp")
    refused(scp("a=all.feat[3]\n"), "bad.scp, line 1", "key=file[first frame,last frame]")
    refused(scp("a=all.feat[0,1]\n\nb=all.feat[5,x]\n"), "bad.scp, line 3")
    refused(scp("a=all.feat[8,10]\n"), "all.feat has 10 frames", "8 to 10")
    refused(scp("a=x.scp[0,1]\n"), "x.scp")
    refused(scp("a.b=all.feat[0,1]\na.c=all.feat[0,1]\n"), "2 utterances with the key 'a'")
    refused(scp(""), "no utterance")
    refused(x(shape=3), "2 numbers per frame", "shape=2")
    refused(mlf('"say/a.lab"\n'), "bad.mlf is not a master label file")
    refused(mlf(f"{begin}0 300000 dd\n.\n"), "bad.mlf, line 3", "'dd' is not in states")
    refused(mlf(f"{begin}0 100000 aa\n200000 300000 aa\n.\n"), "bad.mlf, line 4", "2 to 3")
    refused(mlf(f"{begin}zero 1 aa\n.\n"), "bad.mlf, line 3", "two times")
    refused(mlf(f"{begin}0 300000 aa\n"), "bad.mlf, line 2", "one dot")
    refused(mlf(f"{begin}.\n"), "bad.mlf, line 2", "no labels")
    refused(mlf("#!MLF!#\nsay/a.lab\n0 300000 aa\n.\n"), "bad.mlf, line 2", "in quotes")
    refused(y(), "can't be read first or alone", "HTKFeatureDeserializer")
    (folder / "twice").write_text("aa\nbb\naa\n")
    refused([x(), y("twice")], "twice, line 3", "'aa'")
