//! The clock of a simulation, for each thread its own: it stands still, but for the time that tokio's paused clock passes in
//! waits, and for what a test lets pass.

use chrono::{DateTime, TimeDelta, Utc};
use std::cell::Cell;
use tokio::time::Instant;

thread_local! {
    /// Microseconds since 1970.
    static BASE: Cell<i64> = const { Cell::new(0) };
    /// When the runtime that is running now began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub fn now() -> DateTime<Utc> {
    let passed = BEGAN.get().map_or(0, |began| began.elapsed().as_micros() as i64);
    DateTime::from_timestamp_micros(BASE.get() + passed).expect("not far from 2026")
}

pub fn start(at: &str) {
    BASE.set(at.parse::<DateTime<Utc>>().expect(at).timestamp_micros());
}

pub fn pass(time: TimeDelta) {
    BASE.set(BASE.get() + time.num_microseconds().expect("a short time"));
}

/// Runs `work` in a runtime of its own, whose clock goes on where the last one ended. Unconstrained: when tokio would make it
/// yield depends on how fast other threads were, and the order of its calls with it.
pub fn run<T>(work: impl Future<Output = T>) -> (T, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let done = runtime.block_on(tokio::task::unconstrained(async {
        BEGAN.set(Some(Instant::now()));
        let done = work.await;
        BASE.set(now().timestamp_micros());
        BEGAN.set(None);
        done
    }));
    (done, runtime)
}
