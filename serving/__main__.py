"""`python -m serving`: one server process over a folder of releases and an online store."""

import argparse
import sys
from pathlib import Path

import uvloop

from serving.app import create_app
from serving.errors import ServingError
from serving.server import check_address, serve


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--releases", type=Path, required=True, help="folder of release folders")
    parser.add_argument("--online-store", type=Path, required=True, help="SQLite file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        check_address(options.host, options.port)
        app = create_app(releases_dir=options.releases, online_store=options.online_store)
    except ServingError as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    uvloop.run(serve(app, host=options.host, port=options.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
