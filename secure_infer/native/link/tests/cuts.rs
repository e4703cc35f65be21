//! The connection is cut after every so many bytes, in either direction: always the same named error,
//! never an answer, never a hang, and the server goes on serving.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail where it stands

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blindread_link::hospital::{Endpoint, HospitalSession};
use blindread_link::{Cancel, LinkError};
use blindread_protocol::Workers;
use common::*;

/// Passes on bytes between one hospital and the server, until `allowed` have gone one way.
struct Wire {
    address: String,
    passed: [Arc<AtomicUsize>; 2],
}

fn pump(mut from: TcpStream, mut to: TcpStream, allowed: usize, passed: &AtomicUsize) {
    let mut buffer = [0; 4096];
    loop {
        let left = allowed - passed.load(Ordering::SeqCst);
        let room = left.min(buffer.len());
        let count = if left == 0 {
            0
        } else {
            from.read(&mut buffer[..room]).unwrap_or(0)
        };
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        passed.fetch_add(count, Ordering::SeqCst);
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Wire {
    fn new(server: String, allowed: [usize; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let counters = passed.clone();
        std::thread::spawn(move || {
            let Ok((hospital, _)) = listener.accept() else {
                return;
            };
            let developer = TcpStream::connect(server).unwrap();
            let (up, down) = (
                hospital.try_clone().unwrap(),
                developer.try_clone().unwrap(),
            );
            let [to_developer, to_hospital] = counters;
            std::thread::spawn(move || pump(up, developer, allowed[0], &to_developer));
            pump(down, hospital, allowed[1], &to_hospital);
        });
        Self { address, passed }
    }

    fn run(&self, authority: &Authority) -> Result<Vec<Vec<i64>>, LinkError> {
        let endpoint = Endpoint {
            address: self.address.clone(),
            name: "developer.test".to_owned(),
        };
        let credentials = authority.hospital();
        let mut session = HospitalSession::connect(
            &endpoint,
            &credentials,
            &models().0,
            timeouts(),
            &Workers::one(),
            Cancel::new(),
        )?;
        session.prepare()?;
        session.infer(&image(2))
    }
}

#[test]
fn connection_cut_after_any_number_of_bytes_ends_in_peer_closed() {
    let authority = Authority::new();
    let served = Served::start(authority.developer(), limits(), None);
    let address = served.server.address().to_string();
    let whole = Wire::new(address.clone(), [usize::MAX; 2]);
    assert_outputs(&image(2), &whole.run(&authority).unwrap());
    let totals = [0, 1].map(|way| whole.passed[way].load(Ordering::SeqCst));
    for way in 0..2 {
        // The handshake and every boundary near the end, and a sweep over all that lies between. The
        // very last bytes are the goodbye, which comes after the answer.
        let sweep = (0..24).map(|i| i * (totals[way] - 600) / 24);
        for cut in (0..8).map(|i| 200 * i + 1).chain(sweep) {
            let mut allowed = [usize::MAX; 2];
            allowed[way] = cut;
            let result = Wire::new(address.clone(), allowed).run(&authority);
            assert_eq!(
                code(result),
                "peer_closed",
                "cut after {cut} bytes in direction {way}"
            );
        }
    }
    let again = Wire::new(address, [usize::MAX; 2]);
    assert_outputs(&image(2), &again.run(&authority).unwrap());
}
