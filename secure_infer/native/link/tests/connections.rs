//! Sessions of several connections: who may join one, and what happens when one of them fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail where it stands

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use blindread_link::channel::TlsChannel;
use blindread_link::choice::{Choice, Request};
use blindread_link::developer::Limits;
use blindread_link::hello::{HELLO_LEN, Hello, JOIN_LEN, Joining, Role, joining_name};
use blindread_link::hospital::{Endpoint, HospitalSession};
use blindread_link::message::{COMMAND_LEN, WELCOME_LEN};
use blindread_link::tls::Credentials;
use blindread_link::{Cancel, LinkError};
use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::{OtEngine, Workers};
use common::*;

fn serve(authority: &Authority, limits: Limits) -> Served {
    Served::start_model(wide_models().1, authority.developer(), limits, None)
}

fn connect(
    endpoint: &Endpoint,
    credentials: &Credentials,
    threads: usize,
) -> Result<HospitalSession, LinkError> {
    HospitalSession::connect(
        endpoint,
        credentials,
        &wide_models().0,
        timeouts(),
        &Workers::new(threads).unwrap(),
        Cancel::new(),
    )
}

fn run(session: &mut HospitalSession, seed: i32) -> Result<(), LinkError> {
    let image = image_of(WIDE_LEN, seed);
    session.prepare()?;
    assert_outputs(&image, &session.infer(&image)?);
    Ok(())
}

#[test]
fn parties_with_any_numbers_of_threads_compute_the_same_and_count_the_same_bytes() {
    let authority = Authority::new();
    let mut online = Vec::new();
    for (ours, theirs) in [(1, 1), (2, 2), (1, 2), (3, 1), (2, 3), (1, 9)] {
        let served = serve(&authority, with_threads(theirs));
        let mut session = connect(&served.endpoint(), &authority.hospital(), ours).unwrap();
        for seed in 0..3 {
            run(&mut session, seed).unwrap();
            session.ping().unwrap();
        }
        let seen = session.meter().unwrap().phase(Phase::Online);
        session.close();
        assert_eq!(served.codes("closed", 1), [""]);
        let spent = served.server.spent().phase(Phase::Online);
        // the developer waits for commands in no phase
        let commands = 3 * (COMMAND_LEN as u64 + 5);
        assert_eq!(spent.sent, seen.received);
        assert_eq!(spent.received + commands, seen.sent);
        // some waits are threads' that aren't the session's own; what is left is less than all of the time
        assert!(spent.waiting <= spent.time && seen.waiting <= seen.time);
        online.push((seen.sent, seen.received));
    }
    // whatever the number of connections
    assert!(online.iter().all(|bytes| *bytes == online[0]), "{online:?}");
}

/// A hospital that got its welcome, in a session of `threads` connections, and the name under which others join it.
fn welcomed(served: &Served, credentials: &Credentials, threads: usize) -> (TlsChannel, [u8; 32]) {
    let mut channel = served.call(credentials);
    let own = Hello::new(Role::Hospital, &IDENTITY, threads, &[5; 32]);
    channel.send(Kind::Hello, own.bytes()).unwrap();
    let mut body = Vec::new();
    channel.recv(Kind::Hello, HELLO_LEN, &mut body).unwrap();
    let peer = own.check_peer(&body).unwrap();
    channel.recv(Kind::Done, WELCOME_LEN, &mut body).unwrap();
    (channel, joining_name(&own, &peer))
}

fn choose(first: &mut TlsChannel) -> Result<(), ChannelError> {
    let choice = Choice {
        engine: OtEngine::SoftSpoken,
        measured: None,
    };
    first.send(Kind::Opening, &Request::Choose(choice).encode())?;
    first.flush()
}

/// What the developer says to a hospital that goes on now.
fn go_on(first: &mut TlsChannel) -> Result<(), ChannelError> {
    choose(first)?;
    first.recv(Kind::BaseOt, 0, &mut Vec::new())
}

/// What the developer says to a connection that would like to join.
fn join(
    served: &Served,
    credentials: &Credentials,
    joining: Joining,
) -> Result<TlsChannel, ChannelError> {
    let mut channel = served.call(credentials);
    channel.send(Kind::Hello, &joining.encode())?;
    channel.recv(Kind::Done, JOIN_LEN, &mut Vec::new())?;
    Ok(channel)
}

fn peer_code<T>(result: Result<T, ChannelError>) -> String {
    match result.err() {
        Some(ChannelError::Peer { code, .. }) => code,
        other => panic!("expected the peer's error, got {other:?}"),
    }
}

#[test]
fn only_the_hospital_of_a_session_that_waits_may_join_it() {
    let authority = Authority::new();
    let served = serve(&authority, limits());
    let hospital = authority.hospital();
    let (mut first, name) = welcomed(&served, &hospital, 2);
    let joining = Joining { number: 1, name };
    let unknown = Joining {
        name: [1; 32],
        ..joining
    };
    assert_eq!(peer_code(join(&served, &hospital, unknown)), "hello");
    let other = authority.hospital();
    assert_eq!(peer_code(join(&served, &other, joining)), "hello");
    assert_eq!(served.codes("refused", 2), ["hello", "hello"]);
    let _second = join(&served, &hospital, joining).unwrap();
    choose(&mut first).unwrap();
    // until the session has seen that it is complete
    let late = loop {
        if let Err(error) = join(&served, &hospital, joining) {
            break error;
        }
    };
    assert_eq!(peer_code(Err::<(), _>(late)), "hello");
}

#[test]
fn number_of_a_connection_that_is_out_of_range_or_comes_twice_ends_the_session() {
    let authority = Authority::new();
    for numbers in [[0, 1], [3, 1], [255, 1], [1, 1]] {
        let served = serve(&authority, limits());
        let hospital = authority.hospital();
        let (mut first, name) = welcomed(&served, &hospital, 3);
        let joined = numbers.map(|number| join(&served, &hospital, Joining { number, name }));
        assert_eq!(peer_code(go_on(&mut first)), "message", "{numbers:?}");
        drop(joined);
    }
}

#[test]
fn session_whose_connections_do_not_come_loses_its_place() {
    let authority = Authority::new();
    let mut limits = limits();
    limits.timeouts.handshake = Duration::from_millis(300);
    let served = serve(&authority, limits);
    let (mut first, name) = welcomed(&served, &authority.hospital(), 2);
    assert_eq!(peer_code(go_on(&mut first)), "timeout");
    assert_eq!(served.codes("refused", 1), ["timeout"]);
    let late = join(&served, &authority.hospital(), Joining { number: 1, name });
    assert_eq!(peer_code(late), "hello");
}

/// Passes on what each connection of a hospital sends and gets, but of one of them only so many bytes to the hospital.
fn wire(server: String, cut: usize, allowed: usize) -> Endpoint {
    fn pump(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
        let mut buffer = [0; 4096];
        while left > 0 {
            let room = left.min(buffer.len());
            let count = from.read(&mut buffer[..room]).unwrap_or(0);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            left -= count;
        }
        for stream in [&from, &to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, hospital) in listener.incoming().enumerate() {
            let (hospital, developer) = (hospital.unwrap(), TcpStream::connect(&server).unwrap());
            let up = (
                hospital.try_clone().unwrap(),
                developer.try_clone().unwrap(),
            );
            thread::spawn(move || pump(up.0, up.1, usize::MAX));
            let left = if number == cut { allowed } else { usize::MAX };
            thread::spawn(move || pump(developer, hospital, left));
        }
    });
    Endpoint {
        address,
        name: "developer.test".to_owned(),
    }
}

#[test]
fn a_connection_that_is_cut_ends_the_session_of_both_and_leaves_no_thread_waiting() {
    let authority = Authority::new();
    for (ours, theirs) in [(4, 4), (1, 4), (4, 3)] {
        let served = serve(&authority, with_threads(theirs));
        let address = served.server.address().to_string();
        let whole = wire(address.clone(), 0, usize::MAX);
        run(
            &mut connect(&whole, &authority.hospital(), ours).unwrap(),
            1,
        )
        .unwrap();
        served.codes("closed", 1);
        for (cut, allowed) in [(1, 0), (1, 2000), (1, 6000), (3, 6000), (0, 40_000)] {
            let endpoint = wire(address.clone(), cut, allowed);
            let result = connect(&endpoint, &authority.hospital(), ours)
                .and_then(|mut session| run(&mut session, 2));
            assert_eq!(code(result), "peer_closed", "{cut} after {allowed}");
        }
        while served.server.hospitals() > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        run(
            &mut connect(&whole, &authority.hospital(), ours).unwrap(),
            3,
        )
        .unwrap();
    }
}
