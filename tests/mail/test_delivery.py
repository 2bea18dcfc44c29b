"""Mail goes out after the commit, at least once, by one at a time, and says nothing in the logs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shop.db import database_ms, db, transactional, writing
from shop.leases import LeaseRow
from shop.mail import operations, transport
from shop.mail.delivery import CLAIM_SECONDS, MOST_ATTEMPTS, Composer, Delivery
from shop.mail.letters import Letter
from shop.mail.models import OutgoingMail
from shop.mail.transport import MailRefused, ServerDown
from shop.scheduler import Scheduler
from tests.audit.running import eventually
from tests.mail.servers import MailServer, silent_server

SENDER = "Oak Shop <shop@oak.example>"
VALUES = {"name": "Ann Larsson", "code": "c0de-of-ann", "link": None}


def compose(_session: Session, _mail: OutgoingMail) -> dict[str, Any] | None:
    return VALUES


#: What is noted when a command is refused.
REFUSED = {"RCPT": "recipient refused", "DATA": "content refused"}
COMPOSERS: Mapping[str, Composer] = {"verify_email": compose}


class Killed(BaseException):
    """The process ends here."""


class Post:
    """A mail server of the test's own, without a network: does what it is told, keeps letters."""

    def __init__(self, *moods: BaseException | Callable[[], object] | None) -> None:
        self.letters: list[Letter] = []
        self.moods = list(moods)

    def __call__(self, letter: Letter) -> None:
        mood = self.moods.pop(0) if self.moods else None
        if isinstance(mood, BaseException):
            raise mood
        self.letters.append(letter)
        if mood is not None:
            mood()


def over_smtp(app: Flask, url: str, composers: Mapping[str, Composer] = COMPOSERS) -> Delivery:
    transport.register(app, url, SENDER)
    return Delivery(app, transport.send, composers, SENDER)


def over(app: Flask, post: Post, composers: Mapping[str, Composer] = COMPOSERS) -> Delivery:
    return Delivery(app, post, composers, SENDER)


def owe(app: Flask, *recipients: str, kind: str = "verify_email") -> None:
    """Commit a mail to each of them."""

    @transactional
    def enqueue() -> None:
        for recipient in recipients or ("ann@example.com",):
            operations.enqueue(db.session(), kind, recipient, {"some": "fact"})

    with app.app_context():
        enqueue()


def outbox(session: Session) -> list[OutgoingMail]:
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(OutgoingMail).order_by(OutgoingMail.id)))


def seconds_until_due(session: Session) -> float:
    session.rollback()
    milliseconds = session.execute(select(OutgoingMail.due_ms - database_ms())).scalar_one()
    assert milliseconds is not None
    return milliseconds / 1000


def let_time_pass(app: Flask, **changes: Any) -> None:
    """Make every mail due that is going to be."""
    later = update(OutgoingMail).where(OutgoingMail.due_ms.is_not(None))
    with writing(app.extensions["shop"].engine) as connection:
        connection.execute(later.values(due_ms=database_ms() - 1, **changes))


def test_a_mail_arrives_as_text_and_as_html_and_leaves_the_outbox(
    app: Flask, session: Session, server: MailServer, logged: list[str]
) -> None:
    owe(app, "ann@example.com")

    assert over_smtp(app, server.url).deliver_due() == 1

    (message,) = server.messages
    assert (message["From"], message["To"]) == (SENDER, "ann@example.com")
    assert message["Subject"] == "Confirm your e-mail address"
    assert message["Message-ID"].startswith("<mail-")
    assert message["Message-ID"].endswith("@oak.example>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime is not None
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert "c0de-of-ann" in text.get_content().splitlines()
    assert html.get_content_type() == "text/html"
    assert "<code>c0de-of-ann</code>" in html.get_content()
    assert server.envelopes[0].mail_from == "shop@oak.example"
    assert outbox(session) == []
    assert any("mail.sent" in line for line in logged)


def test_a_hostile_name_gets_no_further_than_the_greeting(app: Flask, server: MailServer) -> None:
    name = "Ann\r\n.\r\nRCPT TO:<eve@example.com>\r\nBcc: eve@example.com\r\n\r\n<script>"
    owe(app, "ann@example.com")
    delivery = over_smtp(app, server.url, {"verify_email": lambda *_: VALUES | {"name": name}})

    assert delivery.deliver_due() == 1

    (message,) = server.messages
    assert server.recipients == ["ann@example.com"]
    assert message["Bcc"] is None
    assert message["Subject"] == "Confirm your e-mail address"
    text, html = message.iter_parts()
    said = "Hello Ann . RCPT TO:<eve@example.com> Bcc: eve@example.com <script>,"
    assert text.get_content().splitlines()[0] == said
    assert "<script" not in html.get_content()


def test_a_mail_exists_from_the_commit_on(app: Flask, session: Session, server: MailServer) -> None:
    delivery = over_smtp(app, server.url)
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.flush()
    assert delivery.deliver_due() == 0

    session.rollback()
    assert delivery.deliver_due() == 0

    operations.enqueue(session, "verify_email", "bob@example.com")
    session.commit()
    assert delivery.deliver_due() == 1
    assert server.recipients == ["bob@example.com"]


def test_the_composer_gets_what_was_enqueued(app: Flask) -> None:
    seen = []

    def look(_session: Session, mail: OutgoingMail) -> dict[str, Any]:
        seen.append((mail.kind, mail.recipient, mail.data))
        return VALUES

    owe(app, "ann@example.com")
    over(app, Post(), {"verify_email": look}).deliver_due()

    assert seen == [("verify_email", "ann@example.com", {"some": "fact"})]


def test_while_the_server_is_away_nothing_is_lost(
    app: Flask, session: Session, server: MailServer
) -> None:
    server.stop()
    delivery = over_smtp(app, server.url)
    owe(app, "ann@example.com", "bob@example.com")

    assert delivery.deliver_due() == 0
    first, second = outbox(session)
    assert (first.attempts, first.claim) == (1, None)
    assert first.last_error == "ConnectionRefusedError: Connection refused"
    assert second.attempts == 0, "the others would have fared no better"

    server.start()
    assert delivery.deliver_due() == 1, "only what is due"
    let_time_pass(app)
    assert delivery.deliver_due() == 1
    assert sorted(server.recipients) == ["ann@example.com", "bob@example.com"]
    assert outbox(session) == []


@pytest.mark.parametrize("command", REFUSED)
def test_a_mail_that_is_refused_for_now_is_sent_later(
    app: Flask, session: Session, server: MailServer, command: str
) -> None:
    server.answers[command] = ["451 4.7.1 Come back, ann@example.com"]
    delivery = over_smtp(app, server.url)
    owe(app, "ann@example.com", "bob@example.com")

    assert delivery.deliver_due() == 1, "the next one is not held up"
    (mail,) = outbox(session)
    assert (mail.recipient, mail.last_error) == (
        "ann@example.com",
        f"{REFUSED[command]}: 451 4.7.1",
    )

    let_time_pass(app)
    assert delivery.deliver_due() == 1
    assert server.recipients == ["bob@example.com", "ann@example.com"]


@pytest.mark.parametrize("command", REFUSED)
def test_a_mail_that_is_refused_for_good_is_given_up_and_kept_to_be_seen(
    app: Flask, session: Session, server: MailServer, command: str,
    logged: list[str],
) -> None:  # fmt: skip
    server.answers[command] = ["550 5.1.1 There is no ann@example.com"]
    delivery = over_smtp(app, server.url)
    owe(app)

    delivery.deliver_due()
    let_time_pass(app)

    assert delivery.deliver_due() == 0
    assert server.messages == []
    (mail,) = outbox(session)
    assert (mail.due_ms, mail.attempts) == (None, 1)
    assert mail.last_error == f"{REFUSED[command]}: 550 5.1.1"
    assert any("mail.given-up" in line for line in logged)


def test_a_server_that_does_not_want_the_shop_costs_no_mail(
    app: Flask, session: Session, server: MailServer
) -> None:
    server.answers["MAIL"] = ["550 5.7.1 Not from you"]
    delivery = over_smtp(app, server.url)
    owe(app)

    assert delivery.deliver_due() == 0
    assert outbox(session)[0].last_error == "SMTPSenderRefused: 550 5.7.1"

    let_time_pass(app)
    assert delivery.deliver_due() == 1


def test_a_wrong_password_of_the_shop_keeps_the_mail(app: Flask, session: Session) -> None:
    with MailServer(auth_require_tls=False) as server:
        server.password = b"another"
        url = server.url.replace("//", "//shop:right@") + "?starttls=off"
        delivery = over_smtp(app, url)
        owe(app)

        assert delivery.deliver_due() == 0
        (mail,) = outbox(session)
        assert mail.due_ms is not None
        assert mail.last_error == "SMTPAuthenticationError: 535 5.7.8"

        server.password = b"right"
        let_time_pass(app)
        assert delivery.deliver_due() == 1
        assert server.logins[-1] == (b"shop", b"right")


def test_a_silent_server_is_not_waited_for(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_ANSWER_SECONDS", 0.2)
    owe(app, "ann@example.com", "bob@example.com")
    with silent_server() as url:
        assert over_smtp(app, url).deliver_due() == 0

    first, second = outbox(session)
    assert first.last_error == "SMTPServerDisconnected: Connection unexpectedly closed: timed out"
    assert second.attempts == 0


def test_each_failure_makes_the_next_wait_longer_up_to_an_hour(
    app: Flask, session: Session
) -> None:
    owe(app)
    waits = {}
    for attempts in (0, 1, 5, 7, 10):
        let_time_pass(app, attempts=attempts)
        over(app, Post(ServerDown("away"))).deliver_due()
        waits[attempts + 1] = seconds_until_due(session)

    longest = {1: 30, 2: 60, 6: 960, 8: 3600, 11: 3600}
    for attempt, wait in waits.items():
        # What the test itself takes counts too.
        assert longest[attempt] / 2 - 10 < wait <= longest[attempt]


def test_while_the_server_is_away_no_mail_is_given_up(app: Flask, session: Session) -> None:
    owe(app)
    let_time_pass(app, attempts=10_000)

    over(app, Post(ServerDown("away"))).deliver_due()

    assert outbox(session)[0].due_ms is not None
    assert 1800 - 10 < seconds_until_due(session) <= 3600


def test_after_twelve_refusals_a_mail_is_given_up(app: Flask, session: Session) -> None:
    owe(app)
    let_time_pass(app, attempts=MOST_ATTEMPTS - 2)
    post = Post(MailRefused("not now"), MailRefused("not now"))

    over(app, post).deliver_due()
    assert outbox(session)[0].due_ms is not None

    let_time_pass(app)
    over(app, post).deliver_due()
    (mail,) = outbox(session)
    assert (mail.due_ms, mail.attempts, mail.last_error) == (None, MOST_ATTEMPTS, "not now")


def test_racing_deliveries_send_each_mail_once(
    app: Flask, session: Session, server: MailServer
) -> None:
    everybody = [f"customer{n}@example.com" for n in range(40)]
    owe(app, *everybody)
    deliveries = [over_smtp(app, server.url) for _ in range(4)]
    together = threading.Barrier(len(deliveries))
    failures: list[BaseException] = []

    def work(delivery: Delivery) -> None:
        together.wait()
        try:
            while outbox_is_due():
                delivery.deliver_due()
        except BaseException as error:
            failures.append(error)

    def outbox_is_due() -> bool:
        with Session(app.extensions["shop"].engine) as own:
            due = select(OutgoingMail.id).where(OutgoingMail.due_ms <= database_ms())
            return own.execute(due.limit(1)).first() is not None

    threads = [threading.Thread(target=work, args=(delivery,)) for delivery in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert Counter(server.recipients) == Counter(everybody)
    assert outbox(session) == []


@pytest.mark.parametrize("sent", [False, True], ids=["before sending", "after sending"])
def test_a_mail_whose_process_died_is_sent_when_the_claim_has_run_out(
    app: Flask, session: Session, sent: bool
) -> None:
    def die() -> None:
        raise Killed

    owe(app)
    dying = Post(die if sent else Killed())
    with pytest.raises(Killed):
        over(app, dying).deliver_due()

    next_one = Post()
    assert over(app, next_one).deliver_due() == 0, "it may be in good hands"
    assert CLAIM_SECONDS - 20 < seconds_until_due(session) <= CLAIM_SECONDS

    let_time_pass(app)
    assert over(app, next_one).deliver_due() == 1
    assert len(next_one.letters) == 1
    if sent:
        assert dying.letters == next_one.letters, "a duplicate can be known by its Message-ID"


def test_who_lost_a_claim_decides_nothing_any_more(app: Flask, session: Session) -> None:
    def be_overtaken() -> None:
        let_time_pass(app)
        over(app, Post(ServerDown("away"))).deliver_due()

    owe(app)
    over(app, Post(be_overtaken)).deliver_due()

    (mail,) = outbox(session)
    assert (mail.attempts, mail.last_error) == (2, "away")


def test_nothing_is_held_in_the_database_while_a_mail_is_sent(app: Flask) -> None:
    held = []

    def look() -> None:
        shop = app.extensions["shop"]
        held.append(shop.engine.pool.checkedout() + shop.reader.pool.checkedout())

    owe(app)
    over(app, Post(look)).deliver_due()

    assert held == [0]


def test_an_idle_outbox_costs_one_question(app: Flask) -> None:
    owe(app, "ann@example.com", "bob@example.com")
    over(app, Post(MailRefused("not now"), MailRefused("never", for_good=True))).deliver_due()
    asked: list[str] = []
    shop = app.extensions["shop"]

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    for engine in (shop.engine, shop.reader):
        event.listen(engine, "before_cursor_execute", note)
    try:
        over(app, Post()).deliver_due()
    finally:
        for engine in (shop.engine, shop.reader):
            event.remove(engine, "before_cursor_execute", note)

    assert len([statement for statement in asked if statement != "BEGIN"]) == 1


def test_a_mail_for_nobody_is_dropped(app: Flask, session: Session, logged: list[str]) -> None:
    post = Post()
    owe(app)

    assert over(app, post, {"verify_email": lambda *_: None}).deliver_due() == 0

    assert post.letters == []
    assert outbox(session) == []
    assert any("mail.dropped" in line for line in logged)


def test_what_a_composer_writes_is_committed_before_the_mail_goes(
    app: Flask, session: Session
) -> None:
    def write(own: Session, _mail: OutgoingMail) -> dict[str, Any]:
        own.add(LeaseRow(name="token", owner="", token=1, expires_ms=0))
        return VALUES

    seen: list[str] = []
    owe(app)
    post = Post(lambda: seen.extend(session.scalars(select(LeaseRow.name))))
    over(app, post, {"verify_email": write}).deliver_due()

    assert seen == ["token"]


def test_a_composer_that_fails_leaves_nothing_and_holds_nobody_up(
    app: Flask, session: Session, logged: list[str]
) -> None:
    def fail(own: Session, mail: OutgoingMail) -> dict[str, Any]:
        own.add(LeaseRow(name="token", owner="", token=1, expires_ms=0))
        own.flush()
        raise LookupError(f"nothing known of {mail.recipient}")

    post = Post()
    owe(app, "ann@example.com", kind="reset_password")
    owe(app, "bob@example.com")

    assert over(app, post, {**COMPOSERS, "reset_password": fail}).deliver_due() == 1

    assert [letter.recipient for letter in post.letters] == ["bob@example.com"]
    (mail,) = outbox(session)
    assert mail.attempts == 1
    assert mail.last_error is not None
    assert mail.last_error.startswith("LookupError at test_delivery.py:")
    assert session.scalars(select(LeaseRow.name)).all() == []
    assert not [line for line in logged if "ann@" in line]


def test_a_mail_of_a_kind_that_nobody_here_knows_waits_for_one_who_does(
    app: Flask, session: Session
) -> None:
    owe(app)
    over(app, Post(), {}).deliver_due()
    assert outbox(session)[0].last_error == "nobody here composes verify_email"

    let_time_pass(app)
    assert over(app, Post()).deliver_due() == 1


def test_a_mail_without_all_its_values_does_not_go(app: Flask, session: Session) -> None:
    post = Post()
    owe(app)
    over(app, post, {"verify_email": lambda *_: {"name": "Ann", "link": None}}).deliver_due()

    assert post.letters == []
    error = outbox(session)[0].last_error
    assert error is not None
    assert error.startswith("UndefinedError at ")


def test_the_logs_and_the_outbox_tell_neither_the_recipient_nor_what_the_mail_says(
    app: Flask, session: Session, server: MailServer, logged: list[str]
) -> None:
    link = "https://oak.example/account#c0de-of-ann"
    repeated = f"ann@example.com: I do not like {link}"
    server.answers |= {
        "MAIL": [f"451 {repeated}"],
        "RCPT": [f"451 {repeated}"],
        "DATA": [f"451 4.7.1 {repeated}"],
    }
    delivery = over_smtp(
        app, server.url, {"verify_email": lambda *_: VALUES | {"link": link}}
    )  # fmt: skip
    owe(app)
    errors = []
    while rows := outbox(session):
        errors.append(rows[0].last_error)
        let_time_pass(app)
        delivery.deliver_due()
    owe(app, "ann@example.com>")
    delivery.deliver_due()
    errors.append(outbox(session)[0].last_error)

    assert len(server.messages) == 1
    assert len(logged) == 5
    assert len(errors) == 5
    for line in [*logged, *errors]:
        for secret in ("ann@", "example.com", "c0de", "Larsson", "oak.example"):
            assert secret not in (line or "")


def test_one_call_sends_a_bounded_number(app: Flask) -> None:
    owe(app, *(f"customer{n}@example.com" for n in range(23)))
    delivery = over(app, Post())

    assert [delivery.deliver_due() for _ in range(3)] == [20, 3, 0]


def test_a_delivery_that_is_stopped_ends_after_the_mail_in_hand(
    app: Flask, session: Session
) -> None:
    owe(app, "ann@example.com", "bob@example.com")
    post = Post()
    delivery = over(app, post)
    post.moods.append(delivery.stop)

    assert delivery.deliver_due() == 1

    assert [mail.recipient for mail in outbox(session)] == ["bob@example.com"]
    assert delivery.deliver_due() == 0


def test_new_mail_goes_before_what_is_tried_again(app: Flask) -> None:
    owe(app, "ann@example.com")
    over(app, Post(MailRefused("not now"))).deliver_due()
    let_time_pass(app)
    owe(app, "bob@example.com")
    post = Post()

    over(app, post).deliver_due()

    assert [letter.recipient for letter in post.letters] == ["bob@example.com", "ann@example.com"]


def test_the_scheduler_delivers_and_survives_a_database_that_is_away(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    delivery = over(app, Post())
    real = delivery.deliver_due
    calls: list[None] = []

    def fail_first() -> int:
        calls.append(None)
        if len(calls) == 1:
            raise OperationalError("SELECT", {}, Exception("gone"))
        return real()

    monkeypatch.setattr(delivery, "deliver_due", fail_first)
    owe(app)
    scheduler = Scheduler(app, (), None, silence_seconds=10, delivery=delivery)
    scheduler.start()
    eventually(lambda: outbox(session) == [])
    scheduler.stop()

    assert any("mail.cannot-deliver" in line for line in logged)
    owe(app)
    assert real() == 0, "stopping the scheduler stops the delivery"
