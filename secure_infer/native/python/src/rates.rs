//! What this processor can do per second of the things that the protocol is made of, on one core.
//!
//! The crates do the work ([`blindread_ot::rates`] and its like), the clock is here: the thread's own, so that it does
//! not matter who else wants the core. Every rate is the best of a few short runs.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use blindread_link::channel::TlsChannel;
use blindread_link::meter::{Meter, thread_cpu};
use blindread_link::timeouts::Timeouts;
use blindread_link::{Cancel, LinkError};
use blindread_protocol::channel::{Channel, Kind, Phase};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;
use crate::options::{Credentials, duration};

/// Runs of each measurement.
const RUNS: u32 = 3;
/// Bytes of one of the three arrays of a stream: far more than the caches hold.
const STREAM: usize = 1 << 25;
/// Bytes of a message, and how many of them cross the connection in a run.
const MESSAGE: usize = 1 << 20;
const MESSAGES: usize = 32;

/// Units per second of work that is given an amount and returns how much it did.
fn rate(seconds: f64, mut work: impl FnMut(usize) -> usize) -> f64 {
    let slice = seconds / f64::from(RUNS + 1);
    let timed = |work: &mut dyn FnMut(usize) -> usize, amount| {
        let start = thread_cpu();
        let done = work(amount);
        let took = thread_cpu().saturating_sub(start);
        (done, took.as_secs_f64().max(1e-9))
    };
    // Grows until a run takes long enough for the clock, which warms everything up as well.
    let (mut done, mut took) = timed(&mut work, 1 << 12);
    while took < slice / 4.0 {
        (done, took) = timed(&mut work, done * 4);
    }
    let amount = (done as f64 * (slice / took).min(4.0)) as usize;
    (0..RUNS)
        .map(|_| {
            let (done, took) = timed(&mut work, amount);
            done as f64 / took
        })
        .fold(0.0, f64::max)
}

/// Adds one array to another into a third one, of `STREAM` bytes each; counts the bytes read and written.
fn stream(arrays: &mut [Vec<u64>; 3], bytes: usize) -> usize {
    let passes = bytes.div_ceil(3 * STREAM);
    let [from, with, to] = arrays;
    for _ in 0..passes {
        for ((to, from), with) in to.iter_mut().zip(&*from).zip(&*with) {
            *to = from ^ with;
        }
        black_box(&mut *to);
    }
    passes * 3 * STREAM
}

/// Units per second: ``aes_blocks``, ``multiply_adds``, ``butterflies``, ``random_reads``, ``memory_bytes``.
///
/// `seconds` is about what all of it takes.
#[pyfunction]
#[pyo3(signature = (*, seconds=1.0))]
pub fn machine_rates(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyDict>> {
    if duration(seconds).is_none() {
        let message = format!("seconds: expected 0.001 to 1000000, got {seconds}");
        return Err(Failure::new("argument", message).into());
    }
    let each = seconds / 5.0;
    let measured = py.detach(|| {
        let reads = blindread_ot::rates::RandomReads::new();
        let mut arrays = [1, 2, 3].map(|word| vec![word; STREAM / 8]);
        [
            ("aes_blocks", rate(each, blindread_ot::rates::aes_blocks)),
            (
                "multiply_adds",
                rate(each, blindread_ring::rates::multiply_adds),
            ),
            (
                "butterflies",
                rate(each, blindread_lattice::rates::butterflies),
            ),
            ("random_reads", rate(each, |reads_| reads.run(reads_))),
            (
                "memory_bytes",
                rate(each, |bytes| stream(&mut arrays, bytes)),
            ),
        ]
    });
    let made = PyDict::new(py);
    for (name, value) in measured {
        made.set_item(name, value)?;
    }
    Ok(made)
}

/// Bytes per second that one core sends and that one core receives through TLS on loopback, in its own time:
/// ``sent_bytes`` and ``received_bytes``.
#[pyfunction]
pub fn tls_rates<'py>(
    py: Python<'py>,
    developer: &Credentials,
    hospital: &Credentials,
) -> PyResult<Bound<'py, PyDict>> {
    let (listening, calling) = (developer.load()?, hospital.load()?);
    let (sent, received) = py
        .detach(|| -> Result<_, LinkError> {
            let socket = TcpListener::bind("127.0.0.1:0").map_err(listen_error)?;
            let address = socket.local_addr().map_err(listen_error)?.to_string();
            let receiver = thread::spawn(move || -> Result<f64, LinkError> {
                let (stream, _) = socket.accept().map_err(listen_error)?;
                receive(accept(stream, &listening)?)
            });
            let channel = TlsChannel::connect(
                &address,
                "127.0.0.1",
                &calling,
                Timeouts::default(),
                Cancel::new(),
            )?;
            let sent = send(channel)?;
            let received = receiver.join().unwrap_or(Err(LinkError::Panic))?;
            Ok((sent, received))
        })
        .map_err(Failure::from)?;
    let made = PyDict::new(py);
    made.set_item("sent_bytes", sent)?;
    made.set_item("received_bytes", received)?;
    Ok(made)
}

fn accept(
    stream: TcpStream,
    credentials: &blindread_link::tls::Credentials,
) -> Result<TlsChannel, LinkError> {
    TlsChannel::accept_with(stream, credentials, Timeouts::default(), Cancel::new())
}

fn listen_error(error: std::io::Error) -> LinkError {
    LinkError::Listen {
        address: "127.0.0.1:0".to_owned(),
        reason: error.to_string(),
    }
}

/// Every run waits for the peer's word, so that both measure the same bytes.
fn send(mut channel: TlsChannel) -> Result<f64, LinkError> {
    let (body, mut best) = (vec![0x5a; MESSAGE], 0.0);
    for _ in 0..=RUNS {
        channel.meter().reset();
        channel.enter(Phase::Setup, 0);
        for _ in 0..MESSAGES {
            channel.send(Kind::OtCorrections, &body)?;
        }
        channel.flush()?;
        best = busy_rate(channel.meter()).max(best);
        channel.recv(Kind::Done, 0, &mut Vec::new())?;
    }
    Ok(best)
}

fn receive(mut channel: TlsChannel) -> Result<f64, LinkError> {
    let (mut body, mut best) = (Vec::new(), 0.0);
    for _ in 0..=RUNS {
        channel.meter().reset();
        channel.enter(Phase::Setup, 0);
        for _ in 0..MESSAGES {
            channel.recv(Kind::OtCorrections, MESSAGE, &mut body)?;
        }
        best = busy_rate(channel.meter()).max(best);
        channel.send(Kind::Done, &[])?;
        channel.flush()?;
    }
    Ok(best)
}

/// Bytes per second of the processor.
fn busy_rate(meter: &mut Meter) -> f64 {
    meter.leave();
    let spent = meter.phase(Phase::Setup);
    (spent.sent + spent.received) as f64 / spent.cpu.max(Duration::from_nanos(1)).as_secs_f64()
}
