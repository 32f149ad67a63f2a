"""REST: what somebody may change about their own account."""

from pydantic import Field
from starlette.exceptions import HTTPException

from daemon.web.access import Viewer
from daemon.web.api.common import Given, router
from daemon.web.audited import writing
from daemon.web.node import Node
from daemon.web.passwords import LONGEST, SHORTEST, TOO_MANY, WAIT, hash_password, is_right
from db import accounts, audit
from db.models import Account
from db.session import reading, transaction
from db.sign_in import begin_attempt, forgive

api = router("own account")


class NewPassword(Given):
    """One's own password, and the next one."""

    current: str = Field(max_length=LONGEST)
    new: str = Field(max_length=LONGEST, description=f"{SHORTEST} characters or more")


@api.put("/account/password", status_code=204)
def change_password(wanted: NewPassword, node: Node, caller: Viewer) -> None:
    """Change one's own password; it ends all of one's sessions, this one as well."""
    if not caller.session:
        raise HTTPException(403, "A password is changed by who is signed in, not by a token.")
    now = node.clock()
    with transaction(node.engine) as session:
        attempt = begin_attempt(session, caller.name, caller.address, now)
    if not attempt.allowed:
        raise HTTPException(429, TOO_MANY, WAIT)
    with reading(node.engine) as session:
        kept = session.get_one(Account, caller.account_id).password
    if not is_right(kept, wanted.current):
        raise HTTPException(403, "The current password is wrong.")
    hashed = hash_password(wanted.new)
    with writing(node, caller) as session:
        forgive(session, attempt)
        accounts.set_password(session, session.get_one(Account, caller.account_id), hashed)
        audit.record(session, "password changed", caller.name, now)
