//! What a window costs, on histories in which nothing is disturbed.

use crate::deed::{Cut, Deed, HDFS, Step, path};
use crate::replay::Bench;
use crate::{number, runner, wait};
use proptest::prelude::*;
use syncd_parsers::RelPath;

/// Quiet files, all different, in two directories and beside them.
fn before() -> Vec<Deed> {
    ["a", "b", "c", "d/a", "d/b", "e/a", "e/b/a", "e/b/b"].map(|text| Deed::Write(path(text), 2)).to_vec()
}

fn any_name() -> impl Strategy<Value = RelPath> {
    prop::sample::select(["a", "b", "c", "d", "e", "f", "d/a", "d/b", "d/c", "e/b", "e/c"].map(path).to_vec())
}

/// A rename, a rotation or a swap, of names that do not lie below each other.
fn any_change_of_names() -> impl Strategy<Value = Deed> {
    let apart = |one: &RelPath, other: &RelPath| !(one.is_within(other) || other.is_within(one));
    let names = (any_name(), any_name(), any_name(), 0..3)
        .prop_filter("apart", move |(one, two, three, _)| apart(one, two) && apart(two, three) && apart(one, three));
    names.prop_map(|(one, two, three, which)| match which {
        0 => Deed::RenameOver(one, two),
        1 => Deed::Swap(one, two),
        _ => Deed::Rotate(one, two, three),
    })
}

/// The bytes that the destination was given for one window of these deeds.
async fn puts(deeds: Vec<Deed>) -> Result<u64, String> {
    let mut bench = Bench::new(HDFS, &before()).await;
    bench.destination.reset_calls();
    for deed in deeds {
        bench.step(Step::plain(deed)).await?;
    }
    bench.apply(false, &Cut::default()).await?;
    let puts = bench.destination.calls().put;
    bench.end().await.map(|()| puts)
}

#[test]
fn a_rename_a_rotation_or_a_swap_of_quiet_names_copies_nothing() {
    let cases = number("SYNCD_MODEL_CASES").unwrap_or(10_000) / 10;
    let played = runner(cases, 7).run(&any_change_of_names(), |deed| {
        let puts = wait(puts(vec![deed])).map_err(TestCaseError::fail)?;
        prop_assert_eq!(puts, 0);
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_came_and_went_is_looked_at_once_however_much_was_in_it() {
    let count = |files: usize| {
        wait(async {
            let mut bench = Bench::new(HDFS, &before()).await;
            for number in 0..files {
                let file = path("f/x").join(number.to_string().as_bytes()).expect("a name");
                bench.step(Step::plain(Deed::Write(file, 1))).await?;
            }
            bench.step(Step::plain(Deed::Delete(path("f")))).await?;
            bench.reset_calls();
            bench.apply(false, &Cut::default()).await?;
            Ok::<_, String>((bench.looks(), bench.destination.calls().lookup))
        })
    };
    assert_eq!(count(1), count(100));
}

/// The files that the last of so many windows read at the source, and its looks there. In each of them something is renamed into
/// an archive, under a name of its own.
fn last_of(rounds: usize, deeds: impl Fn(RelPath) -> Vec<Deed>) -> Result<(u64, u64), String> {
    wait(async {
        let mut bench = Bench::new(HDFS, &[before(), vec![Deed::Mkdir(path("f"))]].concat()).await;
        for round in 0..rounds {
            bench.reset_calls();
            for deed in deeds(path("f").join(round.to_string().as_bytes()).expect("a name")) {
                bench.step(Step::plain(deed)).await?;
            }
            bench.apply(false, &Cut::default()).await?;
        }
        Ok((bench.reads(), bench.looks()))
    })
}

#[test]
fn an_archive_that_is_filled_by_renames_is_not_read_again() {
    let filled = |archived| {
        let (new, now) = (path("d/tmp"), path("d/now"));
        vec![Deed::Write(new.clone(), 2), Deed::RenameOver(new, now.clone()), Deed::RenameOver(now, archived)]
    };
    let (few, many) = (last_of(3, filled).expect("no fault"), last_of(30, filled).expect("no fault"));
    assert_eq!(few.0, many.0);
    assert!(many.1 - few.1 < 60, "looks: {few:?}, {many:?}");
}

#[test]
fn rotations_and_swaps_window_after_window_read_nothing() {
    let read = wait(async {
        let mut bench = Bench::new(HDFS, &before()).await;
        bench.step(Step { cut: Some(Cut::default()), ..Step::plain(Deed::Mkdir(path("f"))) }).await?;
        bench.reset_calls();
        bench.destination.reset_calls();
        for _ in 0..4 {
            bench.step(Step::plain(Deed::Swap(path("d"), path("e")))).await?;
            bench.step(Step::plain(Deed::Rotate(path("a"), path("b"), path("c")))).await?;
            bench.apply(false, &Cut::default()).await?;
        }
        Ok::<_, String>((bench.reads(), bench.destination.calls().rename > 4 * 6))
    });
    assert_eq!(read, Ok((0, true)));
}

#[test]
fn what_was_renamed_before_is_not_read_again_because_its_name_has_a_young_file() {
    let replaced = |archived| vec![Deed::RenameOver(path("d/a"), archived), Deed::Write(path("d/a"), 2)];
    let (few, many) = (last_of(3, replaced).expect("no fault"), last_of(30, replaced).expect("no fault"));
    assert_eq!(few.0, many.0);
}
