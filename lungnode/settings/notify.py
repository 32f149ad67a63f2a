"""What operators are told of by themselves, and how."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from lungnode.settings.parts import Frozen


class NotifySettings(Frozen):
    """Whom the web tells that something is wrong; the messages name no patient."""

    webhook: SecretStr = Field(SecretStr(""), description="URL that gets each alert as JSON; empty: none")
    mail_to: tuple[str, ...] = Field((), description="addresses that get each alert; empty: none")
    mail_from: str = Field("lungnode@localhost", description="sender of these mails")
    smtp_host: str = Field("", description="mail server; needed for mails")
    smtp_port: int = Field(587, ge=1, le=65535, description="its port")
    smtp_encryption: bool = Field(True, description="whether STARTTLS is demanded, or TLS on port 465")
    smtp_user: str = Field("", description="account at the mail server; empty: none")
    smtp_password: SecretStr = Field(SecretStr(""), description="its password; in a variable")
    every_s: float = Field(60.0, gt=0, description="seconds between two looks")
    waiting_s: float = Field(
        900.0, gt=0, description="seconds that an analysis or a delivery may be due before it is told"
    )

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.mail_to and not self.smtp_host:
            raise ValueError("mail_to needs smtp_host")
        return self
