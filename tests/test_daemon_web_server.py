import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import trustme

from tests.nodes import command, lungnode, variables, wait_for
from tests.web import PASSWORD


@contextmanager
def running_web(data: Path, **settings: str) -> Iterator[str]:
    """Run `lungnode web` and yield its host and port."""
    data.mkdir(exist_ok=True)
    environment = {f"LUNGNODE_WEB__{name.upper()}": value for name, value in settings.items()}
    with lungnode(data, "web", environment={"LUNGNODE_WEB__PORT": "0"} | environment):
        file = data / "web.json"
        wait_for(file.exists, limit_s=60, what="the web")
        address = json.loads(file.read_text())
        yield f"{address['host']}:{address['port']}"


def add_user(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(data, "users", "add", *arguments, "--password-stdin"),
        env=variables(),
        input=PASSWORD,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_first_administrator_is_made_on_the_command_line_and_signs_in(tmp_path: Path) -> None:
    made = add_user(tmp_path, "Ada", "--role", "admin")

    with running_web(tmp_path) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        form = {"name": "ada", "password": PASSWORD}
        signed_in = client.post("/sign-in", data=form)
        page = client.get("/users")
        ready = client.get("/health/ready")

    assert (made.returncode, made.stdout) == (0, "Account ada is a admin.\n")
    assert (signed_in.status_code, page.status_code) == (303, 200)
    assert ready.json() == {"status": "ready"}
    assert "server" not in page.headers
    assert not (tmp_path / "web.json").exists()
    assert PASSWORD not in (tmp_path / "test.log").read_text()


def test_over_tls_cookies_are_secure_and_browsers_are_told_to_stay(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in own.cert_chain_pems:
        pem.write_to_path(tmp_path / "chain.pem", append=True)
    add_user(tmp_path, "ada")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    chain, key = str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")

    with (
        running_web(tmp_path, certificate=chain, private_key=key) as address,
        httpx.Client(base_url=f"https://{address}", verify=trusting, timeout=60) as client,
    ):
        answer = client.post("/sign-in", data={"name": "ada", "password": PASSWORD})

    assert answer.headers["set-cookie"].startswith("__Host-lungnode=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_only_a_trusted_proxy_tells_scheme_and_address(tmp_path: Path) -> None:
    add_user(tmp_path, "ada")
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}
    form = {"name": "ada", "password": PASSWORD}
    cookies = []

    for trusted in ("[]", '["127.0.0.1"]'):
        with running_web(tmp_path, trusted_proxies=trusted) as address:
            answer = httpx.post(f"http://{address}/sign-in", data=form, headers=told, timeout=60)
            cookies.append("Secure" in answer.headers["set-cookie"])

    assert cookies == [False, True]


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with running_web(tmp_path) as address:
        port = address.rpartition(":")[2]
        done = subprocess.run(
            command(tmp_path, "web"),
            env=variables({"LUNGNODE_WEB__PORT": port}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert f"lungnode: The web cannot listen on 127.0.0.1 port {port}: Address already in use." in done.stderr
