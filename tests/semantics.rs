//! The promises of `docs/semantics.md`, paragraph by paragraph: each test carries its paragraph, and tells a story in
//! which the promise would be broken by a program that is a little less careful.

#[path = "common/story.rs"]
mod story;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use story::{Story, path, record, tree};
use syncd::apply::Mode;
use syncd::job::Deletes;
use syncd::publish::Publish;
use syncd::store::local::Local;
use syncd::store::mem::{Calls, Memory};
use syncd::store::{Capabilities, ErrorKind, Meta, Odd, Owners, Store};

// Convergence

/// When the source is quiet and its log is complete, then after one apply the destination equals the source: paths,
/// kinds, sizes, content, and the attributes that both stores can hold.
#[tokio::test]
async fn s1_a_quiet_source_and_a_whole_log_end_in_an_equal_destination() {
    let story = Story::of(
        "write a/x one
         write a/y two
         mkdir empty
         write odd a file",
    )
    .await;
    story.does(
        "append a/x , more
         delete a/y
         write new/deep/down/f fresh
         rename a b
         delete odd
         write odd/f now a directory
         delete empty
         write empty now a file
         chmod b 700
         chmod b/x 600",
    );
    story.apply_all().await;
    story.assert_holds(
        "b/
         b/x one, more
         empty now a file
         new/
         new/deep/
         new/deep/down/
         new/deep/down/f fresh
         odd/
         odd/f now a directory",
    );
}

/// The log says which names to look at; the source says what is there now. Nothing depends on the order of lines, on
/// their times, or on how often they come: late, doubled and reordered lines lead to the same end.
#[tokio::test]
async fn s2_lines_late_doubled_and_out_of_order_end_the_same() {
    let story = Story::of("write a/x one\nwrite b/x other").await;
    story.acts(
        "rename a c
         rename b a
         write a/x new
         delete c",
    );
    story.logs("delete c\nwrite a/x new\nrename b a");
    story.apply().await;
    story.logs("rename a c\nrename b a\ndelete c\nrename a c");
    story.apply_all().await;
    story.assert_holds("a/\na/x new");
}

/// Applying a window twice, or windows that overlap, ends in the same state.
#[tokio::test]
async fn s3_a_window_applied_twice_and_windows_that_overlap_change_nothing() {
    let mut story = Story::of("write a/x one\nwrite a/y two\nwrite z zed").await;
    story.copy_state("backup");
    story.does("rename a b\nwrite b/x three\ndelete z");
    story.apply_all().await;
    let writes = story.destination.calls();
    let twice: String = story.log_text("hdfs-audit.log").lines().skip(2).map(|line| format!("{line}\n")).collect();
    story.log_into("hdfs-audit.log.collected-twice", &twice);
    story.does("write b/y four\nmkdir a");
    story.apply_all().await;
    story.assert_holds("a/\nb/\nb/x three\nb/y four");
    assert_eq!(story.destination.calls().put - writes.put, 1, "only what is new is written");

    let before = story.destination.calls();
    story.restart_in("backup").await;
    let again = story.apply_all().await;
    let after = story.destination.calls();
    assert_eq!(again.moved_paths + again.copied_files + again.removed_files + again.made_dirs, 0, "{again}");
    let changing = |calls: Calls| [calls.put, calls.mkdir, calls.set_attrs, calls.removed, calls.rename];
    assert_eq!(changing(after), changing(before));
}

/// A pass over an idle log makes no call to either store beyond one health check each.
#[tokio::test]
async fn s4_an_idle_pass_makes_no_call_but_a_health_check() {
    let story = Story::of("write a/x one").await;
    story.does("write a/y two");
    story.apply_all().await;
    story.logs("read a/x");
    for store in [&story.source, &story.destination] {
        store.reset_calls();
    }
    for _ in 0..2 {
        story.apply().await;
    }
    for store in [&story.source, &story.destination] {
        assert_eq!(store.calls(), Calls { identity: 2, ..Calls::default() });
    }
}

// No invention

/// Under a final name the destination never shows a part of a file: it is written aside and renamed, or put in one step.
/// Until a copy is whole the old file stays.
#[tokio::test(start_paused = true)]
async fn s5_a_copy_that_fails_half_way_leaves_the_old_file_whole() {
    let (outside, temp) = (Memory::tree(), tempfile::tempdir().expect("a directory"));
    let mut story = Story::not_imported(outside, Memory::tree(), "write f old");
    story.job.destination = Arc::new(Local::open(temp.path()).expect("a directory"));
    story.import().await;
    let pieces = AtomicUsize::new(0);
    story.source.on_call(move |op, _| {
        (op == "piece" && pieces.fetch_add(1, Ordering::SeqCst) >= 2).then_some(ErrorKind::PermissionDenied)
    });
    story.does(&format!("write f {}", "x".repeat(3 << 20)));
    story.apply().await;
    assert_eq!(fs::read(temp.path().join("f")).expect("reads"), b"old");
    assert_eq!(story.owed(), ["f: read f: permission denied: told to fail"]);
    story.source.on_call(|_, _| None);
    story.apply().await;
    assert_eq!(fs::metadata(temp.path().join("f")).expect("there").len(), 3 << 20);
    assert_eq!(story.owed(), [""; 0]);
}

/// A file that changes while it is read is read again, not published. One that changes each time is put on the watch
/// list, and looked at in every next pass.
#[tokio::test(start_paused = true)]
async fn s6_a_file_that_changes_while_it_is_read_is_read_again() {
    let story = Story::of("write f old").await;
    let (half, whole) = ("1".repeat(2 << 20), "2".repeat(2 << 20));
    story.does(&format!("write f {half}"));
    let (writer, changes) = (story.source.clone(), Arc::new(AtomicUsize::new(1)));
    let (text, left) = (whole.clone(), changes.clone());
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (shown, destination) = (seen.clone(), story.destination.clone());
    story.source.on_call(move |op, at| {
        shown.lock().expect("no panic holds it").insert(destination.snapshot()[&path("f")].1.clone());
        if op == "piece" && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            writer.write(at, text.clone());
        }
        None
    });
    story.apply_all().await;
    let torn = seen.lock().expect("no panic holds it").iter().any(|seen| *seen != "old" && *seen != whole);
    assert!(!torn, "the old, then the whole, and nothing between");
    assert_eq!(story.destination.snapshot()[&path("f")].1, whole);

    changes.store(usize::MAX, Ordering::SeqCst);
    story.does(&format!("write f {half}"));
    story.apply().await;
    assert_eq!(story.watched(), ["f: Busy"]);
    assert_eq!(story.destination.snapshot()[&path("f")].1, whole, "still whole");
    changes.store(0, Ordering::SeqCst);
    story.apply_all().await;
    assert_eq!(story.watched(), [""; 0]);
}

/// A file that a writer has open is not published; what the destination had stays. It is on the watch list,
/// through renames too, until it has been settled closed: HDFS logs no close. After a day it is owed as well,
/// and so visible.
#[tokio::test]
async fn s7_an_open_file_is_watched_until_it_is_closed_without_a_line() {
    let story = Story::of("write a/wal 1").await;
    story.logs("append a/wal 2"); // until it is closed, an open file shows the length and time from before
    story.source.set_open(&path("a/wal"), true);
    story.does("write a/new 1");
    story.source.set_open(&path("a/new"), true);
    story.apply().await;
    story.assert_holds("a/\na/wal 1");
    assert_eq!(story.watched(), ["a/new: Open", "a/wal: Open"]);

    story.does("rename a b");
    for name in ["wal", "new"] {
        story.source.set_open(&path(&format!("a/{name}")), false);
        story.source.set_open(&path(&format!("b/{name}")), true);
    }
    story.apply().await;
    story.assert_holds("b/\nb/wal 1");
    assert_eq!(story.watched(), ["b/new: Open", "b/wal: Open"]);

    for _ in 0..9000 {
        story.tick();
    }
    story.apply().await;
    assert!(story.owed()[0].starts_with("b/new: open or changing since 2022-06-01T10:0"), "{:?}", story.owed());
    story.source.set_open(&path("b/wal"), false);
    story.source.set_open(&path("b/new"), false);
    story.acts("append b/wal 23\nappend b/new 2");
    story.apply_all().await;
    story.assert_holds("b/\nb/new 12\nb/wal 123");
    assert_eq!(story.watched(), [""; 0]);
}

/// That something was being written to a file is not forgotten when a path above it cannot be looked at: the
/// file is watched while that path is owed.
#[tokio::test]
async fn s8_an_open_file_below_an_owed_path_is_watched_too() {
    let story = Story::of("write a/wal 1").await;
    story.source.set_open(&path("a/wal"), true);
    story.logs("append a/wal 2");
    story.source.fail_next("lookup", &path("a"), ErrorKind::PermissionDenied);
    story.apply().await;
    assert_eq!(story.owed(), ["a: lookup a: permission denied: told to fail"]);
    story.apply().await;
    assert_eq!((story.owed(), story.watched()), (vec![], vec!["a/wal: Open".to_owned()]));
    story.source.set_open(&path("a/wal"), false);
    story.acts("append a/wal 2");
    story.apply_all().await;
    story.assert_holds("a/\na/wal 12");
}

// No unproven delete

/// What is removed was named, itself or from above, by a line that says that something went there, by a verification,
/// or as what is owed, and the source has just answered "not found" for it, asked for by its own name. What is gone
/// and was named for another reason waits for the line of its going. What a listing lacks is a question, not an
/// answer; in a flat source, where a directory goes without a line, each key is asked for. (What a listing hides and
/// no line names is not found either: it comes with a line of its own.)
#[tokio::test]
async fn s9_what_a_listing_hides_is_not_deleted() {
    for source in [Memory::tree(), Memory::flat()] {
        let story = Story::between(source, Memory::tree(), "write a/x one\nwrite a/b/y two\nwrite a/b/z three").await;
        for hidden in ["a/x", "a/b", "a/b/y"] {
            story.source.hide_from_list(&path(hidden));
        }
        story.logs("delete a\ndelete a/b\nwrite a/x one");
        story.apply().await;
        assert_eq!(story.job.verify(Mode::Act).await.expect("verifies").removed_files, 0);
        assert_eq!(story.owed(), [""; 0]);
        story.assert_holds("a/\na/b/\na/b/y two\na/b/z three\na/x one");
        story.does("delete a/b/y\ndelete a/x");
        story.apply_all().await;
        story.assert_holds("a/\na/b/\na/b/z three");
    }
    let story = Story::of("write a/x one\nwrite b two").await;
    story.acts("delete a");
    story.logs("chmod a 700\nwrite a/x one");
    story.apply().await;
    story.assert_holds("a/\na/x one\nb two");
    story.logs("delete a");
    story.apply_all().await;
}

/// In a flat source a key can live on below a key that is an object, or below a prefix that no listing shows.
/// Neither it nor what leads to it is removed: it is owed.
#[tokio::test]
async fn s10_a_key_that_only_a_look_finds_keeps_its_prefix() {
    let story = Story::between(Memory::flat(), Memory::tree(), "write p/q one\nwrite p/r two").await;
    story.source.delete(&path("p"));
    let put = |key: &'static str| {
        let source = story.source.clone();
        async move {
            let body = syncd::store::Body::Whole("alive".into());
            source.put(&path(key), &Meta::file(5), body).await.expect("puts");
        }
    };
    put("p").await;
    put("p/q").await;
    story.logs("delete p");
    for _ in 0..2 {
        story.apply().await;
        assert!(tree(&story.destination).contains(&"p/q one".to_owned()), "{:?}", tree(&story.destination));
        assert_eq!(story.owed().len(), 1, "{:?}", story.owed());
    }
    story.acts("delete p/q\ndelete p\nwrite p/q two");
    story.apply_all().await;
}

/// An error or a time-out is never a "not found": where a look fails, the path is owed and nothing is deleted.
#[tokio::test(start_paused = true)]
async fn s11_a_look_that_fails_deletes_nothing() {
    for kind in [ErrorKind::Unavailable, ErrorKind::PermissionDenied] {
        let story = Story::of("write a/x one\nwrite b two\nwrite c three").await;
        story.does("delete a\ndelete b");
        let looks = AtomicUsize::new(0);
        story.source.on_call(move |op, at| {
            // the first look sees that it is gone; the one before the delete fails
            let gone = op == "lookup" && *at == path("a");
            (gone && looks.fetch_add(1, Ordering::SeqCst) > 0).then_some(kind)
        });
        story.apply().await;
        story.assert_holds("a/\na/x one\nc three");
        assert_eq!(story.owed(), [format!("a: lookup a: {kind}: told to fail")]);
        story.source.on_call(|_, _| None);
        story.apply_all().await;
        story.assert_holds("c three");
    }
}

/// What comes back while it is about to be removed stays, and is settled with everything below it: what it held before
/// and does not hold now is removed.
#[tokio::test]
async fn s12_what_comes_back_before_its_removal_stays() {
    let story = Story::of("write a/x one\nwrite a/b/y two\nwrite c three").await;
    story.does("delete a");
    let (writer, looks) = (story.source.clone(), AtomicUsize::new(0));
    story.source.on_call(move |op, at| {
        if op == "lookup" && *at == path("a") && looks.fetch_add(1, Ordering::SeqCst) == 1 {
            writer.write(&path("a/b/z"), "new");
        }
        None
    });
    story.apply_all().await;
    story.assert_holds("a/\na/b/\na/b/z new\nc three");
}

/// A source root that is not the one of the import is refused: not mounted, replaced by another one, emptied.
/// The job stops before anything is done, and says what to do. The root is asked once more who it is before the
/// deletes of a run.
#[tokio::test]
async fn s13_a_source_that_is_not_there_empty_or_another_one_deletes_nothing() {
    let story = Story::of("write a/x one\nwrite b two").await;
    let known = story.source.identity().await.expect("answers");
    story.does("delete b");

    story.source.set_identity("memory:another");
    story.assert_refused("the source root is not the one that was imported", "bring it back").await;
    story.source.set_identity(&known);

    story.source.on_call(|op, _| (op == "identity").then_some(ErrorKind::NotFound));
    story.assert_refused("there is no source root memory:source", "is it mounted").await;
    story.source.on_call(|_, _| None);

    story.acts("delete a");
    story.assert_refused("the source memory:source is empty", "empty the destination by hand").await;
    story.acts("write a/x one");

    let swapped = story.source.clone();
    story.source.on_call(move |op, at| {
        if op == "lookup" && *at == path("a") {
            swapped.set_identity("memory:another");
            swapped.delete(&path("a"));
        }
        None
    });
    story.logs("delete a");
    story.assert_refused("was replaced during the run", "nothing was removed").await;
    story.source.on_call(|_, _| None);
    story.source.set_identity(&known);
    story.acts("write a/x one");
    story.apply_all().await;
}

/// The same holds for directories of a real file system: one that is gone is not mounted, one that was made anew is
/// another one.
#[tokio::test]
async fn s14_a_local_root_that_is_gone_or_new_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("source");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("f"), "one").expect("writes");
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "");
    story.job.source = Arc::new(Local::open(&root).expect("a directory"));
    story.import().await;
    story.logs("delete f");

    let away = temp.path().join("away");
    fs::rename(&root, &away).expect("renames");
    story.assert_refused("there is no source root", "is it mounted").await;
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("other"), "one").expect("writes");
    story.assert_refused("the source root is not the one that was imported", "If it is not mounted").await;
    story.assert_holds("f one");
    fs::remove_dir_all(&root).expect("removes");
    fs::rename(&away, &root).expect("renames");
    fs::remove_file(root.join("f")).expect("removes");
    fs::write(root.join("g"), "kept").expect("writes");
    story.apply().await;
    story.assert_holds("");
}

/// A run that would remove more files than `--max-delete` allows removes none of them, and says what to do; what
/// is new is there already. What a move displaced counts too, also when the run is repeated. The limit is a
/// count or a percentage of the files at the destination; without one it is half of them, but 1,000 at least. A
/// backlog is applied in several runs, each of which counts by itself.
#[tokio::test]
async fn s15_more_deletes_than_allowed_are_refused_until_a_larger_limit_is_given() {
    for (refused, allowed) in [(Deletes::Files(3), Deletes::Files(4)), (Deletes::Percent(79), Deletes::Percent(80))] {
        let mut story = Story::of("write a/1 x\nwrite a/2 x\nwrite a/b/3 x\nwrite c x\nwrite kept x").await;
        story.does("delete a\ndelete c\nwrite new x");
        story.job.settings.deletes = refused;
        story.assert_refused("4 files would be removed, more than the 3 allowed", "give a larger --max-delete").await;
        story.assert_refused("4 files would be removed", "nothing was removed").await;
        assert_eq!(tree(&story.destination).len(), 8, "what is new is there: {:?}", tree(&story.destination));
        story.job.settings.deletes = allowed;
        story.apply_all().await;
        story.assert_holds("kept x\nnew x");
    }
    let mut story = Story::of("write t/1 a\nwrite t/2 a\nwrite t_new/1 bb\nwrite t_new/2 bb").await;
    story.does("delete t\nrename t_new t");
    story.job.settings.deletes = Deletes::Files(1);
    for _ in 0..2 {
        let refused = story.try_apply().await.expect_err("the old table is two files");
        assert!(refused.to_string().starts_with("at least 2 files would be removed"), "{refused}");
    }
    story.job.settings.deletes = Deletes::Files(2);
    story.apply_all().await;
}

/// An import deletes nothing of what only the destination has, since neither a line nor a verification named it; it
/// counts it. What stands in the way of something of another kind is replaced, within `--max-delete`.
#[tokio::test]
async fn s16_an_import_leaves_what_only_the_destination_has() {
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "write a/x one\nwrite b/y two\nwrite c file");
    story.destination.write(&path("mine/z"), "old");
    story.destination.write(&path("a/mine"), "old");
    story.destination.write(&path("b"), "a file");
    story.destination.write(&path("c/d"), "a directory");
    story.job.settings.deletes = Deletes::Files(0);
    let refused = story.try_import().await.expect_err("something is in the way");
    assert!(refused.is_refusal(), "{refused}");
    story.job.settings.deletes = Deletes::Files(2);
    let report = story.import().await;
    assert_eq!(report.left_paths, 2);
    story.assert_holds("a/\na/mine old\na/x one\nb/\nb/y two\nc file\nmine/\nmine/z old");
    assert_eq!(story.job.verify(Mode::Look).await.expect("verifies").differing_paths, 2);
}

/// No line of any log makes syncd remove what the source still has: a name only makes it look. This holds for
/// logs that escape nothing, where whoever may create a file may write any line. At worst a forged rename makes
/// syncd copy again what it could have kept.
#[tokio::test]
async fn s17_forged_lines_in_file_names_harm_nothing() {
    let story = Story::of("write prod/a one\nwrite prod/b two\nwrite prod2/a three\nmkdir tmp").await;
    let forged = [
        ("delete", "/data/prod", "null"),
        ("rename", "/data/prod", "/data/tmp/stolen"),
        ("rename (options=[OVERWRITE])", "/data/prod2", "/data/prod"),
        ("concat", "[/data/prod/a, /data/prod/b]", "/data/prod2/a"),
        ("create", "/data/prod/a", "null"),
    ];
    for (command, src, dst) in forged {
        story.tick();
        let line = format!("tmp/x\n2022-06-01 10:00:00,000 {}", record(command, src, dst));
        let odd = path(&line);
        story.source.write(&odd, "odd");
        story.log(&record("create", &format!("/data/{line}"), "null"));
    }
    story.logs("read .");
    let report = story.apply_all().await;
    assert_eq!((report.removed_files, report.removed_dirs, report.moved_paths), (0, 0, 0), "{report}");
    assert_eq!(report.copied_files, 5, "the odd files themselves: {report}");
}

// What is owed

/// The checkpoint tells the truth: every path whose last change lies before it is settled, or is listed as owed
/// with its reason, or is on the watch list. A permanent error neither blocks the checkpoint nor is forgotten.
#[tokio::test]
async fn s18_a_permanent_error_is_owed_and_does_not_block_the_rest() {
    let mut story = Story::of("write a one\nwrite b two").await;
    story.destination.on_call(|op, at| (op == "put" && *at == path("a")).then_some(ErrorKind::NoSpace));
    story.does("write a more\nwrite b more");
    story.logs("read .");
    let first = story.apply().await;
    story.assert_holds("a one\nb more");
    assert_eq!((first.windows, first.report.owed_paths), (1, 1));
    for _ in 0..2 {
        story.restart().await;
        assert_eq!(story.owed(), ["a: put a: no space left: told to fail"]);
        story.does("append b !");
        assert_eq!(story.apply().await.windows, 1, "later windows are applied");
    }
    story.assert_holds("a one\nb more!!");
}

/// When faults stop, the backlog drains and owed paths settle, with nobody's help: every apply tries what is
/// owed again, with everything below it (the daemon the more rarely, the longer a path stays owed). A store that
/// does not answer at all ends the run, and the window is repeated.
#[tokio::test(start_paused = true)]
async fn s19_when_faults_stop_owed_paths_settle_by_themselves() {
    let story = Story::of("write a/x one\nwrite b two").await;
    story.does("append a/x !\ndelete b\nwrite c three");
    let down = Arc::new(AtomicBool::new(true));
    for store in [&story.source, &story.destination] {
        let down = down.clone();
        store.on_call(move |_, _| down.load(Ordering::SeqCst).then_some(ErrorKind::Unavailable));
    }
    let error = story.try_apply().await.expect_err("nothing answers");
    assert!(!error.is_refusal(), "{error}");
    story.does("write d four");
    story.try_apply().await.expect_err("nothing answers");
    down.store(false, Ordering::SeqCst);
    story.destination.on_call(|op, _| (op == "put").then_some(ErrorKind::PermissionDenied));
    story.apply().await;
    assert_eq!(story.owed().len(), 3, "{:?}", story.owed());
    story.destination.on_call(|_, _| None);
    story.apply_all().await;
    story.assert_holds("a/\na/x one!\nc three\nd four");
}

/// One sentence says how things stand, and it is never green and wrong: as of when the destination equals the
/// source, what is excepted, since when the log had no gap, and when both sides were last compared.
#[tokio::test]
async fn s20_one_sentence_says_how_things_stand() {
    let story = Story::not_imported(Memory::tree(), Memory::tree(), "write a one\nwrite b one");
    let sentence = || story.page().sentence;
    assert_eq!(sentence(), "the import has not finished: the destination is not yet a copy of the source");
    story.import().await;
    assert_eq!(
        sentence(),
        "destination equals source as of 2022-06-01T10:00:40Z; no log has been applied yet; never fully verified"
    );
    story.destination.on_call(|op, at| (op == "put" && *at == path("b")).then_some(ErrorKind::NoSpace));
    story.does("write a two\nwrite b two\nwrite c two");
    story.source.set_open(&path("c"), true);
    story.apply().await;
    story.job.verify(Mode::Look).await.expect("verifies");
    assert_eq!(
        sentence(),
        "destination equals source as of 2022-06-01T10:01:09Z, except 1 owed path and 1 file still being written or just \
         changed; the log had no gap since 2022-06-01T10:00:40Z; last full verification 2022-06-01T10:01:20Z, with 2 \
         differences"
    );
    assert!(!story.page().healthy);
    story.destination.on_call(|_, _| None);
    story.source.set_open(&path("c"), false);
    story.apply_all().await;
    story.job.verify(Mode::Look).await.expect("verifies");
    assert!(sentence().ends_with("last full verification 2022-06-01T10:01:30Z"), "{}", sentence());
    assert!(story.page().healthy);
}

/// Lines that are lost are noticed, and nothing goes on until somebody accepts the gap: then everything below the root is
/// looked at once, and the status says since when there was no gap.
#[tokio::test]
async fn s21_a_gap_in_the_log_is_refused_or_looked_over() {
    let mut story = Story::of("write a one\nwrite b two").await;
    story.does("write a more");
    story.apply_all().await;
    story.does("write b more\nwrite c three");
    story.log_dir.delete(&path("hdfs-audit.log"));
    story.does("write d four");
    story.logs("read .");
    story.assert_refused("audit log lines are missing", "--accept-gap").await;
    story.assert_holds("a more\nb two");
    story.logs.accept_gap = true;
    let applied = story.apply().await;
    story.assert_equal();
    let to = syncd::report::time(applied.to.expect("a window"));
    let sentence = story.page().sentence;
    assert!(sentence.contains(&format!("the log had no gap since {to}")), "{sentence}");
}

// Scope

/// Nothing outside the destination root is touched: a line with `..` is set aside, and no symbolic link is followed,
/// neither at the source nor at the destination.
#[tokio::test]
async fn s22_nothing_outside_the_root_is_touched() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = |name: &str| {
        let dir = temp.path().join(name);
        fs::create_dir_all(&dir).expect("a directory");
        dir
    };
    let (source, destination, outside) = (dir("source"), dir("destination"), dir("outside"));
    fs::write(outside.join("secret"), "kept").expect("writes");
    fs::create_dir(source.join("d")).expect("a directory");
    fs::write(source.join("d/secret"), "of the source").expect("writes");
    symlink(&outside, source.join("link")).expect("links");
    symlink(&outside, destination.join("d")).expect("links");
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "");
    story.job.source = Arc::new(Local::open(&source).expect("a directory"));
    story.job.destination = Arc::new(Local::open(&destination).expect("a directory"));
    story.import().await;
    assert_eq!(fs::read_link(destination.join("link")).expect("a link"), outside);
    assert_eq!(fs::read(destination.join("d/secret")).expect("reads"), b"of the source");

    fs::remove_dir_all(source.join("d")).expect("removes");
    fs::remove_file(source.join("link")).expect("removes");
    fs::write(source.join("f"), "f").expect("writes");
    story.logs("delete link/secret\ndelete d\ndelete link\nwrite ../outside/secret\ndelete /data/../outside\nwrite f");
    story.apply().await;
    assert_eq!(fs::read(outside.join("secret")).expect("reads"), b"kept");
    let left: BTreeSet<_> = fs::read_dir(&destination).expect("lists").map(|e| e.expect("lists").file_name()).collect();
    assert_eq!(left, BTreeSet::from([".syncd".into(), "f".into()]));
}

/// A rename across the border of the audit root becomes a create or a delete; what happens to the root itself is a
/// look at everything below it.
#[tokio::test]
async fn s23_a_rename_across_the_border_creates_or_deletes() {
    let story = Story::of("write a/x one\nwrite b two").await;
    story.acts("delete a\nwrite c/y three\nwrite c/z four");
    story.logs("rename a /elsewhere/a\nrename /elsewhere/c c\nwrite /elsewhere/q 1\nrename /other /others");
    story.apply_all().await;
    story.assert_holds("b two\nc/\nc/y three\nc/z four");
    story.acts("write e five\ndelete b");
    story.logs("rename /data2 /data");
    story.apply_all().await;
    story.assert_holds("c/\nc/y three\nc/z four\ne five");
}

/// The name `.syncd` at the root belongs to syncd: what a source has there is not kept in step, and no line that names
/// it has any effect.
#[tokio::test]
async fn s24_the_reserved_name_is_never_touched() {
    let story = Story::of("write .syncd/own one\nwrite a/.syncd two\nwrite b/x three").await;
    story.assert_holds("a/\na/.syncd two\nb/\nb/x three");
    let ours = path(".syncd/tmp/1");
    story.destination.write(&ours, "being written");
    story.does("write .syncd/own more\nrename b .syncd/b\nrename .syncd/own c");
    story.logs("delete .syncd/tmp\nrename .syncd/tmp d");
    story.acts("delete .syncd");
    story.logs("delete .syncd\nread .");
    story.apply().await;
    let all = story.destination.snapshot();
    let reserved: Vec<String> = all.keys().map(ToString::to_string).filter(|at| at.starts_with(".syncd/")).collect();
    assert_eq!(reserved, [".syncd/tmp", ".syncd/tmp/1"]);
    story.assert_holds("a/\na/.syncd two\nc more");
    assert_eq!(story.owed(), [""; 0]);
}

/// Symbolic links are kept as links, with the very bytes of their target, and never followed. A destination that has
/// none owes them.
#[tokio::test]
async fn s25_links_stay_links_or_are_owed() {
    for (destination, expected) in [(Memory::tree(), true), (Memory::flat(), false)] {
        let story = Story::between(Memory::tree(), destination, "write a/x one").await;
        let link = Meta { kind: syncd::store::Kind::Symlink, target: Some("a/x".into()), ..Meta::file(0) };
        story.source.put_link(&path("l"), &link).await.expect("links");
        story.logs("write l");
        story.apply().await;
        let made = tree(&story.destination).contains(&"l -> a/x".to_owned());
        assert_eq!(made, expected);
        assert_eq!(story.owed().len(), usize::from(!expected), "{:?}", story.owed());
    }
}

/// What a destination cannot hold is owed with the reason, never skipped in silence: names beyond its limits,
/// keys such as `a//b`, a key that is both an object and a prefix, device files. It stays owed for as long as it
/// is there. What has no name that a path could spell keeps its directory owed, and that is walked each time it
/// is tried again.
#[tokio::test]
async fn s26_what_a_destination_cannot_hold_is_owed() {
    let story = Story::between(Memory::flat(), Memory::tree(), "write a one\nwrite long two").await;
    let odd = Odd { name: b"a//b".to_vec(), reason: "an empty name".into() };
    story.source.add_odd(&path(""), odd);
    let whole = syncd::store::Body::Whole("both".into());
    story.source.put(&path("a/below"), &Meta::file(4), whole).await.expect("puts");
    story.destination.on_call(|op, at| (op == "put" && *at == path("long")).then_some(ErrorKind::Unsupported));
    story.does("append long , more");
    story.logs("rename /data2 /data\nread .");
    for _ in 0..3 {
        story.apply().await;
        let owed = story.owed();
        assert!(owed.iter().any(|owed| owed.starts_with("long: put long: not possible on this store")), "{owed:?}");
        assert!(owed.iter().any(|owed| owed.contains("a//b") && owed.contains("an empty name")), "{owed:?}");
        assert!(owed.iter().any(|owed| owed.starts_with("a: ") && owed.contains("both")), "{owed:?}");
    }
}

// Crash

/// `kill -9` at any point and a restart repeat work but change no outcome: whatever was done at the stores until
/// then, the next run comes to the same end, and leaves nothing of the first one behind.
#[tokio::test(start_paused = true)]
async fn s27_a_run_that_ends_at_any_call_comes_to_the_same_end_when_it_is_run_again() {
    let mut calls = 0;
    for stop_at in 1.. {
        let came_to_its_end = crash(stop_at).await;
        if came_to_its_end {
            calls = stop_at;
            break;
        }
    }
    assert!(calls > 60, "the story has become too short: {calls} calls");
}

/// Ends the apply of a long story at one call of either store; true if it was over before.
async fn crash(stop_at: usize) -> bool {
    let mut story = Story::of(
        "write t/p1 one
         write t/p2 two
         write t_new/p1 ONE
         write t_new/p2 TWO
         write log.1 first
         write log second
         write k/f file
         write gone/x x
         write d/_SUCCESS 1",
    )
    .await;
    story.does(
        "rename t t_old
         rename t_new t
         rename log.1 log.2
         rename log log.1
         write log third
         delete k
         write k now a file
         delete gone
         rename t_old/p1 t/p3
         write d/part one
         write d/_SUCCESS 2
         chmod t 700",
    );
    story.make().await.expect("makes a window");
    let (gone, count) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicUsize::new(0)));
    for store in [&story.source, &story.destination] {
        let (gone, count) = (gone.clone(), count.clone());
        store.on_call(move |_, _| {
            let over = count.fetch_add(1, Ordering::SeqCst) + 1 >= stop_at;
            over.then(|| {
                gone.notify_one();
                ErrorKind::Unavailable // and so tried again after a while, which does not come
            })
        });
    }
    let ended = tokio::select! {
        biased;
        () = gone.notified() => false,
        done = story.job.apply(&*story.logs.change_log, Mode::Act) => done.is_ok(),
    };
    story.source.on_call(|_, _| None);
    story.destination.on_call(|_, _| None);
    story.restart().await;
    story.apply_all().await;
    let left: Vec<String> = story.destination.snapshot().keys().map(ToString::to_string).collect();
    let aside: Vec<_> = left.iter().filter(|at| at.starts_with(".syncd/aside/")).collect();
    assert!(aside.is_empty(), "stopped at call {stop_at}: {aside:?}");
    ended
}

/// After a run that did not come to its end, size and time are no evidence for files whose time is later than a
/// minute before it began: they are compared byte by byte.
#[tokio::test(start_paused = true)]
async fn s28_after_a_crash_young_files_are_compared_by_content() {
    let mut story = Story::of("write old one\nwrite young two").await;
    story.does("write young ONE");
    story.destination.on_call(|op, _| (op == "sync").then_some(ErrorKind::Unavailable));
    story.try_apply().await.expect_err("nothing is known to be durable");
    story.destination.on_call(|_, _| None);
    let was = story::meta(&story.destination, "young").await;
    story.destination.put(&path("young"), &was, syncd::store::Body::Whole("bad".into())).await.expect("puts");
    story.restart().await;
    let report = story.apply_all().await;
    assert_eq!(report.compared_files, 1, "{report}");
}

/// An import notes where the log ends before it copies anything, so that what changes meanwhile is replayed. One that was
/// interrupted goes on: what is equal is not copied again.
#[tokio::test(start_paused = true)]
async fn s29_an_import_goes_on_where_it_ended() {
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "write a/x one\nwrite b two\nwrite c three");
    let (writer, destination) = (story.source.clone(), story.destination.clone());
    story.source.on_call(move |op, at| {
        if op == "read" && *at == path("b") {
            writer.write(&path("a/late"), "written while the import was at it");
        }
        None
    });
    destination.on_call(|op, _| (op == "sync").then_some(ErrorKind::Unavailable));
    story.logs("write a/late");
    story.try_import().await.expect_err("nothing is known to be durable");
    story.restart().await;
    story.try_apply().await.expect_err("the import comes first");

    story.source.on_call(|_, _| None);
    story.destination.on_call(|_, _| None);
    story.does("append b , more\ndelete c\nwrite d four");
    story.destination.reset_calls();
    let report = story.import().await;
    assert_eq!(report.left_paths, 1, "{report}");
    assert!(story.destination.calls().put <= 3, "a/x is there already: {report}");
    story.apply_all().await;
    story.assert_holds("a/\na/late written while the import was at it\na/x one\nb two, more\nd four");
}

// Bounded

/// A window that is larger than the budget of names is applied in parts, with the same end, and a listing that
/// is larger than its budget is sorted in temporary files: memory does not grow with the namespace. What waits
/// for the end of a run (removals, times of directories) does grow with what has changed.
#[tokio::test]
async fn s30_a_window_applied_in_parts_ends_the_same() {
    for names_max in [1, 2, 3, 5] {
        let mut story = Story::of("write a/x one\nwrite a/y two\nwrite b/x ONE\nwrite l1 1\nwrite l0 0").await;
        story.job.settings.names_max = names_max;
        story.does(
            "write a/x three
             rename a c
             rename b a
             delete c/y
             rename l1 l2
             rename l0 l1
             write l0 new
             rename c a/c",
        );
        story.apply_all().await;
        story.assert_holds("a/\na/c/\na/c/x three\na/x ONE\nl0 new\nl1 0\nl2 1");
    }
}

// Economy

/// A window copies each changed file at most once, however many lines name it, and reads nothing else.
#[tokio::test]
async fn s31_a_changed_file_is_copied_once() {
    let story = Story::of("write a/x one\nwrite a/y two\nwrite b three").await;
    story.does("append a/x 1\nappend a/x 2\nappend a/x 3\nchmod a/x 600\nchmod b 600");
    for store in [&story.source, &story.destination] {
        store.reset_calls();
    }
    story.apply_all().await;
    let (source, destination) = (story.source.calls(), story.destination.calls());
    assert_eq!((source.read, source.read_bytes), (1, 6), "{source:?}");
    assert_eq!((destination.put, destination.read, destination.rename), (1, 0, 0), "{destination:?}");
    assert_eq!(source.list, 1, "only the question whether it was emptied: {source:?}");
}

/// What was renamed is moved, not copied, where the destination holds it: a directory, the chain of a log
/// rotation, two tables that change places. What decides is a sample of files, on both sides.
#[tokio::test]
async fn s32_what_was_renamed_is_moved_and_not_copied() {
    for renames in [
        "rename t u",
        "rename t/sub u/sub",
        "move t u",
        "rename t t_old\nrename t_new t",
        "rename t tmp\nrename t_new t\nrename tmp t_new",
        "delete log.3\nrename log.2 log.3\nrename log.1 log.2\nrename log log.1",
        "rename t v\nrename v w\nmove w u",
    ] {
        let story = Story::of(
            "write t/p1 one
             write t/sub/p2 two
             write t_new/p1 three
             write t_new/sub/p2 four
             write t_new/p5 five
             write u/keep me
             write log l0
             write log.1 l1
             write log.2 l2
             write log.3 l3",
        )
        .await;
        story.does(renames);
        story.destination.reset_calls();
        let report = story.apply_all().await;
        assert!(report.moved_paths > 0, "{renames}: {report}");
        assert_eq!(story.destination.calls().put_bytes, 0, "{renames}: {report}");
    }
}

/// What came and went between two passes costs one look at its topmost missing ancestor.
#[tokio::test]
async fn s33_what_came_and_went_costs_one_look() {
    let story = Story::of("write a/x one").await;
    let names: Vec<String> = (0..50).map(|n| format!("write a/_temporary/{n}/part {n}")).collect();
    story.does(&names.join("\n"));
    story.does("delete a/_temporary");
    let looked = Arc::new(Mutex::new(Vec::new()));
    let all = looked.clone();
    story.source.on_call(move |op, at| {
        if at.is_within(&path("a/_temporary")) {
            all.lock().expect("no panic holds it").push(format!("{op} {at}"));
        }
        None
    });
    story.apply_all().await;
    assert_eq!(*looked.lock().expect("no panic holds it"), ["lookup a/_temporary"]);
}

/// Below a name that took part in a rename, size and time are evidence only for a file that has no *twin* there:
/// another one of equal size and time. Twins are compared byte by byte, so a move never leaves one in the place
/// of the other. Where that comparison fails the path is owed, and compared when it can be.
#[tokio::test]
async fn s34_twins_below_a_rename_end_right() {
    let story = Story::of("mkdir t").await;
    let same_time = |names: &[(&str, &'static str)]| {
        story.tick();
        names.iter().for_each(|(name, text)| story.source.write(&path(name), *text));
    };
    same_time(&[("t/p1", "one"), ("t/p2", "two"), ("u/p1", "ONE"), ("u/p2", "TWO")]);
    story.logs("write t/p1\nwrite t/p2\nwrite u/p1\nwrite u/p2");
    story.apply_all().await;
    for renames in [
        "rename t v\nrename u t\nrename v u",
        "rename t/p1 t/p3\nrename t/p2 t/p1\nrename t/p3 t/p2",
        "rename t/p1 u/p3\nrename u/p2 t/p1\nrename t/p2 u/p2",
    ] {
        story.does(renames);
        story.apply_all().await;
    }

    story.does("rename t v\nrename u t\nrename v u");
    story.source.on_call(|op, at| (op == "read" && at.is_within(&path("t"))).then_some(ErrorKind::PermissionDenied));
    for _ in 0..2 {
        story.apply().await;
        assert!(!story.owed().is_empty(), "what could not be compared is not taken for equal");
    }
    story.source.on_call(|_, _| None);
    story.apply_all().await;

    story.does("rename t/p1 u/p1\nwrite t/p1/x in the way"); // of the other twin, where it was
    story.apply_all().await;
}

/// A directory that was moved may show whole files of its old name until its names are settled, in the same window; the
/// bytes that a moved name shows at the end of the window are those of the source.
#[tokio::test]
async fn s35_a_wrong_move_is_mended_in_the_same_window() {
    let story = Story::of("write a/1 x\nwrite a/2 x\nwrite a/3 x\nwrite b/1 y").await;
    story.does("rename a c\nwrite c/1 new\nwrite c/4 more\ndelete c/2");
    story.logs("rename c d\nrename d a\nrename b c\nrename a b");
    story.apply_all().await;
    story.assert_holds("b/\nb/1 y\nc/\nc/1 new\nc/3 x\nc/4 more");
}

// Same content

/// Two files of different size, or of different time, differ: the file is copied. Two of equal size and time are the
/// same, where times can be evidence; times are compared in the unit that the destination keeps. Where a store keeps
/// no times, both sides are read.
#[tokio::test]
async fn s36_size_and_time_say_whether_content_is_the_same() {
    let coarse =
        Capabilities { time_unit: Some(std::time::Duration::from_secs(2)), ..Memory::tree().capabilities().clone() };
    let story = Story::between(Memory::tree(), Memory::with(coarse), "write a one\nwrite b one").await;
    story.logs("write a\nwrite b");
    let report = story.apply().await.report;
    assert_eq!((report.by_size_and_time_files, report.copied_files, report.compared_files), (2, 0, 0));
    story.does("write a two\nwrite b one");
    let report = story.apply().await.report;
    assert_eq!((report.copied_files, report.compared_files), (2, 0), "another time is another version");

    let timeless = Capabilities { time_unit: None, ..Memory::tree().capabilities().clone() };
    let story = Story::between(Memory::tree(), Memory::with(timeless), "write a one\nwrite b one").await;
    story.does("write a two");
    story.logs("write b");
    let report = story.apply().await.report;
    assert_eq!((report.copied_files, report.compared_files), (1, 2));
    story.assert_holds("a two\nb one");
}

/// A file can be written twice within one tick of its store's clock, with a copy taken between (*racily clean*).
/// So a file that was copied within two seconds of its own time is put on the watch list, and compared byte by
/// byte in the next pass, under a new name too.
#[tokio::test]
async fn s37_a_file_copied_a_moment_after_it_was_written_is_compared_in_the_next_pass() {
    let story = Story::of("write latest 1").await;
    let write_now = |text: &'static str, time| {
        story.source.set_clock(time);
        story.source.write(&path("latest"), text);
    };
    let time = syncd::clock::store_time(story::now() + chrono::TimeDelta::hours(1)); // not older than any look that follows
    write_now("index-7", time);
    story.logs("write latest");
    story.source.set_clock(time);
    story.apply().await;
    assert_eq!(story.watched(), ["latest: Fresh"]);
    write_now("index-8", time);
    let report = story.apply().await.report;
    assert_eq!(report.compared_files, 1);
    story.assert_holds("latest index-8");
    write_now("index-9", time);
    story.does("rename latest newest");
    story.apply().await;
    story.assert_holds("newest index-9");
}

// Attributes

/// Mode, owner and times are kept where both stores hold them in the same form; numbers and names of owners are
/// never mixed. A local destination whose user cannot override modes keeps its owner's access: `rwx` for
/// directories, `r` for files. A change of attributes copies no bytes. A directory's time is set after everything
/// below it is done. The root's own attributes are left alone.
#[tokio::test]
async fn s38_attributes_are_kept_without_copying_bytes() {
    let story = Story::of("write d/x one\nwrite d/e/y two\nwrite e three").await;
    story.does("chmod d 500\nchmod d/x 400\nwrite d/e/z four");
    story.destination.reset_calls();
    story.apply_all().await;
    assert_eq!(story.destination.calls().put, 1, "the new file alone");

    let named = Capabilities { owners: Owners::Names, modes: false, ..Memory::tree().capabilities().clone() };
    let story = Story::between(Memory::tree(), Memory::with(named), "write f one").await;
    let ids = Meta { owner: Some(syncd::store::Owner::Ids { uid: 7, gid: 8 }), ..Meta::file(3) };
    story.source.set_attrs(&path("f"), &ids).await.expect("sets");
    story.logs("chmod f 600");
    let report = story.apply().await.report;
    assert_eq!((report.attrs_paths, report.copied_files), (0, 0), "{report}");

    let own = Capabilities { owner_access: true, ..Memory::tree().capabilities().clone() };
    let story = Story::between(Memory::tree(), Memory::with(own), "write d/x one\nchmod d 000\nchmod d/x 044").await;
    let mode = async |at| story::meta(&story.destination, at).await.mode;
    assert_eq!((mode("d").await, mode("d/x").await), (Some(0o700), Some(0o444)));
    story.does("chmod d/x 033");
    assert_eq!(story.apply().await.report.attrs_paths, 1);
    assert_eq!(mode("d/x").await, Some(0o433));
    assert_eq!(story.job.verify(Mode::Look).await.expect("looks").attrs_paths, 0);
}

// Publish order

/// Readers of the destination do not see a table or a snapshot repository that points to files not yet there:
/// data comes first, then what points to it in its order (`_delta_log/`, `metadata/`, `.hoodie/`, `index-N`,
/// then `_SUCCESS`, `index.latest`, `version-hint.text`), then the deletes, then directory times. The order is a
/// list of patterns (`Settings::publish`); the command line cannot change it yet.
#[tokio::test]
async fn s39_data_comes_before_what_points_to_it_and_deletes_come_last() {
    let story = Story::of("write t/old x\nwrite t/_SUCCESS 0\nwrite repo/index.latest 6\nwrite repo/index-6 x").await;
    story.does(
        "write t/_SUCCESS 1
         write t/_delta_log/00001.json {}
         write repo/index.latest 7
         write repo/index-7 {}
         delete repo/index-6
         delete t/old
         write t/z/part-9 data
         write t/part-1 data
         write repo/snap-1.dat data",
    );
    let order = Arc::new(Mutex::new(Vec::new()));
    let all = order.clone();
    story.destination.on_call(move |op, at| {
        if ["put", "remove"].contains(&op) {
            all.lock().expect("no panic holds it").push(format!("{op} {at}"));
        }
        None
    });
    story.apply_all().await;
    let order = order.lock().expect("no panic holds it").clone();
    let when = |what: &str| order.iter().position(|done| done == what).unwrap_or_else(|| panic!("{what}: {order:?}"));
    let ranks = [
        vec!["put t/part-1", "put t/z/part-9"],
        vec!["put t/_delta_log/00001.json", "put repo/snap-1.dat"],
        vec!["put repo/index-7"],
        vec!["put t/_SUCCESS", "put repo/index.latest"],
        vec!["remove repo/index-6", "remove t/old"],
    ];
    for pair in ranks.windows(2) {
        let last = pair[0].iter().map(|what| when(what)).max();
        let first = pair[1].iter().map(|what| when(what)).min();
        assert!(last < first, "{pair:?}: {order:?}");
    }

    let mut story = Story::of("mkdir d").await;
    story.job.settings.publish = Publish::new(&[["**/_POINTER"]]).expect("patterns");
    story.does(
        "write d/_POINTER z
write d/z data",
    );
    let (seen, destination) = (Arc::new(AtomicBool::new(false)), story.destination.clone());
    let looked = seen.clone();
    story.destination.on_call(move |op, at| {
        if op == "put" && *at == path("d/_POINTER") {
            looked.store(tree(&destination).contains(&"d/z data".to_owned()), Ordering::SeqCst);
        }
        None
    });
    story.apply_all().await;
    assert!(seen.load(Ordering::SeqCst), "the data was there before");
}

/// The order of publishing has two limits. A pointer is published although a file that it points to is owed or open; and
/// one that is overwritten in place while a window is applied is copied as it is then, and may point to what the next
/// window brings.
#[tokio::test]
async fn s40_a_pointer_does_not_wait_for_what_is_owed() {
    let story = Story::of("write t/_SUCCESS 0").await;
    story.does("write t/part data\nwrite t/open data\nwrite t/_SUCCESS 1");
    story.source.set_open(&path("t/open"), true);
    story.destination.on_call(|op, at| (op == "put" && *at == path("t/part")).then_some(ErrorKind::NoSpace));
    story.apply().await;
    story.assert_holds("t/\nt/_SUCCESS 1");
    assert_eq!((story.owed().len(), story.watched().len()), (1, 1));
    assert!(!story.page().healthy);
    story.source.set_open(&path("t/open"), false);
    story.destination.on_call(|_, _| None);
    story.apply_all().await;
}

// Verification

/// A verification walks both sides and settles every path, but only looks: what differs is counted and told. With
/// `--repair` it is mended, deletes included, under the same guards.
#[tokio::test]
async fn s41_a_verification_looks_and_mends_only_when_told() {
    let mut story = Story::of("write a one\nwrite b/x two\nwrite c three").await;
    story.acts("append a , changed\ndelete b\nwrite d/y new");
    story.destination.write(&path("stray"), "x");
    story.destination.reset_calls();
    story.job.settings.deletes = Deletes::Files(1);
    let looked = story.job.verify(Mode::Look).await.expect("verifies, whatever it would delete");
    let calls = story.destination.calls();
    assert_eq!(calls.put + calls.mkdir + calls.removed + calls.remove_tree + calls.set_attrs + calls.rename, 0);
    assert_eq!(looked.differing_paths, 5, "{looked}");
    assert_eq!(looked.removed_files, 0);
    let refused = story.job.verify(Mode::Act).await.expect_err("two files would go");
    assert!(refused.is_refusal());
    story.job.settings.deletes = Deletes::Files(2);
    story.job.verify(Mode::Act).await.expect("mends");
    story.assert_equal();
}

// What is not promised

/// A file that is replaced by other bytes of the same size *and* time looks the same: one that gets its old time
/// back, or one of the same size and time that comes from elsewhere by a rename or a hard link. It is seen only if
/// it is young and the clocks of the source and of syncd agree within a second or two, if the destination held
/// both of them below names that are renamed by lines of one window, or if a verification reads every byte.
#[tokio::test]
async fn s42_other_bytes_of_the_same_size_and_time_are_seen_only_by_reading() {
    let mut story = Story::of("write a one").await;
    let time = story::meta(&story.source, "a").await.mtime.expect("a time");
    story.source.set_clock(time);
    story.source.write(&path("a"), "two");
    story.logs("write a");
    let before = story::meta(&story.source, "a").await;
    story.apply().await;
    assert_eq!(before.mtime, Some(time));
    story.assert_holds("a one");
    story.source.set_clock(time);
    story.source.write(&path("a"), "six");
    story.logs("rename /elsewhere/a a");
    story.apply().await;
    story.assert_holds("a one");
    story.job.settings.compare_all = true;
    story.job.verify(Mode::Act).await.expect("mends");
    story.assert_holds("a six");
}

/// What somebody else changes at the destination is not noticed until a line names it or a verification walks
/// there. Hard links become files of their own. Extended attributes and ACLs are not copied. A line that a
/// forged name hides from the reader of an unescaped log (`docs/formats/hdfs.md`) is missed until a
/// verification.
#[tokio::test]
async fn s43_changes_at_the_destination_are_found_by_verification_alone() {
    let temp = tempfile::tempdir().expect("a directory");
    let write_long_ago = |name: &str, text: &str| {
        fs::write(temp.path().join(name), text).expect("writes");
        let file = fs::File::options().write(true).open(temp.path().join(name)).expect("opens");
        file.set_modified(std::time::UNIX_EPOCH).expect("sets a time");
    };
    write_long_ago("one", "same");
    fs::hard_link(temp.path().join("one"), temp.path().join("two")).expect("links");
    let mut story = Story::not_imported(Memory::tree(), Memory::tree(), "");
    story.job.source = Arc::new(Local::open(temp.path()).expect("a directory"));
    story.import().await;
    story.assert_holds("one same\ntwo same");
    story.destination.write(&path("one"), "meddled");
    write_long_ago("three", "3");
    story.logs("write three");
    story.apply().await;
    story.assert_holds("one meddled\nthree 3\ntwo same");
    assert_eq!(story.job.verify(Mode::Look).await.expect("verifies").differing_paths, 1);
    story.job.verify(Mode::Act).await.expect("mends");
    story.assert_holds("one same\nthree 3\ntwo same");
}

// Lost lines

/// A rotated file that is missing is a gap, where rotations give every file the next number. Damaged compressed data
/// stops the windows where it begins, until the file is mended or the gap accepted.
#[tokio::test]
async fn s44_a_missing_file_and_damaged_data_stop_until_somebody_decides() {
    let mut story = Story::of("write a one").await;
    let rotate = |story: &Story| {
        for (from, to) in [("log.2", "log.3"), ("log.1", "log.2"), ("log", "log.1")] {
            let [from, to] = [from, to].map(|name| path(&format!("hdfs-audit.{name}")));
            if story.log_dir.snapshot().contains_key(&from) {
                story.log_dir.move_over(&from, &to);
            }
        }
    };
    rotate(&story);
    story.does("write a two");
    story.apply_all().await;
    rotate(&story);
    story.does("write b one");
    rotate(&story);
    story.does("write c one");
    let lost = story.log_text("hdfs-audit.log.1");
    story.log_dir.delete(&path("hdfs-audit.log.1"));
    story.assert_refused("hdfs-audit.log.1 after byte 0: the file is missing", "--accept-gap").await;
    story.log_into("hdfs-audit.log.1", &lost);
    story.apply_all().await;
    story.logs.accept_gap = true;
    story.does("write d one");
    rotate(&story);
    story.log_dir.delete(&path("hdfs-audit.log.1"));
    story.does("write e one");
    story.apply_all().await;
    story.logs.accept_gap = false;
    story.does("write f one");
    story.log_into("hdfs-audit.log.4.gz", "\u{1f}\u{8b} no more than its name");
    let error = story.try_apply().await.expect_err("is damaged");
    assert!(error.to_string().contains("damaged compressed data"), "{error}");
    story.log_dir.delete(&path("hdfs-audit.log.4.gz"));
    story.apply_all().await;
}

/// What makes it likely that lines are missing is a *doubt*: lines that could not be read; a silence of the log, once
/// it was followed for a day, of more than half an hour and four times as long as any before; a log under a new name;
/// times that are whole hours off. Windows go on, but the status is not healthy and names the doubts until
/// everything has been looked at.
#[tokio::test]
async fn s45_what_speaks_for_lost_lines_is_told_until_everything_was_looked_at() {
    let story = Story::of("write a one").await;
    for _ in 0..300 {
        story::pass_time(chrono::TimeDelta::minutes(5));
        story.logs("read .");
    }
    story::pass_time(chrono::TimeDelta::minutes(70));
    story.does("write a two");
    story.log_into("hdfs-audit.log", "no line of a NameNode\n");
    story.logs("read .");
    story.apply_all().await;
    story.log_into("another.log", &story.log_text("hdfs-audit.log").lines().take(1).collect::<String>());
    story.log_into("another.log", " and more\n");
    story.does("write a three");
    story.apply_all().await;
    let page = story.page();
    let told = page.log.doubts.join("; ");
    for doubt in ["1 line could not be read", "silent from", "another.log is a log under a new name"] {
        assert!(told.contains(doubt), "{doubt}: {told}");
    }
    assert!(!page.healthy && page.sentence.contains("but lines may be missing"), "{}", page.sentence);
    story.job.verify(Mode::Look).await.expect("verifies");
    assert!(story.page().healthy, "{}", story.page().sentence);
}

/// What a verification finds, but for what is owed or watched, is followed until the checkpoint has passed the end of
/// the verification. What a line names until then had its line (what is gone in a tree: the line of its going); the
/// rest is counted as lost, once, and the status says how complete the log is. As long as it is not mended or named,
/// the status is not healthy.
#[tokio::test]
async fn s46_what_no_line_named_is_counted_as_lost() {
    let story = Story::of("write a one\nwrite owed one").await;
    story.destination.on_call(|op, at| (op == "put" && *at == path("owed")).then_some(ErrorKind::NoSpace));
    story.does("write b one\nwrite c one\nwrite owed two");
    story.acts("write late one\nwrite lost one");
    story.apply().await;
    assert_eq!(story.job.verify(Mode::Look).await.expect("verifies").differing_paths, 3);
    assert_eq!(story.page().log.unexplained_paths, 2, "of the third it was known");
    story.destination.on_call(|_, _| None);
    story.logs("write late one\nread .\nread .");
    story.apply().await;
    let page = story.page();
    assert!(!page.healthy, "{}", page.sentence);
    assert_eq!((page.log.unexplained_paths, page.log.lost_paths, page.log.completeness), (1, 1, Some(0.75)));
    assert!(
        page.sentence.ends_with("; 1 path changed without a line: the log is 75.00 % complete"),
        "{}",
        page.sentence
    );
    story.job.verify(Mode::Act).await.expect("mends");
    story.assert_equal();
    let page = story.page();
    assert!(page.healthy, "{}", page.sentence);
    assert_eq!(page.log.lost_paths, 1, "counted once");
}

/// Lines that name everything below the root, as anybody may forge them, make syncd walk both sides for a tenth of
/// the time, no longer. The first is granted at once; then the root is owed until nine times as long has passed as
/// the walk took.
#[tokio::test]
async fn s47_lines_that_name_everything_cost_a_tenth_of_the_time() {
    let story = Story::of("write d/a one").await;
    story.destination.on_call(|op, at| {
        story::pass_time(chrono::TimeDelta::seconds(if op == "list" && *at == path("d") { 100 } else { 0 }));
        None
    });
    story.logs("delete /");
    story.acts("write d/b one");
    story.apply_all().await;
    story.acts("write d/c one");
    story.logs("delete /\nrename /data /elsewhere");
    story.apply().await;
    assert_eq!(story.page().owed_paths, 1);
    assert!(story.owed()[0].contains("names everything: the last look at it took 100 s"), "{:?}", story.owed());
    story::pass_time(chrono::TimeDelta::seconds(800));
    story.apply().await;
    assert_eq!(story.page().owed_paths, 1);
    story::pass_time(chrono::TimeDelta::seconds(100));
    story.apply_all().await;
}

/// Whoever settles a name looks at the directories above it on both sides. One that is newer at the source than the
/// destination knows it, while nothing was named that makes it so, has lost a line, or has one that is still to come. If
/// none has come when the log is five minutes past that look, this is a doubt, and the directory is owed with everything
/// below it. A line that comes later still takes the doubt back. It costs no look, and needs directory times on both sides.
#[tokio::test]
async fn s48_a_directory_that_changed_without_a_line_is_looked_at() {
    let story = Story::of("write d/x/f one\nwrite d/gone/g one").await;
    let late = format!(
        "{} {}\n",
        story::now().format("%Y-%m-%d %H:%M:%S,%3f"),
        story::record("delete", "/data/d/gone", "null")
    );
    story.acts("write d/lost one\ndelete d/gone");
    let mut looks = Vec::new();
    for minutes in [0, 4, 2] {
        story::pass_time(chrono::TimeDelta::minutes(minutes));
        story.source.reset_calls();
        story.does("write d/x/f two");
        assert!(story.page().healthy, "its line may still come");
        story.apply().await;
        looks.push(story.source.calls());
    }
    assert_eq!(looks[0], looks[1], "a look at what is suspected costs as much as any other");
    assert_eq!(story.owed().len(), 1, "{:?}", story.owed());
    assert!(story.owed()[0].starts_with("d: what is in d changed at 2022-06-01T10:0"), "{:?}", story.owed());
    story.apply_all().await;
    let page = story.page();
    assert!(page.sentence.contains("but lines may be missing: what is in d changed at"), "{}", page.sentence);
    story.log_into("hdfs-audit.log", &late);
    story.logs("read .");
    story.apply_all().await;
    assert!(story.page().healthy, "{}", story.page().sentence);
}

impl Story {
    /// The apply is refused by a guard, in these words, and removes nothing.
    async fn assert_refused(&self, why: &str, what_to_do: &str) {
        let before = tree(&self.destination);
        let refused = self.try_apply().await.expect_err(why);
        let text = refused.to_string();
        assert!(refused.is_refusal(), "{text}");
        assert!(text.contains(why) && text.contains(what_to_do), "{text}");
        let after = tree(&self.destination);
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }
}

/// `docs/semantics.md` and the tests here say the same, word for word.
#[test]
fn each_paragraph_has_its_test_and_each_test_its_paragraph() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut documented = Vec::new();
    for block in include_str!("../docs/semantics.md").split("\n\n").filter(|block| block.starts_with("**S")) {
        documented.push(words(block));
    }
    let (mut tested, mut comment) = (Vec::new(), String::new());
    for line in include_str!("semantics.rs").lines() {
        if let Some(text) = line.strip_prefix("///") {
            comment += text;
        } else if let Some(name) = line.strip_prefix("async fn s") {
            let name = name.split('(').next().unwrap_or(name);
            let number = name.split('_').next().unwrap_or(name);
            tested.push(words(&format!("**S{number}.** {comment} *Test:* `s{name}`.")));
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    assert!(tested.len() > 30);
    assert_eq!(documented, tested);
}
