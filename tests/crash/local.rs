//! Every call of a story that changes something in a real directory, ended before, half way and after. Half way is what a
//! killed process leaves: a file that was written aside and not renamed, a directory without its mode, a tree that is removed
//! in part. The store is another one after each death, as in a new process.

use crate::copied::copy_dir;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use syncd::apply::Mode;
use syncd::checkpoint::State;
use syncd::job::{Job, JobError, Settings};
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::store::local::Local;
use syncd::store::{Body, Capabilities, Chunk, Listed, Meta, Read, Store, StoreError};
use syncd::zone::Zone;
use syncd::{clock, daemon, tail};
use syncd_parsers::RelPath;
use tempfile::TempDir;
use tokio::sync::Notify;

const BEFORE: &str = "
    write t/p1
    write t/p2
    write t_new/p1
    write t_new/p2
    write log
    write k/f
    write k/g/h
    write gone/x
    write d/_SUCCESS
    link out ../../outside
";

const AFTER: &str = "
    rename t t_old
    rename t_new t
    rename log log.1
    write log
    delete k
    write k
    delete gone
    write d/part
    write d/_SUCCESS
    write a/b/c
    chmod t
    link in d/part
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Before,
    HalfWay,
    After,
}

/// Where the process dies.
struct Point {
    /// Calls that change something, until it does.
    left: AtomicUsize,
    how: How,
    dead: AtomicBool,
    died: Notify,
    calls: AtomicUsize,
}

impl Point {
    fn at(left: usize, how: How) -> Arc<Self> {
        let (dead, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { left: AtomicUsize::new(left), how, dead, died: Notify::new(), calls })
    }

    async fn die(&self) -> ! {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        std::future::pending().await
    }
}

/// A directory of which the process that uses it dies at one call.
struct Stopping {
    inner: Local,
    root: PathBuf,
    point: Arc<Point>,
}

impl Stopping {
    fn open(root: PathBuf, point: &Arc<Point>) -> Arc<dyn Store> {
        Arc::new(Self { inner: Local::open(&root).expect("an absolute path"), root, point: point.clone() })
    }

    async fn change(
        &self,
        half: impl Future<Output = ()> + Send,
        work: impl Future<Output = Result<(), StoreError>> + Send,
    ) -> Result<(), StoreError> {
        if self.point.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.point.calls.fetch_add(1, Ordering::SeqCst);
        let left = self.point.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return work.await;
        }
        match self.point.how {
            How::Before => {}
            How::HalfWay => half.await,
            How::After => work.await?,
        }
        self.point.die().await
    }

    fn at(&self, path: &RelPath) -> PathBuf {
        self.root.join(path.to_string())
    }

    /// What a process that was killed while it wrote leaves.
    fn leave_aside(&self, bytes: &[u8]) {
        let tmp = self.root.join(".syncd/tmp");
        fs::create_dir_all(&tmp).expect("makes");
        fs::write(tmp.join("4194304-0"), bytes).expect("writes");
    }
}

/// The first half of a body.
async fn half(body: Body) -> Vec<u8> {
    let chunks: Vec<Chunk> = body.into_stream().try_collect().await.unwrap_or_default();
    let data = chunks.into_iter().filter_map(|chunk| if let Chunk::Data(data) = chunk { Some(data) } else { None });
    let all = data.collect::<Vec<_>>().concat();
    all[..all.len() / 2].to_vec()
}

#[async_trait]
impl Store for Stopping {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.inner.identity().await
    }

    async fn create_root(&self) -> Result<(), StoreError> {
        self.change(async {}, self.inner.create_root()).await
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        self.inner.lookup(path).await
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.inner.list(dir).boxed()
    }

    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        self.inner.read(path, seen).await
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        self.inner.read_range(path, offset, len).await
    }

    async fn is_open(&self, path: &RelPath, seen: &Meta) -> Result<bool, StoreError> {
        self.inner.is_open(path, seen).await
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        let body = Mutex::new(Some(body));
        let take = || body.lock().expect("no panic holds it").take().expect("taken once");
        let aside = async { self.leave_aside(&half(take()).await) };
        self.change(aside, async { self.inner.put(path, meta, take()).await }).await
    }

    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.change(async { self.leave_aside(b"") }, self.inner.put_link(path, meta)).await
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let bare = async {
            fs::create_dir_all(self.at(path)).expect("makes");
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o777)).expect("sets");
        };
        self.change(bare, self.inner.mkdir(path, meta)).await
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let mode = async {
            let mode = fs::Permissions::from_mode(meta.mode.unwrap_or(0o755));
            fs::set_permissions(self.at(path), mode).expect("sets");
        };
        self.change(mode, self.inner.set_attrs(path, meta)).await
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        self.change(async {}, self.inner.remove(files)).await
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        let first = async {
            let mut entries = fs::read_dir(self.at(path)).expect("lists");
            if let Some(Ok(entry)) = entries.next() {
                drop(fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path())));
            }
        };
        self.change(first, self.inner.remove_tree(path)).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        self.change(async {}, self.inner.rename(from, to)).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.change(async {}, self.inner.sync()).await
    }
}

/// Four directories, and something outside of them.
struct Stage {
    dir: TempDir,
    starts: usize,
    deeds: u64,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        for name in ["source", "log"] {
            fs::create_dir(dir.path().join(name)).expect("makes");
        }
        fs::write(dir.path().join("outside"), "not ours").expect("writes");
        let mut stage = Self { dir, starts: 0, deeds: 0 };
        stage.log("listStatus", "", None);
        stage
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn state_dir(&self) -> PathBuf {
        self.at(&format!("state{}", self.starts))
    }

    /// Each deed, and its line.
    fn does(&mut self, story: &str) {
        for deed in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.deeds += 1;
            let words: Vec<&str> = deed.split(' ').collect();
            let (at, to) = (self.at("source").join(words[1]), words.get(2).copied());
            match words[0] {
                "write" => {
                    fs::create_dir_all(at.parent().expect("below the source")).expect("makes");
                    fs::write(&at, format!("{deed} {}", "x".repeat(self.deeds as usize))).expect("writes");
                    let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000 + self.deeds);
                    fs::File::options().write(true).open(&at).and_then(|file| file.set_modified(time)).expect("sets");
                    self.log("create", words[1], None);
                }
                "link" => {
                    symlink(to.expect("a target"), &at).expect("links");
                    self.log("create", words[1], None);
                }
                "delete" => {
                    fs::remove_dir_all(&at).expect("removes");
                    self.log("delete", words[1], None);
                }
                "rename" => {
                    fs::rename(&at, self.at("source").join(to.expect("a target"))).expect("renames");
                    self.log("rename", words[1], to);
                }
                "chmod" => {
                    fs::set_permissions(&at, fs::Permissions::from_mode(0o750)).expect("sets");
                    self.log("setPermission", words[1], None);
                }
                other => panic!("no deed is called {other}"),
            }
        }
    }

    fn log(&mut self, command: &str, src: &str, dst: Option<&str>) {
        let dst = dst.map_or("null".to_owned(), |dst| format!("/data/{dst}"));
        let time = clock::now().format("%Y-%m-%d %H:%M:%S,%3f");
        let line = format!(
            "{time} INFO FSNamesystem.audit: allowed=true\tugi=etl\tip=/10.0.0.7\tcmd={command}\tsrc=/data/{src}\tdst={dst}\t\
             perm=null\tproto=rpc\n"
        );
        let before = fs::read_to_string(self.at("log/audit.log")).unwrap_or_default();
        fs::write(self.at("log/audit.log"), before + &line).expect("writes");
    }

    /// Imports, or makes a window and applies it, in a process that may die; true if it came to its end.
    fn run(&mut self, imports: bool, point: &Arc<Point>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (job, logs) = (self.job(point), self.logs(point));
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                () = point.died.notified() => None,
                done = command(&job, &logs, imports) => Some(done),
            }
        });
        let old = self.state_dir();
        self.starts += 1;
        copy_dir(&old.join("db"), &self.state_dir().join("db"));
        drop((job, logs, runtime));
        match done {
            None => false,
            Some(done) => done.map(|()| true).expect("nothing else fails here"),
        }
    }

    fn job(&self, point: &Arc<Point>) -> Job {
        Job {
            source: Stopping::open(self.at("source"), point),
            destination: Stopping::open(self.at("root/destination"), point),
            pair: ("source".into(), "destination".into()),
            state: Arc::new(State::open(&self.state_dir()).expect("opens")),
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now: clock::now,
        }
    }

    fn logs(&self, point: &Arc<Point>) -> Logs {
        Logs::new(
            Stopping::open(self.at("log"), point),
            Stopping::open(self.at("changes"), point),
            Zone::UTC,
            Scope::new("/data").expect("a root"),
        )
    }

    fn check_end(&self) {
        let (source, there) = (walk(&self.at("source")), walk(&self.at("root/destination")));
        assert_eq!(there, source);
        let reserved = self.at("root/destination/.syncd");
        let left: Vec<String> = walk(&reserved).into_keys().filter(|at| at != "tmp" && at != "aside").collect();
        assert_eq!(left, [""; 0], "left behind");
        assert_eq!(fs::read_to_string(self.at("outside")).expect("reads"), "not ours");
        let beside: Vec<_> =
            fs::read_dir(self.at("root")).expect("lists").map(|entry| entry.expect("lists").file_name()).collect();
        assert_eq!(beside, ["destination"], "beside the destination");
    }
}

async fn command(job: &Job, logs: &Logs, imports: bool) -> Result<(), JobError> {
    if imports {
        let positions = tail::positions(&*logs.logs).await.expect("the log can be read");
        return job.import(Some(positions)).await.map(drop);
    }
    daemon::round(logs, job).await?;
    job.apply(&*logs.change_log, Mode::Act).await.map(drop)
}

/// Content, mode and time of everything below a directory, but for what is reserved.
fn walk(root: &Path) -> BTreeMap<String, String> {
    let (mut all, mut ahead) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("lists").path();
            let below = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
            if below == ".syncd" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("is there");
            let what = if meta.is_symlink() {
                format!("link {:?}", fs::read_link(&path).expect("reads"))
            } else {
                let text =
                    if meta.is_dir() { "directory".to_owned() } else { fs::read_to_string(&path).expect("reads") };
                format!("{text} {:o} {:?}", meta.permissions().mode(), meta.modified().expect("has a time"))
            };
            all.insert(below, what);
            if meta.is_dir() {
                ahead.push(path);
            }
        }
    }
    all
}

/// Plays the story; returns how many calls changed something.
fn play(left: usize, how: How) -> usize {
    let (mut stage, mut point, mut calls) = (Stage::new(), Point::at(left, how), 0);
    for (story, imports) in [(BEFORE, true), (AFTER, false)] {
        stage.does(story);
        while !stage.run(imports, &point) {
            calls += point.calls.load(Ordering::SeqCst);
            point = Point::at(usize::MAX, how);
        }
    }
    stage.check_end();
    calls + point.calls.load(Ordering::SeqCst)
}

#[test]
fn a_story_in_real_directories_that_ends_at_any_change_comes_to_the_same_end() {
    let whole = play(usize::MAX, How::Before);
    assert!(whole > 50, "the story has become too short: {whole} calls");
    let most = AtomicUsize::new(0);
    crate::for_each(whole * 3, |number| {
        let how = [How::Before, How::HalfWay, How::After][number % 3];
        most.fetch_max(play(number / 3, how), Ordering::SeqCst);
    });
    let most = most.into_inner();
    println!("{whole} calls that change something; at most {most} with a death");
    assert!(most <= whole + 12, "a death costs a few changes again: {most} calls, {whole} without");
}
