"""Keras layers and operations become graphs with the same function; others are refused by name."""

import keras
import numpy as np
import pytest
from keras import layers

from secure_infer.compiler.frontends import read_model
from secure_infer.compiler.graph import outputs_of
from secure_infer.compiler.passes import simplify
from secure_infer.errors import ModelUnreadable, UnsupportedLayer

SHAPE = (13, 12, 3)


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every variable a value of its own, so that nothing is hidden by zeros and ones."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        low = 0.3 if "variance" in variable.path else -0.6
        variable.assign(rng.uniform(low, 0.9, variable.shape))
    return model


def functional(*parts, shape=SHAPE, seed=0) -> keras.Model:
    """A model of layers (or functions) one after the other, ending in two numbers."""
    image = x = keras.Input(shape)
    for part in parts:
        x = part(x)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(image, layers.Dense(2)(x)), seed)


def assert_read_exactly(model: keras.Model, activation="none") -> None:
    read = read_model(model)
    assert set(read.activations) == {activation}
    shape = tuple(model.inputs[0].shape[1:])
    images = np.random.default_rng(3).uniform(0, 2, (3, *shape)).astype(np.float32)
    wanted = read.predict(images)
    for graph in (read.graph, simplify(read.graph)):
        for image, row in zip(images, wanted, strict=True):
            logits = outputs_of(graph, image.transpose(2, 0, 1).astype(np.float64))[0].ravel()
            if activation == "sigmoid":
                logits = 1 / (1 + np.exp(-logits))
            elif activation == "softmax":
                logits = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(logits, row, rtol=2e-4, atol=2e-5)


LAYERS = {
    "conv_same_strided": [layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")],
    "conv_even_kernel_same": [layers.Conv2D(5, (4, 2), padding="same", use_bias=False)],
    "conv_dilated": [layers.Conv2D(5, 3, dilation_rate=(2, 1), padding="same")],
    "conv_grouped": [layers.Conv2D(6, 3, groups=3, activation="relu6")],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")],
    "separable": [layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, activation="relu")],
    "batch_norm": [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()],
    "batch_norm_first": [layers.BatchNormalization(scale=False), layers.Conv2D(4, 3, padding="same")],
    "pre_activation": [
        layers.MaxPooling2D(2), layers.BatchNormalization(), layers.Activation("relu"), layers.Conv2D(4, 3)
    ],
    "relu_ceiling": [layers.Conv2D(4, 3), layers.ReLU(max_value=0.7)],
    "max_pool_same": [layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D(3, 2, padding="same")],
    "max_pool_of_negatives": [layers.Conv2D(4, 3), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)],
    "average_pool": [layers.Conv2D(4, 2, padding="same"), layers.AveragePooling2D((2, 3), (3, 2))],
    "transition": [layers.ReLU(), layers.Conv2D(4, 1), layers.AveragePooling2D(2)],
    "global_max": [layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()],
    "flatten_dense": [layers.Conv2D(4, 3), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(6, "relu")],
    "dense_on_map": [layers.Dense(5, activation="relu")],
    "reshape": [layers.GlobalAveragePooling2D(keepdims=True), layers.Reshape((1, 1, 3)), layers.Conv2D(4, 1)],
    "rescaling": [layers.Rescaling(1 / 127.5, offset=-1), layers.Conv2D(4, 3, padding="same")],
    "rescaling_per_channel": [
        layers.Rescaling([0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]), layers.Conv2D(4, 3, padding="same")
    ],
    "normalization": [
        layers.Normalization(mean=[0.5, 0.4, 0.3], variance=[0.1, 0.2, 0.3]),
        layers.Conv2D(4, 3, padding="same"),
    ],
    "zero_padding": [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Conv2D(4, 3, strides=2)],
    "dropout_and_noise": [layers.GaussianNoise(0.1), layers.SpatialDropout2D(0.2), layers.Conv2D(4, 3)],
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_read_with_its_function(name):
    assert_read_exactly(functional(*LAYERS[name]))


def densenet_block(x):
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    return layers.Concatenate()([x, y])


def residual_block(x):
    short = layers.BatchNormalization()(layers.Conv2D(6, 1, strides=2)(x))
    y = layers.BatchNormalization()(layers.Conv2D(6, 1, strides=2)(x))
    y = layers.Conv2D(6, 3, padding="same")(layers.ReLU()(y))
    return layers.ReLU()(layers.Add()([short, y]))


def test_dense_and_residual_blocks_are_read_with_their_function():
    assert_read_exactly(functional(densenet_block, densenet_block, residual_block, residual_block))


@pytest.mark.parametrize("mode", ["resnet50", "densenet", "mobilenet_v2"])
def test_preprocess_input_as_operations_is_read_with_its_function(mode):
    preprocess = getattr(keras.applications, mode).preprocess_input
    model = functional(preprocess, layers.Conv2D(4, 3, padding="same"), layers.ReLU())
    assert_read_exactly(model)
    read = simplify(read_model(model).graph)
    assert [type(n.op).__name__ for n in read.nodes.values()][:2] == ["Image", "Conv"]


def test_operations_on_tensors_are_read_with_their_function():
    def arithmetic(x):
        y = keras.ops.relu(1.0 - 2.0 * x)
        return keras.ops.concatenate([y + x, keras.ops.relu6(x / 0.1)], axis=-1)

    assert_read_exactly(functional(layers.Conv2D(4, 3), arithmetic))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_final_activation_is_left_to_the_hospital(activation):
    for head in ([layers.Dense(3, activation=activation)], [layers.Dense(3), layers.Activation(activation)]):
        image = x = keras.Input(SHAPE)
        for layer in [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), *head]:
            x = layer(x)
        assert_read_exactly(randomise(keras.Model(image, x)), activation)


def test_nested_and_sequential_models_are_flattened_with_their_names():
    inner = keras.Sequential(
        [keras.Input((13, 12, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="inner"
    )
    image = keras.Input((13, 12, 1))
    x = inner(layers.Concatenate()([image, image, image]))
    model = randomise(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    assert_read_exactly(model)
    graph = simplify(read_model(model).graph)
    assert "inner/conv" in graph.nodes
    assert graph.nodes["inner/conv"].op.weights.shape[1] == 1  # grey was folded in


def test_layer_that_is_called_twice_is_read_twice():
    shared = layers.Conv2D(3, 3, padding="same", activation="relu")
    assert_read_exactly(functional(shared, shared))


def test_outputs_of_several_heads_are_joined():
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    heads = [layers.Dense(1, activation="sigmoid")(x), layers.Dense(2, activation="sigmoid")(x)]
    assert_read_exactly(randomise(keras.Model(image, heads)), "sigmoid")


def test_file_is_read_like_the_object(tmp_path):
    model = functional(layers.Conv2D(4, 3), layers.ReLU())
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        read = read_model(tmp_path / name)
        image = np.random.default_rng(0).uniform(0, 1, (1, *SHAPE)).astype(np.float32)
        np.testing.assert_allclose(read.predict(image), read_model(model).predict(image), rtol=1e-5)


class Mine(layers.Layer):
    def call(self, x):
        return x * 2


def squeeze(x):
    gate = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, gate])


REFUSALS = {
    "swish": ([layers.Conv2D(4, 3, activation="swish", name="act")], "act", "silu", "ReLU"),
    "leaky": ([layers.LeakyReLU(name="leaky")], "leaky", "slope", "ReLU"),
    "relu_slope": ([layers.ReLU(negative_slope=0.1, name="leaky")], "leaky", "slope", "ReLU"),
    "gate": ([squeeze], "multiply", "multiplies two private values", "architecture"),
    "layer_norm": ([layers.LayerNormalization(name="ln")], "ln", "divides by a private value", "BatchNorm"),
    "custom": ([Mine(name="mine")], "mine", "the class Mine", "standard Keras layers"),
    "lambda": ([layers.Lambda(lambda x: x, name="code")], "code", "Python code", "standard layers"),
    "average_same": ([layers.AveragePooling2D(2, padding="same", name="avg")], "avg", "border", "valid"),
    "sigmoid_inside": ([layers.Activation("sigmoid", name="s"), layers.Conv2D(3, 3, name="next")], "next",
                       "follows a sigmoid", "end the model"),
    "channels_first": ([layers.ZeroPadding2D(data_format="channels_first", name="cf")], "cf",
                       "channels come first", "channels_last"),
    "crop": ([lambda x: x[:, 1:-1, :, :]], "get_item", "part of the image", "crop before"),
    "upsampling": ([layers.UpSampling2D(name="up")], "up", "enlarges maps", "architecture"),
    "permute": ([layers.Permute((2, 1, 3), name="turn")], "turn", "nothing for Permute", "supported layers"),
    "flat_norm": ([layers.Flatten(), layers.BatchNormalization(name="bn")], "bn",
                  "flattened map", "before the Flatten"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_unsupported_layer_is_refused_with_name_reason_and_help(case):
    parts, name, reason, helps = REFUSALS[case]
    with pytest.raises(UnsupportedLayer) as caught:
        read_model(functional(*parts))
    error = caught.value
    assert error.code == "compile.layer"
    assert name in error.layer
    assert reason in error.reason
    assert helps in error.helps
    assert error.layer in str(error)


def test_refused_layer_of_a_nested_model_is_named_with_its_path():
    inner = keras.Sequential([keras.Input(SHAPE), layers.LeakyReLU(name="leaky")], name="inner")
    with pytest.raises(UnsupportedLayer, match="'inner/leaky'"):
        read_model(functional(inner))


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_models_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(ModelUnreadable, match="functional or sequential"):
        read_model(Subclassed())
    with pytest.raises(ModelUnreadable, match="isn't built"):
        read_model(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ModelUnreadable, match="fixed height"):
        read_model(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(3, 3)]))
    with pytest.raises(ModelUnreadable, match="one number per class"):
        read_model(keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3)]))
    two = [keras.Input(SHAPE), keras.Input(SHAPE)]
    with pytest.raises(ModelUnreadable, match="one input"):
        read_model(keras.Model(two, layers.Add()(two)))
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04 no model")
    for path in (tmp_path / "missing.keras", tmp_path / "model.keras", tmp_path):
        with pytest.raises(ModelUnreadable):
            read_model(path)
