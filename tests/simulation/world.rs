//! The source and its audit log: what clients do there, at any moment, and what the log says of it.

use crate::dice::Dice;
use crate::faulty::peek;
use crate::time::{now, pass};
use bytes::Bytes;
use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};
use syncd::store::mem::Memory;
use syncd::store::{Kind, Meta, Store, Time};
use syncd_parsers::RelPath;

/// Nothing happens to it, so that the source is never empty.
pub const KEPT: &str = "keep";
const LOG: &str = "hdfs-audit.log";
/// So large, the log is rotated now and then.
const LOG_BYTES: usize = 1500;

/// Something that was done at the source, or of which the log says so.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Each with all that is below it.
    pub paths: Vec<RelPath>,
    pub rename: bool,
    /// The log has its line.
    pub logged: bool,
}

/// How clients and the log behave in one run.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The unit of the source's clock.
    pub tick_millis: i64,
    /// How much the source's clock is behind.
    pub behind_millis: i64,
    /// No two files have the same size, but for what is written twice at one path.
    pub sizes_tell: bool,
    pub late_lines: bool,
    /// Lines are doubled now and then, or written in two halves.
    pub odd_lines: bool,
}

pub struct World {
    pub source: Memory,
    pub log_dir: Memory,
    pub habits: Habits,
    dice: Dice,
    /// In the order in which they were done.
    pub deeds: Vec<Deed>,
    /// Every content that a file had when it was whole.
    pub whole: BTreeSet<Bytes>,
    /// The same by path, through renames too.
    pub versions: BTreeMap<RelPath, BTreeSet<Bytes>>,
    open: BTreeSet<RelPath>,
    /// The newest time that a file got, and which; `None` as its name if it was renamed.
    stamped: (i64, Option<RelPath>),
    written: u64,
    /// Lines on their way: after so many more deeds they are in the log.
    lines: Vec<(usize, usize, String)>,
    /// The second half of a line whose first half is in the log.
    half: Option<(usize, String)>,
    rotations: usize,
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

impl World {
    pub fn new(source: Memory, mut dice: Dice) -> Self {
        let habits = Habits {
            tick_millis: dice.pick(&[1, 1, 10, 1000]),
            behind_millis: dice.pick(&[0, 0, 300, -300]),
            sizes_tell: dice.permille(500),
            late_lines: dice.permille(500),
            odd_lines: true,
        };
        Self::of(source, dice, habits)
    }

    /// A world in which only that happens which a story tells.
    pub fn quiet(source: Memory) -> Self {
        let habits =
            Habits { tick_millis: 1, behind_millis: 0, sizes_tell: false, late_lines: false, odd_lines: false };
        Self::of(source, Dice::of(0), habits)
    }

    fn of(source: Memory, dice: Dice, habits: Habits) -> Self {
        let mut world = Self {
            source,
            log_dir: Memory::tree(),
            habits,
            dice,
            deeds: Vec::new(),
            whole: BTreeSet::new(),
            versions: BTreeMap::new(),
            open: BTreeSet::new(),
            stamped: (0, None),
            written: 0,
            lines: Vec::new(),
            half: None,
            rotations: 0,
        };
        world.append("2026-06-01 09:59:00,000 INFO FSNamesystem.audit: allowed=true\tugi=x\tip=/10.0.0.7\tcmd=listStatus\tsrc=/data\tdst=null\tperm=null\tproto=rpc\n");
        world.write(&path(KEPT), false);
        world
    }

    pub fn kind(&self, at: &RelPath) -> Option<Kind> {
        self.look(at).map(|meta| meta.kind)
    }

    pub fn source_is_tree(&self) -> bool {
        self.source.capabilities().tree
    }

    fn look(&self, at: &RelPath) -> Option<Meta> {
        peek(&self.source, at)
    }

    /// One thing that a client does, or the log's writer.
    pub fn act(&mut self) {
        match self.dice.below(100) {
            0..30 => {
                let at = self.any_path();
                self.write(&at, false);
            }
            30..40 => {
                let last = self.stamped.1.clone().filter(|at| self.kind(at) == Some(Kind::File));
                let at = last.filter(|_| self.dice.permille(700)).unwrap_or_else(|| self.there());
                self.write(&at, true); // within one tick of the clock, if it was the last one
            }
            40..48 => {
                let at = self.any_path();
                self.mkdir(&at);
            }
            48..58 => {
                let at = self.there();
                self.delete(&at);
            }
            58..78 => {
                let over = self.dice.permille(300);
                (0..4).any(|_| {
                    let (from, to) =
                        (self.there(), if self.dice.permille(300) { self.there() } else { self.any_path() });
                    self.rename(&from, &to, over)
                });
            }
            78..82 => {
                let at = self.there();
                self.chmod(&at);
            }
            82..88 => {
                let at = if self.dice.permille(500) { self.there() } else { self.any_path() };
                self.open(&at);
            }
            88..93 => self.close(),
            93..97 => self.forge(),
            _ => self.rotate(),
        }
        self.flush_lines(1);
    }

    /// What the words say: `write a/x`, `mkdir a`, `rename a b`, `over a b` (over a file), `delete a`, `chmod a`, `open a`,
    /// `close`, `rotate`, each at its time.
    pub fn does(&mut self, story: &str) {
        for deed in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            pass(TimeDelta::seconds(10));
            let mut words = deed.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (verb, at, to) = (word(), path(word()), path(word()));
            match verb {
                "write" => self.write(&at, false),
                "mkdir" => self.mkdir(&at),
                "rename" => assert!(self.rename(&at, &to, false), "{deed}"),
                "over" => assert!(self.rename(&at, &to, true), "{deed}"),
                "delete" => self.delete(&at),
                "chmod" => self.chmod(&at),
                "open" => self.open(&at),
                "close" => self.close(),
                "rotate" => self.rotate(),
                other => panic!("no deed is called {other}"),
            }
            self.flush_lines(usize::MAX);
        }
    }

    /// All lines are in the log, and no file is open.
    pub fn rest(&mut self) {
        while !self.open.is_empty() {
            self.close();
        }
        self.flush_lines(usize::MAX);
        self.finish_half();
    }

    fn any_path(&mut self) -> RelPath {
        let mut at = path(self.dice.pick(&["a", "b", "c"]));
        for _ in 0..self.dice.below(3) {
            let name = self.dice.pick(&["a", "b", "c", "_SUCCESS"]);
            at = at.join(name.as_bytes()).expect("a name");
        }
        at
    }

    fn there(&mut self) -> RelPath {
        let all: Vec<RelPath> = self.source.snapshot().into_keys().filter(|at| *at != path(KEPT)).collect();
        if all.is_empty() { self.any_path() } else { self.dice.pick(&all) }
    }

    fn can_hold(&self, at: &RelPath) -> bool {
        at.ancestors().skip(1).all(|up| self.kind(&up).is_none_or(|kind| kind == Kind::Dir))
    }

    fn set_clock(&mut self, at: Option<&RelPath>) {
        let tick = self.habits.tick_millis * 1_000_000;
        let nanos = now().timestamp_nanos_opt().expect("not far from 2026") - self.habits.behind_millis * 1_000_000;
        let (last, of) = &self.stamped;
        let free = if of.as_ref() == at && at.is_some() { *last } else { last + tick };
        let nanos = (nanos - nanos.rem_euclid(tick)).max(free);
        self.source.set_clock(Time(nanos));
        if at.is_some() {
            self.stamped = (nanos, at.cloned());
        }
    }

    /// Bytes that were nowhere before.
    fn content(&mut self, at: &RelPath, same_size: bool) -> Bytes {
        self.written += 1;
        let old = self.look(at).filter(|meta| meta.kind == Kind::File && meta.len >= 8);
        let len = match old {
            Some(old) if same_size => old.len as usize,
            _ if self.habits.sizes_tell => 8 + self.written as usize,
            _ => 8 + self.dice.below(3) * 5,
        };
        let mut text = format!("{:08}", self.written);
        text.extend(std::iter::repeat_n('.', len - text.len()));
        text.into()
    }

    fn hold(&mut self, at: &RelPath, bytes: Bytes) {
        self.whole.insert(bytes.clone());
        self.versions.entry(at.clone()).or_default().insert(bytes);
    }

    fn write(&mut self, at: &RelPath, same_size: bool) {
        if !self.can_hold(at) || self.kind(at) == Some(Kind::Dir) {
            return;
        }
        let bytes = self.content(at, same_size);
        self.set_clock(Some(at));
        self.source.write(at, bytes.clone());
        self.shut(at);
        self.hold(at, bytes);
        self.log("create", at, None, false);
    }

    fn mkdir(&mut self, at: &RelPath) {
        if self.can_hold(at) && self.kind(at).is_none_or(|kind| kind == Kind::Dir) {
            self.set_clock(None);
            self.source.make_dirs(at);
            self.log("mkdirs", at, None, false);
        }
    }

    fn delete(&mut self, at: &RelPath) {
        self.set_clock(None);
        self.source.delete(at);
        let open: Vec<RelPath> = self.open.iter().filter(|open| open.is_within(at)).cloned().collect();
        open.iter().for_each(|open| self.shut(open));
        self.log("delete", at, None, false);
    }

    /// Into `named` if that is a directory, else exactly there; with `over` exactly there, over a file. False if the source refuses.
    fn rename(&mut self, from: &RelPath, named: &RelPath, over: bool) -> bool {
        let to = match self.kind(named) {
            Some(Kind::Dir) if !over => named.join(from.name()).expect("a name"),
            _ => named.clone(),
        };
        let parent = to.parent().expect("no deed names the root");
        let there = self.kind(&to);
        let may = self.kind(from).is_some()
            && (parent.is_root() || self.kind(&parent) == Some(Kind::Dir))
            && !to.is_within(from)
            && (there.is_none() || (over && there == Some(Kind::File) && self.kind(from) == Some(Kind::File)));
        if !may {
            return false;
        }
        self.set_clock(None);
        self.stamped.1 = None;
        self.shut(&to);
        self.source.move_over(from, &to);
        self.follow(from, &to);
        let covered = [from.clone(), named.clone(), to];
        self.log_of(if over { "rename (options=[OVERWRITE])" } else { "rename" }, from, Some(named), &covered, true);
        true
    }

    /// Contents and writers go with their files.
    fn follow(&mut self, from: &RelPath, to: &RelPath) {
        let open: Vec<RelPath> = self.open.iter().filter(|open| open.is_within(from)).cloned().collect();
        for open in open {
            self.shut(&open);
            let moved = open.rebase(from, to).expect("below it");
            self.source.set_open(&moved, true);
            self.open.insert(moved);
        }
        let moved: Vec<(RelPath, Bytes)> = self
            .source
            .snapshot()
            .into_iter()
            .filter(|(at, (meta, bytes))| at.is_within(to) && meta.kind == Kind::File && self.whole.contains(bytes))
            .map(|(at, (_, bytes))| (at, bytes))
            .collect();
        moved.into_iter().for_each(|(at, bytes)| self.hold(&at, bytes));
    }

    fn chmod(&mut self, at: &RelPath) {
        if self.kind(at).is_some() {
            self.set_clock(None);
            let mode = self.dice.pick(&[0o700, 0o755, 0o644]);
            self.source.set_mode(at, mode);
            self.log("setPermission", at, None, false);
        }
    }

    /// A writer begins or appends; of an appended file nothing is to be seen until it is closed.
    fn open(&mut self, at: &RelPath) {
        let kind = self.kind(at);
        let fits = self.can_hold(at) && kind != Some(Kind::Dir) && !self.open.contains(at);
        if !fits || !self.source.capabilities().tree {
            return;
        }
        if kind.is_none() {
            self.set_clock(Some(at));
            self.source.write(at, "");
        }
        self.source.set_open(at, true);
        self.open.insert(at.clone());
        self.log(if kind.is_none() { "create" } else { "append" }, at, None, false);
    }

    /// Without a line, as HDFS does.
    fn close(&mut self) {
        let open: Vec<RelPath> = self.open.iter().cloned().collect();
        if open.is_empty() {
            return;
        }
        let at = self.dice.pick(&open);
        let bytes = self.content(&at, false);
        self.set_clock(Some(&at));
        self.source.write(&at, bytes.clone());
        self.shut(&at);
        self.hold(&at, bytes);
    }

    fn shut(&mut self, at: &RelPath) {
        if self.open.remove(at) {
            self.source.set_open(at, false);
        }
    }

    /// A line of something that never happened.
    fn forge(&mut self) {
        let (one, other) = (self.any_path(), self.any_path());
        match self.dice.below(4) {
            0 => self.log("create", &one, None, false),
            1 => self.log("delete", &one, None, false),
            _ => {
                let into = other.join(one.name()).expect("a name");
                self.log_of("rename", &one, Some(&other), &[one.clone(), other.clone(), into], true);
            }
        }
    }

    fn log(&mut self, command: &str, at: &RelPath, to: Option<&RelPath>, rename: bool) {
        self.log_of(command, at, to, std::slice::from_ref(at), rename);
    }

    fn log_of(&mut self, command: &str, at: &RelPath, to: Option<&RelPath>, paths: &[RelPath], rename: bool) {
        let number = self.deeds.len();
        self.deeds.push(Deed { paths: paths.to_vec(), rename, logged: false });
        let to = to.map_or("null".to_owned(), |to| format!("/data/{to}"));
        let record = format!(
            "INFO FSNamesystem.audit: allowed=true\tugi=u{number} (auth:SIMPLE)\tip=/10.0.0.7\tcmd={command}\t\
             src=/data/{at}\tdst={to}\tperm=null\tproto=rpc"
        );
        let late = if self.habits.late_lines { self.dice.below(4) } else { 0 };
        self.lines.push((late, number, record.clone()));
        if self.habits.odd_lines && self.dice.permille(100) {
            let again = self.deeds.len();
            self.deeds.push(Deed { paths: paths.to_vec(), rename, logged: false });
            let record = record.replace(&format!("ugi=u{number} "), &format!("ugi=u{again} "));
            self.lines.push((late + self.dice.below(5), again, record));
        }
    }

    fn flush_lines(&mut self, deeds: usize) {
        if !self.dice.permille(300) {
            self.finish_half();
        }
        self.lines.iter_mut().for_each(|(late, ..)| *late = late.saturating_sub(deeds));
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lines).into_iter().partition(|(late, ..)| *late == 0);
        self.lines = rest;
        for (_, number, record) in due {
            self.finish_half();
            let line = format!("{} {record}\n", now().format("%Y-%m-%d %H:%M:%S,%3f"));
            if self.habits.odd_lines && self.dice.permille(100) {
                let (first, second) = line.split_at(self.dice.below(line.len()));
                self.append(first);
                self.half = Some((number, second.to_owned()));
            } else {
                self.append(&line);
                self.deeds[number].logged = true;
            }
        }
    }

    fn finish_half(&mut self) {
        if let Some((number, rest)) = self.half.take() {
            self.append(&rest);
            self.deeds[number].logged = true;
        }
    }

    fn append(&mut self, text: &str) {
        let nanos = now().timestamp_nanos_opt().expect("not far from 2026");
        self.log_dir.set_clock(Time(nanos));
        let before = self.log_bytes();
        self.log_dir.write(&path(LOG), [&before, text.as_bytes()].concat());
    }

    fn log_bytes(&self) -> Bytes {
        self.log_dir.snapshot().remove(&path(LOG)).map(|(_, bytes)| bytes).unwrap_or_default()
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`.
    fn rotate(&mut self) {
        if self.half.is_some() || self.log_bytes().len() < LOG_BYTES {
            return;
        }
        let name = |number: usize| path(&if number == 0 { LOG.to_owned() } else { format!("{LOG}.{number}") });
        for number in (0..=self.rotations).rev() {
            self.log_dir.move_over(&name(number), &name(number + 1));
        }
        self.rotations += 1;
    }
}
