"""The doors of the catalogue."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests import factories

URL = "/api/v1/products"


def test_a_created_product_is_answered_as_it_is_then_read(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    answer = client.post(URL, json=factories.product_body(name="Côte table"), headers=staff)

    assert answer.status_code == 201
    read = client.get(answer.headers["Location"])
    assert read.get_json() == answer.get_json()
    assert read.headers["ETag"] == answer.headers["ETag"]
    assert read.get_json()["slug"] == "cote-table"
