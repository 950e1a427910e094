import pytest

from tests.exports import export


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return a model as it is exported, with images and what `predict` says of them."""
    return export(tmp_path_factory.mktemp("exported"))
