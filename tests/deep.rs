//! Paths as deep as stores allow, on a stack as small as the runtime's.

#[path = "common/world.rs"]
mod world;

use syncd::names::Names;
use syncd_parsers::{Change, Op, RelPath};
use world::{World, line, options};

fn deep(levels: usize) -> RelPath {
    RelPath::new(vec!["d"; levels].join("/")).expect("a path")
}

fn change(op: Op, path: RelPath) -> Change {
    line(op, path, None)
}

/// As a worker of the runtime has it.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).expect("starts").join().expect("ends");
}

fn settle(change: Change, levels: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let world = World::new();
        world.source.write(&deep(levels), "deep");
        let run = world.run(options());
        run.part(Names::of(&[change])).await.expect("applies");
        run.finish().await.expect("applies");
        assert_eq!(world.notes.owed(), []);
        assert_eq!(world.destination.snapshot().len(), levels);
    });
}

#[test]
fn a_name_of_very_many_levels_does_not_exhaust_the_stack() {
    on_a_small_stack(|| {
        let mut names = Names::of(&[change(Op::Write, deep(4_000)), change(Op::Mkdir, deep(3_000))]);
        assert_eq!(names.len(), 4_000);
        names.add(&change(Op::Delete, deep(1)));
        assert_eq!(names.len(), 4_000, "what was written is kept");
    });
}

#[test]
fn a_tree_as_deep_as_hdfs_allows_is_walked() {
    on_a_small_stack(|| settle(change(Op::Rescan, RelPath::root()), 1_000));
}

#[test]
fn a_name_as_deep_as_hdfs_allows_is_visited() {
    on_a_small_stack(|| settle(change(Op::Write, deep(1_000)), 1_000));
}
