//! A story for one test: a source with its audit log, a destination, and the job between them. What happens is told in
//! words (`write a/x one`), and so is what a store holds afterwards.

#[path = "copied.rs"]
mod copied;

use chrono::{DateTime, TimeDelta, Utc};
use copied::copy_dir;
use std::cell::Cell;
use std::sync::Arc;
use syncd::apply::Mode;
use syncd::changelog::Made;
use syncd::checkpoint::State;
use syncd::job::{Applying, Job, JobError, Settings};
use syncd::report::Report;
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::status::Page;
use syncd::store::mem::Memory;
use syncd::store::{Kind, Meta, RESERVED, Store, Time};
use syncd::tail::{self, sha256};
use syncd::zone::Zone;
use syncd_parsers::RelPath;
use tempfile::TempDir;

/// Between two deeds.
const STEP: TimeDelta = TimeDelta::seconds(10);

thread_local! {
    /// The clock of the story that this thread tells, in microseconds since 1970.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// Time passes while something is done.
pub fn pass_time(by: TimeDelta) {
    NOW.set(NOW.get() + by.num_microseconds().expect("a short time"));
}

pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(NOW.get()).expect("a time of the story")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect(text)
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(if text == "." { "" } else { text }).expect(text)
}

/// Two stores, the log of the source below `/data`, and a job.
pub struct Story {
    pub source: Memory,
    pub destination: Memory,
    pub log_dir: Memory,
    pub job: Job,
    pub logs: Logs,
    dir: TempDir,
}

impl Story {
    /// A source where `before` has happened, and its import into an empty tree.
    pub async fn of(before: &str) -> Self {
        Self::between(Memory::tree(), Memory::tree(), before).await
    }

    pub async fn between(source: Memory, destination: Memory, before: &str) -> Self {
        let story = Self::not_imported(source, destination, before);
        story.import().await;
        story
    }

    pub fn not_imported(source: Memory, destination: Memory, before: &str) -> Self {
        set_clock(&source, at("2022-06-01T10:00:00Z"));
        destination.set_clock(Time(4_000_000_000_000_000_000)); // whatever keeps this time was not settled
        let dir = tempfile::tempdir().expect("a directory");
        let (job, log_dir) = (job(&source, &destination, &dir), Memory::tree());
        let logs = logs(&log_dir);
        let story = Self { source, destination, log_dir, job, logs, dir };
        story.logs("read .");
        story.acts(before);
        story
    }

    pub async fn import(&self) -> Report {
        self.try_import().await.expect("the import comes to its end")
    }

    pub async fn try_import(&self) -> Result<Report, JobError> {
        NOW.set((now() + STEP).timestamp_micros());
        let positions = tail::positions(&self.log_dir).await.expect("the log can be read");
        self.job.import(Some(positions)).await
    }

    /// Each line is done at the source, and logged.
    pub fn does(&self, deeds: &str) {
        for deed in lines(deeds) {
            self.tick();
            act(&self.source, deed);
            self.log(&audit_line(deed));
        }
    }

    /// Each line is done at the source, and its line is lost or late.
    pub fn acts(&self, deeds: &str) {
        for deed in lines(deeds) {
            self.tick();
            act(&self.source, deed);
        }
    }

    /// Each line is logged, and nothing is done.
    pub fn logs(&self, deeds: &str) {
        for deed in lines(deeds) {
            self.tick();
            self.log(&audit_line(deed));
        }
    }

    /// Appends one record, whose time stands before it.
    pub fn log(&self, record: &str) {
        self.log_into("hdfs-audit.log", &format!("{} {record}\n", now().format("%Y-%m-%d %H:%M:%S,%3f")));
    }

    pub fn log_into(&self, file: &str, text: &str) {
        let before = self.log_text(file);
        self.log_dir.write(&path(file), [before.as_bytes(), text.as_bytes()].concat());
    }

    pub fn log_text(&self, file: &str) -> String {
        let all = self.log_dir.snapshot();
        all.get(&path(file)).map_or(String::new(), |(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    }

    pub fn tick(&self) {
        set_clock(&self.source, now() + STEP);
    }

    pub async fn make(&self) -> Result<Made, JobError> {
        self.logs.make(Some(&*self.job.state), now()).await
    }

    /// The log's news become a window, and all windows are applied.
    pub async fn try_apply(&self) -> Result<Applying, JobError> {
        NOW.set((now() + STEP).timestamp_micros()); // what was done before is no longer fresh
        self.make().await?;
        self.job.apply(&*self.logs.change_log, Mode::Act).await
    }

    pub async fn apply(&self) -> Applying {
        self.try_apply().await.expect("the apply comes to its end")
    }

    /// An apply that leaves both sides equal and nothing owed.
    pub async fn apply_all(&self) -> Report {
        let report = self.apply().await.report;
        assert_eq!(self.owed(), [""; 0]);
        self.assert_equal();
        report
    }

    pub fn page(&self) -> Page {
        Page::of(&self.job.state, None).expect("the state can be read")
    }

    /// `path: reason`, for each owed path.
    pub fn owed(&self) -> Vec<String> {
        self.page().owed.iter().map(|owed| format!("{}: {}", owed.path, owed.reason)).collect()
    }

    pub fn watched(&self) -> Vec<String> {
        let all = self.job.state.watched().map(|item| item.expect("the state can be read"));
        all.map(|(path, watched)| format!("{path}: {:?}", watched.reason)).collect()
    }

    /// Kinds, bytes, times and modes of both sides are equal, as far as both keep them.
    pub fn assert_equal(&self) {
        let dir_times = self.source.capabilities().dir_times && self.destination.capabilities().dir_times;
        let (destination, source) = (attributes(&self.destination, dir_times), attributes(&self.source, dir_times));
        assert_eq!(destination, source, "destination, and source");
    }

    /// The destination holds just this: `a/` is a directory, `a/x one` a file with its content.
    pub fn assert_holds(&self, expected: &str) {
        let expected: Vec<&str> = lines(expected).collect();
        assert_eq!(tree(&self.destination), expected);
    }

    /// As after an end of the process: what was not kept is gone.
    pub async fn restart(&mut self) {
        self.restart_in("state").await;
    }

    /// Goes on with a copy of the state directory that was made by [`Story::copy_state`].
    pub async fn restart_in(&mut self, state: &str) {
        while Arc::strong_count(&self.job.state) > 1 {
            tokio::task::yield_now().await; // tasks of a run that was dropped end when they are next polled
        }
        let nowhere = tempfile::tempdir().expect("a directory");
        self.job.state = Arc::new(State::open(nowhere.path()).expect("opens"));
        self.job.state = Arc::new(State::open(&self.dir.path().join(state)).expect("opens again"));
    }

    /// A backup of the state directory.
    pub fn copy_state(&self, name: &str) {
        self.job.state.commit(&[]).expect("flushes");
        copy_dir(&self.dir.path().join("state"), &self.dir.path().join(name));
    }
}

fn set_clock(source: &Memory, to: DateTime<Utc>) {
    NOW.set(to.timestamp_micros());
    source.set_clock(Time(to.timestamp_micros() * 1000));
}

fn job(source: &Memory, destination: &Memory, dir: &TempDir) -> Job {
    Job {
        source: Arc::new(source.clone()),
        destination: Arc::new(destination.clone()),
        pair: ("memory:source".into(), "memory:destination".into()),
        state: Arc::new(State::open(&dir.path().join("state")).expect("opens")),
        settings: Settings::default(),
        events: Arc::new(|_| {}),
        now,
    }
}

fn logs(log_dir: &Memory) -> Logs {
    Logs::new(Arc::new(log_dir.clone()), Arc::new(Memory::tree()), Zone::UTC, Scope::new("/data").expect("a root"))
}

pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// `write a/x one`, `append a/x more`, `mkdir a`, `delete a`, `rename a b` (to exactly there), `move a b` (into the
/// directory there), `chmod a 700`.
fn act(source: &Memory, deed: &str) {
    let words: Vec<&str> = deed.splitn(3, ' ').collect();
    let (at, rest) = (path(words[1]), words.get(2).copied().unwrap_or_default());
    match words[0] {
        "write" => source.write(&at, rest.to_owned()),
        "append" => {
            let before = source.snapshot()[&at].1.clone();
            source.write(&at, [&before, rest.as_bytes()].concat());
        }
        "mkdir" => source.make_dirs(&at),
        "delete" => source.delete(&at),
        "rename" => source.move_over(&at, &path(rest)),
        "move" => source.move_over(&at, &path(rest).join(at.name()).expect("a name")),
        "chmod" => source.set_mode(&at, u32::from_str_radix(rest, 8).expect("an octal mode")),
        other => panic!("no deed is called {other}"),
    }
}

/// What a NameNode of Hadoop 2.7 writes about it, after the time; every path lies below `/data`, unless it begins with a slash.
fn audit_line(deed: &str) -> String {
    let words: Vec<&str> = deed.splitn(3, ' ').collect();
    let full = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("/data/{path}") };
    let command = match words[0] {
        "write" => "create",
        "append" => "append",
        "mkdir" => "mkdirs",
        "delete" => "delete",
        "rename" | "move" => "rename",
        "chmod" => "setPermission",
        "read" => "getfileinfo",
        other => panic!("no deed is called {other}"),
    };
    let to = if command == "rename" { full(words[2]) } else { "null".to_owned() };
    record(command, &full(words[1]), &to)
}

pub fn record(command: &str, src: &str, dst: &str) -> String {
    format!(
        "INFO FSNamesystem.audit: allowed=true\tugi=etl (auth:SIMPLE)\tip=/10.0.0.7\tcmd={command}\tsrc={src}\tdst={dst}\t\
         perm=etl:hdfs:rw-r--r--\tproto=rpc"
    )
}

fn kept(store: &Memory) -> impl Iterator<Item = (RelPath, (Meta, bytes::Bytes))> {
    let reserved = |path: &RelPath| path.components().next() == Some(RESERVED.as_bytes());
    store.snapshot().into_iter().filter(move |(path, _)| !reserved(path))
}

pub fn tree(store: &Memory) -> Vec<String> {
    let line = |(path, (meta, bytes)): (RelPath, (Meta, bytes::Bytes))| match meta.kind {
        Kind::Dir => format!("{path}/"),
        Kind::File => format!("{path} {}", String::from_utf8_lossy(&bytes)).trim_end().to_owned(),
        Kind::Symlink => format!("{path} -> {}", String::from_utf8_lossy(&meta.target.unwrap_or_default())),
    };
    kept(store).map(line).collect()
}

fn attributes(store: &Memory, dir_times: bool) -> Vec<String> {
    let line = |(path, (meta, bytes)): (RelPath, (Meta, bytes::Bytes))| {
        let text = if bytes.len() < 100 { String::from_utf8_lossy(&bytes).into_owned() } else { sha256(&bytes) };
        let time = meta.mtime.filter(|_| dir_times || !meta.is_dir());
        format!("{path} {:?} {text:?} {:?} {time:?} {:?}", meta.kind, meta.target, meta.mode)
    };
    kept(store).map(line).collect()
}

pub async fn meta(store: &Memory, at: &str) -> Meta {
    store.lookup(&path(at)).await.expect("looks").expect(at)
}
