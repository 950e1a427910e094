import pytest
import torch

from msun_lite.data.crops import BATCH, Crops, unlabelled
from msun_lite.data.named import load_data
from msun_lite.networks.spec import IMAGENET_NORMALISATION
from msun_lite.utils.errors import DataError

CPU = torch.device("cpu")


def crops(config, count=1000, **changes):
    source = changes.pop("source", None) or load_data(config).train
    return Crops(source, config, count, config.seed, CPU, IMAGENET_NORMALISATION, **changes)


def test_crops_are_batches_of_the_largest_size_the_same_each_time_they_are_asked_for(tiny):
    made = crops(tiny())
    first, again = list(made), list(made)
    assert len(made) == 40
    assert {batch.shape[1:] for batch in first} == {(3, 16, 16)}
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(first[0], next(iter(crops(tiny()))))


def test_other_epochs_and_seeds_have_other_crops(tiny):
    first = next(iter(crops(tiny())))
    assert not torch.equal(first, next(iter(crops(tiny(), epoch=3))))
    assert not torch.equal(first, next(iter(crops(tiny(seed=1)))))


def test_as_many_images_are_taken_as_asked_for_in_batches_of_one_size_or_nearly(tiny):
    made = crops(tiny(scenes_train=BATCH + 70), count=BATCH + 67)
    assert [len(batch) for batch in made] == [98, 97]


def test_images_are_found_however_deep_their_folders_are(tiny, photos):
    source, left_out = unlabelled(photos)
    assert len(source) == 18
    assert left_out == ""
    (photos / "notes.txt").write_text("none")
    assert "1 .txt" in unlabelled(photos)[1]
    assert len(crops(tiny(), source=source)) == 18


def test_a_folder_that_gives_nothing_is_named(tiny, photos, tmp_path):
    with pytest.raises(DataError, match="missing: no such folder of images"):
        unlabelled(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected images in it, found none"):
        unlabelled(tmp_path / "empty")
    with pytest.raises(DataError, match="averages: expected at least 2 images to take them from, got 1"):
        crops(tiny(), count=1)
    (photos / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 unreadable image\(s\).*0.png"):
        crops(tiny(), source=unlabelled(photos)[0])
