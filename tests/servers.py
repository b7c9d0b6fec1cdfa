"""Servers on loopback for the results of a team: S3 (moto), SSH and HTTP."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import asyncssh
import boto3
from moto.server import ThreadedMotoServer

HOST = "127.0.0.1"
Settings = dict[str, str]  # url, and further settings of `dvc remote modify`


@contextmanager
def s3() -> Iterator[Settings]:
    """An S3 server with one bucket."""
    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    try:
        endpoint = f"http://{HOST}:{server.get_host_and_port()[1]}"
        client = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket="bucket")
        yield {
            "url": "s3://bucket/flowers",
            "endpointurl": endpoint,
            "region": "us-east-1",
            "access_key_id": "testing",
            "secret_access_key": "testing",
        }
    finally:
        server.stop()


class _Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False  # nobody has to authenticate


@contextmanager
def ssh(root: Path) -> Iterator[Settings]:
    """An SSH server that gives access to the folder ``root`` by SFTP."""

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(channel, chroot=str(root).encode())

    root.mkdir(exist_ok=True)
    loop = asyncio.new_event_loop()
    port = Future[int]()

    async def listen() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            HOST, 0, server_factory=_Server, server_host_keys=[key], sftp_factory=Files
        )
        port.set_result(server.get_port())

    def serve() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield {"url": f"ssh://somebody@{HOST}:{port.result(timeout=30)}/flowers"}
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def http(root: Path) -> Iterator[Settings]:
    """A server that lets everybody read the folder ``root``."""

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    root.mkdir(exist_ok=True)
    server = ThreadingHTTPServer((HOST, 0), partial(Files, directory=str(root)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"url": f"http://{HOST}:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
