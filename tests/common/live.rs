//! syncd between real servers while their clients keep writing: copies that are kept in step, and what both sides hold
//! at the end. Each trial is one story and prints what it measured.

use super::hdfs::{Daemon, Hdfs, Holder, wait_for};
use super::minio::Minio;
use super::walk::{self, Tree, differences};
use futures::stream::{self, StreamExt};
use hdfs_native::{Client as HdfsClient, WriteOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use syncd::apply::Mode;
use syncd::checkpoint::{Key, State};
use syncd::job::{Job, JobError, Settings};
use syncd::report::{Did, Event, Report};
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::store::Store;
use syncd::store::hdfs::{Hdfs as HdfsStore, HdfsOptions};
use syncd::store::local::Local;
use syncd::zone::Zone;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// The zone of the audit log of the clusters that these trials want: one that is not the machine's.
pub const TIMEZONE: &str = "Asia/Shanghai";

const CLIENTS: &str = "4";
/// So long, and so many windows at least.
const WRITING: Duration = Duration::from_secs(25);
const WINDOWS_MIN: usize = 5;
const WINDOW_EVERY: Duration = Duration::from_millis(1500);
/// A pass that finds nothing changed costs little, and an open or fresh file needs some.
const PASSES_MAX: usize = 60;
const PASS_EVERY: Duration = Duration::from_millis(500);

/// Windows are made and applied while four clients write; when they have stopped both copies equal the source.
pub async fn concurrent_writers(cluster: &Hdfs, minio: &Minio) {
    let client = walk::hdfs_client(&cluster.uri);
    client.mkdirs("/live", 0o755, true).await.expect("a root");
    write(&client, "/live/keep", b"so that the root is never empty").await;
    let writers = Crew::start(cluster, "/live", 20_261_121);
    until("the writers have built something", async || count(&client, "/live").await > 60).await;
    let mut copies =
        [Follower::to_local(cluster, "/live").await, Follower::to_minio(cluster, "/live", minio, "live").await];
    each(&mut copies, async |copy| copy.import().await).await;
    let mut clock = every(WINDOW_EVERY);
    let began = Instant::now();
    for window in 0.. {
        if window >= WINDOWS_MIN && began.elapsed() > WRITING {
            break;
        }
        clock.tick().await;
        each(&mut copies, async |copy| copy.round().await.map(drop).expect("a window")).await;
    }
    let summary = writers.stop();
    each(&mut copies, async |copy| copy.round().await.map(drop).expect("the last window")).await;
    close_what_they_left_open(&client, "/live").await;
    each(&mut copies, async |copy| copy.come_to_rest().await).await;
    let source = walk::hdfs(&client, "/live").await;
    for copy in &mut copies {
        copy.assert_equal(&source).await;
        copy.assert_rotated();
        println!("  {}: {}", copy.name, copy.words(source.len()));
    }
    println!("  writers: {summary}");
}

/// Files that are open during the import, or over three windows, or below a directory that is renamed meanwhile: nothing
/// of them is visible before they are closed, and after that they are whole, although no line says so.
pub async fn files_held_open(cluster: &Hdfs, minio: &Minio) {
    let client = walk::hdfs_client(&cluster.uri);
    for path in ["/held/kept", "/held/old/log", "/held/old/closed"] {
        write(&client, path, &pattern(1000)).await;
    }
    let early = cluster.hold_all("hold", &["/held/early", "/held/d/early"]);
    let mut early = opened(early, "/held/early");
    early.tell("write 1000").expect("writes");
    early.tell("hflush").expect("flushes");
    let mut copies =
        [Follower::to_local(cluster, "/held").await, Follower::to_minio(cluster, "/held", minio, "held").await];
    each(&mut copies, async |copy| copy.import().await).await;
    let late = opened(cluster.hold_all("hold", &["/held/late", "/held/old/late"]), "/held/late");
    let appended = opened(cluster.hold_all("openappend", &["/held/kept", "/held/old/log"]), "/held/kept");
    let mut holders = [early, late, appended];
    for window in 0..3 {
        for (holder, bytes) in holders.iter_mut().zip([700, 1 << 20, 300]) {
            holder.tell(&format!("write {bytes}")).expect("writes");
            holder.tell(if window == 1 { "length" } else { "hflush" }).expect("flushes");
        }
        if window == 1 {
            client.rename("/held/old", "/held/new", false).await.expect("renames");
        }
        // A log that rotates while it is read is read in the next pass, and the line of the rename may stand in it.
        for _ in 0..3 {
            each(&mut copies, async |copy| copy.round().await.map(drop).expect("a window")).await;
        }
        for copy in &copies {
            nothing_half_written(copy, window).await;
        }
    }
    for holder in &mut holders {
        holder.tell("close").expect("closes");
    }
    let source = walk::hdfs(&client, "/held").await;
    assert_eq!(source["late"].content.as_deref(), Some(&*pattern(3 << 20)));
    for copy in &mut copies {
        let round = copy.round().await.expect("a pass");
        let there = copy.tree().await;
        assert_eq!(differences(&source, &there), [""; 0], "{}: after one pass, without a line", copy.name);
        copy.come_to_rest().await;
        copy.assert_equal(&source).await;
        println!("  {}: {}; after the close: {}", copy.name, copy.words(source.len()), round.report);
    }
}

fn opened(holder: Result<Holder, String>, what: &str) -> Holder {
    holder.unwrap_or_else(|error| panic!("{what}: {error}"))
}

async fn nothing_half_written(copy: &Follower, window: usize) {
    let there = copy.tree().await;
    let (gone, dir) = if window == 0 { ("new", "old") } else { ("old", "new") };
    let here = format!("{} after window {window}: {:?}", copy.name, there.keys());
    for open in ["early", "d/early", "late", "old/late", "new/late"] {
        assert!(!there.contains_key(open), "{open} is visible: {here}");
    }
    assert!(!there.keys().any(|path| path.starts_with(gone)), "{gone} is there: {here}");
    for kept in ["kept", &format!("{dir}/log")] {
        let bytes = there.get(kept).and_then(|seen| seen.content.as_deref());
        assert!(bytes.is_none_or(|bytes| bytes == pattern(1000)), "{kept} shows a part of what is written: {here}");
    }
    let closed = there.get(&format!("{dir}/closed")).and_then(|seen| seen.content.as_deref());
    assert_eq!(closed, Some(&*pattern(1000)), "{here}");
}

/// The DataNode dies in the middle of a window, then the NameNode: what could not be had is owed, a pass without its NameNode
/// fails and leaves the checkpoint, and later passes converge.
pub async fn outages(cluster: &mut Hdfs) {
    const MANY: usize = 400;
    const FEW: usize = 60;
    let client = walk::hdfs_client(&cluster.uri);
    let fill = async |dir: &str, files: usize| {
        let paths = stream::iter(0..files).map(|nr| format!("/out/{dir}/f{nr}"));
        paths
            .map(|path| async { write(&client, &{ path }, &pattern(70_000)).await })
            .buffer_unordered(16)
            .count()
            .await;
    };
    fill("zero", MANY).await;
    let mut copy = Follower::to_local(cluster, "/out").await;
    copy.import().await;
    fill("one", MANY).await;
    copy.at_next_copy(|| cluster.stop_datanode()).await.expect("the NameNode answers");
    let owed = copy.owed().len();
    assert!(owed > 0, "the DataNode died too late: {}", copy.words(0));
    cluster.start_datanode().expect("the DataNode again");
    copy.come_to_rest().await;
    copy.assert_equal(&walk::hdfs(&client, "/out").await).await;

    fill("two", MANY).await;
    client.rename("/out/zero", "/out/three", false).await.expect("renames");
    client.delete("/out/one", true).await.expect("deletes");
    let before = copy.job.state.get::<syncd::changelog::Applied>(Key::Applied).expect("a state");
    let error = copy.at_next_copy(|| cluster.stop_namenode()).await.expect_err("the NameNode is dead");
    assert!(!error.is_refusal(), "{error}");
    let error = copy.round().await.expect_err("the NameNode is still dead");
    assert!(!error.is_refusal(), "{error}");
    let after = copy.job.state.get::<syncd::changelog::Applied>(Key::Applied).expect("a state");
    assert_eq!(after, before, "the checkpoint moved");
    cluster.start_namenode().expect("the NameNode again");
    copy.come_to_rest().await;
    copy.assert_equal(&walk::hdfs(&client, "/out").await).await;

    for dir in ["four", "five"] {
        fill(dir, FEW).await;
        let back = copy.at_next_copy(|| match dir {
            "four" => {
                cluster.stop_datanode();
                cluster.start_datanode().expect("the DataNode again");
            }
            _ => {
                cluster.stop_namenode();
                cluster.start_namenode().expect("the NameNode again");
            }
        });
        match back.await {
            Ok(applied) => assert!(applied.windows > 0, "the window was applied, {} paths are owed", copy.owed().len()),
            Err(error) => assert!(!error.is_refusal(), "{error}"),
        }
        copy.come_to_rest().await;
    }
    let source = walk::hdfs(&client, "/out").await;
    copy.assert_equal(&source).await;
    println!("  {}; {owed} paths were owed while the DataNode was dead; then: {error}", copy.words(source.len()));
}

/// The program itself, as an operator runs it, from HDFS to MinIO.
pub async fn the_program(cluster: &Hdfs, minio: &Minio) {
    let client = walk::hdfs_client(&cluster.uri);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (source, destination) = (format!("{}/program", cluster.uri), format!("s3://{}/program", minio.bucket));
    let syncd = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncd"));
        command.envs(minio.credentials()).args(args);
        let stores = ["--s3-endpoint", &minio.endpoint, "--hdfs-http", &cluster.http];
        command.args(["--src", &source, "--dest", &destination, "--state-dir", &at("state")]).args(stores);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        said
    };
    let logs = cluster.audit_log_dir.display().to_string();
    writers(cluster, "/program", "150", "1");
    syncd(&["migrate-import", "--audit-log-dir", &logs]);
    writers(cluster, "/program", "150", "2");
    let pass = ["run", "--once", "--audit-log-dir", &logs, "--change-log-dir", &at("changes")];
    let said = syncd(&[&pass[..], &["--log-timezone", TIMEZONE]].concat());
    close_what_they_left_open(&client, "/program").await;
    // A truncated file is open until its last block is cut, which the DataNode does in its own time.
    until("a pass leaves nothing open", async || {
        !syncd(&[&pass[..], &["--log-timezone", TIMEZONE]].concat()).contains("still being written")
    })
    .await;
    let held = walk::hdfs(&client, "/program").await;
    let there = walk::s3(&minio.client(), &minio.bucket, "program").await;
    assert_eq!(differences(&held, &there), [""; 0], "{said}");
    syncd(&["verify", "--content"]);
    println!("  {} paths compared; the first pass said: {}", held.len(), said.trim().replace('\n', " | "));
}

/// Where an object hides keys from listings, nothing is deleted that a look by name still finds.
pub async fn hidden_keys(minio: &Minio) {
    for to_local in [true, false] {
        let (from, to) = if to_local { ("hides-1", "") } else { ("hides-2", "hides-2-copy") };
        for key in ["d/a/b", "d/a/c", "d/z", "e/x"] {
            minio.write(&format!("{from}/{key}")).await.expect("writes");
        }
        let source: Arc<dyn Store> = Arc::new(minio.store(from).await);
        let logs = tempfile::tempdir().expect("a directory");
        log(logs.path(), &["cmd=create\tsrc=/before"]);
        let place = if to_local { Place::local() } else { Place::minio(minio, to) };
        let mut copy = Follower::of(source, format!("s3://{from}"), place, logs.path(), "/", "UTC").await;
        copy.import().await;
        let whole = copy.tree().await;
        assert!(["d/a/b", "d/a/c", "d/z", "e/x"].iter().all(|path| whole.contains_key(*path)), "{:?}", whole.keys());

        minio.write(&format!("{from}/d/a")).await.expect("writes");
        for lines in [&["cmd=create\tsrc=/d/a"][..], &["cmd=whoKnows\tsrc=/d/a", "cmd=delete\tsrc=/d/a/c"]] {
            log(logs.path(), lines);
            copy.round().await.expect("a window");
            copy.still_holds(&["d/a/b", "d/a/c", "d/z"]).await;
        }
        copy.job.verify(Mode::Act).await.expect("repairs");
        copy.still_holds(&["d/a/b", "d/a/c", "d/z"]).await;
        let owed = copy.owed();
        assert_eq!(owed.iter().any(|line| line.starts_with("d/a: ")), to_local, "a bucket can hold both: {owed:?}");
        assert_eq!(copy.place.holds("d/a").await, !to_local);

        for key in ["d/a", "d/a/c"] {
            let key = format!("{from}/{key}");
            minio.client().delete_object().bucket(&minio.bucket).key(&key).send().await.expect("deletes");
        }
        log(logs.path(), &["cmd=delete\tsrc=/d/a", "cmd=delete\tsrc=/d/a/c"]);
        copy.come_to_rest().await;
        let there = copy.tree().await;
        assert!(!there.contains_key("d/a/c") && there["d/a/b"].content == whole["d/a/b"].content, "{:?}", there.keys());
        assert_eq!(copy.job.verify(Mode::Look).await.expect("verifies").differing_paths, 0);
        println!("  {}: {}; while both were there: {owed:?}", copy.name, copy.words(there.len()));
    }
}

/// Lines of an HDFS log name paths as well as any.
pub(super) fn log(dir: &Path, lines: &[&str]) {
    use std::io::Write;
    let time = syncd::clock::now().format("%Y-%m-%d %H:%M:%S,%3f");
    let mut file = std::fs::File::options().create(true).append(true).open(dir.join("audit.log")).expect("a log");
    for line in lines {
        let dst = if line.contains("\tdst=") { "" } else { "\tdst=null" };
        writeln!(file, "{time} INFO FSNamesystem.audit: allowed=true\tugi=u (auth:SIMPLE)\tip=/127.0.0.1\t{line}{dst}\tperm=null\tproto=rpc")
            .expect("a line");
    }
}

/// Clients that write until they are stopped, or until this is dropped.
pub(super) struct Crew {
    process: Daemon,
    stop: PathBuf,
    _dir: TempDir,
}

impl Crew {
    fn start(cluster: &Hdfs, root: &str, seed: u64) -> Self {
        Self::of(cluster, &["run", &cluster.uri, root, CLIENTS, "0", &seed.to_string()], &[])
    }

    /// Arguments of `Writers.java` before its stop file, and after it.
    pub(super) fn of(cluster: &Hdfs, before: &[&str], after: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let stop = dir.path().join("stop");
        let mut command = cluster.writers();
        command.args(before).arg(&stop).args(after);
        let process = Daemon::spawn(&command, &dir.path().join("said")).expect("writers");
        Self { process, stop, _dir: dir }
    }

    /// What they did, in their own words.
    pub(super) fn stop(&self) -> String {
        std::fs::write(&self.stop, "").expect("a stop file");
        let summary =
            || self.process.last_words().lines().last().filter(|line| line.starts_with("seed=")).map(str::to_owned);
        wait_for("the writers stop", || summary().is_some()).expect("in time");
        summary().unwrap_or_default()
    }
}

/// So many operations of four clients each, and nobody writes any more.
fn writers(cluster: &Hdfs, root: &str, operations: &str, seed: &str) {
    let mut command = cluster.writers();
    let output = command.args(["run", &cluster.uri, root, CLIENTS, operations, seed]).output().expect("writers");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) async fn write(client: &HdfsClient, path: &str, bytes: &[u8]) {
    let mut writer = client.create(path, WriteOptions::default().overwrite(true)).await.expect(path);
    writer.write_bytes(bytes.to_vec().into()).await.expect(path);
    writer.close().await.expect(path);
}

/// A client whose close was refused, since another one was quicker, leaves its file open until its lease ends, after an hour.
/// An operator ends it sooner, and no line says so.
pub(super) async fn close_what_they_left_open(client: &HdfsClient, root: &str) {
    for file in client.list_status(root, true).await.expect("nobody writes").into_iter().filter(|entry| !entry.isdir) {
        client.recover_lease(&file.path).await.expect("a file");
    }
}

pub(super) async fn count(client: &HdfsClient, root: &str) -> usize {
    // Directories vanish while they are listed.
    client.list_status(root, true).await.map_or(0, |entries| entries.len())
}

/// What `Writers.java` writes from the beginning of a file.
pub(super) fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|offset| (offset * 31 % 251) as u8).collect()
}

pub(super) fn every(period: Duration) -> tokio::time::Interval {
    let mut clock = tokio::time::interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut clock = every(PASS_EVERY);
    for _ in 0..PASSES_MAX * 2 {
        clock.tick().await;
        if holds().await {
            return;
        }
    }
    panic!("not in time: {what}");
}

async fn each(copies: &mut [Follower], work: impl AsyncFn(&mut Follower)) {
    futures::future::join_all(copies.iter_mut().map(|copy| work(copy))).await;
}

/// Where a copy is.
pub(super) enum Place {
    Local(TempDir),
    Minio { client: Box<aws_sdk_s3::Client>, options: Box<syncd::store::s3::S3Options>, bucket: String, prefix: String },
}

impl Place {
    pub(super) fn local() -> Self {
        Self::Local(tempfile::tempdir().expect("a directory"))
    }

    fn minio(minio: &Minio, prefix: &str) -> Self {
        Self::minio_by(minio, minio.options(), prefix)
    }

    /// The store goes another way there than the walks that look after it.
    pub(super) fn minio_by(minio: &Minio, options: syncd::store::s3::S3Options, prefix: &str) -> Self {
        let (client, options) = (Box::new(minio.client()), Box::new(options));
        Self::Minio { client, options, bucket: minio.bucket.clone(), prefix: prefix.to_owned() }
    }

    async fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Local(dir) => local(&dir.path().join("copy")),
            Self::Minio { options, bucket, prefix, .. } => {
                Arc::new(syncd::store::s3::S3::connect(bucket, prefix, options).await.expect("a good prefix"))
            }
        }
    }

    async fn tree(&self) -> Tree {
        match self {
            Self::Local(dir) => walk::local(&dir.path().join("copy")),
            Self::Minio { client, bucket, prefix, .. } => walk::s3(client, bucket, prefix).await,
        }
    }

    /// Asked for by name: a listing may hide it.
    async fn holds(&self, path: &str) -> bool {
        match self {
            Self::Local(dir) => dir.path().join("copy").join(path).is_file(),
            Self::Minio { client, bucket, prefix, .. } => {
                client.head_object().bucket(bucket).key(format!("{prefix}/{path}")).send().await.is_ok()
            }
        }
    }

    async fn leftovers(&self) -> Vec<String> {
        let mut keys = match self {
            Self::Local(dir) => walk::local_leftovers(&dir.path().join("copy")),
            Self::Minio { client, bucket, prefix, .. } => {
                walk::s3_keys(client, bucket, &format!("{prefix}/{}", syncd::store::RESERVED)).await
            }
        };
        keys.retain(|key| !key.ends_with('/'));
        keys
    }
}

pub(super) fn local(path: &Path) -> Arc<dyn Store> {
    Arc::new(Local::open(path).expect("an absolute path"))
}

/// A destination that is kept in step, and what that took.
pub(super) struct Follower {
    name: String,
    job: Job,
    logs: Logs,
    place: Place,
    /// What was done, in order, with the number of the pass.
    told: Arc<Mutex<Vec<String>>>,
    copied: Arc<Notify>,
    began: Instant,
    passes: usize,
    windows: u64,
    lines: u64,
    changes: u64,
    report: Report,
    _dir: TempDir,
}

impl Follower {
    async fn to_local(cluster: &Hdfs, root: &str) -> Self {
        Self::of_hdfs(cluster, root, Place::local()).await
    }

    async fn to_minio(cluster: &Hdfs, root: &str, minio: &Minio, prefix: &str) -> Self {
        Self::of_hdfs(cluster, root, Place::minio(minio, prefix)).await
    }

    async fn of_hdfs(cluster: &Hdfs, root: &str, place: Place) -> Self {
        let options = HdfsOptions { http_address: Some(cluster.http.clone()), user: None };
        let uri = format!("{}{root}", cluster.uri);
        let source = Arc::new(HdfsStore::connect(&uri, &options).expect("connects"));
        Self::of(source, uri, place, &cluster.audit_log_dir, root, cluster.timezone()).await
    }

    pub(super) async fn of(
        source: Arc<dyn Store>,
        uri: String,
        place: Place,
        logs: &Path,
        root: &str,
        zone: &str,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let destination = place.store().await;
        let name = format!("{uri} to {}", destination.capabilities().name);
        let (told, copied) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let job = Job {
            source,
            destination,
            pair: (uri, name.clone()),
            state: Arc::new(State::open(&dir.path().join("state")).expect("a state")),
            settings: Settings::default(),
            events: teller(&told, &copied),
            now: syncd::clock::now,
        };
        let logs = Logs::new(
            local(logs),
            local(&dir.path().join("changes")),
            zone.parse::<Zone>().expect("a zone"),
            Scope::new(root).expect("a root"),
        );
        let (began, report) = (Instant::now(), Report::default());
        Self {
            name,
            job,
            logs,
            place,
            told,
            copied,
            began,
            passes: 0,
            windows: 0,
            lines: 0,
            changes: 0,
            report,
            _dir: dir,
        }
    }

    async fn import(&mut self) {
        let positions = syncd::tail::positions(&*self.logs.logs).await.expect("positions");
        self.began = Instant::now();
        self.report += self.job.import(Some(positions)).await.expect("an import");
    }

    /// Imports again until one comes to its end.
    pub(super) async fn import_through_faults(&mut self) {
        const TRIES_MAX: usize = 50;
        let positions = syncd::tail::positions(&*self.logs.logs).await.expect("positions");
        self.began = Instant::now();
        for _ in 0..TRIES_MAX {
            match self.job.import(Some(positions.clone())).await {
                Ok(report) => return self.report += report,
                Err(error) => assert!(!error.is_refusal(), "{error}"),
            }
        }
        panic!("{}: no import came to its end", self.name);
    }

    /// One pass of `syncd run`.
    pub(super) async fn round(&mut self) -> Result<syncd::job::Applying, JobError> {
        self.passes += 1;
        self.told.lock().expect("no panic").push(format!("pass {}", self.passes));
        let (made, applied) = syncd::daemon::round(&self.logs, &self.job).await?;
        self.windows += applied.windows;
        self.lines += made.lines;
        self.changes += applied.changes;
        self.report += applied.report.clone();
        Ok(applied)
    }

    /// Passes until nothing is watched or owed.
    pub(super) async fn come_to_rest(&mut self) {
        let mut clock = every(PASS_EVERY);
        for _ in 0..PASSES_MAX {
            clock.tick().await;
            self.round().await.expect("a pass");
            if self.watched().is_empty() && self.owed().is_empty() {
                return;
            }
        }
        panic!("{}: watched {:#?}, owed {:#?}", self.name, self.watched(), self.owed());
    }

    /// A pass in which, as soon as the first file is copied, something happens.
    async fn at_next_copy(&mut self, happens: impl FnOnce()) -> Result<syncd::job::Applying, JobError> {
        let copied = self.copied.clone();
        let first = copied.notified();
        let mut round = std::pin::pin!(self.round());
        tokio::select! {
            done = &mut round => panic!("nothing was copied: {done:?}"),
            () = first => happens(),
        }
        round.await
    }

    fn watched(&self) -> Vec<String> {
        let watched = self.job.state.watched().map(|item| item.expect("a state").0);
        watched.map(|path| path.as_str().expect("tests use UTF-8").to_owned()).collect()
    }

    fn owed(&self) -> Vec<String> {
        let owed = self.job.state.owed().map(|item| item.expect("a state"));
        owed.map(|(path, owed)| format!("{path}: {}", owed.reason)).collect()
    }

    async fn tree(&self) -> Tree {
        self.place.tree().await
    }

    pub(super) async fn still_holds(&self, paths: &[&str]) {
        for path in paths {
            assert!(self.place.holds(path).await, "{}: {path} is gone\n{}", self.name, self.story(path));
        }
    }

    pub(super) async fn assert_equal(&mut self, source: &Tree) {
        let there = self.tree().await;
        let differences = differences(source, &there);
        let stories: BTreeSet<String> = differences.iter().map(|line| self.story(first_name(line))).collect();
        let stories: Vec<String> = stories.into_iter().collect();
        assert!(differences.is_empty(), "{}:\n{}\n{}", self.name, differences.join("\n"), stories.join("\n"));
        assert_eq!(self.place.leftovers().await, [""; 0], "{}", self.name);
        self.job.settings.compare_all = true;
        let verified = self.job.verify(Mode::Look).await.expect("verifies");
        assert_eq!((verified.differing_paths, verified.owed_paths), (0, 0), "{}: {verified:?}", self.name);
        self.job.settings.compare_all = false;
    }

    fn assert_rotated(&self) {
        let log: Vec<_> = self.job.state.get::<serde_json::Value>(Key::Seen).expect("a state").into_iter().collect();
        let files = log.first().and_then(|seen| seen.as_object()).map_or(0, |files| files.len());
        assert!(files > 3, "{}: the audit log has {files} files", self.name);
    }

    /// What was done at paths with this name in them.
    fn story(&self, name: &str) -> String {
        let told = self.told.lock().expect("no panic");
        let lines = told.iter().filter(|line| line.starts_with("pass ") || line.contains(name));
        lines.cloned().collect::<Vec<_>>().join("\n")
    }

    pub(super) fn words(&self, compared: usize) -> String {
        format!(
            "{} s, {} passes, {} lines, {} windows, {} changes; {}; {} owed at the end, {compared} paths compared",
            self.began.elapsed().as_secs(),
            self.passes,
            self.lines,
            self.windows,
            self.changes,
            self.report,
            self.owed().len(),
        )
    }
}

fn teller(told: &Arc<Mutex<Vec<String>>>, copied: &Arc<Notify>) -> Arc<dyn Fn(&Event<'_>) + Send + Sync> {
    let (told, copied) = (told.clone(), copied.clone());
    Arc::new(move |event: &Event<'_>| {
        told.lock().expect("no panic").push(event.to_string());
        if matches!(event.did, Did::Copy { .. }) {
            copied.notify_waiters();
        }
    })
}

/// The path that a line of [`differences`] begins with, as far as both spell it alike.
fn first_name(line: &str) -> &str {
    line.trim_start_matches('"').split(['"', '\\']).next().unwrap_or_default()
}
