//! The hospital's session for Python.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blindread_link::LinkError;
use blindread_link::hospital::{Endpoint, HospitalSession as LinkSession};
use blindread_protocol::Workers;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PyList};

use crate::arrays;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::HospitalModel;
use crate::options::{Credentials, timeouts};
use crate::stats;

/// One session of a hospital with a developer; one call at a time.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct HospitalSession {
    session: Mutex<LinkSession>,
    model: Py<HospitalModel>,
    interrupt: Arc<Interrupt>,
}

#[pymethods]
impl HospitalSession {
    /// Connect to `address` (``host:port``) whose certificate carries `server_name`.
    #[staticmethod]
    #[pyo3(signature = (address, server_name, credentials, model, *, threads=1, timeouts_s=None))]
    fn connect(
        py: Python<'_>,
        address: String,
        server_name: String,
        credentials: &Credentials,
        model: Py<HospitalModel>,
        threads: usize,
        timeouts_s: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let limits = timeouts(timeouts_s)?;
        let workers =
            Workers::new(threads).map_err(|error| Failure::from(LinkError::from(error)))?;
        let credentials = credentials.load()?;
        let endpoint = Endpoint {
            address,
            name: server_name,
        };
        let interrupt = Arc::new(Interrupt::new());
        let known = model.get().model.clone();
        let session = interrupt.run(py, || {
            Ok(LinkSession::connect(
                &endpoint,
                &credentials,
                &known,
                limits,
                &workers,
                interrupt.cancel(),
            )?)
        })?;
        Ok(Self {
            session: Mutex::new(session),
            model,
            interrupt,
        })
    }

    /// Make one ticket.
    fn prepare(&self, py: Python<'_>) -> PyResult<()> {
        self.interrupt.run(py, || Ok(self.lock().prepare()?))
    }

    /// Spend the oldest ticket on an image (int32); returns one int64 array per output.
    fn infer<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let image = zeroize::Zeroizing::new(arrays::image(image)?);
        let values = self.interrupt.run(py, || Ok(self.lock().infer(&image)?))?;
        let list = PyList::empty(py);
        for (values, info) in values.into_iter().zip(&self.model.get().outputs) {
            list.append(arrays::output(py, values, info.shape)?)?;
        }
        Ok(list)
    }

    /// Ask for a sign of life; keeps the session's connections from idling out.
    fn ping(&self, py: Python<'_>) -> PyResult<()> {
        self.interrupt.run(py, || Ok(self.lock().ping()?))
    }

    /// End the session and wipe its tickets.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.lock().close());
    }

    /// Stop a call that runs in another thread.
    fn cancel(&self) {
        self.interrupt.cancel().cancel();
    }

    #[getter]
    fn tickets_ready(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().tickets_ready())
    }

    #[getter]
    fn ticket_limit(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().ticket_limit())
    }

    #[getter]
    fn images_left(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.lock().images_left())
    }

    /// ``ot_engine``, and what it was chosen by: ``bytes_per_second`` and ``round_trip_seconds``, else None.
    #[getter]
    fn link<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let choice = py.detach(|| self.lock().choice());
        let made = PyDict::new(py);
        stats::add_choice(&made, &choice)?;
        Ok(made)
    }

    #[getter]
    fn is_open(&self, py: Python<'_>) -> bool {
        py.detach(|| self.lock().is_open())
    }

    /// Seconds, bytes and round trips by phase and step, since the beginning or the last reset.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let meter = py.detach(|| self.lock().meter().cloned());
        let meter = meter.ok_or_else(|| Failure::from(LinkError::SessionClosed))?;
        stats::report(py, &meter, self.model.get().model.plan.program())
    }

    fn reset_stats(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(meter) = self.lock().meter() {
                meter.reset();
            }
        });
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (open, ready) = py.detach(|| {
            let session = self.lock();
            (session.is_open(), session.tickets_ready())
        });
        format!(
            "<HospitalSession, {}, {ready} tickets>",
            if open { "open" } else { "closed" }
        )
    }
}

impl HospitalSession {
    /// Only without the interpreter's lock: whoever runs a session asks for that one while it waits.
    fn lock(&self) -> MutexGuard<'_, LinkSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
