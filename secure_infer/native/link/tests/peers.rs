//! Peers that should not be let in, and peers that misbehave: each ends in its own error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail where it stands

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use blindread_link::channel::TlsChannel;
use blindread_link::choice::{Choice, Request};
use blindread_link::hello::{HELLO_LEN, Hello, Role, session_id};
use blindread_link::hospital::{Endpoint, HospitalSession};
use blindread_link::message::{Command, WELCOME_LEN};
use blindread_link::tls::Credentials;
use blindread_link::{Cancel, LinkError};
use blindread_protocol::OtEngine;
use blindread_protocol::channel::{Channel, ChannelError, Kind, MAX_BODY};
use blindread_protocol::hospital::Session;
use blindread_protocol::{SessionOptions, Workers};
use common::*;

/// A hospital that got in and can now do what it likes.
fn rogue(served: &Served, credentials: &Credentials) -> (TlsChannel, Session) {
    let mut channel = served.call(credentials);
    let own = Hello::new(Role::Hospital, &IDENTITY, 1, &[5; 32]);
    channel.send(Kind::Hello, own.bytes()).unwrap();
    let mut body = Vec::new();
    channel
        .recv(Kind::Hello, own.bytes().len(), &mut body)
        .unwrap();
    let peer = own.check_peer(&body).unwrap();
    channel.recv(Kind::Done, WELCOME_LEN, &mut body).unwrap();
    let choice = Choice {
        engine: OtEngine::SoftSpoken,
        measured: None,
    };
    channel
        .send(Kind::Opening, &Request::Choose(choice).encode())
        .unwrap();
    let model = models().0;
    let session = Session::setup(
        &mut channel,
        model.plan,
        model.hints,
        SEED,
        SessionOptions {
            id: session_id(&own, &peer, choice),
            engine: choice.engine,
            workers: Workers::one(),
        },
        [9; 32],
    )
    .unwrap();
    (channel, session)
}

fn answer(channel: &mut TlsChannel, command: Command) -> Result<(), ChannelError> {
    channel.recv(Kind::Done, command.encode().len(), &mut Vec::new())
}

fn peer_code(result: Result<(), ChannelError>) -> String {
    match result {
        Err(ChannelError::Peer { code, .. }) => code,
        other => panic!("expected the peer's error, got {other:?}"),
    }
}

#[test]
fn certificate_expired_is_refused_on_either_side() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let expired = authority.credentials(Who::ExpiredHospital, &authority, &[]);
    let error = served.connect(&expired).err().unwrap();
    assert_eq!(error.code(), "certificate_refused");
    assert_eq!(
        error.to_string(),
        "own certificate: expected to be accepted, got CertificateExpired from the peer"
    );
    assert_eq!(served.codes("refused", 1), ["certificate_expired"]);

    let served = Served::start(
        authority.credentials(Who::ExpiredDeveloper, &authority, &[]),
        limits(),
        None,
    );
    assert_eq!(
        code(served.connect(&authority.hospital())),
        "certificate_expired"
    );
    assert_eq!(served.codes("refused", 1), ["certificate_refused"]);
}

#[test]
fn certificate_of_another_authority_is_refused_on_either_side() {
    let (authority, other) = (Authority::new(), Authority::new());
    let served = Served::start(authority.developer(), limits(), None);
    let stranger = other.credentials(Who::Hospital, &authority, &[]);
    assert_eq!(code(served.connect(&stranger)), "certificate_refused");
    assert_eq!(served.codes("refused", 1), ["certificate_authority"]);
    let suspicious = authority.credentials(Who::Hospital, &other, &[]);
    assert_eq!(code(served.connect(&suspicious)), "certificate_authority");
    assert_eq!(served.codes("refused", 2)[1], "certificate_refused");
}

#[test]
fn certificate_for_the_other_role_is_refused() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    assert_eq!(
        code(served.connect(&authority.developer())),
        "certificate_refused"
    );
    assert_eq!(served.codes("refused", 1), ["certificate_purpose"]);
}

#[test]
fn certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let endpoint = Endpoint {
        name: "elsewhere.test".to_owned(),
        ..served.endpoint()
    };
    let result = HospitalSession::connect(
        &endpoint,
        &authority.hospital(),
        &models().0,
        timeouts(),
        &Workers::one(),
        Cancel::new(),
    );
    assert_eq!(code(result), "certificate_name");
}

#[test]
fn certificate_with_another_fingerprint_is_refused_on_either_side() {
    let authority = Authority::new();
    let developer = authority.developer();
    let (right, wrong) = (developer.fingerprint(), [0xee; 32]);
    let served = Served::start(developer, limits(), None);
    served
        .connect(&authority.credentials(Who::Hospital, &authority, &[right]))
        .unwrap();
    let error = served
        .connect(&authority.credentials(Who::Hospital, &authority, &[wrong]))
        .err()
        .unwrap();
    assert_eq!(error.code(), "certificate_fingerprint");
    let words = format!(
        "peer's certificate: expected {}, got {}",
        "ee".repeat(32),
        blindread_link::hex(&right)
    );
    assert_eq!(error.to_string(), words);
    assert_eq!(served.codes("refused", 1), ["certificate_fingerprint"]);

    let picky = Served::start(
        authority.credentials(Who::Developer, &authority, &[wrong]),
        limits(),
        None,
    );
    assert_eq!(
        code(picky.connect(&authority.hospital())),
        "certificate_fingerprint"
    );
    assert_eq!(picky.codes("refused", 1), ["certificate_fingerprint"]);
}

#[test]
fn garbage_instead_of_tls_is_named_on_either_side() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let mut stream = TcpStream::connect(served.server.address()).unwrap();
    stream.write_all(&[0x47; 500]).unwrap();
    assert_eq!(served.codes("refused", 1), ["tls"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint {
        address: listener.local_addr().unwrap().to_string(),
        name: "developer.test".to_owned(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let result = HospitalSession::connect(
            &endpoint,
            &authority.hospital(),
            &models().0,
            timeouts(),
            &Workers::one(),
            Cancel::new(),
        );
        assert_eq!(code(result), "tls");
    });
}

#[test]
fn garbage_inside_tls_is_refused_by_its_first_wrong_field() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    for (kind, body, expected, answered) in [
        (Kind::Hello, vec![0x47; 200], "hello", true),
        (Kind::Hello, vec![], "hello", true),
        (Kind::Hello, vec![0; 5000], "unexpected_length", false),
        (Kind::Command, vec![0; 9], "unexpected_message", false),
    ] {
        let mut channel = served.call(&authority.hospital());
        channel.send(kind, &body).unwrap();
        channel.flush().unwrap();
        let mut hello = Vec::new();
        if answered {
            // another version can learn this one's from it
            channel.recv(Kind::Hello, HELLO_LEN, &mut hello).unwrap();
        }
        assert_eq!(
            peer_code(channel.recv(Kind::Done, WELCOME_LEN, &mut hello)),
            expected
        );
    }
    let refused = served.codes("refused", 4);
    assert_eq!(
        refused,
        ["hello", "hello", "unexpected_length", "unexpected_message"]
    );
}

#[test]
fn frame_longer_than_announced_is_refused_before_it_is_read() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (mut channel, _session) = rogue(&served, &authority.hospital());
    let result = channel
        .send(Kind::Command, &vec![0; MAX_BODY])
        .and_then(|()| answer(&mut channel, Command::Ping));
    assert_eq!(peer_code(result), "unexpected_length");
    assert_eq!(served.codes("closed", 1), ["unexpected_length"]);
    let too_long = channel.send(Kind::Command, &vec![0; MAX_BODY + 1]);
    assert!(matches!(
        too_long,
        Err(ChannelError::UnexpectedLength { .. })
    ));
}

#[test]
fn ticket_that_was_never_made_is_unknown() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (mut channel, _session) = rogue(&served, &authority.hospital());
    channel
        .send(Kind::Command, &Command::Infer(1).encode())
        .unwrap();
    assert_eq!(
        peer_code(answer(&mut channel, Command::Infer(1))),
        "ticket_unknown"
    );
    assert_eq!(served.codes("closed", 1), ["ticket_unknown"]);
}

#[test]
fn ticket_spent_twice_is_unknown_the_second_time() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (mut channel, mut session) = rogue(&served, &authority.hospital());
    channel
        .send(Kind::Command, &Command::Prepare(1).encode())
        .unwrap();
    let ticket = session.prepare(&mut channel, 1, [1; 32]).unwrap();
    answer(&mut channel, Command::Prepare(1)).unwrap();
    channel
        .send(Kind::Command, &Command::Infer(1).encode())
        .unwrap();
    assert_outputs(
        &image(4),
        &session.infer(&mut channel, ticket, &image(4)).unwrap(),
    );
    answer(&mut channel, Command::Infer(1)).unwrap();
    channel
        .send(Kind::Command, &Command::Infer(1).encode())
        .unwrap();
    assert_eq!(
        peer_code(answer(&mut channel, Command::Infer(1))),
        "ticket_unknown"
    );
    assert_eq!(served.codes("inferred", 1).len(), 1);
}

#[test]
fn ticket_number_used_before_is_refused() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (mut channel, mut session) = rogue(&served, &authority.hospital());
    channel
        .send(Kind::Command, &Command::Prepare(5).encode())
        .unwrap();
    let _ticket = session.prepare(&mut channel, 5, [1; 32]).unwrap();
    answer(&mut channel, Command::Prepare(5)).unwrap();
    channel
        .send(Kind::Command, &Command::Prepare(5).encode())
        .unwrap();
    assert_eq!(
        peer_code(answer(&mut channel, Command::Prepare(5))),
        "ticket_reused"
    );
    assert_eq!(served.codes("closed", 1), ["ticket_reused"]);
}

#[test]
fn tickets_more_than_allowed_are_refused_by_the_developer_itself() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (mut channel, mut session) = rogue(&served, &authority.hospital());
    let mut tickets = Vec::new();
    for id in 1..=2 {
        channel
            .send(Kind::Command, &Command::Prepare(id).encode())
            .unwrap();
        tickets.push(session.prepare(&mut channel, id, [1; 32]).unwrap());
        answer(&mut channel, Command::Prepare(id)).unwrap();
    }
    channel
        .send(Kind::Command, &Command::Prepare(3).encode())
        .unwrap();
    assert_eq!(
        peer_code(answer(&mut channel, Command::Prepare(3))),
        "ticket_limit"
    );
}

#[test]
fn silent_developer_times_out_and_silent_hospital_loses_its_place() {
    let authority = Authority::new();
    let mut limits = limits();
    limits.timeouts.handshake = Duration::from_millis(100);
    let served = Served::start(authority.developer(), limits, None);
    let _silent = TcpStream::connect(served.server.address()).unwrap();
    assert_eq!(served.codes("refused", 1), ["timeout"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint {
        address: listener.local_addr().unwrap().to_string(),
        name: "developer.test".to_owned(),
    };
    let result = HospitalSession::connect(
        &endpoint,
        &authority.hospital(),
        &models().0,
        limits.timeouts,
        &Workers::one(),
        Cancel::new(),
    );
    assert_eq!(code(result), "timeout");
}

#[test]
fn silent_hospital_in_the_middle_of_a_step_times_out() {
    let authority = Authority::new();
    let mut limits = limits();
    limits.timeouts.silence = Duration::from_millis(300);
    let served = Served::start(authority.developer(), limits, None);
    let (mut channel, _session) = rogue(&served, &authority.hospital());
    channel
        .send(Kind::Command, &Command::Prepare(1).encode())
        .unwrap();
    channel.flush().unwrap();
    assert_eq!(served.codes("closed", 1), ["timeout"]);
}

#[test]
fn hospital_that_goes_away_without_a_word_is_noticed() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let (channel, _session) = rogue(&served, &authority.hospital());
    drop(channel);
    assert_eq!(served.codes("closed", 1), ["peer_closed"]);
    let error: LinkError = ChannelError::Closed {
        expected: Kind::Command,
    }
    .into();
    assert_eq!(
        error.to_string(),
        "peer: expected Command, got the end of the connection"
    );
}

#[test]
fn both_parties_sending_at_once_do_not_block_each_other() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let big = vec![0xa5; 40 << 20];
    let exchange = |mut channel: TlsChannel| {
        let mut body = Vec::new();
        channel.send(Kind::OtCorrections, &big).unwrap();
        channel.send(Kind::Nonce, b"after").unwrap();
        channel
            .recv(Kind::OtCorrections, big.len(), &mut body)
            .unwrap();
        assert!(body == big);
        channel.recv(Kind::Nonce, 5, &mut body).unwrap();
        assert_eq!(body, b"after");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            exchange(
                TlsChannel::accept_with(stream, &authority.developer(), timeouts(), Cancel::new())
                    .unwrap(),
            );
        });
        let credentials = authority.hospital();
        exchange(
            TlsChannel::connect(
                &address,
                "developer.test",
                &credentials,
                timeouts(),
                Cancel::new(),
            )
            .unwrap(),
        );
    });
}
