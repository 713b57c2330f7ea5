//! Histories that random search found and that no shorter test tells.

use crate::deed::{Cut, Deed, HDFS, Order, Step, path};
use crate::replay::play;
use crate::wait;
use syncd_parsers::Op;

#[test]
fn a_twin_that_was_written_below_what_is_a_file_by_now_is_found_out() {
    let swap = Step { late: 1, cut: Some(Cut::default()), ..Step::plain(Deed::Swap(path("b"), path("a"))) };
    let steps = vec![
        Step::plain(Deed::Twins(path("b/b"), path("a/b/b"))),
        swap,
        Step::plain(Deed::Write(path("a/b"), 1)),
        Step::plain(Deed::Rotate(path("b/b"), path("a"), path("b"))),
    ];
    wait(play(HDFS, vec![], steps)).expect("both sides are equal");
}

#[test]
fn a_twin_whose_renames_are_read_in_two_parts_of_a_window_is_found_out() {
    for order in [Order::AsWritten, Order::LastFirst] {
        let steps = vec![
            Step::plain(Deed::RenameOver(path("a"), path("b"))),
            Step {
                cut: Some(Cut { order, parts: true, ..Cut::default() }),
                ..Step::plain(Deed::Rename(path("b"), path("c")))
            },
        ];
        let before = vec![Deed::Twins(path("a"), path("b")), Deed::Mkdir(path("d")), Deed::Mkdir(path("e"))];
        wait(play(HDFS, before, steps)).unwrap_or_else(|error| panic!("{order:?}: {error}"));
    }
}

#[test]
fn a_twin_is_found_out_where_the_other_one_could_not_be_looked_at() {
    for fault in 0..80 {
        let rotated = Step {
            cut: Some(Cut { fault: Some(fault), ..Cut::default() }),
            ..Step::plain(Deed::Rotate(path("a/a/a"), path("a/a/b"), path("a/b/a")))
        };
        let quiet = Step { cut: Some(Cut::default()), ..Step::plain(Deed::Mkdir(path("c"))) };
        wait(play(HDFS, vec![Deed::Twins(path("a/b/a"), path("a/a/b"))], vec![quiet, rotated]))
            .unwrap_or_else(|error| panic!("a fault at call {fault}: {error}"));
    }
}

#[test]
fn a_twin_that_a_forged_line_had_moved_where_the_other_is_owed_is_found_out() {
    let cut = |cut, deed| Step { cut: Some(cut), ..Step::plain(deed) };
    let steps = vec![
        Step::plain(Deed::Twins(path("a/b/a"), path("b/a"))),
        cut(Cut { crash: Some(0), fault: Some(2), ..Cut::default() }, Deed::Mkdir(path("c"))),
        Step::plain(Deed::Append(path("b/a"))),
        Step::plain(Deed::Forge(Op::Rename, path("b/a"), path("a/b"), true)),
    ];
    wait(play(HDFS, vec![], steps)).expect("both sides are equal");
}

/// `a` has been renamed to forty other names, each time with a new `a` and a window.
fn rotated_often() -> Vec<Step> {
    let to = |number: usize| path(&format!("a.{number}"));
    let rotation = |number| [Deed::Rename(path("a"), to(number)), Deed::Write(path("a"), 1)].map(Step::plain);
    let mut steps = vec![];
    for number in 0..40 {
        steps.extend(rotation(number));
        steps.last_mut().expect("there are two").cut = Some(Cut::default());
    }
    steps
}

#[test]
fn an_open_file_is_followed_through_the_last_of_many_rotations() {
    let cut = |deed| Step { cut: Some(Cut::default()), ..Step::plain(deed) };
    let last = [Deed::Open(path("a")), Deed::Rename(path("a"), path("a.last")), Deed::Close(path("a.last"))];
    let steps = rotated_often().into_iter().chain(last.map(cut)).collect();
    wait(play(HDFS, vec![Deed::Write(path("a"), 1)], steps)).expect("both sides are equal");
}

#[test]
fn a_file_that_was_copied_fresh_is_followed_through_the_last_of_many_rotations() {
    let copied = Step { cut: Some(Cut::default()), ..Step::plain(Deed::Write(path("a"), 1)) };
    let last = [Deed::Again(path("a")), Deed::Rename(path("a"), path("a.last"))].map(Step::plain);
    let steps = rotated_often().into_iter().chain([copied]).chain(last).collect();
    wait(play(HDFS, vec![Deed::Write(path("a"), 1)], steps)).expect("both sides are equal");
}

#[test]
fn an_open_file_is_followed_though_its_line_was_overtaken_by_the_last_of_many_rotations() {
    let cut = |late, deed| Step { late, cut: Some(Cut::default()), ..Step::plain(deed) };
    let last = vec![
        cut(0, Deed::Mkdir(path("b"))),
        cut(0, Deed::Mkdir(path("c"))), // what was written is old by now, and not watched
        Step { late: 1, ..Step::plain(Deed::Open(path("a"))) },
        cut(0, Deed::Rename(path("a"), path("a.last"))),
        cut(0, Deed::Mkdir(path("d"))),
        Step::plain(Deed::Close(path("a.last"))),
    ];
    let steps = rotated_often().into_iter().chain(last).collect();
    wait(play(HDFS, vec![Deed::Write(path("a"), 1)], steps)).expect("both sides are equal");
}
