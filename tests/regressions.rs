//! What once went wrong, each as the smallest history that shows it.

#[path = "common/world.rs"]
mod world;

use std::collections::HashSet;
use std::sync::Arc;
use syncd::apply::{Mode, Options, Stop, Watch};
use syncd::checkpoint::{Key, Owed, State, Watched};
use syncd::job::{Job, Verified};
use syncd::names::Names;
use syncd::store::mem::Memory;
use syncd::store::{ErrorKind, Time};
use syncd_parsers::{Change, RelPath};
use world::{World, change, names, options, path};

fn watched(state: &State) -> Vec<String> {
    state.watched().map(|item| item.expect("reads").0.to_string()).collect()
}

fn owed(state: &State) -> Vec<String> {
    state.owed().map(|item| item.expect("reads").0.to_string()).collect()
}

fn watch(state: &State, text: &str, reason: Watch) {
    state.watch(&path(text), Watched { reason, since: syncd::clock::now(), tried: None }).expect("notes");
}

#[tokio::test]
async fn a_directory_that_comes_back_before_its_removal_does_not_keep_its_old_files() {
    let world = World::new();
    world.destination.write(&path("a/old"), "old");
    let (source, mut looks) = (world.source.clone(), 0);
    world.destination.on_call(move |op, at| {
        looks += usize::from(op == "lookup" && *at == path("a"));
        if looks == 2 && source.snapshot().is_empty() {
            source.write(&path("a/new"), "new");
        }
        None
    });
    world.apply(&["delete a"], options()).await.expect("applies");
    world.apply(&["mkdir a", "write a/new"], options()).await.expect("applies");
    assert!(!world.source.snapshot().is_empty(), "it came back");
    world.assert_equal();
}

#[tokio::test]
async fn a_file_published_last_is_copied_though_its_twin_stands_there() {
    let world = World::new();
    world.source.write(&path("u/index-1"), "B");
    world.destination.write(&path("t/index-1"), "A");
    world.destination.write(&path("v/index-1"), "B");
    world.apply(&["rename t u", "rename v u"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn verify_does_not_forget_a_file_that_is_open() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("f"), "1");
    let job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.source.set_open(&path("f"), true);
    watch(&job.state, "f", Watch::Open);
    job.verify(Mode::Act).await.expect("verifies");
    assert_eq!(watched(&job.state), ["f"]);
}

#[tokio::test]
async fn an_import_made_again_forgets_nothing_that_is_owed_or_watched() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("f"), "1");
    let job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.source.set_open(&path("f"), true);
    watch(&job.state, "f", Watch::Open);
    world.destination.write(&path("gone"), "1");
    let line = Owed { reason: "permission denied".into(), since: syncd::clock::now(), tried: None, line: None };
    job.state.owe(&path("gone"), line).expect("notes");
    job.import(None).await.expect("imports again");
    assert_eq!((watched(&job.state), owed(&job.state)), (vec!["f".to_owned()], vec!["gone".to_owned()]));
}

#[tokio::test]
async fn an_open_file_below_a_directory_that_could_not_be_looked_at_stays_watched() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("d/f"), "1");
    let job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.source.set_open(&path("d/f"), true);
    watch(&job.state, "d/f", Watch::Open);
    world.source.fail_next("lookup", &path("d"), ErrorKind::PermissionDenied);
    let none = Memory::tree();
    job.apply(&none, Mode::Act).await.expect("applies");
    assert_eq!(owed(&job.state), ["d"]);
    job.apply(&none, Mode::Act).await.expect("applies");
    assert_eq!((owed(&job.state).len(), watched(&job.state)), (0, vec!["d/f".to_owned()]));
}

#[tokio::test]
async fn a_written_file_below_a_directory_that_could_not_be_looked_at_is_watched() {
    let world = World::new();
    for store in [&world.source, &world.destination] {
        store.write(&path("d/f"), "1");
        store.write(&path("e/f"), "1");
    }
    world.source.fail_next("lookup", &path("d"), ErrorKind::PermissionDenied);
    world.source.fail_next("list", &path("e"), ErrorKind::PermissionDenied);
    world.apply(&["write d/f", "rescan e", "write e/f"], options()).await.expect("applies");
    assert!(world.notes.watches("d/f"), "named below the directory");
    assert!(world.notes.watches("e/f"), "named below a deep name");
}

fn swapped() -> World {
    let world = World::new();
    for n in 0..4 {
        world.source.write(&path(&format!("t/new-{n}")), "new");
        world.destination.write(&path(&format!("t_new/new-{n}")), "new");
        world.destination.write(&path(&format!("t/old-{n}")), "old");
    }
    world
}

#[tokio::test]
async fn what_a_crash_left_aside_stands_in_no_later_moves_way() {
    let world = swapped();
    world.destination.write(&path(".syncd/aside/0/t"), "left");
    world.destination.reset_calls();
    world.apply(&["delete t", "rename t_new t"], options()).await.expect("applies");
    assert_eq!(world.destination.calls().put, 0, "moved, not copied");
    world.assert_equal();
}

#[tokio::test]
async fn moves_of_a_later_part_find_a_place_to_put_things_aside() {
    let world = swapped();
    world.source.write(&path("u/new"), "new");
    world.destination.write(&path("u_new/new"), "new");
    world.destination.write(&path("u/old"), "old");
    world.destination.reset_calls();
    let run = world.run(options());
    run.part(names(&["delete t", "rename t_new t"])).await.expect("applies");
    run.part(names(&["delete u", "rename u_new u"])).await.expect("applies");
    run.finish().await.expect("applies");
    assert_eq!(world.destination.calls().put, 0, "moved, not copied");
    assert_eq!(world.kept_aside(), 0);
    world.assert_equal();
}

#[tokio::test]
async fn what_a_crash_left_aside_is_removed_by_the_next_run() {
    let world = World::new();
    world.source.write(&path("f"), "1");
    world.destination.write(&path(".syncd/aside/0/x"), "left");
    let options = Options { interrupted_since: Some(Time(1)), ..options() };
    world.apply(&["write f"], options).await.expect("applies");
    assert_eq!(world.kept_aside(), 0);
}

#[tokio::test]
async fn a_run_made_again_may_not_remove_aside_what_it_was_refused_to() {
    let world = swapped();
    let limited = |interrupted| Options { deletes_max: Some(3), interrupted_since: interrupted, ..options() };
    let lines = ["delete t", "rename t_new t"];
    assert!(matches!(world.apply(&lines, limited(None)).await, Err(Stop::Deletes { .. })));
    assert!(matches!(world.apply(&lines, limited(Some(Time(1)))).await, Err(Stop::Deletes { .. })));
    let enough = Options { deletes_max: Some(4), ..limited(Some(Time(1))) };
    world.apply(&lines, enough).await.expect("is allowed");
    assert_eq!(world.kept_aside(), 0);
    world.assert_equal();
}

#[tokio::test(start_paused = true)]
async fn a_twin_moved_before_a_crash_is_found_out_after_it() {
    let world = World::new();
    for (at, text) in [("v", "new"), ("z", "B")] {
        world.source.write(&path(at), text);
    }
    for (at, text) in [("t", "A"), ("v", "B"), ("x", "new")] {
        world.destination.write(&path(at), text);
    }
    let lines = ["rename t z", "rename v z", "rename x v"];
    for _ in 0..4 {
        world.source.fail_next("lookup", &RelPath::root(), ErrorKind::Throttled);
    }
    let crashing = world.apply(&lines, options());
    let crashed = tokio::time::timeout(std::time::Duration::from_millis(50), crashing).await;
    assert!(crashed.is_err(), "it ended between its moves and its looks");
    assert_eq!(World::files(&world.destination).get("z").map(String::as_str), Some("A"), "the wrong twin");
    let interrupted = Options { interrupted_since: Some(Time(1)), ..options() };
    world.apply(&lines, interrupted).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_file_known_to_differ_is_not_trusted_after_a_copy_that_failed() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("f"), "B");
    let mut job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.destination.write(&path("f"), "A");
    world.destination.fail_next("put", &path("f"), ErrorKind::NoSpace);
    job.settings.compare_all = true;
    job.verify(Mode::Act).await.expect("verifies");
    assert_eq!(owed(&job.state), ["f"]);
    job.settings.compare_all = false;
    job.apply(&Memory::tree(), Mode::Act).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn nothing_is_deleted_when_the_source_root_is_replaced_during_a_run() {
    let world = World::new();
    for store in [&world.source, &world.destination] {
        store.write(&path("a"), "1");
        store.write(&path("b"), "1");
    }
    let source = world.source.clone();
    world.source.on_call(move |op, at| {
        if op == "lookup" && *at == path("a") {
            source.delete(&path("a"));
            source.delete(&path("b"));
            source.set_identity("another");
        }
        None
    });
    let before = World::files(&world.destination);
    let done = world.apply(&["delete a"], options()).await;
    assert!(matches!(done, Err(Stop::OtherRoot { .. })));
    assert_eq!(World::files(&world.destination), before);
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_removed() {
    let world = World::new();
    (0..5).for_each(|n| world.destination.write(&path(&format!("a/{n}")), "1"));
    world.destination.on_call(|op, at| (op == "list" && *at == path("a")).then_some(ErrorKind::Other));
    let limited = Options { deletes_max: Some(3), ..options() };
    let _ = world.apply(&["delete a"], limited).await;
    assert_eq!(World::files(&world.destination).len(), 6);
}

#[tokio::test]
async fn a_run_that_only_looks_tells_of_deletes_beyond_the_limit() {
    let world = World::new();
    (0..5).for_each(|n| world.destination.write(&path(&format!("a{n}")), "1"));
    let look = Options { mode: Mode::Look, deletes_max: Some(3), ..options() };
    let report = world.apply(&["rescan a0", "rescan a1", "rescan a2", "rescan a3", "rescan a4"], look).await;
    assert_eq!(report.expect("only looks").differing_paths, 5);
}

#[tokio::test]
async fn a_fresh_file_is_not_trusted_under_its_new_name() {
    let world = World::new();
    world.source.write(&path("e/f"), "B");
    world.destination.write(&path("d/f"), "A");
    let options = Options { fresh: Arc::new(HashSet::from([path("d/f")])), ..options() };
    world.apply(&["rename d e"], options).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_verification_that_could_not_look_everywhere_is_not_clean() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("d/f"), "1");
    let job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.source.fail_next("list", &path("d"), ErrorKind::PermissionDenied);
    job.verify(Mode::Look).await.expect("looks");
    let verified: Verified = job.state.get(Key::Verified).expect("reads").expect("is there");
    assert_ne!(verified.differing_paths, 0);
}

#[tokio::test]
async fn a_directory_that_takes_its_parents_place_is_moved() {
    let world = World::new();
    for n in 0..4 {
        world.source.write(&path(&format!("a/{n}")), "1");
        world.destination.write(&path(&format!("a/b/{n}")), "1");
    }
    world.destination.reset_calls();
    world.apply(&["rename a/b t", "delete a", "rename t a"], options()).await.expect("applies");
    assert_eq!(world.destination.calls().put, 0, "moved, not copied");
    world.assert_equal();
    assert_eq!(world.kept_aside(), 0);
}

#[tokio::test]
async fn a_directory_that_goes_below_its_own_name_is_moved() {
    let world = World::new();
    for n in 0..4 {
        world.source.write(&path(&format!("a/b/{n}")), "1");
        world.destination.write(&path(&format!("a/{n}")), "1");
    }
    world.destination.reset_calls();
    world.apply(&["rename a t", "mkdir a", "rename t a/b"], options()).await.expect("applies");
    assert_eq!(world.destination.calls().put, 0, "moved, not copied");
    world.assert_equal();
}

#[tokio::test]
async fn forged_renames_of_the_root_move_nothing() {
    let world = World::new();
    for store in [&world.source, &world.destination] {
        (0..4).for_each(|n| store.write(&path(&format!("a/{n}")), "1"));
    }
    let root = Change { to: Some(RelPath::root()), ..change("rename a x") };
    let back = Change { path: RelPath::root(), ..change("rename x a/b") };
    let run = world.run(options());
    run.part(Names::of([&root, &back])).await.expect("applies");
    run.finish().await.expect("applies");
    assert_eq!(world.destination.calls().rename, 0);
    world.assert_equal();
}

#[tokio::test]
async fn a_failed_run_is_not_healthy() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("f"), "1");
    let job = world.job(dir.path());
    job.import(None).await.expect("imports");
    world.source.set_identity("another");
    let error = job.verify(Mode::Act).await.expect_err("is another root");
    job.note_failure(&error).expect("notes");
    assert!(!syncd::status::Page::read(dir.path()).expect("reads").healthy);
}

/// Appends lines of a NameNode's log, and makes a window of them: `COMMAND SRC [DST]`, ten seconds apart.
async fn window(job: &Job, logs: &Memory, change_log: &Memory, lines: &[&str]) {
    let hours_ahead = chrono::TimeDelta::hours(1);
    let mut time = syncd::clock::now() + hours_ahead;
    let mut text = logs.snapshot().values().next().map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let dst = words.get(2).map_or("null".to_owned(), |dst| format!("/data/{dst}"));
        text.extend_from_slice(
            format!(
                "{} INFO FSNamesystem.audit: allowed=true\tugi=x (auth:SIMPLE)\tip=/1.1.1.1\tcmd={}\tsrc=/data/{}\t\
                 dst={dst}\tperm=null\tproto=rpc\n",
                time.format("%Y-%m-%d %H:%M:%S,000"),
                words[0],
                words[1],
            )
            .as_bytes(),
        );
        time += chrono::TimeDelta::seconds(10);
    }
    logs.write(&path("hdfs-audit.log"), text);
    let logs = syncd::round::Logs::new(
        Arc::new(logs.clone()),
        Arc::new(change_log.clone()),
        syncd::zone::Zone::UTC,
        syncd::scope::Scope::new("/data").expect("a root"),
    );
    logs.make(Some(&job.state), time).await.expect("makes a window");
}

#[tokio::test]
async fn an_open_file_that_is_not_due_is_followed_through_a_rename() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    let (logs, change_log) = (Memory::tree(), Memory::tree());
    world.source.write(&path("d/f"), "1");
    let mut job = world.job(dir.path());
    job.settings.retry = syncd::job::Retry::Due;
    job.import(Some(Vec::new())).await.expect("imports");
    let now = syncd::clock::now();
    job.state.watch(&path("d/f"), Watched { reason: Watch::Open, since: now, tried: Some(now) }).expect("notes");
    world.source.move_over(&path("d"), &path("e"));
    world.source.set_open(&path("e/f"), true);
    window(&job, &logs, &change_log, &["rename d e"]).await;
    job.apply(&change_log, Mode::Act).await.expect("applies");
    assert!(watched(&job.state).contains(&"e/f".to_owned()), "{:?}", watched(&job.state));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_at_every_read_is_not_waited_for() {
    let world = World::new();
    world.source.write(&path("f"), "0");
    let (writer, mut count) = (world.source.clone(), 0);
    world.source.on_call(move |op, at| {
        if op == "read" {
            count += 1;
            writer.write(at, format!("{count}{count}"));
            return Some(ErrorKind::Changed);
        }
        None
    });
    let began = tokio::time::Instant::now();
    let report = world.apply(&["write f"], options()).await.expect("applies");
    assert_eq!((report.retried_calls, began.elapsed()), (0, std::time::Duration::ZERO));
    assert!(world.notes.watches("f"));
}

#[tokio::test]
async fn a_directory_that_comes_back_while_it_is_listed_is_not_owed() {
    let world = World::new();
    world.source.write(&path("d/f"), "x");
    world.destination.write(&path("d/old"), "y");
    world.source.fail_next("list", &path("d"), ErrorKind::NotFound);
    world.apply(&["rescan d"], options()).await.expect("applies");
    assert_eq!(world.notes.owed(), []);
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_is_found_out_where_listings_do_not_tell_times() {
    let world = World { destination: Memory::flat(), ..World::new() };
    world.source.write(&path("b/x"), "B");
    world.destination.write(&path("a/x"), "B");
    world.destination.write(&path("b/x"), "A");
    world.apply(&["rename a b"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_file_gone_when_asked_whether_it_is_open_is_looked_at_again() {
    let world = World::new();
    for store in [&world.source, &world.destination] {
        store.write(&path("f"), "x");
    }
    let writer = world.source.clone();
    world.source.on_call(move |op, at| {
        (op == "is_open").then(|| {
            writer.delete(at);
            ErrorKind::NotFound
        })
    });
    world.apply(&["write f"], options()).await.expect("applies");
    assert_eq!(world.notes.owed(), []);
    world.apply(&["delete f"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_a_directory_took_the_place_of_is_found_out() {
    let world = World::new();
    world.source.write(&path("a"), "B");
    world.source.write(&path("b/x/new"), "new");
    world.destination.write(&path("a"), "A");
    world.destination.write(&path("b/x"), "B");
    world.apply(&["rename b/x a", "write b/x/new"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_went_with_the_directory_above_its_old_name_is_found_out() {
    let world = World::new();
    world.source.write(&path("b/a"), "A");
    world.destination.write(&path("a/a"), "A");
    world.destination.write(&path("b/a"), "B");
    world.apply(&["rename b/a t", "rename a/a b/a", "rename t a/a", "delete a"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_was_renamed_while_another_line_was_applied_is_moved_and_not_lost() {
    let world = World::new();
    world.source.write(&path("b"), "A");
    world.destination.write(&path("a"), "A");
    world.destination.write(&path("b"), "B");
    world.apply(&["attr a"], options()).await.expect("applies");
    assert!(World::files(&world.destination).contains_key("a"), "no line said that it went");
    world.apply(&["rename a b"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_an_older_delete_took_away_before_its_rename_was_read_is_found_out() {
    let world = World::new();
    world.source.write(&path("b"), "A");
    world.destination.write(&path("a"), "A");
    world.destination.write(&path("b"), "B");
    world.apply(&["delete a"], options()).await.expect("applies");
    world.apply(&["rename a b"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_was_moved_in_place_of_what_an_older_delete_took_away_is_found_out() {
    let world = World::new();
    world.source.write(&path("c"), "A");
    world.destination.write(&path("a"), "A");
    world.destination.write(&path("b"), "B");
    world.apply(&["delete a"], options()).await.expect("applies");
    world.apply(&["rename a b", "rename b c"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_stood_where_a_rename_ended_is_found_out_though_nothing_was_moved() {
    let world = World::new();
    world.source.write(&path("b"), "A");
    world.destination.write(&path("b"), "B");
    world.apply(&["rename a b"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn an_append_that_a_rename_overtook_is_watched_under_the_new_name() {
    let world = World::new();
    world.source.write(&path("e/f"), "1");
    world.destination.write(&path("d/f"), "1");
    world.source.set_open(&path("e/f"), true);
    world.apply(&["rename d e"], options()).await.expect("applies");
    world.apply(&["write d/f"], options()).await.expect("applies");
    assert!(world.notes.watches("e/f"), "its close will have no line");
}

#[tokio::test]
async fn an_append_whose_rename_is_read_in_the_next_window_is_watched_under_the_new_name() {
    let world = World::new();
    world.source.write(&path("e/f"), "1");
    world.destination.write(&path("d/f"), "1");
    world.source.set_open(&path("e/f"), true);
    world.apply(&["write d/f"], options()).await.expect("applies");
    world.apply(&["rename d e"], options()).await.expect("applies");
    assert!(world.notes.watches("e/f"), "its close will have no line");
}

#[tokio::test]
async fn an_open_file_whose_directory_was_renamed_is_moved_when_that_is_read() {
    let world = World::new();
    for n in 0..4 {
        world.source.write(&path(&format!("e/{n}")), "1");
        world.destination.write(&path(&format!("d/{n}")), "1");
    }
    world.destination.reset_calls();
    world.apply(&["write d/0"], options()).await.expect("applies");
    world.apply(&["rename d e"], options()).await.expect("applies");
    assert_eq!(world.destination.calls().put, 0, "moved, not copied");
    world.assert_equal();
}

#[tokio::test]
async fn a_fresh_file_below_a_directory_that_could_not_be_looked_at_stays_fresh() {
    let world = World::new();
    world.source.write(&path("d/f"), "B");
    world.destination.write(&path("d/f"), "A");
    world.source.fail_next("lookup", &path("d"), ErrorKind::PermissionDenied);
    let options = Options { fresh: Arc::new(HashSet::from([path("d/f")])), ..options() };
    world.apply(&["write d/f"], options).await.expect("applies");
    assert!(world.notes.is_fresh("d/f"), "size and time will still prove nothing");
}

/// A job whose source has imported this, and where its log goes.
async fn imported(world: &World, dir: &std::path::Path) -> (Job, Memory, Memory) {
    let job = world.job(dir);
    job.import(Some(Vec::new())).await.expect("imports");
    (job, Memory::tree(), Memory::tree())
}

#[tokio::test]
async fn a_job_remembers_renames_for_an_append_that_is_read_in_a_later_window() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("d/f"), "1");
    let (job, logs, change_log) = imported(&world, dir.path()).await;
    world.source.set_open(&path("e/f"), true);
    world.source.move_over(&path("d"), &path("e"));
    window(&job, &logs, &change_log, &["rename d e"]).await;
    job.apply(&change_log, Mode::Act).await.expect("applies");
    assert_eq!(watched(&job.state), [""; 0]);
    window(&job, &logs, &change_log, &["append d/f"]).await;
    job.apply(&change_log, Mode::Act).await.expect("applies");
    assert_eq!(watched(&job.state), ["e/f"]);
}

#[tokio::test]
async fn files_that_are_watched_below_an_owed_path_do_not_multiply_where_renames_go_in_circles() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("p/f"), "1");
    let (job, logs, change_log) = imported(&world, dir.path()).await;
    world.source.on_call(|_, at| at.is_within(&path("p")).then_some(ErrorKind::PermissionDenied));
    let mut counts = Vec::new();
    let circle = &["create p/f", "rename p h", "rename h p"][..];
    for lines in [circle, &[], &[], &[], &circle[1..], &[], &[], &circle[1..], &circle[1..], &circle[1..]] {
        window(&job, &logs, &change_log, lines).await;
        job.apply(&change_log, Mode::Act).await.expect("applies");
        counts.push(watched(&job.state).len());
    }
    assert!(counts[0] > 0 && counts[1] == counts[3] && counts[4] == counts[6], "without a line: {counts:?}");
    assert!(counts.iter().all(|count| *count < 1_000), "{counts:?}");
    world.source.on_call(|_, _| None);
    for _ in 0..3 {
        job.apply(&change_log, Mode::Act).await.expect("applies");
    }
    assert_eq!((owed(&job.state), watched(&job.state)), (vec![], vec![]));
}

#[tokio::test]
async fn a_job_remembers_what_it_removed_for_a_rename_that_is_read_in_a_later_window() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a directory"));
    world.source.write(&path("a"), "A");
    world.source.write(&path("b"), "B");
    let (job, logs, change_log) = imported(&world, dir.path()).await;
    world.source.move_over(&path("a"), &path("b"));
    window(&job, &logs, &change_log, &["delete a"]).await;
    job.apply(&change_log, Mode::Act).await.expect("applies");
    window(&job, &logs, &change_log, &["rename a b"]).await;
    job.apply(&change_log, Mode::Act).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_that_was_owed_before_it_was_renamed_is_found_out() {
    let world = World::new();
    world.source.write(&path("b"), "A");
    world.destination.write(&path("b"), "B");
    let mut names = names(&["rename a b"]);
    names.add_deep(&path("a")); // it was never copied
    let run = world.run(options());
    run.part(names).await.expect("applies");
    run.finish().await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_hidden_key_that_was_written_below_a_deep_name_is_found() {
    let world = World { source: Memory::flat(), ..World::new() };
    world.source.write(&path("a/b/c"), "1");
    world.source.hide_from_list(&path("a/b/c"));
    world.apply(&["delete a", "write a/b/c"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_copied_on_the_second_look_leaves_the_time_of_its_directory_right() {
    let world = World::new();
    world.source.write(&path("d/b"), "A");
    world.destination.write(&path("d/b"), "B");
    world.destination.write(&path("a"), "A");
    world.source.set_clock(Time(7));
    world.source.write(&path("d/c"), "c"); // gives the directory a time of its own
    world.destination.set_clock(Time(9));
    world.apply(&["rescan d", "rename t d/b", "delete a", "rename a t"], options()).await.expect("applies");
    let time = |store: &Memory| store.peek(&path("d")).and_then(|meta| meta.mtime);
    assert_eq!(time(&world.destination), time(&world.source));
    world.assert_equal();
}

#[tokio::test]
async fn a_twin_is_found_out_though_what_was_above_its_old_name_is_gone_without_a_line_yet() {
    let world = World::new();
    world.source.write(&path("a/f"), "A");
    world.destination.write(&path("d/e/f"), "A");
    world.destination.write(&path("a/f"), "B");
    world.apply(&["delete a", "rename d/e a"], options()).await.expect("applies");
    assert_eq!(World::files(&world.destination)["a/f"], "A");
}

#[tokio::test]
async fn a_file_copied_fresh_stays_so_where_a_later_look_above_it_fails() {
    let world = World::new();
    world.source.set_clock(Time(0));
    world.source.write(&path("d/f"), "A");
    let mut copied = false;
    world.destination.on_call(move |op, at| {
        copied |= op == "put";
        (copied && op == "lookup" && *at == path("d")).then_some(ErrorKind::PermissionDenied)
    });
    world.apply(&["write d/f"], Options { now: Arc::new(|| Time(1)), ..options() }).await.expect("applies");
    assert_eq!(world.notes.owed().len(), 1);
    let watched = world.notes.watched.lock().expect("no panic holds it").clone();
    assert!(watched.iter().all(|(_, watch)| *watch == Watch::Fresh) && !watched.is_empty(), "{watched:?}");
}

#[tokio::test]
async fn a_twin_that_was_to_be_published_last_and_was_renamed_before_is_found_out() {
    let world = World::new();
    world.source.write(&path("a/_SUCCESS"), "A");
    world.destination.write(&path("b/_SUCCESS"), "B");
    let (source, mut looks) = (world.source.clone(), 0);
    world.source.on_call(move |op, at| {
        looks += usize::from(op == "lookup" && *at == path("a/_SUCCESS"));
        if looks == 2 && source.peek(&path("b")).is_none() {
            source.move_over(&path("a"), &path("b"));
        }
        None
    });
    world.apply(&["write a/_SUCCESS"], options()).await.expect("applies");
    assert_eq!(World::files(&world.source)["b/_SUCCESS"], "A", "it was renamed before it was published");
    world.apply(&["delete b", "rename a b"], options()).await.expect("applies");
    world.assert_equal();
}

/// Keys where a hidden one is at home.
fn flat() -> World {
    World { source: Memory::flat(), destination: Memory::flat(), ..World::new() }
}

/// Keys, and no marker above them.
fn without_markers(store: &Memory) {
    let mut keys = store.snapshot();
    keys.retain(|_, (meta, _)| !meta.is_dir());
    store.restore(&keys);
}

#[tokio::test]
async fn a_hidden_key_below_one_that_takes_its_prefix_place_is_not_removed() {
    let world = flat();
    world.source.write(&path("a/h"), "h");
    world.source.write(&path("a"), "object");
    world.destination.write(&path("a/old"), "old");
    world.destination.write(&path("a/h"), "h");
    without_markers(&world.destination);
    world.source.hide_from_list(&path("a/h"));
    world.destination.hide_from_list(&path("a/h"));
    world.apply(&["write a", "delete a/old"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_key_below_one_that_is_a_prefix_as_well_does_not_go_with_the_marker_above_both() {
    let world = flat();
    world.source.write(&path("a/x/h"), "h");
    world.source.write(&path("a"), "object");
    world.source.hide_from_list(&path("a/x/h"));
    world.destination.make_dirs(&path("a"));
    world.destination.set_mode(&path("a"), 0o755); // a marker
    world.destination.write(&path("a/x/h"), "h");
    world.destination.write(&path("a/x"), "old");
    world.destination.hide_from_list(&path("a/x/h"));
    world.apply(&["write a"], options()).await.expect("applies");
    let held = world.destination.snapshot();
    assert!(held.contains_key(&path("a/x/h")), "the source has it: {:?}", held.keys());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_copied_while_the_prefix_above_it_is_cleared_stays() {
    let world = flat();
    world.source.write(&path("a/new"), "new");
    world.source.write(&path("a"), "object");
    world.destination.make_dirs(&path("a"));
    world.destination.set_mode(&path("a"), 0o755); // a marker
    world.destination.write(&path("a/old"), "old");
    world.destination.fail_next("remove", &path("a/old"), ErrorKind::Throttled); // it takes a while
    world.apply(&["write a", "write a/new"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_prefix_that_goes_with_its_last_key_is_not_owed_and_is_free_for_a_key() {
    let world = flat();
    world.source.write(&path("d"), "one");
    world.destination.write(&path("d/x"), "1");
    world.destination.write(&path("d/s/y"), "2");
    without_markers(&world.destination);
    world.apply(&["delete d/x", "delete d/s/y", "delete d", "write d"], options()).await.expect("applies");
    world.assert_equal();
    assert_eq!(world.notes.owed().len(), 0);
}

#[tokio::test]
async fn a_key_below_an_object_that_a_directory_takes_the_place_of_is_copied_once() {
    let world = flat();
    world.source.write(&path("b/a/a"), "below");
    world.destination.write(&path("b"), "object");
    world.apply(&["rename a b", "rename b a", "write b/a/a"], options()).await.expect("applies");
    world.assert_equal();
    assert_eq!(world.destination.calls().put, 1);
}

#[tokio::test]
async fn renamed_keys_one_below_the_other_are_both_settled() {
    let world = flat();
    world.source.write(&path("a/b"), "new below");
    world.source.write(&path("a"), "new");
    world.destination.write(&path("a/b"), "old b");
    world.destination.write(&path("a"), "old a");
    world.apply(&["rename x a", "rename y a/b"], options()).await.expect("applies");
    world.assert_equal();
}

#[tokio::test]
async fn a_run_that_only_looks_tells_once_of_a_key_that_went_with_its_prefix() {
    let world = World { source: Memory::flat(), ..World::new() };
    world.destination.write(&path("a/b/x"), "1");
    let look = Options { mode: Mode::Look, ..options() };
    let report = world.apply(&["delete a/b/x"], look).await.expect("only looks");
    assert_eq!(report.differing_paths, 1);
}

#[tokio::test]
async fn a_key_that_is_made_beside_a_full_prefix_counts_no_deletes() {
    for destination in [Memory::flat(), Memory::tree()] {
        let world = World { source: Memory::flat(), destination, ..World::new() };
        for n in 0..5 {
            world.source.write(&path(&format!("a/{n}")), "1");
            world.destination.write(&path(&format!("a/{n}")), "1");
        }
        world.source.write(&path("a"), "object");
        let limited = Options { deletes_max: Some(3), ..options() };
        world.apply(&["write a"], limited).await.expect("removes nothing");
        assert!(World::files(&world.destination).contains_key("a/4"));
    }
}
