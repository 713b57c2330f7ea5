//! From log directories to windows and back, over the store in memory: every way in which logs rotate, every way in
//! which lines get lost, and what the windows promise.

#[path = "common/packed.rs"]
mod packed;

use async_compression::tokio::write::GzipEncoder;
use chrono::{DateTime, NaiveDateTime, Utc};
use futures::TryStreamExt;
use packed::{gzip, zstd};
use proptest::prelude::*;
use std::collections::BTreeMap;
use syncd::changelog::{
    Applied, Begin, ChangelogError, Made, MakeOptions, Manifest, after, chain, changes, make, manifest,
};
use syncd::scope::Scope;
use syncd::store::local::Local;
use syncd::store::mem::Memory;
use syncd::store::{ErrorKind, Time};
use syncd::tail;
use syncd::zone::Zone;
use syncd_parsers::dialect::{Clock, Delivery};
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Change, Dialect, Entry, Op, ParseError, RelPath};
use tokio::io::AsyncWriteExt;

/// `2022-06-01T12:00:00.000 write /data/a`; the path of `long` may have newlines, and ends with ` end`.
struct Words;

impl Dialect for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn begins(&self, line: &[u8]) -> bool {
        line.first().is_some_and(u8::is_ascii_digit)
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let bad = ParseError::malformed;
        let text = std::str::from_utf8(record).map_err(|_| bad(0, "text"))?;
        let mut words = text.splitn(3, ' ');
        let time = words.next().and_then(|time| time.parse().ok()).ok_or(bad(0, "a time"))?;
        let op = match words.next() {
            Some("write") => Op::Write,
            Some("delete") => Op::Delete,
            Some("read") => return Ok(time),
            Some("long") if !text.ends_with(" end") => return Err(ParseError::incomplete(text.len(), "the end")),
            Some("long") => Op::Write,
            _ => return Err(bad(24, "an operation")),
        };
        let path = words.next().ok_or(bad(30, "a path"))?.as_bytes().to_vec();
        out.push(Entry { time, op, path, to: None, into: false, user: None });
        Ok(time)
    }

    fn salvage(&self, _: &[u8], _: &mut Vec<Entry>) {}
}

/// A log directory, the windows made of it, and what passes remember.
struct Bench {
    logs: Memory,
    out: Memory,
    options: MakeOptions,
}

impl Bench {
    fn new() -> Self {
        let mut options = MakeOptions::new(Scope::new("/data").expect("a root"), Zone::UTC);
        options.dialect = Some(&Words);
        Self { logs: Memory::tree(), out: Memory::tree(), options }
    }

    fn write(&self, log: &str, text: &str) {
        self.logs.write(&path(log), text.as_bytes().to_vec());
    }

    fn append(&self, log: &str, text: &str) {
        let before = self.logs.snapshot().get(&path(log)).map_or(Vec::new(), |(_, bytes)| bytes.to_vec());
        self.logs.write(&path(log), [&before, text.as_bytes()].concat());
    }

    fn rename(&self, from: &str, to: &str) {
        self.logs.move_over(&path(from), &path(to));
    }

    fn copy(&self, from: &str, to: &str) {
        let bytes = self.logs.snapshot()[&path(from)].1.clone();
        self.logs.write(&path(to), bytes);
    }

    async fn try_pass(&mut self) -> Result<Made, ChangelogError> {
        let made = make(&self.logs, &self.out, &self.options).await?;
        self.options.seen = made.seen.clone();
        Ok(made)
    }

    async fn pass(&mut self) -> Made {
        self.try_pass().await.expect("a pass")
    }

    /// The names of the paths in the window that a pass makes.
    async fn paths(&mut self) -> String {
        let made = self.pass().await;
        match made.window {
            None => "no window".to_owned(),
            Some(window) => self.window(&window).await,
        }
    }

    async fn window(&self, window: &Manifest) -> String {
        let changes: Vec<Change> = changes(&self.out, window).try_collect().await.expect("readable");
        assert_eq!(changes.len() as u64, window.data.changes);
        let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
        paths.join(" ")
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect(text)
}

/// One line for each name, one second apart, the first at that second of the day.
fn lines(second: u32, names: &str) -> String {
    names.split(' ').zip(second..).map(|(name, second)| line(second, name)).collect()
}

fn line(second: u32, name: &str) -> String {
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("2022-06-01T{hour:02}:{minute:02}:{:02}.000 write /data/{name}\n", second % 60)
}

fn gap_text(result: Result<Made, ChangelogError>) -> String {
    match result {
        Err(error @ ChangelogError::Gap(_)) => error.to_string(),
        other => panic!("expected a gap, not {other:?}"),
    }
}

// ---- growth and rotation

#[tokio::test]
async fn each_pass_gives_what_was_appended_since_the_one_before() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a b"));
    assert_eq!(bench.paths().await, "a b");
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", &lines(10, "c"));
    assert_eq!(bench.paths().await, "c");
}

#[tokio::test]
async fn a_half_written_line_waits_until_it_is_whole() {
    let mut bench = Bench::new();
    bench.write("audit.log", &(lines(0, "a") + "2022-06-01T00:00:05.000 write /da"));
    assert_eq!(bench.paths().await, "a");
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", "ta/b\n");
    assert_eq!(bench.paths().await, "b");
}

#[tokio::test]
async fn a_file_without_a_whole_line_is_read_once_it_has_one() {
    let mut bench = Bench::new();
    bench.write("a.log", &lines(0, "a"));
    bench.write("b.log", "2022-06-01T00:00:05.0");
    assert_eq!(bench.paths().await, "a");
    bench.append("b.log", "00 write /data/b\n");
    assert_eq!(bench.paths().await, "b");
}

#[tokio::test]
async fn a_renamed_log_is_read_on_under_its_new_name() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    assert_eq!(bench.paths().await, "a");
    bench.append("audit.log", &lines(1, "b"));
    bench.rename("audit.log", "audit.log.1");
    bench.write("audit.log", &lines(2, "c"));
    assert_eq!(bench.paths().await, "b c");
}

#[tokio::test]
async fn two_rotations_between_passes_lose_nothing_and_repeat_nothing() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    assert_eq!(bench.paths().await, "a");
    bench.append("audit.log", &lines(1, "b"));
    bench.rename("audit.log", "audit.log.2");
    bench.write("audit.log.1", &lines(2, "c"));
    bench.write("audit.log", &lines(3, "d"));
    assert_eq!(bench.paths().await, "b c d");
}

#[tokio::test]
async fn logs_with_dates_in_their_names_follow_each_other() {
    let mut bench = Bench::new();
    bench.write("audit.log.2022-06-01", &lines(0, "a"));
    assert_eq!(bench.paths().await, "a");
    bench.append("audit.log.2022-06-01", &lines(1, "b"));
    bench.write("audit.log.2022-06-02", &lines(2, "c"));
    assert_eq!(bench.paths().await, "b c");
}

#[tokio::test]
async fn a_log_that_is_copied_and_truncated_is_read_on_in_its_copy() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    assert_eq!(bench.paths().await, "a");
    bench.append("audit.log", &lines(1, "b"));
    bench.copy("audit.log", "audit.log.1");
    assert_eq!(bench.paths().await, "b", "one of the two is read");
    bench.write("audit.log", "");
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", &lines(2, "c"));
    assert_eq!(bench.paths().await, "c");
}

#[tokio::test]
async fn a_log_that_was_compressed_is_not_read_again() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    assert_eq!(bench.paths().await, "a");
    bench.append("audit.log", &lines(1, "b"));
    bench.logs.write(&path("audit.log.1.gz"), gzip(lines(0, "a b").as_bytes()).await);
    bench.logs.write(&path("audit.log.2.zst"), zstd(lines(100, "x y").as_bytes()).await);
    bench.write("audit.log", &lines(2, "c"));
    assert_eq!(bench.paths().await, "b c x y");
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_log_that_stays_beside_its_compressed_form_is_read_once() {
    let mut bench = Bench::new();
    bench.logs.write(&path("audit.log.1.gz"), gzip(lines(0, "a b").as_bytes()).await);
    bench.write("audit.log.1", &lines(0, "a b"));
    assert_eq!(bench.paths().await, "a b");
    bench.logs.delete(&path("audit.log.1"));
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn logs_that_begin_with_the_same_line_are_told_apart() {
    let mut bench = Bench::new();
    let first = "2022-06-01T00:00:00.000 read the header\n".to_owned();
    bench.write("one.log", &first);
    assert_eq!(bench.paths().await, "");
    bench.write("one.log", &(first.clone() + &lines(1, "a")));
    bench.write("two.log", &(first.clone() + &lines(2, "b")));
    assert_eq!(bench.paths().await, "a b");
    bench.append("two.log", &lines(3, "c"));
    bench.append("one.log", &lines(4, "d"));
    assert_eq!(bench.paths().await, "d c");
}

#[tokio::test]
async fn members_that_stand_one_after_another_in_a_file_are_one_log() {
    let mut bench = Bench::new();
    let members = [gzip(lines(0, "a").as_bytes()).await, gzip(lines(1, "b").as_bytes()).await].concat();
    bench.logs.write(&path("audit.log.1.gz"), members);
    assert_eq!(bench.paths().await, "a b");
}

#[tokio::test]
async fn compressed_data_that_is_still_being_written_is_read_as_far_as_it_goes() {
    let mut bench = Bench::new();
    let text: String = (0..5000).map(|second| line(second, &format!("f{}", second * 7919 % 5003))).collect();
    let packed = gzip(text.as_bytes()).await;
    bench.logs.write(&path("audit.log.1.gz"), packed[..packed.len() / 2].to_vec());
    let first = bench.pass().await;
    assert!(first.warnings.iter().any(|warning| warning.contains("still being written")), "{:?}", first.warnings);
    let first = first.window.expect("half of the lines");
    assert_eq!(first.to, first.from, "what is not read yet may be older than what was read");
    bench.logs.write(&path("audit.log.1.gz"), packed);
    let second = bench.pass().await.window.expect("the other half");
    assert!(first.lines > 500 && second.lines > 500, "{} and {}", first.lines, second.lines);
    assert_eq!(first.lines + second.lines, 5000);
}

#[tokio::test]
async fn damaged_compressed_data_is_an_error_that_says_where() {
    let mut bench = Bench::new();
    let text: String = (0..5000).map(|second| line(second, &format!("f{}", second * 7919 % 5003))).collect();
    let mut packed = gzip(text.as_bytes()).await;
    let middle = packed.len() / 2;
    packed[middle..middle + 200].fill(0xff);
    bench.logs.write(&path("audit.log.1.gz"), packed);
    let error = bench.try_pass().await.expect_err("damaged").to_string();
    assert!(error.starts_with("audit.log.1.gz: damaged compressed data, after byte "), "{error}");
}

#[tokio::test]
async fn a_rotated_log_may_end_without_a_newline() {
    let mut bench = Bench::new();
    let unterminated = lines(0, "a b").trim_end().to_owned();
    bench.write("audit.log", &unterminated);
    assert_eq!(bench.paths().await, "a");
    bench.rename("audit.log", "audit.log.1");
    bench.write("audit.log", &lines(2, "c"));
    assert_eq!(bench.paths().await, "b c");
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_log_that_was_taken_for_closed_and_grows_is_read_on_from_the_line_that_was_not_whole() {
    let mut bench = Bench::new();
    bench.write("one.log", &(lines(0, "a") + "2022-06-01T00:00:05.000 write /data/b"));
    assert_eq!(bench.paths().await, "a");
    bench.write("two.log", &lines(9, "c"));
    assert_eq!(bench.paths().await, "b c");
    bench.append("one.log", "bb\n");
    assert_eq!(bench.paths().await, "bbb");
}

#[tokio::test]
async fn a_record_of_several_lines_waits_until_it_is_whole() {
    let mut bench = Bench::new();
    bench.write("audit.log", &(lines(0, "a") + "2022-06-01T00:00:01.000 long /data/b\n"));
    assert_eq!(bench.paths().await, "a");
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", "c end\n");
    assert_eq!(bench.paths().await, "b\\nc end");
}

#[tokio::test]
async fn a_record_that_the_lines_after_the_pass_give_another_reading_is_read_again_with_them() {
    let mut bench = Bench::new();
    bench.write("audit.log", &(lines(0, "a") + "2022-06-01T00:00:01.000 long /data/b\nc end\n"));
    assert_eq!(bench.paths().await, "a b\\nc end");
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", "d end\n");
    assert_eq!(bench.paths().await, "b\\nc end b\\nc end\\nd end");
    bench.append("audit.log", &lines(5, "p q r s t u v w"));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!(window.positions[0].open, 0, "too far away to be of that record");
}

#[tokio::test]
async fn lines_that_were_read_again_without_news_are_not_written() {
    let mut bench = Bench::new();
    bench.write("a.log", &(lines(0, "a") + "2022-06-01T00:00:01.000 long /data/b\nc end\n"));
    bench.pass().await;
    bench.options.seen = tail::Seen::default();
    bench.write("b.log", &lines(2, "d"));
    assert_eq!(bench.paths().await, "d");
}

#[tokio::test]
async fn what_is_hidden_or_ours_or_a_half_upload_is_no_log() {
    let mut bench = Bench::new();
    bench.write("2022/audit.log", &lines(0, "a"));
    for other in [".audit.log.crc", "x.changes.jsonl.zst", "x.manifest.json", "audit.log.1._COPYING_"] {
        bench.write(other, "no log\n");
    }
    bench.write("audit.log.7.bz2", "packed\n");
    let made = bench.pass().await;
    assert_eq!(made.window.expect("one").logs.len(), 1);
    assert_eq!(made.warnings, ["audit.log.7.bz2 is left out: .bz2 cannot be read, only plain, .gz and .zst logs"]);
}

#[tokio::test]
async fn an_idle_log_is_not_opened() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.write("audit.log.1", &lines(100, "b"));
    bench.pass().await;
    bench.logs.reset_calls();
    assert_eq!(bench.paths().await, "no window");
    let calls = bench.logs.calls();
    assert_eq!((calls.list, calls.lookup, calls.read_range), (1, 0, 0));
}

#[tokio::test]
async fn a_log_that_is_rotated_while_it_is_read_counts_in_the_next_pass() {
    for block_bytes in [64, 4 << 20] {
        let mut bench = Bench::new();
        bench.options.block_bytes = block_bytes;
        bench.write("audit.log", &lines(0, "a b c d e f g h"));
        let logs = bench.logs.clone();
        let mut reads = 0;
        bench.logs.on_call(move |op, _| {
            reads += u32::from(op == "read_range");
            if op == "read_range" && reads == 3 {
                logs.move_over(&path("audit.log"), &path("audit.log.1"));
                logs.write(&path("audit.log"), lines(20, "x"));
            }
            None
        });
        let made = bench.pass().await;
        assert_eq!((made.postponed, made.window.is_none()), (1, true));
        assert_eq!(bench.paths().await, "a b c d e f g h x");
    }
}

#[tokio::test]
async fn a_log_that_grows_by_blocks_and_is_rotated_while_it_is_read_leaves_nothing_in_the_window() {
    let mut bench = Bench::new();
    bench.options.block_bytes = 100;
    bench.write("audit.log", &lines(0, "a"));
    bench.write("other.log", &lines(10, "z"));
    let (logs, mut looks, mut reads) = (bench.logs.clone(), 0, 0);
    bench.logs.on_call(move |op, at| {
        let is_it = *at == path("audit.log");
        looks += u32::from(is_it && op == "lookup");
        reads += u32::from(is_it && op == "read_range");
        if is_it && op == "lookup" && looks == 1 {
            logs.write(&path("audit.log"), lines(0, "a b c d e f g h"));
        } else if is_it && op == "read_range" && reads == 3 {
            logs.move_over(&path("audit.log"), &path("audit.log.1"));
            logs.write(&path("audit.log"), lines(20, "x"));
        }
        None
    });
    let made = bench.pass().await;
    assert_eq!(made.postponed, 1);
    assert_eq!(bench.window(&made.window.expect("of the other log")).await, "z");
}

// ---- what is lost

#[tokio::test]
async fn a_log_that_is_gone_before_it_was_read_to_its_end_is_a_gap() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.write("audit.log", &lines(50, "b"));
    let text = gap_text(bench.try_pass().await);
    assert!(text.contains("audit.log after byte 38: the file is gone"), "{text}");
    assert!(text.contains("--accept-gap"), "{text}");
    assert_eq!(chain(&bench.out).await.expect("listed").len(), 1, "nothing is written");
}

#[tokio::test]
async fn an_accepted_gap_is_written_down_and_everything_is_looked_at() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.write("audit.log", &lines(50, "b"));
    bench.options.accept_gap = true;
    let window = bench.pass().await.window.expect("a window");
    assert_eq!(bench.window(&window).await, ". b");
    assert!(window.rescan_all);
    assert_eq!(window.gaps[0].log.as_deref(), Some("audit.log"));
    assert_eq!(window.counts[&Op::Rescan], 1);
    bench.options.accept_gap = false;
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_truncated_log_is_a_gap() {
    let mut bench = Bench::new();
    let long = lines(0, &(0..40).map(|n| format!("f{n}")).collect::<Vec<_>>().join(" "));
    bench.write("audit.log", &long);
    bench.pass().await;
    bench.write("audit.log", &long[..1200]);
    let text = gap_text(bench.try_pass().await);
    assert!(text.contains("the file was cut to 1200 bytes"), "{text}");
    bench.options.accept_gap = true;
    let window = bench.pass().await.window.expect("a window");
    assert!(bench.window(&window).await.starts_with(". f0 f1"), "what is there is read again");
    bench.options.accept_gap = false;
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_log_that_retention_removes_after_it_was_read_is_no_gap() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.rename("audit.log", "audit.log.1");
    bench.write("audit.log", &lines(1, "b"));
    assert_eq!(bench.paths().await, "b");
    bench.logs.delete(&path("audit.log.1"));
    bench.append("audit.log", &lines(2, "c"));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!(window.positions.len(), 1, "nothing is remembered of what is gone");
}

#[tokio::test]
async fn a_log_that_was_read_to_its_end_only_after_its_rotation_is_closed_too() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.rename("audit.log", "audit.log.1");
    bench.write("audit.log", &lines(5, "b"));
    bench.options.until = Some(time("2022-06-01T00:00:00Z"));
    assert_eq!(bench.paths().await, "no window");
    bench.options.until = Some(time("2022-06-01T00:00:07Z"));
    bench.write("audit.log.1", &lines(0, "a c d"));
    assert_eq!(bench.paths().await, "a c d b");
    bench.write("audit.log.1", &lines(0, "a c d e"));
    assert_eq!(bench.paths().await, "e");
    bench.logs.delete(&path("audit.log.1"));
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_listing_that_lacks_a_file_for_a_moment_is_no_gap() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.append("audit.log", &lines(1, "b"));
    bench.rename("audit.log", "away/audit.log.1");
    bench.write("audit.log", &lines(2, "c"));
    let logs = bench.logs.clone();
    logs.move_over(&path("away/audit.log.1"), &path(".hidden"));
    let mut listings = 0;
    bench.logs.on_call(move |op, _| {
        listings += u32::from(op == "list");
        if op == "list" && listings == 3 {
            logs.move_over(&path(".hidden"), &path("audit.log.1"));
        }
        None
    });
    assert_eq!(bench.paths().await, "b c");
}

#[tokio::test]
async fn an_empty_or_missing_log_directory_is_an_error() {
    let mut bench = Bench::new();
    let error = bench.try_pass().await.expect_err("no logs");
    assert!(matches!(error, ChangelogError::NoLogs), "{error}");
    bench.logs.fail_next("identity", &RelPath::root(), ErrorKind::NotFound);
    let error = bench.try_pass().await.expect_err("no directory");
    assert!(matches!(error, ChangelogError::NoLogs), "{error}");
    bench.write("audit.log", "");
    let error = bench.try_pass().await.expect_err("no line");
    assert!(matches!(error, ChangelogError::NoLines { files: 1 }), "{error}");
}

#[tokio::test]
async fn a_directory_that_loses_all_its_logs_is_an_error() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.logs.delete(&path("audit.log"));
    assert!(matches!(bench.try_pass().await, Err(ChangelogError::NoLogs)));
}

#[tokio::test]
async fn a_file_of_another_format_is_an_error_that_names_line_and_column() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.write("gc.log", "2022-06-01T00:00:00.000 collected\n");
    assert_eq!(
        bench.try_pass().await.expect_err("another format").to_string(),
        "1 of 1 lines of gc.log are not of the dialect words; the first at byte 0, column 24: expected an operation, \
         there is \"2022-06-01T00:00:00.000 collected\""
    );
}

#[tokio::test]
async fn some_bad_lines_are_set_aside_with_their_place() {
    let mut bench = Bench::new();
    bench.write("audit.log", &(lines(0, "a b") + "2022-06-01T00:00:05.000 what\n" + &lines(6, "c")));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.lines, window.bad), (4, 1));
    let file = path(window.bad_file.as_deref().expect("a side file"));
    let text = String::from_utf8(bench.out.snapshot()[&file].1.to_vec()).expect("text");
    assert_eq!(
        text,
        "{\"log\":\"audit.log\",\"offset\":76,\"column\":24,\"expected\":\"an operation\",\
         \"text\":\"2022-06-01T00:00:05.000 what\"}\n"
    );
}

#[tokio::test]
async fn one_bad_line_in_a_later_pass_is_no_error() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.append("audit.log", "2022-06-01T00:00:05.000 what\n");
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.lines, window.bad, window.data.changes), (1, 1, 0));
}

// ---- where windows begin and end

#[tokio::test]
async fn a_window_ends_where_nothing_earlier_can_come_and_begins_where_the_last_one_ended() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a b c d"));
    let first = bench.pass().await.window.expect("a window");
    assert_eq!(first.from, time("2022-06-01T00:00:00Z"));
    assert_eq!(first.to, time("2022-06-01T00:00:02Z"), "a second before the last line");
    bench.append("audit.log", &lines(1, "late"));
    let second = bench.pass().await.window.expect("a window");
    assert_eq!((second.from, second.to), (first.to, first.to), "the end never moves back");
}

#[tokio::test]
async fn lines_without_changes_move_the_end_as_well() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.append("audit.log", "2022-06-01T01:00:00.000 read /data/a\n2022-06-01T01:00:01.000 write /other\n");
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.data.changes, window.ignored, window.outside), (0, 1, 1));
    assert_eq!(window.to, time("2022-06-01T01:00:00Z"));
}

#[tokio::test]
async fn lines_without_changes_wait_for_company_where_that_is_allowed() {
    let mut bench = Bench::new();
    bench.options.idle_max = chrono::TimeDelta::minutes(1);
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.append("audit.log", "2022-06-01T00:00:30.000 read /data/a\n");
    assert!(bench.pass().await.window.is_none());
    assert!(bench.pass().await.window.is_none());
    bench.append("audit.log", &line(31, "b"));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.data.changes, window.ignored), (1, 1), "nothing that waited is left out");
    bench.append("audit.log", "2022-06-01T00:01:40.000 read /data/a\n");
    let window = bench.pass().await.window.expect("a window, since the end moves by a minute");
    assert_eq!(window.data.changes, 0);
}

#[tokio::test]
async fn reading_begins_at_a_time_and_ends_before_one() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a b c d e f"));
    bench.options.begin = Some(Begin::Time(time("2022-06-01T00:00:02Z")));
    bench.options.until = Some(time("2022-06-01T00:00:04Z"));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!(bench.window(&window).await, "c d");
    assert_eq!((window.early, window.lines), (2, 4));
    assert_eq!(window.from, time("2022-06-01T00:00:02Z"));
    bench.options.until = None;
    assert_eq!(bench.paths().await, "e f");
}

#[tokio::test]
async fn of_a_doubled_hour_no_line_is_left_out() {
    let mut bench = Bench::new();
    bench.options.zone = "Europe/Berlin".parse().expect("a zone");
    bench.options.begin = Some(Begin::Time(time("2022-10-30T01:15:00Z"))); // 02:15 for the second time
    bench.write(
        "audit.log",
        "2022-10-30T01:59:00.000 write /data/a\n2022-10-30T02:30:00.000 write /data/b\n2022-10-30T03:00:00.000 write /data/c\n",
    );
    let window = bench.pass().await.window.expect("a window");
    assert_eq!(bench.window(&window).await, "b c", "b may be of the second hour");
    let first: Vec<Change> = changes(&bench.out, &window).try_collect().await.expect("readable");
    assert_eq!(first[0].time, time("2022-10-30T00:30:00Z"), "and may be of the first");
}

#[tokio::test]
async fn a_beginning_after_the_last_window_or_the_checkpoint_is_a_gap() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a b c"));
    bench.options.begin = Some(Begin::Time(time("2022-06-01T00:00:01Z")));
    bench.options.not_after = Some(time("2022-06-01T00:00:00.500Z"));
    let text = gap_text(bench.try_pass().await);
    assert!(text.contains("lines from 2022-06-01T00:00:00.500000Z to 2022-06-01T00:00:01.000000Z were not"), "{text}");
    bench.options.not_after = Some(time("2022-06-01T00:00:01Z"));
    assert_eq!(bench.paths().await, "b c");
    bench.options.begin = Some(Begin::Time(time("2022-06-01T00:00:05Z")));
    gap_text(bench.try_pass().await);
    bench.options.begin = Some(Begin::Time(time("2022-06-01T00:00:00Z")));
    assert_eq!(bench.paths().await, "no window", "what was read is not read again");
}

#[tokio::test]
async fn reading_goes_on_where_the_logs_ended_when_an_import_began() {
    let mut bench = Bench::new();
    bench.write("audit.log.1", &lines(0, "a b"));
    bench.logs.set_clock(Time(1));
    bench.logs.write(&path("audit.log.2.gz"), gzip(lines(100, "z").as_bytes()).await);
    bench.logs.set_clock(Time(2));
    bench.write("audit.log", &(lines(200, "c") + "2022-06-01T00:05:00.000 wri"));
    let positions = tail::positions(&bench.logs).await.expect("positions");
    let closed: Vec<(&str, u64, bool)> = positions.iter().map(|p| (p.log.as_str(), p.offset, p.closed)).collect();
    assert_eq!(closed, [("audit.log", 38, false), ("audit.log.1", 76, true), ("audit.log.2.gz", 38, true)]);
    bench.options.begin = Some(Begin::Positions { positions, at: chrono::DateTime::UNIX_EPOCH });
    assert_eq!(bench.paths().await, "no window");
    bench.append("audit.log", "te /data/d\n");
    bench.logs.delete(&path("audit.log.2.gz"));
    assert_eq!(bench.paths().await, "d");
}

#[tokio::test]
async fn lines_of_the_future_do_not_move_the_end() {
    let mut bench = Bench::new();
    bench.options.now = Some(time("2022-06-01T00:00:30Z"));
    let written_meanwhile = "2022-06-01T00:00:31.000 write /data/d\n";
    let forged = "2099-01-01T00:00:00.000 write /data/forged\n";
    bench.write("audit.log", &(lines(0, "a b c") + written_meanwhile + forged));
    let made = bench.pass().await;
    assert_eq!(made.warnings, ["1 changes carry a time that is still to come"]);
    assert_eq!(made.window.expect("a window").to, time("2022-06-01T00:00:01Z"));
}

#[tokio::test]
async fn logs_that_begin_too_late_are_pointed_out() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(60, "a"));
    bench.options.begin = Some(Begin::Time(time("2022-06-01T00:00:00Z")));
    let made = bench.pass().await;
    assert!(made.warnings[0].starts_with("the oldest line is of 2022-06-01T00:01:00.000000Z"), "{:?}", made.warnings);
}

#[tokio::test]
async fn whole_hours_between_the_last_line_and_the_file_are_pointed_out() {
    let mut bench = Bench::new();
    let at = |text: &str| Time(time(text).timestamp_nanos_opt().expect("in range"));
    bench.logs.set_clock(at("2022-05-01T04:00:00Z"));
    bench.write("audit.log.1", "2022-05-01T10:00:00.000 write /data/x\n");
    bench.logs.set_clock(at("2022-06-01T04:00:02Z"));
    bench.write("audit.log", &lines(12 * 3600, "a"));
    let warnings = bench.pass().await.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("audit.log is 8 h later"), "{warnings:?}");
    assert!(warnings[0].contains("--log-timezone Asia/Shanghai"), "{warnings:?}");
    bench.options.zone = "Asia/Shanghai".parse().expect("a zone");
    bench.logs.set_clock(at("2022-06-01T04:00:03Z"));
    bench.append("audit.log", &lines(12 * 3600 + 3, "b"));
    assert!(bench.pass().await.warnings.is_empty());
}

#[tokio::test]
async fn another_audit_root_needs_another_directory() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a"));
    bench.pass().await;
    bench.options.scope = Scope::new("/other").expect("a root");
    assert!(matches!(bench.try_pass().await, Err(ChangelogError::OtherRoot { .. })));
}

// ---- the chain

async fn three_windows() -> (Bench, Vec<(Manifest, String)>) {
    let mut bench = Bench::new();
    for second in [0, 10, 20] {
        bench.append("audit.log", &lines(second, "a b"));
        bench.pass().await;
    }
    let windows = after(&bench.out, None).await.expect("a chain");
    (bench, windows)
}

fn applied(window: &(Manifest, String)) -> Applied {
    Applied::of(&window.0, &window.1)
}

async fn broken(bench: &Bench, applied: Option<&Applied>) -> String {
    after(&bench.out, applied).await.expect_err("a broken chain").to_string()
}

#[tokio::test]
async fn the_windows_after_the_applied_one_follow_in_order() {
    let (bench, windows) = three_windows().await;
    let seqs = |windows: &[(Manifest, String)]| windows.iter().map(|(m, _)| m.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&windows), [1, 2, 3]);
    let rest = after(&bench.out, Some(&applied(&windows[0]))).await.expect("a chain");
    assert_eq!(seqs(&rest), [2, 3]);
    assert!(after(&bench.out, Some(&applied(&windows[2]))).await.expect("a chain").is_empty());
    let name = windows[1].0.name();
    assert_eq!(manifest(&bench.out, &name).await.expect("readable"), windows[1]);
}

#[tokio::test]
async fn a_missing_window_breaks_the_chain() {
    let (bench, windows) = three_windows().await;
    let manifest = |n: usize| path(&format!("{}.manifest.json", windows[n].0.name()));
    bench.out.delete(&manifest(0));
    assert!(broken(&bench, None).await.contains("the windows before 00000002-"));
    let rest = after(&bench.out, Some(&applied(&windows[0]))).await.expect("what was applied may be removed");
    assert_eq!(rest.len(), 2);
    bench.out.delete(&manifest(2));
    assert!(broken(&bench, Some(&applied(&windows[2]))).await.contains("window 3, which was applied last, is missing"));
    let (bench, windows) = three_windows().await;
    bench.out.delete(&path(&format!("{}.manifest.json", windows[1].0.name())));
    assert!(broken(&bench, Some(&applied(&windows[0]))).await.contains("window 2 is missing"));
    assert!(matches!(make(&bench.logs, &bench.out, &bench.options).await, Err(ChangelogError::BrokenChain { .. })));
}

#[tokio::test]
async fn an_altered_window_breaks_the_chain() {
    let (bench, windows) = three_windows().await;
    let file = path(&format!("{}.manifest.json", windows[1].0.name()));
    let text = String::from_utf8(bench.out.snapshot()[&file].1.to_vec()).expect("text");
    bench.out.write(&file, text.replace("\"bad\": 0", "\"bad\": 1"));
    let text = broken(&bench, Some(&applied(&windows[0]))).await;
    assert!(text.contains("00000003-") && text.contains("does not continue window 2"), "{text}");
    let text = broken(&bench, Some(&applied(&windows[1]))).await;
    assert!(text.contains("is not the window 2 that was applied"), "{text}");
    bench.out.write(&file, "{}");
    assert!(broken(&bench, None).await.contains("is no manifest"));
}

#[tokio::test]
async fn altered_cut_or_missing_data_is_found_before_a_change_of_it_is_used() {
    let (bench, windows) = three_windows().await;
    let window = &windows[0].0;
    let file = path(&window.data.name);
    let good = bench.out.snapshot()[&file].1.to_vec();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (bytes, expected) in [(flipped, "is not what its manifest says"), (good[..9].to_vec(), "is not what its")] {
        bench.out.write(&file, bytes);
        let read: Vec<Result<Change, ChangelogError>> = futures::StreamExt::collect(changes(&bench.out, window)).await;
        assert_eq!(read.len(), 1);
        let error = read[0].as_ref().expect_err("altered").to_string();
        assert!(error.contains(expected), "{error}");
    }
    bench.out.delete(&file);
    let error = changes(&bench.out, window).try_next().await.expect_err("missing").to_string();
    assert!(error.contains(".changes.jsonl.zst is missing"), "{error}");
}

#[tokio::test]
async fn a_window_whose_manifest_was_not_written_does_not_exist_and_is_made_again() {
    let mut bench = Bench::new();
    bench.write("audit.log", &lines(0, "a b"));
    let first = bench.pass().await.window.expect("a window");
    bench.out.delete(&path(&format!("{}.manifest.json", first.name())));
    bench.options.seen = tail::Seen::default();
    assert!(chain(&bench.out).await.expect("listed").is_empty());
    assert_eq!(bench.pass().await.window.expect("a window"), first);
}

#[tokio::test]
async fn the_same_logs_give_the_same_bytes_whatever_the_clock_and_the_memory() {
    let text: String = (0..4000).map(|second| line(second, &format!("d{}/f{second}", second % 7))).collect();
    let mut outs = Vec::new();
    for (clock, seen) in [(1, true), (2_000_000_000, false)] {
        let mut bench = Bench::new();
        bench.logs.set_clock(Time(clock));
        for part in [&text[..100_000], &text[..]] {
            bench.write("audit.log", part);
            if !seen {
                bench.options.seen = tail::Seen::default();
            }
            bench.pass().await;
        }
        let snapshot = bench.out.snapshot();
        outs.push(snapshot.into_iter().map(|(path, (_, bytes))| (path, bytes)).collect::<BTreeMap<_, _>>());
    }
    assert_eq!(outs[0].len(), 4, "data and manifest of two windows");
    assert!(outs[0] == outs[1]);
}

#[tokio::test]
async fn a_log_of_many_blocks_gives_what_one_block_gives() {
    let text: String = (0..3000).map(|second| line(second, &format!("f{second}"))).collect();
    let mut results = Vec::new();
    for block_bytes in [50, 1000, 1 << 20] {
        let mut bench = Bench::new();
        bench.options.block_bytes = block_bytes;
        bench.write("audit.log", &text);
        let window = bench.pass().await.window.expect("a window");
        results.push((bench.window(&window).await, window.logs, window.positions, window.counts));
    }
    assert_eq!(results[0].2[0].offset, text.len() as u64);
    assert!(results[0] == results[2] && results[1] == results[2]);
}

// ---- real formats and stores

fn hdfs(second: u32, request: &str) -> String {
    format!(
        "2022-06-01 12:00:{second:02},250 INFO FSNamesystem.audit: allowed=true\tugi=etl (auth:SIMPLE)\tip=/10.0.0.7\t{request}\tproto=rpc\n"
    )
}

#[tokio::test]
async fn the_dialect_of_the_logs_is_found_and_kept() {
    let mut bench = Bench::new();
    bench.options = MakeOptions::new(Scope::new("/data").expect("a root"), "Asia/Shanghai".parse().expect("a zone"));
    let requests = [
        "cmd=create\tsrc=/data/t/x=1\tdst=null\tperm=etl:etl:rw-r--r--",
        "cmd=listStatus\tsrc=/data\tdst=null\tperm=null",
        "cmd=rename\tsrc=/data/t\tdst=/tmp/t\tperm=etl:etl:rwxr-xr-x",
        "cmd=rename (options=[OVERWRITE])\tsrc=/tmp/u\tdst=/data/u\tperm=etl:etl:rwxr-xr-x",
        "cmd=delete\tsrc=/elsewhere\tdst=null\tperm=null",
    ];
    let text: String = requests.iter().zip(0..).map(|(request, second)| hdfs(second, request)).collect();
    bench.write("hdfs-audit.log", &text);
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.dialect.as_str(), window.lines, window.ignored, window.outside), ("hdfs", 5, 1, 1));
    assert_eq!(window.to, time("2022-06-01T04:00:03.250Z"));
    let read: Vec<Change> = changes(&bench.out, &window).try_collect().await.expect("readable");
    let said: Vec<String> = read.iter().map(|change| format!("{:?} {}", change.op, change.path)).collect();
    assert_eq!(said, ["Write t/x=1", "Delete t", "Rescan u"]);
    assert_eq!(read[0].user.as_deref(), Some("etl"));
    assert_eq!(read[1].offset, text.find("2022-06-01 12:00:02").expect("the third line") as u64);
    bench.append("hdfs-audit.log", &hdfs(9, "cmd=mkdirs\tsrc=/data/m\tdst=null\tperm=etl:etl:rwxr-xr-x"));
    assert_eq!(bench.pass().await.window.expect("a window").dialect, "hdfs");
}

#[tokio::test]
async fn logs_of_no_known_format_ask_for_the_dialect() {
    let mut bench = Bench::new();
    bench.options.dialect = None;
    bench.write("audit.log", "hello\nworld\n");
    let error = bench.try_pass().await.expect_err("nothing known").to_string();
    assert!(error.starts_with("audit.log is of no known dialect: its first line is \"hello\"; known are"), "{error}");
    bench.logs.write(&path("audit.log"), b"\x7fELF\x02\x01\x01\x00".to_vec());
    let error = bench.try_pass().await.expect_err("nothing known").to_string();
    assert!(error.starts_with("audit.log is no text"), "{error}");
}

#[tokio::test]
async fn logs_of_two_dialects_in_one_directory_are_refused() {
    let mut bench = Bench::new();
    bench.options.dialect = None;
    let jindofs = "2020-07-09 18:29:24.689 allowed=true ugi=hadoop (auth:SIMPLE) ip=127.0.0.1 ns=test-block \
                   cmd=CreateFileletRequest src=jfs://test-block/test/x dst=null perm=::rwxrwxr-x\n";
    bench.write("a.log", &hdfs(0, "cmd=delete\tsrc=/data/a\tdst=null\tperm=null"));
    bench.write("b.log", jindofs);
    let error = bench.try_pass().await.expect_err("two dialects").to_string();
    assert!(error.starts_with("a.log is of the dialect hdfs, b.log of jindofs:"), "{error}");
    bench.append("a.log", jindofs);
    let error = bench.try_pass().await.expect_err("a mixture").to_string();
    assert!(error.contains("mixes dialects"), "{error}");
}

/// The same lines as [`Words`], `time path #id`, in objects that appear in any order.
struct Delivered;

impl Dialect for Delivered {
    fn name(&self) -> &'static str {
        "delivered"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(chrono::TimeDelta::hours(1))
    }

    fn begins(&self, line: &[u8]) -> bool {
        Words.begins(line)
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        record.rsplit(|byte| *byte == b'#').next()
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        Words.parse(record, out)
    }

    fn salvage(&self, _: &[u8], _: &mut Vec<Entry>) {}
}

fn clock(text: &str) -> Time {
    Time(time(text).timestamp_nanos_opt().expect("in range"))
}

fn delivered() -> Bench {
    let mut bench = Bench::new();
    bench.options.dialect = Some(&Delivered);
    bench.logs.set_clock(clock("2022-06-01T14:00:00Z"));
    bench
}

fn write_at(time: &str, path: &str, id: u32) -> String {
    format!("{time} write /data/{path}#{id}\n")
}

#[tokio::test]
async fn an_object_that_appears_before_others_by_name_and_time_is_read_all_the_same() {
    let mut bench = delivered();
    bench.write("2022-06-01-12-00-B", &write_at("2022-06-01T11:59:00", "b", 1));
    assert_eq!(bench.paths().await, "b#1");
    bench.write("2022-06-01-10-00-A", &write_at("2022-06-01T09:30:00", "late", 2));
    assert_eq!(bench.paths().await, "late#2");
    assert_eq!(bench.paths().await, "no window");
}

#[tokio::test]
async fn a_window_of_objects_ends_where_nothing_earlier_is_expected() {
    let mut bench = delivered();
    bench.write("x", &write_at("2022-06-01T12:00:00", "a", 1));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((window.to, window.lateness_seconds), (window.from, 3600));
    bench.options.lateness = Some(chrono::TimeDelta::minutes(1));
    bench.write("y", &write_at("2022-06-01T13:00:00", "b", 2));
    assert_eq!(bench.pass().await.window.expect("a window").to, time("2022-06-01T12:59:00Z"));
}

#[tokio::test]
async fn a_record_that_two_objects_hold_counts_once() {
    let mut bench = delivered();
    let (one, two) = (write_at("2022-06-01T12:00:00", "a", 1), write_at("2022-06-01T12:00:00", "b", 1));
    bench.write("x", &(one.clone() + &two));
    bench.write("y", &(one.clone() + &write_at("2022-06-01T12:00:01", "c", 3)));
    let window = bench.pass().await.window.expect("a window");
    assert_eq!((bench.window(&window).await.as_str(), window.doubles), ("a#1 b#1 c#3", 1));
}

#[tokio::test]
async fn what_was_read_is_remembered_for_the_days_that_more_may_come_of() {
    let mut bench = delivered();
    for day in 1..=9 {
        bench.write(&format!("logs/2022/06/{day:02}/x"), &write_at(&format!("2022-06-{day:02}T12:00:00"), "a", day));
    }
    let first = bench.pass().await.window.expect("a window");
    assert_eq!((first.data.changes, first.consumed.objects()), (9, 2));
    bench.write("logs/2022/06/08/y", &write_at("2022-06-08T12:00:00", "late", 10));
    assert_eq!(bench.paths().await, "late#10");
    assert_eq!(bench.paths().await, "no window");
}

/// The log of one day, delivered at noon.
fn deliver(bench: &mut Bench, day: u32) {
    bench.logs.set_clock(clock(&format!("2022-06-{day:02}T12:30:00Z")));
    bench.write(&format!("logs/2022/06/{day:02}/x"), &write_at(&format!("2022-06-{day:02}T12:00:00"), "a", day));
}

#[tokio::test]
async fn an_object_that_appears_when_its_day_is_over_is_read_a_day_later_and_told() {
    let mut bench = delivered();
    for day in 1..=4 {
        deliver(&mut bench, day);
        assert_eq!(bench.paths().await, format!("a#{day}"));
    }
    bench.logs.set_clock(clock("2022-06-04T13:00:00Z"));
    bench.write("logs/2022/06/01/late", &write_at("2022-06-01T12:00:00", "late", 10));
    bench.write("logs/2022/05/03/later", &write_at("2022-05-03T12:00:00", "later", 11));
    bench.write("logs/2022/04/30/too", &write_at("2022-04-30T12:00:00", "too", 12));
    assert_eq!(bench.paths().await, "no window", "these days are not listed");
    deliver(&mut bench, 5);
    let made = bench.pass().await;
    let window = made.window.expect("a window");
    assert_eq!(bench.window(&window).await, "a#5 later#11 late#10");
    assert_eq!(window.consumed.objects(), 4, "those that may be listed again");
    let told = "2 log objects appeared when their day was taken for over, and are read only now, the first is \
                logs/2022/05/03/later: a larger --lateness keeps days open for longer";
    assert_eq!(made.warnings, [told]);
    deliver(&mut bench, 6);
    assert_eq!(bench.paths().await, "a#6", "each is read once");
}

#[tokio::test]
async fn days_that_are_over_are_listed_once_a_day_of_the_log() {
    let mut bench = delivered();
    for day in 1..=9 {
        deliver(&mut bench, day);
    }
    bench.pass().await;
    bench.logs.set_clock(clock("2022-06-09T14:00:00Z"));
    let mut listings = async |name: &str, time: &str, id| {
        bench.write(name, &write_at(time, "b", id));
        let before = bench.logs.calls().list;
        bench.pass().await.window.expect("a window");
        bench.logs.calls().list - before
    };
    let within = listings("logs/2022/06/09/y", "2022-06-09T13:00:00", 20).await;
    assert_eq!(within, 6, "the root, `logs`, year, month, two days");
    let next = listings("logs/2022/06/10/x", "2022-06-10T02:00:00", 21).await;
    assert_eq!(next, 7 + 14, "the same with another day, and then all of them");
    assert_eq!(listings("logs/2022/06/10/y", "2022-06-10T03:00:00", 22).await, 6);
}

#[tokio::test]
async fn a_directory_whose_name_is_a_number_like_a_year_is_not_taken_for_one() {
    let mut bench = delivered();
    deliver(&mut bench, 1);
    bench.pass().await;
    bench.write("customers/1999/x", &write_at("2022-06-01T13:00:00", "b", 2));
    assert_eq!(bench.paths().await, "b#2");
}

#[tokio::test]
async fn days_before_the_first_window_are_not_read() {
    let mut bench = delivered();
    for day in 1..=9 {
        bench.write(&format!("logs/2022/06/{day:02}/x"), "this would be an error\n");
    }
    bench.write("logs/2022/06/10/x", &write_at("2022-06-10T12:00:00", "a", 1));
    bench.options.begin = Some(Begin::Time(time("2022-06-11T01:30:00Z")));
    assert_eq!(bench.pass().await.lines, 1);
}

#[tokio::test]
async fn changes_after_the_end_of_a_window_are_kept_where_order_means_nothing() {
    let mut bench = delivered();
    bench.options.until = Some(time("2022-06-01T12:00:00Z"));
    bench.write("x", &(write_at("2022-06-01T13:00:00", "b", 1) + &write_at("2022-06-01T11:00:00", "a", 2)));
    assert_eq!(bench.paths().await, "b#1 a#2");
}

#[tokio::test]
async fn a_zone_for_a_log_of_utc_is_refused() {
    let mut bench = delivered();
    bench.options.zone = "Asia/Shanghai".parse().expect("a zone");
    bench.write("x", &write_at("2022-06-01T12:00:00", "a", 1));
    let error = bench.try_pass().await.expect_err("a contradiction").to_string();
    assert!(error.starts_with("logs of the dialect delivered carry their times in UTC"), "{error}");
    bench.options.zone = "+00:00".parse().expect("a zone");
    assert_eq!(bench.paths().await, "a#1");
}

#[tokio::test]
async fn what_a_few_bytes_unpack_to_is_not_read_to_its_end() {
    let mut bench = Bench::new();
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(lines(0, "a").as_bytes()).await.expect("packs");
    for _ in 0..96 {
        encoder.write_all(&vec![0; 1 << 20]).await.expect("packs");
    }
    encoder.shutdown().await.expect("packs");
    bench.logs.write(&path("audit.log.gz"), encoder.into_inner());
    let Err(ChangelogError::MostlyBad(error)) = bench.try_pass().await else { panic!("a bomb is no log") };
    assert_eq!((error.log.as_str(), error.offset), ("audit.log.gz", lines(0, "a").len() as u64));
    assert!(error.lines < 96, "{error}");
    assert!(chain(&bench.out).await.expect("listed").is_empty(), "and makes no window");
}

/// Lines of syslog: `Dec 31 23:59:58 path`.
struct Yearless;

impl Dialect for Yearless {
    fn name(&self) -> &'static str {
        "yearless"
    }

    fn clock(&self) -> Clock {
        Clock::LocalWithoutYear
    }

    fn begins(&self, _: &[u8]) -> bool {
        true
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let text = std::str::from_utf8(record).map_err(|_| ParseError::malformed(0, "text"))?;
        let (time, path) = text.split_at_checked(15).ok_or(ParseError::malformed(0, "a time"))?;
        let time = NaiveDateTime::parse_from_str(&format!("{} {time}", Clock::NO_YEAR), "%Y %b %d %H:%M:%S");
        let time = time.map_err(|_| ParseError::malformed(0, "a time"))?;
        let path = path.trim().as_bytes().to_vec();
        out.push(Entry { time, op: Op::Write, path, to: None, into: false, user: None });
        Ok(time)
    }

    fn salvage(&self, _: &[u8], _: &mut Vec<Entry>) {}
}

#[tokio::test]
async fn a_log_without_years_is_read_across_the_new_year() {
    let mut bench = Bench::new();
    bench.options.dialect = Some(&Yearless);
    bench.options.zone = "Asia/Shanghai".parse().expect("a zone");
    let log = "Dec 31 23:59:58 /data/a\nFeb 29 00:00:00 /data/leap\nJan  1 00:00:03 /data/b\n";
    bench.logs.set_clock(clock("2026-12-31T16:00:05Z"));
    bench.logs.write(&path("messages"), log.as_bytes().to_vec());
    let window = bench.pass().await.window.expect("a window");
    let read: Vec<Change> = changes(&bench.out, &window).try_collect().await.expect("readable");
    let times: Vec<String> = read.iter().map(|change| change.time.to_string()).collect();
    assert_eq!(times, ["2026-12-31 15:59:58 UTC", "2024-02-28 16:00:00 UTC", "2026-12-31 16:00:03 UTC"]);
}

/// Every golden case whose lines are all of its dialect, below the name of the dialect's folder.
fn golden_cases() -> Vec<(&'static dyn Dialect, String, Vec<u8>)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/logs");
    let entries = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    let mut cases = Vec::new();
    for folder in entries(&root).into_iter().filter(|folder| folder.is_dir()) {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let dialect = syncd_parsers::dialect::by_name(&name).expect("a dialect");
        for log in entries(&folder).into_iter().filter(|log| log.extension().is_some_and(|ext| ext == "log")) {
            let bytes = std::fs::read(&log).expect("readable");
            let mut parsed = Parsed::default();
            records::parse_block(dialect, &bytes, 0, End::Closed, &mut parsed);
            if parsed.bad_lines == 0 && parsed.records > 0 {
                cases.push((dialect, log.display().to_string(), bytes));
            }
        }
    }
    cases
}

/// A log whose name says a time to those dialects that need that.
async fn pass_over(dialect: Option<&'static dyn Dialect>, bytes: &[u8]) -> Result<Made, ChangelogError> {
    let (logs, out) = (Memory::tree(), Memory::tree());
    let mut bytes = bytes.to_vec();
    if bytes.last().is_some_and(|byte| *byte != b'\n') && memchr_newline(&bytes).is_none() {
        bytes.push(b'\n');
    }
    logs.write(&path("CHANGELOG.1700000000"), bytes);
    let options = MakeOptions { dialect, ..MakeOptions::new(Scope::new("/").expect("a root"), Zone::UTC) };
    make(&logs, &out, &options).await
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// The name of a dialect without its spelling.
fn family(name: &str) -> &str {
    ["-escaped", "-raw", "-relative"].iter().find_map(|spelling| name.strip_suffix(spelling)).unwrap_or(name)
}

#[tokio::test]
async fn every_log_is_found_to_be_of_its_dialect_and_refused_under_every_other_name() {
    let mut wrong = Vec::new();
    for (dialect, log, bytes) in golden_cases() {
        let must_be_told = dialect.name().ends_with("-relative"); // the log alone does not say where its names begin
        match pass_over(None, &bytes).await.map(|made| made.window.map(|window| window.dialect)) {
            Ok(found) if found.as_deref().is_none_or(|found| found == family(dialect.name())) => {}
            Err(_) if must_be_told => {}
            found => wrong.push(format!("{log} is taken for {found:?}")),
        }
        for other in syncd_parsers::dialect::all().iter().filter(|other| family(dialect.name()) != other.name()) {
            let likely = match pass_over(Some(*other), &bytes).await {
                Err(ChangelogError::MostlyBad(error)) => error.likely.clone().unwrap_or_default(),
                Err(ChangelogError::OtherLog { likely, .. }) => likely.to_owned(),
                other => format!("{other:?}"),
            };
            if likely != family(dialect.name()) && !must_be_told {
                wrong.push(format!("{log} as {}: {likely}", other.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn directories_of_the_local_file_system_do_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("logs")).expect("made");
    std::fs::write(at("logs/audit.log"), lines(0, "a b")).expect("written");
    let logs = Local::open(&at("logs")).expect("opened");
    let out = Local::open(&at("out")).expect("opened");
    let mut options = MakeOptions::new(Scope::new("/data").expect("a root"), Zone::UTC);
    options.dialect = Some(&Words);
    let nowhere = Local::open(&at("nowhere")).expect("opened");
    assert!(matches!(make(&nowhere, &out, &options).await, Err(ChangelogError::NoLogs)));
    let first = make(&logs, &out, &options).await.expect("a pass");
    options.seen = first.seen;
    std::fs::rename(at("logs/audit.log"), at("logs/audit.log.1")).expect("renamed");
    std::fs::write(at("logs/audit.log"), lines(5, "c")).expect("written");
    let second = make(&logs, &out, &options).await.expect("a pass").window.expect("a window");
    let read: Vec<Change> = changes(&out, &second).try_collect().await.expect("readable");
    assert_eq!(read.iter().map(|change| change.path.to_string()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(after(&out, None).await.expect("a chain").len(), 2);
}

// ---- any history

/// What happens to a log directory between passes.
#[derive(Debug, Clone)]
enum Event {
    Append(u8),
    /// Part of a line, the rest of which follows with the next lines.
    Half,
    Rename,
    CopyTruncate,
    Gzip,
    Zstd,
    Pass,
    Forget,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1..5u8).prop_map(Event::Append),
        2 => Just(Event::Half),
        2 => Just(Event::Rename),
        1 => Just(Event::CopyTruncate),
        1 => Just(Event::Gzip),
        1 => Just(Event::Zstd),
        4 => Just(Event::Pass),
        1 => Just(Event::Forget),
    ];
    prop::collection::vec(event, 1..40)
}

/// A writer with its log, and all that it ever logged.
#[derive(Default)]
struct Writer {
    count: u32,
    pending: String,
    expected: Vec<String>,
    rotated: u32,
}

impl Writer {
    async fn act(&mut self, bench: &mut Bench, event: &Event) -> Vec<String> {
        match event {
            Event::Append(lines) => (0..*lines).for_each(|_| self.append(bench)),
            Event::Half if self.pending.is_empty() => {
                let line = self.line();
                let (now, later) = line.split_at(30);
                bench.append("audit.log", now);
                self.pending = later.to_owned();
            }
            Event::Rename if self.whole(bench) => {
                self.rotated += 1;
                bench.rename("audit.log", &format!("audit.log.{}", self.rotated));
            }
            Event::CopyTruncate if self.whole(bench) => {
                self.rotated += 1;
                bench.copy("audit.log", &format!("audit.log.{}", self.rotated));
                bench.write("audit.log", "");
            }
            Event::Gzip => self.pack(bench, "gz").await,
            Event::Zstd => self.pack(bench, "zst").await,
            Event::Pass if self.count > 0 => return passed(bench).await,
            Event::Forget => bench.options.seen = tail::Seen::default(),
            _ => {}
        }
        Vec::new()
    }

    /// True if the log holds something, and no half line.
    fn whole(&self, bench: &Bench) -> bool {
        self.pending.is_empty() && bench.logs.snapshot().get(&path("audit.log")).is_some_and(|(meta, _)| meta.len > 0)
    }

    fn append(&mut self, bench: &Bench) {
        let line = if self.pending.is_empty() { self.line() } else { std::mem::take(&mut self.pending) };
        bench.append("audit.log", &line);
    }

    fn line(&mut self) -> String {
        let name = format!("f{}", self.count);
        self.count += 1;
        self.expected.push(name.clone());
        line(self.count, &name)
    }

    async fn pack(&self, bench: &Bench, form: &str) {
        let plain = path(&format!("audit.log.{}", self.rotated));
        let Some((_, bytes)) = bench.logs.snapshot().remove(&plain) else { return };
        let packed = if form == "gz" { gzip(&bytes).await } else { zstd(&bytes).await };
        bench.logs.delete(&plain);
        bench.logs.write(&path(&format!("audit.log.{}.{form}", self.rotated)), packed);
    }
}

async fn passed(bench: &mut Bench) -> Vec<String> {
    match bench.try_pass().await {
        Err(ChangelogError::NoLines { .. }) => Vec::new(),
        made => match made.expect("a pass").window {
            None => Vec::new(),
            Some(window) => bench.window(&window).await.split_whitespace().map(str::to_owned).collect(),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_a_log_is_cut_rotated_and_packed_between_passes_each_line_is_read_once(
        events in events(),
        block_bytes in prop_oneof![Just(40_usize), Just(100), Just(4 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (read, expected) = runtime.block_on(async {
            let (mut bench, mut writer, mut read) = (Bench::new(), Writer::default(), Vec::new());
            bench.options.block_bytes = block_bytes;
            for event in &events {
                read.extend(writer.act(&mut bench, event).await);
            }
            writer.append(&bench);
            read.extend(passed(&mut bench).await);
            after(&bench.out, None).await.expect("a chain");
            (read, writer.expected)
        });
        prop_assert_eq!(read, expected);
    }
}
