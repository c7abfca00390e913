"""Writes predictions.parquet of a next_site graph: the top of both lists, by the graph itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.export import open_session
from training.next_site_data import Examples, Presentation
from training.next_site_inputs import graph_inputs, in_batches, opened_sites, relevant_sites

TOP = 50  # ranks kept per registration and list
BATCH = 64
SCHEMA = pa.schema(
    [
        ("registration_id", pa.string()),
        ("list", pa.string()),
        ("rank", pa.int32()),
        ("site_id", pa.int64()),
        ("relevant", pa.bool_()),
        ("num_relevant", pa.int32()),
    ]
)


def write_rankings(
    graph: Path, presentations: Sequence[Presentation], *, day: int, path: Path
) -> int:
    """Rank all sites for every registration seen before `day` and again from it on.

    Returns how many these are.
    """
    num_ranked = 0
    session = open_session(graph)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for presentation in presentations:
            state = presentation.site_state(day)
            for batch in in_batches(presentation.examples(day=day), BATCH):
                inputs = graph_inputs(presentation, state, batch)
                scores_BC, discovery_BC = session.run(None, inputs)
                writer.write_table(rankings(presentation, batch, scores_BC, discovery_BC))
                num_ranked += len(batch)
    return num_ranked


def rankings(
    presentation: Presentation, examples: Examples, scores_BC: np.ndarray, discovery_BC: np.ndarray
) -> pa.Table:
    """Discovery leaves out what was opened before, and whoever then has nothing relevant left."""
    relevant_BC = relevant_sites(presentation, examples)
    opened_BC = opened_sites(presentation, examples)
    new_BC = relevant_BC & ~opened_BC
    discovers_B = new_BC.any(axis=1)
    unopened_BC = np.where(opened_BC, -np.inf, discovery_BC)
    everyone = np.arange(len(examples))
    return pa.concat_tables(
        [
            ranked(presentation, examples, "all", everyone, scores_BC, relevant_BC),
            ranked(
                presentation,
                examples,
                "discovery",
                everyone[discovers_B],
                unopened_BC[discovers_B],
                new_BC[discovers_B],
            ),
        ]
    )


def ranked(
    presentation: Presentation,
    examples: Examples,
    name: str,
    rows_N: np.ndarray,
    scores_NC: np.ndarray,
    relevant_NC: np.ndarray,
) -> pa.Table:
    """The best sites first, equal scores in catalogue order; sites at -inf are not listed."""
    top_NR = np.argsort(-scores_NC, axis=1, kind="stable")[:, :TOP]
    listed_NR = np.isfinite(np.take_along_axis(scores_NC, top_NR, axis=1))
    rank_NR = np.broadcast_to(np.arange(1, top_NR.shape[1] + 1, dtype=np.int32), top_NR.shape)
    owner_NR = np.broadcast_to(rows_N[:, None], top_NR.shape)[listed_NR]
    names = np.array(presentation.registration_ids, dtype=object)
    num_relevant_NR = np.broadcast_to(relevant_NC.sum(axis=1)[:, None], top_NR.shape)
    columns = {
        "registration_id": names[examples.registration_N[owner_NR]],
        "list": np.full(len(owner_NR), name, dtype=object),
        "rank": rank_NR[listed_NR],
        "site_id": presentation.site_ids_C[top_NR[listed_NR]],
        "relevant": np.take_along_axis(relevant_NC, top_NR, axis=1)[listed_NR],
        "num_relevant": num_relevant_NR[listed_NR].astype(np.int32),
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)
