"""Trainings that fail: what the processes of `test_workers.py` run."""

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from msun_lite.data.dataset import BadImages, DataSet
from msun_lite.data.sources import ImageSource
from msun_lite.train import run as training
from msun_lite.train.__main__ import main

HEALTHY = 50
"""Images that can be read before it happens: the training is under way then."""


class FailingSource(ImageSource):
    """Grey images, until one of them makes something go wrong: `failure`; `note` is touched right before."""

    def __init__(self, count, failure, note):
        super().__init__([index % 2 for index in range(count)])
        self.failure, self.note, self.seen = failure, note, 0

    def read(self, index):
        self.seen += 1
        if self.failure is not None and self.seen > HEALTHY:
            Path(self.note).touch()
            getattr(self, f"_{self.failure}")()
        return torch.full((3, 24, 24), index % 200, dtype=torch.uint8)

    def _memory(self):
        raise MemoryError

    def _bug(self):
        raise ZeroDivisionError("a bug in a transform")

    def _shm(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # as if shared memory were full

    def _killed(self):
        os.kill(os.getpid(), signal.SIGKILL)


def run(failure, workers, method, folder, rank_fails=False):
    """Train on images that fail, in this process; end it with the exit code of the command."""
    os.setsid()  # so that whatever it leaves behind can be found
    sys.stdout = sys.stderr = (folder / f"output{os.environ.get('RANK', '')}").open("w")
    multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_forkserver_preload(["msun_lite.train.run"])
    if rank_fails and os.environ["RANK"] == "0":
        failure = None
    sources = FailingSource(400, failure, str(folder / "note")), FailingSource(10, None, "")
    training.load_data = lambda config, world: DataSet("grey", ("a", "b"), *sources, "0", BadImages(0, world))
    options = "--scales 8,16 --sizes 8,16 --epochs 1000 --batch_size 8 --threads 1 --precision fp32 --cache false"
    words = [*options.split(), "--workers", str(workers), "--data", "grey", "--out", str(folder / "run")]
    sys.exit(main(words))


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), rank_fails=True)
