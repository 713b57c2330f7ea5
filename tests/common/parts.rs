//! Uploads in parts to a real MinIO, and copies in parts on it, ended at every one of their requests: before the server heard of
//! it, when it had half of it, and when it had done it; by the end of the process that asked, by an answer that got lost, and
//! by a refusal, after which the upload is given up and that may end, too.

use super::copied::copy_dir;
use super::live::{local, log};
use super::minio::Minio;
use super::proxy::{Fault, Proxy, Stop};
use super::walk;
use aws_sdk_s3::Client;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use syncd::checkpoint::State;
use syncd::job::{Job, JobError, Settings};
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::store::s3::{S3, S3Limits, S3Options};
use syncd::zone::Zone;
use syncd::{clock, daemon, tail};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Below it the large file lies as an import leaves it, so that the others need not import it in parts.
const IMPORTED: &str = "parts-imported";
/// Three parts, of which the last one is short.
const LARGE: usize = (10 << 20) + 7;
const LIMITS: S3Limits = S3Limits { part_bytes: 5 << 20, copy_bytes: 6 << 20, copy_part_bytes: 5 << 20 };
/// Of one upload: one that begins it, one for each part, one that joins them.
const REQUESTS: usize = 5;
/// How often a command is run before it has to be done.
const RUNS_MAX: usize = 4;
const AT_ONCE: usize = 3;

/// What is at the source before the import, and what happens after it. The last command of it is ended.
struct Story {
    before: &'static str,
    after: &'static str,
}

/// The two in the middle have all that the others have.
const STORIES: [Story; 4] = [
    Story { before: "large a", after: "" },
    Story { before: "small a", after: "large a" },
    Story { before: "large a", after: "rename a b" },
    Story { before: "large a", after: "chmod a" },
];

const PARTS: fn(&str) -> bool = |line| line.contains("uploads") || line.contains("uploadId=");
const ABORT: fn(&str) -> bool = |line| line.starts_with("DELETE ") && line.contains("uploadId=");

/// An upload that ends with its process.
fn deaths() -> Vec<Vec<Stop>> {
    let death = |after, fault| vec![Stop { meant: PARTS, after, fault, ends_client: true }];
    let faults = [Fault::Reset, Fault::HalfRequest, Fault::AnswerLost];
    (0..REQUESTS).flat_map(|after| faults.map(|fault| death(after, fault))).collect()
}

/// A process that goes on: an answer got lost, or the upload is given up, of which something becomes or not.
fn failures() -> Vec<Vec<Stop>> {
    let stop = |meant, after, fault, ends_client| Stop { meant, after, fault, ends_client };
    let lost = (0..REQUESTS).map(|after| vec![stop(PARTS, after, Fault::AnswerLost, false)]);
    let given_up = |(fault, ends_client)| {
        let denied = [REQUESTS / 2, REQUESTS - 1].map(|after| stop(PARTS, after, Fault::Denied, false));
        denied.map(|denied| vec![denied, stop(ABORT, 0, fault, ends_client)])
    };
    let aborts = [(Fault::Reset, true), (Fault::AnswerLost, true), (Fault::Denied, false)];
    lost.chain(aborts.into_iter().flat_map(given_up)).collect()
}

/// What one way took, and what it left.
#[derive(Debug, Clone, Copy, Default)]
struct Effort {
    /// Of uploads in parts, that the server did.
    requests: usize,
    runs: usize,
    /// Uploads that were begun and are neither done nor given up.
    left: usize,
}

/// The end is the same however an upload ended, nobody ever sees a part of a file, and at most one more upload is made.
pub fn ended_anywhere(minio: &Minio) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    Play::new(minio, &runtime, &STORIES[0], IMPORTED.to_owned()).play(&[]);
    let plays = AtomicUsize::new(0);
    let play = |story| {
        let prefix = format!("parts-{}", plays.fetch_add(1, Ordering::SeqCst));
        Play::new(minio, &runtime, story, prefix)
    };
    for story in &STORIES {
        let whole = play(story).play(&[]);
        assert_eq!((whole.requests, whole.runs, whole.left), (REQUESTS, 1, 0), "{:?}", (story.before, story.after));
    }
    let (deaths, failures) = (deaths(), failures());
    let die = STORIES.iter().flat_map(|story| deaths.iter().map(move |stops| (story, stops)));
    let fail = STORIES[1..3].iter().flat_map(|story| failures.iter().map(move |stops| (story, stops)));
    let points: Vec<(&Story, &Vec<Stop>)> = die.chain(fail).collect();
    let (next, efforts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((story, stops)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let effort = play(story).play(stops);
            efforts.lock().expect("no panic holds it").push(effort);
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    check_efforts(&efforts.into_inner().expect("no panic held it"));
}

fn check_efforts(efforts: &[Effort]) {
    let most = |of: fn(&Effort) -> usize| efforts.iter().map(of).max().unwrap_or(0);
    let (requests, runs) = (most(|effort| effort.requests), most(|effort| effort.runs));
    let left = efforts.iter().filter(|effort| effort.left > 0).count();
    let ways = efforts.len();
    println!("  {ways} ways; at most {requests} requests, {REQUESTS} without, and {runs} runs; {left} left an upload");
    assert!(requests <= 2 * REQUESTS, "more than one upload is made again: {efforts:?}");
    assert!(runs == 2, "{efforts:?}");
    assert!(left > 0 && most(|effort| effort.left) == 1, "more than one upload is left: {efforts:?}");
}

/// One story at a source of its own, below a prefix of its own.
struct Play<'a> {
    minio: &'a Minio,
    runtime: &'a Runtime,
    client: Client,
    story: &'a Story,
    proxy: Proxy,
    prefix: String,
    dir: TempDir,
    starts: usize,
    deeds: u64,
    /// What each key may show: nothing, or one of these.
    whole: Vec<Vec<u8>>,
}

/// How a run ended.
enum Ended {
    Stopped,
    Done { is_at_rest: bool },
}

impl<'a> Play<'a> {
    fn new(minio: &'a Minio, runtime: &'a Runtime, story: &'a Story, prefix: String) -> Self {
        let proxy = runtime.block_on(Proxy::start(&minio.endpoint, 0)).expect("a proxy");
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["source", "log"] {
            fs::create_dir(dir.path().join(name)).expect("makes");
        }
        log(&dir.path().join("log"), &["cmd=listStatus\tsrc=/"]);
        let client = minio.client();
        Self { minio, runtime, client, story, proxy, prefix, dir, starts: 0, deeds: 0, whole: Vec::new() }
    }

    fn play(mut self, stops: &[Stop]) -> Effort {
        let (before, after) = (self.story.before, self.story.after);
        self.does(before);
        if !after.is_empty() {
            self.copy_imported(before);
            assert!(matches!(self.run(true), Ended::Done { is_at_rest: true }), "the import");
            self.does(after);
        }
        self.proxy.done();
        self.proxy.stop_at(stops);
        let (runs, requests) = self.until_at_rest(after.is_empty());
        assert_eq!(self.proxy.stops(), 0, "it never came to what was to be done: {stops:?} {requests:?}");
        self.check_end();
        let left = begun(&requests);
        assert_eq!(self.uploads(), left, "what is left is what was begun and did not end: {stops:?} {requests:?}");
        Effort { requests: requests.len(), runs, left }
    }

    fn copy_imported(&self, before: &str) {
        if before != STORIES[0].before {
            return;
        }
        let copy = self.client.copy_object().bucket(&self.minio.bucket).key(format!("{}/a", self.prefix));
        let copy = copy.copy_source(format!("{}/{IMPORTED}/a", self.minio.bucket));
        self.runtime.block_on(copy.send()).expect("copies");
    }

    /// Runs the command until it is done and nothing is owed; returns how often, and the requests that were about parts.
    fn until_at_rest(&mut self, mut imports: bool) -> (usize, Vec<String>) {
        let mut requests = Vec::new();
        for runs in 1..=RUNS_MAX {
            let ended = self.run(imports);
            requests.extend(self.proxy.done().into_iter().filter(|line| PARTS(line)));
            match ended {
                Ended::Stopped => {}
                Ended::Done { is_at_rest: true } => return (runs, requests),
                Ended::Done { is_at_rest: false } => imports = false,
            }
            self.check_shown();
        }
        panic!("not at rest after {RUNS_MAX} runs: {requests:?}");
    }

    /// Imports, or makes a window and applies it, in a process that may end at any request.
    fn run(&mut self, imports: bool) -> Ended {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (job, logs) = runtime.block_on(async { (self.job().await, self.logs()) });
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.proxy.stopped() => None,
                done = command(&job, &logs, imports) => Some(done),
            }
        });
        let is_at_rest = job.state.owed().next().is_none() && job.state.watched().next().is_none();
        let old = self.state_dir();
        self.starts += 1;
        copy_dir(&old.join("db"), &self.state_dir().join("db"));
        drop((job, logs, runtime));
        match done {
            None => Ended::Stopped,
            Some(done) => done.map(|()| Ended::Done { is_at_rest }).expect("what one request does ends no run"),
        }
    }

    async fn job(&self) -> Job {
        let endpoint = Some(self.proxy.endpoint.clone());
        let options = S3Options { endpoint, limits: LIMITS, ..self.minio.options() };
        let destination = S3::connect(&self.minio.bucket, &self.prefix, &options).await.expect("a good prefix");
        Job {
            source: local(&self.at("source")),
            destination: Arc::new(destination),
            pair: ("source".into(), "destination".into()),
            state: Arc::new(State::open(&self.state_dir()).expect("opens")),
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now: clock::now,
        }
    }

    fn logs(&self) -> Logs {
        let scope = Scope::new("/").expect("a root");
        Logs::new(local(&self.at("log")), local(&self.at("changes")), Zone::UTC, scope)
    }

    /// Each deed, and its line.
    fn does(&mut self, deeds: &str) {
        self.deeds += 1;
        let words: Vec<&str> = deeds.split(' ').collect();
        let (name, at) = (words[1], self.at("source").join(words[1]));
        let line = match words[0] {
            "large" | "small" => {
                self.write(&at, if words[0] == "large" { LARGE } else { 7 });
                format!("cmd=create\tsrc=/{name}")
            }
            "rename" => {
                fs::rename(&at, self.at("source").join(words[2])).expect("renames");
                format!("cmd=rename\tsrc=/{name}\tdst=/{}", words[2])
            }
            "chmod" => {
                fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).expect("sets");
                format!("cmd=setPermission\tsrc=/{name}")
            }
            other => panic!("no deed is called {other}"),
        };
        log(&self.at("log"), &[&line]);
    }

    /// Long ago, so that its time is evidence.
    fn write(&mut self, at: &Path, len: usize) {
        let mut bytes = (0..251).collect::<Vec<u8>>().repeat(len / 251 + 1);
        bytes.truncate(len);
        fs::write(at, &bytes).expect("writes");
        let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000 + self.deeds);
        fs::File::options().write(true).open(at).and_then(|file| file.set_modified(time)).expect("sets");
        self.whole.push(bytes);
    }

    /// No key shows a part of a file, and what the source has and the destination had is there under one of its names.
    fn check_shown(&self) {
        let shown: Vec<Vec<u8>> = ["a", "b"].iter().filter_map(|name| self.object(name)).collect();
        let is_whole = |bytes: &Vec<u8>| self.whole.contains(bytes);
        assert!(shown.iter().all(is_whole), "{:?} bytes are shown", shown.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(self.story.after.is_empty() || !shown.is_empty(), "what was there is gone");
    }

    fn check_end(&self) {
        let there = self.runtime.block_on(walk::s3(&self.client, &self.minio.bucket, &self.prefix));
        assert_eq!(walk::differences(&walk::local(&self.at("source")), &there), [""; 0]);
    }

    fn object(&self, name: &str) -> Option<Vec<u8>> {
        let get = self.client.get_object().bucket(&self.minio.bucket).key(format!("{}/{name}", self.prefix));
        self.runtime
            .block_on(async { Some(get.send().await.ok()?.body.collect().await.expect(name).into_bytes().into()) })
    }

    /// Uploads that are not finished. MinIO lists those of one key.
    fn uploads(&self) -> usize {
        let of = |name: &&str| {
            let key = format!("{}/{name}", self.prefix);
            let list = self.client.list_multipart_uploads().bucket(&self.minio.bucket).prefix(key);
            self.runtime.block_on(list.send()).expect(name).uploads().len()
        };
        ["a", "b"].iter().map(of).sum()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state_dir(&self) -> PathBuf {
        self.at(&format!("state{}", self.starts))
    }
}

/// Uploads that these requests began and did not end; whoever did not hear that they ended asks for it again.
fn begun(requests: &[String]) -> usize {
    let id = |line: &str| Some(line.split_once("uploadId=")?.1.split([' ', '&']).next()?.to_owned());
    let begins = requests.iter().filter(|line| line.starts_with("POST ") && id(line).is_none());
    let ended: BTreeSet<String> =
        requests.iter().filter(|line| !line.starts_with("PUT ")).filter_map(|line| id(line)).collect();
    begins.count() - ended.len()
}

async fn command(job: &Job, logs: &Logs, imports: bool) -> Result<(), JobError> {
    if imports {
        let positions = tail::positions(&*logs.logs).await.expect("the log can be read");
        return job.import(Some(positions)).await.map(drop);
    }
    daemon::round(logs, job).await.map(drop)
}
