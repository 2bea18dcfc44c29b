"""Letters: what a mail says, made from its templates when it is sent.

`templates/<kind>.txt` has the subject in its first line, then an empty one; `<kind>.html` says the
same for those who read HTML. What comes from outside is hostile: every value is put on one line
and, in HTML, escaped; a value that a template names and nobody gave is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from shop.mail.models import OutgoingMail

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as it is handed to the mail server."""

    recipient: str
    subject: str
    text: str
    html: str
    message_id: str


def write(mail: OutgoingMail, values: Mapping[str, Any], domain: str) -> Letter:
    """The letter of a mail; `domain` is the one that it comes from.

    Raises:
        jinja2.TemplateError: there is no such template, or a value is missing.
    """
    page = _templates.get_template(f"{mail.kind}.txt").render(values)
    subject, _, text = page.partition("\n\n")
    html = _templates.get_template(f"{mail.kind}.html").render(values, subject=subject)
    return Letter(mail.recipient, subject, text, html, _message_id(mail, text, domain))


def _message_id(mail: OutgoingMail, text: str, domain: str) -> str:
    # The same when the same text is sent again, so that servers can fold duplicates. One that
    # brings a new code is another message: folded, it would leave its reader with the void code.
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"<mail-{mail.id}.{mail.created_at.timestamp() * 1e6:.0f}.{digest}@{domain}>"


def _on_one_line(value: Any) -> Any:
    # Only plain text: what Jinja made itself (Markup) is safe already.
    return _BREAKS.sub(" ", value).strip() if type(value) is str else value


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    finalize=_on_one_line,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    auto_reload=False,
)
