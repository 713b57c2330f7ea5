//! Copies from and to a real MinIO through a network that loses and cuts what it carries: nothing is deleted that the source has, and
//! when the faults stop both sides are equal. `SYNCD_SEED=…` repeats the choices of a run, if not their order.

use super::live::{Follower, Place, local, log};
use super::minio::Minio;
use super::proxy::Proxy;
use super::walk;
use aws_sdk_s3::primitives::ByteStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use syncd::store::s3::{S3, S3Options};
use tempfile::TempDir;

const KEPT: u64 = 24;
const WINDOWS: u64 = 3;
const CHANGES: u64 = 12;

/// To MinIO from local files, and from MinIO to local files.
pub async fn through_faults(minio: &Minio) {
    let seed = seed();
    println!("  SYNCD_SEED={seed}");
    futures::join!(through(minio, seed, true), through(minio, seed, false));
}

async fn through(minio: &Minio, seed: u64, to_minio: bool) {
    let proxy = Proxy::start(&minio.endpoint, seed).await.expect("a proxy");
    let options = S3Options { endpoint: Some(proxy.endpoint.clone()), ..minio.options() };
    let source = Source::new(minio, to_minio);
    source.fill().await;
    let logs = tempfile::tempdir().expect("a directory");
    log(logs.path(), &["cmd=create\tsrc=/before"]);
    let mut copy = source.follower(options, logs.path()).await;
    proxy.misbehave(true);
    copy.import_through_faults().await;
    let mut failed = 0;
    for window in 0..WINDOWS {
        source.change(window, logs.path()).await;
        log(logs.path(), &["cmd=delete\tsrc=/kept", "cmd=rename\tsrc=/kept/d0\tdst=/elsewhere"]);
        if let Err(error) = copy.round().await {
            assert!(!error.is_refusal(), "{error}");
            failed += 1;
        }
        let kept: Vec<String> = (0..KEPT).map(kept).collect();
        copy.still_holds(&kept.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    proxy.misbehave(false);
    copy.come_to_rest().await;
    let compared = source.assert_equal(&mut copy).await;
    println!("  {}; {failed} of {WINDOWS} windows failed; {}", copy.words(compared), proxy.words());
}

fn kept(number: u64) -> String {
    format!("kept/d{}/f{number}", number % 4)
}

#[expect(clippy::disallowed_methods, reason = "a seed that differs from run to run is the point; it is printed")]
fn seed() -> u64 {
    let given = std::env::var("SYNCD_SEED").ok().map(|text| text.parse().expect("SYNCD_SEED is a number"));
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64)
}

/// What is copied; it is changed without the proxy.
enum Source<'a> {
    Local(TempDir, &'a Minio),
    Minio(&'a Minio),
}

impl<'a> Source<'a> {
    fn new(minio: &'a Minio, to_minio: bool) -> Self {
        let dir = || tempfile::tempdir().expect("a directory");
        if to_minio { Self::Local(dir(), minio) } else { Self::Minio(minio) }
    }

    /// What is copied goes through the proxy on its way from or to MinIO.
    async fn follower(&self, options: S3Options, logs: &Path) -> Follower {
        match self {
            Self::Local(dir, minio) => {
                let place = Place::minio_by(minio, options, "faulty-copy");
                Follower::of(local(dir.path()), "local".to_owned(), place, logs, "/", "UTC").await
            }
            Self::Minio(minio) => {
                let store = S3::connect(&minio.bucket, "faulty", &options).await.expect("a good prefix");
                Follower::of(Arc::new(store), "s3://faulty".to_owned(), Place::local(), logs, "/", "UTC").await
            }
        }
    }

    async fn fill(&self) {
        for number in 0..KEPT {
            self.write(&kept(number), number).await;
        }
        for number in 0..KEPT {
            self.write(&format!("d{}/f{number}", number % 3), number * 2711).await;
        }
        self.write("large", 17 << 20).await;
    }

    /// So many bytes, each a function of its place and of how many there are.
    async fn write(&self, path: &str, len: u64) {
        let bytes: Vec<u8> = (0..len).map(|at| ((at * 31 + len) % 251) as u8).collect();
        match self {
            Self::Local(dir, _) => {
                let file = dir.path().join(path);
                std::fs::create_dir_all(file.parent().expect("below the root")).expect("makes");
                std::fs::write(&file, bytes).expect("writes");
                // The walks that compare know milliseconds.
                let time = Duration::from_millis(syncd::clock::now().timestamp_millis().unsigned_abs());
                let file = std::fs::File::options().write(true).open(file).expect("opens");
                file.set_modified(UNIX_EPOCH + time).expect("sets a time");
            }
            Self::Minio(minio) => {
                let put = minio.client().put_object().bucket(&minio.bucket).key(format!("faulty/{path}"));
                put.body(ByteStream::from(bytes)).send().await.expect("puts");
            }
        }
    }

    async fn remove(&self, path: &str) {
        match self {
            // It may have gone with an earlier window.
            Self::Local(dir, _) => drop(std::fs::remove_file(dir.path().join(path))),
            Self::Minio(minio) => {
                let delete = minio.client().delete_object().bucket(&minio.bucket).key(format!("faulty/{path}"));
                delete.send().await.expect("deletes");
            }
        }
    }

    /// What one window is about, and its lines.
    async fn change(&self, window: u64, logs: &Path) {
        for number in 0..CHANGES {
            let path = format!("d{}/f{}", number % 3, (window * 7 + number * 3) % KEPT);
            if number % 4 == 3 {
                self.remove(&path).await;
                log(logs, &[&format!("cmd=delete\tsrc=/{path}")]);
            } else {
                self.write(&path, window * 10_007 + number * 4099).await;
                log(logs, &[&format!("cmd=create\tsrc=/{path}")]);
            }
        }
        self.rename(&format!("d{}", window % 3), &format!("r{window}"), logs).await;
    }

    /// Object stores have no renames: theirs is a name that nothing becomes of.
    async fn rename(&self, from: &str, to: &str, logs: &Path) {
        if let Self::Local(dir, _) = self {
            std::fs::rename(dir.path().join(from), dir.path().join(to)).expect("renames");
        }
        log(logs, &[&format!("cmd=rename\tsrc=/{from}\tdst=/{to}")]);
    }

    async fn assert_equal(&self, copy: &mut Follower) -> usize {
        let tree = match self {
            Self::Local(dir, _) => walk::local(dir.path()),
            Self::Minio(minio) => walk::s3_bare(&minio.client(), &minio.bucket, "faulty").await,
        };
        copy.assert_equal(&tree).await;
        tree.len()
    }
}
