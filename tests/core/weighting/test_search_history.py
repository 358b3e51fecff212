"""The choice between exact and matrix-free steps, by the cost of searches."""

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from core.weighting.search_history import (
    MIN_PRODUCTS,
    PASSES_PER_PRODUCT,
    STEPS_BETWEEN_SEARCHES,
    SearchHistory,
)

COUNTS = st.integers(0, 50)


@given(COUNTS, COUNTS, COUNTS)
def test_a_checkpoint_keeps_the_history(products: int, steps: int, fallbacks: int) -> None:
    history = SearchHistory(products, steps, fallbacks)
    assert SearchHistory(**asdict(history)) == history


@given(COUNTS, st.floats(0, 200))
def test_a_search_is_chosen_where_it_costs_less(products: int, passes: float) -> None:
    history = SearchHistory(products)
    is_cheaper = passes > PASSES_PER_PRODUCT * max(products, MIN_PRODUCTS)
    assert history.choose_search(passes) == is_cheaper
    assert history.exact_steps == (not is_cheaper)


@given(st.integers(4, 50))
def test_searches_are_tried_again_unless_none_can_be_cheaper(products: int) -> None:
    easiest = PASSES_PER_PRODUCT * MIN_PRODUCTS
    for passes, expected in ((easiest, []), (easiest + 0.1, [STEPS_BETWEEN_SEARCHES])):
        history = SearchHistory(products)
        chosen = [n for n in range(1, 150) if history.choose_search(passes)]
        assert chosen == expected


def test_fallbacks_are_counted() -> None:
    history = SearchHistory(exact_steps=7)
    history.record_fallback(36)
    history.record_search(5)
    assert history == SearchHistory(last_products=5, exact_steps=0, fallbacks=1)
