//! Which OT engine a session uses: what each party asks for, what the hospital decides, and by which rule.
//!
//! A party names an engine or leaves it open (`auto`). Who names one decides; two different names are refused; if both
//! leave it open, the hospital measures the link ([`crate::probe`]) and takes `ferret` where its offline phase is predicted
//! to be over in [three quarters](WORTH) of the time of `softspoken`, which rests on less. Either party can thus rule out an
//! engine, and with it what it assumes.
//!
//! | message | bytes |
//! |---|---|
//! | request (kind `Opening`, hospital) | operation 1: probe; 0; length 8; 0 0 0 0 |
//! | | operation 2: choice; engine 1; bytes per second 8; round trip 4 in microseconds |
//! | probe (developer) | as many zeros as were asked for |
//!
//! Bandwidth and round trip are 0 if nothing was measured. The choice becomes part of the session's name
//! ([`crate::hello::session_id`]), so parties that saw different ones have different base OTs.

use std::time::Duration;

use blindread_protocol::carry::chunks;
use blindread_protocol::program::Step;
use blindread_protocol::{OtEngine, Program};

use crate::error::LinkError;

/// Length of a hospital's request.
pub const REQUEST_LEN: usize = 14;

/// What a party wants the OT engine to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineOption {
    /// Whatever the peer names, else what suits the link.
    Auto,
    /// This one.
    Only(OtEngine),
}

/// The OT engine of this name.
///
/// # Errors
/// [`LinkError::Mismatch`] with code `engine`.
pub fn engine_from_name(name: &str) -> Result<OtEngine, LinkError> {
    OtEngine::from_name(name).ok_or_else(|| mismatch(&names(" or "), "another name"))
}

fn names(between: &str) -> String {
    OtEngine::ALL.map(OtEngine::name).join(between)
}

impl EngineOption {
    /// The option of this name.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `engine`.
    pub fn from_name(name: &str) -> Result<Self, LinkError> {
        if name == Self::Auto.name() {
            return Ok(Self::Auto);
        }
        OtEngine::from_name(name)
            .map(Self::Only)
            .ok_or_else(|| mismatch(&format!("auto, {}", names(", ")), "another name"))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(engine) => engine.name(),
        }
    }

    /// Its byte in a hello.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Auto => 0,
            Self::Only(engine) => engine as u8,
        }
    }

    /// The option behind a peer's byte.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `engine`.
    pub(crate) fn from_byte(byte: u8) -> Result<Self, LinkError> {
        match byte {
            0 => Ok(Self::Auto),
            _ => engine_from_byte(byte).map(Self::Only),
        }
    }

    /// The engine that this option and the peer's leave, or none if neither names one.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `engine` if they name different ones.
    pub fn agree(self, peer: Self) -> Result<Option<OtEngine>, LinkError> {
        match (self, peer) {
            (Self::Auto, Self::Auto) => Ok(None),
            (Self::Only(engine), Self::Auto) | (Self::Auto, Self::Only(engine)) => Ok(Some(engine)),
            (Self::Only(own), Self::Only(theirs)) if own == theirs => Ok(Some(own)),
            (Self::Only(own), Self::Only(theirs)) => Err(mismatch(own.name(), theirs.name())),
        }
    }
}

/// What a link was measured to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// From the developer to the hospital, at least 1.
    pub bytes_per_second: u64,
    /// There and back, in whole microseconds.
    pub round_trip: Duration,
}

/// The engine of a session, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The engine.
    pub engine: OtEngine,
    /// What it was chosen by; none if a party had named it.
    pub measured: Option<Measured>,
}

/// What a hospital asks for between welcome and base OTs: any number of probes, then its choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// So many bytes.
    Probe(u64),
    /// The end of it.
    Choose(Choice),
}

impl Request {
    /// The message's body.
    #[must_use]
    pub fn encode(self) -> [u8; REQUEST_LEN] {
        let (operation, engine, number, micros) = match self {
            Self::Probe(len) => (1, 0, len, 0),
            Self::Choose(Choice { engine, measured }) => {
                let (rate, round_trip) = measured.map_or((0, Duration::ZERO), |measured| {
                    (measured.bytes_per_second, measured.round_trip)
                });
                let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
                (2, engine as u8, rate, micros)
            }
        };
        let mut bytes = [0; REQUEST_LEN];
        (bytes[0], bytes[1]) = (operation, engine);
        bytes[2..10].copy_from_slice(&number.to_le_bytes());
        bytes[10..].copy_from_slice(&micros.to_le_bytes());
        bytes
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`LinkError::Message`]; [`LinkError::Mismatch`] with code `engine` for an engine that there is not.
    pub fn decode(bytes: &[u8]) -> Result<Self, LinkError> {
        let Ok(bytes) = <&[u8; REQUEST_LEN]>::try_from(bytes) else {
            return Err(message(&format!("{} bytes", bytes.len())));
        };
        let [operation, engine, a, b, c, d, e, f, g, h, micros @ ..] = *bytes;
        let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let micros = u32::from_le_bytes(micros);
        match (operation, engine, number, micros) {
            (1, 0, len, 0) => Ok(Self::Probe(len)),
            (2, engine, 0, 0) => Ok(Self::Choose(Choice {
                engine: engine_from_byte(engine)?,
                measured: None,
            })),
            (2, engine, bytes_per_second, micros) if bytes_per_second > 0 => {
                Ok(Self::Choose(Choice {
                    engine: engine_from_byte(engine)?,
                    measured: Some(Measured {
                        bytes_per_second,
                        round_trip: Duration::from_micros(micros.into()),
                    }),
                }))
            }
            _ => Err(message("another one")),
        }
    }
}

impl Choice {
    /// By the rule: `ferret` if the connection and one ticket are predicted to be ready early [enough](WORTH) with it.
    ///
    /// `threads` are the hospital's; the developer is taken to have as many.
    #[must_use]
    pub fn by_link(work: Work, threads: usize, measured: Measured) -> Self {
        let seconds = |engine| Cost::of(engine).seconds(work, threads, measured);
        let worth_it = seconds(OtEngine::Ferret) < WORTH * seconds(OtEngine::SoftSpoken);
        Self {
            engine: if worth_it {
                OtEngine::Ferret
            } else {
                OtEngine::SoftSpoken
            },
            measured: Some(measured),
        }
    }

    /// Checks a peer's choice against what the hellos left.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `engine`.
    pub(crate) fn check(&self, agreed: Option<OtEngine>) -> Result<(), LinkError> {
        match agreed {
            Some(engine) if engine != self.engine => {
                Err(mismatch(engine.name(), self.engine.name()))
            }
            _ => Ok(()),
        }
    }
}

/// The part of the time of `softspoken` for which the LPN assumption is taken into the bargain.
const WORTH: f64 = 0.75;

/// What a program needs OTs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Comparisons: each takes a random OT in either direction.
    pub comparisons: u64,
    /// Chunks of their windows: each takes a one-of-sixteen OT.
    pub chunks: u64,
}

impl Work {
    /// Of one ticket.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let mut work = Self {
            comparisons: 0,
            chunks: 0,
        };
        for step in program.steps() {
            let window = match step {
                Step::Relu(s) => s.window,
                Step::ReluClipped(s) => s.window,
                Step::MaxPool(s) => s.window,
                _ => continue,
            };
            let count = program.comparisons(step);
            work.comparisons += count;
            work.chunks += count * chunks(window).len() as u64;
        }
        work
    }
}

/// What an engine costs the offline phase.
///
/// Seconds are those of DenseNet-121 at 320x320 with windows of two chunks (`make bench`, one core of an AMD EPYC with
/// VAES per party, loopback, the same hour): 6.1 s with `softspoken` and 5.8 s with `ferret` for 33.2 million comparisons of
/// four OTs, and 0.08 s and 0.16 s for the set-up. Bytes are counted in the direction that carries more: with `softspoken` from the
/// developer, 31 corrections of 4 bits for each chunk and of one bit for each comparison, and for each comparison some 2.6
/// bytes of everything else; with `ferret` from the hospital, 26 bits and a share of the sums of trees. Neither engine has
/// the parties wait for answers, so the round trip is told but doesn't count.
struct Cost {
    setup_seconds: f64,
    setup_bytes: f64,
    /// Per OT.
    seconds: f64,
    bytes_per_chunk: f64,
    bytes_per_comparison: f64,
}

/// OTs of the benchmark that the seconds are from.
const MEASURED_OTS: f64 = 4.0 * 33_187_840.0;

impl Cost {
    fn of(engine: OtEngine) -> Self {
        match engine {
            OtEngine::SoftSpoken => Self {
                setup_seconds: 0.08,
                setup_bytes: 25e3,
                seconds: 6.1 / MEASURED_OTS,
                bytes_per_chunk: 15.5,
                bytes_per_comparison: 3.9 + 2.6,
            },
            OtEngine::Ferret => Self {
                setup_seconds: 0.16,
                setup_bytes: 5.2e6,
                seconds: 5.8 / MEASURED_OTS,
                bytes_per_chunk: 0.0,
                bytes_per_comparison: 3.7,
            },
        }
    }

    /// Computing and sending overlap.
    fn seconds(&self, work: Work, threads: usize, link: Measured) -> f64 {
        let (comparisons, chunks) = (work.comparisons as f64, work.chunks as f64);
        let ots = chunks + 2.0 * comparisons;
        let computing = self.setup_seconds + ots * self.seconds / threads.max(1) as f64;
        let bytes = self.setup_bytes
            + chunks * self.bytes_per_chunk
            + comparisons * self.bytes_per_comparison;
        let sending = bytes / link.bytes_per_second as f64;
        computing.max(sending)
    }
}

fn engine_from_byte(byte: u8) -> Result<OtEngine, LinkError> {
    OtEngine::ALL
        .into_iter()
        .find(|engine| *engine as u8 == byte)
        .ok_or_else(|| mismatch(&names(" or "), &format!("number {byte}")))
}

fn mismatch(expected: &str, got: &str) -> LinkError {
    LinkError::Mismatch {
        what: "engine",
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

fn message(got: &str) -> LinkError {
    LinkError::Message {
        what: "request",
        expected: format!("a probe or a choice of {REQUEST_LEN} bytes"),
        got: got.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENSENET: Work = Work {
        comparisons: 33_187_840,
        chunks: 3 * 33_187_840,
    };

    fn link(bits_per_second: f64, round_trip: Duration) -> Measured {
        Measured {
            bytes_per_second: (bits_per_second / 8.0) as u64,
            round_trip,
        }
    }

    #[test]
    fn slow_link_takes_ferret_and_a_fast_one_softspoken() {
        let lan = Duration::from_micros(200);
        for (rate, expected) in [
            (1e6, OtEngine::Ferret),
            (1e8, OtEngine::Ferret),
            (1e9, OtEngine::Ferret),
            (2e9, OtEngine::SoftSpoken),
            (1e10, OtEngine::SoftSpoken),
        ] {
            assert_eq!(
                Choice::by_link(DENSENET, 1, link(rate, lan)).engine,
                expected,
                "{rate} bit/s"
            );
        }
    }

    #[test]
    fn small_network_takes_softspoken_whose_set_up_is_small() {
        let small = Work {
            comparisons: 1000,
            chunks: 3000,
        };
        for rate in [1e6, 1e9, 1e11] {
            let choice = Choice::by_link(small, 1, link(rate, Duration::ZERO));
            assert_eq!(choice.engine, OtEngine::SoftSpoken, "{rate} bit/s");
        }
    }

    #[test]
    fn work_of_a_program_counts_chunks_of_each_window() {
        let value = r#"{"shape":[2,4,4],"ring_bits":27}"#;
        let relu = |name: &str, input, low, high| {
            format!(
                r#"{{"op":"relu","name":"{name}","in":{input},"out":{},"window":[{low},{high}]}},"#,
                input + 1
            )
        };
        let program = Program::from_json(&format!(
            r#"{{"format":"blindread.program","version":1,"values":[{value},{value},{value}],"steps":[
              {{"op":"input","name":"image","out":0}},{}{}{{"op":"output","name":"logits","in":2}}]}}"#,
            relu("wide", 0, 1, 12),
            relu("narrow", 1, 4, 9)
        ));
        let work = Work::of(&program.unwrap());
        assert_eq!((work.comparisons, work.chunks), (2 * 32, 3 * 32 + 32));
    }

    #[test]
    fn more_threads_need_a_faster_link_for_softspoken() {
        let choice = |threads| {
            let link = link(2e9, Duration::ZERO);
            Choice::by_link(DENSENET, threads, link).engine
        };
        assert_eq!(
            [choice(1), choice(4)],
            [OtEngine::SoftSpoken, OtEngine::Ferret]
        );
    }

    #[test]
    fn options_agree_on_what_one_of_them_names() {
        use EngineOption::{Auto, Only};
        let (one, other) = (Only(OtEngine::SoftSpoken), Only(OtEngine::Ferret));
        assert_eq!(Auto.agree(Auto).unwrap(), None);
        for (own, peer) in [(one, one), (one, Auto), (Auto, one)] {
            assert_eq!(own.agree(peer).unwrap(), Some(OtEngine::SoftSpoken));
        }
        let error = one.agree(other).err().unwrap();
        assert_eq!(error.code(), "engine");
        assert_eq!(error.to_string(), "engine: expected softspoken, got ferret");
        for option in [Auto, one, other] {
            assert_eq!(EngineOption::from_name(option.name()).unwrap(), option);
            assert_eq!(EngineOption::from_byte(option.byte()).unwrap(), option);
        }
        assert_eq!(EngineOption::from_byte(3).err().unwrap().code(), "engine");
        let error = EngineOption::from_name("silver").err().unwrap();
        assert_eq!(
            error.to_string(),
            "engine: expected auto, softspoken, ferret, got another name"
        );
    }

    #[test]
    fn requests_round_trip_and_others_are_refused() {
        let measured = Some(link(1e9, Duration::from_micros(77)));
        for request in [
            Request::Probe(0),
            Request::Probe(u64::MAX),
            Request::Choose(Choice {
                engine: OtEngine::Ferret,
                measured,
            }),
            Request::Choose(Choice {
                engine: OtEngine::SoftSpoken,
                measured: None,
            }),
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
        let mut without_rate = Request::Probe(0).encode();
        (without_rate[0], without_rate[1], without_rate[13]) = (2, 1, 1);
        for bytes in [
            &[][..],
            &[1; 13],
            &[1; 15],
            &[0; 14],
            &[1; 14],
            &[3; 14],
            &without_rate,
        ] {
            assert_eq!(Request::decode(bytes).err().unwrap().code(), "message");
        }
        assert!(Request::decode(&[2; 14]).is_ok());
        let mut unknown = [2; REQUEST_LEN];
        unknown[1] = 9;
        assert_eq!(Request::decode(&unknown).err().unwrap().code(), "engine");
    }
}
