//! Histories over very few names: whatever happens at the source, in whatever order its lines are read, doubled, late or
//! forged, wherever windows are cut, and whatever goes on while they are applied, both sides agree at the end.
//!
//! `SYNCD_MODEL_CASES` sets how many random histories are played, `SYNCD_MODEL_SEED` which, `SYNCD_MODEL_DEEDS` how long the
//! histories are that are all played.

#[path = "../common/world.rs"]
mod world;

mod deed;
mod economy;
mod every;
mod found;
mod outside;
mod replay;
mod rivals;
mod source;

use deed::{Deed, Setting, Step, any_deed, any_setting, any_step};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rivals::Rival;
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
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// Draws are a large part of what a small history costs, so they are made by the cheaper of proptest's generators.
fn runner(cases: u64, seed: u64) -> TestRunner {
    let config = Config {
        cases: cases.try_into().expect("so many cases"),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let bytes = [seed.to_le_bytes(), (!seed).to_le_bytes()].concat();
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}

fn any_history() -> impl Strategy<Value = (Setting, Vec<Deed>, Vec<Step>)> {
    (any_setting(), prop::collection::vec(any_deed(), 0..6), prop::collection::vec(any_step(), 1..10))
}

#[test]
fn any_history_read_in_any_way_ends_with_both_sides_equal() {
    let cases = number("SYNCD_MODEL_CASES").unwrap_or(10_000);
    let seed = number("SYNCD_MODEL_SEED").unwrap_or_else(rand_seed);
    let played = runner(cases, seed).run(&any_history(), |(setting, before, steps)| {
        wait(replay::play(setting, before, steps)).map_err(TestCaseError::fail)
    });
    if let Err(error) = played {
        panic!("SYNCD_MODEL_SEED={seed} SYNCD_MODEL_CASES={cases}: {error}");
    }
}

/// Another one each time: what CI plays adds up.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// How many of the same histories end wrong with a rival.
fn failures(rival: Rival, histories: usize) -> usize {
    let mut runner = runner(1, 1);
    let strategy = any_history();
    let mut wrong = 0;
    for _ in 0..histories {
        let (_, mut before, mut steps) = strategy.new_tree(&mut runner).expect("a history").current();
        before.retain(rivals::is_fair);
        steps.retain(|step| rivals::is_fair(&step.deed));
        wrong += usize::from(!rivals::ends_equal(rival, &before, &steps));
    }
    println!("{rival:?}: {wrong} of {histories} end wrong");
    wrong
}

#[test]
fn the_reference_of_a_few_lines_is_right_on_all_of_these_histories() {
    assert_eq!(failures(Rival::Names, 5_000), 0);
}

#[test]
fn replay_by_the_book_fails_on_many_of_these_histories() {
    assert!(failures(Rival::ByTheBook, 5_000) > 1_500);
}

#[test]
fn replay_with_trusted_moves_fails_on_many_of_these_histories() {
    assert!(failures(Rival::TrustedMoves, 5_000) > 1_500);
}

#[test]
fn names_that_are_not_deep_fail_on_some_of_these_histories() {
    assert!(failures(Rival::NoDeepNames, 5_000) > 150);
}

#[test]
fn names_without_their_parents_fail_on_many_of_these_histories() {
    assert!(failures(Rival::NoParents, 5_000) > 1_000);
}
