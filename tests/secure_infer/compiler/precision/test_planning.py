"""Scales, windows, rings and truncations: every test holds on calibration images, with its margin."""

import numpy as np
import pytest

from secure_infer.compiler.compile import measure, plan
from secure_infer.compiler.graph import Add, Affine, Concat, Conv, MaxPool, Relu, SumPool, outputs_of
from secure_infer.compiler.passes import simplify
from secure_infer.compiler.precision import LADDER, PrecisionOptions, calibrate, clamp_thresholds, lay_out
from secure_infer.errors import CalibrationError, OptionError, RangeError
from secure_infer.runtime import steps
from secure_infer.runtime.backends import Observer, ReferenceBackend
from secure_infer.runtime.cost_vectors import wraps
from tests.secure_infer.compiler.graphs import conv, editor, finished

SHAPE = (1, 16, 16)


def pictures(count, seed, shape=SHAPE):
    """Smooth pictures from 0 to 255, as different from each other as X-rays are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]] / 16
    waves = [np.sin(6 * (a * x + b * y + c)) for a, b, c in rng.uniform(-1, 1, (count, 3))]
    return [np.broadcast_to(120 + 100 * w + rng.normal(0, 3, w.shape), shape).clip(0, 255) for w in waves]


def network(rng, kind):
    """A graph with one kind of structure between a first layer and logits."""
    e = editor(SHAPE)
    e.put("norm", Affine(np.full(1, 1 / 50), np.full(1, -2.0)), "image")
    e.put("stem", conv(rng, 1, 8, padding=(1, 1, 1, 1)), "norm")
    e.put("r0", Relu.plain(8), "stem")
    if kind == "dense":
        e.put("grown", conv(rng, 8, 4, padding=(1, 1, 1, 1)), "r0")
        e.put("join", Concat(), "r0", "grown")
        e.put("bn", Affine(rng.uniform(0.5, 2, 12) * rng.choice([-1, 1], 12), rng.normal(0, 2, 12)), "join")
        e.put("last", Relu.plain(12), "bn")
    elif kind == "residual":
        e.put("c1", conv(rng, 8, 8, padding=(1, 1, 1, 1)), "r0")
        e.put("r1", Relu.plain(8), "c1")
        e.put("c2", conv(rng, 8, 8, padding=(1, 1, 1, 1)), "r1")
        e.put("sum", Add(), "r0", "c2")
        e.put("r2", Relu.plain(8), "sum")
        e.put("c3", conv(rng, 8, 8, kernel=(1, 1)), "r2")
        e.put("short", conv(rng, 8, 8, kernel=(1, 1)), "r2")
        e.put("sum2", Add(), "c3", "short")
        e.put("last", Relu.plain(8), "sum2")
    elif kind == "separable":
        e.put("r6", Relu.plain(8, 6.0), "stem")
        e.put("dw", conv(rng, 8, 8, groups=8, padding=(1, 1, 1, 1)), "r6")
        e.put("pw", conv(rng, 8, 8, kernel=(1, 1)), "dw")
        e.put("sum", Add(), "pw", "dw")
        e.put("last", Relu.plain(8, 6.0), "sum")
    else:
        e.put("c1", conv(rng, 8, 8, padding=(1, 1, 1, 1)), "r0")
        e.put("r1", Relu.plain(8), "c1")
        e.put("last", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), "r1")
    channels, high, wide = e.nodes["last"].shape
    e.put("pool", SumPool((high, wide), (1, 1)), "last")
    e.put("mean", Affine(np.full(channels, 1 / (high * wide)), np.zeros(channels)), "pool")
    e.put("logits", Conv(rng.normal(0, 0.5, (3, channels, 1, 1)), rng.normal(0, 1, 3)), "mean")
    return simplify(finished(e, "logits"))


def compiled(graph, options, images):
    graph, calibration, _ = measure(graph, lambda g: calibrate(g, images), options.clamp_margin)
    emitted, _ = plan(graph, calibration, options)
    return graph, emitted


def logits(emitted, image, rng=None, observer=None):
    x = np.rint(image * emitted.input_scale).astype(np.int64)
    out = ReferenceBackend(emitted.program, emitted.parameters).run(x, rng=rng, observer=observer)
    return out["logits:output"].ravel() * emitted.logit_scales


KINDS = ("dense", "residual", "separable", "pooled")


@pytest.mark.parametrize("precision", [name for name, _ in LADDER])
@pytest.mark.parametrize("kind", KINDS)
def test_program_of_any_structure_agrees_with_the_graph(kind, precision):
    options = dict(LADDER)[precision]
    graph = network(np.random.default_rng(5), kind)
    graph, emitted = compiled(graph, options, pictures(12, 1))
    rng, observer, errors, spread = np.random.default_rng(0), Observer(), [], []
    for image in pictures(6, 2):
        wanted = outputs_of(graph, image)[0].ravel()
        errors += [logits(emitted, image, rng, observer) - wanted, logits(emitted, image) - wanted]
        spread.append(wanted)
    assert observer.outside == 0
    # Twice what was calibrated for; a ceiling itself is part of a clipped ReLU's range, without margin.
    assert (
        max(s.peak for s in observer.statistics.values()) < 2 / options.margin + (kind == "separable") * 0.5
    )
    tolerance = {"compact": 0.02, "standard": 0.016, "fine": 0.008, "finest": 0.004}[precision]
    assert np.abs(errors).max() < tolerance * np.abs(spread).max()


@pytest.mark.parametrize("kind", ["dense", "residual", "pooled"])
def test_calibration_maxima_reach_the_share_of_the_window_that_the_margin_leaves(kind):
    graph, images = network(np.random.default_rng(6), kind), pictures(12, 3)
    _, emitted = compiled(graph, PrecisionOptions(), images)
    observer = Observer()
    for image in images:
        logits(emitted, image, observer=observer)
    relus = [s.peak for name, s in observer.statistics.items() if name in emitted.parameters]
    assert relus
    assert all(0.05 < peak <= 1.02 * 2 / 4 for peak in relus)


def test_convolution_into_relu_is_truncated_once_and_into_sums_not_at_all():
    _, emitted = compiled(network(np.random.default_rng(5), "residual"), PrecisionOptions(), pictures(8, 1))
    program = emitted.program
    cuts = {s.name for s in program.steps if isinstance(s, steps.Truncate)}
    assert {"stem:truncate", "c1:truncate", "sum:truncate", "sum2:truncate"} <= cuts
    assert not cuts & {"c2:truncate", "c3:truncate", "short:truncate"}
    shifts = {s.name: s.shift for s in program.steps if isinstance(s, steps.Add)}
    assert shifts == {"sum": (14, 0), "sum2": (0, 0)}


def rings(program, name):
    """Rings of what a step reads and of what it makes."""
    step = next(s for s in program.steps if s.name == name)
    return [program.values[i].ring_bits for i in (*steps.sources(step), step.out)]


def test_max_pool_before_a_relu_works_in_the_small_ring_behind_a_local_truncation():
    _, emitted = compiled(network(np.random.default_rng(5), "pooled"), PrecisionOptions(), pictures(8, 1))
    program = emitted.program
    assert [s.op for s in program.steps][4:9] == ["linear", "truncate", "max_pool", "relu", "sum_pool"]
    pool = next(s for s in program.steps if isinstance(s, steps.MaxPool))
    assert pool.window == (1, 12)
    assert rings(program, pool.name) == [12, 12]
    assert rings(program, "r1") == [12, 26]


def test_max_pool_before_a_convolution_comes_before_its_truncation_with_a_window_of_raw_sums():
    rng, e = np.random.default_rng(4), editor(SHAPE)
    e.put("stem", conv(rng, 1, 4, padding=(1, 1, 1, 1)), "image")
    e.put("pool", MaxPool((2, 2), (2, 2)), "stem")
    e.put("logits", Conv(rng.normal(0, 0.5, (3, 4, 8, 8)), np.zeros(3)), "pool")
    _, emitted = compiled(finished(e, "logits"), PrecisionOptions(), pictures(6, 1))
    assert [s.op for s in emitted.program.steps][1:5] == ["linear", "max_pool", "truncate", "linear"]
    assert next(s for s in emitted.program.steps if isinstance(s, steps.MaxPool)).window == (15, 26)


@pytest.mark.parametrize(("_", "options"), LADDER)
def test_values_that_are_only_compared_live_in_a_ring_to_which_truncation_is_local(_, options):
    bits = options.compared_ring_bits
    assert bits == options.window_high + 1 <= options.ring_bits - options.shift
    for kind in KINDS:
        _, emitted = compiled(network(np.random.default_rng(5), kind), options, pictures(8, 1))
        program = emitted.program
        for step in program.steps:
            if isinstance(step, steps.Relu | steps.ReluClipped):
                assert rings(program, step.name)[0] == bits
        with_ots = {s.name for s in program.steps if isinstance(s, steps.Truncate) and wraps(program, s)}
        # What a convolution reads needs the large ring: the linear bottleneck, and the sum before the logits.
        assert with_ots == {"pool:truncate"} | ({"dw:truncate"} if kind == "separable" else set())


def test_value_that_is_compared_and_convolved_keeps_the_large_ring():
    rng, e = np.random.default_rng(4), editor(SHAPE)
    e.put("stem", conv(rng, 1, 4, padding=(1, 1, 1, 1)), "image")
    e.put("r", Relu.plain(4), "stem")
    e.put("c", conv(rng, 4, 4, padding=(1, 1, 1, 1)), "r")
    e.put("mixed", conv(rng, 4, 4, kernel=(1, 1)), "c")
    e.put("rc", Relu.plain(4), "c")
    e.put("both", Concat(), "rc", "mixed")
    e.put("last", Relu.plain(8), "both")
    e.put("logits", Conv(rng.normal(0, 0.1, (3, 8, 16, 16)), np.zeros(3)), "last")
    graph, emitted = compiled(finished(e, "logits"), PrecisionOptions(), pictures(8, 1))
    program = emitted.program
    assert rings(program, "c:truncate") == [26, 26]
    # Its ReLU's result is only compared again, so the product is made there; the next one leaves it.
    assert rings(program, "rc") == [26, 12]
    assert rings(program, "both") == [12, 12, 12]
    assert rings(program, "last") == [12, 31]
    for image in pictures(4, 2):
        wanted = outputs_of(graph, image)[0].ravel()
        found = logits(emitted, image, np.random.default_rng(0))
        np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())


def test_sums_of_compared_values_stay_in_the_small_ring_where_only_relus_read_them():
    rng, e = np.random.default_rng(4), editor(SHAPE)
    e.put("stem", conv(rng, 1, 4, padding=(1, 1, 1, 1)), "image")
    e.put("a", Relu.plain(4), "stem")
    e.put("b", Relu(np.full(4, 30.0), np.ones(4, bool)), "stem")
    e.put("sum", Add(), "a", "b")
    e.put("pool", SumPool((2, 2), (2, 2)), "sum")
    e.put("last", Relu.plain(4), "pool")
    e.put("logits", Conv(rng.normal(0, 0.5, (3, 4, 8, 8)), np.zeros(3)), "last")
    graph, emitted = compiled(finished(e, "logits"), PrecisionOptions(), pictures(8, 1))
    program, observer = emitted.program, Observer()
    assert [rings(program, name) for name in ("a", "b", "pool")] == [[12, 12]] * 3
    assert rings(program, "sum") == [12, 12, 12]
    for image in pictures(4, 2):
        wanted = outputs_of(graph, image)[0].ravel()
        found = logits(emitted, image, np.random.default_rng(0), observer)
        np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
    assert observer.outside == 0


def test_value_that_outgrows_the_small_ring_is_seen_by_the_observer():
    images = pictures(8, 1)
    _, emitted = compiled(network(np.random.default_rng(5), "dense"), PrecisionOptions(), images)
    observer = Observer()
    logits(emitted, images[0] * 12, observer=observer)
    wrapping = {name for name, s in observer.statistics.items() if name.endswith(":truncate") and s.outside}
    assert "stem:truncate" in wrapping
    assert observer.outside > 0


def test_ring_of_the_logits_is_made_in_the_last_truncation_or_relu_only():
    for kind in KINDS:
        _, emitted = compiled(network(np.random.default_rng(5), kind), PrecisionOptions(), pictures(8, 1))
        program = emitted.program
        grown = [
            s for s in program.steps if isinstance(s, steps.Truncate) and program.values[s.out].ring_bits > 27
        ]
        assert [s.name for s in grown] == ["pool:truncate"]
        assert program.outputs["logits:output"].ring_bits == 31


def test_unit_scales_of_summed_values_agree():
    _, emitted = compiled(network(np.random.default_rng(5), "residual"), PrecisionOptions(), pictures(8, 1))
    image = pictures(1, 9)[0]
    observer = Observer(keep=True)
    logits(emitted, image, observer=observer)
    seen = observer.values
    total = (seen["r0"] << 14) + seen["c2"]
    assert (total == seen["sum"]).all()


THRESHOLDS = [
    (0.0, 1.5), (0.0, -1.5), (1e-9, 0.7), (-1e-9, 0.7), (1e-9, -0.7), (-1e-9, -0.7),
    (-2.0, 0.3), (0.01, 40.0), (-0.01, 40.0), (0.01, -40.0), (1.0, 0.0), (-0.5, 1000.0),
]  # fmt: skip


@pytest.mark.parametrize("padding", [0, 1])
def test_thresholds_with_zero_tiny_and_negative_factors_give_the_batch_norms_function(padding):
    """Always-on and always-off units are clamped; what they lack is made up per output position."""
    rng = np.random.default_rng(8)
    g, b = (np.array(column) for column in zip(*THRESHOLDS, strict=True))
    e = editor(SHAPE)
    e.put("stem", conv(rng, 1, 12, padding=(1, 1, 1, 1), bias=False), "image")
    e.put("shrunk", Affine(np.full(12, 1 / 100), np.zeros(12)), "stem")
    e.put("join", Concat(), "shrunk")
    e.put("bn", Affine(g, b), "join")
    e.put("relu", Relu.plain(12), "bn")
    e.put("c", conv(rng, 12, 5, padding=(padding,) * 4), "relu")
    e.put("last", Relu.plain(5), "c")
    channels, high, wide = e.nodes["last"].shape
    e.put("logits", Conv(rng.normal(0, 0.05, (4, channels, high, wide)), np.zeros(4)), "last")
    before = finished(e, "logits")
    _, emitted = compiled(simplify(before), PrecisionOptions(), pictures(8, 1))
    parameters = emitted.parameters["relu"]
    assert parameters["flip"].tolist() == [int(x < 0) for x in g]
    if padding:
        assert emitted.parameters["c"]["bias"].ndim == 3
    for image in pictures(4, 2):
        wanted = outputs_of(before, image)[0].ravel()
        for rng in (None, np.random.default_rng(1)):
            observer = Observer()
            found = logits(emitted, image, rng, observer)
            assert observer.outside == 0
            np.testing.assert_allclose(found, wanted, atol=0.01 * np.abs(wanted).max() + 0.02)


def test_clamped_threshold_lies_just_outside_the_range_and_keeps_the_function():
    e = editor(SHAPE)
    e.put("relu", Relu(np.array([1e6]), np.array([False])), "image")
    e.put("c", conv(np.random.default_rng(1), 1, 2, padding=(1, 1, 1, 1)), "relu")
    graph = finished(e, "c")
    calibration = calibrate(graph, pictures(4, 1))
    clamped, count = clamp_thresholds(graph, calibration, 4.0)
    assert count == 1
    op = clamped.nodes["relu"].op
    assert op.threshold[0] == pytest.approx(4 * calibration.maxima["image"][0], rel=0.02)
    image = pictures(1, 2)[0]
    before, after = outputs_of(graph, image)[0], outputs_of(clamped, image)[0]
    np.testing.assert_allclose(before, after, rtol=1e-9, atol=1e-6)


def test_silent_channel_gets_a_usable_scale():
    e = editor(SHAPE)
    weights = np.zeros((3, 1, 1, 1))
    weights[1] = 1.0
    e.put("stem", Conv(weights, np.array([0.0, -500.0, 0.0])), "image")
    e.put("relu", Relu.plain(3), "stem")
    e.put("logits", Conv(np.ones((2, 3, 16, 16)) / 256, np.array([1.0, -1.0])), "relu")
    _, emitted = compiled(simplify(finished(e, "logits")), PrecisionOptions(), pictures(4, 1))
    np.testing.assert_allclose(logits(emitted, pictures(1, 2)[0]), [1.0, -1.0], atol=0.01)


def test_unit_that_was_off_on_all_images_leaves_its_depthwise_convolution_compilable():
    e = editor(SHAPE)
    e.put("stem", Conv(np.array([1.0, -1.0])[:, None, None, None], np.zeros(2)), "image")
    e.put("relu", Relu.plain(2), "stem")  # the second channel is never positive
    e.put("dw", Conv(np.full((2, 1, 3, 3), 0.2), np.zeros(2), padding=(1, 1, 1, 1), groups=2), "relu")
    e.put("pw", Conv(np.ones((2, 2, 1, 1)), np.zeros(2)), "dw")
    e.put("r2", Relu.plain(2), "pw")
    e.put("logits", Conv(np.full((2, 2, 16, 16), 1 / 512), np.zeros(2)), "r2")
    graph, emitted = compiled(simplify(finished(e, "logits")), PrecisionOptions(), pictures(6, 1))
    image = pictures(1, 2)[0]
    np.testing.assert_allclose(logits(emitted, image), outputs_of(graph, image)[0].ravel(), rtol=0.01)


def test_weights_far_larger_than_the_output_are_refused():
    e = editor(SHAPE)
    big = np.array([1.0, -1.0])[None, :, None, None]
    e.put("two", Conv(np.ones((2, 1, 1, 1)), np.zeros(2)), "image")
    e.put("r", Relu.plain(2), "two")
    e.put("cancels", Conv(big * 1e7, np.zeros(1)), "r")
    e.put("r2", Relu.plain(1), "cancels")
    e.put("tiny", Conv(np.full((1, 1, 1, 1), 1e-9), np.zeros(1)), "r2")
    graph = finished(e, "tiny")
    calibration = calibrate(graph, pictures(2, 1))
    calibration.maxima["cancels"][:] = 1e-6
    with pytest.raises(RangeError, match="layer 'cancels'"):
        plan(graph, calibration, PrecisionOptions())


def test_calibration_without_images_or_with_values_that_are_not_finite_is_refused():
    graph = network(np.random.default_rng(1), "dense")
    with pytest.raises(CalibrationError, match="at least one image"):
        calibrate(graph, [])
    with pytest.raises(CalibrationError, match="images of shape"):
        calibrate(graph, [np.zeros((1, 4, 4))])
    with pytest.raises(CalibrationError, match="finite values"):
        calibrate(graph, [np.full(SHAPE, np.nan)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_low": -1}, {"window_high": 20}, {"window_high": 4}, {"margin": 0.5}, {"shift": 3},
        {"ring_bits": 25}, {"ring_bits": 32}, {"final_ring_bits": 20}, {"clamp_margin": 9.0},
        {"input_bits": 17}, {"pooled_shift": 0}, {"pool_low": 5},
    ],
)  # fmt: skip
def test_option_outside_its_range_is_refused_by_name(wrong):
    with pytest.raises(OptionError, match=f"option {next(iter(wrong))}"):
        PrecisionOptions(**wrong)


def test_convolution_that_amplifies_carries_fewer_raw_bits():
    """A row of differences of neighbours: its weights are large relative to what comes out."""
    e = editor(SHAPE)
    e.put("stem", Conv(np.full((4, 1, 1, 1), 0.01), np.zeros(4)), "image")
    e.put("r", Relu.plain(4), "stem")
    edge = np.tile(np.array([[-1.0, 1.0]])[None, None], (4, 1, 1, 1))
    e.put("edges", Conv(edge, np.full(4, 0.01), groups=4), "r")
    e.put("r2", Relu.plain(4), "edges")
    e.put("logits", Conv(np.ones((1, 4, 16, 15)), np.zeros(1)), "r2")
    graph = simplify(finished(e, "logits"))
    y, x = np.mgrid[:16, :16]
    smooth = [np.asarray((128 + a * x + b * y)[None], float) for a, b in ((1, 0), (0.5, 1), (2, -1))]
    calibration = calibrate(graph, smooth)
    emitted, facts = plan(graph, calibration, PrecisionOptions())
    assert facts["layers_with_fewer_raw_bits"] >= 1
    cut = next(s for s in emitted.program.steps if s.name == "edges:truncate")
    assert cut.shift < 14
    assert lay_out(graph, PrecisionOptions(), {"edges": cut.shift})["edges"].shift == cut.shift
    for image in smooth:
        np.testing.assert_allclose(logits(emitted, image), outputs_of(graph, image)[0].ravel(), rtol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_corrected_biases_leave_less_error_on_average_on_other_images(kind):
    coarse = PrecisionOptions(window_low=5)
    images, unseen = pictures(12, 1), pictures(8, 2)
    graph, calibration, _ = measure(
        network(np.random.default_rng(5), kind), lambda g: calibrate(g, images), coarse.clamp_margin
    )
    means = []
    for correct_on in ((), images):
        emitted, _ = plan(graph, calibration, coarse, correct_on)
        rng = np.random.default_rng(3)
        errors = [logits(emitted, i, rng) - outputs_of(graph, i)[0].ravel() for i in unseen]
        means.append(float(np.abs(np.mean(errors, axis=0)).max()))
    assert means[1] < means[0]
