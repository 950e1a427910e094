import pytest

from msun_lite.claims import Claim, judged


def sentences(*claims, least=0.0):
    return [found["sentence"] for found in judged(claims, least)]


def test_one_seed_has_no_spread():
    assert sentences(
        Claim("more is better", 1, [1.5], 2.25), Claim("less is better", -1, [1.5]), Claim("odd", 0, [-1.0])
    ) == [
        "More is better (paper +2.25): +1.5 points with one seed, as claimed; no spread is known.",
        "Less is better: +1.5 points with one seed, against the claim; no spread is known.",
        "Odd: −1.0 points with one seed; no spread is known.",
    ]


def test_a_difference_is_held_against_the_spread_of_all():
    found = judged(
        [Claim("a", 1, [5.0, 5.2]), Claim("b", 1, [-3.0, -3.4]), Claim("c", -1, [-0.1, 0.5]), Claim("d", 0, [4.0, 4.0])]
    )
    spread = ((2 * 0.1**2 + 2 * 0.2**2 + 2 * 0.3**2) / 4) ** 0.5
    assert [one["half_interval"] for one in found] == pytest.approx([2.78 * spread / 2**0.5] * 4, abs=1e-3)
    assert [one["mean"] for one in found] == pytest.approx([5.1, -3.2, 0.2, 4.0])
    assert [one["sentence"] for one in found] == [
        "A: holds, +5.1 ± 0.5 points over 2 seeds, more than chance.",
        "B: does not hold, −3.2 ± 0.5 points over 2 seeds, more than chance.",
        "C: not decided, +0.2 ± 0.5 points over 2 seeds, no more than chance.",
        "D: +4.0 ± 0.5 points over 2 seeds, more than chance.",
    ]


def test_what_the_test_images_may_make_is_not_more_than_chance():
    claims = Claim("a", 1, [1.0, 1.1]), Claim("b", 1, [3.0, 3.1]), Claim("c", 1, [0.1, -0.1])
    assert sentences(*claims, least=2.0) == [
        "A: not decided, +1.1 ± 0.2 points over 2 seeds: more than seeds differ by, but other test images might not "
        "show it.",
        "B: holds, +3.0 ± 0.2 points over 2 seeds, more than chance.",
        "C: not decided, +0.0 ± 0.2 points over 2 seeds, no more than chance.",
    ]
    assert sentences(Claim("a", 1, [1.0]), Claim("b", 1, [3.0]), least=2.0) == [
        "A: +1.0 points with one seed, as claimed; it may be chance.",
        "B: +3.0 points with one seed, as claimed; no spread is known.",
    ]


def test_a_claim_that_the_first_is_behind_holds_if_it_is():
    assert "holds" in sentences(Claim("a", -1, [-5.0, -5.1, -5.2]))[0]


def test_one_seed_beside_others_borrows_their_spread():
    few, many = judged([Claim("a", 1, [1.0]), Claim("b", 1, [1.0, 2.0, 3.0, 2.0])])
    assert few["half_interval"] == pytest.approx(2 * many["half_interval"], abs=2e-3)
    assert "over one seed" in few["sentence"]
