//! Two stores in memory, names for them, and a notebook that only remembers: what a test of a single run needs.
#![allow(dead_code, reason = "no test binary uses all")]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use syncd::apply::{BoxError, Mode, Notebook, Options, Run, Stop, Watch};
use syncd::checkpoint::State;
use syncd::job::{Job, Settings};
use syncd::names::{Gone, Lately, Line, Names};
use syncd::publish::Publish;
use syncd::report::{Did, Event, Report};
use syncd::settle::DirTime;
use syncd::store::mem::Memory;
use syncd::store::{RESERVED, Time};
use syncd_parsers::{Change, Op, RelPath};

pub fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// A line about one path, or two.
pub fn line(op: Op, path: RelPath, to: Option<RelPath>) -> Change {
    let log = "log".into();
    Change { time: chrono::DateTime::UNIX_EPOCH, op, path, to, into: false, user: None, log, offset: 0 }
}

/// `OP PATH [TO]`.
pub fn change(text: &str) -> Change {
    let words: Vec<&str> = text.split(' ').collect();
    let op = match words[0] {
        "write" => Op::Write,
        "mkdir" => Op::Mkdir,
        "rename" => Op::Rename,
        "delete" => Op::Delete,
        "attr" => Op::Attr,
        "rescan" => Op::Rescan,
        other => panic!("no operation {other}"),
    };
    line(op, path(words[1]), words.get(2).map(|to| path(to)))
}

pub fn names(lines: &[&str]) -> Names {
    Names::of(&lines.iter().map(|line| change(line)).collect::<Vec<_>>())
}

/// As an apply has them, without limits; the clock is so late that nothing is fresh.
pub fn options() -> Options {
    /// Compiling the patterns takes longer than a small history.
    static PUBLISH: LazyLock<Publish> = LazyLock::new(Publish::default);
    Options {
        mode: Mode::Act,
        removes: true,
        deletes_max: None,
        publish: PUBLISH.clone(),
        interrupted_since: None,
        fresh: Arc::new(HashSet::new()),
        compare_all: false,
        now: Arc::new(|| Time(i64::MAX)),
    }
}

/// What a run noted, and what it copied.
#[derive(Default)]
pub struct Notes {
    pub owed: Mutex<Vec<(RelPath, String)>>,
    pub watched: Mutex<Vec<(RelPath, Watch)>>,
    pub lately: Mutex<Lately>,
    pub copied: Mutex<BTreeMap<RelPath, usize>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    pub fn watches(&self, text: &str) -> bool {
        lock(&self.watched).iter().any(|(watched, _)| *watched == path(text))
    }

    pub fn is_fresh(&self, text: &str) -> bool {
        lock(&self.watched).contains(&(path(text), Watch::Fresh))
    }

    pub fn owed(&self) -> Vec<(RelPath, String)> {
        lock(&self.owed).clone()
    }
}

impl Notebook for Notes {
    fn owe(&self, path: &RelPath, reason: &str, _: Option<&Line>) -> Result<(), BoxError> {
        lock(&self.owed).push((path.clone(), reason.to_owned()));
        Ok(())
    }

    fn watch(&self, path: &RelPath, watch: Watch) -> Result<(), BoxError> {
        lock(&self.watched).push((path.clone(), watch));
        Ok(())
    }

    fn lose(&self, paths: &[RelPath], how: Gone) -> Result<(), BoxError> {
        paths.iter().for_each(|path| lock(&self.lately).lose(path, how));
        Ok(())
    }

    fn see_dir(&self, _: &RelPath, _: Option<DirTime>) {}

    fn event(&self, event: &Event<'_>) {
        if let Did::Copy { .. } = event.did {
            *lock(&self.copied).entry(event.path.clone()).or_default() += 1;
        }
    }
}

/// A source, a destination, and what runs between them noted.
pub struct World {
    pub source: Memory,
    pub destination: Memory,
    pub notes: Arc<Notes>,
}

impl World {
    pub fn new() -> Self {
        Self { source: Memory::tree(), destination: Memory::tree(), notes: Arc::default() }
    }

    pub fn run(&self, options: Options) -> Run {
        let (source, destination) = (Arc::new(self.source.clone()), Arc::new(self.destination.clone()));
        Run::new(source, destination, self.notes.clone(), options)
    }

    /// One window, whose lines are remembered for the next.
    pub async fn apply(&self, lines: &[&str], options: Options) -> Result<Report, Stop> {
        let mut names = names(lines);
        names.remember(lock(&self.notes.lately).clone());
        lines.iter().for_each(|line| lock(&self.notes.lately).read(&change(line)));
        let run = self.run(options);
        run.part(names).await?;
        run.finish().await
    }

    pub fn files(store: &Memory) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = store.snapshot().into_iter();
        all.map(|(path, (meta, bytes))| (path.to_string(), if meta.is_dir() { "/".into() } else { text(&bytes) }))
            .filter(|(path, _)| path != RESERVED && !path.starts_with(".syncd/"))
            .collect()
    }

    pub fn kept_aside(&self) -> usize {
        let aside = path(".syncd/aside");
        self.destination.snapshot().keys().filter(|path| path.is_within(&aside) && **path != aside).count()
    }

    pub fn assert_equal(&self) {
        assert_eq!(Self::files(&self.destination), Self::files(&self.source), "destination, and source");
    }

    pub fn job(&self, dir: &std::path::Path) -> Job {
        Job {
            source: Arc::new(self.source.clone()),
            destination: Arc::new(self.destination.clone()),
            pair: ("mem:source".into(), "mem:destination".into()),
            state: Arc::new(State::open(dir).expect("opens")),
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now: syncd::clock::now,
        }
    }
}
