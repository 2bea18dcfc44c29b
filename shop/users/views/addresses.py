"""One's own address book."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from shop.db import db, transactional
from shop.users import addresses, queries
from shop.users.schemas import AddressIn, AddressList, AddressOut, AddressPatch, address_out
from shop.users.views.me import lock_me, my_id
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LOCATION, Blueprint
from shop.web.callers import SIGNED_IN
from shop.web.idempotency import keep_answer

address_book = Blueprint("addresses", __name__, description="Address books")


@address_book.get("/users/me/addresses")
@address_book.allow(*SIGNED_IN)
@address_book.response(200, AddressList, headers=ETAG)
@address_book.conditional
def list_my_addresses() -> Response:
    """One's whole address book, 50 entries at most."""
    found = db.session.scalars(queries.addresses_of(my_id()))
    return answer({"items": [address_out(address) for address in found]})


@address_book.post("/users/me/addresses")
@address_book.allow(*SIGNED_IN)
@address_book.body(AddressIn)
@address_book.response(201, AddressOut, headers=ETAG | LOCATION)
@address_book.refuses(404, 409)
@address_book.idempotent()
@transactional
def add_my_address(data: dict[str, Any]) -> Response:
    """Add an address. The first one becomes the default for shipping and billing."""
    address = addresses.add_address(db.session(), lock_me().id, data)
    location = url_for("addresses.get_my_address", id=address.id)
    return keep_answer(
        answer(address_out(address), 201, version=address.version, location=location)
    )


@address_book.get("/users/me/addresses/<id:id>")
@address_book.allow(*SIGNED_IN)
@address_book.response(200, AddressOut, headers=ETAG)
@address_book.conditional
@address_book.refuses(404)
def get_my_address(id: int) -> Response:
    """One of one's addresses."""
    address = addresses.find_address(db.session(), my_id(), id)
    return answer(address_out(address), version=address.version)


@address_book.patch("/users/me/addresses/<id:id>")
@address_book.allow(*SIGNED_IN)
@address_book.body(AddressPatch)
@address_book.response(200, AddressOut, headers=ETAG)
@address_book.refuses(404, 412)
@transactional
def change_my_address(changes: dict[str, Any], id: int) -> Response:
    """Change one of one's addresses; what is missing stays. `If-Match` is honoured."""
    address = addresses.find_address(db.session(), lock_me().id, id)
    check_version(address.version)
    addresses.change_address(db.session(), address, changes)
    return answer(address_out(address), version=address.version)


@address_book.delete("/users/me/addresses/<id:id>")
@address_book.allow(*SIGNED_IN)
@address_book.response(204)
@address_book.refuses(404, 412)
@transactional
def delete_my_address(id: int) -> Response:
    """Delete one of one's addresses. `If-Match` is honoured."""
    address = addresses.find_address(db.session(), lock_me().id, id)
    check_version(address.version)
    addresses.delete_address(db.session(), address)
    return Response(status=204)
