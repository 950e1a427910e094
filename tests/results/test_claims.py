import pytest

from msun_lite.results.claims import Claim, judge_claims


def sentences(*claims, least=0.0):
    return [found["sentence"] for found in judge_claims(claims, least)]


def test_one_seed_has_no_spread():
    assert sentences(
        Claim("more is better", "gain", [1.5], 2.25), Claim("less is better", "loss", [1.5]), Claim("odd", None, [-1.0])
    ) == [
        "More is better (paper +2.25): +1.5 points with one seed; no spread is known.",
        "Less is better: +1.5 points with one seed; no spread is known.",
        "Odd: −1.0 points with one seed; no spread is known.",
    ]


def test_a_difference_is_held_against_the_spread_of_all():
    found = judge_claims(
        [
            Claim("a", "gain", [5.0, 5.2]),
            Claim("b", "gain", [-3.0, -3.4]),
            Claim("c", "loss", [-0.1, 0.5]),
            Claim("d", None, [4.0, 4.0]),
        ]
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
    claims = Claim("a", "gain", [1.0, 1.1]), Claim("b", "gain", [3.0, 3.1]), Claim("c", "gain", [0.1, -0.1])
    assert sentences(*claims, least=2.0) == [
        "A: not decided, +1.1 ± 0.2 points over 2 seeds: more than seeds differ by, but other test images might not "
        "show it.",
        "B: holds, +3.0 ± 0.2 points over 2 seeds, more than chance.",
        "C: not decided, +0.0 ± 0.2 points over 2 seeds, no more than chance.",
    ]
    assert sentences(Claim("a", "gain", [1.0]), Claim("b", "gain", [3.0]), least=2.0) == [
        "A: +1.0 points with one seed; it may be chance.",
        "B: +3.0 points with one seed; no spread is known.",
    ]


def test_a_difference_is_little_if_its_whole_interval_is():
    claims = [
        Claim("a", "little", [0.1, 0.3]),
        Claim("b", "little", [-1.8, -2.0]),
        Claim("c", "little", [2.5, 2.7]),
        Claim("d", "little", [-3.1, -3.5]),
    ]
    found = judge_claims(claims, least=2.0)
    assert [one["verdict"] for one in found] == ["holds", "not decided", "does not hold", "does not hold"]
    half = f"± {found[0]['half_interval']:.1f} points over 2 seeds"
    assert [one["sentence"] for one in found] == [
        f"A: holds, +0.2 {half}, no more than 2.0.",
        f"B: not decided, −1.9 {half}, perhaps more than 2.0.",
        f"C: does not hold, +2.6 {half}, more than 2.0.",
        f"D: does not hold, −3.3 {half}, more than 2.0.",
    ]
    (alone,) = judge_claims([Claim("a", "little", [0.1])], least=2.0)
    assert alone["verdict"] == "not decided"


def test_verdicts():
    claims = [
        Claim("a", "gain", [5.0, 5.1]),
        Claim("b", "gain", [-5.0, -5.1]),
        Claim("c", "loss", [-5.0, -5.1]),
        Claim("d", "gain", [1.0, 1.1]),
        Claim("e", None, [5.0, 5.1]),
    ]
    expected = ["holds", "does not hold", "holds", "not decided", None]
    assert [one["verdict"] for one in judge_claims(claims, least=2.0)] == expected


def test_a_claim_that_the_first_is_behind_holds_if_it_is():
    assert "holds" in sentences(Claim("a", "loss", [-5.0, -5.1, -5.2]))[0]


def test_one_seed_beside_others_borrows_their_spread():
    few, many = judge_claims([Claim("a", "gain", [1.0]), Claim("b", "gain", [1.0, 2.0, 3.0, 2.0])])
    assert few["half_interval"] == pytest.approx(2 * many["half_interval"], abs=2e-3)
    assert "over one seed" in few["sentence"]


def test_claims_that_follow_from_others_add_no_certainty():
    differences = {("a", "b"): [5.0, 5.4], ("b", "c"): [1.0, 1.2], ("a", "c"): [6.0, 6.6]}
    claims = [Claim("-".join(pair), "gain", values, between=pair) for pair, values in differences.items()]
    spread = ((2 * 0.2**2 + 2 * 0.1**2 + 2 * 0.3**2) / 3) ** 0.5
    for found in judge_claims(claims):
        assert found["half_interval"] == pytest.approx(4.30 * spread / 2**0.5, abs=1e-3)
    apart = [Claim(name, "gain", values) for name, values in zip("abc", differences.values(), strict=True)]
    assert judge_claims(apart)[0]["half_interval"] == pytest.approx(3.18 * spread / 2**0.5, abs=1e-3)
    longer = [*claims[:2], Claim("a-c", "gain", [6.0, 6.6, 6.3], between=("a", "c"))]
    spread = ((2 * 0.2**2 + 2 * 0.1**2 + 2 * 0.3**2) / 4) ** 0.5
    assert judge_claims(longer)[0]["half_interval"] == pytest.approx(3.18 * spread / 2**0.5, abs=1e-3)
