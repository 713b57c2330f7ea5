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
