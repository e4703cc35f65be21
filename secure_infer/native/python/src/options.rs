//! Credentials and time-outs as Python gives them.

use std::time::Duration;

use blindread_link::timeouts::Timeouts;
use blindread_link::tls::{Credentials as LinkCredentials, Fingerprint};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictMethods};

use crate::error::Failure;

/// A party's certificate and key in PEM, and whom it trusts.
#[pyclass(frozen, module = "secure_infer._native")]
pub struct Credentials {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    pins: Vec<Fingerprint>,
}

#[pymethods]
impl Credentials {
    #[new]
    #[pyo3(signature = (authority, certificate, key, *, fingerprints=Vec::new()))]
    fn new(
        authority: Vec<u8>,
        certificate: Vec<u8>,
        key: Vec<u8>,
        fingerprints: Vec<String>,
    ) -> PyResult<Self> {
        let pins = fingerprints
            .iter()
            .map(|text| fingerprint(text))
            .collect::<Result<_, _>>()?;
        let made = Self {
            authority,
            certificate,
            key: key.into(),
            pins,
        };
        made.load()?; // what can't be used is found now, not at the first call
        Ok(made)
    }

    /// SHA-256 of this party's own certificate, in hexadecimal.
    #[getter]
    fn fingerprint(&self) -> PyResult<String> {
        Ok(blindread_link::hex(&self.load()?.fingerprint()))
    }

    fn __repr__(&self) -> String {
        format!("<Credentials, {} pinned peers>", self.pins.len())
    }
}

impl Credentials {
    /// For one client or server.
    pub fn load(&self) -> Result<LinkCredentials, Failure> {
        let pins = self.pins.iter().copied();
        Ok(LinkCredentials::from_pem(
            &self.authority,
            &self.certificate,
            &self.key,
            pins,
        )?)
    }
}

fn fingerprint(text: &str) -> Result<Fingerprint, Failure> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b':').collect();
    let pair = |pair: &[u8]| {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        u8::try_from(16 * digit(pair[0])? + digit(pair[1])?).ok()
    };
    let bytes: Option<Vec<u8>> = if digits.len() == 64 {
        digits.chunks_exact(2).map(pair).collect()
    } else {
        None
    };
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            Failure::new(
                "credentials",
                "fingerprint: expected 64 hexadecimal digits of SHA-256, got another text",
            )
        })
}

/// Seconds by name; what isn't named keeps its default.
pub fn timeouts(given: Option<&Bound<'_, PyDict>>) -> PyResult<Timeouts> {
    let mut timeouts = Timeouts::default();
    for (name, seconds) in given.into_iter().flat_map(|dict| dict.iter()) {
        let (name, seconds): (String, f64) = (name.extract()?, seconds.extract()?);
        let place = match name.as_str() {
            "connect" => &mut timeouts.connect,
            "handshake" => &mut timeouts.handshake,
            "silence" => &mut timeouts.silence,
            "message" => &mut timeouts.message,
            "idle" => &mut timeouts.idle,
            "farewell" => &mut timeouts.farewell,
            _ => {
                return Err(wrong(
                    "connect, handshake, silence, message, idle or farewell",
                    &name,
                ));
            }
        };
        *place = duration(seconds)
            .ok_or_else(|| wrong("0.001 to 1000000 seconds", &seconds.to_string()))?;
    }
    Ok(timeouts)
}

/// A time that makes sense to wait.
pub fn duration(seconds: f64) -> Option<Duration> {
    (0.001..=1e6)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

fn wrong(expected: &str, got: &str) -> PyErr {
    Failure::new(
        "argument",
        format!("timeouts: expected {expected}, got {got}"),
    )
    .into()
}
