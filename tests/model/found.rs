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
