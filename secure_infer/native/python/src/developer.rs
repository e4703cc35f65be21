//! The developer's server for Python.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blindread_link::budget::Budget;
use blindread_link::developer::{DeveloperServer as LinkServer, Limits};
use blindread_link::event::Event;
use blindread_protocol::Plan;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::Failure;
use crate::model::DeveloperModel;
use crate::options::{Credentials, timeouts};
use crate::stats;

/// Events kept for a slow reader; the oldest are dropped.
const DIARY: usize = 10_000;

/// A running server; it works in threads of its own.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct DeveloperServer {
    server: LinkServer,
    plan: Arc<Plan>,
    diary: Arc<Mutex<VecDeque<Event>>>,
}

#[pymethods]
impl DeveloperServer {
    /// Listen on `address` (``host:port``, port 0 for any) and serve.
    #[staticmethod]
    #[pyo3(signature = (
        address, model, credentials, *, hospitals=4, tickets=4, output_noise=0.0, images_per_hospital=None,
        budget_file=None, threads=1, timeouts_s=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a Python call")]
    fn start(
        address: &str,
        model: &DeveloperModel,
        credentials: &Credentials,
        hospitals: usize,
        tickets: usize,
        output_noise: f64,
        images_per_hospital: Option<u64>,
        budget_file: Option<PathBuf>,
        threads: usize,
        timeouts_s: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if !(0.0..1e9).contains(&output_noise) {
            return Err(Failure::new(
                "argument",
                "output_noise: expected 0 to 1e9 raw units, got another number",
            )
            .into());
        }
        let limits = Limits {
            hospitals,
            tickets,
            output_noise,
            timeouts: timeouts(timeouts_s)?,
            threads,
        };
        let budget =
            Budget::new(images_per_hospital, budget_file.as_deref()).map_err(Failure::from)?;
        let diary = Arc::new(Mutex::new(VecDeque::new()));
        let writer = diary.clone();
        let listener = Arc::new(move |event| {
            let mut diary = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if diary.len() == DIARY {
                diary.pop_front();
            }
            diary.push_back(event);
        });
        let server = LinkServer::start(
            address,
            model.model.clone(),
            credentials.load()?,
            limits,
            budget,
            listener,
        )
        .map_err(Failure::from)?;
        Ok(Self {
            server,
            plan: model.model.plan.clone(),
            diary,
        })
    }

    /// ``host:port`` that it listens on.
    #[getter]
    fn address(&self) -> String {
        self.server.address().to_string()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// How many hospitals are being served.
    #[getter]
    fn hospitals(&self) -> usize {
        self.server.hospitals()
    }

    /// Take out what happened since the last call.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events: Vec<Event> = self
            .diary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect();
        let list = PyList::empty(py);
        for event in events {
            let made = PyDict::new(py);
            made.set_item("event", event.name)?;
            made.set_item("connection", event.connection)?;
            made.set_item("peer", event.peer)?;
            made.set_item("code", event.code)?;
            made.set_item("message", event.message)?;
            made.set_item("ticket", event.ticket)?;
            made.set_item("seconds", event.seconds)?;
            if let Some(choice) = event.choice {
                stats::add_choice(&made, &choice)?;
            }
            list.append(made)?;
        }
        Ok(list)
    }

    /// Seconds, bytes and round trips by phase and step over all connections, as this side saw them, up to the last
    /// command that each of them has finished.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let spent = py.detach(|| self.server.spent());
        stats::report(py, &spent, self.plan.program())
    }

    /// Accept nobody any more, end idle sessions, give running work `grace_s` seconds, then stop it.
    #[pyo3(signature = (*, grace_s=0.0))]
    fn shutdown(&self, py: Python<'_>, grace_s: f64) {
        let grace = Duration::from_secs_f64(if grace_s.is_finite() {
            grace_s.clamp(0.0, 1e6)
        } else {
            0.0
        });
        py.detach(|| self.server.shutdown(grace));
    }

    fn __repr__(&self) -> String {
        format!(
            "<DeveloperServer on {}, {} hospitals>",
            self.address(),
            self.hospitals()
        )
    }
}

impl Drop for DeveloperServer {
    fn drop(&mut self) {
        // The threads' last events must not wait for a lock that this thread holds.
        let server = &self.server;
        match Python::try_attach(|py| py.detach(|| server.shutdown(Duration::ZERO))) {
            Some(()) => {}
            None => server.shutdown(Duration::ZERO),
        }
    }
}
