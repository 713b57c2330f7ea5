//! What reading logs costs: `cargo bench --bench changelog -- [GIBIBYTES]`. The log is made of recorded lines with new names
//! and times, and lies in the page cache; `wc -l`, `zcat` and `zstdcat` over the same files are measured in the same run.
//! `-- changes [COUNT]`: one window of so many changes, which shows what grows with it.
//! `docs/performance.md` keeps the figures with the machine.

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use syncd::changelog::{self, MakeOptions, Manifest};
use syncd::names::Names;
use syncd::scope::Scope;
use syncd::store::local::Local;
use syncd::zone::Zone;
use syncd_parsers::dialect;

/// Recorded lines, of which 28 in 100 change something.
const HDFS: [(&str, usize); 8] = [
    ("getfileinfo\tsrc={}\tdst=null\tperm=null", 37),
    ("open\tsrc={}\tdst=null\tperm=null", 20),
    ("listStatus\tsrc={}\tdst=null\tperm=null", 15),
    ("create\tsrc={}\tdst=null\tperm=etl:hadoop:rw-r--r--", 14),
    ("rename\tsrc={}\tdst={}.done\tperm=etl:hadoop:rw-r--r--", 6),
    ("delete\tsrc={}\tdst=null\tperm=null", 4),
    ("mkdirs\tsrc={}\tdst=null\tperm=etl:hadoop:rwxr-xr-x", 3),
    ("setTimes\tsrc={}\tdst=null\tperm=etl:hadoop:rw-r--r--", 1),
];

/// A record of MinIO, as it was recorded; 28 in 100 are `PutObject`.
const MINIO: &str = r#"{"version":"1","deploymentid":"6a1c5d3e-5f6b-4b1e-9d3f-0c7a2f1e8b4d","time":"{time}","event":"","trigger":"incoming","api":{"name":"{api}","bucket":"data","object":"{key}","status":"OK","statusCode":200,"rx":4096,"tx":0,"txHeaders":302,"timeToFirstByte":"1811273ns","timeToFirstByteInNS":"1811273","timeToResponse":"1833871ns","timeToResponseInNS":"1833871"},"remotehost":"127.0.0.1","requestID":"{id}","userAgent":"MinIO (linux; amd64) minio-go/v7.0.90","requestPath":"/data/{key}","requestHost":"127.0.0.1:9000","requestHeader":{"Authorization":"AWS4-HMAC-SHA256 Credential=bench/20261121/us-east-1/s3/aws4_request","Content-Length":"4096","Content-Type":"application/octet-stream","X-Amz-Content-Sha256":"UNSIGNED-PAYLOAD","X-Amz-Date":"20261121T060851Z"},"responseHeader":{"Accept-Ranges":"bytes","Content-Length":"0","ETag":"\"0f343b0931126a20f133d67c2b018a3b\"","Server":"MinIO","X-Amz-Id-2":"dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8","X-Amz-Request-Id":"{id}","X-Xss-Protection":"1; mode=block"},"tags":{"objectLocationInfo":"x"},"accessKey":"bench"}"#;

fn main() {
    let asked = std::env::args().skip(1).find_map(|arg| arg.parse::<f64>().ok());
    if std::env::args().any(|arg| arg == "changes") {
        return many(asked.unwrap_or(1e8) as u64);
    }
    let bytes = (asked.unwrap_or(1.0) * f64::from(1 << 30)) as u64;
    let temp = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("{} cores, logs of {} MiB", std::thread::available_parallelism().map_or(0, usize::from), bytes >> 20);
    for (name, extension) in [("hdfs", "log"), ("minio", "json")] {
        if dialect::by_name(name).is_some() {
            let log = temp.path().join(format!("{name}.{extension}"));
            generate(name, &log, bytes);
            runtime.block_on(measure(name, &log));
        }
    }
}

/// Files of a million changes each, in the order of their names.
fn many(changes: u64) {
    const FILE: u64 = 1_000_000;
    let temp = tempfile::tempdir().expect("a folder");
    for first in (0..changes).step_by(FILE as usize) {
        let file = File::create(temp.path().join(format!("hdfs-audit-{:06}.log.zst", first / FILE))).expect("creates");
        let mut out = zstd::Encoder::new(file, 1).expect("begins");
        for number in first..changes.min(first + FILE) {
            let request = HDFS[HDFS.len() - 5 + usize::try_from(number % 5).unwrap_or(0)].0;
            out.write_all(
                line(start() + TimeDelta::microseconds(i64::try_from(number).unwrap_or(0) * 500), request, number)
                    .as_bytes(),
            )
            .expect("writes");
        }
        out.finish().expect("writes");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (out, manifest) = make("hdfs", temp.path(), "mkchangelog", 0.0, |name| name.ends_with(".log.zst")).await;
        names(&out, &manifest).await;
    });
}

fn start() -> DateTime<Utc> {
    "2026-11-21T00:00:00Z".parse().expect("a time")
}

fn generate(name: &str, log: &Path, bytes: u64) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(log).expect("creates"));
    let (mut written, mut number) = (0, 0_u64);
    while written < bytes {
        let time = start() + TimeDelta::milliseconds(i64::try_from(number).unwrap_or(0) / 4);
        let line = if name == "hdfs" { hdfs(time, number) } else { minio(time, number) };
        out.write_all(line.as_bytes()).expect("writes");
        written += line.len() as u64;
        number += 1;
    }
    out.flush().expect("writes");
}

/// Spread evenly, so that every block has its share of each kind.
fn kind(number: u64) -> usize {
    usize::try_from(number * 37 % 100).unwrap_or(0)
}

fn hdfs(time: DateTime<Utc>, number: u64) -> String {
    let mut rest = kind(number);
    let request = HDFS.iter().find(|(_, share)| {
        let is_it = rest < *share;
        rest = rest.saturating_sub(*share);
        is_it
    });
    line(time, request.map_or(HDFS[0].0, |(request, _)| request), number)
}

fn line(time: DateTime<Utc>, request: &str, number: u64) -> String {
    let path = format!(
        "/warehouse/db.db/t{}/dt=2026-11-{:02}/part-{number:05}-c000.snappy.parquet",
        number / 1000,
        number % 28
    );
    let request = request.replace("{}", &path);
    format!(
        "{} INFO FSNamesystem.audit: allowed=true\tugi=etl (auth:SIMPLE)\tip=/10.8.17.{}\tcmd={request}\tproto=rpc\n",
        time.format("%Y-%m-%d %H:%M:%S,%3f"),
        number % 250,
    )
}

fn minio(time: DateTime<Utc>, number: u64) -> String {
    let api = if kind(number) < 28 { "PutObject" } else { "GetObject" };
    let key = format!("t{}/dt=2026-11-21/part-{number:05}.parquet", number / 1000);
    let time = time.format("%Y-%m-%dT%H:%M:%S.%9fZ").to_string();
    let id = format!("18{number:014X}");
    MINIO.replace("{time}", &time).replace("{api}", api).replace("{key}", &key).replace("{id}", &id) + "\n"
}

async fn measure(name: &str, log: &Path) {
    let mebibytes = fs::metadata(log).expect("is there").len() as f64 / f64::from(1 << 20);
    println!("== {name}, 28 % of the records change something");
    peer("wc -l", log, "wc -l", mebibytes);
    let (out, manifest) = make_of(name, log, "mkchangelog", mebibytes).await;
    names(&out, &manifest).await;
    for (pack, end, peer_command) in [("gzip -1k", "gz", "zcat"), ("zstd -1kq", "zst", "zstdcat")] {
        let packed = log.with_file_name(format!("{}.{end}", log.file_name().expect("a name").to_string_lossy()));
        if shell(&format!("{pack} {}", log.display())) {
            peer(peer_command, &packed, peer_command, mebibytes);
            make_of(name, &packed, &format!("mkchangelog, .{end}"), mebibytes).await;
            fs::remove_file(&packed).expect("removes");
        }
    }
    fs::remove_file(log).expect("removes");
}

fn shell(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn peer(what: &str, log: &Path, command: &str, mebibytes: f64) {
    shell(&format!("cat {} > /dev/null", log.display()));
    let began = Began::now();
    if shell(&format!("{command} {} > /dev/null", log.display())) {
        say(what, began, mebibytes);
    }
}

/// A moment, and how much of the cores this process and its children had taken until then: on a machine that others use,
/// only that can be compared.
struct Began(Instant, f64);

impl Began {
    fn now() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn seconds(&self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), cpu_seconds() - self.1)
    }
}

/// The fields of proc(5) for user and system time, of the process and its children; a tick is 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn say(what: &str, began: Began, mebibytes: f64) {
    let (seconds, cpu) = began.seconds();
    let (rate, peak) = (mebibytes / seconds, peak_mebibytes());
    println!("  {what:24} {seconds:7.2} s  {cpu:7.2} s of the cores  {rate:7.0} MiB/s  peak {peak} MiB");
}

/// Of this process so far.
fn peak_mebibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// A window of one file of its directory.
async fn make_of(name: &str, log: &Path, what: &str, mebibytes: f64) -> (Local, Manifest) {
    let wanted = log.file_name().expect("a name").to_string_lossy().into_owned();
    make(name, log.parent().expect("a folder"), what, mebibytes, move |name| name == wanted).await
}

async fn make(
    name: &str,
    logs: &Path,
    what: &str,
    mebibytes: f64,
    wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> (Local, Manifest) {
    let out = Local::open(&logs.join(format!("windows of {what}"))).expect("opens");
    let logs = Local::open(logs).expect("opens");
    let mut options = MakeOptions::new(Scope::new("/").expect("a root"), Zone::UTC);
    options.dialect = dialect::by_name(name);
    options.wanted = std::sync::Arc::new(wanted);
    let began = Began::now();
    let made = changelog::make(&logs, &out, &options).await.expect("makes a window");
    say(what, began, mebibytes);
    (out, made.window.expect("there are changes"))
}

/// What apply does before it looks at a store: the window's changes as names, in parts.
async fn names(out: &Local, manifest: &Manifest) {
    const PART: usize = 250_000;
    let began = Began::now();
    let (mut names, mut parts) = (Names::default(), 1);
    let mut changes = std::pin::pin!(changelog::changes(out, manifest));
    while let Some(change) = changes.try_next().await.expect("readable") {
        names.add(&change);
        if names.len() >= PART {
            (names, parts) = (Names::default(), parts + 1);
        }
    }
    let ((seconds, cpu), changes) = (began.seconds(), manifest.data.changes);
    println!(
        "  read back into names     {seconds:7.2} s  {cpu:7.2} s of the cores  {:7.0} changes/s and core, {changes} in {parts} \
         parts  peak {} MiB",
        changes as f64 / cpu,
        peak_mebibytes()
    );
}
