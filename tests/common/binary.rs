//! The real binary between two local folders: what tests type, what they see, and log lines as a NameNode writes them.
#![allow(dead_code, reason = "no test binary uses all")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The path in the log that is the source root.
pub const ROOT: &str = "/data";
/// Longer than anything that a test waits for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a source, a destination, logs, a change log and a state.
pub struct Stage {
    pub temp: tempfile::TempDir,
}

/// How a command ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Stage {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().expect("a folder");
        for dir in ["source", "logs"] {
            fs::create_dir(temp.path().join(dir)).expect("makes");
        }
        Self { temp }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("temporary names are text").to_owned()
    }

    /// Writes a file of the source, with the line that the NameNode would write for it.
    pub fn write(&self, path: &str, content: &str) {
        let file = self.at("source").join(path);
        fs::create_dir_all(file.parent().expect("is below the source")).expect("makes");
        fs::write(file, content).expect("writes");
        self.log(&line("create", path, None));
    }

    pub fn remove(&self, path: &str) {
        let file = self.at("source").join(path);
        if file.is_dir() { fs::remove_dir_all(file) } else { fs::remove_file(file) }.expect("removes");
        self.log(&line("delete", path, None));
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at("source").join(from), self.at("source").join(to)).expect("renames");
        self.log(&line("rename", from, Some(to)));
    }

    /// Appends to the log that is being written.
    pub fn log(&self, text: &str) {
        append(&self.at("logs/hdfs-audit.log"), text);
    }

    pub fn pair(&self) -> Vec<String> {
        let dir = |option: &str, name: &str| [option.to_owned(), self.text(name)];
        [dir("--src", "source"), dir("--dest", "destination"), dir("--state-dir", "state")].concat()
    }

    pub fn logs(&self) -> Vec<String> {
        let mut args = vec!["--audit-log-dir".to_owned(), self.text("logs")];
        args.extend(["--change-log-dir".to_owned(), self.text("changes")]);
        args.extend(["--audit-root".to_owned(), ROOT.to_owned()]);
        args
    }

    pub fn command(&self, args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncd"));
        command.args(args).current_dir(self.temp.path()).env_remove("SYNCD_LOG").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[String]) -> Ran {
        self.command(args).output().expect("the binary starts").into()
    }

    /// `syncd WORDS… --src … --dest … --state-dir …`
    pub fn pass(&self, words: &str) -> Ran {
        self.run(&[split(words), self.pair()].concat())
    }

    pub fn import(&self) -> Ran {
        self.run(&[split("migrate-import --audit-log-dir"), vec![self.text("logs")], self.pair()].concat())
    }

    pub fn mkchangelog(&self, more: &str) -> Ran {
        let state = vec!["--state-dir".to_owned(), self.text("state")];
        self.run(&[split("mkchangelog"), self.logs(), state, split(more)].concat())
    }

    pub fn apply(&self, more: &str) -> Ran {
        let changes = vec!["--change-log-dir".to_owned(), self.text("changes")];
        self.run(&[split("apply --update"), changes, self.pair(), split(more)].concat())
    }

    pub fn status(&self) -> Ran {
        self.run(&[split("status --state-dir"), vec![self.text("state")]].concat())
    }

    /// The arguments of `run`.
    pub fn daemon(&self) -> Vec<String> {
        [split("run"), self.pair(), self.logs()].concat()
    }

    /// Starts a command whose output goes to files that tests can read meanwhile.
    pub fn start(&self, args: &[String]) -> Running {
        let file = |name| File::create(self.at(name)).expect("makes");
        let child = self.command(args).stdout(file("stdout")).stderr(file("stderr")).spawn().expect("starts");
        Running(child)
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.at("stderr")).expect("reads")
    }

    /// What differs between source and destination, by a walk of our own.
    pub fn differences(&self) -> Vec<String> {
        let (source, destination) = (walk(&self.at("source")), walk(&self.at("destination")));
        let missing = source.iter().filter(|(path, seen)| destination.get(*path) != Some(seen));
        let extra = destination.keys().filter(|path| !source.contains_key(*path));
        let missing = missing.map(|(path, seen)| format!("{path}: {seen:.80?} is {:.80?}", destination.get(path)));
        missing.chain(extra.map(|path| format!("{path}: should not be there"))).collect()
    }

    /// What is left below the destination's folder for things on their way, and beside it.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let reserved = self.at("destination/.syncd");
        if !reserved.exists() { Vec::new() } else { files_below(&reserved) }
    }
}

/// A process that ends with its test.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill runs");
        assert!(sent.success(), "the process is gone");
    }

    /// Waits for its end; the exit code, if it was not a signal that ended it.
    pub fn end(mut self) -> Option<i32> {
        until("the process ends", || self.0.try_wait().expect("waits").is_some());
        self.0.wait().expect("waits").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("is text");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// The command ended as expected, or the test fails with all that it said.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.err.contains(part), "{part:?} is not in stderr:\n{}", self.err);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.matches('\n').count(), 1, "one line on stdout:\n{}", self.out);
        serde_json::from_str(&self.out).expect("one JSON document and nothing else")
    }
}

/// Looks until it is so; how long that took.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    began.elapsed()
}

pub fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

pub fn append(file: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(file).expect("opens");
    file.write_all(text.as_bytes()).expect("appends");
}

/// A line of the HDFS audit log, of now.
pub fn line(cmd: &str, src: &str, dst: Option<&str>) -> String {
    line_at(syncd::clock::now(), cmd, src, dst)
}

pub fn line_at(time: chrono::DateTime<chrono::Utc>, cmd: &str, src: &str, dst: Option<&str>) -> String {
    let time = time.format("%Y-%m-%d %H:%M:%S,%3f");
    let dst = dst.map_or("null".to_owned(), |dst| format!("{ROOT}/{dst}"));
    format!(
        "{time} INFO FSNamesystem.audit: allowed=true\tugi=etl (auth:SIMPLE)\tip=/10.0.0.7\tcmd={cmd}\t\
         src={ROOT}/{src}\tdst={dst}\tperm=etl:hadoop:rw-r--r--\tproto=rpc\n"
    )
}

/// What stands at a path: kind, mode, content or target, and of files the time.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    kind: char,
    mode: u32,
    time: (i64, i64),
    content: Vec<u8>,
}

/// Everything below a root but what syncd keeps for itself, by relative path.
pub fn walk(root: &Path) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(dir) = ahead.pop() {
        for item in fs::read_dir(&dir).expect("lists") {
            let path = item.expect("lists").path();
            let name = path.strip_prefix(root).expect("is below").to_string_lossy().into_owned();
            if name == ".syncd" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("looks");
            if meta.is_dir() {
                ahead.push(path.clone());
            }
            all.insert(name, Seen::of(&path, &meta));
        }
    }
    all
}

impl Seen {
    fn of(path: &Path, meta: &fs::Metadata) -> Self {
        let mode = meta.permissions().mode() & 0o7777;
        let time = (meta.mtime(), meta.mtime_nsec());
        if meta.is_dir() {
            Self { kind: 'd', mode, time: (0, 0), content: Vec::new() }
        } else if meta.is_symlink() {
            let target = fs::read_link(path).expect("reads").into_os_string().into_encoded_bytes();
            Self { kind: 'l', mode: 0, time: (0, 0), content: target }
        } else {
            Self { kind: 'f', mode, time, content: fs::read(path).expect("reads") }
        }
    }
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut ahead) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = ahead.pop() {
        for item in fs::read_dir(&dir).expect("lists") {
            let item = item.expect("lists");
            if item.file_type().expect("looks").is_dir() { ahead.push(item.path()) } else { files.push(item.path()) }
        }
    }
    files
}
