"""Passwords are kept so that nobody can read them."""

from __future__ import annotations

import pytest
from argon2 import extract_parameters

from shop.users import passwords
from shop.users.passwords import hash_password, verify_password


def test_a_hash_fits_its_password_and_no_other() -> None:
    kept = hash_password("Tr0ub4dor&3")

    assert verify_password(kept, "Tr0ub4dor&3")
    for wrong in ("tr0ub4dor&3", "Tr0ub4dor&3 ", "Tr0ub4dor&", "", "Tr0ub4dor&3\0"):
        assert not verify_password(kept, wrong)


def test_the_same_password_gives_another_hash_each_time() -> None:
    assert hash_password("same") != hash_password("same")


def test_a_hash_is_argon2id_with_the_parameters_of_the_cheat_sheet() -> None:
    assert hash_password("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("kept", [None, "", "nonsense", "$argon2id$v=19$m=19456,t=2,p=1$x"])
def test_what_is_no_hash_fits_no_password(
    monkeypatch: pytest.MonkeyPatch, kept: str | None
) -> None:
    monkeypatch.setattr(passwords, "_NOBODYS_HASH", hash_password("nobody's"))

    assert not verify_password(kept, "nobody's")
    assert not verify_password(kept, "")


@pytest.mark.parametrize("password", ["x" * 1_000, "пароль密码🦊", "a\0b", " ", "é", "e\u0301"])
def test_any_text_can_be_a_password(password: str) -> None:
    assert verify_password(hash_password(password), password)


def test_looking_for_nobody_costs_what_looking_for_somebody_does() -> None:
    somebody = hash_password("somebody")

    assert extract_parameters(passwords._NOBODYS_HASH) == extract_parameters(somebody)
    assert not verify_password(None, "wrong")
