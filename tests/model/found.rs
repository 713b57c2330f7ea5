//! Histories that random search found and that no shorter test tells.

use crate::deed::{Cut, Deed, HDFS, Step, path};
use crate::replay::play;
use crate::wait;

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

/// One of two twins takes the place of the other, whose directory is renamed on; and the first of the two lines is read windows later.
fn overtaken(then: &[Deed]) -> Result<(), String> {
    let cut = |deed| Step { cut: Some(Cut::default()), ..Step::plain(deed) };
    let over = Step { late: 2, ..Step::plain(Deed::RenameOver(path("b"), path("a/a"))) };
    let mut steps = vec![cut(Deed::Mkdir(path("d"))), over, Step::plain(Deed::Rename(path("a"), path("c")))];
    steps.extend(then.iter().cloned().map(Step::plain));
    steps.extend([cut(Deed::Mkdir(path("e"))), cut(Deed::Mkdir(path("f")))]);
    wait(play(HDFS, vec![Deed::Twins(path("a/a"), path("b"))], steps))
}

#[test]
fn a_twin_whose_rename_was_overtaken_by_one_that_led_on_is_found_out() {
    overtaken(&[]).expect("both sides are equal");
}

#[test]
fn such_a_twin_is_found_out_where_there_is_a_new_file_in_its_first_place() {
    overtaken(&[Deed::Write(path("b"), 1)]).expect("both sides are equal");
}

#[test]
fn such_a_twin_is_found_out_where_there_is_a_new_file_in_its_second_place() {
    overtaken(&[Deed::Write(path("a/a"), 1)]).expect("both sides are equal");
}

#[test]
fn such_a_twin_is_found_out_where_there_are_new_files_in_both_places() {
    overtaken(&[Deed::Write(path("a/a"), 1), Deed::Write(path("b"), 1)]).expect("both sides are equal");
}
