"""Makes the data that CNTK's programs read: small, random, and the same each time."""

import gzip
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGES = "Examples/Image/DataSets"
STOCK = """
import numpy as np
import pandas as pd


class data:
    def DataReader(contract, source, start, end):
        days = pd.bdate_range(start, end)
        crisis = days.searchsorted(pd.Timestamp("2009-01-20"))
        first = days.searchsorted(pd.Timestamp("2001-02-05"))
        chosen = np.r_[:first, crisis - 1999 : crisis + 2000]  # 2000 days before, 2000 after
        days = days[chosen]
        random = np.random.RandomState(0)
        close = 100 * np.exp(np.cumsum(0.01 * random.randn(len(days))))
        columns = {"Open": close * 0.99, "High": close * 1.01, "Low": close * 0.98, "Close": close}
        columns["Volume"] = random.randint(10**6, 10**7, len(days)).astype(float)
        return pd.DataFrame(columns, index=days)
"""
ASKED = "BOS EOS what contribution did e1 made to science in 1665"
ANSWERED = "BOS EOS book author book_editions_published language human_language main_country"
WORDS = [f"w{i}" for i in range(998)]


def make(root: Path) -> None:
    """Puts the data where the programs below `root`, a copy of CNTK's checkout, look for it."""
    makers = mnist, cifar, photographs, imagenet, sequences, questions, speech, words, tables
    for maker in makers:
        maker(root)


def draws() -> np.random.RandomState:
    return np.random.RandomState(0)


def text_format(file: Path, rows: int, size: int, classes: int) -> None:
    """Labels and images as CNTK's text format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    random, hot = draws(), np.eye(classes, dtype=int)
    with file.open("w") as out:
        for _ in range(rows):
            pixels = random.randint(0, 256, size) * (random.rand(size) < 0.3)
            label = " ".join(map(str, hot[random.randint(classes)]))
            out.write(f"|labels {label} |features {' '.join(map(str, pixels))}\n")


def mnist(root: Path) -> None:
    folder = root / IMAGES / "MNIST"
    text_format(folder / "Train-28x28_cntk_text.txt", 3000, 784, 10)
    text_format(folder / "Test-28x28_cntk_text.txt", 10000, 784, 10)
    served, random = root / "served", draws()
    served.mkdir(exist_ok=True)
    for name, count in ("train", 60000), ("t10k", 10000):
        pixels = random.randint(0, 256, (count, 784)) * (random.rand(count, 784) < 0.3)
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        images = head + pixels.astype(np.uint8).tobytes()
        labels = struct.pack(">II", 0x801, count) + bytes(random.randint(0, 10, count).tolist())
        (served / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, 1))
        (served / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, 1))


def pictures(folder: Path, name: str, count: int, size: int, classes: int) -> None:
    """Images, and the map file that says where each lies and what it shows."""
    from PIL import Image

    random = draws()
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}_map.txt").open("w") as rows:
        for i in range(count):
            coarse = random.randint(0, 256, (size // 4, size // 4, 3), np.uint8)
            file = folder / name / f"{i:05}.bmp"
            Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR).save(file)
            rows.write(f"{file}\t{random.randint(classes)}\n")


def cifar(root: Path) -> None:
    for place in (IMAGES + "/CIFAR-10", "Tutorials/data/CIFAR-10", "Manual/data/CIFAR-10"):
        place = root / place
        place.mkdir(parents=True, exist_ok=True)
        mean = root / IMAGES / "CIFAR-10/CIFAR-10_mean.xml"
        if not (place / mean.name).exists():
            shutil.copy(mean, place)
        pictures(place, "train", 400, 32, 10)
        pictures(place, "test", 200, 32, 10)
    folder = root / IMAGES / "CIFAR-10"
    text_format(folder / "Train_cntk_text.txt", 1500, 3072, 10)
    text_format(folder / "Test_cntk_text.txt", 500, 3072, 10)


def photographs(root: Path) -> None:
    """Those that notebooks fetch."""
    pictures(root / "served", "photographs", 1, 32, 10)
    photograph = root / "served/photographs/00000.bmp"
    shutil.copy(photograph, root / "served/00014.png")


def imagenet(root: Path) -> None:
    for name in "train", "val", "test":
        pictures(root / IMAGES / "ImageNet", name, 48, 320, 1000)


def sequences(root: Path) -> None:
    folder = root / "Examples/SequenceToSequence/CMUDict/Data"
    classes = root / "Tests/EndToEndTests/Text/SequenceClassification/Data"
    classes.mkdir(parents=True, exist_ok=True)
    random = draws()
    with (classes / "Train.ctf").open("w") as out:
        for i in range(300):
            label = " ".join(map(str, np.eye(5, dtype=int)[random.randint(5)]))
            for step, word in enumerate(random.randint(0, 2000, random.randint(2, 12))):
                out.write(f"{i}\t|x {word}:1" + (f"\t|y {label}\n" if step == 0 else "\n"))
    shakespeare = root / "Examples/Text/CharacterLM/data/tinyshakespeare.txt"
    if shakespeare.exists():  # each character is a step, and each hundred steps are written out
        replace(shakespeare, shakespeare.read_text("utf-8")[:6000])
    wanted = folder / "cmudict-0.7b.train-dev-20-21.ctf"
    if not wanted.exists():
        shutil.copy(folder / "cmudict-0.7b.train-dev-1-21.ctf", wanted)
    tested = folder / "cmudict-0.7b.test.ctf"  # each word of it is written out
    replace(tested, "".join(tested.read_text("utf-8").splitlines(keepends=True)[:200]))


def questions(root: Path) -> None:
    """Pairs of a question and an answer, and the words that a tutorial asks about."""
    asked, answered = ASKED.split(), ANSWERED.split()
    served, random = root / "served", draws()
    for name, words, size in ("Q", asked, 1204), ("A", answered, 1019):
        every = words + [f"w{i}" for i in range(size - len(words))]
        (served / f"vocab_{name}.wl.csv").write_text("".join(f"{word} \n" for word in every))
    for name, count in ("train", 400), ("valid", 100):
        with (served / f"{name}.pair.tok.ctf.csv").open("w") as out:
            for i in range(count):
                lengths = random.randint(3, 12, 2)
                for step in range(max(lengths)):
                    sides = zip(("S0", "S1"), (1204, 1019), lengths, strict=True)
                    words = [f"|{s} {random.randint(n)}:1" for s, n, end in sides if step < end]
                    out.write(f"{i} {' '.join(words)}\n")


def speech(root: Path) -> None:
    """Features of the first utterances that the lists name, as HTK writes them."""
    features(root / "Examples/Speech/AN4/Data", "000000000.chunk", 33)
    folder = root / "Tests/EndToEndTests/Speech/Data"
    features(folder, "Features/000000000.chunk", 33)
    (folder / "GlobalStats").mkdir(exist_ok=True)
    for name in "mean", "var":
        replace(folder / f"GlobalStats/{name}.363", np.linspace(0.5, 1, 363).tobytes())


def features(folder: Path, chunk: str, size: int) -> None:
    utterances = (folder / "glob_0000.scp").read_text().splitlines()[:60]
    replace(folder / "glob_0000.scp", "\n".join(utterances).encode() + b"\n")
    frames = 1 + max(int(line.rstrip("]").rpartition(",")[2]) for line in utterances)
    head = struct.pack(">iihh", frames, 100000, size * 4, 9)
    (folder / chunk).parent.mkdir(exist_ok=True)
    replace(folder / chunk, head + draws().randn(frames, size).astype(">f4").tobytes())


def replace(file: Path, content: bytes | str) -> None:
    """Writes a file anew, where there may be a link to the checkout's."""
    file.unlink(missing_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def sentences(lines: int) -> Iterator[str]:
    random = draws()
    for _ in range(lines):
        yield " ".join(WORDS[i] for i in random.randint(0, len(WORDS), random.randint(5, 25)))


def words(root: Path) -> None:
    folder = root / "Examples/Text/WordLMWithSampledSoftmax/ptb"
    folder.mkdir(exist_ok=True)
    for name, lines in ("train", 900), ("valid", 30), ("test", 30):
        (folder / f"{name}.txt").write_text("".join(f"{s} <eos>\n" for s in sentences(lines)))
    tokens = ["<eos>", "<unk>", *WORDS]
    (folder / "token2id.txt").write_text("".join(f"{w}\t{i}\n" for i, w in enumerate(tokens)))
    (folder / "freq.txt").write_text("".join(f"{1000 // (i + 1) + 1}\n" for i in range(1000)))


def tables(root: Path) -> None:
    """Readings of a solar panel, and of a stock's price."""
    random = draws()
    with (root / "served/solar.csv").open("w") as out:
        out.write('"time","solar.current","solar.total"\n')
        total = 0.0
        for i in range(3000):
            day, step = divmod(i, 16)
            current = float(max(0.0, np.sin(step / 16 * np.pi) * 1e4 * random.rand()))
            total = current if step == 0 else total + current
            minute = np.datetime64("2014-01-01T07:00") + 1440 * day + 30 * step
            when = str(minute).replace("T", " ")
            out.write(f"{when}:00,{current:.2f},{total:.2f}\n")
    modules = root / "served/modules"
    modules.mkdir(exist_ok=True)
    (modules / "pandas_datareader.py").write_text(STOCK)
