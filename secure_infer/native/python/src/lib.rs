//! `secure_infer._native`: the two parties for Python. The only crate that knows Python.
//!
//! Long calls release the interpreter's lock and look for signals while they wait. Shares, tickets, keys
//! and weights stay on this side; what Python holds are opaque objects whose `repr` shows sizes only.

mod arrays;
mod developer;
mod error;
mod hospital;
mod interrupt;
mod memory;
mod model;
mod options;
mod rates;
mod stats;

use pyo3::prelude::*;

/// The compiled core of blindread.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::cpu_features;
    #[pymodule_export]
    use super::developer::DeveloperServer;
    #[pymodule_export]
    use super::error::NativeError;
    #[pymodule_export]
    use super::forbid_dumps;
    #[pymodule_export]
    use super::hospital::HospitalSession;
    #[pymodule_export]
    use super::memory::MemoryParties;
    #[pymodule_export]
    use super::model::{DeveloperModel, HospitalModel, hints_len, make_hints, secrets_len};
    #[pymodule_export]
    use super::options::Credentials;
    #[pymodule_export]
    use super::rates::{machine_rates, tls_rates};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("HINT_FORMAT", blindread_lattice::params::HINT_FORMAT)?;
        module.add("PROTOCOL_VERSION", blindread_link::PROTOCOL_VERSION)
    }
}

/// The instruction sets of this processor that the core can make use of.
#[pyfunction]
fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! look_for {
            ($($name:tt),*) => { $(if is_x86_feature_detected!($name) { found.push($name); })* };
        }
        look_for!(
            "sse4.1",
            "aes",
            "pclmulqdq",
            "avx2",
            "fma",
            "vaes",
            "vpclmulqdq",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512ifma",
            "avx512vnni",
            "gfni"
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! look_for {
            ($($name:tt),*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
        }
        look_for!("neon", "aes");
    }
    found
}

/// Forbid core dumps and debuggers for this process; returns whether the operating system agreed.
#[pyfunction]
fn forbid_dumps() -> bool {
    blindread_link::harden::forbid_dumps()
}
