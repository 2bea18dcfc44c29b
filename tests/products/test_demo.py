"""Tests of the inventor of demo products and people."""

import re
from itertools import chain

import pytest

from shop.products.demo import PersonIdea, ProductIdea, invent_people, invent_products

HALF = 5_000


@pytest.fixture(scope="module")
def products() -> list[ProductIdea]:
    """Two consecutive ranges, because a shop may be filled in more than one go."""
    return list(chain(invent_products(HALF), invent_products(HALF, start=HALF)))


@pytest.fixture(scope="module")
def people() -> list[PersonIdea]:
    """Two consecutive ranges of people."""
    return list(chain(invent_people(HALF), invent_people(HALF, start=HALF)))


def test_the_same_seed_and_start_give_the_same_products_and_people() -> None:
    assert list(invent_products(50, seed=7, start=3)) == list(invent_products(50, seed=7, start=3))
    assert list(invent_people(50, seed=7, start=3)) == list(invent_people(50, seed=7, start=3))


def test_another_seed_gives_another_catalogue() -> None:
    assert list(invent_products(20, seed=1)) != list(invent_products(20, seed=2))
    assert list(invent_people(20, seed=1)) != list(invent_people(20, seed=2))


def test_a_later_start_continues_the_range_of_an_earlier_call() -> None:
    assert list(invent_products(20))[12:] == list(invent_products(8, start=12))
    assert list(invent_people(20))[12:] == list(invent_people(8, start=12))


def test_a_known_product_stays_the_same_from_one_release_to_the_next() -> None:
    (product,) = invent_products(1, seed=1, start=17)
    assert product.slug == "maison-aubelie-classic-saucepan-17"
    assert [variant.sku for variant in product.variants] == ["COP-SCP-000017"]


def test_a_count_of_zero_gives_nothing() -> None:
    assert list(invent_products(0)) == []
    assert list(invent_people(0)) == []


def test_slugs_and_skus_are_unique_over_consecutive_ranges(products: list[ProductIdea]) -> None:
    slugs = [product.slug for product in products]
    skus = [variant.sku for product in products for variant in product.variants]
    assert len(slugs) == 2 * HALF
    assert len(set(slugs)) == len(slugs)
    assert len(set(skus)) == len(skus)


def test_slugs_and_skus_follow_their_patterns(products: list[ProductIdea]) -> None:
    for product in products:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", product.slug), product.slug
        for variant in product.variants:
            assert re.fullmatch(r"[A-Z0-9]+(-[A-Z0-9]+)*", variant.sku), variant.sku


def test_texts_stay_within_their_length_limits(products: list[ProductIdea]) -> None:
    for product in products:
        assert 0 < len(product.name) <= 200
        assert 0 < len(product.slug) <= 200
        assert 0 < len(product.description) <= 2000
        assert all(len(variant.sku) <= 40 for variant in product.variants)
        assert all(len(variant.name) <= 40 for variant in product.variants)


def test_descriptions_are_two_or_three_whole_sentences(products: list[ProductIdea]) -> None:
    for product in products:
        assert "{" not in product.description
        assert "  " not in product.description
        sentences = re.split(r"(?<=\.) (?=[A-Z])", product.description)
        assert 2 <= len(sentences) <= 3, product.description
        assert product.description.endswith(".")


def test_products_have_one_to_six_variants_and_about_two_on_average(
    products: list[ProductIdea],
) -> None:
    counts = [len(product.variants) for product in products]
    assert (min(counts), max(counts)) == (1, 6)
    assert 1.7 < sum(counts) / len(counts) < 2.3


def test_only_a_single_variant_goes_without_a_name(products: list[ProductIdea]) -> None:
    for product in products:
        names = [variant.name for variant in product.variants]
        if len(names) == 1:
            assert names == [""]
        else:
            assert all(names)
            assert len(set(names)) == len(names)


def test_a_few_products_are_drafts_or_archived(products: list[ProductIdea]) -> None:
    statuses = [product.status for product in products]
    assert set(statuses) == {"active", "draft", "archived"}
    assert 0.03 < statuses.count("draft") / len(statuses) < 0.05
    assert 0.01 < statuses.count("archived") / len(statuses) < 0.03


def test_a_few_variants_are_sold_out_and_none_is_overstocked(products: list[ProductIdea]) -> None:
    stocks = [variant.stock for product in products for variant in product.variants]
    assert min(stocks) == 0
    assert max(stocks) <= 200
    assert 0.04 < stocks.count(0) / len(stocks) < 0.06


def test_prices_are_positive_and_end_like_prices_in_a_shop(products: list[ProductIdea]) -> None:
    prices = [variant.price_amount for product in products for variant in product.variants]
    assert all(isinstance(price, int) for price in prices)
    assert min(prices) > 200
    assert max(prices) < 300_000
    # Larger amounts are whole ones just below a round ten; smaller ones end in 90 or 95 cents.
    assert all(price % 1000 == 900 for price in prices if price >= 10_000)
    assert all(price % 100 in {90, 95} for price in prices if price < 9_900)


def test_every_product_tells_its_department_and_brand(products: list[ProductIdea]) -> None:
    assert all({"department", "brand"} <= product.attributes.keys() for product in products)
    assert all(value for product in products for value in product.attributes.values())
    assert len({product.attributes["department"] for product in products}) >= 10


def test_the_catalogue_is_varied_and_some_names_need_more_than_ascii(
    products: list[ProductIdea],
) -> None:
    names = [product.name for product in products]
    assert len(set(names)) > len(names) / 2
    assert 0.02 < sum(not name.isascii() for name in names) / len(names) < 0.25


def test_email_addresses_are_unique_and_lie_in_reserved_domains(people: list[PersonIdea]) -> None:
    emails = [person.email for person in people]
    assert len(set(emails)) == len(emails) == 2 * HALF
    pattern = r"[a-z]+\.[a-z]+\d+@example\.(com|org|net)"
    assert all(re.fullmatch(pattern, email) for email in emails)
    assert all(" " in person.name for person in people)
