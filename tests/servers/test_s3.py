"""The store keeps S3's promises that Delta's commits rest on."""

import boto3
import pytest
from botocore.exceptions import ClientError

from scale_assets.servers.server import Server


@pytest.mark.slow
def test_the_second_conditional_put_is_refused(s3_server: Server) -> None:
    found = s3_server.running()
    assert found is not None
    client = boto3.client(
        "s3",
        endpoint_url=found.settings["SCALE_S3_ENDPOINT_URL"],
        region_name=found.settings["SCALE_S3_REGION"],
        aws_access_key_id=found.settings["SCALE_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=found.settings["SCALE_S3_SECRET_ACCESS_KEY"],
    )
    client.put_object(Bucket="lake", Key="commit", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="lake", Key="commit", Body=b"2", IfNoneMatch="*")
    assert client.get_object(Bucket="lake", Key="commit")["Body"].read() == b"1"
