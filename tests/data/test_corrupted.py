"""A hundred damaged images of all formats: counted and named wherever they are read, without a traceback."""

import io
import json
import random

import numpy as np
import pytest
from PIL import Image

from data_scripts import make_shards
from msun_lite.data.images import UnreadableImage, decode
from msun_lite.data.loaders import eval_loader
from msun_lite.data.named import load_data
from msun_lite.runtime.images import ENDINGS, FORMATS, image_size
from msun_lite.train.run import train
from msun_lite.utils.errors import DataError

COUNT = 100
KINDS = [kind for kind in FORMATS if kind in Image.SAVE]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what it forgives


def _sound(kind):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _damaged(seed=0):
    """Yield (ending, content) of damaged images: bits flipped, cut off, or under the head of another format."""
    chance, sound = random.Random(seed), {kind: _sound(kind) for kind in KINDS}
    for number in range(COUNT):
        kind = KINDS[number % len(KINDS)]
        content, how = bytearray(sound[kind]), number // len(KINDS) % 3
        if how == 0:
            for _ in range(chance.randint(1, 12)):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif how == 1:
            del content[chance.randrange(len(content)) :]
        else:
            other = chance.choice([one for one in KINDS if one != kind])
            content[:16] = sound[other][:16]
        yield ENDINGS[kind][0], bytes(content)


@pytest.fixture
def corrupted(photos):
    """Return a class folder with a hundred damaged images among its training images."""
    for number, (ending, content) in enumerate(_damaged()):
        (photos / "train" / ("cat", "dog")[number % 2] / f"damaged{number:03d}.{ending}").write_bytes(content)
    return photos


def _readable(path):
    image_size(path)
    try:
        return decode(path).shape[0] == 3
    except UnreadableImage as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return False


def _unreadable(folder):
    found = [str(path) for path in sorted(folder.rglob("damaged*")) if not _readable(path)]
    assert COUNT / 2 < len(found) < COUNT  # some damage only changes the colours
    return found


@pytest.mark.parametrize("cache", [True, False])
def test_training_counts_and_names_every_unreadable_image(corrupted, tiny, cache):
    unreadable = _unreadable(corrupted)
    config = tiny(data=str(corrupted), cache=cache, epochs=1, batch_size=28, max_bad_images=COUNT)
    summary = json.loads((train(config) / "summary.json").read_text())
    assert sorted(message.partition(": ")[0] for message in summary["bad_images"]) == unreadable


def test_evaluation_counts_every_unreadable_image(corrupted, tiny):
    (corrupted / "train").rename(corrupted / "was train")
    (corrupted / "val").rename(corrupted / "train")
    (corrupted / "was train").rename(corrupted / "val")
    unreadable = _unreadable(corrupted)
    with pytest.raises(DataError, match=rf"^{len(unreadable)} unreadable image\(s\) to evaluate"):
        load_data(tiny(data=str(corrupted)))
    source = load_data(tiny(data=str(corrupted), cache=False)).val
    bad = [message for batch in eval_loader(source, 16, 1.0, batch_size=8, workers=0) for message in batch.bad]
    assert [message.partition(": ")[0] for message in bad] == unreadable


def test_shards_are_made_of_the_others(corrupted, tiny, tmp_path, capsys):
    unreadable, out = _unreadable(corrupted), tmp_path / "out"
    assert make_shards.main([str(corrupted), str(out), "--workers=1"]) == 2
    assert f"error: {len(unreadable)} unreadable image(s), expected none" in capsys.readouterr().err
    assert make_shards.main([str(corrupted), str(out), "--workers=1", "--skip_unreadable"]) == 0
    assert f"{len(unreadable)} unreadable image(s) left out" in capsys.readouterr().out
    assert len(load_data(tiny(data=f"wds:{out}")).train) == 12 + COUNT - len(unreadable)
