//! HDFS benchmarks against a real cluster, run by hand: `cargo bench --bench hdfs`. Prints figures beside DistCp's,
//! measured in the same run; `docs/performance.md` keeps them with the machine.

#[path = "../common/mod.rs"]
mod common;

use common::hdfs::{Hdfs, HdfsOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use syncd::apply::Mode;
use syncd::checkpoint::State;
use syncd::job::{Job, Settings};
use syncd::report::Report;
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::store::Store;
use syncd::store::local::Local;
use syncd::zone::Zone;

/// As many files as the recorded measurement of DistCp had.
const FILES: usize = 4_526;
const MOVED_FILES: usize = 100_000;
const WRITERS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let cluster = match Hdfs::start(HdfsOptions::default()) {
            Ok(cluster) => cluster,
            Err(reason) => return println!("not measured: {reason}"),
        };
        import_beside_distcp(&cluster).await;
        for (what, renames) in [
            ("a directory renamed", vec![("/log", "/moved")]),
            ("a log rotation", vec![("/log", "/log.1")]),
            ("a table swap", vec![("/log", "/log_old"), ("/log_new", "/log")]),
        ] {
            moved(&cluster, what, &renames).await;
        }
    });
}

async fn fill(cluster: &Hdfs, root: &str, dir: &str, files: usize) {
    let client = hdfs_native::ClientBuilder::new().with_url(&cluster.uri).build().expect("a client");
    client.mkdirs(&format!("{root}{dir}"), 0o755, true).await.expect("makes a directory");
    let tasks = (0..WRITERS).map(|writer| {
        let (client, at) = (client.clone(), format!("{root}{dir}"));
        tokio::spawn(async move {
            for number in (writer..files).step_by(WRITERS) {
                let path = format!("{at}/f{number:06}");
                let mut file = client.create(&path, hdfs_native::WriteOptions::default()).await.expect("creates");
                file.write_bytes(format!("{number:016}").repeat(256).into()).await.expect("writes");
                file.close().await.expect("closes");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("writes its share");
    }
}

async fn import_beside_distcp(cluster: &Hdfs) {
    fill(cluster, "/import", "/d", FILES).await;
    let temp = tempfile::tempdir().expect("a folder");
    let (job, _) = job(cluster, "/import", temp.path());
    let began = Instant::now();
    job.import(None).await.expect("imports");
    println!("import of {FILES} files of 4 KiB, HDFS to local: syncd {:.1} s", began.elapsed().as_secs_f64());

    let target = temp.path().join("distcp");
    let mut distcp = cluster.java();
    distcp.args(["org.apache.hadoop.tools.DistCp", "-update", "-m", "8"]);
    distcp.arg(format!("{}/import", cluster.uri)).arg(format!("file://{}", target.display()));
    println!("  DistCp -update (8 maps) {:.1} s", timed(&mut distcp));
}

fn timed(command: &mut Command) -> f64 {
    let began = Instant::now();
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed().as_secs_f64()
}

/// Copies 10^5 files once, renames at the source, and applies the window that says so.
async fn moved(cluster: &Hdfs, what: &str, renames: &[(&str, &str)]) {
    let root = format!("/moved{}", renames.len() + what.len());
    fill(cluster, &root, "/log", MOVED_FILES).await;
    fill(cluster, &root, "/log_new", 1_000).await;
    let temp = tempfile::tempdir().expect("a folder");
    let (job, logs) = job(cluster, &root, temp.path());
    let positions = syncd::tail::positions(&*logs.logs).await.expect("reads the log");
    job.import(Some(positions)).await.expect("imports");
    let client = hdfs_native::ClientBuilder::new().with_url(&cluster.uri).build().expect("a client");
    for (from, to) in renames {
        client.rename(&format!("{root}{from}"), &format!("{root}{to}"), false).await.expect("renames");
    }
    if what == "a log rotation" {
        client.mkdirs(&format!("{root}/log"), 0o755, true).await.expect("makes a directory");
    }
    let began = Instant::now();
    let report = pass(&job, &logs).await;
    let Report { copied_bytes, compared_bytes, moved_paths, .. } = report;
    println!(
        "{what} ({MOVED_FILES} files of 4 KiB), HDFS to local: {:.1} s, {copied_bytes} bytes copied, {compared_bytes} compared, {moved_paths} moved",
        began.elapsed().as_secs_f64()
    );
    let verified = job.verify(Mode::Look).await.expect("verifies");
    assert_eq!(verified.differing_paths, 0, "{what}");
}

async fn pass(job: &Job, logs: &Logs) -> Report {
    logs.make(Some(&*job.state), syncd::clock::now()).await.expect("makes a window");
    job.apply(&*logs.change_log, Mode::Act).await.expect("applies").report
}

fn local(path: PathBuf) -> Arc<dyn Store> {
    Arc::new(Local::open(&path).expect("a folder"))
}

fn job(cluster: &Hdfs, root: &str, at: &Path) -> (Job, Logs) {
    let options = syncd::store::hdfs::HdfsOptions { http_address: Some(cluster.http.clone()), ..Default::default() };
    let uri = format!("{}{root}", cluster.uri);
    let job = Job {
        source: Arc::new(syncd::store::hdfs::Hdfs::connect(&uri, &options).expect("connects")),
        destination: local(at.join("dest")),
        pair: (uri, "dest".into()),
        state: Arc::new(State::open(&at.join("state")).expect("opens")),
        settings: Settings::default(),
        events: Arc::new(|_| {}),
        now: syncd::clock::now,
    };
    let logs = Logs {
        logs: local(cluster.audit_log_dir.clone()),
        change_log: local(at.join("changes")),
        dialect: None,
        zone: Zone::UTC,
        scope: Scope::new(root).expect("a root"),
        since: None,
        until: None,
        accept_gap: false,
    };
    (job, logs)
}
