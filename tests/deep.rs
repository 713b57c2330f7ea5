//! Paths as deep as stores allow, on a stack as small as the runtime's.

use std::collections::HashSet;
use std::sync::Arc;
use syncd::apply::{BoxError, Mode, Notebook, Options, Run, Watch};
use syncd::names::{Line, Names};
use syncd::publish::Publish;
use syncd::report::Event;
use syncd::store::Time;
use syncd::store::mem::Memory;
use syncd_parsers::{Change, Op, RelPath};

fn deep(levels: usize) -> RelPath {
    RelPath::new(vec!["d"; levels].join("/")).expect("a path")
}

fn change(op: Op, path: RelPath) -> Change {
    let log = "log".into();
    Change { time: chrono::DateTime::UNIX_EPOCH, op, path, to: None, into: false, user: None, log, offset: 0 }
}

struct Nothing;

impl Notebook for Nothing {
    fn owe(&self, path: &RelPath, reason: &str, _: Option<&Line>) -> Result<(), BoxError> {
        Err(format!("{path} is owed: {reason}").into())
    }

    fn watch(&self, _: &RelPath, _: Watch) -> Result<(), BoxError> {
        Ok(())
    }

    fn event(&self, _: &Event<'_>) {}
}

/// As a worker of the runtime has it.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).expect("starts").join().expect("ends");
}

fn settle(change: Change, levels: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let (source, destination) = (Memory::tree(), Memory::tree());
        source.write(&deep(levels), "deep");
        let options = Options {
            mode: Mode::Act,
            removes: true,
            deletes_max: None,
            publish: Publish::default(),
            interrupted_since: None,
            fresh: Arc::new(HashSet::new()),
            compare_all: false,
            now: Arc::new(|| Time(i64::MAX)),
        };
        let run = Run::new(Arc::new(source), Arc::new(destination.clone()), Arc::new(Nothing), options);
        run.part(Names::of(&[change])).await.expect("applies");
        run.finish().await.expect("applies");
        assert_eq!(destination.snapshot().len(), levels);
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
