//! Random histories over very few names: whatever happens at the source, in whatever order its lines are read, doubled
//! or late, and whatever goes on while a window is applied, both sides agree at the end.

use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use syncd::apply::{BoxError, Mode, Notebook, Options, Run, Watch};
use syncd::names::{Line, Names};
use syncd::publish::Publish;
use syncd::report::Event;
use syncd::store::mem::Memory;
use syncd::store::{Kind, Meta, Time};
use syncd_parsers::{Change, Op, RelPath};

/// One thing that a client does at the source.
#[derive(Debug, Clone)]
enum Deed {
    Write(RelPath, usize),
    /// Two files of one size and time and different bytes. Their lines are not late: a twin that the destination never held
    /// and a rename puts in the place of the other cannot be told from it (docs/semantics.md, what is not promised).
    Twins(RelPath, RelPath),
    Mkdir(RelPath),
    Delete(RelPath),
    /// Into `to` if that is a directory, else to `to` itself.
    Rename(RelPath, RelPath),
    /// Exactly to `to`, over a file that may be there.
    RenameOver(RelPath, RelPath),
    Chmod(RelPath, u32),
}

/// A deed, and how its lines reach syncd.
#[derive(Debug, Clone)]
struct Step {
    deed: Deed,
    /// In which window from now its line is read.
    late: usize,
    doubled: bool,
    /// Done in the middle of applying the window, at this call; else before it.
    at_call: Option<usize>,
    /// A window is applied after it.
    cut: bool,
}

fn path() -> impl Strategy<Value = RelPath> {
    "[ab](/[ab]){0,2}".prop_map(|text| RelPath::new(text).expect("made of names"))
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (path(), 1..3_usize).prop_map(|(path, len)| Deed::Write(path, len)),
        1 => (path(), path()).prop_map(|(one, other)| Deed::Twins(one, other)),
        1 => path().prop_map(Deed::Mkdir),
        2 => path().prop_map(Deed::Delete),
        4 => (path(), path()).prop_map(|(from, to)| Deed::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Deed::RenameOver(from, to)),
        1 => (path(), 0..2_u32).prop_map(|(path, mode)| Deed::Chmod(path, 0o700 | mode)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (deed(), 0..3_usize, any::<bool>(), proptest::option::of(0..40_usize), proptest::bool::weighted(0.3))
        .prop_map(|(deed, late, doubled, at_call, cut)| Step { deed, late, doubled, at_call, cut })
}

/// Between two deeds: more than what makes a file a fresh one.
const STEP_NANOS: i64 = 3_000_000_000;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// The source with its log.
struct World {
    source: Memory,
    clock: i64,
    bytes: u64,
    lines: Vec<(usize, Change)>,
    window: usize,
}

impl World {
    fn kind(&self, path: &RelPath) -> Option<Kind> {
        self.source.snapshot().get(path).map(|(meta, _)| meta.kind)
    }

    fn parent_is_dir(&self, path: &RelPath) -> bool {
        path.ancestors().skip(1).all(|up| self.kind(&up).is_none_or(|kind| kind == Kind::Dir))
    }

    fn content(&mut self, len: usize) -> Vec<u8> {
        self.bytes += 1;
        self.bytes.to_be_bytes()[8 - len..].to_vec()
    }

    fn write(&mut self, path: &RelPath, len: usize) -> bool {
        if !self.parent_is_dir(path) || self.kind(path) == Some(Kind::Dir) {
            return false;
        }
        let content = self.content(len);
        self.source.write(path, content);
        true
    }

    /// Does one deed, and logs it, unless the source refuses.
    fn act(&mut self, step: &Step) {
        self.clock += STEP_NANOS;
        NOW.set(self.clock);
        self.source.set_clock(Time(self.clock));
        match step.deed.clone() {
            Deed::Write(path, len) => {
                if self.write(&path, len) {
                    self.log(step, Op::Write, path, None, false);
                }
            }
            Deed::Twins(one, other) => {
                for path in [one, other] {
                    if self.write(&path, 1) {
                        self.log(&Step { late: 0, ..step.clone() }, Op::Write, path, None, false);
                    }
                    self.source.set_clock(Time(self.clock));
                }
            }
            Deed::Mkdir(path) => {
                if self.parent_is_dir(&path) && self.kind(&path) != Some(Kind::File) {
                    self.source.make_dirs(&path);
                    self.log(step, Op::Mkdir, path, None, false);
                }
            }
            Deed::Delete(path) => {
                self.source.delete(&path);
                self.log(step, Op::Delete, path, None, false);
            }
            Deed::Rename(from, to) => self.rename(step, from, to, true),
            Deed::RenameOver(from, to) => self.rename(step, from, to, false),
            Deed::Chmod(path, mode) => {
                if self.kind(&path).is_some() {
                    self.source.set_mode(&path, mode);
                    self.log(step, Op::Attr, path, None, false);
                }
            }
        }
    }

    fn rename(&mut self, step: &Step, from: RelPath, named: RelPath, into: bool) {
        let to = match self.kind(&named) {
            Some(Kind::Dir) if into => named.join(from.name()).expect("a name"),
            _ => named.clone(),
        };
        let parent = to.parent().expect("no deed names the root");
        let parent_there = parent.is_root() || self.kind(&parent) == Some(Kind::Dir);
        let over = self.kind(&to);
        let may = self.kind(&from).is_some()
            && parent_there
            && !to.is_within(&from)
            && (over.is_none() || (!into && over == Some(Kind::File) && self.kind(&from) == Some(Kind::File)));
        if may {
            self.source.move_over(&from, &to);
            self.log(step, Op::Rename, from, Some(named), into);
        }
    }

    fn log(&mut self, step: &Step, op: Op, path: RelPath, to: Option<RelPath>, into: bool) {
        let change = Change {
            time: chrono::DateTime::UNIX_EPOCH,
            op,
            path,
            to,
            into,
            user: None,
            log: "log".into(),
            offset: self.lines.len() as u64,
        };
        self.lines.push((self.window + step.late, change.clone()));
        if step.doubled {
            self.lines.push((self.window + step.late + 1, change));
        }
    }
}

#[derive(Default)]
struct Notes {
    owed: Mutex<Vec<(RelPath, String)>>,
    watched: Mutex<Vec<(RelPath, Watch)>>,
}

impl Notes {
    fn fresh(&self) -> HashSet<RelPath> {
        let watched = self.watched.lock().expect("no panic holds it");
        let fresh = watched.iter().filter(|(_, watch)| *watch == Watch::Fresh);
        fresh.map(|(path, _)| path.clone()).collect()
    }
}

impl Notebook for Notes {
    fn owe(&self, path: &RelPath, reason: &str, _: Option<&Line>) -> Result<(), BoxError> {
        self.owed.lock().expect("no panic holds it").push((path.clone(), reason.to_owned()));
        Ok(())
    }

    fn watch(&self, path: &RelPath, watch: Watch) -> Result<(), BoxError> {
        self.watched.lock().expect("no panic holds it").push((path.clone(), watch));
        Ok(())
    }

    fn event(&self, _: &Event<'_>) {}
}

/// Applies the lines that are due; then what was owed or watched goes with the next.
async fn apply(world: &Arc<Mutex<World>>, destination: &Memory, before: &Notes, last: bool) -> Notes {
    let (source, names) = {
        let mut world = world.lock().expect("no panic holds it");
        let window = world.window;
        world.window += 1;
        let due: Vec<Change> =
            world.lines.iter().filter(|(at, _)| last || *at <= window).map(|(_, change)| change.clone()).collect();
        world.lines.retain(|(at, _)| !last && *at > window);
        let mut names = Names::of(due.iter().rev());
        for (path, _) in before.owed.lock().expect("no panic holds it").iter() {
            names.add_deep(path);
        }
        for (path, _) in before.watched.lock().expect("no panic holds it").iter() {
            names.add_written(path);
        }
        (world.source.clone(), names)
    };
    let notes = Arc::new(Notes::default());
    let options = Options {
        mode: Mode::Act,
        removes: true,
        deletes_max: None,
        publish: Publish::default(),
        interrupted_since: None,
        fresh: Arc::new(before.fresh()),
        compare_all: false,
        now: Arc::new(|| Time(NOW.get())),
    };
    let run = Run::new(Arc::new(source), Arc::new(destination.clone()), notes.clone(), options);
    run.part(names).await.expect("no fault is injected here");
    run.finish().await.expect("no fault is injected here");
    Arc::into_inner(notes).expect("the run is over")
}

/// What has to be equal: kind, bytes, time and mode of each path.
type Tree = BTreeMap<String, (Kind, Vec<u8>, Option<Time>, Option<u32>)>;

fn tree(store: &Memory) -> Tree {
    let line = |(path, (meta, bytes)): (RelPath, (Meta, bytes::Bytes))| {
        (path.to_string(), (meta.kind, bytes.to_vec(), meta.mtime, meta.mode))
    };
    let reserved = |path: &RelPath| path.components().next() == Some(syncd::store::RESERVED.as_bytes());
    store.snapshot().into_iter().filter(|(path, _)| !reserved(path)).map(line).collect()
}

/// An import is a window that names everything.
fn import() -> Change {
    Change {
        time: chrono::DateTime::UNIX_EPOCH,
        op: Op::Rescan,
        path: RelPath::root(),
        to: None,
        into: false,
        user: None,
        log: "import".into(),
        offset: 0,
    }
}

async fn replay(before: Vec<Deed>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let source = Memory::tree();
    let world =
        Arc::new(Mutex::new(World { source: source.clone(), clock: 0, bytes: 0, lines: Vec::new(), window: 0 }));
    for deed in before {
        let step = Step { deed, late: 0, doubled: false, at_call: None, cut: false };
        world.lock().expect("no panic holds it").act(&step);
    }
    let destination = Memory::tree();
    world.lock().expect("no panic holds it").lines = vec![(0, import())];
    let mut notes = apply(&world, &destination, &Notes::default(), false).await;
    let pending: Arc<Mutex<Vec<(usize, Step)>>> = Arc::default();
    let calls = Arc::new(Mutex::new(0));
    for store in [&source, &destination] {
        let (world, pending, calls) = (world.clone(), pending.clone(), calls.clone());
        store.on_call(move |_, _| {
            let mut calls = calls.lock().expect("no panic holds it");
            *calls += 1;
            let mut pending = pending.lock().expect("no panic holds it");
            let (due, rest) = pending.drain(..).partition(|(at, _)| *at <= *calls);
            *pending = rest;
            let due: Vec<(usize, Step)> = due;
            due.iter().for_each(|(_, step)| world.lock().expect("no panic holds it").act(step));
            None
        });
    }
    for step in steps {
        let cut = step.cut;
        match step.at_call {
            Some(at) => pending.lock().expect("no panic holds it").push((at, step)),
            None => world.lock().expect("no panic holds it").act(&step),
        }
        if cut {
            *calls.lock().expect("no panic holds it") = 0;
            notes = apply(&world, &destination, &notes, false).await;
        }
    }
    let rest: Vec<(usize, Step)> = std::mem::take(&mut *pending.lock().expect("no panic holds it"));
    rest.iter().for_each(|(_, step)| world.lock().expect("no panic holds it").act(step));
    for _ in 0..3 {
        notes = apply(&world, &destination, &notes, true).await;
    }
    let owed = notes.owed.lock().expect("no panic holds it").clone();
    prop_assert!(owed.is_empty(), "owed: {owed:?}");
    prop_assert_eq!(tree(&destination), tree(&source));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_read_in_any_way_ends_with_both_sides_equal(
        before in proptest::collection::vec(deed(), 0..6),
        steps in proptest::collection::vec(step(), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        runtime.block_on(replay(before, steps))?;
    }
}

/// A share of them always; any number on demand.
fn cases() -> u32 {
    std::env::var("SYNCD_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}
