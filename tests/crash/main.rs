//! Crash points, all of them: a whole story (import, two windows, a verification that mends) is ended at every call that it
//! makes to any store, before and after the call took effect, once and twice in a row, by a kill and by a power cut; then it is
//! run again. It comes to the same end, nothing is lost on the way, and what is done again is bounded.
//!
//! `memory.rs` ends it over stores in memory, where a power cut can take back what was not synced; `local.rs` over real
//! directories, where a call can end half way; `state.rs` cuts the file of the state at every place.

#[path = "../common/copied.rs"]
mod copied;
#[path = "../common/dice.rs"]
mod dice;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../simulation/faulty.rs"]
mod faulty;
mod local;
mod memory;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../simulation/process.rs"]
mod process;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../simulation/sim.rs"]
mod sim;
mod state;
#[path = "../simulation/time.rs"]
mod time;
#[path = "../simulation/watcher.rs"]
mod watcher;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../simulation/world.rs"]
mod world;

/// Runs `work` for every number below `end` on both cores.
fn for_each(end: usize, work: impl Fn(usize) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= end {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}
