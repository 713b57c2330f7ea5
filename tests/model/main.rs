//! Histories over very few names: whatever happens at the source, in whatever order its lines are read, doubled, late or
//! forged, wherever windows are cut, and whatever goes on while they are applied, both sides agree at the end.

#[path = "../common/world.rs"]
mod world;

mod deed;
mod replay;
mod source;

use deed::{Cut, Deed, HDFS, Step, any_deed, any_setting, any_step, every_deed};
use proptest::prelude::*;
use std::future::Future;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime for this thread");
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// A number from the environment, for more than a share of CI.
fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: setting("SYNCD_MODEL_CASES", 2_000),
        max_shrink_iters: 100_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_read_in_any_way_ends_with_both_sides_equal(
        setting in any_setting(),
        before in prop::collection::vec(any_deed(), 0..6),
        steps in prop::collection::vec(any_step(), 1..10),
    ) {
        let played = wait(replay::play(setting, before, steps));
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
    }
}
