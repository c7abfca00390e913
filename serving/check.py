"""`python -m serving.check`: one answer from a release folder, before it becomes current."""

import argparse
import math
import sys
from pathlib import Path

import msgspec

from scale_assets.features.reader import OnlineReader, OnlineStoreError
from serving.errors import Problem, ServingError
from serving.features import OnlineFeatures
from serving.online_store import add_online_store, open_online_store
from serving.predict import answer_prediction
from serving.recommend import answer_recommendation
from serving.release import Release
from serving.schemas import PredictRequest, PredictResponse, RecommendRequest, RecommendResponse


def check(
    folder: Path, online_store: OnlineReader, key: str
) -> PredictResponse | RecommendResponse:
    """The answer for ``key``.

    Raises:
        ServingError: The graph's numbers are not finite.
    """
    release, features = Release(folder), OnlineFeatures(online_store)
    answer: PredictResponse | RecommendResponse
    if release.manifest.kind == "tabular":
        answer = answer_prediction(features, release, PredictRequest(key))
        numbers = list(answer.probabilities.values())
    else:
        answer = answer_recommendation(features, release, RecommendRequest(key))
        numbers = answer.scores
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ServingError(f"the answer for {key!r} is not finite: {numbers}")
    return answer


def main() -> int:
    """Print the answer as JSON; 1 and the reason where there is none."""
    parser = argparse.ArgumentParser(prog="python -m serving.check", description=__doc__)
    parser.add_argument("--release", type=Path, required=True)
    add_online_store(parser)
    parser.add_argument("--key", required=True, help="entity to ask about")
    options = parser.parse_args()
    try:
        answer = check(options.release, open_online_store(options), options.key)
    except (ServingError, Problem, OnlineStoreError) as error:
        print(error, file=sys.stderr)
        return 1
    print(msgspec.json.encode(answer).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
