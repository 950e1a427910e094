import pytest

from msun_lite.data import imagenet_classes, imagenet_words, in_words


def test_the_classes_of_imagenet_are_in_the_order_that_networks_have_them():
    info = pytest.importorskip("timm").data.ImageNetInfo()
    assert list(imagenet_classes()) == info.label_names()


def test_each_class_of_imagenet_has_a_word_of_its_own():
    assert len(set(imagenet_classes())) == len(set(imagenet_words())) == 1000
    assert len(set(in_words(imagenet_classes()))) == 1000


def test_wordnet_ids_become_words_and_other_names_stay():
    assert in_words(["n02102040", "n01443537", "mine"]) == ["springer spaniel", "goldfish", "mine"]
