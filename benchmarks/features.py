"""Features: our two Feast plug-ins against Feast's own stores and against code written by hand.

python -m benchmarks.features [--quick] [--only PART] [--json]

Parts: ``offline`` is the point-in-time join, ``online`` the loads and reads for serving, ``rebuild`` a lost
Redis brought back, ``streaming`` the views over streams; the modules ``features_<part>.py`` say what is compared.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping

from benchmarks import features_offline, features_online, features_rebuild, features_streaming
from benchmarks.measure import Comparison, machine

# A part is handed whether it is to be quick, and gives its comparisons as it has them.
PARTS: Mapping[str, Callable[[bool], Iterator[Comparison]]] = {
    "offline": features_offline.compare,
    "online": features_online.compare,
    "rebuild": features_rebuild.compare,
    "streaming": features_streaming.compare,
}


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Small tables, three runs.")
    parser.add_argument("--only", choices=PARTS, help="One part instead of all.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Feast's own, on import and on every call
    if options.json:
        print(json.dumps(machine()))
    for name, compare in PARTS.items():
        if options.only in (None, name):
            for each in compare(options.quick):
                print(each.as_json() if options.json else each.as_text(), flush=True)


if __name__ == "__main__":
    main()
