//! Sessions between real parties over TLS on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail where it stands

mod common;

use std::time::Duration;

use blindread_link::Cancel;
use blindread_link::developer::Limits;
use blindread_link::hello::Identity;
use blindread_link::hospital::HospitalSession;
use blindread_protocol::Workers;
use blindread_protocol::channel::Phase;
use common::*;

#[test]
fn session_several_images_use_one_connection_and_tickets_run_out() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    let mut session = served.connect(&authority.hospital()).unwrap();
    assert_eq!(code(session.infer(&image(0))), "no_ticket");
    session.prepare().unwrap();
    session.prepare().unwrap();
    assert_eq!(code(session.prepare()), "ticket_limit");
    for round in 0..3 {
        assert_outputs(&image(round), &session.infer(&image(round)).unwrap());
        session.prepare().unwrap();
    }
    assert_eq!(code(session.infer(&[0; 3])), "input");
    assert_eq!(session.tickets_ready(), 2);
    session.ping().unwrap();
    session.close();
    assert_eq!(code(session.prepare()), "session_closed");
    assert_eq!(served.codes("closed", 1), [""]);
    assert_eq!(served.codes("prepared", 5).len(), 5);
    assert_eq!(served.codes("inferred", 3).len(), 3);
}

#[test]
fn session_meter_separates_setup_offline_and_online() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    let mut session = served.connect(&authority.hospital()).unwrap();
    session.prepare().unwrap();
    session.infer(&image(1)).unwrap();
    let meter = session.meter().unwrap();
    for phase in [Phase::Setup, Phase::Offline, Phase::Online] {
        let spent = meter.phase(phase);
        assert!(
            spent.sent > 0 && spent.received > 0 && !spent.time.is_zero(),
            "{phase:?}: {spent:?}"
        );
        let steps: u64 = meter
            .steps(phase)
            .map(|(_, step)| step.sent + step.received)
            .sum();
        assert!(steps <= spent.sent + spent.received);
    }
    meter.reset();
    assert_eq!(meter.phase(Phase::Online).sent, 0);
}

#[test]
fn server_several_hospitals_at_once_get_their_own_answers() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    std::thread::scope(|scope| {
        for hospital in 0..4 {
            let (served, credentials) = (&served, authority.hospital());
            scope.spawn(move || {
                let mut session = served.connect(&credentials).unwrap();
                for round in 0..2 {
                    session.prepare().unwrap();
                    let image = image(10 * hospital + round);
                    assert_outputs(&image, &session.infer(&image).unwrap());
                }
            });
        }
    });
    assert_eq!(served.codes("closed", 4), ["", "", "", ""]);
}

#[test]
fn server_one_hospital_too_many_is_told_so_and_may_come_back() {
    let authority = Authority::new();
    let served = Served::start(
        authority.developer(),
        Limits {
            hospitals: 1,
            ..with_threads(2)
        },
        None,
    );
    let first = served.connect(&authority.hospital()).unwrap();
    assert_eq!(code(served.connect(&authority.hospital())), "busy");
    assert_eq!(served.codes("refused", 1), ["busy"]);
    drop(first);
    served.codes("closed", 1);
    while served.server.hospitals() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    served.connect(&authority.hospital()).unwrap();
}

#[test]
fn budget_exhausted_refuses_prepare_then_connection_but_not_another_hospital() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), Some(2));
    let credentials = authority.hospital();
    let mut session = served.connect(&credentials).unwrap();
    assert_eq!(session.images_left(), Some(2));
    for _ in 0..2 {
        session.prepare().unwrap();
        session.infer(&image(0)).unwrap();
    }
    assert_eq!(session.images_left(), Some(0));
    let refused = session.prepare().err().unwrap();
    assert_eq!(refused.code(), "budget");
    let words = "peer: refused with budget: budget: expected at most 2 images of this hospital, got one more";
    assert_eq!(refused.to_string(), words);
    assert!(!session.is_open());
    assert_eq!(code(served.connect(&credentials)), "budget");
    assert_eq!(served.codes("closed", 1), ["budget"]);
    assert_eq!(served.codes("refused", 1), ["budget"]);
    served.connect(&authority.hospital()).unwrap();
}

#[test]
fn hello_another_bundle_is_named_on_both_sides_with_both_digests() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    let mut model = models().0;
    model.identity = Identity {
        bundle: [0xcc; 32],
        ..IDENTITY
    };
    let error = served
        .connect_model(&authority.hospital(), &model)
        .err()
        .unwrap();
    assert_eq!(error.code(), "bundle");
    assert_eq!(
        error.to_string(),
        format!(
            "bundle: expected digest {}, got {}",
            "cc".repeat(32),
            "b1".repeat(32)
        )
    );
    assert_eq!(served.codes("refused", 1), ["bundle"]);
    let message = served.events.lock().unwrap()[0].message.clone();
    assert_eq!(
        message,
        format!(
            "bundle: expected digest {}, got {}",
            "b1".repeat(32),
            "cc".repeat(32)
        )
    );
}

#[test]
fn hello_other_parameters_are_named_on_both_sides() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    let mut model = models().0;
    model.identity = Identity {
        parameters: [0; 32],
        ..IDENTITY
    };
    assert_eq!(
        code(served.connect_model(&authority.hospital(), &model)),
        "parameters"
    );
    assert_eq!(served.codes("refused", 1), ["parameters"]);
}

#[test]
fn shutdown_ends_an_idle_session_with_a_named_error_and_frees_the_port() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), with_threads(2), None);
    let mut session = served.connect(&authority.hospital()).unwrap();
    session.prepare().unwrap();
    served.server.shutdown(Duration::from_secs(20));
    assert_eq!(code(session.infer(&image(0))), "shutdown");
    assert!(!session.is_open());
    assert_eq!(session.tickets_ready(), 0);
    assert_eq!(served.codes("closed", 1), ["shutdown"]);
    assert_eq!(code(served.connect(&authority.hospital())), "connect");
}

#[test]
fn session_idle_for_too_long_is_closed_by_the_developer() {
    let authority = Authority::new();
    let mut limits = with_threads(2);
    limits.timeouts.idle = Duration::from_millis(50);
    let served = Served::start(authority.developer(), limits, None);
    let mut session = served.connect(&authority.hospital()).unwrap();
    assert_eq!(served.codes("closed", 1), ["idle"]);
    assert_eq!(code(session.ping()), "idle");
}

#[test]
fn cancel_ends_a_wait_on_a_silent_developer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = blindread_link::hospital::Endpoint {
        address: listener.local_addr().unwrap().to_string(),
        name: "developer.test".to_owned(),
    };
    let cancel = Cancel::new();
    let authority = Authority::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            HospitalSession::connect(
                &endpoint,
                &authority.hospital(),
                &models().0,
                timeouts(),
                &Workers::one(),
                cancel.clone(),
            )
        });
        let _silent = listener.accept().unwrap();
        cancel.cancel();
        assert_eq!(code(waiting.join().unwrap()), "cancelled");
    });
    let asked = Cancel::with_check(|| true);
    let result = HospitalSession::connect(
        &endpoint,
        &authority.hospital(),
        &models().0,
        timeouts(),
        &Workers::one(),
        asked,
    );
    assert_eq!(code(result), "cancelled");
}
