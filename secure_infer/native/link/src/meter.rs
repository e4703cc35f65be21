//! Bytes, seconds and turns of a session, by phase and step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blindread_protocol::channel::Phase;
use blindread_protocol::program::StepId;
use rustix::time::{ClockId, clock_gettime};

/// What was spent in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Wall-clock time, waiting included.
    pub time: Duration,
    /// Time in which this side waited for the peer or the network.
    pub waiting: Duration,
    /// Time of a processor that the session's own thread got: what is left of `time` after `waiting` where
    /// nobody else wants the core. Threads that help it are not in it.
    pub cpu: Duration,
    /// Bytes of messages to the peer, frame headers included, TLS not.
    pub sent: u64,
    /// Bytes of messages from the peer, frame headers included, TLS not.
    pub received: u64,
    /// How often this side sent and then waited for an answer.
    pub turns: u64,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.waiting += other.waiting;
        self.cpu += other.cpu;
        self.sent += other.sent;
        self.received += other.received;
        self.turns += other.turns;
    }
}

/// Where the session is; no step outside of the walk.
pub type Place = (u8, Option<StepId>);

/// Adds up what is spent in each place.
#[derive(Clone, Debug)]
pub struct Meter {
    place: Option<Place>,
    since: Instant,
    cpu_since: Duration,
    now: Spent,
    spent: BTreeMap<Place, Spent>,
    unanswered: bool,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            place: None,
            since: Instant::now(),
            cpu_since: thread_cpu(),
            now: Spent::default(),
            spent: BTreeMap::new(),
            unanswered: false,
        }
    }
}

impl Meter {
    /// From here on everything belongs to `phase` and `step`.
    pub fn enter(&mut self, phase: Phase, step: Option<StepId>) {
        self.leave();
        self.place = Some((index(phase), step));
    }

    /// From here on nothing is counted until the next [`Meter::enter`].
    pub fn leave(&mut self) {
        let cpu = thread_cpu();
        self.now.time = self.since.elapsed();
        self.now.cpu = cpu.saturating_sub(self.cpu_since);
        if let Some(place) = self.place.take() {
            *self.spent.entry(place).or_default() += self.now;
        }
        self.now = Spent::default();
        self.since = Instant::now();
        self.cpu_since = cpu;
    }

    /// `bytes` were handed over for the peer.
    pub fn sent(&mut self, bytes: usize) {
        self.now.sent += bytes as u64;
        self.unanswered = true;
    }

    /// `bytes` of the peer arrived.
    pub fn received(&mut self, bytes: usize) {
        self.now.received += bytes as u64;
        self.now.turns += u64::from(self.unanswered);
        self.unanswered = false;
    }

    /// This side waited.
    pub fn waited(&mut self, time: Duration) {
        self.now.waiting += time;
    }

    /// Takes over what a connection beside this one has moved since the last time; its waits count if this session's own
    /// thread has them.
    pub(crate) fn collect(&mut self, beside: &mut Self, own_thread: bool) {
        let moved = std::mem::take(&mut beside.now);
        self.now.sent += moved.sent;
        self.now.received += moved.received;
        if own_thread {
            self.now.waiting += moved.waiting;
        }
    }

    /// The sum over a phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> Spent {
        let mut sum = Spent::default();
        for spent in self
            .spent
            .iter()
            .filter(|(place, _)| place.0 == index(phase))
            .map(|(_, spent)| spent)
        {
            sum += *spent;
        }
        sum
    }

    /// Each step's part of a phase, in the order of the program.
    pub fn steps(&self, phase: Phase) -> impl Iterator<Item = (StepId, Spent)> + '_ {
        self.spent
            .iter()
            .filter_map(move |(place, spent)| match place {
                (which, Some(step)) if *which == index(phase) => Some((*step, *spent)),
                _ => None,
            })
    }

    /// Adds what another connection spent in each place.
    pub fn absorb(&mut self, other: &Self) {
        for (place, spent) in &other.spent {
            *self.spent.entry(*place).or_default() += *spent;
        }
    }

    /// Forgets the past; the present place stays.
    pub fn reset(&mut self) {
        let place = self.place;
        self.leave();
        self.place = place;
        self.spent.clear();
    }
}

/// The time that the calling thread has run; a session is driven by one thread from one [`Meter::enter`] to the
/// next.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn index(phase: Phase) -> u8 {
    match phase {
        Phase::Setup => 0,
        Phase::Offline => 1,
        Phase::Online => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_sleep_is_time_but_not_of_the_processor() {
        let mut meter = Meter::default();
        meter.enter(Phase::Online, None);
        std::thread::sleep(Duration::from_millis(30));
        meter.leave();
        let spent = meter.phase(Phase::Online);
        assert!(spent.time > Duration::from_millis(29) && spent.cpu < spent.time / 2);
    }

    #[test]
    fn meter_two_steps_are_counted_apart_and_summed() {
        let mut meter = Meter::default();
        meter.sent(7); // outside of every phase
        meter.enter(Phase::Online, None);
        meter.sent(1);
        meter.enter(Phase::Online, Some(3));
        meter.sent(10);
        meter.received(20);
        meter.received(5);
        meter.enter(Phase::Online, Some(4));
        meter.received(2);
        meter.leave();
        meter.received(100);
        let steps: Vec<_> = meter
            .steps(Phase::Online)
            .map(|(id, s)| (id, s.sent, s.received, s.turns))
            .collect();
        assert_eq!(steps, [(3, 10, 25, 1), (4, 0, 2, 0)]);
        let sum = meter.phase(Phase::Online);
        assert_eq!((sum.sent, sum.received, sum.turns), (11, 27, 1));
        let mut total = Meter::default();
        total.absorb(&meter);
        total.absorb(&meter);
        let both = total.phase(Phase::Online);
        assert_eq!((both.sent, both.received, both.turns), (22, 54, 2));
        assert_eq!((both.time, both.cpu), (2 * sum.time, 2 * sum.cpu));
        assert_eq!(total.steps(Phase::Online).count(), 2);
        assert_eq!(meter.phase(Phase::Offline), Spent::default());
    }
}
