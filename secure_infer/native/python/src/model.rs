//! What each party knows of a model, loaded once and shared by its sessions.

use std::sync::Arc;

use blindread_lattice::Prg;
use blindread_link::choice::EngineOption;
use blindread_link::developer::DeveloperModel as LinkDeveloperModel;
use blindread_link::hello::Identity;
use blindread_link::hospital::HospitalModel as LinkHospitalModel;
use blindread_protocol::program::OutputInfo;
use blindread_protocol::{Parameters, Plan, Program, make_hints as protocol_hints};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping};
use zeroize::Zeroizing;

use crate::arrays;
use crate::error::Failure;

/// The walk of a program's text.
pub fn plan(program_json: &str) -> Result<Plan, Failure> {
    Ok(Plan::new(Program::from_json(program_json)?)?)
}

/// The elements of the input.
pub fn input_len(plan: &Plan) -> usize {
    plan.program().input_shape().iter().product()
}

/// 32 bytes from Python.
pub fn digest(what: &str, bytes: &[u8]) -> Result<[u8; 32], Failure> {
    bytes.try_into().map_err(|_| {
        Failure::new(
            "argument",
            format!("{what}: expected 32 bytes, got {}", bytes.len()),
        )
    })
}

/// A generator seeded by the operating system.
pub fn fresh_prg() -> Result<Prg, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())
        .map_err(|_| Failure::from(blindread_link::LinkError::NoEntropy))?;
    Ok(Prg::from_seed(&seed))
}

fn expect_len(what: &str, got: usize, expected: usize) -> Result<(), Failure> {
    if got == expected {
        return Ok(());
    }
    Err(Failure::new(
        "argument",
        format!("{what}: expected {expected} bytes, got {got}"),
    ))
}

/// Make the public hints of a model and the developer's secrets behind them, with fresh randomness.
#[pyfunction]
#[pyo3(signature = (program_json, parameters, public_seed, *, threads=1))]
pub fn make_hints<'py>(
    py: Python<'py>,
    program_json: &str,
    parameters: &Bound<'py, PyMapping>,
    public_seed: &[u8],
    threads: usize,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let steps = arrays::parameters(parameters)?;
    let seed = digest("public_seed", public_seed)?;
    let (hints, secrets) = py.detach(|| -> Result<_, Failure> {
        let plan = plan(program_json)?;
        let parameters = Parameters::new(plan.program(), steps)?;
        let (hints, secrets) =
            protocol_hints(&plan, &parameters, &seed, &mut fresh_prg()?, threads.max(1))?;
        Ok((hints, Zeroizing::new(secrets)))
    })?;
    Ok((PyBytes::new(py, &hints), PyBytes::new(py, &secrets)))
}

/// The bytes that a program's hints have.
#[pyfunction]
pub fn hints_len(program_json: &str) -> PyResult<usize> {
    Ok(plan(program_json)?.hints_len())
}

/// The bytes that the secrets behind a program's hints have.
#[pyfunction]
pub fn secrets_len(program_json: &str) -> PyResult<usize> {
    Ok(plan(program_json)?.secrets_len())
}

/// The hospital's half of a model.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct HospitalModel {
    pub model: LinkHospitalModel,
    pub outputs: Vec<OutputInfo>,
}

#[pymethods]
impl HospitalModel {
    #[new]
    #[pyo3(signature = (program_json, hints, public_seed, bundle_digest, *, ot_engine="softspoken"))]
    fn new(
        program_json: &str,
        hints: &[u8],
        public_seed: &[u8],
        bundle_digest: &[u8],
        ot_engine: &str,
    ) -> PyResult<Self> {
        let plan = plan(program_json)?;
        expect_len("hints", hints.len(), plan.hints_len())?;
        let engine = EngineOption::from_name(ot_engine).map_err(Failure::from)?;
        let model = LinkHospitalModel {
            input_len: input_len(&plan),
            hints: Arc::new(hints.to_vec()),
            public_seed: digest("public_seed", public_seed)?,
            identity: Identity::of_bundle(digest("bundle_digest", bundle_digest)?, engine),
            plan: Arc::new(plan),
        };
        Ok(Self {
            outputs: model.plan.program().outputs(),
            model,
        })
    }

    /// Comparisons of one inference.
    #[getter]
    fn relus(&self) -> u64 {
        self.model.plan.program().relu_count()
    }

    fn __repr__(&self) -> String {
        let steps = self.model.plan.program().steps().len();
        format!(
            "<HospitalModel, {steps} steps, {} bytes of hints>",
            self.model.plan.hints_len()
        )
    }
}

/// The developer's half of a model.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct DeveloperModel {
    pub model: LinkDeveloperModel,
}

#[pymethods]
impl DeveloperModel {
    #[new]
    #[pyo3(signature = (program_json, parameters, secrets, bundle_digest, *, ot_engine="softspoken"))]
    fn new(
        program_json: &str,
        parameters: &Bound<'_, PyMapping>,
        secrets: &[u8],
        bundle_digest: &[u8],
        ot_engine: &str,
    ) -> PyResult<Self> {
        let plan = plan(program_json)?;
        expect_len("secrets", secrets.len(), plan.secrets_len())?;
        let parameters = Parameters::new(plan.program(), arrays::parameters(parameters)?)
            .map_err(Failure::from)?;
        let engine = EngineOption::from_name(ot_engine).map_err(Failure::from)?;
        let model = LinkDeveloperModel {
            parameters: Arc::new(parameters),
            secrets: Arc::new(SecretBytes(Zeroizing::new(secrets.to_vec()))),
            identity: Identity::of_bundle(digest("bundle_digest", bundle_digest)?, engine),
            plan: Arc::new(plan),
        };
        Ok(Self { model })
    }

    fn __repr__(&self) -> String {
        format!(
            "<DeveloperModel, {} steps>",
            self.model.plan.program().steps().len()
        )
    }
}

/// Bytes that are wiped when the last session lets go of them.
pub struct SecretBytes(pub Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
