//! What only real servers can show. One process: each server is started once, when a trial first wants it, and shared;
//! a trial keeps to paths of its own. Where a server cannot be had its trials are ignored and the last lines
//! say so; with `CI=true` that is a failure.

mod common;

use common::{buckets, faults, hdfs, live, minio, parts, soak};
use futures::TryStreamExt;
use hdfs::{Hdfs as Cluster, HdfsOptions as ClusterOptions};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, LazyLock, OnceLock};
use syncd::store::conformance::{self, Limits};
use syncd::store::hdfs::{Hdfs, HdfsOptions};
use syncd::store::{Body, ErrorKind, Listed, Meta, Store, StoreError};
use syncd_parsers::RelPath;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    all_trials().run(&arguments)
}

fn all_trials() -> Suite {
    let mut suite = Suite::default();
    let minio = Server::new("minio", minio::available().map(drop), || block_on(minio::Minio::start()));
    let zoned = Server::new("hdfs", hdfs::available(), || {
        let options = ClusterOptions {
            timezone: live::TIMEZONE.into(),
            audit_rotate_bytes: Some(100_000),
            ..ClusterOptions::default()
        };
        Cluster::start(options)
    });
    live_trials(&mut suite, &zoned, &minio);
    hdfs_trials(&mut suite, &zoned);
    minio_trials(&mut suite, &minio);
    suite
}

/// First, since they take longest.
fn live_trials(suite: &mut Suite, zoned: &Server<Cluster>, minio: &Server<minio::Minio>) {
    suite.add_both(zoned, minio, "concurrent_writers_are_followed_and_both_sides_end_equal", |cluster, minio| {
        block_on(live::concurrent_writers(cluster, minio));
    });
    suite.add_both(zoned, minio, "a_file_held_open_is_whole_after_its_close_and_unseen_before", |cluster, minio| {
        block_on(live::files_held_open(cluster, minio));
    });
    suite.add_both(zoned, minio, "the_program_imports_and_follows", |cluster, minio| {
        block_on(live::the_program(cluster, minio));
    });
    suite.add_both(zoned, minio, "a_soak_with_kills_ends_equal", |cluster, minio| {
        block_on(soak::soak(cluster, minio));
    });
    let own = Server::new("hdfs", hdfs::available(), || Ok(()));
    suite.add(&own, "a_copy_survives_its_source_s_servers", |()| {
        let mut cluster = Cluster::start(ClusterOptions::default()).expect("a cluster of its own");
        block_on(live::outages(&mut cluster));
    });
    let audited = Server::new("minio", minio::available().map(drop), || block_on(buckets::Audited::start()));
    suite.add(&audited, "a_bucket_is_followed_into_a_bucket_through_kills", |server| {
        block_on(buckets::into_a_bucket(server));
    });
    suite.add(&audited, "a_bucket_is_followed_into_a_tree_through_kills", |server| {
        block_on(buckets::into_a_tree(server));
    });
    suite.add(minio, "a_copy_through_faults_ends_equal", |minio| block_on(faults::through_faults(minio)));
    suite.add(minio, "an_upload_in_parts_that_ends_at_any_request_comes_to_the_same_end", parts::ended_anywhere);
    suite.add(minio, "what_a_listing_hides_is_not_deleted", |minio| block_on(live::hidden_keys(minio)));
}

fn minio_trials(suite: &mut Suite, server: &Server<minio::Minio>) {
    for (name, check) in minio::CHECKS {
        suite.add(server, name, |server| block_on(check(server)));
    }
}

fn hdfs_trials(suite: &mut Suite, zoned: &Server<Cluster>) {
    let cluster = Server::new("hdfs", hdfs::available(), || Cluster::start(ClusterOptions::default()));
    suite.add(&cluster, "the_store_keeps_the_contract", contract_on_hdfs);
    suite.add(&cluster, "an_open_file_is_open_in_every_state", open_files);
    suite.add(&cluster, "without_webhdfs_an_open_file_is_never_taken_for_closed", open_files_without_webhdfs);
    suite.add(&cluster, "where_webhdfs_does_not_answer_nothing_is_called_closed", webhdfs_out_of_reach);
    suite.add(&cluster, "a_file_replaced_while_it_is_read_is_changed", replaced_while_read);
    suite.add(&cluster, "a_file_appended_to_while_it_is_read_is_changed", appended_while_read);
    suite.add(&cluster, "a_root_made_anew_has_another_identity", identity);
    suite.add(&cluster, "what_is_forbidden_is_not_missing", forbidden);
    suite.add(&cluster, "a_full_quota_is_no_space", quota);
    suite.add(&cluster, "every_name_that_java_writes_is_listed_found_and_read", names_of_java);
    suite.add(&cluster, "leftovers_of_a_crash_are_removed_with_the_next_start", leftovers);
    let none = Server::new("hdfs", hdfs::available(), || Ok(()));
    suite.add(&none, "an_outage_is_unavailable_and_passes", |()| outages());
    suite.add(zoned, "the_audit_log_rotates_in_the_zone_that_was_set", audit_log);
}

fn contract_on_hdfs(cluster: &Cluster) {
    block_on(async {
        let store = store(cluster, "/contract");
        conformance::run(&store, &Limits { refuses: Hdfs::refuses }).await;
    });
}

const BLOCK: u64 = 1 << 20;

/// What a writer does, one line after another, and whether the file is open then. Every state that HDFS knows.
const STATES: &[(&str, bool)] = &[
    ("created", true),
    ("write 100", true),
    ("hflush", true),
    ("length", true),
    ("write 1048476", true), // one block
    ("hflush", true),
    ("length", true),
    ("write 10", true), // and ten bytes
    ("hflush", true),
    ("close", false),
    ("append", true),
    ("write 5", true),
    ("hflush", true),
    ("close", false),
    ("append", true),
    ("write 1048561", true), // two blocks
    ("close", false),
    ("append", true), // changes nothing that a look shows
    ("close", false),
    ("append", true),
    ("write 1", true),
    ("hflush", true),
    ("close", false),
];

/// Where a writer ends a block early. Only WebHDFS tells: reader and status show the same length.
const EARLY_BLOCKS: &[(&str, bool)] = &[
    ("created", true),
    ("write 100", true),
    ("endblock", true),
    ("write 10", true),
    ("hflush", true),
    ("close", false),
    ("appendnew", true),
    ("close", false),
];

fn open_files(cluster: &Cluster) {
    block_on(async {
        let store = store(cluster, "/open");
        for (name, states) in [("ordinary", STATES), ("early", EARLY_BLOCKS)] {
            let (path, mut writer) = (path(name), None);
            for (nr, (command, open)) in states.iter().enumerate() {
                obey(cluster, &mut writer, &format!("/open/{name}"), command);
                let state = format!("{name}, {nr}: after {command}");
                let seen = store.lookup(&path).await.expect(&state).expect(&state);
                assert_eq!(store.is_open(&path, &seen).await.expect(&state), *open, "{state}");
                match bytes(&store, &path, &seen).await {
                    Err(error) => assert!(*open && error.kind == ErrorKind::Open, "{state}: {error}"),
                    Ok(bytes) => assert!(!open && bytes == pattern(seen.len), "{state}: {} bytes", bytes.len()),
                }
            }
        }
    });
}

fn open_files_without_webhdfs(cluster: &Cluster) {
    block_on(async {
        let options = HdfsOptions { http_address: Some("none".into()), user: None };
        let store = Hdfs::connect(&format!("{}/blind", cluster.uri), &options).expect("connects");
        let (path, mut writer) = (path("f"), None);
        for (nr, (command, open)) in STATES.iter().enumerate() {
            obey(cluster, &mut writer, "/blind/f", command);
            let state = format!("{nr}: after {command}");
            let seen = store.lookup(&path).await.expect(&state).expect(&state);
            match store.is_open(&path, &seen).await {
                Ok(answer) => assert_eq!(answer, *open, "{state}"),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Unavailable, "{state}");
                    assert!(seen.len.is_multiple_of(BLOCK), "{state}: {} bytes", seen.len);
                }
            }
        }
    });
}

fn obey(cluster: &Cluster, writer: &mut Option<hdfs::Holder>, path: &str, command: &str) {
    match writer {
        None => *writer = Some(cluster.hold("hold", path).expect("a writer")),
        Some(writer) => writer.tell(command).expect(command),
    }
}

fn webhdfs_out_of_reach(cluster: &Cluster) {
    block_on(async {
        let (seeing, path) = (store(cluster, "/unasked"), path("f"));
        put(&seeing, &path, b"abc").await;
        let options = HdfsOptions { http_address: Some("127.0.0.1:1".into()), user: None };
        let blind = Hdfs::connect(&format!("{}/unasked", cluster.uri), &options).expect("connects");
        let seen = blind.lookup(&path).await.expect("the RPC answers").expect("it is there");
        let errors = [
            blind.is_open(&path, &seen).await.err(),
            blind.read(&path, &seen).await.err(),
            blind.identity().await.err(),
        ];
        for error in errors {
            let error = error.expect("nobody said that it is closed");
            assert_eq!(error.kind, ErrorKind::Unavailable);
            let cause = error.cause.expect("a cause").to_string();
            assert!(cause.contains("127.0.0.1:1") && cause.contains("http_address"), "{cause}");
        }
    });
}

fn replaced_while_read(cluster: &Cluster) {
    block_on(async {
        let (store, path) = (store(cluster, "/replaced"), path("f"));
        put(&store, &path, &vec![b'a'; 3 << 20]).await;
        let seen = store.lookup(&path).await.expect("a look").expect("there");
        let mut body = store.read(&path, &seen).await.expect("a read").body.into_stream();
        body.try_next().await.expect("a piece").expect("not the end");
        put(&store, &path, &vec![b'b'; 3 << 20]).await;
        let end = body.try_collect::<Vec<_>>().await.map(|rest| rest.len());
        assert_eq!(end.map_err(|error| error.kind), Err(ErrorKind::Changed));
    });
}

fn appended_while_read(cluster: &Cluster) {
    block_on(async {
        let (store, path) = (store(cluster, "/appended"), path("f"));
        put(&store, &path, &vec![b'a'; 3 << 20]).await;
        let seen = store.lookup(&path).await.expect("a look").expect("there");
        let mut body = store.read(&path, &seen).await.expect("a read").body.into_stream();
        body.try_next().await.expect("a piece").expect("not the end");
        let _writer = cluster.hold("openappend", "/appended/f").expect("a writer");
        let end = body.try_collect::<Vec<_>>().await.map(|rest| rest.len());
        assert_eq!(end.map_err(|error| error.kind), Err(ErrorKind::Changed));
    });
}

fn identity(cluster: &Cluster) {
    block_on(async {
        let store = store(cluster, "/identity/of this");
        assert_eq!(store.identity().await.expect_err("not there yet").kind, ErrorKind::NotFound);
        store.create_root().await.expect("a root");
        let first = store.identity().await.expect("an identity");
        store.create_root().await.expect("the same root");
        assert_eq!(store.identity().await.expect("an identity"), first);
        cluster.dfs(&["-rm", "-r", "/identity/of this"]).expect("removed");
        store.create_root().await.expect("another root");
        assert_ne!(store.identity().await.expect("an identity"), first);
    });
}

fn forbidden(cluster: &Cluster) {
    block_on(async {
        let ours = store(cluster, "/forbidden");
        ours.create_root().await.expect("a root");
        let secret = Meta { mode: Some(0o700), ..Meta::dir() };
        ours.mkdir(&path("secret"), &secret).await.expect("a directory");
        put(&ours, &path("secret/f"), b"x").await;
        put(&ours, &path("file"), b"x").await;
        let seen = ours.lookup(&path("secret/f")).await.expect("a look").expect("there");
        let bob = HdfsOptions { http_address: Some(cluster.http.clone()), user: Some("bob".into()) };
        let bob = Hdfs::connect(&format!("{}/forbidden", cluster.uri), &bob).expect("connects");
        let denied = |error: Option<StoreError>| assert_eq!(error.map(|e| e.kind), Some(ErrorKind::PermissionDenied));
        denied(bob.lookup(&path("secret/f")).await.err());
        denied(bob.lookup(&path("secret/none")).await.err());
        denied(bob.list(&path("secret")).try_collect::<Vec<_>>().await.err());
        denied(bob.read(&path("secret/f"), &seen).await.err());
        denied(bob.is_open(&path("secret/f"), &seen).await.err());
        denied(bob.put(&path("mine"), &Meta::file(0), Body::Whole(Default::default())).await.err());
        denied(bob.remove_tree(&path("secret")).await.err());
        // An ordinary user's look below a file is checked differently from a superuser's.
        let below = path("file/below");
        let missing = |error: Option<StoreError>| assert_eq!(error.map(|e| e.kind), Some(ErrorKind::NotFound));
        for store in [&ours, &bob] {
            assert_eq!(store.lookup(&below).await.expect("an answer"), None);
            missing(store.list(&below).try_collect::<Vec<_>>().await.err());
            missing(store.read(&below, &seen).await.err());
            missing(store.is_open(&below, &seen).await.err());
        }
    });
}

fn quota(cluster: &Cluster) {
    block_on(async {
        let store = store(cluster, "/quota");
        store.create_root().await.expect("a root");
        cluster.admin(&["-setQuota", "2", "/quota"]).expect("a quota");
        let kind = store.mkdir(&path("a"), &Meta::dir()).await.and(store.mkdir(&path("b"), &Meta::dir()).await);
        assert_eq!(kind.expect_err("over the quota").kind, ErrorKind::NoSpace);
    });
}

fn names_of_java(cluster: &Cluster) {
    let mut writers = cluster.writers();
    let output = writers.args(["run", &cluster.uri, "/java", "4", "300", "7"]).output().expect("writers");
    let summary = String::from_utf8_lossy(&output.stdout);
    for done in ["create=", "append=", "concat=", "rename=", "rename-overwrite="] {
        assert!(summary.contains(done), "{summary}");
    }
    block_on(async {
        let (store, mut files) = (store(cluster, "/java"), 0);
        let mut dirs = vec![RelPath::root()];
        while let Some(dir) = dirs.pop() {
            let entries: Vec<Listed> = store.list(&dir).try_collect().await.expect("a listing");
            for entry in entries {
                let Listed::Entry(entry) = entry else { panic!("{entry:?} in {dir}") };
                let path = dir.join(&entry.name).expect("one component");
                assert_eq!(store.lookup(&path).await.expect("a look").as_ref(), Some(&entry.meta), "{path}");
                if entry.meta.is_dir() {
                    dirs.push(path);
                    continue;
                }
                assert!(reads_whole(&store, &path).await, "{path}");
                files += 1;
            }
        }
        assert!(files > 10, "{files} files: {summary}");
    });
}

/// A truncated file is under construction until its last block is cut, which changes it once more: then it is looked at
/// again. True if it was read whole, or is open.
async fn reads_whole(store: &Hdfs, path: &RelPath) -> bool {
    for _ in 0..20 {
        let Some(meta) = store.lookup(path).await.expect("a look") else { return false };
        match bytes(store, path, &meta).await {
            Ok(bytes) => return bytes.len() as u64 == meta.len,
            Err(error) if error.kind == ErrorKind::Open => return true,
            Err(error) if error.kind.is_transient() => {}
            Err(error) => panic!("{path}: {error}"),
        }
    }
    false
}

fn leftovers(cluster: &Cluster) {
    block_on(async {
        let store = store(cluster, "/leftovers");
        store.create_root().await.expect("a root");
        let error = StoreError::new("read", &RelPath::root(), ErrorKind::Unavailable);
        put(&store, &path("f"), b"x").await;
        let body = Body::Stream(Box::pin(futures::stream::iter([Err(error)])));
        store.put(&path("f"), &Meta::file(1), body).await.expect_err("the body failed");
        cluster.dfs(&["-touchz", "/leftovers/.syncd/tmp/stale"]).expect("a leftover");
        store.create_root().await.expect("the same root");
        let kept = cluster.dfs(&["-ls", "-R", "/leftovers"]).expect("a listing");
        assert!(kept.contains("/leftovers/f") && !kept.contains("/tmp/"), "{kept}");
    });
}

fn outages() {
    block_on(async {
        let mut cluster = Cluster::start(ClusterOptions::default()).expect("a cluster of its own");
        let (store, path) = (store(&cluster, "/outages"), path("f"));
        put(&store, &path, b"abc").await;
        let seen = store.lookup(&path).await.expect("a look").expect("there");
        let unavailable = |error: Option<StoreError>| assert_eq!(error.map(|e| e.kind), Some(ErrorKind::Unavailable));

        cluster.stop_datanode();
        unavailable(bytes(&store, &path, &seen).await.err());
        unavailable(store.put(&path, &Meta::file(3), Body::Whole("new".into())).await.err());
        cluster.start_datanode().expect("the DataNode again");
        assert_eq!(bytes(&store, &path, &seen).await.expect("the old file"), b"abc");

        cluster.stop_namenode();
        unavailable(store.lookup(&path).await.err());
        unavailable(store.list(&RelPath::root()).try_collect::<Vec<_>>().await.err());
        unavailable(store.identity().await.err());
        unavailable(store.remove(std::slice::from_ref(&path)).await.err());
        cluster.start_namenode().expect("the NameNode again");
        cluster.admin(&["-safemode", "enter"]).expect("safe mode");
        unavailable(store.remove(std::slice::from_ref(&path)).await.err());
        cluster.admin(&["-safemode", "leave"]).expect("no safe mode");
        assert_eq!(bytes(&store, &path, &seen).await.expect("the old file"), b"abc");
    });
}

fn audit_log(cluster: &Cluster) {
    let (mut writers, stop) = (cluster.writers(), cluster.audit_log_dir.with_file_name("stop"));
    writers.args(["run", &cluster.uri, "/w", "2", "0", "1"]).arg(&stop).stdout(Stdio::piped());
    let writers = writers.spawn().expect("writers");
    let rotated = cluster.audit_log_dir.join("hdfs-audit.log.2");
    hdfs::wait_for("a second rotation", || rotated.exists()).expect("in time");
    std::fs::write(&stop, "").expect("a stop file");
    let output = writers.wait_with_output().expect("they stop");
    assert!(String::from_utf8_lossy(&output.stdout).contains("clients=2"), "no summary");
    let log = std::fs::read_to_string(cluster.audit_log()).expect("a log");
    let written = std::fs::metadata(cluster.audit_log()).and_then(|meta| meta.modified()).expect("a time");
    let last = log.lines().last().and_then(|line| line.get(..19)).expect("a time");
    let last = chrono::NaiveDateTime::parse_from_str(last, "%Y-%m-%d %H:%M:%S").expect(last).and_utc();
    let ahead = last - chrono::DateTime::<chrono::Utc>::from(written);
    assert_eq!(ahead.num_minutes().div_euclid(60), 7, "{ahead}: eight hours, less the seconds that were cut");
}

fn store(cluster: &Cluster, root: &str) -> Hdfs {
    let options = HdfsOptions { http_address: Some(cluster.http.clone()), user: None };
    Hdfs::connect(&format!("{}{root}", cluster.uri), &options).expect("connects")
}

async fn put(store: &Hdfs, path: &RelPath, bytes: &[u8]) {
    store.create_root().await.expect("a root");
    let body = Body::Whole(bytes.to_vec().into());
    store.put(path, &Meta::file(bytes.len() as u64), body).await.expect("put");
}

async fn bytes(store: &Hdfs, path: &RelPath, seen: &Meta) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<_> = store.read(path, seen).await?.body.into_stream().try_collect().await?;
    let data = chunks.into_iter().map(|chunk| match chunk {
        syncd::store::Chunk::Data(bytes) => bytes.to_vec(),
        syncd::store::Chunk::Hole(len) => vec![0; usize::try_from(len).expect("small")],
    });
    Ok(data.collect::<Vec<_>>().concat())
}

/// What `Writers.java` writes.
fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|offset| (offset * 31 % 251) as u8).collect()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// One runtime for all trials: connections to DataNodes are kept by the process and outlive the trial that made them.
fn block_on<T>(trial: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));
    RUNTIME.block_on(trial)
}

/// The trials, and what cannot be tried here.
#[derive(Default)]
struct Suite {
    trials: Vec<Trial>,
    not_run: Vec<String>,
}

impl Suite {
    /// A trial that wants `server`; `body` panics if the promise in `name` is broken.
    fn add<T: Send + Sync + 'static>(&mut self, server: &Server<T>, name: &str, body: impl Fn(&T) + Send + 'static) {
        let wanted = server.wanted();
        self.add_trial(format!("{}::{name}", server.name), server.available.clone(), move || {
            body(wanted.get()?);
            Ok(())
        });
    }

    /// The same for a trial that wants two.
    fn add_both<T: Send + Sync + 'static, U: Send + Sync + 'static>(
        &mut self,
        one: &Server<T>,
        other: &Server<U>,
        name: &str,
        body: fn(&T, &U),
    ) {
        let (name, available) = (format!("{}::{name}", one.name), one.available.clone().and(other.available.clone()));
        let (one, other) = (one.wanted(), other.wanted());
        self.add_trial(name, available, move || {
            body(one.get()?, other.get()?);
            Ok(())
        });
    }

    fn add_trial(
        &mut self,
        name: String,
        available: Result<(), String>,
        trial: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) {
        if let Err(reason) = &available {
            self.not_run.push(format!("{name}: {reason}"));
        }
        self.trials.push(Trial::test(name, trial).with_ignored_flag(available.is_err()));
    }

    fn run(self, arguments: &Arguments) -> ExitCode {
        let conclusion = libtest_mimic::run(arguments, self.trials);
        if arguments.list {
            return conclusion.exit_code();
        }
        for line in &self.not_run {
            println!("NOT RUN: {line}");
        }
        let must_run = std::env::var("CI").is_ok_and(|ci| ci == "true");
        if must_run && !self.not_run.is_empty() { ExitCode::FAILURE } else { conclusion.exit_code() }
    }
}

/// A server that is started when the first of its trials begins, and ends with the last.
struct Server<T> {
    name: &'static str,
    available: Result<(), String>,
    wanted: Wanted<T>,
}

/// A trial's share in a server.
struct Wanted<T> {
    start: fn() -> Result<T, String>,
    running: Arc<OnceLock<Result<T, String>>>,
}

impl<T> Server<T> {
    fn new(name: &'static str, available: Result<(), String>, start: fn() -> Result<T, String>) -> Self {
        Self { name, available, wanted: Wanted { start, running: Arc::default() } }
    }

    fn wanted(&self) -> Wanted<T> {
        Wanted { start: self.wanted.start, running: Arc::clone(&self.wanted.running) }
    }
}

impl<T> Wanted<T> {
    fn get(&self) -> Result<&T, Failed> {
        Ok(self.running.get_or_init(self.start).as_ref()?)
    }
}
