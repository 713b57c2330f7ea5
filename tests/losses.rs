//! Lines that are lost, and logs that lie: each ends with both sides equal, or with a status that says what is unknown.
//! `docs/reliability.md` has the table.

#[path = "common/packed.rs"]
mod packed;
#[path = "common/story.rs"]
#[allow(dead_code, reason = "no test binary uses all")]
mod story;

use chrono::{DateTime, TimeDelta, Utc};
use packed::{gzip, zstd};
use story::{Story, now, pass_time, path, record};
use syncd::apply::Mode;
use syncd::changelog::ChangelogError;
use syncd::job::JobError;
use syncd::store::mem::Memory;
use syncd::store::{ErrorKind, Time};

const LOG: &str = "hdfs-audit.log";

/// One record, as the log has it.
fn line(time: DateTime<Utc>, command: &str, src: &str) -> String {
    format!("{} {}\n", time.format("%Y-%m-%d %H:%M:%S,%3f"), record(command, src, "null"))
}

/// One of now.
fn audit(command: &str, src: &str) -> String {
    line(now() + TimeDelta::seconds(30), command, src)
}

/// A day and more in which somebody reads every five minutes: what the log usually looks like.
fn a_usual_day(story: &Story) {
    for _ in 0..300 {
        pass_time(TimeDelta::minutes(5));
        story.logs("read .");
    }
}

impl Story {
    /// The log is rotated: each file gets the next number, and the one that is written begins anew.
    fn rotate(&self) {
        for number in (1..5).rev() {
            let (from, to) = (path(&format!("{LOG}.{number}")), path(&format!("{LOG}.{}", number + 1)));
            if self.log_dir.snapshot().contains_key(&from) {
                self.log_dir.move_over(&from, &to);
            }
        }
        self.log_dir.move_over(&path(LOG), &path(&format!("{LOG}.1")));
    }

    /// The window is refused with these words; with the gap accepted both sides are equal, and the status says since when.
    async fn assert_gap(&mut self, words: &str) {
        let error = self.try_apply().await.expect_err(words);
        assert!(error.is_refusal(), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        self.logs.accept_gap = true;
        let to = syncd::report::time(self.apply().await.to.expect("a window"));
        self.logs.accept_gap = false;
        self.apply_all().await;
        let page = self.page();
        assert!(page.healthy && page.sentence.contains(&format!("had no gap since {to}")), "{}", page.sentence);
    }

    /// The status is not green, and says why.
    fn assert_doubts(&self, words: &str) {
        let page = self.page();
        assert!(!page.healthy, "{}", page.sentence);
        let doubt = format!(", but lines may be missing: {words}");
        assert!(page.sentence.contains(&doubt), "{}", page.sentence);
    }

    /// A verification finds so many paths that no line named, and mends them; when the checkpoint is past it, they are
    /// counted as lost.
    async fn assert_lost(&self, paths: u64) {
        let found = self.job.verify(Mode::Look).await.expect("verifies");
        assert_eq!(found.differing_paths, paths);
        let page = self.page();
        let words = format!("with {paths} differences, {paths} of them named by no line so far");
        assert!(page.sentence.ends_with(&words) && !page.healthy, "{}", page.sentence);
        self.job.verify(Mode::Act).await.expect("mends");
        self.assert_equal();
        let page = self.page();
        assert!(page.healthy, "it is mended: {}", page.sentence);
        assert_eq!((page.log.unexplained_paths, page.log.lost_paths), (paths, 0), "a line may still come");
        self.does("write later one\nwrite later two");
        self.apply_all().await;
        let log = self.page().log;
        assert_eq!(log.lost_paths, paths);
        let complete = log.completeness.expect("it was verified");
        let expected = log.measured_changes as f64 / (log.measured_changes + paths) as f64;
        assert!((complete - expected).abs() < 1e-9 && complete < 1.0, "{complete}");
    }
}

// Lost for certain

#[tokio::test]
async fn a_rotated_file_that_is_missing_is_a_gap() {
    let mut story = Story::of("write a one").await;
    story.does("write a two");
    story.rotate();
    story.does("write a three");
    story.apply_all().await;
    story.rotate();
    story.does("write lost one");
    story.rotate();
    story.does("write c one");
    story.log_dir.delete(&path("hdfs-audit.log.1"));
    story.assert_gap("hdfs-audit.log.1 after byte 0: the file is missing").await;
}

#[tokio::test]
async fn a_file_that_was_rotated_and_compressed_before_it_was_read_is_no_gap() {
    let story = Story::of("write a one").await;
    story.does("write a two");
    story.rotate();
    story.does("write a three");
    story.apply_all().await;
    story.rotate();
    story.does("write b one");
    let packed = gzip(story.log_text(LOG).as_bytes()).await;
    story.log_dir.delete(&path(LOG));
    for number in [2, 1] {
        let (from, to) = (format!("{LOG}.{number}"), format!("{LOG}.{}", number + 1));
        story.log_dir.move_over(&path(&from), &path(&to));
    }
    story.log_dir.write(&path("hdfs-audit.log.1.gz"), packed);
    story.does("write c one");
    story.apply_all().await;
    assert!(story.page().healthy);
}

#[tokio::test]
async fn where_rotated_files_keep_their_numbers_no_number_is_missed() {
    let story = Story::of("write a one").await;
    for number in [1, 2, 5, 9] {
        story.does(&format!("write a {number}"));
        story.apply_all().await;
        story.log_dir.move_over(&path(LOG), &path(&format!("{LOG}.{number}")));
        story.does("write b one");
        story.apply_all().await;
    }
    assert!(story.page().healthy);
}

#[tokio::test]
async fn a_log_that_was_cut_below_what_was_read_is_a_gap() {
    let mut story = Story::of("write a one").await;
    let half = "write a two\n".repeat(20);
    story.does(&half);
    story.apply_all().await;
    let text = story.log_text(LOG);
    story.acts("write lost one");
    story.log_dir.write(&path(LOG), text[..text.len() - 200].to_owned());
    story.assert_gap("the file was cut to").await;
}

#[tokio::test]
async fn a_byte_that_flipped_at_the_beginning_of_a_file_makes_it_another_file_and_a_gap() {
    let mut story = Story::of("write a one").await;
    story.does("write a two");
    story.apply_all().await;
    story.does("write b one");
    let mut bytes = story.log_text(LOG).into_bytes();
    bytes[3] ^= 1;
    story.log_dir.write(&path(LOG), bytes);
    story.assert_gap("the file is gone").await;
}

#[tokio::test]
async fn a_damaged_block_in_a_compressed_log_stops_everything_until_somebody_accepts_the_gap() {
    for packing in ["gz", "zst"] {
        let mut story = Story::of("write a one").await;
        story.does("write a two");
        story.apply_all().await;
        let as_of = story.page().applied;
        story.rotate();
        for number in 0..2000 {
            story.does(&format!("write d/f{} {number}", number * 7919 % 2003));
        }
        let text = story.log_text(LOG).into_bytes();
        let mut packed = if packing == "gz" { gzip(&text).await } else { zstd(&text).await };
        let middle = packed.len() / 2;
        packed[middle..middle + 100].fill(0xff);
        story.log_dir.delete(&path(LOG));
        story.log_dir.move_over(&path("hdfs-audit.log.1"), &path("hdfs-audit.log.2"));
        story.log_dir.write(&path(&format!("hdfs-audit.log.1.{packing}")), packed);
        story.does("write e one");
        for _ in 0..2 {
            let error = story.try_apply().await.expect_err("damaged");
            story.job.note_failure(&error).expect("noted");
            assert!(error.to_string().contains("damaged compressed data"), "{packing}: {error}");
            assert_eq!(story.page().applied, as_of, "{packing}: the checkpoint stands");
        }
        story.logs.accept_gap = true;
        story.apply_all().await;
        story.logs.accept_gap = false;
        story.does("write e two");
        story.apply_all().await;
        assert!(story.page().healthy, "{packing}: {}", story.page().sentence);
    }
}

#[tokio::test]
async fn a_compressed_log_that_lacks_its_end_holds_the_checkpoint_back() {
    let story = Story::of("write a one").await;
    story.does("write a two");
    story.apply_all().await;
    let as_of = story.page().applied.expect("a window").to;
    story.rotate();
    for number in 0..200 {
        story.does(&format!("write d/f{number} one"));
    }
    let packed = gzip(story.log_text(LOG).as_bytes()).await;
    story.log_dir.delete(&path(LOG));
    story.log_dir.move_over(&path("hdfs-audit.log.1"), &path("hdfs-audit.log.2"));
    story.log_dir.write(&path("hdfs-audit.log.1.gz"), packed[..packed.len() / 2].to_vec());
    story.does("write e one");
    for _ in 0..2 {
        let made = story.make().await.expect("a pass");
        assert!(made.warnings.iter().any(|warning| warning.contains("ends within its compressed data")));
        story.job.apply(&*story.logs.change_log, Mode::Act).await.expect("applies");
        assert_eq!(story.page().applied.expect("a window").to, as_of, "nothing after it is claimed");
    }
    story.log_dir.write(&path("hdfs-audit.log.1.gz"), packed);
    story.apply_all().await;
    assert!(story.page().applied.expect("a window").to > as_of);
}

// Perhaps lost

#[tokio::test]
async fn a_hole_of_an_hour_in_a_log_that_is_never_silent_is_told() {
    let story = Story::of("write a one").await;
    a_usual_day(&story);
    let (from, before) = (now(), story.log_text(LOG));
    for _ in 0..12 {
        pass_time(TimeDelta::minutes(5));
        story.does("write lost one");
    }
    story.log_dir.write(&path(LOG), before);
    story.does("write b one");
    let to = now();
    story.apply().await;
    let (from, to) = (syncd::report::time(from), syncd::report::time(to));
    story.assert_doubts(&format!("the log is silent from {from} to {to}, much longer than ever before"));
    story.assert_lost(1).await;
}

#[tokio::test]
async fn a_log_that_is_switched_off_for_an_hour_is_told_though_passes_go_on_meanwhile() {
    let story = Story::of("write a one").await;
    a_usual_day(&story);
    story.apply_all().await;
    for _ in 0..12 {
        pass_time(TimeDelta::minutes(5));
        story.acts("write lost one");
        story.apply().await;
    }
    assert!(story.page().applied.expect("a window").to < now() - TimeDelta::hours(1), "\"as of\" stands still");
    story.does("write b one");
    story.apply().await;
    story.assert_doubts("the log is silent from");
    story.assert_lost(1).await;
}

#[tokio::test]
async fn a_hole_that_a_late_log_fills_is_none() {
    let story = Story::of("write a one").await;
    a_usual_day(&story);
    story.apply_all().await;
    let mut late = String::new();
    story.acts("write b one");
    for _ in 0..12 {
        pass_time(TimeDelta::minutes(5));
        late += &line(now(), "create", "/data/b");
    }
    pass_time(TimeDelta::minutes(5));
    story.logs("write a one");
    story.apply().await;
    story.assert_doubts("the log is silent from");
    story.log_into("hdfs-audit.log.2022-06-02", &late);
    story.apply_all().await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

#[tokio::test]
async fn a_quiet_night_is_told_once_and_after_a_verification_no_more() {
    let story = Story::of("write a one").await;
    a_usual_day(&story);
    for night in 0..3 {
        pass_time(TimeDelta::hours(10));
        story.does("write b one");
        a_usual_day(&story);
        story.apply_all().await;
        if night == 0 {
            story.assert_doubts("the log is silent from");
            story.job.verify(Mode::Look).await.expect("verifies");
        }
        assert!(story.page().healthy, "{}", story.page().sentence);
        assert_eq!(story.page().log.completeness, Some(1.0));
    }
}

/// Whatever byte of a line flips: its path is settled all the same, or the status says that a line could not be read, unless
/// the line still reads well and says something else. Only a verification finds that.
#[tokio::test]
async fn a_byte_that_flipped_is_harmless_or_told_unless_the_line_reads_well_and_says_something_else() {
    let line = audit("create", "/data/lost");
    let mut silent = String::new();
    for at in 0..line.len() {
        let story = Story::of("write a one").await;
        story.acts("write lost one");
        let mut flipped = line.clone().into_bytes();
        flipped[at] ^= 1;
        story.log_into(LOG, &String::from_utf8_lossy(&flipped));
        story.logs(&"read .\n".repeat(10)); // a record that is not complete waits for as many lines as could complete it
        story.apply().await;
        let equal = story::tree(&story.destination).contains(&"lost one".to_owned());
        if !equal && story.page().healthy {
            silent.push(char::from(line.as_bytes()[at]));
        }
    }
    assert_eq!(silent, "data/lost", "the bytes of the path and no others");
}

#[tokio::test]
async fn a_name_of_which_a_byte_flipped_is_found_by_a_verification_and_counted() {
    let story = Story::of("write a one").await;
    story.does("write b one\nwrite lost one\nwrite c one");
    let text = story.log_text(LOG).replace("/data/lost", "/data/lOst");
    story.log_dir.write(&path(LOG), text);
    story.apply().await;
    assert!(story.page().sentence.ends_with("never fully verified"));
    story.assert_lost(1).await;
}

#[tokio::test]
async fn lines_that_were_cut_off_before_they_were_read_are_found_by_a_verification_and_counted() {
    let story = Story::of("write a one").await;
    story.does("write b one");
    let whole = story.log_text(LOG);
    story.does("write lost one\nwrite lost2 one");
    story.log_dir.write(&path(LOG), whole);
    story.rotate();
    story.does("write c one");
    story.apply().await;
    assert!(story.page().sentence.ends_with("never fully verified"));
    story.assert_lost(2).await;
}

#[tokio::test]
async fn what_a_line_names_after_the_verification_was_not_lost() {
    let story = Story::of("write a one").await;
    story.does("write b one");
    story.apply_all().await;
    story.acts("write late one\nmkdir d\nwrite d/late one");
    assert_eq!(story.job.verify(Mode::Look).await.expect("verifies").differing_paths, 3);
    assert_eq!(story.page().log.unexplained_paths, 3);
    story.logs("write late one\nwrite d/late one\nread .");
    story.apply_all().await;
    let log = story.page().log;
    assert_eq!((log.unexplained_paths, log.lost_paths, log.completeness), (0, 0, Some(1.0)));
    assert!(story.page().healthy);
}

#[tokio::test]
async fn what_one_verification_counted_the_next_one_does_not_count_again() {
    let story = Story::of("write a one").await;
    story.acts("write lost one");
    for _ in 0..3 {
        story.does("write b one");
        story.logs("read .");
        story.apply().await;
        story.job.verify(Mode::Look).await.expect("verifies");
        story.does("write b two");
        story.logs("read .");
        story.apply().await;
        assert_eq!(story.page().log.lost_paths, 1);
        assert!(!story.page().healthy, "{}", story.page().sentence);
    }
    story.logs("write lost one\nread .");
    story.apply_all().await;
    assert!(story.page().healthy, "it was settled: {}", story.page().sentence);
}

#[tokio::test]
async fn a_file_of_another_cluster_harms_nothing_and_is_told() {
    let story = Story::of("write a one\nwrite d/b one").await;
    story.does("write a two");
    story.apply_all().await;
    let mut foreign = String::new();
    for (command, src) in [("delete", "/data/a"), ("delete", "/data/d"), ("create", "/data/elsewhere")] {
        foreign += &line(now() + TimeDelta::seconds(5), command, src);
    }
    story.log_into("nn7/other-audit.log", &foreign);
    story.does("write a three");
    story.apply_all().await;
    story.assert_holds("a three\nd/\nd/b one");
    story.assert_doubts("nn7/other-audit.log is a log under a new name");
    story.job.verify(Mode::Look).await.expect("verifies");
    assert!(story.page().healthy, "{}", story.page().sentence);
}

// Directories that changed without a line

/// An apply after which a line may still come.
async fn apply_without_doubt(story: &Story) {
    story.apply().await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

/// What a later line explains is no doubt.
async fn assert_explained(story: &Story, later: &str) {
    story.apply().await;
    assert_eq!((story.owed(), story.page().healthy), (vec![], true), "{}", story.page().sentence);
    story.does(later);
    story.apply_all().await;
    the_log_goes_on(story).await;
    assert!(story.page().healthy, "{}", story.page().sentence);
    story.assert_equal();
}

/// Until no line of what was done before is still to come.
async fn the_log_goes_on(story: &Story) {
    for _ in 0..3 {
        pass_time(TimeDelta::minutes(4));
        story.does("write elsewhere one");
        story.apply().await;
    }
}

#[tokio::test]
async fn a_directory_that_changed_without_a_line_is_noticed_on_the_way_to_another_name_and_settled() {
    for lost in ["write d/lost one", "delete d/g", "rename d/g d/x/g", "rename d/g h", "mkdir d/new", "delete d/y"] {
        let story = Story::of("write d/x/f one\nwrite d/g one\nwrite d/y/f one").await;
        story.acts(lost);
        story.does("write d/x/f two");
        story.apply().await;
        assert!(story.page().healthy, "{lost}: its line may still come");
        the_log_goes_on(&story).await;
        story.apply().await;
        story.assert_doubts("what is in d changed at 2022-06-01T10:0");
        story.job.verify(Mode::Act).await.expect("mends what went elsewhere");
        assert!(story.page().healthy, "{lost}: {}", story.page().sentence);
    }
}

#[tokio::test]
async fn what_was_lost_in_a_directory_is_settled_when_no_line_of_it_can_come_any_more() {
    let mut story = Story::of("write d/x/f one\nwrite d/g one").await;
    story.acts("write d/lost one\nwrite d/lost2/f one\ndelete d/g");
    story.does("write d/x/f two");
    story.apply().await;
    story.restart().await;
    assert!(!story::tree(&story.destination).contains(&"d/lost one".to_owned()), "nothing was named");
    the_log_goes_on(&story).await;
    assert_eq!(story.apply_all().await.copied_files, 0, "it was settled as soon as it was owed");
    story.assert_doubts("what is in d changed at");
    assert_eq!(story.page().log.doubts_count, 1);
}

#[tokio::test]
async fn a_directory_that_was_suspected_is_looked_at_though_other_lines_come_below_it() {
    let story = Story::of("write d/x/f one").await;
    story.acts("write d/lost one");
    for number in 0..60 {
        story.does(&format!("write d/x/f {number}"));
        story.apply().await;
    }
    story.assert_doubts("what is in d changed at");
    story.assert_equal();
}

#[tokio::test]
async fn what_changed_in_a_directory_after_the_window_waits_for_its_own_line() {
    for after in ["write d/late one", "delete d/g", "rename d/x d/z", "mkdir d/late", "rename d/g g"] {
        let story = Story::of("write d/x/f one\nwrite d/g one").await;
        story.does("write d/x/f two");
        story.acts(after);
        apply_without_doubt(&story).await;
        story.logs(after);
        assert_explained(&story, "write elsewhere two").await;
    }
}

#[tokio::test]
async fn a_directory_that_another_one_replaced_after_the_window_waits_for_that_line() {
    let story = Story::of("write p/d/x/f one\nwrite p/d/g one").await;
    story.does("write p/new/x/f one\nwrite p/new/h one");
    story.apply_all().await;
    the_log_goes_on(&story).await;
    story.does("write p/d/x/f two");
    story.acts("rename p/d p/old\nrename p/new p/d");
    apply_without_doubt(&story).await;
    story.logs("rename p/d p/old\nrename p/new p/d");
    assert_explained(&story, "write elsewhere two").await;
}

#[tokio::test]
async fn a_time_that_a_user_gave_a_directory_has_its_own_line() {
    for days in [-1, 1] {
        let story = Story::of("write d/x/f one\nwrite d/g one").await;
        let touch = |days| {
            story.tick();
            story.source.set_time(&path("d"), Time((now() + TimeDelta::days(days)).timestamp_micros() * 1000));
        };
        touch(-2);
        story.does("write d/x/f two");
        story.log(&record("setTimes", "/data/d", "null"));
        story.logs("read .");
        story.apply_all().await;
        story.does("write d/x/f three");
        touch(days);
        apply_without_doubt(&story).await;
        story.log(&record("setTimes", "/data/d", "null"));
        assert_explained(&story, "write d/x/f four").await;
    }
}

#[tokio::test]
async fn a_directory_that_was_made_on_the_way_to_a_file_needs_no_line() {
    let story = Story::of("write d/x/f one").await;
    story.does("write d/x/f two\nwrite d/new/deep/f one");
    story.apply_all().await;
    story.does("write d/x/f three");
    story.acts("write d/came/deep/f one");
    apply_without_doubt(&story).await;
    story.logs("write d/came/deep/f one");
    assert_explained(&story, "write d/x/f four").await;
}

#[tokio::test]
async fn a_directory_that_came_on_the_way_to_a_file_and_went_needs_no_further_line() {
    let story = Story::of("write d/x/f one").await;
    story.does("write d/x/f two");
    story.acts("write d/came/deep/f one");
    apply_without_doubt(&story).await;
    pass_time(TimeDelta::minutes(6));
    story.logs("write d/came/deep/f one\nread .");
    story.acts("delete d/came");
    apply_without_doubt(&story).await;
    story.logs("delete d/came");
    assert_explained(&story, "write d/x/f three").await;
}

#[tokio::test]
async fn what_came_into_a_directory_while_everything_was_copied_raises_no_doubt() {
    let story = Story::not_imported(Memory::tree(), Memory::tree(), "write d/x/f one");
    let (source, mut done) = (story.source.clone(), false);
    story.source.on_call(move |op, at| {
        if op == "list" && *at == path("d") && !std::mem::replace(&mut done, true) {
            source.set_clock(Time(now().timestamp_nanos_opt().expect("this century")));
            source.write(&path("d/new/g"), "one"); // the directory was looked at, and is listed only now
        }
        None
    });
    story.import().await;
    story.logs("write d/new/g one");
    story.apply().await;
    the_log_goes_on(&story).await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

#[tokio::test]
async fn a_line_that_comes_after_all_takes_the_doubt_back() {
    let story = Story::of("write d/x/f one").await;
    story.acts("write d/late one");
    let late = line(now(), "create", "/data/d/late");
    story.does("write d/x/f two");
    story.apply().await;
    the_log_goes_on(&story).await;
    story.assert_doubts("what is in d changed at");
    story.does("write d/x/f three\nwrite d/other one");
    story.apply_all().await;
    story.assert_doubts("what is in d changed at");
    story.log_into(LOG, &late);
    story.logs("read .");
    story.apply_all().await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

#[tokio::test]
async fn what_is_done_at_the_destination_raises_no_doubt_of_the_log() {
    let story = Story::of("write d/x/f one\nwrite d/g one").await;
    story.destination.write(&path("d/theirs"), "kept");
    story.does("write d/x/f two");
    story.apply().await;
    the_log_goes_on(&story).await;
    assert!(story.page().healthy, "{}", story.page().sentence);
    story.assert_holds("d/\nd/g one\nd/theirs kept\nd/x/\nd/x/f two\nelsewhere one");
}

#[tokio::test]
async fn where_directories_have_no_times_nothing_is_made_of_them() {
    for (source, destination) in [(Memory::tree(), Memory::flat()), (Memory::flat(), Memory::tree())] {
        let story = Story::between(source, destination, "write d/x/f one\nwrite d/g one").await;
        story.acts("write d/lost one");
        story.does("write d/x/f two");
        story.apply().await;
        the_log_goes_on(&story).await;
        assert!(story.page().healthy, "{}", story.page().sentence);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_run_that_did_not_come_to_its_end_times_of_directories_prove_nothing() {
    let story = Story::of("write d/x/f one").await;
    story.destination.set_clock(Time(0)); // so that what is done there leaves old times
    story.does("write d/x/f two\nwrite d/new/f one");
    let mut down = false;
    story.destination.on_call(move |op, at| {
        down |= op == "put" && *at == path("d/new/f");
        down.then_some(ErrorKind::Unavailable)
    });
    story.try_apply().await.expect_err("the destination is gone");
    story.destination.on_call(|_, _| None);
    assert!(story.destination.peek(&path("d/new")).is_some());
    story.apply_all().await;
    the_log_goes_on(&story).await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

#[tokio::test]
async fn a_window_applied_in_parts_suspects_nothing_that_another_part_explains() {
    let mut story = Story::of("write d/x/f one\nwrite d/g one").await;
    story.job.settings.names_max = 2;
    for order in ["write d/h one\nwrite d/x/f two", "write d/x/f three\nwrite d/i one"] {
        story.does(order);
        story.apply_all().await;
        the_log_goes_on(&story).await;
        assert!(story.page().healthy, "{}", story.page().sentence);
    }
}

// Clocks

#[tokio::test]
async fn a_zone_that_is_off_by_eight_hours_loses_nothing_after_an_import_with_positions_and_is_told() {
    for (zone, words) in [("Asia/Shanghai", "8 h earlier"), ("-08:00", "8 h later")] {
        let mut story = Story::of("write a one").await;
        story.logs.zone = zone.parse().expect("a zone");
        let as_of = now();
        for round in 0..3 {
            story.does(&format!("write a {round}\nwrite b{round} one"));
            story.log_dir.set_clock(Time(now().timestamp_micros() * 1000));
            story.log_into(LOG, "");
            story.apply_all().await;
        }
        assert!(story.page().applied.expect("windows").to <= as_of, "{zone}: nothing is claimed");
        let sentence = story.page().sentence;
        story.assert_doubts("the last line of hdfs-audit.log is");
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[tokio::test]
async fn a_zone_that_leaves_out_the_first_lines_is_told() {
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "write a one");
    story.job.import(None).await.expect("imports");
    story.logs.zone = "Asia/Shanghai".parse().expect("a zone");
    story.does("write lost one");
    story.log_dir.set_clock(Time(now().timestamp_micros() * 1000));
    story.log_into(LOG, "");
    story.apply().await;
    story.does("write b one");
    story.apply().await;
    story.assert_doubts("the last line of hdfs-audit.log is 8 h earlier");
    story.logs.zone = syncd::zone::Zone::UTC;
    story.assert_lost(1).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_loses_nothing_and_the_checkpoint_stands_until_it_is_there_again() {
    let story = Story::of("write a one").await;
    story.does("write a two");
    story.apply_all().await;
    let as_of = story.page().applied.expect("a window").to;
    pass_time(TimeDelta::hours(-1));
    for round in 0..3 {
        story.does(&format!("write a {round}\nwrite b{round} one\ndelete b{round}"));
        story.apply_all().await;
        assert_eq!(story.page().applied.expect("a window").to, as_of);
    }
    pass_time(TimeDelta::hours(1));
    story.does("write c one");
    story.apply_all().await;
    assert!(story.page().applied.expect("a window").to > as_of && story.page().healthy);
}

#[tokio::test]
async fn the_doubled_hour_and_the_skipped_one_are_neither_lost_nor_silent() {
    for begin in ["2022-10-29T20:00:00Z", "2022-03-26T20:00:00Z"] {
        let mut story = Story::of("write a one").await;
        let zone: chrono_tz::Tz = "Europe/Berlin".parse().expect("a zone");
        story.logs.zone = "Europe/Berlin".parse().expect("a zone");
        story.log_dir.delete(&path(LOG));
        let begin: DateTime<Utc> = begin.parse().expect("a time");
        pass_time(begin - TimeDelta::hours(30) - now());
        for number in 0..40 * 12 {
            pass_time(TimeDelta::minutes(5) - TimeDelta::seconds(10));
            story.acts(&format!("write f{} {number}", number % 50));
            let record = record("create", &format!("/data/f{}", number % 50), "null");
            let local = now().with_timezone(&zone).format("%Y-%m-%d %H:%M:%S,%3f");
            story.log_into(LOG, &format!("{local} {record}\n"));
        }
        story.logs.accept_gap = true; // the log of the import is not this one
        story.apply_all().await;
        assert!(story.page().healthy, "{}", story.page().sentence);
    }
}

#[tokio::test]
async fn a_line_that_removes_nothing_does_not_explain_what_only_the_destination_has() {
    let story = Story::of("write d/f one\nwrite e one").await;
    story.does("write d/f two");
    story.acts("delete d"); // its line is lost
    story.job.verify(Mode::Look).await.expect("verifies");
    story.logs("read .");
    story.apply().await;
    story.assert_holds("d/\nd/f one\ne one");
    assert!(!story.page().healthy, "{}", story.page().sentence);
    story.logs("delete d");
    story.apply_all().await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

// Forged lines

const FORGED: [(&str, &str, &str); 14] = [
    ("create", "/data/d/a", "null"),
    ("append", "/data/d/a", "null"),
    ("truncate", "/data/d/a", "null"),
    ("concat", "[/data/d/a, /data/d/b]", "/data/e/c"),
    ("mkdirs", "/data/d/a", "null"),
    ("delete", "/data/d", "null"),
    ("delete", "/data", "null"),
    ("delete", "/", "null"),
    ("rename", "/data/d", "/data/e"),
    ("rename (options=[OVERWRITE])", "/data/e", "/data/d"),
    ("rename", "/data", "/elsewhere"),
    ("rename", "/data/d/a", "/outside/../../etc/passwd"),
    ("setPermission", "/data/d/a", "null"),
    ("allowSnapshot", "/data/../../etc", "null"),
];

#[tokio::test]
async fn forged_lines_of_every_command_remove_nothing_and_reach_nowhere_else() {
    let story = Story::of("write d/a one\nwrite d/b two\nwrite e/c three").await;
    for (command, src, dst) in FORGED {
        story.tick();
        let line = format!("x\n2022-06-01 10:00:00,000 {}", record(command, src, dst));
        if !line.contains("..") {
            story.source.write(&path(&line), "odd");
        }
        story.log(&record("create", &format!("/data/{line}"), "null"));
    }
    story.does("write d/b four");
    let report = story.apply_all().await;
    assert_eq!((report.removed_files, report.removed_dirs), (0, 0), "{report}");
    assert_eq!(story.job.verify(Mode::Look).await.expect("verifies").differing_paths, 0);
}

#[tokio::test]
async fn lines_that_name_everything_make_syncd_look_for_a_tenth_of_the_time_and_are_owed_until_then() {
    let story = Story::of("write d/a one\nwrite d/b two").await;
    story.source.on_call(|op, _| {
        pass_time(TimeDelta::seconds(if op == "list" { 60 } else { 0 }));
        None
    });
    let looked = async |story: &Story| {
        story.source.reset_calls();
        story.apply().await;
        story.source.calls().list > 1
    };
    story.logs("delete /data");
    assert!(looked(&story).await, "the first one is granted");
    story.acts("write d/new one");
    let mut rests = 0;
    for second in 0..10_000 {
        story.logs("delete /\nread .");
        if looked(&story).await {
            break;
        }
        rests = second + 1;
        let page = story.page();
        assert!(!page.healthy && page.owed_paths == 1, "{}", page.sentence);
        assert!(page.owed[0].path.is_root() && page.owed[0].reason.contains("names everything"), "{:?}", page.owed[0]);
    }
    assert!((8..100).contains(&rests), "it rested for {rests} passes of some 80 seconds");
    story.assert_equal();
    assert!(story.page().healthy, "{}", story.page().sentence);
}

#[tokio::test]
async fn what_is_known_of_the_log_survives_a_crash_and_windows_that_are_applied_again() {
    let mut story = Story::of("write a one").await;
    story.copy_state("backup");
    story.does("write b one");
    story.log_into(LOG, "no line at all\n");
    story.logs("read .");
    story.apply_all().await;
    let log = |story: &Story| serde_json::to_value(story.page().log).expect("plain data");
    let before = log(&story);
    assert_eq!(before["doubts_count"], 1);
    story.restart().await;
    assert_eq!(log(&story), before);
    story.restart_in("backup").await;
    story.apply_all().await;
    assert_eq!(log(&story), before);
}

#[tokio::test]
async fn a_log_of_another_format_is_refused_and_not_read_as_lost_lines() {
    let story = Story::of("write a one").await;
    story.does("write a two");
    story.apply_all().await;
    story.log_into("hdfs-audit.log.1", &"127.0.0.1 - - \"GET / HTTP/1.1\" 200\n".repeat(40));
    let error = story.try_apply().await.expect_err("no audit log");
    assert!(matches!(error, JobError::Changelog(ChangelogError::MostlyBad(_))), "{error}");
}
