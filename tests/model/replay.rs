//! Plays a history: deeds at the source, windows applied between and meanwhile, and what has to hold in the middle of it and
//! at its end.

use crate::deed::{Cut, Deed, Kind, Setting, Step};
use crate::source::{self, Source};
use crate::world::{Notes, line, lock, options};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex};
use syncd::apply::{Options, Run, Stop, Watch};
use syncd::names::{Lately, Names, Written};
use syncd::publish::Publish;
use syncd::store::mem::{Calls, Memory};
use syncd::store::{self, ErrorKind, Meta, RESERVED, Time};
use syncd_parsers::{Change, Op, RelPath};

/// What the clocks of the source and of syncd may be apart, as a job has it.
const APART_NANOS: i64 = 60_000_000_000;

/// What outlives a run, as a job keeps it.
#[derive(Default)]
struct Ledger {
    owed: BTreeSet<RelPath>,
    watched: BTreeMap<RelPath, Watch>,
    lately: Lately,
}

impl Ledger {
    fn names(&self, of_keys: bool) -> Names {
        let mut names = if of_keys { Names::of_keys() } else { Names::default() };
        self.owed.iter().for_each(|path| {
            names.add_deep(path);
            names.add_written(path, Written::Said);
        });
        self.watched.iter().for_each(|(path, watch)| names.add_written(path, watch.written()));
        names.remember(self.lately.clone());
        names
    }

    fn fresh(&self) -> HashSet<RelPath> {
        self.watched.iter().filter(|(_, watch)| **watch == Watch::Fresh).map(|(path, _)| path.clone()).collect()
    }

    /// What a run noted stays, even if it did not come to its end; one that did is done with what it has not noted again.
    fn take(&mut self, notes: &Notes, ended: bool) {
        let owed: BTreeSet<RelPath> = lock(&notes.owed).iter().map(|(path, _)| path.clone()).collect();
        if ended {
            self.owed.clear();
            self.watched.retain(|path, _| path.ancestors().any(|up| owed.contains(&up)));
        }
        self.owed.extend(owed);
        self.watched.extend(lock(&notes.watched).iter().cloned());
        self.lately = lock(&notes.lately).clone();
    }
}

/// What goes on while a window is applied, and what has to hold then.
#[derive(Default)]
struct Meanwhile {
    calls: usize,
    pending: Vec<(usize, Step)>,
    /// Deeds done since the window began.
    done: usize,
    crash: Option<usize>,
    fault: Option<usize>,
    /// What the source showed last, by a look or a listing.
    seen: HashMap<RelPath, Option<store::Kind>>,
    deep: BTreeSet<RelPath>,
    flat: bool,
    broken: Vec<String>,
}

impl Meanwhile {
    fn begin(&mut self, cut: &Cut) {
        (self.calls, self.done, self.crash, self.fault) = (0, 0, cut.crash, cut.fault);
        self.seen.clear();
        self.deep.clear();
    }

    fn due(&mut self) -> Vec<Step> {
        self.calls += 1;
        let calls = self.calls;
        let (due, rest) = std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| *at < calls);
        self.pending = rest;
        let due: Vec<(usize, Step)> = due;
        self.done += due.len();
        due.into_iter().map(|(_, step)| step).collect()
    }

    fn fails(&mut self, path: &RelPath) -> Option<ErrorKind> {
        if self.crash.is_some_and(|at| self.calls > at) {
            return Some(ErrorKind::Unavailable);
        }
        let faulty = self.fault.is_some_and(|at| self.calls > at) && !path.is_root();
        faulty.then(|| {
            self.fault = None;
            ErrorKind::PermissionDenied
        })
    }

    fn see(&mut self, op: &str, path: &RelPath, source: &Memory) {
        let kind = |path: &RelPath| source.peek(path).map(|meta| meta.kind);
        match op {
            "lookup" => drop(self.seen.insert(path.clone(), kind(path))),
            "list" => {
                let all = source.snapshot().into_keys();
                let below = all.filter(|below| below.parent().as_ref() == Some(path));
                self.seen.extend(below.map(|below| (below.clone(), kind(&below))));
            }
            _ => {}
        }
    }

    /// Nothing is removed but what the source just answered not to have, or to be of another kind, and what a line said went.
    fn check(&mut self, op: &str, path: &RelPath, destination: &Memory) {
        if !op.starts_with("remove") || path.components().next() == Some(RESERVED.as_bytes()) {
            return;
        }
        let Some(there) = destination.peek(path) else { return };
        let named = path.ancestors().chain([RelPath::root()]).any(|up| self.deep.contains(&up));
        match self.seen.get(path) {
            Some(None) if named || self.flat => {}
            Some(Some(kind)) if *kind != there.kind => {}
            seen => self.broken.push(format!("{op} {path}: the source showed {seen:?}, named: {named}")),
        }
    }
}

pub struct Bench {
    source: Arc<Mutex<Source>>,
    memory: Memory,
    pub destination: Memory,
    meanwhile: Arc<Mutex<Meanwhile>>,
    ledger: Ledger,
}

impl Bench {
    /// A source where `before` has happened, and its import.
    pub async fn new(setting: Setting, before: &[Deed]) -> Self {
        let mut source = Source::new(setting.source);
        // (what no line named and a listing hides is not found: docs/semantics.md)
        let shown = before.iter().filter(|deed| !matches!(deed, Deed::Hide(_)));
        shown.for_each(|deed| source.act(&Step::plain(deed.clone())));
        source.forget_lines();
        let destination = if setting.flat_destination { Memory::flat() } else { Memory::tree() };
        let meanwhile = Meanwhile { flat: setting.source == Kind::Flat, ..Meanwhile::default() };
        let memory = source.store.clone();
        let mut bench = Self {
            source: Arc::new(Mutex::new(source)),
            memory,
            destination,
            meanwhile: Arc::new(Mutex::new(meanwhile)),
            ledger: Ledger::default(),
        };
        bench.import().await;
        bench.listen();
        bench
    }

    /// An import is a window that names everything.
    async fn import(&mut self) {
        self.run(&[line(Op::Rescan, RelPath::root(), None)], &Cut::default(), None)
            .await
            .expect("no fault is injected");
    }

    fn listen(&self) {
        let (source, memory, meanwhile) = (self.source.clone(), self.memory.clone(), self.meanwhile.clone());
        self.memory.on_call(move |op, path| {
            let due = lock(&meanwhile).due();
            due.iter().for_each(|step| lock(&source).act(step));
            let mut meanwhile = lock(&meanwhile);
            meanwhile.see(op, path, &memory);
            meanwhile.fails(path)
        });
        let (source, destination, meanwhile) = (self.source.clone(), self.destination.clone(), self.meanwhile.clone());
        self.destination.on_call(move |op, path| {
            let due = lock(&meanwhile).due();
            due.iter().for_each(|step| lock(&source).act(step));
            let mut meanwhile = lock(&meanwhile);
            meanwhile.check(op, path, &destination);
            meanwhile.fails(path)
        });
    }

    pub async fn step(&mut self, step: Step) -> Result<(), String> {
        let cut = step.cut.clone();
        match step.at_call {
            Some(at) => lock(&self.meanwhile).pending.push((at, step)),
            None => lock(&self.source).act(&step),
        }
        match cut {
            Some(cut) => self.apply(false, &cut).await,
            None => Ok(()),
        }
    }

    /// Applies a window: all that can be read now.
    pub async fn apply(&mut self, last: bool, cut: &Cut) -> Result<(), String> {
        let lines = lock(&self.source).window(last, cut.order);
        let began = source::now();
        let crashed = cut.crash.is_some() && self.run(&lines, cut, None).await.is_err();
        let calm = Cut { crash: None, ..cut.clone() };
        let interrupted = crashed.then_some(Time(began.0 - APART_NANOS));
        if self.run(&lines, &calm, interrupted).await.is_err() {
            let quiet = Cut { fault: None, ..calm }; // the fault was in the way of the root
            self.run(&lines, &quiet, Some(Time(began.0 - APART_NANOS))).await.map_err(|stop| stop.to_string())?;
        }
        let broken = std::mem::take(&mut lock(&self.meanwhile).broken);
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }

    async fn run(&mut self, lines: &[Change], cut: &Cut, interrupted: Option<Time>) -> Result<(), Stop> {
        lock(&self.meanwhile).begin(cut);
        let notes = Arc::new(Notes { lately: Mutex::new(self.ledger.lately.clone()), ..Notes::default() });
        let options = self.options(interrupted);
        let (source, destination) = (Arc::new(self.memory.clone()), Arc::new(self.destination.clone()));
        let done = self.parts(lines, cut.parts, &notes, Run::new(source, destination, notes.clone(), options)).await;
        self.ledger.take(&notes, done.is_ok());
        done?;
        let mut meanwhile = lock(&self.meanwhile);
        let twice = lock(&notes.copied).iter().find(|(_, times)| **times > 1).map(|(path, _)| path.clone());
        if let Some(path) = twice.filter(|_| meanwhile.done == 0) {
            meanwhile.broken.push(format!("{path} was copied twice in one window"));
        }
        Ok(())
    }

    fn options(&self, interrupted_since: Option<Time>) -> Options {
        static PUBLISH: LazyLock<Publish> = LazyLock::new(|| Publish::new(&[["b/b/*"]]).expect("a glob"));
        Options {
            interrupted_since,
            publish: PUBLISH.clone(),
            fresh: Arc::new(self.ledger.fresh()),
            now: Arc::new(source::now),
            ..options()
        }
    }

    async fn parts(&self, lines: &[Change], each: bool, notes: &Notes, run: Run) -> Result<(), Stop> {
        let mut names = self.ledger.names(lock(&self.meanwhile).flat);
        for change in lines {
            names.add(change);
            lock(&notes.lately).read(change);
            if each {
                self.part(&run, names.take()).await?;
                names.remember(lock(&notes.lately).clone());
            }
        }
        self.part(&run, names).await?;
        run.finish().await.map(drop)
    }

    async fn part(&self, run: &Run, names: Names) -> Result<(), Stop> {
        let mut deep = BTreeSet::new();
        names.root().visit(&RelPath::root(), &mut |path, node| {
            if node.is_deep() {
                deep.insert(path.clone());
            }
        });
        lock(&self.meanwhile).deep.extend(deep);
        run.part(names).await
    }

    /// Whether all deeds that wait for a call have been done.
    pub fn is_all_done(&self) -> bool {
        lock(&self.meanwhile).pending.is_empty()
    }

    pub fn reset_calls(&self) {
        self.memory.reset_calls();
        self.destination.reset_calls();
    }

    /// Files that were read at the source.
    pub fn reads(&self) -> u64 {
        self.memory.calls().read + self.memory.calls().read_range
    }

    /// Look-ups at the source.
    pub fn looks(&self) -> u64 {
        self.memory.calls().lookup
    }

    /// Everything has happened, every line is read and every file closed: both sides are equal, and one more pass does nothing.
    pub async fn end(mut self) -> Result<(), String> {
        let rest = std::mem::take(&mut lock(&self.meanwhile).pending);
        rest.iter().for_each(|(_, step)| lock(&self.source).act(step));
        lock(&self.source).tick();
        self.apply(true, &Cut::default()).await?;
        lock(&self.source).close_all();
        lock(&self.source).tick();
        for _ in 0..3 {
            self.destination.reset_calls();
            self.apply(true, &Cut::default()).await?;
        }
        self.check_end()
    }

    fn check_end(&self) -> Result<(), String> {
        let calls = self.destination.calls();
        let changed = Calls { put: calls.put, mkdir: calls.mkdir, rename: calls.rename, ..Calls::default() };
        let others = calls.remove + calls.remove_tree + calls.put_link + calls.set_attrs;
        if changed != Calls::default() || others > 0 {
            return Err(format!("a pass over nothing new did something: {calls:?}"));
        }
        if !self.ledger.owed.is_empty() {
            return Err(format!("owed: {:?}", self.ledger.owed));
        }
        if !self.ledger.watched.is_empty() {
            return Err(format!("watched: {:?}", self.ledger.watched));
        }
        let (source, destination) = (tree(&self.memory, self), tree(&self.destination, self));
        if source == destination { Ok(()) } else { Err(difference(&source, &destination)) }
    }
}

/// What has to be equal of each path.
type Tree = BTreeMap<RelPath, (store::Kind, Vec<u8>, Option<Time>, Option<u32>, Option<Vec<u8>>)>;

/// Where either side is flat, directories are what leads to keys.
fn tree(store: &Memory, bench: &Bench) -> Tree {
    let flat = lock(&bench.meanwhile).flat;
    let trees = [&bench.memory, &bench.destination].iter().all(|store| store::Store::capabilities(*store).tree);
    let kept = store.snapshot().into_iter().filter(|(path, _)| path.components().next() != Some(RESERVED.as_bytes()));
    let line = |(path, (meta, bytes)): (RelPath, (Meta, bytes::Bytes))| {
        let is_dir = meta.is_dir();
        let time = meta.mtime.filter(|_| (trees || !is_dir) && meta.kind != store::Kind::Symlink);
        (path, (meta.kind, bytes.to_vec(), time, meta.mode.filter(|_| !(flat && is_dir)), meta.target))
    };
    kept.map(line).collect()
}

fn difference(source: &Tree, destination: &Tree) -> String {
    let paths: BTreeSet<&RelPath> = source.keys().chain(destination.keys()).collect();
    let differ = paths.into_iter().filter(|path| source.get(*path) != destination.get(*path));
    let words =
        differ.map(|path| format!("{path}: source {:?}, destination {:?}", source.get(path), destination.get(path)));
    words.collect::<Vec<_>>().join("\n")
}

/// Plays the whole history.
pub async fn play(setting: Setting, before: Vec<Deed>, steps: Vec<Step>) -> Result<(), String> {
    let mut bench = Bench::new(setting, &before).await;
    for step in steps {
        bench.step(step).await?;
    }
    bench.end().await
}
