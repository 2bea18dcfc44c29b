"""What is common is looked for in the order that is asked for, what is rare by what is rare."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from shop.products import sampling
from shop.products.finding import Wanted
from shop.products.models import ProductListing
from shop.products.pages import Way
from shop.products.sampling import Sample
from shop.products.search import Search, words_of
from tests import factories

ACTIVE = ("active",)
Headers = dict[str, str]


def listing(number: int, *, name: str, text: str = "", price: int = 0) -> Any:
    return SimpleNamespace(
        product_id=number * 100, status="active", category_id=number % 5, name=name, rating=0,
        price_from=price or number, stocked_variants=1, words=words_of([name, text], name),
    )  # fmt: skip


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Sample:
    """A thousand of a hundred thousand: every tenth of oak, every fifth washable, one of ivory.

    Every twentieth is a luxury of the brand Dear, and these are the dearest.
    """
    numbers = random.Random(1).sample(range(1, 1001), 1000)
    listings = [
        listing(
            number,
            name=f"{'oak' if n % 10 == 0 else 'ash'} {'ivory ' if n == 500 else ''}table",
            text="luxury" if n % 20 == 0 else "wash" if n % 5 == 1 else "",
            price=number + (1000 if n % 20 == 0 else 0),
        )
        for n, number in enumerate(numbers)
    ]
    values = [("brand", "Dear", it.product_id) for it in listings[::20]]
    values += [("brand", "Nice", it.product_id) for it in listings[1::20]]
    taken = Sample(listings, values, 100)
    monkeypatch.setattr(sampling, "_sample", lambda: taken)
    return taken


def ways(sort: str, after: Any = None, *, q: str | None = None, **filters: Any) -> list[Way]:
    search = None if q is None else Search(q)
    wanted = Wanted(statuses=ACTIVE, search=search, **filters)
    return list(sampling.ways(wanted, sort, after, 21))


@pytest.mark.usefixtures("sample")
def test_a_common_word_is_met_in_any_order_soon() -> None:
    for sort in ("newest", "price", "-price", "rating"):
        assert ways(sort, q="oak") == [Way("order")]
    assert [way.by for way in ways("relevance", q="oak")] == ["order", "words"]


@pytest.mark.usefixtures("sample")
def test_a_rare_word_is_looked_up() -> None:
    for sort in ("newest", "price", "relevance"):
        assert [way.by for way in ways(sort, q="ivory")] == ["words"]
        assert [way.by for way in ways(sort, q="never seen")] == ["words"]


@pytest.mark.usefixtures("sample")
def test_only_the_rare_words_of_several_are_looked_up() -> None:
    assert ways("price", q="table ivory oak") == [Way("words", terms=(1,))]


@pytest.mark.usefixtures("sample")
def test_a_word_that_is_common_but_in_names_is_looked_up_in_names() -> None:
    assert ways("relevance", q="wash") == [
        Way("names", ranks=(2, 1), terms=(0,)), Way("order", ranks=(0,)),
    ]  # fmt: skip
    # Behind a key of the last rank there is nothing else to ask.
    assert ways("relevance", (0, 50_000), q="wash") == [Way("order", ranks=(0,))]


def test_names_are_not_looked_up_while_listings_are_made_anew(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert any(way.by == "names" for way in ways("relevance", q="wash"))
    monkeypatch.setattr(sample, "is_current", False)

    assert all(way.by != "names" for way in ways("relevance", q="wash"))


@pytest.mark.usefixtures("sample")
def test_what_is_common_but_comes_late_is_looked_up() -> None:
    """What is dear is soon met from above, and not from below."""
    for sort in ("newest", "-price", "rating"):
        assert ways(sort, q="luxury") == [Way()]
    assert ways("price", q="luxury") == [Way("words", terms=(0,))]


@pytest.mark.usefixtures("sample")
def test_values_lie_in_the_order_of_prices() -> None:
    for sort in ("price", "-price"):
        assert ways(sort, attributes={"brand": ["Dear"]}) == [Way("values")]


@pytest.mark.usefixtures("sample")
def test_the_end_of_a_list_is_not_walked_to() -> None:
    assert ways("newest", q="oak") == [Way()]
    assert ways("newest", (150,), q="oak") == [Way("words", terms=(0,))]


@pytest.mark.usefixtures("sample")
def test_what_is_not_filtered_by_words_or_values_needs_no_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_sample", None)

    assert ways("price", categories=(3,), in_stock=True) == [Way()]


def test_a_sample_is_taken_of_a_catalogue_and_kept(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    for name in ("Oak", "Ash"):
        factories.create_product(client, staff, name=name, attributes={"wood": name})
    with app.app_context():
        taken = sampling._take()

        assert (len(taken.listings), taken.each, taken.is_current) == (2, 1, True)
        wanted = Wanted(statuses=ACTIVE, search=Search("oak"), attributes={"wood": ["Oak"]})
        (number,) = taken.fitting(wanted)
        assert taken.listings[number].name == "oak"
        assert sampling._sample() is sampling._sample()

        session.execute(update(ProductListing).values(words_version=1))
        session.commit()
        assert not sampling._take().is_current


def test_a_sample_goes_by_no_step(
    app: Flask, client: FlaskClient, staff: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What recurs with every tenth product would be a tenth as common as all, or not there."""
    rows = [factories.product_body(name="ivory" if n % 10 == 0 else "ash") for n in range(200)]
    answer = client.post("/api/v1/products/bulk", json={"rows": rows}, headers=staff)
    assert answer.status_code == 200
    monkeypatch.setattr(sampling, "_SIZE", 20)
    with app.app_context():
        taken = [sampling._take() for _ in range(10)]

    assert {it.each for it in taken} == {10}
    assert all(len(it.listings) == 20 for it in taken)
    found = [len(it.fitting(Wanted(statuses=ACTIVE, search=Search("ivory")))) for it in taken]
    assert sum(found) > 0
    assert max(found) < 20


def test_an_empty_catalogue_has_a_sample_too(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        assert sampling._take().listings == []
    assert client.get("/api/v1/products?q=oak&sort=price").get_json()["items"] == []
