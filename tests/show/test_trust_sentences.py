"""What 05 says of AutoAttack and of what its checks can see, from planted records."""

import numpy as np
import pandas as pd
from planted import flags, record, seeds, with_autoattack

from study.decide import rates
from study.decide.statistics import paired, smallest_certain
from study.define.rows import ROWS
from study.show import answer, trust_sentences


def test_the_smallest_certain_difference_is_the_first_whose_interval_excludes_0():
    for n in (200, 500):
        moved = round(n * smallest_certain(n))
        lows = [paired(np.arange(n) < k, np.zeros(n, dtype=bool))[1] for k in (moved - 1, moved)]
        assert lows[0] <= 0 < lows[1]
    assert smallest_certain(200) == 0.025 and smallest_certain(2) == 1.0


def test_what_the_checks_can_see_is_said_of_each_number_of_images():
    table = pd.DataFrame({"n": [200, 500, 5, 0]})
    assert trust_sentences.resolution({"at": table, "linear": table}) == (
        "The least paired difference that can be certain: 2.5 points on 200, 1.0 points on 500 images."
    )
    assert trust_sentences.resolution({}) == ""


def test_the_two_phase_estimate_stands_beside_r_on_the_same_seeds():
    rows = dict.fromkeys(("perceptron", "two_stages", "linear"), {})
    rows["finetuned"] = {10: record(50) | with_autoattack(100), 11: record(50)}
    rows["linear"] = {10: record(40) | with_autoattack(97), 11: record(40)}
    said = trust_sentences.by_two_phase(rows)
    assert "(seeds): L +1.2 (1) (by R +0.0 (1)). These" in said
    assert trust_sentences.by_two_phase(rows | {"linear": seeds(20)}) == ""


def test_the_answer_says_the_distance_from_p_with_autoattack_taken_in():
    rows = {key: {} for key in ROWS}
    assert "two-phase" not in answer.beside(rows, rates.ROBUST, "R")
    rows |= {"finetuned": {10: with_autoattack(100)}, "perceptron": {10: with_autoattack(97)}}
    for seeds_of in rows.values():
        for each in seeds_of.values():
            each["pgd"] = dict(clean=flags(45))
    assert answer.beside(rows, rates.ROBUST, "R").endswith(
        "(two-phase estimate): trained − P +1.2 (1), by R +0.0 (1). Between them lie few images: of those "
        "that R counts as right AutoAttack breaks 3 of 100 of P's, 0 of 100 of trained features'."
    )
