//! Whatever the number of threads: the same messages, the same choices, the same pads.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtKind, OtReceiverEngine, OtSenderEngine,
    ReceiverSetup, Role, SenderSetup, Wire,
};
use blindread_pool::Workers;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

type Engines = (Box<dyn OtSenderEngine>, Box<dyn OtReceiverEngine>);

/// Engines with so many threads for the sender and for the receiver.
fn engines(engine: OtEngine, threads: [usize; 2]) -> Engines {
    let [ours, theirs] = threads.map(|count| Workers::new(count).unwrap());
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let (setup, request) = SenderSetup::start(b"threads", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"threads")
        .respond(&request, &mut rng)
        .unwrap();
    let sender = setup.finish(&answer).unwrap().with_workers(&ours);
    let receiver = receiver.with_workers(&theirs);
    match engine {
        OtEngine::SoftSpoken => (Box::new(sender), Box::new(receiver)),
        OtEngine::Ferret => {
            let mut corrections = vec![];
            let receiver = FerretReceiver::start(receiver, true, &mut corrections).unwrap();
            let sender =
                FerretSender::start(sender, true, &mut &corrections[..], &mut rng).unwrap();
            (Box::new(sender), Box::new(receiver))
        }
    }
}

/// Everything that both parties send and get.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    messages: Vec<Vec<u8>>,
    choices: Vec<u8>,
    pads: Vec<u32>,
}

impl Transcript {
    fn call(&mut self, engine: OtEngine, (sender, receiver): &mut Engines, kind: OtKind, n: usize) {
        let mut message = Vec::new();
        let (mut choices, mut pad, mut tables) = (vec![0; n], vec![0; n], vec![0; n]);
        let [mut chosen, mut first, mut second] = [vec![0; n], vec![0; n], vec![0; n]];
        let order = match engine.speaker() {
            Role::Sender => [Role::Sender, Role::Receiver],
            Role::Receiver => [Role::Receiver, Role::Sender],
        };
        for role in order {
            let mut sent = &message.clone()[..];
            let wire: &mut dyn Wire = if role == engine.speaker() {
                &mut message
            } else {
                &mut sent
            };
            match (role, kind) {
                (Role::Sender, OtKind::OneOf16) => sender.one_of_16(n, wire, &mut tables),
                (Role::Receiver, OtKind::OneOf16) => {
                    receiver.one_of_16(n, wire, &mut choices, &mut pad)
                }
                (Role::Sender, OtKind::RandomOt) => {
                    sender.random_ot(n, 29, wire, [&mut first, &mut second])
                }
                (Role::Receiver, OtKind::RandomOt) => {
                    receiver.random_ot(n, 29, wire, &mut choices, &mut chosen)
                }
            }
            .unwrap();
        }
        let bits = tables.into_iter().map(u32::from);
        self.pads.extend(bits.chain(pad.into_iter().map(u32::from)));
        self.pads.extend([first, second, chosen].concat());
        self.choices.extend(choices);
        self.messages.push(message);
    }

    fn of(engine: OtEngine, threads: [usize; 2], calls: &[(bool, usize)]) -> Self {
        let (mut this, mut engines) = (Self::default(), engines(engine, threads));
        for &(table, n) in calls {
            let kind = [OtKind::RandomOt, OtKind::OneOf16][usize::from(table)];
            this.call(engine, &mut engines, kind, n);
        }
        this
    }
}

fn check(engine: OtEngine, calls: &[(bool, usize)]) {
    let expected = Transcript::of(engine, [1, 1], calls);
    for threads in [[2, 1], [1, 2], [2, 2], [3, 2]] {
        // not assert_eq: a failure would print megabytes
        assert!(
            Transcript::of(engine, threads, calls) == expected,
            "{engine:?}, {threads:?} threads, {calls:?}"
        );
    }
}

#[test]
fn ferret_with_calls_that_end_within_trees_is_the_same_for_any_threads() {
    let calls = [
        (true, 40_000),
        (false, 1),
        (true, 300),
        (false, 100_001),
        (true, 5_000),
    ];
    check(OtEngine::Ferret, &calls);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn softspoken_is_the_same_for_any_threads(calls in prop::collection::vec((any::<bool>(), 0_usize..40_000), 1..4)) {
        check(OtEngine::SoftSpoken, &calls);
    }
}
