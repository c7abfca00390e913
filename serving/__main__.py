"""`python -m serving`: one server process over a folder of releases and an online store."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import uvloop

from serving.app import create_app, route_of
from serving.errors import ServingError
from serving.online_store import add_online_store, open_online_store
from serving.release import Releases
from serving.server import check_address, serve, url_of
from serving.vector_sample import add_vector_sample, vector_sample


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--releases", type=Path, required=True, help="folder of release folders")
    add_online_store(parser)
    add_vector_sample(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        port = check_address(options.host, options.port)
        app = create_app(
            releases_dir=options.releases,
            online_store=open_online_store(options),
            sample=vector_sample(options),
        )
    except ServingError as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    lines = served(app.state.releases, url=url_of(options.host, port))
    uvloop.run(
        serve(
            app,
            host=options.host,
            port=port,
            on_start=lambda: print(*lines, sep="\n", flush=True),
        )
    )
    return 0


def served(releases: Releases, *, url: str) -> Iterator[str]:
    """What a person should know of a server that starts: its models, their routes, the others."""
    for name in releases.names():
        release = releases.get(name)
        assert release is not None
        manifest = release.manifest
        route = route_of(manifest)
        where = f"POST {url}{route}" if route else "no route answers from it"
        yield f"{name} {manifest.version} ({manifest.candidate})  {where}"
    yield f"API at {url}/docs, readiness at /v2/health/ready, metrics at /metrics"
    yield f"a newer release in {releases.root} serves from its next request on; Ctrl-C ends"


if __name__ == "__main__":
    raise SystemExit(main())
