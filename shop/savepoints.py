"""Parts of a transaction that are undone alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc
from sqlalchemy.orm import Session

from shop.db import LostRace, is_conflict


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """A part of a transaction that is undone alone when it raises.

    Raises:
        LostRace: the whole transaction lost; `transactional` runs it again.
    """
    nested = session.begin_nested()
    try:
        yield
        session.flush()
    except exc.DBAPIError as error:
        if is_conflict(error) or error.connection_invalidated:
            # A deadlock undoes the transaction, savepoints and all: there is none to go back to.
            raise LostRace from error
        nested.rollback()
        raise
    except LostRace:
        raise
    except BaseException:
        nested.rollback()
        raise
    nested.commit()
