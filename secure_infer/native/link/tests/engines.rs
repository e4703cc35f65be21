//! How two parties settle the OT engine, and peers that misbehave meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail where it stands

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use blindread_link::channel::TlsChannel;
use blindread_link::choice::{Choice, EngineOption, Request};
use blindread_link::hello::{HELLO_LEN, Hello, Identity, Role};
use blindread_link::hospital::{Endpoint, HospitalModel, HospitalSession};
use blindread_link::message::{WELCOME_LEN, Welcome};
use blindread_link::{Cancel, LinkError};
use blindread_protocol::channel::{Channel, ChannelError, Kind};
use blindread_protocol::{
    OtEngine, Parameters, Plan, Program, StepParameters, Workers, make_hints,
};
use common::*;

const AUTO: EngineOption = EngineOption::Auto;
const SOFTSPOKEN: EngineOption = EngineOption::Only(OtEngine::SoftSpoken);
const FERRET: EngineOption = EngineOption::Only(OtEngine::Ferret);

fn identity(engine: EngineOption) -> Identity {
    Identity { engine, ..IDENTITY }
}

fn serve(authority: &Authority, engine: EngineOption) -> Served {
    let mut model = models().1;
    model.identity = identity(engine);
    Served::start_model(model, authority.developer(), limits(), None)
}

fn hospital(engine: EngineOption) -> HospitalModel {
    HospitalModel {
        identity: identity(engine),
        ..models().0
    }
}

/// The choice in the developer's diary.
fn diary(served: &Served) -> Choice {
    served.codes("connected", 1);
    let events = served.events.lock().unwrap();
    let connected = events.iter().find(|event| event.name == "connected");
    connected.unwrap().choice.unwrap()
}

#[test]
fn engine_that_one_party_names_is_taken_and_the_link_not_measured() {
    let authority = Authority::new();
    for (own, theirs, expected) in [
        (AUTO, FERRET, OtEngine::Ferret),
        (FERRET, AUTO, OtEngine::Ferret),
        (SOFTSPOKEN, AUTO, OtEngine::SoftSpoken),
    ] {
        let served = serve(&authority, theirs);
        let mut session = served
            .connect_model(&authority.hospital(), &hospital(own))
            .unwrap();
        let expected = Choice {
            engine: expected,
            measured: None,
        };
        assert_eq!((session.choice(), diary(&served)), (expected, expected));
        session.prepare().unwrap();
        assert_outputs(&image(1), &session.infer(&image(1)).unwrap());
    }
}

#[test]
fn different_names_are_refused_on_both_sides() {
    let authority = Authority::new();
    let served = serve(&authority, SOFTSPOKEN);
    let result = served.connect_model(&authority.hospital(), &hospital(FERRET));
    let error = result.err().unwrap();
    assert_eq!(error.code(), "engine");
    assert_eq!(error.to_string(), "engine: expected ferret, got softspoken");
    assert_eq!(served.codes("refused", 1), ["engine"]);
}

#[test]
fn link_is_measured_where_nobody_names_an_engine_and_a_small_network_keeps_softspoken() {
    let authority = Authority::new();
    let served = serve(&authority, AUTO);
    let mut session = served
        .connect_model(&authority.hospital(), &hospital(AUTO))
        .unwrap();
    let choice = session.choice();
    assert_eq!(choice.engine, OtEngine::SoftSpoken);
    assert!(choice.measured.unwrap().bytes_per_second > 1);
    assert_eq!(diary(&served), choice);
    session.prepare().unwrap();
    assert_outputs(&image(1), &session.infer(&image(1)).unwrap());
}

/// A network of a quarter of a million comparisons, whose set-up can be made in a moment.
fn many_comparisons() -> (HospitalModel, blindread_link::developer::DeveloperModel) {
    let shape = r#"{"shape":[1,512,512],"ring_bits":27}"#;
    let program = format!(
        r#"{{"format":"blindread.program","version":1,"values":[{shape},{shape},{shape}],"steps":[
          {{"op":"input","name":"image","out":0}},
          {{"op":"linear","name":"conv","in":0,"out":1,"kernel":[1,1],"stride":[1,1],"dilation":[1,1],
            "padding":[0,0,0,0],"groups":1}},
          {{"op":"relu","name":"relu","in":1,"out":2,"window":[1,12]}},
          {{"op":"output","name":"logits","in":2}}]}}"#
    );
    let plan = Arc::new(Plan::new(Program::from_json(&program).unwrap()).unwrap());
    let conv = StepParameters::Linear {
        weights: vec![1],
        bias: vec![0],
    };
    let relu = StepParameters::Relu {
        threshold: vec![0],
        flip: vec![false],
    };
    let steps = HashMap::from([("conv".to_owned(), conv), ("relu".to_owned(), relu)]);
    let parameters = Arc::new(Parameters::new(plan.program(), steps).unwrap());
    let mut rng = blindread_lattice::Prg::from_seed(&[1; 32]);
    let (hints, secrets) = make_hints(&plan, &parameters, &SEED, &mut rng, 1).unwrap();
    let (mut hospital, mut developer) = (hospital(AUTO), models().1);
    (hospital.plan, developer.plan) = (plan.clone(), plan);
    (hospital.hints, developer.secrets) = (Arc::new(hints), Arc::new(secrets));
    (developer.parameters, developer.identity) = (parameters, identity(AUTO));
    (hospital, developer)
}

/// Passes bytes on, each direction at no more than `rate` bytes per second.
fn throttled(server: Endpoint, rate: f64) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pump = move |mut from: TcpStream, mut to: TcpStream| {
        let mut buffer = [0; 16384];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            thread::sleep(Duration::from_secs_f64(count as f64 / rate));
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                // The other direction may have ended first.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    };
    thread::spawn(move || {
        let (hospital, _) = listener.accept().unwrap();
        let developer = TcpStream::connect(server.address).unwrap();
        let (up, down) = (
            hospital.try_clone().unwrap(),
            developer.try_clone().unwrap(),
        );
        thread::spawn(move || pump(up, developer));
        pump(down, hospital);
    });
    Endpoint { address, ..server }
}

#[test]
fn slow_link_takes_ferret_for_a_larger_network() {
    let authority = Authority::new();
    let (model, developer) = many_comparisons();
    let served = Served::start_model(developer, authority.developer(), limits(), None);
    let rate = 4e6;
    let session = HospitalSession::connect(
        &throttled(served.endpoint(), rate),
        &authority.hospital(),
        &model,
        timeouts(),
        &Workers::one(),
        Cancel::new(),
    )
    .unwrap();
    let choice = session.choice();
    assert_eq!(choice.engine, OtEngine::Ferret);
    // Not faster than the throttle lets it be; how much slower is the machine's affair.
    assert!((choice.measured.unwrap().bytes_per_second as f64) < 1.2 * rate);
    assert_eq!(diary(&served), choice);
}

/// A hospital in front of the developer's question which engine it shall be.
fn rogue_hospital(served: &Served, authority: &Authority, engine: EngineOption) -> TlsChannel {
    let mut channel = served.call(&authority.hospital());
    let own = Hello::new(Role::Hospital, &identity(engine), 1, &[5; 32]);
    channel.send(Kind::Hello, own.bytes()).unwrap();
    let mut body = Vec::new();
    channel.recv(Kind::Hello, HELLO_LEN, &mut body).unwrap();
    channel.recv(Kind::Done, WELCOME_LEN, &mut body).unwrap();
    channel
}

#[test]
fn hospital_that_asks_for_too_much_or_for_nonsense_is_refused() {
    let authority = Authority::new();
    let choose = |engine| {
        let measured = None;
        Request::Choose(Choice { engine, measured })
            .encode()
            .to_vec()
    };
    let probe = |len| Request::Probe(len).encode().to_vec();
    let cases: [(EngineOption, Kind, Vec<Vec<u8>>, &str); 8] = [
        (AUTO, Kind::Opening, vec![probe((1 << 20) + 1)], "message"),
        (AUTO, Kind::Opening, vec![probe(u64::MAX)], "message"),
        (AUTO, Kind::Opening, vec![probe(0); 33], "message"),
        (AUTO, Kind::Opening, vec![probe(1 << 20); 5], "message"),
        (FERRET, Kind::Opening, vec![probe(0)], "message"),
        (
            FERRET,
            Kind::Opening,
            vec![choose(OtEngine::SoftSpoken)],
            "engine",
        ),
        (AUTO, Kind::Opening, vec![vec![7; 14]], "message"),
        (
            AUTO,
            Kind::BaseOt,
            vec![vec![0; 8192]],
            "unexpected_message",
        ),
    ];
    for (number, (engine, kind, requests, expected)) in cases.into_iter().enumerate() {
        let served = serve(&authority, engine);
        let mut channel = rogue_hospital(&served, &authority, AUTO);
        let mut body = Vec::new();
        let mut end = None;
        for request in requests {
            let asked = Request::decode(&request);
            let len = match asked {
                Ok(Request::Probe(len)) => len as usize,
                _ => 0,
            };
            channel.send(kind, &request).unwrap();
            end = channel.recv(Kind::Probe, len, &mut body).err();
        }
        match end {
            Some(ChannelError::Peer { code, .. }) => assert_eq!(code, expected, "case {number}"),
            other => panic!("case {number}: expected the peer's error, got {other:?}"),
        }
        assert_eq!(served.codes("refused", 1), [expected], "case {number}");
    }
}

/// What a hospital says to a developer that answers its first probe in this way.
fn answered(kind: Kind, body: Vec<u8>) -> LinkError {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint {
        address: listener.local_addr().unwrap().to_string(),
        name: "developer.test".to_owned(),
    };
    let credentials = authority.developer();
    let developer = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut channel =
            TlsChannel::accept_with(stream, &credentials, timeouts(), Cancel::new()).unwrap();
        let own = Hello::new(Role::Developer, &identity(AUTO), 1, &[6; 32]);
        channel.send(Kind::Hello, own.bytes()).unwrap();
        let mut message = Vec::new();
        channel.recv(Kind::Hello, HELLO_LEN, &mut message).unwrap();
        let welcome = Welcome {
            images_left: None,
            tickets: 1,
        };
        channel.send(Kind::Done, &welcome.encode()).unwrap();
        loop {
            let request = Request::Probe(0).encode().len();
            if channel.recv(Kind::Opening, request, &mut message).is_err() {
                return;
            }
            // Honest to probes of no length, so that it is a transfer that is spoilt.
            let answer: &[u8] = match Request::decode(&message).unwrap() {
                Request::Probe(0) => &[],
                _ => &body,
            };
            let kind = if answer.is_empty() { Kind::Probe } else { kind };
            if channel.send(kind, answer).is_err() {
                return;
            }
        }
    });
    let error = HospitalSession::connect(
        &endpoint,
        &authority.hospital(),
        &hospital(AUTO),
        timeouts(),
        &Workers::one(),
        Cancel::new(),
    )
    .err()
    .unwrap();
    developer.join().unwrap();
    error
}

#[test]
fn developer_that_answers_probes_with_garbage_is_refused() {
    let garbage = answered(Kind::Probe, vec![0x47; 1 << 14]);
    assert_eq!(garbage.code(), "message");
    assert_eq!(
        garbage.to_string(),
        "probe: expected zeros, got other bytes"
    );
    for len in [0, (1 << 14) - 1, 1 << 26] {
        let error = answered(Kind::Probe, vec![0; len]);
        assert_eq!(error.code(), "unexpected_length", "{len}");
    }
    let other = answered(Kind::BaseOt, vec![0; 1 << 14]);
    assert_eq!(other.code(), "unexpected_message");
}
