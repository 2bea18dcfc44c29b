"""Who makes a trace: people who use the whole shop, by chance, from a seed.

They see only one shop's answers. What they send is written down by references, so that it can be
played at another shop.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests import factories
from tests.stories import words
from tests.stories.spoiling import spoilt
from tests.stories.trace import Answer, Parts, Player, Ref, Request
from tests.users.checks import OTHER_PASSWORD

API = "/api/v1"
STAFF, ADMIN, ANNA, BOB = "staff@example.com", "admin@example.com", "Anna@example.com", "bob@e.org"
#: How many requests of a hundred have something wrong with them.
_SPOILT = 25
Json = dict[str, Any]


class Visitors:
    """Sends requests until there are enough. `visitors.py` knows no answer but those it got."""

    def __init__(self, player: Player, seed: int) -> None:
        self.player, self.chance = player, random.Random(seed)
        self._tokens: dict[str, Ref] = {}
        self._things: dict[str, list[Ref]] = {}
        self._tags: dict[Ref, Ref] = {}
        self._skus: list[str] = []
        self._authors: dict[Ref, str] = {}
        self._numbers = 0
        self._first = True

    def visit(self, requests: int) -> None:
        """Set the shop up, do everything twice, then anything."""
        self._open()
        actions = [getattr(self, name) for name in sorted(dir(type(self))) if name[:3] == "do_"]
        for _ in range(2):
            # What finds nothing to be done with the first time may the second time.
            self.chance.shuffle(actions)
            for action in actions:
                action()
        self._first = False
        # Most of what engines could see differently is in lists.
        actions += [self.do_list] * 4 + [self.do_change_product, self.do_change_variant]
        while len(self.player.requests) < requests:
            action = self.chance.choice(actions)
            action()

    # How something is sent

    def _send(
        self, method: str, *url: Any, who: str | None = None, body: Any = None,
        query: Json | None = None, raw: Any = None, spoil: bool = True, **headers: Any,
    ) -> Answer:  # fmt: skip
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if who in self._tokens:
            named["Authorization"] = Parts(("Bearer ", self._tokens[who]))
        request = Request(
            method, Parts((API, *url)), named, body, raw, tuple((query or {}).items())
        )
        if spoil and not self._first and self.chance.randrange(100) < _SPOILT:
            request = spoilt(request, self.chance)
        return self.player.send(request)

    def _deed(self, name: str, **arguments: Any) -> Answer:
        return self.player.send(Request("DO", Parts((name,)), json=arguments))

    def _maybe(self, probability: float) -> bool:
        """By chance; the first time always."""
        return self.chance.random() < probability or self._first

    def _ref(self, *path: str | int, header: str | None = None) -> Ref:
        return Ref(len(self.player.answers) - 1, path, header)

    def _keep(self, kind: str, answer: Answer, *path: str | int) -> None:
        """Remember a new thing and its version."""
        if answer.status not in (200, 201, 202) or answer.at(Ref(0, path)) is None:
            return
        self._things.setdefault(kind, []).append(self._ref(*path))
        self._tags[self._things[kind][-1]] = self._ref(header="ETag")

    def _any(self, kind: str) -> Ref:
        """A thing of a kind, mostly a late one; one that is not there when there is none."""
        things = self._things.get(kind, [])
        return self.chance.choice(things[-12:]) if things else Ref(0, ("nothing",))

    def _late(self, kind: str) -> Ref:
        """The latest thing of a kind, or any."""
        return self._things[kind][-1] if self._maybe(0.4) else self._any(kind)

    def _change(self, method: str, url: str, thing: Ref, body: Json | None = None) -> int:
        """Change or delete a thing, with the version that was seen last."""
        collection = url.rstrip("/")
        if collection != "/variants" and self.chance.random() < 0.7:
            self._look(f"{collection}/", thing)
        tag: Any = self._tags.get(thing)
        if collection == "/variants" or self.chance.random() < 0.1:
            tag = self.chance.choice(
                ("*", '"1", "2", "3"', '"1"', '"2"')[: 2 if self._first else 4]
            )
        answer = self._send(method, f"{collection}/", thing, who=STAFF, body=body, If_Match=tag)
        if answer.status == 200:
            self._tags[thing] = self._ref(header="ETag")
        return answer.status

    def _made(self, kind: str, make: Callable[[], None]) -> bool:
        """Whether a thing was made; the first time it is tried until there is one."""
        before = len(self._things.get(kind, ()))
        for _ in range(10 if self._first else 1):
            make()
            if len(self._things.get(kind, ())) > before:
                return True
        return False

    def _delete(self, kind: str, make: Callable[[], None]) -> None:
        """Delete a thing, mostly a new one."""
        new = self._maybe(0.6) and self._made(kind, make)
        thing = self._things[kind][-1] if new else self._any(kind)
        gone = self._change("DELETE", f"/{kind}", thing) == 204
        if gone and self.chance.random() < 0.8:
            self._things[kind].remove(thing)

    def _look(self, url: str, thing: Ref, who: str | None = STAFF) -> None:
        if self._send("GET", url, thing, who=who).status == 200:
            self._tags[thing] = self._ref(header="ETag")
            if self._maybe(0.3):
                self._send("GET", url, thing, who=who, If_None_Match=self._tags[thing])

    def _list(self, url: str, who: str | None, *refs: Any, **query: Any) -> None:
        """A list, and what is behind its first pages."""
        query = {name: value for name, value in query.items() if value is not None}
        if self.chance.random() < 0.7:
            query["limit"] = self.chance.choice((1, 2, 3, 5, 20, 100))
        for _ in range(2 if self._first else 4):
            answer = self._send("GET", url, *refs, who=who, query=query)
            if answer.status != 200 or not answer.body.get("next_cursor"):
                return
            query["cursor"] = self._ref("next_cursor")

    def _key(self) -> str | None:
        self._numbers += 1
        return f"key {self._numbers}" if self.chance.random() < 0.3 else None

    def _create(self, kind: str, who: str, *url: Any, body: Json, path: Any = ("id",)) -> None:
        """Create a thing, now and then twice with the same key."""
        key = self._key()
        answer = self._send("POST", *url, who=who, body=body, Idempotency_Key=key)
        self._keep(kind, answer, *path)
        if key is not None:
            again = self.chance.choice((body, body | {"name": "Something else"}))
            self._send("POST", *url, who=who, body=again, Idempotency_Key=key)

    # Who is there

    def _open(self) -> None:
        self._deed("account", email=ADMIN, role="admin")
        self._deed("account", email=STAFF, role="staff")
        for email in (ANNA, BOB):
            body = {"email": email, "name": "Anna Ö. 😀", "password": factories.PASSWORD}
            self._keep("users", self._send("POST", "/users", body=body), "id")
        self._sign_in()
        for _ in range(4):
            self.do_category()
            self.do_attribute()
        for _ in range(12):
            self.do_product()
        self.do_review()

    def _sign_in(self) -> None:
        for email in (ADMIN, STAFF, ANNA, BOB):
            body = {"email": email, "password": factories.PASSWORD}
            answer = self._send("POST", "/auth/login", body=body, spoil=False)
            if answer.status == 200:
                self._tokens[email] = self._ref("access_token")

    def _newcomer(self) -> str:
        """Somebody who registers and signs in."""
        self._numbers += 1
        odd = words.name(self.chance)[:1] if self.chance.random() < 0.3 else ""
        email = f"{odd}visitor{self._numbers}@example.com"
        body = {"email": email, "name": words.name(self.chance), "password": factories.PASSWORD}
        self._keep("users", self._send("POST", "/users", body=body), "id")
        credentials = {"email": email.upper(), "password": factories.PASSWORD}
        if self._send("POST", "/auth/login", body=credentials).status == 200:
            self._tokens[email] = self._ref("access_token")
        return email

    def do_accounts(self) -> None:
        """Register with a taken address in another spelling, sign in with a wrong password."""
        taken = self.chance.choice((ANNA.upper(), "ｂob@e.org", BOB))
        body = {"email": taken, "name": "Other", "password": factories.PASSWORD}
        self._send("POST", "/users", body=body)
        self._send("POST", "/auth/login", body={"email": taken, "password": OTHER_PASSWORD})

    def do_life_of_an_account(self) -> None:
        who = self._newcomer()
        refresh = self._ref("refresh_token")
        self._send("GET", "/users/me", who=who)
        self._send("POST", "/auth/refresh", body={"refresh_token": refresh})
        # Within some real seconds it could be a race; now it is a theft, and ends the session.
        self._deed("minute")
        self._send("POST", "/auth/refresh", body={"refresh_token": refresh})
        body = {"email": who, "password": factories.PASSWORD}
        if self._send("POST", "/auth/login", body=body).status == 200:
            self._tokens[who] = self._ref("access_token")
        self._send("DELETE", "/users/me/sessions", who=who)
        self._send("POST", "/auth/password/forgot", body={"email": who})
        self._send("POST", "/auth/email/resend", body={"email": who})
        self._deed("mail", email=who.lower(), purpose="reset_password")
        reset: Json = {"token": self._ref("token"), "password": OTHER_PASSWORD}
        for _ in range(2):
            self._send("POST", "/auth/password/reset", body=reset)
        self._send("POST", "/auth/login", body={"email": who, "password": OTHER_PASSWORD})
        self._tokens[who] = self._ref("access_token")
        self._deed("mail", email=who.lower(), purpose="verify_email")
        self._send("POST", "/auth/email/verify", body={"token": self._ref("token")})
        self._send("POST", "/auth/logout", who=who)
        self._send("GET", "/users/me", who=who)

    def do_profile(self) -> None:
        who = self._newcomer()
        self._send("PATCH", "/users/me", who=who, body={"name": words.name(self.chance)})
        email: Json = {"email": f"new-{self._numbers}@example.com"}
        proofs: tuple[Json, ...] = ({}, {"current_password": factories.PASSWORD})
        for proof in proofs:
            self._send("PATCH", "/users/me", who=who, body=email | proof)
        self._list("/users/me/sessions", who)
        session = self._ref("items", 0, "id")
        body = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}
        self._send("POST", "/users/me/password", who=who, body=body)
        self._send("DELETE", "/users/me/sessions/", session, who=who)
        self._send("POST", "/auth/login", body={"email": who, "password": OTHER_PASSWORD})
        self._tokens[who] = self._ref("access_token")
        self._review(who)
        self._send("GET", "/users/me/export", who=who)
        if not self._maybe(0.5):
            self._send("DELETE", "/users/me/sessions", who=who)
            return
        self._send("DELETE", "/users/me", who=who, body={"current_password": OTHER_PASSWORD})
        self._send("GET", "/users/me", who=who)

    def do_addresses(self) -> None:
        who = self.chance.choice((ANNA, BOB))
        self._create("addresses", who, "/users/me/addresses", body=words.address(self.chance))
        mine = self._any("addresses")
        self._send("GET", "/users/me/addresses/", mine, who=who)
        body = words.some_of(words.address(self.chance), self.chance)
        self._send("PATCH", "/users/me/addresses/", mine, who=who, body=body)
        self._list("/users/me/addresses", who)
        if self._maybe(0.4):
            self._send("DELETE", "/users/me/addresses/", mine, who=who)

    def do_people(self) -> None:
        someone = self._any("users")
        role = self.chance.choice((None, "customer", "staff", "admin"))
        email = self.chance.choice((None, ANNA, ANNA.upper(), "nobody@example.com"))
        self._list("/users", ADMIN, role=role, email=email)
        self._send("GET", "/users/", someone, who=STAFF)
        self._newcomer()
        newest = self._things["users"][-1]
        body = self.chance.choice(({"role": "staff"}, {"disabled": True}, {"disabled": False}))
        self._send("PATCH", "/users/", newest, who=ADMIN, body=body)
        self._send("DELETE", "/users/", newest, "/sessions", who=ADMIN)

    def do_api_keys(self) -> None:
        ends = self.chance.choice((None, "2027-01-01T00:00:00.25+02:00", "2026-11-01T00:00:00Z"))
        body = {"name": words.name(self.chance)[:90], "scopes": ["products:write"]}
        answer = self._send("POST", "/api-keys", who=ADMIN, body=body | {"expires_at": ends})
        self._keep("api-keys", answer, "id")
        self._tokens["till"] = self._ref("key")
        product = words.product(self.chance, self._sku)
        self._send("POST", "/products", who="till", body=product)
        self._list("/api-keys", ADMIN)
        if self._maybe(0.5):
            self._send("DELETE", "/api-keys/", self._any("api-keys"), who=ADMIN)

    # The catalogue

    def _sku(self) -> str:
        """A new SKU, or now and then one that differs in its case, or does not differ."""
        self._numbers += 1
        sku = f"Oak-{self._numbers}"
        if self._skus and self.chance.random() < 0.12:
            sku = self.chance.choice((str.upper, str.lower, str))(self.chance.choice(self._skus))
        self._skus.append(sku)
        return sku

    def do_category(self) -> None:
        body: Json = {"name": words.name(self.chance), "position": self.chance.randrange(3)}
        if self._things.get("categories") and self.chance.random() < 0.7:
            body["parent_id"] = self._any("categories")
        if self.chance.random() < 0.3:
            body["slug"] = words.slug(self.chance)
        self._create("categories", STAFF, "/categories", body=body)

    def do_change_category(self) -> None:
        for _ in range(10 if self._first else 1):
            changes: tuple[Json, ...] = (
                {"name": words.name(self.chance)}, {"parent_id": self._any("categories")},
                {"slug": words.slug(self.chance)}, {"position": 1, "parent_id": None},
            )  # fmt: skip
            category, change = self._any("categories"), self.chance.choice(changes)
            if self._change("PATCH", "/categories", category, change) == 200:
                break
        self._send("GET", "/categories", who=self.chance.choice((None, STAFF)))

    def do_delete_category(self) -> None:
        self._delete("categories", self.do_category)

    def do_attribute(self) -> None:
        self._create("attributes", STAFF, "/attributes", body=words.definition(self.chance))
        self._list("/attributes", None)

    def do_change_attribute(self) -> None:
        definition = self._any("attributes")
        changes: tuple[Json, ...] = (
            {"name": words.name(self.chance)}, {"unit": "kg"}, {"options": ["red", "Grün", "😀"]},
        )  # fmt: skip
        self._change("PATCH", "/attributes", definition, self.chance.choice(changes))
        if self._maybe(0.3):
            self._change("DELETE", "/attributes", definition)

    def do_product(self) -> None:
        body = words.product(self.chance, self._sku)
        if self.chance.random() < 0.7 and self._things.get("categories"):
            body["category_id"] = self._any("categories")
        answer_at = len(self.player.answers)
        self._create("products", STAFF, "/products", body=body)
        for number in range(len(body["variants"])):
            if self.player.answers[answer_at].status == 201:
                variant = Ref(answer_at, ("variants", number, "id"))
                self._things.setdefault("variants", []).append(variant)

    def do_look_at_product(self) -> None:
        product = self._any("products")
        self._look("/products/", product, self.chance.choice((None, ANNA, STAFF)))
        self._send("GET", "/products/", replace(product, path=("slug",)))

    def do_change_product(self) -> None:
        product = self._any("products")
        changes = words.some_of(words.product(self.chance, self._sku), self.chance)
        changes.pop("variants", None)
        if self._maybe(0.3):
            changes = {"slug": f"slug-{self.chance.randrange(400)}"}
        if self.chance.random() < 0.4:
            changes["category_id"] = self.chance.choice((None, self._any("categories")))
        self._change("PATCH", "/products", product, changes)
        self._send("GET", "/products/", replace(product, path=("slug",)))

    def do_delete_product(self) -> None:
        self._delete("products", self.do_product)

    def do_variant(self) -> None:
        url = ("/products/", self._any("products"), "/variants")
        self._create("variants", STAFF, *url, body=words.variant(self.chance, self._sku))

    def do_change_variant(self) -> None:
        variant = self._any("variants")
        body = words.some_of(words.variant(self.chance, self._sku), self.chance)
        body.pop("stock", None)
        self._change("PATCH", "/variants", variant, body)
        self._list("/variants/", STAFF, variant, "/prices")

    def do_delete_variant(self) -> None:
        self._delete("variants", self.do_variant)

    def do_stock(self) -> None:
        if self._first:
            self._made("variants", self.do_variant)
        variant = self._late("variants")
        changes: tuple[Json, ...] = (
            {"delta": self.chance.randint(-9, 9)}, {"delta": 10**9}, {"delta": -(10**6)},
            {"set": self.chance.randrange(20)}, {"set": 3, "expected": 7},
        )  # fmt: skip
        change = {"delta": 3} if self._first else self.chance.choice(changes)
        body = change | {"reason": words.name(self.chance)[:100]}
        key = self._key()
        url = ("/variants/", variant, "/stock")
        for _ in range(2 if key else 1):
            self._send("POST", *url, who=STAFF, body=body, Idempotency_Key=key)
        self._send("GET", *url, who=STAFF)
        self._list("/variants/", STAFF, variant, "/stock/movements")

    def do_list(self) -> None:
        for _ in range(2):
            query = words.query(self.chance)
            if self.chance.random() < 0.3:
                query["category"] = self._any("categories")
            self._list("/products", self.chance.choice((None, ANNA, STAFF)), **query)

    def do_read_audit(self) -> None:
        query = {"limit": "7"}
        if not self._first:
            query["table"] = self.chance.choice(("products", "variants", "users", "reviews"))
        if self.chance.random() < 0.5:
            query["action"] = self.chance.choice(("insert", "update", "delete"))
        self._list("/audit", STAFF, **query)
        self._send("GET", "/audit/events", who=STAFF, query={"after": "0"})

    def do_jobs(self) -> None:
        who = ADMIN if self._first else self.chance.choice((None, ANNA, STAFF, ADMIN))
        name = "publish" if self._first else self.chance.choice(("publish", "prune", "nothing"))
        self._send("POST", f"/jobs/{name}/run", who=who)
        self._send("PATCH", f"/jobs/{name}", who=who, body={"enabled": self.chance.random() < 0.5})
        self._send("GET", "/jobs", who=who)
        self._send("GET", f"/jobs/{name}/runs", who=who, query={"limit": "2"})

    def do_bulk(self) -> None:
        rows: list[Any] = [words.product(self.chance, self._sku) for _ in range(3)]
        change = {"version": "*", "name": words.name(self.chance)}
        rows.append({"id": self._any("products"), **change})
        sku = self.chance.choice(self._skus)
        rows.append({"sku": sku, "version": "*", "price": {"amount": 5, "currency": "EUR"}})
        if self.chance.random() < 0.4:
            rows.insert(1, {"sku": "not there", "version": 1, "stock": -1})
        self.chance.shuffle(rows)
        policy = "skip_bad_rows" if self._maybe(0.5) else "all_or_nothing"
        self._send("POST", "/products/bulk", who=STAFF, body={"policy": policy, "rows": rows})

    def do_import(self) -> None:
        kind, file = words.file(self.chance, self._sku)
        query = {"policy": self.chance.choice(("skip_bad_rows", "check_first"))}
        if self.chance.random() < 0.3:
            query["dry_run"] = "true"
        url = "/products/imports"
        answer = self._send("POST", url, who=STAFF, raw=file, query=query, Content_Type=kind)
        self._keep("imports", answer, "id")
        if not self._first and self.chance.random() < 0.6:
            self._deed("transfers")
        begun = self._any("imports")
        self._send("GET", f"{url}/", begun, who=STAFF)
        self._list(f"{url}/", STAFF, begun, "/errors")
        self._send("POST", f"{url}/", begun, "/cancel", who=STAFF)
        self._list(url, STAFF)

    def do_export(self) -> None:
        url, format = "/products/exports", self.chance.choice(("csv", "jsonl"))
        body = {"format": format, "status": self.chance.choice((None, "active", "draft"))}
        self._keep("exports", self._send("POST", url, who=STAFF, body=body), "id")
        if self._maybe(0.8):
            self._deed("transfers")
        begun = self._any("exports")
        self._send("GET", f"{url}/", begun, who=STAFF)
        self._send("GET", f"{url}/", begun, "/file", who=STAFF)
        self._list(url, STAFF)

    # Reviews

    def _review(self, who: str) -> None:
        def write() -> None:
            url = ("/products/", self._any("products"), "/reviews")
            self._create("reviews", who, *url, body=words.review(self.chance))

        if self._made("reviews", write):
            self._authors[self._things["reviews"][-1]] = who

    def do_review(self) -> None:
        for who in (self._newcomer(), self.chance.choice((ANNA, BOB))):
            self._review(who)
            if self._maybe(0.7):
                self._send("POST", "/reviews/", self._late("reviews"), "/approve", who=STAFF)

    def do_moderate(self) -> None:
        review = self._any("reviews")
        if self._maybe(0.3):
            self._send("POST", "/reviews/", review, "/reject", who=STAFF)
        if self._maybe(0.7):
            self._send("POST", "/reviews/", review, "/approve", who=STAFF)
        body = {"text": words.name(self.chance)}
        self._send("POST", "/reviews/", review, "/reply", who=STAFF, body=body)
        status = self.chance.choice((None, "pending", "approved", "rejected"))
        self._list("/reviews", STAFF, status=status)

    def do_judge_review(self) -> None:
        if self._first:
            self.do_review()
        review = self._late("reviews")
        who = self._newcomer() if self._maybe(0.3) else self.chance.choice((ANNA, BOB))
        self._send("PUT", "/reviews/", review, "/vote", who=who)
        if self._maybe(0.3):
            self._send("DELETE", "/reviews/", review, "/vote", who=who)
        body = {"reason": words.name(self.chance)}
        self._create("reports", who, "/reviews/", review, "/reports", body=body)
        self._send("GET", "/reviews/", review, who=who)
        sort = self.chance.choice((None, "newest", "helpful", "rating"))
        product = replace(review, path=("product_id",))
        self._list("/products/", STAFF, product, "/reviews", sort=sort)

    def do_change_review(self) -> None:
        if self._maybe(0.4):
            self._review(self._newcomer())
        review = self._late("reviews")
        who = self._authors[review] if self._maybe(0.7) else self.chance.choice((ANNA, BOB, ADMIN))
        body = words.some_of(words.review(self.chance), self.chance)
        self._send("PATCH", "/reviews/", review, who=who, body=body)
        if self._maybe(0.4):
            self._send("DELETE", "/reviews/", review, who=who)

    # Notifications

    def do_look_at_notifications(self) -> None:
        """What came, reading and throwing away, also what is somebody else's or does not exist."""
        url, body = "/notifications", {"title": words.name(self.chance), "text": "All of it."}
        self._send("GET", "/users/me", who=ANNA, spoil=False)
        to = {"user_id": self._ref("id")} if self._maybe(0.8) else {"role": "customer"}
        self._send("POST", url, who=STAFF, body=body | to, Idempotency_Key=self._key())
        if self.player.answers[-1].status == 202:
            self._send("GET", f"{url}/messages/", self._ref("id"), who=STAFF)
        self._list(url, ANNA, unread=self.chance.choice((None, "true")))
        self._send("GET", f"{url}/unread-count", who=ANNA)
        if self._send("GET", url, who=ANNA, query={"limit": 3}).at(Ref(0, ("items", 0))):
            newest = self._ref("items", 0, "id")
            for who in (BOB, ANNA):
                self._send("POST", f"{url}/", newest, "/read", who=who)
            self._send("DELETE", f"{url}/", newest, who=ANNA)
        query = {} if self._maybe(0.5) else {"through": "7"}
        self._send("POST", f"{url}/read-all", who=ANNA, query=query)
        self._send("GET", f"{url}/stream", who=ANNA)

    def do_choose_notifications(self) -> None:
        url = "/notifications/preferences"
        kind = self.chance.choice(("order-placed", "order-paid", "message", "weather"))
        wishes = {kind: {"inbox": self._maybe(0.5), "email": self._maybe(0.5)}}
        self._send("PUT", url, who=ANNA, body={"preferences": {} if self._first else wishes})
        for who in (ANNA, STAFF):
            self._send("GET", url, who=who)

    # What else happens

    def do_time(self) -> None:
        """Drafts are published; now and then it is tomorrow."""
        waits = (timedelta(minutes=1), timedelta(hours=25), timedelta(days=11))
        wait = self.chance.choice(waits)
        self.player.send(Request("DO", Parts(("publish",)), wait=wait))
        if wait > timedelta(hours=1):
            self._sign_in()

    def do_get_lost(self) -> None:
        """Addresses, methods and callers that do not fit."""
        if self._first:
            self._send("PUT", "/products", who=STAFF)
            for raw, kind in ((b"{", "application/json"), (b"name", "text/plain"),
                              (b" " * 1_100_000, "application/json")):  # fmt: skip
                self._send("POST", "/products", who=STAFF, raw=raw, Content_Type=kind)
            self._send("PATCH", "/products/", self._any("products"), who=STAFF, body={"name": "x"})
        paths = ("/nothing", "/products/", "/products/0", "/products/9223372036854775808",
                 "/products/١", "/variants/1/stock/", "/users/me/", "/products/%00", "/%ff",
                 "/products/Öak", "/categories/-1", "/reviews/1e1")  # fmt: skip
        method = self.chance.choice(("GET", "PUT", "DELETE", "POST", "PATCH", "HEAD", "OPTIONS"))
        who = self.chance.choice((None, ANNA, STAFF))
        self._send(method, self.chance.choice(paths), who=who)
