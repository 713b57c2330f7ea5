//! `kill -9` at random moments of every command that writes, while the source goes on changing: the end is the same, and the
//! import does not begin anew. `SYNCD_SEED=… cargo test --test kill` repeats the choices of a run, if not its moments.

#[path = "common/binary.rs"]
mod binary;
#[path = "common/dice.rs"]
mod dice;

use binary::{Running, Stage, line, split};
use dice::Dice;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BULK_FILES: u64 = 4000;
const BULK_DIRS: u64 = 20;
const IMPORT_KILLS: usize = 8;
const WINDOW_KILLS: usize = 18;
/// More starts than this for so many kills would mean that processes end before they are killed.
const STARTS_MAX: usize = 200;

/// A stage whose source somebody works on.
struct Work {
    stage: Stage,
    dice: Dice,
    made: u64,
}

impl Work {
    fn new(seed: u64) -> Self {
        let work = Self { stage: Stage::new(), dice: Dice::of(seed), made: 0 };
        for number in 0..BULK_FILES {
            let file = work.source(&format!("bulk{}/{number}", number % BULK_DIRS));
            fs::create_dir_all(file.parent().expect("is in a folder")).expect("makes");
            fs::write(&file, format!("{number} ").repeat(1 + number as usize % 500)).expect("writes");
            let long_ago = UNIX_EPOCH + Duration::new(1_600_000_000 + number, 123_456_789);
            fs::File::open(&file).expect("opens").set_modified(long_ago).expect("sets");
        }
        (0..8).for_each(|dir| fs::create_dir(work.source(&format!("live{dir}"))).expect("makes"));
        work
    }

    fn source(&self, path: &str) -> PathBuf {
        self.stage.at("source").join(path)
    }

    /// A directory that is there now; its name begins with `what`.
    fn dir(&mut self, what: &str) -> String {
        let names = fs::read_dir(self.stage.at("source")).expect("lists").map(|item| item.expect("lists").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("is text")).collect();
        names.retain(|name| name.starts_with(what));
        names.sort();
        names.swap_remove(self.dice.below(names.len()))
    }

    /// One change of the source, then its line.
    fn change(&mut self, dirs: &[&str]) {
        self.made += 1;
        let made = self.made;
        let what = dirs[self.dice.below(dirs.len())];
        let dir = self.dir(what);
        let path = format!("{dir}/{}", self.dice.below(60));
        let file = self.source(&path);
        match self.dice.below(12) {
            0..5 => self.stage.write(&path, &format!("{made} ").repeat(1 + made as usize % 700)),
            5 if file.is_file() => self.stage.remove(&path),
            6 if file.is_file() => self.stage.rename(&path, &format!("{dir}/moved{made}")),
            7 if file.is_file() => {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600 | (made as u32 & 0o77))).expect("sets");
                self.stage.log(&line("setPermission", &path, None));
            }
            8 if file.is_file() => {
                binary::append(&file, "more");
                self.stage.log(&line("append", &path, None));
            }
            9 => self.stage.rename(&dir, &format!("{what}x{made}")),
            10 => self.swap(&dir, what),
            11 => {
                let below = self.source(&format!("{dir}/below{made}"));
                fs::create_dir(below).expect("makes");
                self.stage.log(&line("mkdirs", &format!("{dir}/below{made}"), None));
            }
            _ => self.stage.write(&path, "short"),
        }
    }

    /// What a job does that replaces a table. What was imported stays as the old one, so that there is much to move.
    fn swap(&mut self, dir: &str, what: &str) {
        let (new, old) = (format!("{what}new{}", self.made), format!("{what}old{}", self.made));
        self.stage.write(&format!("{new}/0"), "the new one");
        self.stage.rename(dir, &old);
        self.stage.rename(&new, dir);
        if what == "live" {
            self.stage.remove(&old);
        }
    }

    /// Starts a command and kills it after a random time.
    fn kill_within(&mut self, args: &[String], within: Duration) -> bool {
        let moment = Duration::from_micros(self.dice.below(within.as_micros() as usize) as u64);
        let began = Instant::now();
        self.kill(args, &["live", "bulk"], || began.elapsed() >= moment)
    }

    /// Starts a command and kills it when it is time; meanwhile the source changes. True if it was killed; false if it came
    /// to its end first, as it may.
    fn kill(&mut self, args: &[String], dirs: &[&str], is_time: impl Fn() -> bool) -> bool {
        let mut process: Running = self.stage.start(args);
        while !is_time() && process.0.try_wait().expect("looks").is_none() {
            self.change(dirs);
            std::thread::park_timeout(Duration::from_millis(self.dice.below(8) as u64));
        }
        process.0.kill().expect("kills");
        let status = process.0.wait().expect("waits");
        let fine = status.signal() == Some(9) || matches!(status.code(), Some(0 | 3));
        assert!(fine, "{args:?} ended with {status}:\n{}", self.stage.stderr());
        status.signal() == Some(9)
    }

    /// Kills until it happened often enough.
    fn kill_often(&mut self, kills: usize, mut once: impl FnMut(&mut Self) -> bool) {
        let mut killed = 0;
        for _ in 0..STARTS_MAX {
            killed += usize::from(once(self));
            if killed == kills {
                return;
            }
        }
        panic!("only {killed} of {STARTS_MAX} starts were killed before they came to their end");
    }
}

/// Inode and time of the last change, by path.
type Finished = BTreeMap<PathBuf, (u64, i64, i64)>;

/// The imported files that are finished at the destination.
fn finished(destination: &Path) -> Finished {
    let identity = |path: &PathBuf| {
        let meta = fs::symlink_metadata(path).expect("looks");
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    let bulk =
        |path: &PathBuf| path.strip_prefix(destination).is_ok_and(|path| path.to_string_lossy().starts_with("bulk"));
    let files = if destination.exists() { binary::files_below(destination) } else { Vec::new() };
    files.into_iter().filter(bulk).map(|path| (path.clone(), identity(&path))).collect()
}

#[expect(clippy::disallowed_methods, reason = "a seed that differs from run to run is the point; it is printed")]
fn seed() -> u64 {
    let given = std::env::var("SYNCD_SEED").ok().map(|text| text.parse().expect("SYNCD_SEED is a number"));
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64)
}

fn import(work: &Work, more: &str) -> Vec<String> {
    [split("migrate-import --audit-log-dir"), vec![work.stage.text("logs")], work.stage.pair(), split(more)].concat()
}

/// Kills imports; what was finished before a kill is not touched again, and what the last one copies is only the rest.
fn kill_imports(work: &mut Work) {
    let destination = work.stage.at("destination");
    let mut kept = Finished::new();
    work.kill_often(IMPORT_KILLS, |work| {
        let left = BULK_FILES as usize - kept.len();
        let enough = kept.len() + work.dice.below(left / 3 + 1);
        let moment = Duration::from_millis(work.dice.below(200) as u64);
        let began = Instant::now();
        let is_time = || began.elapsed() >= moment && finished(&destination).len() >= enough;
        let killed = work.kill(&import(work, ""), &["live"], is_time);
        let now = finished(&destination);
        for (path, identity) in &kept {
            assert_eq!(now.get(path), Some(identity), "{} was finished before", path.display());
        }
        kept = now;
        killed
    });
    println!("{} of {BULK_FILES} files were finished when the last import began", kept.len());
    let ran = work.stage.run(&import(work, "--json"));
    assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.err);
    let live = binary::files_below(&work.stage.at("source")).len() as u64 - BULK_FILES;
    let copied = ran.json()["copied_files"].as_u64().expect("a number");
    assert!(copied <= BULK_FILES - kept.len() as u64 + live, "{copied} files copied, {} were there", kept.len());
    let now = finished(&destination);
    for (path, identity) in &kept {
        assert_eq!(now.get(path), Some(identity), "{} was finished before", path.display());
    }
}

fn kill_windows(work: &mut Work) {
    work.kill_often(WINDOW_KILLS, |work| {
        (0..40).for_each(|_| work.change(&["live", "bulk"]));
        let state = vec!["--state-dir".to_owned(), work.stage.text("state")];
        let make = [split("mkchangelog"), work.stage.logs(), state].concat();
        let changes = vec!["--change-log-dir".to_owned(), work.stage.text("changes")];
        let apply = [split("apply --update"), changes, work.stage.pair()].concat();
        match work.dice.below(4) {
            0 => work.kill_within(&make, Duration::from_millis(80)),
            1 => work.kill_within(&work.stage.daemon(), Duration::from_millis(700)),
            _ => {
                work.stage.run(&make).ends(0);
                work.kill_within(&apply, Duration::from_millis(300))
            }
        }
    });
}

#[test]
fn whenever_it_is_killed_the_end_is_the_same() {
    let seed = seed();
    println!("SYNCD_SEED={seed}");
    let mut work = Work::new(seed);
    let began = Instant::now();
    kill_imports(&mut work);
    println!("imports: {:?}", began.elapsed());
    kill_windows(&mut work);
    println!("windows: {:?}, {} changes", began.elapsed(), work.made);
    work.stage.mkchangelog("").ends(0);
    work.stage.apply("").ends(0);
    println!("last apply: {:?}", began.elapsed());
    assert_eq!(work.stage.differences(), [""; 0], "SYNCD_SEED={seed}");
    assert!(work.stage.leftovers().is_empty(), "{:?}", work.stage.leftovers());
    let change_log = binary::files_below(&work.stage.at("changes"));
    let ours = |name: &str| [".changes.jsonl.zst", ".manifest.json"].iter().any(|end| name.ends_with(end));
    let strange: Vec<&PathBuf> = change_log.iter().filter(|path| !ours(&path.to_string_lossy())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    work.stage.pass("verify --content").ends(0);
    work.stage.status().ends(0);
}
