"""Sending alerts: as JSON to a webhook, as mail."""

import smtplib
import ssl
from email.message import EmailMessage
from typing import Any, Final

import httpx

from lungnode.errors import UnavailableError
from lungnode.settings import NotifySettings

_TIMEOUT_S: Final = 10.0
_IMPLICIT_TLS: Final = 465  # Source: RFC 8314 3.3


def send(settings: NotifySettings, document: dict[str, Any]) -> None:
    """Tell everybody who is to be told.

    Raises:
        UnavailableError: Somebody could not be told; everybody is told again.
    """
    if settings.webhook.get_secret_value():
        _post(settings.webhook.get_secret_value(), document)
    if settings.mail_to:
        _mail(settings, document)


def _post(url: str, document: dict[str, Any]) -> None:
    try:
        httpx.post(url, json=document, timeout=_TIMEOUT_S).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise UnavailableError(f"The webhook answers {error.response.status_code}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its message may hold the URL, which may be a secret.
        raise UnavailableError(f"The webhook cannot be reached: {type(error).__name__}.") from error


def _mail(settings: NotifySettings, document: dict[str, Any]) -> None:
    message = EmailMessage()
    message["From"], message["To"] = settings.mail_from, ", ".join(settings.mail_to)
    message["Subject"] = f"Lungnode on {document['host']}: {document['name']} {document['status']}"
    message.set_content(f"{document['sentence']}\n\nSince {document['began_at']}.\n")
    try:
        with _connected(settings) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        where = f"{settings.smtp_host} port {settings.smtp_port}"
        raise UnavailableError(
            f"The mail server {where} does not take it: {type(error).__name__}."
        ) from error


def _connected(settings: NotifySettings) -> smtplib.SMTP:
    host, port = settings.smtp_host, settings.smtp_port
    if settings.smtp_encryption and port == _IMPLICIT_TLS:
        return smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=_TIMEOUT_S)
    if settings.smtp_encryption:
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server
