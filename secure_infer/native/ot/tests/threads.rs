//! Whatever the number of threads: the same messages, the same choices, the same pads.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtKind, OtReceiverEngine, OtSenderEngine,
    ReceiverSetup, SenderSetup,
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
        OtEngine::Ferret => (
            Box::new(FerretSender::new(sender, &mut rng)),
            Box::new(FerretReceiver::new(receiver, &mut rng)),
        ),
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
    fn call(&mut self, (sender, receiver): &mut Engines, kind: OtKind, n: usize) {
        while let Some(refill) = sender.refill(kind, n) {
            assert_eq!(receiver.refill(kind, n), Some(refill));
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            receiver.request_refill(refill, &mut request).unwrap();
            sender.answer_refill(refill, &request, &mut answer).unwrap();
            receiver.finish_refill(&answer).unwrap();
            self.messages.extend([request, answer]);
        }
        let (mut choices, mut corrections) = (vec![0; n], Vec::new());
        if kind == OtKind::OneOf16 {
            let (mut pad, mut pads) = (vec![0; n], vec![0; n]);
            receiver
                .one_of_16(n, &mut corrections, &mut choices, &mut pad)
                .unwrap();
            sender.one_of_16(n, &corrections, &mut pads).unwrap();
            let pads = pads.into_iter().map(u32::from);
            self.pads.extend(pads.chain(pad.into_iter().map(u32::from)));
        } else {
            let mut pads = [vec![0; n], vec![0; n], vec![0; n]];
            let [first, second, chosen] = &mut pads;
            receiver
                .random_ot(n, 29, &mut corrections, &mut choices, chosen)
                .unwrap();
            sender
                .random_ot(n, 29, &corrections, first, second)
                .unwrap();
            self.pads.extend(pads.concat());
        }
        self.choices.extend(choices);
        self.messages.push(corrections);
    }

    fn of(engine: OtEngine, threads: [usize; 2], calls: &[(bool, usize)]) -> Self {
        let (mut this, mut engines) = (Self::default(), engines(engine, threads));
        for &(table, n) in calls {
            let kind = [OtKind::RandomOt, OtKind::OneOf16][usize::from(table)];
            this.call(&mut engines, kind, n);
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
fn ferret_with_refills_and_calls_that_end_within_trees_is_the_same_for_any_threads() {
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
