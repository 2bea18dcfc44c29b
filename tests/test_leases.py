"""Leases: one holder at a time, by the database's clock."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, exc, update

from shop.db import database_ms, writing
from shop.leases import Lease, LeaseRow


def let_expire(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(update(LeaseRow).values(expires_ms=database_ms() - 1))


def test_only_one_holder_has_the_lease(engine: Engine) -> None:
    first, second = Lease(engine, "drain", 60), Lease(engine, "drain", 60)

    assert first.acquire()
    assert first.held
    assert not second.acquire()
    assert not second.held


def test_a_released_lease_is_free_at_once_and_its_token_rises(engine: Engine) -> None:
    first, second = Lease(engine, "drain", 60), Lease(engine, "drain", 60)
    first.acquire()

    first.release()

    assert not first.held
    assert second.acquire()
    assert second.token == first.token + 1


def test_a_holder_that_was_silent_too_long_is_fenced(engine: Engine) -> None:
    old, new = Lease(engine, "drain", 60), Lease(engine, "drain", 60)
    old.acquire()
    let_expire(engine)
    assert new.acquire()

    with writing(engine) as connection:
        assert not old.still_mine(connection)
        assert new.still_mine(connection)
    assert not old.renew()
    assert not old.held


def test_a_stale_holder_cannot_release_the_lease_of_its_successor(engine: Engine) -> None:
    old, new = Lease(engine, "drain", 60), Lease(engine, "drain", 60)
    old.acquire()
    let_expire(engine)
    new.acquire()

    old.release()

    assert new.renew()


def test_renewing_extends_the_lease(engine: Engine) -> None:
    lease = Lease(engine, "drain", 60)
    lease.acquire()

    assert lease.renew()

    assert not Lease(engine, "drain", 60).acquire()
    assert not lease.renewal_due


def test_trust_ends_before_the_lease_does(engine: Engine) -> None:
    lease = Lease(engine, "drain", 0)

    lease.acquire()

    assert not lease.held


def test_leases_of_different_names_know_nothing_of_each_other(engine: Engine) -> None:
    assert Lease(engine, "drain", 60).acquire()
    assert Lease(engine, "mail", 60).acquire()


def test_a_lease_from_a_clock_that_was_ahead_by_an_hour_is_free(engine: Engine) -> None:
    """DO-19: nobody waits for an hour because the database's clock was set back."""
    gone, next_ = Lease(engine, "drain", 60), Lease(engine, "drain", 60)
    gone.acquire()
    assert not next_.acquire()
    with writing(engine) as connection:
        connection.execute(update(LeaseRow).values(expires_ms=LeaseRow.expires_ms + 3_600_000))

    assert next_.acquire()
    assert not gone.renew()


@pytest.mark.full
@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_a_holder_frozen_with_the_row_locked_stands_in_nobodys_way_for_long(
    engine: Engine,
) -> None:
    """DO-09: a process may be frozen in the middle of its transaction, whose locks stay."""
    frozen, next_ = Lease(engine, "drain", 2), Lease(engine, "drain", 2)
    assert frozen.acquire()
    with engine.connect() as connection:
        assert frozen.still_mine(connection)
        deadline = time.monotonic() + 30
        while not taken(next_):
            assert time.monotonic() < deadline, "nobody can take over"
        # Its server has given it up.
        connection.invalidate()
    assert next_.token == frozen.token + 1


def taken(lease: Lease) -> bool:
    """Whether it could be had now; a lock that is not given free is no."""
    try:
        return lease.acquire()
    except exc.OperationalError:
        return False
