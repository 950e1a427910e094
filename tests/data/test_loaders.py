import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from msun_lite.data.loaders import TrainView, _levels, collate, denormalise, eval_loader, to_float
from msun_lite.data.sources import FileSource, MemorySource, SceneSource
from msun_lite.train.batches import train_loader

SIZES = ((64, 48), (48, 64), (200, 30), (32, 32), (90, 31))  # height, width: enlarged and reduced, and one too wide


def pixels(height, width):
    """A smooth image with noise on it, [height, width, 3]: the same on every machine."""
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    return (noise + (rows + 2 * columns) * 190 // (height + 2 * width)).astype(np.uint8)


@pytest.fixture
def sources(tmp_path):
    """The three kinds of sources: scenes, image files, and the images of these files in memory."""
    for index, size in enumerate(SIZES):
        Image.fromarray(pixels(*size)).save(tmp_path / f"{index}.png")
    files = FileSource([(str(tmp_path / f"{index}.png"), index) for index in range(len(SIZES))])
    memory = MemorySource([files.read(index) for index in range(len(files))], files.labels)
    return {"scenes": SceneSource(5, 32, "train", seed=0), "files": files, "memory": memory}


# The published runs saw images cut by this function of (seed, epoch, index): it stays as it is.
DIGESTS = {"scenes": "96dc62d6e7f6f024", "files": "ada71af7980ba876", "memory": "ada71af7980ba876"}


@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"),
    reason="without AVX, torchvision resizes uint8 through floats, which round differently",
)
@pytest.mark.parametrize("kind", DIGESTS)
def test_the_pixels_of_training_images_are_those_of_the_published_runs(sources, kind):
    view = TrainView(sources[kind], 32, seed=3, crop_min=0.35, flip=True)
    digest = hashlib.sha256()
    for epoch in (0, 1, 41):
        for index in range(5):
            image, label = view[(epoch, index)]
            digest.update(image.contiguous().numpy().tobytes() + bytes([label]))
    assert digest.hexdigest()[:16] == DIGESTS[kind]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_items_of_the_view_channels_last(sources, workers):
    view = TrainView(sources["files"], 32, seed=3, crop_min=0.35, flip=True)
    keys = [(1, index) for index in range(5)]
    (batch,) = DataLoader(view, batch_sampler=[keys], collate_fn=collate, num_workers=workers)
    assert torch.equal(batch.images, torch.stack([view[key][0] for key in keys]))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.tolist() == list(range(5))


def test_pixels_become_normalised_floats_channels_last_and_stay_what_they_are():
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    before, normalisation = images.clone(), {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    mean, std = (255 * torch.tensor(normalisation[name])[:, None, None] for name in ("mean", "std"))
    floats = to_float(images, torch.device("cpu"), normalisation)
    torch.testing.assert_close(denormalise(floats, normalisation), images / 255)
    assert torch.equal(floats, (images.float() - mean) / std)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_a_normalisation_is_brought_to_a_device_once(monkeypatch):
    images, cpu = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.device("cpu")
    normalisation = {"mean": [0.41, 0.5, 0.6], "std": [0.2, 0.25, 0.31]}
    _levels.cache_clear()
    with torch.inference_mode():  # what is kept must serve a training, too
        first = to_float(images, cpu, normalisation)
    monkeypatch.setattr(torch, "tensor", None)  # would fail if called again
    again = to_float(images, cpu, {name: list(values) for name, values in normalisation.items()})
    assert torch.equal(first, again)
    assert not again.is_inference()
    assert not _levels((0.41, 0.5, 0.6), cpu).is_inference()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_for_cuda_alone(sources, tiny, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    view = TrainView(sources["files"], 32, seed=3, crop_min=0.35, flip=True)
    training = train_loader(view, tiny(device=device), 0)
    testing = eval_loader(sources["files"], 32, 1.0, 5, 0, device=torch.device(device))
    assert training.pin_memory == testing.pin_memory == (device == "cuda")
