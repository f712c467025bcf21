"""The mail server of demonstrations: what is handed in is kept, as it was written."""

from email.message import EmailMessage
from urllib.parse import urlsplit

import aiosmtplib
import pytest

from libs.embedded.smtp_sink import run_smtp_sink


async def test_a_mail_that_was_handed_in_can_be_read() -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = "touchline@example.com", "service@example.com"
    mail["Subject"] = "Zwölf Schälchen"
    mail.set_content("Elf davon für eine Hochzeit.\n")
    async with run_smtp_sink() as sink:
        at = urlsplit(sink.url)
        await aiosmtplib.send(mail, hostname=at.hostname, port=at.port)
        came = await sink.next_mail(5)
    assert came["Subject"] == "Zwölf Schälchen"
    assert came["To"] == "service@example.com"
    body = came.get_body()
    assert body
    assert body.get_content().strip() == "Elf davon für eine Hochzeit."


async def test_when_no_mail_comes_in_time_it_says_so() -> None:
    async with run_smtp_sink() as sink:
        with pytest.raises(TimeoutError):
            await sink.next_mail(0.01)
