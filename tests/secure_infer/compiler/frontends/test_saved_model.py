"""SavedModels are read through their operations, with the same function as the Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from secure_infer.compiler.frontends import read_model
from secure_infer.compiler.graph import outputs_of
from secure_infer.compiler.passes import simplify
from secure_infer.errors import ModelUnreadable, UnsupportedLayer


def network() -> keras.Model:
    image = keras.Input((16, 14, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(8, 3, padding="same", strides=2)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3)(layers.ZeroPadding2D(1)(x))
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    y = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Concatenate()([layers.Add()([x, y]), y])
    y = layers.ReLU(max_value=0.5)(layers.AveragePooling2D(2)(x))
    z = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(x))
    z = layers.Concatenate()([z, layers.Dense(4)(layers.Flatten()(y))])
    model = keras.Model(image, layers.Dense(3, activation="softmax")(z))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        low = 0.3 if "variance" in variable.path else -0.6
        variable.assign(rng.uniform(low, 0.9, variable.shape))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = network()
    path = tmp_path_factory.mktemp("saved") / "network"
    model.export(path, verbose=False)
    return model, path


def test_saved_model_is_read_with_its_function(exported):
    model, path = exported
    read = read_model(path)
    assert set(read.activations) == {"softmax"}
    images = np.random.default_rng(1).uniform(0, 255, (3, 16, 14, 3)).astype(np.float32)
    wanted = np.asarray(model(images))
    np.testing.assert_allclose(read.predict(images), wanted, rtol=1e-4, atol=1e-6)
    for graph in (read.graph, simplify(read.graph)):
        for image, row in zip(images, wanted, strict=True):
            logits = outputs_of(graph, image.transpose(2, 0, 1).astype(np.float64))[0].ravel()
            powers = np.exp(logits - logits.max())
            np.testing.assert_allclose(powers / powers.sum(), row, rtol=1e-3, atol=1e-5)


def test_batch_norm_and_rescaling_of_a_saved_model_vanish(exported):
    kinds = {type(node.op).__name__ for node in simplify(read_model(exported[1]).graph).nodes.values()}
    assert kinds <= {"Image", "Conv", "Relu", "MaxPool", "SumPool", "Add", "Concat"}


def test_fused_batch_norm_and_clipping_operations_are_read_with_their_function(tmp_path):
    rng = np.random.default_rng(2)
    kernel, row = rng.normal(size=(3, 3, 3, 4)).astype(np.float32), rng.uniform(0.5, 1, 4).astype(np.float32)

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, image):
            x = tf.nn.conv2d(image - 0.5, kernel, 1, [[0, 0], [1, 0], [0, 1], [0, 0]])
            x = tf.compat.v1.nn.fused_batch_norm(x, row, row, row, row, is_training=False)[0]
            x = tf.minimum(tf.maximum(x, 0.0), 1.5)
            return tf.sigmoid(tf.reduce_mean(x / 3.0, axis=[1, 2]))

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__.get_concrete_function())
    read = read_model(tmp_path / "m")
    image = rng.uniform(0, 1, (1, 8, 8, 3)).astype(np.float32)
    logits = outputs_of(simplify(read.graph), image[0].transpose(2, 0, 1))[0].ravel()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), read.predict(image)[0], rtol=1e-4)


def test_unsupported_operation_is_refused_with_its_name(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.ELU(name="curve")])
    model.add(layers.GlobalAveragePooling2D())
    model.export(tmp_path / "m", verbose=False)
    with pytest.raises(UnsupportedLayer, match="curve") as caught:
        read_model(tmp_path / "m")
    assert "Elu" in caught.value.reason
    assert "ReLU" in caught.value.helps


def test_folder_that_is_no_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(ModelUnreadable, match="a model that TensorFlow loads"):
        read_model(tmp_path)
