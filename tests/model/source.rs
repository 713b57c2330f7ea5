//! The reference source: what each deed does at a cluster, a file system or a bucket, and the lines that it leaves.

use crate::deed::{Deed, Kind, Order, Step};
use crate::world::line;
use std::cell::Cell;
use std::collections::BTreeSet;
use syncd::store::mem::Memory;
use syncd::store::{self, Time};
use syncd_parsers::{Change, Op, RelPath};

/// Between two deeds: more than what makes a file a fresh one.
const STEP_NANOS: i64 = 3_000_000_000;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// The clock of the history that this thread plays.
pub fn now() -> Time {
    Time(NOW.get())
}

pub struct Source {
    pub store: Memory,
    kind: Kind,
    clock: i64,
    bytes: u64,
    open: BTreeSet<RelPath>,
    /// Lines, and from which window on they can be read.
    lines: Vec<(usize, Change)>,
    window: usize,
    written: u64,
    /// When a file was written that another one, or another content, has the size and time of.
    twin_times: BTreeSet<Time>,
    has_twins: bool,
}

impl Source {
    pub fn new(kind: Kind) -> Self {
        let store = if kind == Kind::Flat { Memory::flat() } else { Memory::tree() };
        NOW.set(0);
        let open = BTreeSet::new();
        let (lines, twin_times) = (Vec::new(), BTreeSet::new());
        Self { store, kind, clock: 0, bytes: 0, open, lines, window: 0, written: 0, twin_times, has_twins: false }
    }

    /// Does one deed, and logs it, unless the source refuses.
    pub fn act(&mut self, step: &Step) {
        if !matches!(step.deed, Deed::Again(_)) {
            self.tick();
        }
        match (self.kind, step.deed.clone()) {
            (_, Deed::Forge(op, path, to, into)) => self.forge(step, op, path, to, into),
            (Kind::Flat, deed) => self.act_flat(step, deed),
            (_, deed) => self.act_tree(step, deed),
        }
    }

    fn act_tree(&mut self, step: &Step, deed: Deed) {
        match deed {
            Deed::Write(path, len) => drop(self.write(step, &path, len)),
            Deed::Append(path) => self.append(step, &path),
            Deed::Again(path) => self.again(step, &path),
            Deed::Twins(one, other) => self.twins(step, &one, &other),
            Deed::Mkdir(path) => self.mkdir(step, &path),
            Deed::Delete(path) => self.delete(step, &path),
            Deed::Rename(from, to) => drop(self.rename(step, &from, &to, self.kind == Kind::Hdfs)),
            Deed::RenameOver(from, to) => drop(self.rename(step, &from, &to, false)),
            Deed::Concat(to, from) => self.concat(step, &to, &from),
            Deed::Chmod(path, mode) => self.chmod(step, path, mode),
            Deed::Create(path) => self.create(step, &path),
            Deed::Open(path) => self.open(step, &path),
            Deed::Close(path) => self.close(&path),
            Deed::Symlink(path, to) => self.symlink(step, &path, &to),
            Deed::Hardlink(from, to) => self.hardlink(step, &from, &to),
            Deed::Out(path) => self.delete(step, &path),
            Deed::In(path) => self.come_in(step, &path),
            Deed::Swap(one, other) => self.swap(step, &one, &other),
            Deed::Rotate(one, two, three) => self.rotate(step, &[one, two, three]),
            Deed::Commit(dir) => self.commit(step, &dir),
            Deed::Hide(_) | Deed::Forge(..) => {}
        }
    }

    /// A bucket knows keys alone; its tools rename by copying.
    fn act_flat(&mut self, step: &Step, deed: Deed) {
        match deed {
            Deed::Write(key, len) => drop(self.write(step, &key, len)),
            Deed::Append(key) | Deed::Again(key) => drop(self.write(step, &key, 2)),
            Deed::Delete(key) | Deed::Out(key) => self.delete_keys(step, &key),
            Deed::Rename(from, to) | Deed::RenameOver(from, to) => self.rename_key(step, &from, &to),
            Deed::Hide(key) if self.is_file(&key) => self.store.hide_from_list(&key),
            _ => {}
        }
    }

    fn rename_key(&mut self, step: &Step, from: &RelPath, to: &RelPath) {
        if self.is_file(from) && from != to && self.write(step, to, 2) {
            self.delete_keys(step, from);
        }
    }

    pub fn tick(&mut self) {
        self.clock += STEP_NANOS;
        NOW.set(self.clock);
        self.store.set_clock(Time(self.clock));
    }

    fn kind_of(&self, path: &RelPath) -> Option<store::Kind> {
        self.store.peek(path).map(|meta| meta.kind)
    }

    fn is_file(&self, path: &RelPath) -> bool {
        self.kind_of(path) == Some(store::Kind::File)
    }

    fn is_dir(&self, path: &RelPath) -> bool {
        self.kind_of(path) == Some(store::Kind::Dir)
    }

    fn may_be_made(&self, path: &RelPath) -> bool {
        let above = |up: RelPath| self.kind_of(&up).is_none_or(|kind| kind == store::Kind::Dir);
        path.ancestors().skip(1).all(above)
    }

    fn may_be_written(&self, path: &RelPath) -> bool {
        self.may_be_made(path) && !self.is_dir(path) && !self.open.contains(path)
    }

    /// So many bytes as no file had before.
    fn content(&mut self, len: usize) -> Vec<u8> {
        self.bytes += 1;
        self.bytes.to_be_bytes()[8 - len..].to_vec()
    }

    fn bytes_of(&self, path: &RelPath) -> Vec<u8> {
        self.store.snapshot().get(path).map(|(_, bytes)| bytes.to_vec()).unwrap_or_default()
    }

    /// A file system logs the directories that it makes on the way, a cluster does not.
    fn make_parents(&mut self, step: &Step, path: &RelPath) {
        let mut missing: Vec<RelPath> = path.ancestors().skip(1).filter(|up| self.kind_of(up).is_none()).collect();
        missing.reverse();
        for dir in missing {
            if self.kind == Kind::Posix {
                self.store.make_dirs(&dir);
                self.log(step, Op::Mkdir, dir, None, false);
            }
        }
    }

    fn put(&mut self, step: &Step, path: &RelPath, content: Vec<u8>) {
        self.make_parents(step, path);
        self.store.write(path, content);
        self.log(step, Op::Write, path.clone(), None, false);
    }

    fn write(&mut self, step: &Step, path: &RelPath, len: usize) -> bool {
        let may = self.may_be_written(path);
        if may {
            let content = self.content(len);
            self.put(step, path, content);
        }
        may
    }

    fn append(&mut self, step: &Step, path: &RelPath) {
        if self.is_file(path) && self.may_be_written(path) {
            let more = self.content(1);
            self.put(step, path, [self.bytes_of(path), more].concat());
        }
    }

    fn again(&mut self, step: &Step, path: &RelPath) {
        let this_tick = self.store.peek(path).is_some_and(|meta| meta.mtime == Some(Time(self.clock)));
        let len = self.bytes_of(path).len();
        if this_tick && self.is_file(path) && self.may_be_written(path) && len > 0 {
            let content = self.content(len.min(8));
            self.twin_times.insert(Time(self.clock));
            self.put(step, path, [vec![0; len.saturating_sub(8)], content].concat());
        }
    }

    fn twins(&mut self, step: &Step, one: &RelPath, other: &RelPath) {
        self.twin_times.insert(Time(self.clock));
        self.has_twins = true;
        self.write(step, one, 1);
        self.write(step, other, 1);
    }

    fn mkdir(&mut self, step: &Step, path: &RelPath) {
        if self.may_be_made(path) && self.kind_of(path).is_none_or(|kind| kind == store::Kind::Dir) {
            self.make_parents(step, path);
            self.store.make_dirs(path);
            self.log(step, Op::Mkdir, path.clone(), None, false);
        }
    }

    fn delete(&mut self, step: &Step, path: &RelPath) {
        self.store.delete(path);
        self.forget_open(path);
        self.log(step, Op::Delete, path.clone(), None, false);
    }

    fn forget_open(&mut self, path: &RelPath) {
        let gone: Vec<RelPath> = self.open.iter().filter(|open| open.is_within(path)).cloned().collect();
        gone.iter().for_each(|open| self.set_open(open, false));
    }

    /// Each key below a prefix has its own line; a prefix has none.
    fn delete_keys(&mut self, step: &Step, prefix: &RelPath) {
        let keys: Vec<RelPath> = self.store.snapshot().into_keys().filter(|key| key.is_within(prefix)).collect();
        for key in keys.iter().filter(|key| self.is_file(key)).cloned().collect::<Vec<_>>() {
            self.delete(step, &key);
        }
        for dir in prefix.ancestors() {
            let holds = |key: &RelPath| self.is_file(key) && key.is_within(&dir);
            if !self.store.snapshot().keys().any(holds) {
                self.store.delete(&dir);
            }
        }
    }

    fn rename(&mut self, step: &Step, from: &RelPath, named: &RelPath, into: bool) -> bool {
        let to = if into && self.is_dir(named) { named.join(from.name()).expect("a name") } else { named.clone() };
        let parent = to.parent().expect("no deed names the root");
        let parent_there = parent.is_root() || self.is_dir(&parent);
        let over = self.kind_of(&to);
        let replaces = over.is_none() || (!into && over != Some(store::Kind::Dir) && !self.is_dir(from));
        let may =
            self.kind_of(from).is_some() && parent_there && !to.is_within(from) && !from.is_within(&to) && replaces;
        if may {
            self.store.move_over(from, &to);
            self.move_open(from, &to);
            self.log(step, Op::Rename, from.clone(), Some(named.clone()), into);
        }
        may
    }

    fn move_open(&mut self, from: &RelPath, to: &RelPath) {
        self.forget_open(to);
        let moved: Vec<RelPath> = self.open.iter().filter(|open| open.is_within(from)).cloned().collect();
        for open in moved {
            self.set_open(&open, false);
            self.set_open(&open.rebase(from, to).expect("it is within"), true);
        }
    }

    fn concat(&mut self, step: &Step, to: &RelPath, from: &RelPath) {
        let files = self.is_file(to) && self.is_file(from) && to != from && self.kind == Kind::Hdfs;
        if files && !self.open.contains(to) && !self.open.contains(from) {
            let content = [self.bytes_of(to), self.bytes_of(from)].concat();
            self.store.write(to, content);
            self.store.delete(from);
            self.log(step, Op::Write, to.clone(), None, false);
            self.log(step, Op::Delete, from.clone(), None, false);
        }
    }

    fn chmod(&mut self, step: &Step, path: RelPath, mode: u32) {
        if self.kind_of(&path).is_some_and(|kind| kind != store::Kind::Symlink) {
            self.store.set_mode(&path, mode);
            self.log(step, Op::Attr, path, None, false);
        }
    }

    fn create(&mut self, step: &Step, path: &RelPath) {
        if self.kind == Kind::Hdfs && self.may_be_written(path) {
            self.put(step, path, Vec::new());
            self.set_open(path, true);
        }
    }

    fn open(&mut self, step: &Step, path: &RelPath) {
        if self.kind == Kind::Hdfs && self.is_file(path) && !self.open.contains(path) {
            self.set_open(path, true);
            self.log(step, Op::Write, path.clone(), None, false);
        }
    }

    fn close(&mut self, path: &RelPath) {
        if self.open.contains(path) {
            self.set_open(path, false);
            let content = self.content(2);
            let above = path.parent().expect("no deed names the root");
            let time = self.store.peek(&above).and_then(|meta| meta.mtime);
            self.store.write(path, content);
            self.set_dir_time(&above, time.unwrap_or(Time(self.clock)));
        }
    }

    /// A close changes no time above the file, as memory would have it: it takes the time of the last entry made or removed.
    fn set_dir_time(&self, dir: &RelPath, time: Time) {
        let entry = dir.join(b"entry").expect("a name");
        self.store.set_clock(time);
        self.store.write(&entry, "");
        self.store.delete(&entry);
        self.store.set_clock(Time(self.clock));
    }

    pub fn close_all(&mut self) {
        let open: Vec<RelPath> = self.open.iter().cloned().collect();
        self.tick();
        open.iter().for_each(|path| self.close(path));
    }

    fn set_open(&mut self, path: &RelPath, open: bool) {
        if open {
            self.open.insert(path.clone())
        } else {
            self.open.remove(path)
        };
        self.store.set_open(path, open);
    }

    fn symlink(&mut self, step: &Step, path: &RelPath, to: &RelPath) {
        if self.kind == Kind::Posix && self.may_be_made(path) && self.kind_of(path).is_none() {
            self.make_parents(step, path);
            self.store.link(path, to.as_str().expect("made of letters"));
            self.log(step, Op::Write, path.clone(), None, false);
        }
    }

    fn hardlink(&mut self, step: &Step, from: &RelPath, to: &RelPath) {
        let may = self.kind == Kind::Posix && self.may_be_made(to) && self.kind_of(to).is_none();
        if may && self.is_file(from) {
            let time = self.store.peek(from).and_then(|meta| meta.mtime).expect("memory keeps times");
            if self.twin_times.contains(&time) {
                return; // a link in the place of its twin cannot be told from it (docs/semantics.md, what is not promised)
            }
            self.make_parents(step, to);
            self.store.set_clock(time);
            self.store.write(to, self.bytes_of(from));
            self.store.set_clock(Time(self.clock));
            self.log(step, Op::Write, to.clone(), None, false);
        }
    }

    /// A directory with a file comes from outside the root.
    fn come_in(&mut self, step: &Step, path: &RelPath) {
        let parent = path.parent().expect("no deed names the root");
        if self.kind_of(path).is_none() && (parent.is_root() || self.is_dir(&parent)) {
            let content = self.content(2);
            self.store.write(&path.join(b"a").expect("a name"), content);
            self.log(step, Op::Rescan, path.clone(), None, false);
        }
    }

    fn swap(&mut self, step: &Step, one: &RelPath, other: &RelPath) {
        self.rotate(step, &[one.clone(), other.clone()]);
    }

    /// The last goes to a name of its own first, and from there to the first one's.
    fn rotate(&mut self, step: &Step, names: &[RelPath]) {
        let (first, last) = (&names[0], &names[names.len() - 1]);
        let aside = RelPath::new("t").expect("a name");
        if self.rename(step, last, &aside, false) {
            for pair in names.windows(2).rev() {
                self.tick();
                self.rename(step, &pair[0], &pair[1], false);
            }
            self.tick();
            let back = if self.kind_of(first).is_none() { first } else { last };
            if !self.rename(step, &aside, back, false) {
                self.delete(step, &aside);
            }
        }
    }

    fn commit(&mut self, step: &Step, dir: &RelPath) {
        let temporary = dir.join(b"_temporary").expect("a name");
        let part = temporary.join(b"b").expect("a name");
        if self.write(step, &part, 2) {
            self.tick();
            self.rename(step, &part, &dir.join(b"b").expect("a name"), false);
            self.tick();
            self.delete(step, &temporary);
        }
    }

    fn forge(&mut self, step: &Step, op: Op, path: RelPath, to: RelPath, into: bool) {
        let to = (op == Op::Rename).then_some(to);
        let into = into && to.is_some();
        self.log(step, op, path, to, into);
    }

    fn log(&mut self, step: &Step, op: Op, path: RelPath, to: Option<RelPath>, into: bool) {
        self.written += 1;
        let time = Time(self.clock).0 / 1_000 + step.skew_hours * 3_600_000_000;
        let time = chrono::DateTime::from_timestamp_micros(time).expect("a time of our days");
        let change = Change { into, time, offset: self.written, ..line(op, path, to) };
        let late = if self.has_twins { 0 } else { step.late };
        self.lines.push((self.window + late, change.clone()));
        if step.doubled {
            self.lines.push((self.window + late + 1, change));
        }
    }

    /// Nothing that was logged so far is read.
    pub fn forget_lines(&mut self) {
        self.lines.clear();
    }

    /// What is read now.
    pub fn window(&mut self, last: bool, order: Order) -> Vec<Change> {
        let now = self.window;
        self.window += 1;
        let (due, rest) = std::mem::take(&mut self.lines).into_iter().partition(|(at, _)| last || *at <= now);
        self.lines = rest;
        let due: Vec<(usize, Change)> = due;
        let mut due: Vec<Change> = due.into_iter().map(|(_, change)| change).collect();
        match order {
            Order::LastFirst => due.reverse(),
            Order::AsWritten => {}
            Order::Shuffled(seed) => due.sort_by_cached_key(|change| shuffled(seed, change.offset)),
        }
        due
    }
}

/// A number that has nothing to do with the order of lines.
fn shuffled(seed: u8, line: u64) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (seed, line).hash(&mut hasher);
    hasher.finish()
}
