//! A small model, an authority with certificates, and a server that remembers what it reported.
#![allow(dead_code)] // each test file uses its own part

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blindread_link::budget::Budget;
use blindread_link::channel::TlsChannel;
use blindread_link::choice::EngineOption;
use blindread_link::developer::{DeveloperModel, DeveloperServer, Limits};
use blindread_link::event::Event;
use blindread_link::hello::Identity;
use blindread_link::hospital::{Endpoint, HospitalModel, HospitalSession};
use blindread_link::timeouts::Timeouts;
use blindread_link::tls::{Credentials, Fingerprint};
use blindread_link::{Cancel, LinkError};
use blindread_protocol::{
    OtEngine, Parameters, Plan, Program, StepParameters, Workers, make_hints,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A square of four; [`wide_models`] have a larger one.
pub const PROGRAM: &str = r#"{"format":"blindread.program","version":1,
 "values":[{"shape":[1,4,4],"ring_bits":27},{"shape":[2,4,4],"ring_bits":27},
           {"shape":[2,4,4],"ring_bits":27},{"shape":[2,4,4],"ring_bits":27}],
 "steps":[
  {"op":"input","name":"image","out":0},
  {"op":"linear","name":"conv","in":0,"out":1,"kernel":[3,3],"stride":[1,1],"dilation":[1,1],"padding":[1,1,1,1],"groups":1},
  {"op":"truncate","name":"conv:truncate","in":1,"out":2,"shift":10},
  {"op":"relu","name":"relu","in":2,"out":3,"window":[1,12]},
  {"op":"output","name":"logits","in":3}]}"#;
pub const INPUT_LEN: usize = 16;
/// Of [`wide_models`], whose vectors have four lanes.
pub const WIDE_LEN: usize = 4096;
pub const SEED: [u8; 32] = [7; 32];
pub const IDENTITY: Identity = Identity {
    bundle: [0xb1; 32],
    parameters: [0x9a; 32],
    engine: EngineOption::Only(OtEngine::SoftSpoken),
};

/// One shared model: hints take a moment to make.
pub fn models() -> (HospitalModel, DeveloperModel) {
    static MODELS: std::sync::OnceLock<(HospitalModel, DeveloperModel)> =
        std::sync::OnceLock::new();
    MODELS.get_or_init(|| make_models(PROGRAM)).clone()
}

/// The same for more pixels.
pub fn wide_models() -> (HospitalModel, DeveloperModel) {
    static MODELS: std::sync::OnceLock<(HospitalModel, DeveloperModel)> =
        std::sync::OnceLock::new();
    MODELS
        .get_or_init(|| make_models(&PROGRAM.replace("4,4]", "64,64]")))
        .clone()
}

fn make_models(program: &str) -> (HospitalModel, DeveloperModel) {
    let plan = Arc::new(Plan::new(Program::from_json(program).unwrap()).unwrap());
    let mut steps = HashMap::new();
    let weights = (0..18)
        .map(|i| {
            if i % 9 == 4 {
                1024 * (1 - 2 * (i / 9))
            } else {
                0
            }
        })
        .collect();
    steps.insert(
        "conv".to_owned(),
        StepParameters::Linear {
            weights,
            bias: vec![0; 2],
        },
    );
    steps.insert(
        "relu".to_owned(),
        StepParameters::Relu {
            threshold: vec![0; 2],
            flip: vec![false; 2],
        },
    );
    let parameters = Arc::new(Parameters::new(plan.program(), steps).unwrap());
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).unwrap();
    let mut rng = blindread_lattice::Prg::from_seed(&entropy);
    let (hints, secrets) = make_hints(&plan, &parameters, &SEED, &mut rng, 1).unwrap();
    let hospital = HospitalModel {
        input_len: plan.program().input_shape().iter().product(),
        plan: plan.clone(),
        hints: Arc::new(hints),
        public_seed: SEED,
        identity: IDENTITY,
    };
    (
        hospital,
        DeveloperModel {
            plan,
            parameters,
            secrets: Arc::new(secrets),
            identity: IDENTITY,
        },
    )
}

/// A certificate authority for one test.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Chain and key in PEM.
    fn issue(&self, purpose: ExtendedKeyUsagePurpose, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec!["developer.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    /// Credentials of this authority, trusting `trusted`.
    pub fn credentials(&self, who: Who, trusted: &Self, pins: &[Fingerprint]) -> Credentials {
        let (purpose, expired) = match who {
            Who::Hospital => (ExtendedKeyUsagePurpose::ClientAuth, false),
            Who::ExpiredHospital => (ExtendedKeyUsagePurpose::ClientAuth, true),
            Who::Developer => (ExtendedKeyUsagePurpose::ServerAuth, false),
            Who::ExpiredDeveloper => (ExtendedKeyUsagePurpose::ServerAuth, true),
        };
        let (chain, key) = self.issue(purpose, expired);
        Credentials::from_pem(
            trusted.pem.as_bytes(),
            chain.as_bytes(),
            key.as_bytes(),
            pins.iter().copied(),
        )
        .unwrap()
    }

    pub fn hospital(&self) -> Credentials {
        self.credentials(Who::Hospital, self, &[])
    }

    pub fn developer(&self) -> Credentials {
        self.credentials(Who::Developer, self, &[])
    }
}

#[derive(Clone, Copy)]
pub enum Who {
    Hospital,
    ExpiredHospital,
    Developer,
    ExpiredDeveloper,
}

/// Short enough for a test, long enough for a busy machine.
pub fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(10),
        handshake: Duration::from_secs(20),
        silence: Duration::from_secs(20),
        message: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        farewell: Duration::from_millis(500),
    }
}

pub fn limits() -> Limits {
    Limits {
        hospitals: 4,
        tickets: 2,
        output_noise: 0.0,
        timeouts: timeouts(),
        threads: 1,
    }
}

/// The same with so many threads, and therefore connections.
pub fn with_threads(threads: usize) -> Limits {
    Limits {
        threads,
        ..limits()
    }
}

/// A server and its diary.
pub struct Served {
    pub server: DeveloperServer,
    pub events: Arc<Mutex<Vec<Event>>>,
}

impl Served {
    pub fn start(credentials: Credentials, limits: Limits, budget: Option<u64>) -> Self {
        Self::start_model(models().1, credentials, limits, budget)
    }

    pub fn start_model(
        model: DeveloperModel,
        credentials: Credentials,
        limits: Limits,
        budget: Option<u64>,
    ) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let diary = events.clone();
        let listener = Arc::new(move |event| diary.lock().unwrap().push(event));
        let budget = Budget::new(budget, None).unwrap();
        let server =
            DeveloperServer::start("127.0.0.1:0", model, credentials, limits, budget, listener)
                .unwrap();
        Self { server, events }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: self.server.address().to_string(),
            name: "developer.test".to_owned(),
        }
    }

    /// A connection on which nothing was said.
    pub fn call(&self, credentials: &Credentials) -> TlsChannel {
        let endpoint = self.endpoint();
        TlsChannel::connect(
            &endpoint.address,
            &endpoint.name,
            credentials,
            timeouts(),
            Cancel::new(),
        )
        .unwrap()
    }

    pub fn connect(&self, credentials: &Credentials) -> Result<HospitalSession, LinkError> {
        self.connect_model(credentials, &models().0)
    }

    pub fn connect_model(
        &self,
        credentials: &Credentials,
        model: &HospitalModel,
    ) -> Result<HospitalSession, LinkError> {
        HospitalSession::connect(
            &self.endpoint(),
            credentials,
            model,
            timeouts(),
            &Workers::one(),
            Cancel::new(),
        )
    }

    /// Waits until `count` events of this name were reported, and returns the codes of all of them.
    pub fn codes(&self, name: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let codes: Vec<String> = {
                let events = self.events.lock().unwrap();
                events
                    .iter()
                    .filter(|event| event.name == name)
                    .map(|event| event.code.clone())
                    .collect()
            };
            assert!(
                Instant::now() < until,
                "expected {count} events {name}, got {:?}",
                self.events.lock().unwrap()
            );
            if codes.len() >= count {
                return codes;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The image of the tests, and what comes out: itself where positive, its negative where negative.
pub fn image(seed: i32) -> Vec<i32> {
    image_of(INPUT_LEN, seed)
}

/// Of so many pixels.
pub fn image_of(len: usize, seed: i32) -> Vec<i32> {
    (0..len as i32)
        .map(|i| ((i * 37 + seed * 101) % 401 - 200) * 4)
        .collect()
}

pub fn assert_outputs(image: &[i32], outputs: &[Vec<i64>]) {
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].len(), 2 * image.len());
    for (at, &got) in outputs[0].iter().enumerate() {
        let pixel = i64::from(image[at % image.len()]);
        let expected = if at < image.len() {
            pixel.max(0)
        } else {
            (-pixel).max(0)
        };
        // Rounding of the input, of the truncation, a comparison that ignores one bit.
        assert!(
            (got - expected).abs() <= 4,
            "output {at}: expected about {expected}, got {got}"
        );
    }
}

pub fn code<T>(result: Result<T, LinkError>) -> String {
    result
        .err()
        .expect("expected an error, got success")
        .code()
        .to_owned()
}
