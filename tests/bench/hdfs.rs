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
/// A hundredth of a second each to make, so no more.
const MOVED_FILES: usize = 10_000;
const WRITERS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let cluster = match Hdfs::start(HdfsOptions::default()) {
            Ok(cluster) => cluster,
            Err(reason) => return println!("not measured: {reason}"),
        };
        import_beside_distcp(&cluster).await;
        moves(&cluster).await;
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

/// Copies these files once, and then three times renames at the source and applies the window that says so.
async fn moves(cluster: &Hdfs) {
    fill(cluster, "/moves", "/log", MOVED_FILES).await;
    fill(cluster, "/moves", "/next", 1_000).await;
    let temp = tempfile::tempdir().expect("a folder");
    let (job, logs) = job(cluster, "/moves", temp.path());
    let positions = syncd::tail::positions(&*logs.logs).await.expect("reads the log");
    job.import(Some(positions)).await.expect("imports");
    pass(&job, &logs).await;

    let client = hdfs_native::ClientBuilder::new().with_url(&cluster.uri).build().expect("a client");
    let rename = async |from, to| client.rename(from, to, false).await.expect("renames");
    rename("/moves/log", "/moves/moved").await;
    applied(&job, &logs, "a directory renamed").await;
    rename("/moves/moved", "/moves/moved.1").await;
    client.mkdirs("/moves/moved", 0o755, true).await.expect("makes a directory");
    applied(&job, &logs, "a log rotation").await;
    rename("/moves/moved.1", "/moves/old").await;
    rename("/moves/next", "/moves/moved.1").await;
    applied(&job, &logs, "a table swap").await;
}

async fn applied(job: &Job, logs: &Logs, what: &str) {
    let began = Instant::now();
    let Report { copied_bytes, compared_bytes, moved_paths, .. } = pass(job, logs).await;
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
    let logs = Logs::new(
        local(cluster.audit_log_dir.clone()),
        local(at.join("changes")),
        Zone::UTC,
        Scope::new(root).expect("a root"),
    );
    (job, logs)
}
