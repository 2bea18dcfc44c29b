"""Visitors who also order, pay, cancel, send and give back."""

from __future__ import annotations

from typing import Any

from tests.stories import words
from tests.stories.trace import Parts, Player, Ref
from tests.stories.visitors import ANNA, BOB, STAFF, Visitors

_WHERE = {"name": "Anna Ö.", "line1": "Gata 1", "city": "Åre", "postal_code": "837 52",
          "country": "SE"}  # fmt: skip
_TOKENS = ("tok_approve", "tok_decline", "tok_action", "tok_later", "tok_away", None)


class Buyers(Visitors):
    """Each deed makes an order of its own, and goes some way with it."""

    def do_order_and_look(self) -> None:
        """Order, send the same again, look at it and at all of one's own."""
        order = self._order(again=True)
        for who in (ANNA, STAFF, BOB):
            self._look_at(order, who)
        for who in (ANNA, STAFF):
            status = self.chance.choice((None, "placed", "cancelled", "completed"))
            self._list("/orders", who, status=status)

    def do_order_too_much(self) -> None:
        """More than is there, something that is not, another total, an address book's address."""
        self._order(quantity=self.chance.choice((6, 10_001)))
        self._order(sku="NOTHING-OF-THAT-NAME")
        self._order(expected={"amount": 1, "currency": "EUR"})

    def do_order_and_cancel(self) -> None:
        """Cancel, and cancel again; sometimes after paying."""
        order = self._order()
        if self._maybe(0.5):
            self._pay(order, "tok_approve")
        for _ in range(2):
            self._send("POST", "/orders/", order, "/cancel", who=ANNA)

    def do_order_pay_and_send(self) -> None:
        """The whole way, and a part of the money back."""
        order = self._order()
        token = "tok_approve" if self._first else self.chance.choice(_TOKENS)
        self._pay(order, token)
        body = {"carrier": "Post", "tracking": "4711"} if self._maybe(0.5) else {}
        self._send("POST", "/orders/", order, "/ship", who=STAFF, body=body)
        self._send("POST", "/orders/", order, "/deliver", who=STAFF)
        for amount in (100, self.chance.choice((1, 10**6))):
            money = {"amount": {"amount": amount, "currency": "EUR"}, "reason": "broken"}
            self._send(
                "POST", "/orders/", order, "/refunds", who=STAFF, body=money,
                Idempotency_Key=self._new_key(),
            )  # fmt: skip
        self._look_at(order, ANNA)

    def do_order_and_hear(self) -> None:
        """A payment that ends later, by a message of the provider, which comes twice."""
        payment = self._pay(self._order(), "tok_later")
        kind = "succeeded" if self._first else self.chance.choice(("succeeded", "failed"))
        self._deed(
            "message", kind=f"payment.{kind}", id=f"evt {self._new_key()}",
            reference=Ref(payment, ("reference",)), amount=Ref(payment, ("amount",)),
        )  # fmt: skip
        raw, signature = Parts((self._ref("body"),)), self._ref("signature")
        for _ in range(2):
            self._send(
                "POST", "/payments/webhooks/test", raw=raw, spoil=False,
                Shop_Signature=signature, Content_Type="application/json",
            )  # fmt: skip

    def do_order_and_transfer(self) -> None:
        """A bank transfer, confirmed by staff, twice."""
        payment = self._pay(self._order(), None, provider="manual")
        for _ in range(2):
            self._send("POST", "/payments/", Ref(payment, ("id",)), "/confirm", who=STAFF)

    def do_ad(self) -> None:
        """Show an ad at a placement, change it, see what there is."""
        self._ad()
        ad = self._any("ads")
        for _ in range(1 if self._first else 3):
            body = self.chance.choice((
                {"name": words.name(self.chance)}, {"placement": "cart"}, {"status": "paused"},
                {"status": "active"}, {"product_id": None}, {"ends_at": "2026-11-23T00:00:00Z"},
            ))  # fmt: skip
            self._change("PATCH", "/ads", ad, body)
        for who in (None, STAFF):
            self._list("/ads", who, placement=self.chance.choice((None, "home", "cart")))
            self._look("/ads/", self._late("ads"), who)
        self._list("/ads", None, tokens="true")

    def do_count(self) -> None:
        """Tell of what happened to an ad, twice, and ask for what came of it."""
        self._ad()
        ad = self._late("ads")
        events = [
            {"id": f"event-{self._new_key()}-{n}".replace(" ", "-"), "visitor": f"v-{n % 3}"}
            for n in range(self.chance.randint(1, 5))
        ]
        for kind in ("/clicks", "/impressions"):
            for _ in range(2):
                self._send("POST", "/ads/", ad, kind, body={"events": events})
            agent = self.chance.choice(("Firefox", "Googlebot", "Safari"))
            self._send("POST", "/ads/", ad, kind, body={}, User_Agent=agent)
        query = self.chance.choice(({}, {"url": "https://evil.example"}, {"token": "forged"}))
        for method in ("GET", "HEAD"):
            self._send(method, "/ads/", ad, "/click", query=query)
        if self._maybe(0.3):
            self._deed("roll_up")
        for granularity in ("hour", "day"):
            query = {"granularity": granularity}
            self._send("GET", "/ads/", ad, "/stats", who=STAFF, query=query)

    def do_delete_ad(self) -> None:
        self._delete("ads", self._ad)

    def _ad(self) -> None:
        body = {
            "name": words.name(self.chance), "target_url": "https://example.com/a?b=1",
            "placement": self.chance.choice(("home", "cart")),
        }  # fmt: skip
        self._create("ads", STAFF, "/ads", body=body)

    def _order(
        self, *, quantity: int | None = None, sku: str | None = None, expected: Any = None,
        again: bool = False,
    ) -> Ref:  # fmt: skip
        """Order some of a new product."""
        self._numbers += 1
        own = f"BUY-{self._numbers}"
        price = {"amount": self.chance.choice((500, 1999)), "currency": "EUR"}
        variants = [{"sku": own, "price": price, "stock": 5}]
        product = {"name": f"For sale {self._numbers}", "variants": variants}
        self._send("POST", "/products", who=STAFF, body=product, spoil=False)
        wanted = {"sku": sku or own, "quantity": quantity or self.chance.randint(1, 3)}
        body: dict[str, Any] = {"items": [wanted], "shipping_address": _WHERE}
        if expected is not None:
            body["expected_total"] = expected
        key = self._new_key()
        self._send("POST", "/orders", who=ANNA, body=body, Idempotency_Key=key)
        order = self._ref("id")
        if again:
            self._send("POST", "/orders", who=ANNA, body=body, Idempotency_Key=key)
        return order

    def _pay(self, order: Ref, token: str | None, provider: str = "test") -> int:
        """Pay; the number of the request."""
        body = {"provider": provider} | ({} if token is None else {"token": token})
        key = self._new_key()
        self._send(
            "POST", "/orders/", order, "/payments", who=ANNA, body=body, spoil=False,
            Idempotency_Key=key,
        )  # fmt: skip
        return len(self.player.answers) - 1

    def _look_at(self, order: Ref, who: str) -> None:
        self._send("GET", "/orders/", order, who=who)

    def _new_key(self) -> str:
        self._numbers += 1
        return f"order {self._numbers}"


def visits(player: Player, seed: int, requests: int) -> None:
    """Have visitors send so many requests, or a few more."""
    Buyers(player, seed).visit(requests)
