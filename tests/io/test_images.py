"""Images from files, archives and base64, and what is done to them."""

import base64
import colorsys
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.io import (
    Base64ImageDeserializer,
    CTFDeserializer,
    ImageDeserializer,
    MinibatchSource,
    StreamDef,
    StreamDefs,
    transforms,
)
from rgraph.io.resizing import resized

Image = pytest.importorskip("PIL.Image")
RESIZED = Path(__file__).parents[1] / "reference" / "resized.npz"  # by CNTK 2.7 with its OpenCV


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """Six random images (5, 7, 3), with map files for all the ways in."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3)).astype(np.uint8)
    lines = {"map.txt": "", "zip.txt": "", "base64.txt": ""}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for i, one in enumerate(pixels):
            (tmp_path / f"{i}.png").write_bytes(png(one))
            archive.writestr(f"in/{i}.png", png(one))
            lines["map.txt"] += f".../{i}.png\t{i % 4}\n"
            lines["zip.txt"] += f"{i}\t.../all.zip@/in/{i}.png\t{i % 4}\n"
            lines["base64.txt"] += f"{i}\t{i % 4}\t{base64.b64encode(png(one)).decode()}\n"
    for name, text in lines.items():
        (tmp_path / name).write_text(text)
    return tmp_path, pixels


def streams(*todo, label=True):
    both = {"x": StreamDef("image", transforms=list(todo)), "y": StreamDef("label", 4)}
    return StreamDefs(**both) if label else StreamDefs(x=both["x"])


KINDS = [
    (ImageDeserializer, "map.txt"),
    (ImageDeserializer, "zip.txt"),
    (Base64ImageDeserializer, "base64.txt"),
]


@pytest.mark.parametrize("kind, name", KINDS)
def test_channels_come_first_and_blue_before_red(pictures, kind, name):
    path, pixels = pictures
    todo = transforms.scale(width=7, height=5, channels=3)
    source = MinibatchSource(kind(str(path / name), streams(todo)), randomize=False, max_sweeps=1)
    assert source.streams.x.shape == (3, 5, 7) and source.streams.y.is_sparse
    found = source.next_minibatch(10)
    expected = pixels[..., ::-1].transpose(0, 3, 1, 2)[:, None]
    np.testing.assert_array_equal(found[source.streams.x].asarray(), expected)
    labels = found[source.streams.y]
    assert [s.indices[0] for s in labels.as_sequences()] == [0, 1, 2, 3, 0, 1]
    assert labels.num_samples == 6 and labels.end_of_sweep


def test_images_are_joined_with_text_by_their_keys(pictures):
    path, pixels = pictures
    (path / "ctf.txt").write_text("".join(f"{i}\t|index {i}\n" for i in reversed(range(6))))
    text = CTFDeserializer(str(path / "ctf.txt"), StreamDefs(index=StreamDef("index", 1)))
    images = Base64ImageDeserializer(str(path / "base64.txt"), streams())
    source = MinibatchSource([text, images])
    found = source.next_minibatch(12)
    order = found[source.streams.index].asarray().ravel().astype(int)
    assert sorted(order[:6]) == list(range(6)) and order.tolist() != sorted(order)
    expected = pixels[order][..., ::-1].transpose(0, 3, 1, 2)[:, None]
    np.testing.assert_array_equal(found[source.streams.x].asarray(), expected)


def test_crops_of_two_readers_agree_and_follow_from_the_place(pictures):
    """The same sample has the same random crop in both; another sweep has others."""
    path, _ = pictures
    todo = transforms.crop("randomside", side_ratio=(0.5, 0.9), jitter_type="uniratio")
    size = transforms.scale(4, 4, 3)
    one = ImageDeserializer(str(path / "map.txt"), streams(todo, size, label=False))
    other = StreamDefs(other=StreamDef("image", transforms=[todo, size]))
    two = Base64ImageDeserializer(str(path / "base64.txt"), other)
    source = MinibatchSource([one, two], randomize=False)
    sweeps = []
    for _ in range(2):
        state = source.get_checkpoint_state()
        minibatch = source.next_minibatch(6)
        x, y = (minibatch[source.streams[n]].asarray() for n in ("x", "other"))
        np.testing.assert_array_equal(x, y)
        sweeps.append(x)
    assert (sweeps[0] != sweeps[1]).any()
    source.restore_from_checkpoint(state)
    np.testing.assert_array_equal(source.next_minibatch(6)[source.streams.x].asarray(), sweeps[1])


def test_a_window_over_images(pictures):
    """Each image is a chunk: all come once a sweep."""
    path, _ = pictures
    source = MinibatchSource(ImageDeserializer(str(path / "map.txt"), streams()), max_sweeps=2)
    labels = [source.next_minibatch(6)[source.streams.y].as_sequences() for _ in range(2)]
    for some in labels:
        assert sorted(s.indices[0] for s in some) == [0, 0, 1, 1, 2, 3]


HEIGHT, WIDTH = 8, 12
PICTURE = (np.arange(HEIGHT)[:, None, None] * 20 + np.arange(WIDTH)[:, None] + [0, 0, 0]).astype(
    np.uint8
)  # a pixel says where it is


def place(part):
    """The part's top, left, height and width, and whether it is mirrored."""
    rows, columns = part[:, 0, 0] // 20, part[0, :, 0] % 20
    assert (np.diff(rows) == 1).all() and (np.abs(np.diff(columns.astype(int))) == 1).all()
    mirrored = len(columns) > 1 and columns[0] > columns[-1]
    return (rows[0], columns.min(), *part.shape[:2], mirrored)


def cut(todo, view=0, seed=0):
    return place(todo(PICTURE, np.random.default_rng(seed), view))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"crop_size": (6, 4)}, (2, 3, 4, 6, False)),  # width and height
        ({"crop_size": (20, 4)}, (2, 0, 4, 12, False)),
        ({"side_ratio": 0.5}, (2, 4, 4, 4, False)),
        ({"area_ratio": 1 / 6}, (2, 4, 4, 4, False)),  # sqrt(96 / 6) = 4
        ({}, (0, 0, 8, 12, False)),
        ({"side_ratio": 1.0, "aspect_ratio": 4.0}, (0, 0, 8, 12, False)),  # nothing fits: all
    ],
)
def test_crops_in_the_center(options, expected):
    assert cut(transforms.crop("center", **options)) == expected


def test_ten_views(pictures):
    crop = transforms.crop("multiview10", side_ratio=0.5)
    places = [cut(crop, view)[:2] for view in range(5)]
    assert places == [(0, 0), (0, 8), (4, 0), (4, 8), (2, 4)]
    assert [cut(crop, view)[4] for view in range(10)] == [False] * 5 + [True] * 5
    path, _ = pictures
    source = MinibatchSource(ImageDeserializer(str(path / "map.txt"), streams(crop)), max_sweeps=1)
    assert source.next_minibatch(100)[source.streams.x].num_samples == 60


@pytest.mark.parametrize(
    "kind, ratio", [("randomside", "side_ratio"), ("randomarea", "area_ratio")]
)
def test_random_crops(kind, ratio):
    todo = transforms.crop(kind, jitter_type="uniratio", **{ratio: (0.2, 0.6)})
    found = [cut(todo, seed=i) for i in range(200)]
    assert 60 < sum(f[4] for f in found) < 140
    assert len({f[:2] for f in found}) > 20 and len({f[2] for f in found}) > 2
    assert all(h == w for _, _, h, w, _ in found)
    assert cut(todo, seed=3) == found[3]
    aspect = transforms.crop(kind, aspect_ratio=0.5, **{ratio: 0.35})
    shapes = {cut(aspect, seed=i)[2:4] for i in range(30)}
    assert len(shapes) == 2 and {s[::-1] for s in shapes} == shapes


@pytest.mark.parametrize("size", [(3, 4), (8, 12), (13, 30), (5, 40)])
@pytest.mark.parametrize("kernel", ["nearest", "linear", "cubic"])
def test_resizing_is_pytorchs_without_smoothing(kernel, size):
    """PyTorch's kernels are OpenCV's: half pixels, and -0.75 for cubic ones."""
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.float32)
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[kernel]
    data = torch.tensor(image.transpose(2, 0, 1)[None])
    expected = torch.nn.functional.interpolate(data, size=size, mode=mode)[0].permute(1, 2, 0)
    found = resized(image, size[1], size[0], kernel)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("image", ["smaller", "larger", "double"])
@pytest.mark.parametrize("kernel", ["linear", "cubic", "lanczos"])
def test_bytes_are_resized_to_cntks_last_bit(kernel, image):
    with np.load(RESIZED) as recorded:
        found = resized(recorded["image" + image], 10, 12, kernel)
        np.testing.assert_array_equal(found, recorded[kernel + image])


def test_lanczos_keeps_what_is_even():
    np.testing.assert_array_equal(resized(np.full((5, 6, 3), 77, np.uint8), 13, 4, "lanczos"), 77)


def test_scale_modes():
    random = np.random.default_rng(0)
    square = PICTURE[:, :, :]

    def shape(mode, **more):
        return transforms.scale(6, 6, 3, scale_mode=mode, **more)(square, random, 0)

    assert shape("fill").shape == shape("crop").shape == shape("pad").shape == (6, 6, 3)
    # 12x8 into 6x6: 6x4 with a row above and below
    padded = shape("pad", pad_value=9)
    assert (padded[[0, 5]] == 9).all() and (padded[1:5] != 9).any()
    replicated = shape("pad")
    np.testing.assert_array_equal(replicated[0], replicated[1])
    # 12x8 to fill 6x6: 9x6, of which one column is cut off at the left
    np.testing.assert_array_equal(shape("crop"), resized(square, 9, 6, "linear")[:, 1:7])


def test_a_mean_image(tmp_path):
    mean = np.arange(12.0).reshape(2, 2, 3)
    data = " ".join(map(str, mean.ravel()))
    (tmp_path / "mean.xml").write_text(
        '<?xml version="1.0"?><opencv_storage><Channel>3</Channel><Row>2</Row><Col>2</Col>'
        '<MeanImg type_id="opencv-matrix"><rows>1</rows><cols>12</cols><dt>f</dt>'
        f"<data>{data}</data></MeanImg></opencv_storage>"
    )
    todo = transforms.mean(str(tmp_path / "mean.xml"))
    found = todo(np.full((2, 2, 3), 20, np.uint8), np.random.default_rng(0), 0)
    np.testing.assert_array_equal(found, 20 - mean)
    with pytest.raises(C.GraphError, match="an image is"):
        todo(PICTURE, np.random.default_rng(0), 0)
    with pytest.raises(C.GraphError, match="has no mean image"):
        transforms.mean("nowhere.xml")(PICTURE, np.random.default_rng(0), 0)


def test_colors():
    """By hand, from the same random numbers; saturation as in the standard library."""
    image = np.random.default_rng(1).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    draws = np.random.default_rng(2).uniform(-1, 1, 3)
    found = transforms.color(0.2, 0.3)(image, np.random.default_rng(2), 0)
    expected = image * (1 + 0.3 * draws[1]) + 0.2 * draws[0] * image.mean()
    np.testing.assert_allclose(found, np.clip(expected, 0, 255), rtol=1e-4)
    found = transforms.color(saturation_radius=0.8)(image, np.random.default_rng(2), 0)
    for mine, bgr in zip(found.reshape(-1, 3), image.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(bgr[::-1] / 255.0))
        wanted = np.array(colorsys.hsv_to_rgb(h, min(s * (1 + 0.8 * draws[2]), 1), v)) * 255
        np.testing.assert_allclose(mine[::-1], wanted, rtol=1e-3, atol=0.01)


WRONG = [
    ({"crop_type": "middle"}, "crop_type must be"),
    ({"jitter_type": "much"}, "jitter_type must be"),
    ({"side_ratio": 2.0}, "side_ratio must be from 0 to 1"),
    ({"aspect_ratio": 0.0}, "aspect_ratio must be above 0"),
    ({"side_ratio": 0.5, "area_ratio": 0.5}, "or an area_ratio"),
    ({"crop_type": "randomside"}, "needs side_ratio"),
]


@pytest.mark.parametrize("options, message", WRONG)
def test_crops_that_make_no_sense(options, message):
    with pytest.raises(C.GraphError, match=message):
        transforms.crop(**options)


def test_wrong_files_are_refused_with_their_line(pictures, monkeypatch):
    path, _ = pictures
    (path / "bad.txt").write_text(".../0.png\t0\n.../1.png\t9\n")
    with pytest.raises(C.GraphError, match=r"bad\.txt, line 2: a class must be from 0 to 3"):
        MinibatchSource(ImageDeserializer(str(path / "bad.txt"), streams()))
    (path / "bad.txt").write_text(".../nowhere.png\t0\n")
    with pytest.raises(C.GraphError, match=r"can't read an image: .*nowhere"):
        MinibatchSource(ImageDeserializer(str(path / "bad.txt"), streams())).next_minibatch(1)
    with pytest.raises(C.GraphError, match="there is no file"):
        MinibatchSource(ImageDeserializer("nowhere.txt", streams()))
    with pytest.raises(ValueError, match="field='image'"):
        ImageDeserializer("map.txt", StreamDefs(y=StreamDef("label", 4)))
    small = transforms.crop("randomside", side_ratio=(0.3, 0.9), jitter_type="uniratio")
    with pytest.raises(C.GraphError, match="must have the same shape"):
        MinibatchSource(ImageDeserializer(str(path / "map.txt"), streams(small))).next_minibatch(6)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install Pillow"):
        MinibatchSource(ImageDeserializer(str(path / "map.txt"), streams())).next_minibatch(1)
