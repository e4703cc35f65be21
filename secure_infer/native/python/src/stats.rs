//! What a session spent, as dictionaries.

use blindread_link::choice::Choice;
use blindread_link::meter::{Meter, Spent};
use blindread_protocol::Program;
use blindread_protocol::channel::Phase;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Adds the OT engine, and the link where it was measured: `ot_engine`, `bytes_per_second`, `round_trip_seconds`.
pub fn add_choice(made: &Bound<'_, PyDict>, choice: &Choice) -> PyResult<()> {
    let measured = choice.measured;
    made.set_item("ot_engine", choice.engine.name())?;
    made.set_item(
        "bytes_per_second",
        measured.map(|link| link.bytes_per_second),
    )?;
    let round_trip = measured.map(|link| link.round_trip.as_secs_f64());
    made.set_item("round_trip_seconds", round_trip)
}

/// `{"setup": {...}, "offline": {..., "steps": [...]}, "online": {..., "steps": [...]}}`.
pub fn report<'py>(
    py: Python<'py>,
    meter: &Meter,
    program: &Program,
) -> PyResult<Bound<'py, PyDict>> {
    let made = PyDict::new(py);
    for (name, phase) in [
        ("setup", Phase::Setup),
        ("offline", Phase::Offline),
        ("online", Phase::Online),
    ] {
        let part = entry(py, &meter.phase(phase))?;
        if phase != Phase::Setup {
            part.set_item("steps", steps(py, meter, phase, program)?)?;
        }
        made.set_item(name, part)?;
    }
    Ok(made)
}

fn steps<'py>(
    py: Python<'py>,
    meter: &Meter,
    phase: Phase,
    program: &Program,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (id, spent) in meter.steps(phase) {
        let Some(step) = program.steps().get(id) else {
            continue;
        };
        let part = entry(py, &spent)?;
        part.set_item("name", step.name())?;
        part.set_item("op", step.kind_name())?;
        list.append(part)?;
    }
    Ok(list)
}

fn entry<'py>(py: Python<'py>, spent: &Spent) -> PyResult<Bound<'py, PyDict>> {
    let made = PyDict::new(py);
    made.set_item("seconds", spent.time.as_secs_f64())?;
    made.set_item("waiting_seconds", spent.waiting.as_secs_f64())?;
    made.set_item("cpu_seconds", spent.cpu.as_secs_f64())?;
    made.set_item("bytes_sent", spent.sent)?;
    made.set_item("bytes_received", spent.received)?;
    made.set_item("round_trips", spent.turns)?;
    Ok(made)
}
