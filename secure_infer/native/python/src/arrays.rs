//! NumPy arrays to what the core takes, and back.

use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PyDictMethods, PyMapping};
use std::collections::HashMap;

use blindread_protocol::StepParameters;

use crate::error::Failure;

/// The elements of an array in C order.
fn elements<T: Element + Copy>(
    array: &Bound<'_, PyAny>,
    what: &str,
    dtype: &str,
) -> Result<Vec<T>, Failure> {
    let wrong = || {
        Failure::new(
            "private_parameters",
            format!("{what}: expected a C-contiguous {dtype} array, got another"),
        )
    };
    let array: PyReadonlyArrayDyn<'_, T> = array.extract().map_err(|_| wrong())?;
    Ok(array.as_slice().map_err(|_| wrong())?.to_vec())
}

/// The image: int32, C-contiguous; the program knows its size.
pub fn image(array: &Bound<'_, PyAny>) -> Result<Vec<i32>, Failure> {
    elements(array, "image", "int32").map_err(|_| {
        Failure::new(
            "input",
            "image: expected a C-contiguous int32 array [channels, height, width], got another",
        )
    })
}

/// An output as int64 array of its shape.
pub fn output<'py>(
    py: Python<'py>,
    values: Vec<i64>,
    shape: [usize; 3],
) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyArray1::from_vec(py, values).reshape(shape)?.into_any())
}

/// Step name to arrays, as the compiler writes them, to the core's type.
pub fn parameters(mapping: &Bound<'_, PyMapping>) -> PyResult<HashMap<String, StepParameters>> {
    let mut steps = HashMap::new();
    for item in mapping.items()?.iter() {
        let (name, arrays): (String, Bound<'_, PyAny>) = item.extract()?;
        let arrays = arrays.cast_into::<PyMapping>().map_err(PyErr::from)?;
        let step = step(&name, &to_dict(&arrays)?).map_err(PyErr::from)?;
        steps.insert(name, step);
    }
    Ok(steps)
}

fn to_dict<'py>(mapping: &Bound<'py, PyMapping>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(mapping.py());
    dict.update(mapping)?;
    Ok(dict)
}

fn step(name: &str, arrays: &Bound<'_, PyDict>) -> Result<StepParameters, Failure> {
    let missing = |kinds: &str| {
        Failure::new(
            "private_parameters",
            format!("{name}: expected {kinds}, got other arrays"),
        )
    };
    let get = |kind: &str| arrays.get_item(kind).ok().flatten();
    let what = |kind: &str| format!("{name}: {kind}");
    if arrays.len() != 2 {
        return Err(missing("two arrays"));
    }
    if let (Some(weights), Some(bias)) = (get("weights"), get("bias")) {
        let weights = elements(&weights, &what("weights"), "int16")?;
        return Ok(StepParameters::Linear {
            weights,
            bias: elements(&bias, &what("bias"), "int64")?,
        });
    }
    let threshold = get("threshold").ok_or_else(|| missing("weights and bias, or threshold"))?;
    let threshold = elements(&threshold, &what("threshold"), "int32")?;
    if let Some(flip) = get("flip") {
        let flip: Vec<u8> = elements(&flip, &what("flip"), "uint8")?;
        return Ok(StepParameters::Relu {
            threshold,
            flip: flip.into_iter().map(|flip| flip != 0).collect(),
        });
    }
    let ceiling = get("ceiling").ok_or_else(|| missing("flip or ceiling beside threshold"))?;
    Ok(StepParameters::ReluClipped {
        threshold,
        ceiling: elements(&ceiling, &what("ceiling"), "int32")?,
    })
}
