"""The arithmetic behind a step, against counts by hand."""

import pytest

from secure_infer.runtime.cost import predict
from secure_infer.runtime.cost_ot import OtCost
from secure_infer.runtime.cost_vectors import Polynomials, groups, lanes, polynomials, stripes
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Input, Linear, Output, Relu, Truncate, Value
from secure_infer.runtime.work import BUTTERFLIES, INPUT_BLOCKS, OUTPUT_BLOCKS, PRODUCTS, ot_work, work

SIZE = 1 << 14
PROGRAM = Program(
    (
        Value((4, 64, 64), 27),
        Value((8, 64, 64), 27),
        Value((8, 64, 64), 27),
        Value((8, 64, 64), 27),
        Value((2, 1, 1), 27),
    ),
    (
        Input("image", 0),
        Linear("conv", 0, 1, (1, 1)),
        Truncate("cut", 1, 2, 14),
        Relu("relu", 2, 3, (1, 12)),
        Linear("head", 3, 4, (64, 64)),
        Output("logits", 4),
    ),
)
RELUS = 8 * 64 * 64


@pytest.mark.parametrize(
    ("kind", "receiver", "blocks"),
    [
        # 32 trees, 15 or 16 leaves, 1 or 4 bits each, in blocks of 128; then hashes of two blocks or of one.
        ("random", False, 32 * 15 / 128 + 2 * 2),
        ("random", True, 32 * 16 / 128 + 2),
        ("table", False, 32 * 15 * 4 / 128 + 8),
        ("table", True, 32 * 16 * 4 / 128 + 2),
    ],
)
def test_softspoken_ot_takes_its_streams_and_hashes(kind: str, receiver: bool, blocks: float) -> None:
    cost = OtCost(random=256) if kind == "random" else OtCost(table=256)
    assert ot_work("softspoken", cost, receiver) == {"aes_blocks": 256 * blocks}


def test_ferret_ot_takes_a_tree_node_a_row_of_the_code_and_hashes() -> None:
    one_bit, four_bits = OtCost(random=2048), OtCost(table=2048)
    assert ot_work("ferret", one_bit, True) == {
        "aes_blocks": 2046 + 2048 * (5 / 16 + 2),
        "random_reads": 5120,
    }
    assert ot_work("ferret", four_bits, False)["aes_blocks"] == 3070 + 2048 * (5 / 16 + 16)


def test_ferret_makes_the_seeds_of_a_round_without_hashes() -> None:
    seeds = (1 << 18) + 11 * 2048
    for receiver in (False, True):
        begun = ot_work("ferret", OtCost(random_seeds=seeds), receiver)
        assert begun["aes_blocks"] == pytest.approx(seeds * (2046 / 2048 + 5 / 16))
        assert begun["random_reads"] == 2.5 * seeds


def test_relu_hospital_sends_tables_and_developer_receives_them() -> None:
    relu = work(PROGRAM, predict(PROGRAM))[3].amounts
    hospital, developer = relu["offline", "hospital"], relu["offline", "developer"]
    assert hospital["aes_blocks"] == RELUS * (3 * (15 + 8) + 7.75 + 6)
    assert developer["aes_blocks"] == RELUS * (3 * (16 + 2) + 6 + 7.75)
    # Codes and pads of three chunks, two answers; read and erased online.
    assert relu["online", "hospital"]["memory_bytes"] == RELUS * 2 * (3 * 3 + 8)
    assert relu["online", "hospital"]["sent_bytes"] == RELUS * 75 / 8
    assert relu["online", "developer"]["sent_bytes"] == RELUS * 40 / 8
    assert "aes_blocks" not in relu["online", "developer"]


def test_extension_takes_one_more_ot_and_keeps_its_material_but_draws_no_mask() -> None:
    costs = []
    for bits in (12, 26):
        values = (Value((8, 64, 64), 12), Value((8, 64, 64), bits))
        program = Program(values, (Input("image", 0), Relu("relu", 0, 1, (3, 11)), Output("z", 1)))
        costs.append(work(program, predict(program))[1].amounts)
    less, more = costs
    for phase, passes in (("offline", 1), ("online", 2)):
        for party, kept in (("hospital", 4), ("developer", 3)):
            added = more[phase, party]["memory_bytes"] - less[phase, party]["memory_bytes"]
            assert added == RELUS * passes * kept
    assert (
        more["offline", "hospital"]["aes_blocks"] - less["offline", "hospital"]["aes_blocks"] == RELUS * 7.75
    )
    assert (
        more["offline", "developer"]["aes_blocks"] - less["offline", "developer"]["aes_blocks"] == RELUS * 6
    )


def test_linear_transforms_every_input_polynomial_once_and_every_output_twice() -> None:
    conv = work(PROGRAM, predict(PROGRAM))[1].amounts
    # 4096 pixels a channel: two polynomials each.
    assert polynomials(PROGRAM, PROGRAM.steps[1]) == Polynomials(8, 16)
    transforms, products = 8 + 2 * 16, 2 * 8 + 16
    assert conv["offline", "hospital"]["butterflies"] == BUTTERFLIES * transforms + PRODUCTS * products
    assert conv["offline", "developer"]["butterflies"] == (BUTTERFLIES + PRODUCTS) * 2 * 16
    assert (BUTTERFLIES, PRODUCTS) == (11264, 2048)
    assert conv["offline", "hospital"]["aes_blocks"] == 8 * INPUT_BLOCKS == 8 * (800 + 1024 + 512)
    assert conv["offline", "developer"]["aes_blocks"] == 16 * OUTPUT_BLOCKS == 16 * 1024
    assert conv["online", "developer"]["multiply_adds"] == 4 * RELUS
    assert conv["online", "hospital"] == {}


def test_small_maps_share_a_polynomial_and_strides_are_taken_out_first() -> None:
    values = (Value((10, 14, 14), 27), Value((6, 7, 7), 27))
    conv = Linear("conv", 0, 1, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    program = Program(values, (Input("image", 0), conv, Output("y", 1)))
    # 16x16 padded pixels are four phases of 64, 32 of which fit: 40 planes in two polynomials.
    assert polynomials(program, conv) == Polynomials(2, 6)


def test_long_vectors_are_cut_as_the_core_does() -> None:
    assert stripes(300_000) == [131072, 131072, 37856]
    assert [lanes(n) for n in (1, 2048, 8191, 12_800, 65536, 600_000)] == [1, 1, 2, 4, 8, 16]
    assert [groups(n) for n in (1, 100_000, 1 << 20, (1 << 20) + 1, 1_600_000)] == [1, 1, 1, 2, 2]
