//! What a link is like: round trips and a bounded transfer from the developer, before anything secret exists.
//!
//! The hospital asks for probes, each a number of zeros, and takes the time until they are all here. That direction
//! carries most of what `softspoken` sends. A transfer is some four times as long as the one before until one takes
//! long enough; nothing is sent for longer than about a third of a second. The estimate errs on the slow side where a
//! long way keeps short transfers from getting up to speed, and there a slow link's engine is right.
//!
//! Security: probes are zeros of a public length; they show each party how fast the link and the peer are, and the
//! developer a speed that the hospital states.

use std::time::Duration;

use crate::choice::Measured;
use crate::error::LinkError;

/// Probes of no length, of which the fastest counts.
const ROUND_TRIPS: u32 = 4;
/// Lengths of the transfers; the last one is repeated on a fast link.
const TRANSFERS: [u64; 6] = [1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 20, 1 << 20];
/// A transfer that takes as long as this says enough.
const ENOUGH: Duration = Duration::from_millis(60);

/// What a developer sends one hospital at most, in all.
const LIMIT_BYTES: u64 = 1 << 22;
/// How many probes it answers.
const LIMIT_PROBES: u32 = 32;

/// Measures a link, of which `exchange` asks for so many bytes and says how long they took.
///
/// # Errors
/// Those of `exchange`.
pub fn measure<E>(mut exchange: impl FnMut(u64) -> Result<Duration, E>) -> Result<Measured, E> {
    let mut round_trip = Duration::MAX;
    for _ in 0..ROUND_TRIPS {
        round_trip = round_trip.min(exchange(0)?);
    }
    let (mut longest, mut fastest) = (0, Duration::MAX);
    for len in TRANSFERS {
        let took = exchange(len)?;
        // What is left of a transfer that the way outweighs says nothing about its speed.
        let sending = took.saturating_sub(round_trip).max(took / 8);
        fastest = if len > longest {
            sending
        } else {
            fastest.min(sending)
        };
        longest = len;
        if sending >= ENOUGH {
            break;
        }
    }
    let seconds = fastest.as_secs_f64().max(1e-9);
    Ok(Measured {
        bytes_per_second: ((longest as f64 / seconds) as u64).max(1),
        round_trip: Duration::from_micros(round_trip.as_micros().min(u32::MAX.into()) as u64),
    })
}

/// What a hospital may still ask for.
pub(crate) struct Allowance {
    bytes: u64,
    probes: u32,
}

impl Allowance {
    /// All of it where the engine is still open, else nothing.
    pub(crate) fn new(open: bool) -> Self {
        Self {
            bytes: if open { LIMIT_BYTES } else { 0 },
            probes: if open { LIMIT_PROBES } else { 0 },
        }
    }

    /// The zeros of one probe.
    ///
    /// # Errors
    /// [`LinkError::Message`] when it is used up.
    pub(crate) fn take(&mut self, len: u64) -> Result<&'static [u8], LinkError> {
        static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
        let zeros = usize::try_from(len).ok().and_then(|len| ZEROS.get(..len));
        match (zeros, self.probes) {
            (Some(zeros), 1..) if len <= self.bytes => {
                self.bytes -= len;
                self.probes -= 1;
                Ok(zeros)
            }
            _ => Err(LinkError::Message {
                what: "probe",
                expected: format!(
                    "at most {} more of {} bytes together",
                    self.probes, self.bytes
                ),
                got: format!("one of {len} bytes"),
            }),
        }
    }
}

/// Checks what a developer sent for a probe.
///
/// # Errors
/// [`LinkError::Message`].
pub(crate) fn check(body: &[u8]) -> Result<(), LinkError> {
    if body.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    Err(LinkError::Message {
        what: "probe",
        expected: "zeros".to_owned(),
        got: "other bytes".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::choice::{Choice, Work};
    use blindread_protocol::OtEngine;

    /// A link whose clock is arithmetic: what was asked for, and the time of all of it.
    fn link(
        bytes_per_second: f64,
        round_trip: Duration,
        asked: &mut Vec<u64>,
    ) -> (Measured, Duration) {
        let mut clock = Duration::ZERO;
        let Ok(measured) = measure(|len| -> Result<Duration, Infallible> {
            asked.push(len);
            let took = round_trip + Duration::from_secs_f64(len as f64 / bytes_per_second);
            clock += took;
            Ok(took)
        });
        (measured, clock)
    }

    #[test]
    fn measured_link_is_the_simulated_one_and_not_kept_busy_for_long() {
        for rate in [1e5, 1e6, 1e7, 1e8, 1e9, 1e10] {
            for micros in [20, 500, 5_000] {
                let (mut asked, round_trip) = (Vec::new(), Duration::from_micros(micros));
                let (measured, clock) = link(rate, round_trip, &mut asked);
                assert_eq!(measured.round_trip, round_trip);
                let sending = clock - round_trip * asked.len() as u32;
                assert!(sending < Duration::from_millis(340), "{rate}: {sending:?}");
                let mut allowance = Allowance::new(true);
                assert!(asked.iter().all(|&len| allowance.take(len).is_ok()));
                // A way that outweighs the transfer hides how fast it is beyond this.
                let largest = f64::from(1 << 20);
                let seen = rate.min(8.0 * largest / (round_trip.as_secs_f64() + largest / rate));
                let error = measured.bytes_per_second as f64 / seen;
                assert!((0.98..1.02).contains(&error), "{rate}, {micros}: {error}");
            }
        }
    }

    #[test]
    fn slow_link_ends_in_ferret_and_a_fast_one_in_softspoken() {
        let densenet = Work {
            comparisons: 33_187_840,
            chunks: 3 * 33_187_840,
        };
        let engine = |rate| {
            let (measured, _) = link(rate, Duration::from_micros(200), &mut Vec::new());
            Choice::by_link(densenet, 1, measured).engine
        };
        assert_eq!(engine(12.5e6), OtEngine::Ferret);
        assert_eq!(engine(1.25e9), OtEngine::SoftSpoken);
    }

    #[test]
    fn disturbed_transfers_do_not_hide_a_fast_link() {
        let mut number = 0;
        let Ok(measured) = measure(|len| -> Result<Duration, Infallible> {
            number += 1;
            let pause = Duration::from_millis(if number % 2 == 0 { 0 } else { 20 });
            Ok(Duration::from_secs_f64(len as f64 / 1e9) + Duration::from_micros(50) + pause)
        });
        assert!((900_000_000..1_100_000_000).contains(&measured.bytes_per_second));
    }

    #[test]
    fn error_of_the_exchange_ends_the_measurement() {
        let result = measure(|len| {
            if len == 0 {
                Ok(Duration::ZERO)
            } else {
                Err(len)
            }
        });
        assert_eq!(result, Err(TRANSFERS[0]));
    }

    #[test]
    fn allowance_is_used_up_by_bytes_by_number_and_by_one_that_is_too_long() {
        let mut allowance = Allowance::new(true);
        for _ in 0..4 {
            assert_eq!(allowance.take(1 << 20).unwrap().len(), 1 << 20);
        }
        assert!(allowance.take(0).is_ok());
        assert_eq!(allowance.take(1).err().unwrap().code(), "message");
        let mut allowance = Allowance::new(true);
        for _ in 0..LIMIT_PROBES {
            assert!(allowance.take(1).is_ok());
        }
        let error = allowance.take(0).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "probe: expected at most 0 more of {} bytes together, got one of 0 bytes",
                LIMIT_BYTES - u64::from(LIMIT_PROBES)
            )
        );
        for len in [(1 << 20) + 1, u64::MAX] {
            assert!(Allowance::new(true).take(len).is_err());
        }
        assert!(Allowance::new(false).take(0).is_err());
    }

    #[test]
    fn probe_that_is_not_zeros_is_refused() {
        assert!(check(&[0; 100]).is_ok() && check(&[]).is_ok());
        let error = check(&[0, 0, 1]).err().unwrap();
        assert_eq!(error.code(), "message");
        assert_eq!(error.to_string(), "probe: expected zeros, got other bytes");
    }
}
