//! What once went wrong, each as the smallest history that shows it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use syncd::apply::{BoxError, Mode, Notebook, Options, Run, Stop, Watch};
use syncd::checkpoint::{Key, Owed, State, Watched};
use syncd::job::{Job, Settings, Verified};
use syncd::names::{Line, Names};
use syncd::publish::Publish;
use syncd::report::{Event, Report};
use syncd::store::mem::Memory;
use syncd::store::{ErrorKind, RESERVED, Time};
use syncd_parsers::{Change, Op, RelPath};

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// `OP PATH [TO]`.
fn change(text: &str) -> Change {
    let words: Vec<&str> = text.split(' ').collect();
    let op = match words[0] {
        "write" => Op::Write,
        "mkdir" => Op::Mkdir,
        "rename" => Op::Rename,
        "delete" => Op::Delete,
        "attr" => Op::Attr,
        "rescan" => Op::Rescan,
        other => panic!("no operation {other}"),
    };
    Change {
        time: chrono::DateTime::UNIX_EPOCH,
        op,
        path: path(words[1]),
        to: words.get(2).map(|to| path(to)),
        into: false,
        user: None,
        log: "log".into(),
        offset: 0,
    }
}

fn names(lines: &[&str]) -> Names {
    Names::of(&lines.iter().map(|line| change(line)).collect::<Vec<_>>())
}

#[derive(Default)]
struct Notes {
    owed: Mutex<Vec<(RelPath, String)>>,
    watched: Mutex<Vec<(RelPath, Watch)>>,
}

impl Notes {
    fn watches(&self, text: &str) -> bool {
        self.watched.lock().expect("no panic holds it").iter().any(|(watched, _)| *watched == path(text))
    }
}

impl Notebook for Notes {
    fn owe(&self, path: &RelPath, reason: &str, _: Option<&Line>) -> Result<(), BoxError> {
        self.owed.lock().expect("no panic holds it").push((path.clone(), reason.to_owned()));
        Ok(())
    }

    fn watch(&self, path: &RelPath, watch: Watch) -> Result<(), BoxError> {
        self.watched.lock().expect("no panic holds it").push((path.clone(), watch));
        Ok(())
    }

    fn event(&self, _: &Event<'_>) {}
}

fn options() -> Options {
    Options {
        mode: Mode::Act,
        removes: true,
        deletes_max: None,
        publish: Publish::default(),
        interrupted_since: None,
        fresh: Arc::new(HashSet::new()),
        compare_all: false,
        now: || Time(i64::MAX),
    }
}

struct World {
    source: Memory,
    destination: Memory,
    notes: Arc<Notes>,
}

impl World {
    fn new() -> Self {
        Self { source: Memory::tree(), destination: Memory::tree(), notes: Arc::default() }
    }

    fn run(&self, options: Options) -> Run {
        let (source, destination) = (Arc::new(self.source.clone()), Arc::new(self.destination.clone()));
        Run::new(source, destination, self.notes.clone(), options)
    }

    async fn apply(&self, lines: &[&str], options: Options) -> Result<Report, Stop> {
        let run = self.run(options);
        run.part(names(lines)).await?;
        run.finish().await
    }

    fn files(store: &Memory) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = store.snapshot().into_iter();
        all.map(|(path, (meta, bytes))| (path.to_string(), if meta.is_dir() { "/".into() } else { text(&bytes) }))
            .filter(|(path, _)| path != RESERVED && !path.starts_with(".syncd/"))
            .collect()
    }

    fn kept_aside(&self) -> usize {
        let aside = path(".syncd/aside");
        self.destination.snapshot().keys().filter(|path| path.is_within(&aside) && **path != aside).count()
    }

    fn assert_equal(&self) {
        assert_eq!(Self::files(&self.destination), Self::files(&self.source));
    }

    fn job(&self, dir: &std::path::Path) -> Job {
        Job {
            source: Arc::new(self.source.clone()),
            destination: Arc::new(self.destination.clone()),
            pair: ("mem:source".into(), "mem:destination".into()),
            state: Arc::new(State::open(dir).expect("opens")),
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now: syncd::clock::now,
        }
    }
}

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
    let done = world.apply(&["write a"], options()).await;
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
    let logs = syncd::round::Logs {
        logs: Arc::new(logs.clone()),
        change_log: Arc::new(change_log.clone()),
        dialect: None,
        zone: syncd::zone::Zone::UTC,
        scope: syncd::scope::Scope::new("/data").expect("a root"),
        since: None,
        until: None,
        accept_gap: false,
        lateness: None,
    };
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
    assert_eq!(*world.notes.owed.lock().expect("no panic holds it"), []);
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
    assert_eq!(*world.notes.owed.lock().expect("no panic holds it"), []);
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
