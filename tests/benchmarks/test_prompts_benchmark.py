"""What of a prompt a provider's cache can serve."""

from stages.benchmarks.prompts import cacheable, row

FIXED = "f" * 4 * 1100
"""1100 tokens."""


def test_a_common_beginning_is_served_in_whole_blocks_from_the_second_question_on() -> None:
    assert cacheable([("a", FIXED + "x"), ("a", FIXED + "y"), ("a", FIXED + "z")]) == 2 * 1024


def test_each_model_has_a_cache_of_its_own() -> None:
    assert cacheable([("a", FIXED), ("b", FIXED)]) == 0


def test_short_beginnings_are_not_served() -> None:
    assert cacheable([("a", FIXED[: 4 * 1023]), ("a", FIXED[: 4 * 1023])]) == 0


def test_a_row_compares_both_wordings() -> None:
    made = row([("a", "x" * 4 * 4000)] * 2, [("a", FIXED + FIXED)] * 2)
    assert made["tokens_before"] == 4000 and made["tokens"] == 2200 and made["tokens/before"] == 0.55
    assert made["cacheable"] == round(2176 / 4400, 3)
