//! The whole job on a recorded NameNode log, in a folder of its own: what `syncd demo` shows, and what the tests over
//! all recordings are made of.

use crate::apply::Mode;
use crate::changelog::Manifest;
use crate::checkpoint::State;
use crate::job::{Applying, Job, Settings};
use crate::report::{Report, bytes, duration};
use crate::round::Logs;
use crate::scope::Scope;
use crate::status::Page;
use crate::store::count::{Calls, Counted};
use crate::store::local::Local;
use crate::zone::Zone;
use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Where a recording's namespace and log are.
const ROOT: &str = "/data";
const STATES: [&str; 3] = [
    include_str!("../testdata/recorded/hdfs-3.4.1/four-clients/state-0.jsonl"),
    include_str!("../testdata/recorded/hdfs-3.4.1/four-clients/state-1.jsonl"),
    include_str!("../testdata/recorded/hdfs-3.4.1/four-clients/state-2.jsonl"),
];
const LOGS: [&[u8]; 2] = [
    include_bytes!("../testdata/recorded/hdfs-3.4.1/four-clients/hdfs-audit-1.log"),
    include_bytes!("../testdata/recorded/hdfs-3.4.1/four-clients/hdfs-audit-2.log"),
];

/// A namespace as it was listed, below its root.
pub struct Listing(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    size: usize,
    /// Milliseconds since 1970.
    mtime: u64,
    mode: String,
    #[serde(default)]
    md5: String,
}

impl Listing {
    /// Reads JSON lines; what is not below `root` is left out.
    ///
    /// # Errors
    ///
    /// A line is not an entry of a listing.
    pub fn parse(lines: &str, root: &str) -> anyhow::Result<Self> {
        let mut entries = BTreeMap::new();
        for line in lines.lines() {
            let entry: Entry = serde_json::from_str(line).with_context(|| format!("listing: {line}"))?;
            if let Some(path) = entry.path.strip_prefix(root).and_then(|path| path.strip_prefix('/')) {
                entries.insert(PathBuf::from(path), entry);
            }
        }
        Ok(Self(entries))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A file with a plain name.
    #[must_use]
    pub fn first_file(&self) -> Option<&Path> {
        let plain =
            |path: &Path| path.as_os_str().as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/');
        self.0.iter().find(|(path, entry)| !entry.is_dir() && plain(path)).map(|(path, _)| path.as_path())
    }

    /// Makes the folder hold exactly this namespace, as a live source would have come to: paths, kinds, contents made from
    /// their digests, times and modes.
    ///
    /// # Errors
    ///
    /// The folder cannot be changed.
    pub fn stage(&self, root: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(root)?;
        self.remove_others(root, Path::new(""))?;
        for (path, entry) in &self.0 {
            entry.make(&root.join(path)).with_context(|| format!("making {}", path.display()))?;
        }
        for (path, entry) in self.0.iter().rev() {
            entry.set_attrs(&root.join(path))?;
        }
        Ok(())
    }

    fn remove_others(&self, root: &Path, dir: &Path) -> anyhow::Result<()> {
        for item in fs::read_dir(root.join(dir))? {
            let item = item?;
            let path = dir.join(item.file_name());
            let is_dir = item.file_type()?.is_dir();
            let stays = self.0.get(&path).is_some_and(|entry| entry.is_dir() == is_dir);
            match (stays, is_dir) {
                (true, true) => self.remove_others(root, &path)?,
                (true, false) => {}
                (false, true) => fs::remove_dir_all(root.join(&path))?,
                (false, false) => fs::remove_file(root.join(&path))?,
            }
        }
        Ok(())
    }

    /// What the folder has that differs from this listing, a line each; empty if nothing does.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn differences(&self, root: &Path) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (path, entry) in &self.0 {
            if let Some(what) = entry.differs(&root.join(path))? {
                found.push(format!("{}: {what}", path.as_os_str().as_bytes().escape_ascii()));
            }
        }
        self.extras(root, Path::new(""), &mut found)?;
        Ok(found)
    }

    fn extras(&self, root: &Path, dir: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
        for item in fs::read_dir(root.join(dir))? {
            let item = item?;
            let path = dir.join(item.file_name());
            if path == Path::new(crate::store::RESERVED) {
                continue;
            }
            if !self.0.contains_key(&path) {
                found.push(format!("{}: should not be there", path.as_os_str().as_bytes().escape_ascii()));
            } else if item.file_type()?.is_dir() {
                self.extras(root, &path, found)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.kind == "dir"
    }

    /// Bytes that are the same for the same digest and size.
    fn content(&self) -> Vec<u8> {
        self.md5.bytes().cycle().take(self.size).collect()
    }

    fn make(&self, path: &Path) -> std::io::Result<()> {
        match (self.is_dir(), path.is_dir()) {
            (true, true) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
            (true, false) => fs::create_dir(path),
            (false, _) if fs::read(path).is_ok_and(|there| there == self.content()) => Ok(()),
            (false, _) => fs::write(path, self.content()),
        }
    }

    fn set_attrs(&self, path: &Path) -> std::io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(self.bits()))?;
        let time = UNIX_EPOCH + Duration::from_millis(self.mtime);
        fs::File::open(path)?.set_times(fs::FileTimes::new().set_modified(time))
    }

    /// `rwxr-x--t` as twelve bits.
    fn bits(&self) -> u32 {
        let bits = self.mode.chars().fold(0, |bits, c| bits << 1 | u32::from(!matches!(c, '-' | 'T')));
        if self.mode.ends_with(['t', 'T']) { bits | 0o1000 } else { bits }
    }

    fn differs(&self, path: &Path) -> anyhow::Result<Option<&'static str>> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(Some("is missing")) };
        if meta.is_dir() != self.is_dir() {
            return Ok(Some("is of another kind"));
        }
        if meta.permissions().mode() & 0o7777 != self.bits() {
            return Ok(Some("has another mode"));
        }
        if self.is_dir() {
            return Ok(None);
        }
        if meta.modified()? != UNIX_EPOCH + Duration::from_millis(self.mtime) {
            return Ok(Some("has another time"));
        }
        Ok((fs::read(path)? != self.content()).then_some("has other content"))
    }
}

/// What the demo measured, for machines.
#[derive(Debug, Serialize)]
pub struct Told {
    pub import: Report,
    pub windows: Vec<Window>,
    pub differences: u64,
    pub sentence: String,
    pub folder: Option<PathBuf>,
}

/// One window of the demo.
#[derive(Debug, Serialize)]
pub struct Window {
    pub lines: u64,
    pub changes: u64,
    pub report: Report,
    pub source_calls: Calls,
    pub destination_calls: Calls,
    /// What looking at everything on both sides would have taken.
    pub rescan_entries: u64,
    pub took_ms: u64,
}

/// Two folders, the state between them, and counters around both stores.
struct Stage {
    folder: PathBuf,
    source: Arc<Counted>,
    destination: Arc<Counted>,
    job: Job,
    logs: Logs,
}

/// Shows the job. `say` gets the lines for people.
///
/// # Errors
///
/// The temporary folder cannot be used, or the job failed.
pub async fn run(keep: bool, say: impl Fn(&str)) -> anyhow::Result<Told> {
    let temp = tempfile::Builder::new().prefix("syncd-demo-").tempdir().context("making a temporary folder")?;
    let listings: Vec<Listing> = STATES.iter().map(|lines| Listing::parse(lines, ROOT)).collect::<Result<_, _>>()?;
    say(
        "The demo replays what four clients did to a real HDFS 3.4.1 for two windows of half a minute each, colliding on",
    );
    say("twelve directories: the NameNode's own audit log, and its own listings before, between and after.");
    say("");
    listings[0].stage(&temp.path().join("source"))?;
    let mut stage = Stage::open(temp.path()).await?;
    let import = stage.import(&say).await?;
    let mut windows = Vec::new();
    for (number, log) in LOGS.iter().enumerate() {
        listings[number + 1].stage(&temp.path().join("source"))?;
        windows.push(stage.window(number + 1, log, &listings[number + 1], &say).await?);
    }
    stage.job.verify(Mode::Look).await?;
    let differences = listings[2].differences(&temp.path().join("destination"))?;
    differences.iter().for_each(|difference| say(&format!("  DIFFERS: {difference}")));
    say(&format!(
        "verify   every path, kind, size, byte, mode and file time against the listing: {} differences",
        differences.len()
    ));
    anyhow::ensure!(differences.is_empty(), "the destination differs from the recorded listing");
    stage.calls();
    let line = stage.write_once_more(listings[2].first_file().context("the listing has no file")?)?;
    say("");
    say("A calm day: one file is written once more.");
    windows.push(stage.window(3, line.as_bytes(), &listings[2], &say).await?);
    let page = Page::of(&stage.job.state, None)?;
    say("");
    say(&format!("status   {}", page.sentence));
    say_next(&say);
    drop(stage);
    let folder = keep.then(|| temp.keep());
    folder.iter().for_each(|folder| say(&format!("Everything is kept in {}", folder.display())));
    Ok(Told { import, windows, differences: 0, sentence: page.sentence, folder })
}

/// When the recording began: to the import it is now.
fn before_all() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_237_765, 0).expect("a time of 2026")
}

/// A minute after the calm day: to the windows it is now, so that nothing in them was written a moment ago.
fn after_all() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_237_960, 0).expect("a time of 2026")
}

impl Stage {
    async fn open(folder: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| folder.join(name);
        for dir in ["logs", "changes"] {
            fs::create_dir(at(dir))?;
        }
        let counted = |path: &Path| anyhow::Ok(Arc::new(Counted::new(Arc::new(Local::open(path)?))));
        let (source, destination) = (counted(&at("source"))?, counted(&at("destination"))?);
        let state = Arc::new(State::open(&at("state"))?);
        let job = Job {
            source: source.clone(),
            destination: destination.clone(),
            pair: (at("source").display().to_string(), at("destination").display().to_string()),
            state,
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now: before_all,
        };
        let logs = Logs::new(
            Arc::new(Local::open(&at("logs"))?),
            Arc::new(Local::open(&at("changes"))?),
            Zone::UTC,
            Scope::new(ROOT)?,
        );
        Ok(Self { folder: folder.to_owned(), source, destination, job, logs })
    }

    async fn import(&mut self, say: &impl Fn(&str)) -> anyhow::Result<Report> {
        let began = Instant::now();
        let report = self.job.import(Some(Vec::new())).await?;
        let took = duration(began.elapsed());
        say(&format!(
            "import   {} files, {} directories, {} in {took}",
            report.copied_files,
            report.made_dirs,
            bytes(report.copied_bytes)
        ));
        self.calls();
        self.job.now = after_all;
        Ok(report)
    }

    /// Writes a file at the source, and returns the line that a NameNode would have written about it.
    fn write_once_more(&self, path: &Path) -> anyhow::Result<String> {
        let file = self.folder.join("source").join(path);
        fs::write(&file, "written on a calm day\n")?;
        let time = UNIX_EPOCH + Duration::from_secs(1_795_237_900);
        fs::File::open(&file)?.set_times(fs::FileTimes::new().set_modified(time))?;
        Ok(format!(
            "2026-11-21 05:11:40,000 INFO FSNamesystem.audit: allowed=true\tugi=demo (auth:SIMPLE)\tip=/127.0.0.1\t\
             cmd=create\tsrc={ROOT}/{}\tdst=null\tperm=demo:demo:rw-r--r--\tproto=rpc\n",
            path.display()
        ))
    }

    async fn window(&self, number: usize, log: &[u8], now: &Listing, say: &impl Fn(&str)) -> anyhow::Result<Window> {
        fs::write(self.folder.join(format!("logs/hdfs-audit.log.{number}")), log)?;
        let began = Instant::now();
        let made = self.logs.make(Some(&*self.job.state), after_all()).await?;
        let applying = self.job.apply(&*self.logs.change_log, Mode::Act).await?;
        let took = began.elapsed();
        let (source_calls, destination_calls) = self.calls();
        let manifest = made.window.context("the recorded log gave no window")?;
        let window = Window {
            lines: manifest.lines,
            changes: applying.changes,
            report: applying.report.clone(),
            source_calls,
            destination_calls,
            rescan_entries: 2 * now.len() as u64,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        tell(number, &manifest, &applying, &window, took, say);
        Ok(window)
    }

    fn calls(&self) -> (Calls, Calls) {
        (self.source.take(), self.destination.take())
    }
}

fn tell(number: usize, manifest: &Manifest, applying: &Applying, window: &Window, took: Duration, say: &impl Fn(&str)) {
    let report = &applying.report;
    let total = window.source_calls.total() + window.destination_calls.total();
    say("");
    say(&format!(
        "window {number} {} log lines, {} of them changes, {} paths settled, in {}",
        manifest.lines,
        window.changes,
        report.settled_paths,
        duration(took)
    ));
    say(&format!(
        "         {} moved, {} files copied ({}), {} compared, {} files and {} directories removed, {} attributes set",
        report.moved_paths,
        report.copied_files,
        bytes(report.copied_bytes),
        report.compared_files,
        report.removed_files,
        report.removed_dirs,
        report.attrs_paths
    ));
    say(&format!(
        "         {total} calls to the two stores; a full rescan lists {} entries on each pass, however few change",
        window.rescan_entries
    ));
}

fn say_next(say: &impl Fn(&str)) {
    say("");
    say("For your own data:");
    say(
        "  syncd migrate-import --src hdfs://NAMENODE:8020/data --dest s3://BUCKET/data --state-dir DIR --audit-log-dir LOGS",
    );
    say("  syncd run --audit-log-dir LOGS --change-log-dir DIR/changes --src … --dest … --state-dir DIR");
    say("  syncd status --state-dir DIR");
}
