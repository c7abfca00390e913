"""`python -m serving.collector`: one collector process; neither Dagster nor torch is in it."""

import argparse
import logging
import sys
from pathlib import Path

import uvloop

from scale_assets.contracts import ContractError
from serving.collector.build import build
from serving.collector.config import read_config
from serving.errors import ServingError
from serving.server import check_address, serve, url_of


def main() -> int:
    """Collect until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m serving.collector", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="JSON document; /dev/fd/N reads a pipe"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        config = read_config(options.config)
        port = check_address(config.host, config.port, is_shared=True)
        app = build(config)
    except (ServingError, ContractError) as error:
        print(f"cannot collect: {error}", file=sys.stderr)
        return 1
    said = f"collecting at {url_of(config.host, port)}; Ctrl-C ends"
    uvloop.run(serve(app, host=config.host, port=port, on_start=lambda: print(said, flush=True)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
