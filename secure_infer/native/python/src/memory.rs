//! Both parties in this process, for conformance: real cryptography, no network.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blindread_link::choice::engine_from_name;
use blindread_link::memory::{MemoryChannel, pair};
use blindread_link::{Cancel, LinkError};
use blindread_protocol::{
    OtEngine, Parameters, Plan, SessionOptions, Workers, developer, hospital, make_hints,
};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PyList, PyMapping};
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::{SecretBytes, fresh_prg, input_len, plan};
use crate::{arrays, stats};

const PATIENCE: Duration = Duration::from_secs(600);

/// A hospital and a developer that run a program on one image at a time.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct MemoryParties {
    plan: Arc<Plan>,
    parameters: Arc<Parameters>,
    hints: Arc<Vec<u8>>,
    secrets: Arc<SecretBytes>,
    public_seed: [u8; 32],
    engine: OtEngine,
    last: Mutex<Option<MemoryChannel>>,
}

#[pymethods]
impl MemoryParties {
    #[new]
    #[pyo3(signature = (program_json, parameters, *, ot_engine="softspoken"))]
    fn new(
        py: Python<'_>,
        program_json: &str,
        parameters: &Bound<'_, PyMapping>,
        ot_engine: &str,
    ) -> PyResult<Self> {
        let engine = engine_from_name(ot_engine).map_err(Failure::from)?;
        let steps = arrays::parameters(parameters)?;
        Ok(py.detach(|| -> Result<_, Failure> {
            let plan = plan(program_json)?;
            let parameters = Parameters::new(plan.program(), steps)?;
            let public_seed = *fresh_seed()?;
            let (hints, secrets) =
                make_hints(&plan, &parameters, &public_seed, &mut fresh_prg()?, 1)?;
            Ok(Self {
                plan: Arc::new(plan),
                parameters: Arc::new(parameters),
                hints: Arc::new(hints),
                secrets: Arc::new(SecretBytes(Zeroizing::new(secrets))),
                public_seed,
                engine,
                last: Mutex::new(None),
            })
        })?)
    }

    /// Run setup, offline and online once; one int64 array per output.
    #[pyo3(signature = (image, *, output_noise=0.0))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        output_noise: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let image = arrays::image(image)?;
        let expected = input_len(&self.plan);
        if image.len() != expected {
            return Err(Failure::from(LinkError::Input {
                expected,
                got: image.len(),
            })
            .into());
        }
        let interrupt = Interrupt::new();
        let values = interrupt.run(py, || self.both(&image, output_noise, &interrupt.cancel()))?;
        let list = PyList::empty(py);
        for (values, info) in values.into_iter().zip(self.plan.program().outputs()) {
            list.append(arrays::output(py, values, info.shape)?)?;
        }
        Ok(list)
    }

    /// Seconds, bytes and round trips of the last run, seen by the hospital.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = last
            .as_mut()
            .ok_or_else(|| Failure::new("argument", "stats: expected a run before, got none"))?;
        stats::report(py, channel.meter(), self.plan.program())
    }

    fn __repr__(&self) -> String {
        format!(
            "<MemoryParties, {} steps>",
            self.plan.program().steps().len()
        )
    }
}

impl MemoryParties {
    fn both(&self, image: &[i32], noise: f64, cancel: &Cancel) -> Result<Vec<Vec<i64>>, Failure> {
        let (mut to_developer, to_hospital) = pair(PATIENCE, cancel);
        let session_id = *fresh_seed()?;
        let (of_hospital, of_developer) = std::thread::scope(|scope| {
            // Signals reach Python's main thread only, so the hospital stays in the caller's.
            let other = scope.spawn(move || self.develop(to_hospital, session_id, noise));
            let outcome = self.examine(&mut to_developer, session_id, image);
            if outcome.is_err() {
                cancel.cancel();
            }
            (
                outcome,
                other.join().unwrap_or(Err(LinkError::Panic.into())),
            )
        });
        to_developer.meter().leave();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(to_developer);
        match (of_hospital, of_developer) {
            (Ok(values), Ok(())) => Ok(values),
            // The side that only saw the other one go away has less to say.
            (Err(closed), Err(reason)) if closed.is_closed() => Err(reason),
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
        }
    }

    fn examine(
        &self,
        ch: &mut MemoryChannel,
        id: [u8; 32],
        image: &[i32],
    ) -> Result<Vec<Vec<i64>>, Failure> {
        let (plan, hints) = (self.plan.clone(), self.hints.clone());
        let mut session = hospital::Session::setup(
            ch,
            plan,
            hints,
            self.public_seed,
            SessionOptions {
                id,
                engine: self.engine,
                workers: Workers::one(),
            },
            *fresh_seed()?,
        )?;
        let ticket = session.prepare(ch, 1, *fresh_seed()?)?;
        Ok(session.infer(ch, ticket, image)?)
    }

    fn develop(&self, mut ch: MemoryChannel, id: [u8; 32], noise: f64) -> Result<(), Failure> {
        let (plan, secrets) = (self.plan.clone(), self.secrets.clone());
        let mut session = developer::Session::setup(
            &mut ch,
            plan,
            self.parameters.clone(),
            secrets,
            SessionOptions {
                id,
                engine: self.engine,
                workers: Workers::one(),
            },
            *fresh_seed()?,
        )?;
        let ticket = session.prepare(&mut ch, 1, *fresh_seed()?)?;
        Ok(session.infer(&mut ch, ticket, noise, *fresh_seed()?)?)
    }
}

fn fresh_seed() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    fresh_prg()?.fill(seed.as_mut());
    Ok(seed)
}
