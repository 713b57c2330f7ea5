//! A soak: on a real HDFS jobs commit, clients collide and a log stays open, the program follows to two destinations and
//! is killed again and again; in the end all three are equal. `SYNCD_SOAK=10m cargo test --test servers soak` lets it go on for
//! as long as that; the short one of every run shows that it works.

use super::hdfs::{Hdfs, Holder};
use super::live::{Crew, TIMEZONE, close_what_they_left_open, count, every, until, write};
use super::minio::Minio;
use super::walk::{self, Tree, differences};
use chrono::TimeDelta;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use syncd::status::Page;

const ROOT: &str = "/soak";
const SEED: &str = "20261121";
const SHORT: Duration = Duration::from_secs(20);
/// The writers leave the program some of the machine.
const PAUSE_MS: &str = "15";
const BEAT: Duration = Duration::from_secs(1);
const KILL_EVERY: Duration = Duration::from_secs(20);
/// However short a soak is.
const KILLS_MIN: u32 = 4;

/// The time is `SYNCD_SOAK`, such as `10m`.
pub async fn soak(cluster: &Hdfs, minio: &Minio) {
    let time = std::env::var("SYNCD_SOAK").map_or(SHORT, |text| humantime::parse_duration(&text).expect("a duration"));
    let client = walk::hdfs_client(&cluster.uri);
    client.mkdirs(ROOT, 0o755, true).await.expect("a root");
    write(&client, "/soak/keep", b"so that the root is never empty").await;
    let work = Work::start(cluster);
    until("the writers have built something", async || count(&client, ROOT).await > 60).await;
    let mut copies = [Copy::to_local(cluster), Copy::to_minio(cluster, minio)];
    copies.iter_mut().for_each(Copy::import);
    let said = follow(&mut copies, work, time).await;
    close_what_they_left_open(&client, ROOT).await;
    for copy in &mut copies {
        copy.come_to_rest().await;
    }
    let source = walk::hdfs(&client, ROOT).await;
    let trees =
        [walk::local(&copies[0].dir.path().join("copy")), walk::s3(&minio.client(), &minio.bucket, "soak").await];
    for (copy, there) in copies.iter().zip(&trees) {
        copy.assert_equal(&source, there);
        println!("  {}; {} paths compared", copy.words(), source.len());
    }
    println!("  {} s; writers: {said}", time.as_secs());
}

/// Lets the program follow, and kills it whenever that is due.
async fn follow(copies: &mut [Copy; 2], mut work: Work, time: Duration) -> String {
    let kill_every = KILL_EVERY.min(time / (KILLS_MIN + 1));
    let (began, mut clock, mut kills) = (Instant::now(), every(BEAT), 0);
    copies.iter_mut().for_each(Copy::start);
    while began.elapsed() < time {
        clock.tick().await;
        work.beat();
        copies.iter_mut().for_each(Copy::look);
        if began.elapsed() >= kill_every * (kills + 1) {
            kills += 1;
            copies.iter_mut().for_each(Copy::kill);
            copies.iter_mut().for_each(Copy::start);
        }
    }
    let said = work.stop();
    copies.iter_mut().for_each(Copy::kill);
    said
}

/// Everybody who writes.
struct Work {
    clients: Crew,
    jobs: Crew,
    /// A log that is written for as long as the soak goes on, and one that is closed and opened again.
    wal: [Holder; 2],
    beats: u64,
}

impl Work {
    fn start(cluster: &Hdfs) -> Self {
        let clients = Crew::of(cluster, &["run", &cluster.uri, "/soak/live", "3", "0", SEED], &[PAUSE_MS]);
        let jobs = Crew::of(cluster, &["jobs", &cluster.uri, "/soak/jobs", SEED], &["300"]);
        let wal = ["/soak/wal/long", "/soak/wal/now and then"];
        let wal = wal.map(|path| cluster.hold("hold", path).expect("a writer"));
        Self { clients, jobs, wal, beats: 0 }
    }

    fn beat(&mut self) {
        self.beats += 1;
        let [long, short] = &mut self.wal;
        for command in ["write 5000", "hflush"] {
            long.tell(command).expect(command);
        }
        let command = match self.beats % 6 {
            0 => "append",
            1..4 => "write 3000",
            4 => "hflush",
            _ => "close",
        };
        if self.beats >= 6 || command != "append" {
            short.tell(command).expect(command);
        }
    }

    /// Everybody stops, and what they did.
    fn stop(mut self) -> String {
        let said = format!("{} {}", self.clients.stop(), self.jobs.stop());
        while self.beats % 6 != 5 {
            self.beat();
        }
        self.wal[0].tell("close").expect("closes");
        said
    }
}

/// A destination, and the process that keeps it in step.
struct Copy {
    name: &'static str,
    /// Source, destination and state, for every command.
    pair: Vec<String>,
    /// The logs, for `run`.
    logs: Vec<String>,
    envs: [(&'static str, &'static str); 2],
    process: Option<Child>,
    kills: u64,
    lag_max: TimeDelta,
    memory_max_kib: u64,
    dir: tempfile::TempDir,
}

impl Copy {
    fn to_local(cluster: &Hdfs) -> Self {
        Self::of(cluster, "local", |dir| vec!["--dest".into(), text(&dir.join("copy"))], [("LANG", "C"); 2])
    }

    fn to_minio(cluster: &Hdfs, minio: &Minio) -> Self {
        let destination = ["--dest", &format!("s3://{}/soak", minio.bucket), "--s3-endpoint", &minio.endpoint];
        Self::of(cluster, "minio", |_| destination.map(str::to_owned).to_vec(), minio.credentials())
    }

    fn of(
        cluster: &Hdfs,
        name: &'static str,
        destination: impl FnOnce(&Path) -> Vec<String>,
        envs: [(&'static str, &'static str); 2],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| text(&dir.path().join(name));
        let source = ["--src", &format!("{}{ROOT}", cluster.uri), "--hdfs-http", &cluster.http];
        let state = ["--state-dir", &at("state")];
        let pair = [&source[..], &state].concat().into_iter().map(str::to_owned).chain(destination(dir.path()));
        let logs =
            ["--audit-log-dir", &text(&cluster.audit_log_dir), "--change-log-dir", &at("changes")].map(str::to_owned);
        let (process, lag_max) = (None, TimeDelta::zero());
        let (pair, logs) = (pair.collect(), logs.to_vec());
        Self { name, pair, logs, envs, process, kills: 0, lag_max, memory_max_kib: 0, dir }
    }

    fn command(&self, words: &[&str], more: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncd"));
        command.args(words).args(&self.pair).args(more).envs(self.envs).stdin(Stdio::null());
        command
    }

    /// Waits for its end; what it said.
    fn done(&self, words: &[&str], more: &[String]) -> (Option<i32>, String) {
        let output = self.command(words, more).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn import(&mut self) {
        let (code, said) = self.done(&["migrate-import"], &self.logs[..2]);
        assert!(matches!(code, Some(0 | 3)), "{}: {said}", self.name);
    }

    fn pass(&self) -> Vec<String> {
        [&self.logs[..], &["--log-timezone".to_owned(), TIMEZONE.to_owned()]].concat()
    }

    fn start(&mut self) {
        let said = File::options().create(true).append(true).open(self.said()).expect("a file");
        let mut command = self.command(&["run"], &self.pass());
        self.process = Some(command.stdout(Stdio::null()).stderr(said).spawn().expect("it runs"));
    }

    fn said(&self) -> PathBuf {
        self.dir.path().join("said")
    }

    /// It runs still, and how far behind it is.
    fn look(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        let ended = process.try_wait().expect("a process");
        let id = process.id();
        assert!(ended.is_none(), "{} ended with {ended:?}: {}", self.name, self.last_words());
        let page = Page::read(&self.dir.path().join("state")).expect("a page");
        let as_of = page.applied.map(|applied| applied.to).or(page.import.map(|import| import.started));
        let lag = as_of.map(|as_of| syncd::clock::now() - as_of);
        self.lag_max = self.lag_max.max(lag.unwrap_or_default());
        self.memory_max_kib = self.memory_max_kib.max(peak_kib(id).unwrap_or(0));
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.said()).unwrap_or_default();
        let from = said.len().saturating_sub(3000);
        said.get(from..).unwrap_or(&said).to_owned()
    }

    fn kill(&mut self) {
        self.look();
        let mut process = self.process.take().expect("it was started");
        process.kill().expect("kills");
        process.wait().expect("ends");
        self.kills += 1;
    }

    /// Passes until nothing is open, fresh or owed.
    async fn come_to_rest(&mut self) {
        let mut said = String::new();
        until("a pass leaves nothing behind", async || {
            let (code, words) = self.done(&["run", "--once"], &self.pass());
            assert!(matches!(code, Some(0 | 3)), "{}: {words}", self.name);
            said = words;
            code == Some(0) && !said.contains("still being written")
        })
        .await;
        let page = Page::read(&self.dir.path().join("state")).expect("a page");
        assert!(page.healthy && page.log_since.is_some(), "{}: {said}", self.name);
    }

    fn assert_equal(&self, source: &Tree, there: &Tree) {
        let differences = differences(source, there);
        assert!(differences.is_empty(), "{}:\n{}\n{}", self.name, differences.join("\n"), self.last_words());
        let (code, said) = self.done(&["verify", "--content"], &[]);
        assert_eq!(code, Some(0), "{}: {said}", self.name);
    }

    fn words(&self) -> String {
        let changes = std::fs::read_dir(self.dir.path().join("changes")).expect("windows");
        let names: Vec<_> = changes.map(|entry| entry.expect("a window").file_name()).collect();
        let windows = names.iter().filter(|name| name.to_string_lossy().ends_with(".manifest.json")).count();
        let (name, kills, lag, memory) =
            (self.name, self.kills, self.lag_max.num_seconds(), self.memory_max_kib / 1024);
        format!("{name}: {kills} kills, {windows} windows, at most {lag} s behind, at most {memory} MiB")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself; either way it is gone after this.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The most memory that a process had so far, where the system tells.
fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary names are text").to_owned()
}
