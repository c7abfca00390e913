"""The released graph of the network: equal to torch and to the training path, blind to the future,
to padding and to the order of the candidates."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.next_site_worlds import made_up_visits, write_dataset
from training.export import run_onnx
from training.next_site_data import Presentation, load_presentations
from training.next_site_examples import Preparation, prepare
from training.next_site_graph import NamedInputs, NetworkGraph, export_graph, latest_tokens
from training.next_site_inputs import LOWEST_SCORE, SIGNATURE, graph_inputs, in_batches
from training.next_site_network import NextSiteNetwork

# torch's own, while exporting.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec, LeafSpec:FutureWarning", "ignore:# The axis name:UserWarning"
)

CUT = 50
ACTIVITY_TYPES = ["forumng", "homepage", "oucontent", "quiz"]
NUM_TOKENS = 12
Inputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def presentations(tmp_path_factory: pytest.TempPathFactory) -> list[Presentation]:
    return load_presentations(write_dataset(tmp_path_factory.mktemp("world"), made_up_visits()))


@pytest.fixture(scope="module")
def network() -> NextSiteNetwork:
    """Random weights, large enough that every input matters."""
    torch.manual_seed(1)
    network = NextSiteNetwork(
        num_activity_types=len(ACTIVITY_TYPES) + 1,
        token_dim=8,
        hidden_dim=8,
        num_layers=2,
        num_heads=2,
        num_tokens=NUM_TOKENS,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
        network.question_D.normal_()
    return network.eval()


@pytest.fixture(scope="module")
def graph(network: NextSiteNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_graph(NetworkGraph(network), ACTIVITY_TYPES, tmp_path_factory.mktemp("graph"))


def inputs_of(presentation: Presentation, batch_size: int) -> Inputs:
    examples = next(in_batches(presentation.examples(day=CUT), batch_size))
    return graph_inputs(presentation, presentation.site_state(CUT), examples)


def as_tensors(inputs: Inputs) -> dict[str, torch.Tensor]:
    code = {kind: index for index, kind in enumerate(ACTIVITY_TYPES, start=1)}
    types_BC = inputs["candidate_activity_types"]
    codes_BC = np.array([[code.get(kind, 0) for kind in row] for row in types_BC])
    tensors = {
        name: torch.from_numpy(values)
        for name, values in inputs.items()
        if name != "candidate_activity_types"
    }
    return {**tensors, "candidate_activity_codes": torch.from_numpy(codes_BC)}


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_onnx_equals_torch(
    presentations: list[Presentation], network: NextSiteNetwork, graph: Path, batch_size: int
) -> None:
    for presentation in presentations:
        inputs = inputs_of(presentation, batch_size)
        with torch.no_grad():
            expected = NamedInputs(NetworkGraph(network))(**as_tensors(inputs))
        for found, wanted in zip(run_onnx(graph, inputs), expected, strict=True):
            assert found.shape == (batch_size, presentation.num_sites)
            np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5)


def test_the_signature_is_the_shared_one(graph: Path) -> None:
    import onnx

    model = onnx.load(str(graph))
    found = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types = {
        "int64": onnx.TensorProto.INT64,
        "float": onnx.TensorProto.FLOAT,
        "string": onnx.TensorProto.STRING,
    }
    assert found == {name: types[kind] for name, (kind, _) in SIGNATURE.items()}
    assert [value.name for value in model.graph.output] == ["scores", "discovery_scores"]


def test_training_scores_what_the_graph_scores(
    presentations: list[Presentation], network: NextSiteNetwork, graph: Path
) -> None:
    """The kept candidates of a training example get the released graph's logits, up to float16."""
    preparation = Preparation(
        cut_days=[CUT],
        target_before=10_000,
        num_activity_types=len(ACTIVITY_TYPES) + 1,
        num_likely=10,
        num_random=5,
        num_tokens=NUM_TOKENS,
    )
    for presentation in presentations:
        codes_C = torch.tensor(
            [ACTIVITY_TYPES.index(kind) + 1 for kind in presentation.activity_types_C]
        )
        prepared = prepare(presentation, codes_C, preparation, torch.Generator().manual_seed(0))
        assert prepared is not None
        rows = prepared.rows
        with torch.no_grad():
            logits_NWT = network(
                sites_KCF=prepared.sites_KCF,
                day_index_B=rows["day_index"],
                candidates_BW=rows["candidates"].long(),
                own_BWF=rows["own"].float(),
                student_BF=rows["student"],
                token_sites_BM=rows["token_sites"].long(),
                token_ages_BM=rows["token_ages"].float(),
                token_mask_BM=rows["token_mask"],
            )
        scores, discovery = run_onnx(graph, inputs_of(presentation, len(logits_NWT)))
        kept_NW = rows["candidates"].long().numpy()
        np.testing.assert_allclose(
            np.take_along_axis(scores, kept_NW, axis=1), logits_NWT[..., 0], atol=2e-2
        )
        unopened_NW = rows["own"][..., 0].numpy() == 0
        found = np.take_along_axis(discovery, kept_NW, axis=1)[unopened_NW]
        np.testing.assert_allclose(found, logits_NWT[..., 1].numpy()[unopened_NW], atol=2e-2)


def test_history_from_the_day_on_changes_nothing(
    presentations: list[Presentation], graph: Path
) -> None:
    inputs = inputs_of(presentations[0], 6)
    site = presentations[0].site_ids_C[9]
    future = {
        **inputs,
        "history_site_ids": with_columns(inputs["history_site_ids"], [site, site], after=True),
        "history_days": with_columns(inputs["history_days"], [CUT, CUT + 3], after=True),
    }
    expect_equal(run_onnx(graph, future), run_onnx(graph, inputs))
    yesterday = {
        **future,
        "history_days": np.where(inputs_days(future) >= CUT, CUT - 1, inputs_days(future)),
    }
    assert not np.allclose(run_onnx(graph, yesterday)[0], run_onnx(graph, inputs)[0])


def inputs_days(inputs: Inputs) -> np.ndarray:
    return inputs["history_days"]


@pytest.mark.parametrize("after", [False, True])
def test_padding_of_the_history_changes_nothing(
    presentations: list[Presentation], graph: Path, after: bool
) -> None:
    inputs = inputs_of(presentations[0], 6)
    padded = {
        **inputs,
        "history_site_ids": with_columns(inputs["history_site_ids"], [0] * 5, after=after),
        "history_days": with_columns(inputs["history_days"], [0] * 5, after=after),
    }
    expect_equal(run_onnx(graph, padded), run_onnx(graph, inputs))


def test_candidates_may_come_in_any_order_and_padded(
    presentations: list[Presentation], graph: Path
) -> None:
    inputs = inputs_of(presentations[0], 6)
    num_sites = presentations[0].num_sites
    order = np.random.default_rng(0).permutation(num_sites + 4)  # four of them padding
    shuffled = dict(inputs)
    for name, values in inputs.items():
        if name.startswith("candidate_"):
            nothing = "" if values.dtype == object else values.dtype.type(0)
            shuffled[name] = with_columns(values, [nothing] * 4, after=True)[:, order]
    for found, expected in zip(run_onnx(graph, shuffled), run_onnx(graph, inputs), strict=True):
        straight = np.empty_like(found)
        straight[:, order] = found
        np.testing.assert_allclose(straight[:, :num_sites], expected, atol=2e-5)
        assert (straight[:, num_sites:] == np.float32(LOWEST_SCORE)).all()


def test_a_row_does_not_depend_on_its_batch(presentations: list[Presentation], graph: Path) -> None:
    inputs = inputs_of(presentations[1], 8)
    whole = run_onnx(graph, inputs)
    for row in range(8):
        alone = run_onnx(graph, {name: values[row : row + 1] for name, values in inputs.items()})
        for found, expected in zip(alone, whole, strict=True):
            np.testing.assert_allclose(found[0], expected[row], atol=2e-5)


def test_a_student_without_history_is_ranked(
    presentations: list[Presentation], graph: Path
) -> None:
    inputs = inputs_of(presentations[0], 1)
    empty = {
        **inputs,
        "history_site_ids": np.zeros((1, 0), np.int64),
        "history_days": np.zeros((1, 0), np.int64),
    }
    scores, discovery = run_onnx(graph, empty)
    assert np.isfinite(scores).all()
    assert (discovery > LOWEST_SCORE).all()


def test_an_unknown_activity_type_is_ranked(presentations: list[Presentation], graph: Path) -> None:
    inputs = inputs_of(presentations[0], 2)
    inputs["candidate_activity_types"][:, 3] = "hologram"
    assert np.isfinite(run_onnx(graph, inputs)[0]).all()


def test_discovery_leaves_out_what_was_opened(
    presentations: list[Presentation], graph: Path
) -> None:
    inputs = inputs_of(presentations[0], 6)
    scores, discovery = run_onnx(graph, inputs)
    for row in range(6):
        opened = np.isin(inputs["candidate_site_ids"][row], inputs["history_site_ids"][row])
        assert opened.any()
        assert not opened.all()
        np.testing.assert_array_equal(discovery[row] == np.float32(LOWEST_SCORE), opened)
    assert (scores > LOWEST_SCORE).all()


def test_earlier_tokens_do_not_see_later_ones(network: NextSiteNetwork) -> None:
    """The first block, fed two sequences that differ in their last token only."""
    told_BMD = torch.randn(1, 5, 8)
    changed_BMD = told_BMD.clone()
    changed_BMD[:, -1] += 1.0
    blocked_BMM = (1.0 - torch.ones(5, 5).tril())[None] * -1e4
    block = network.blocks[0]
    told, changed = block(told_BMD, blocked_BMM), block(changed_BMD, blocked_BMM)
    torch.testing.assert_close(told[:, :-1], changed[:, :-1])
    assert not torch.allclose(told[:, -1], changed[:, -1])


def test_the_latest_tokens_keep_their_order() -> None:
    index_BL = torch.tensor([[3, 1, 4, 1, 5, 0], [0, 0, 0, 0, 9, 0]])
    ages_BL = torch.tensor([[9.0, 8, 7, 6, 5, 1], [1, 1, 1, 1, 4, 1]])
    mask_BL = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0]]).bool()
    index_BM, ages_BM, mask_BM = latest_tokens(index_BL, ages_BL, mask_BL, num_tokens=3)
    assert index_BM.tolist() == [[4, 1, 5], [0, 0, 9]]
    assert mask_BM.tolist() == [[True, True, True], [False, False, True]]
    assert ages_BM[0].tolist() == [7, 6, 5]
    assert ages_BM[1, -1] == 4


def with_columns(values: np.ndarray, added: list, *, after: bool) -> np.ndarray:
    block = np.repeat(np.array([added], dtype=values.dtype), len(values), axis=0)
    return np.concatenate([values, block] if after else [block, values], axis=1)


def expect_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
