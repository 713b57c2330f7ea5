//! `syncd run` beside a log that grows and rotates: each change arrives, signals end it in order, a kill costs nothing.

#[path = "common/binary.rs"]
mod binary;

use binary::{PATIENCE, Stage, until};
use std::fs;
use std::time::{Duration, Instant};

/// More than a change may take on a machine that does other things, too.
const GENEROUS: Duration = Duration::from_secs(20);

fn imported() -> Stage {
    let stage = Stage::new();
    stage.write("begin", "1");
    stage.import().ends(0);
    stage
}

fn arrives(stage: &Stage, path: &str) -> Duration {
    let there = stage.at("destination").join(path);
    until(path, || there.exists())
}

/// Gives the log a new name, as the NameNode's log4j does, and begins another.
fn rotate(stage: &Stage, name: &str) {
    fs::rename(stage.at("logs/hdfs-audit.log"), stage.at("logs").join(name)).expect("renames");
    fs::write(stage.at("logs/hdfs-audit.log"), "").expect("writes");
}

#[test]
fn each_change_is_there_soon_after_its_line_across_rotations() {
    let stage = imported();
    let daemon = stage.start(&stage.daemon());
    stage.write("first", "1");
    arrives(&stage, "first");
    let mut took = Vec::new();
    for number in 0..20 {
        if number % 7 == 6 {
            rotate(&stage, &format!("hdfs-audit.log.{number}"));
        }
        let began = Instant::now();
        stage.write(&format!("d{}/{number}", number % 3), &format!("content {number}"));
        arrives(&stage, &format!("d{}/{number}", number % 3));
        took.push(began.elapsed());
    }
    took.sort();
    println!("from line to file: median {:?}, longest {:?}", took[10], took[19]);
    assert!(took[19] < GENEROUS, "{took:?}");
    stage.remove("d1");
    until("the deletes", || !stage.at("destination/d1").exists());
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0), "{}", stage.stderr());
    assert!(stage.stderr().contains("ended in order"), "{}", stage.stderr());
    assert!(stage.stderr().trim_end().lines().last().is_some_and(|last| last.contains("destination equals source")));
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn after_a_kill_the_next_start_goes_on() {
    let stage = imported();
    let daemon = stage.start(&stage.daemon());
    stage.write("one", "1");
    arrives(&stage, "one");
    stage.write("two", "2");
    daemon.signal("KILL");
    assert_eq!(daemon.end(), None);
    stage.write("three", "3");
    rotate(&stage, "hdfs-audit.log.1");
    stage.write("four", "4");
    let daemon = stage.start(&stage.daemon());
    ["two", "three", "four"].iter().for_each(|path| assert!(arrives(&stage, path) < PATIENCE));
    daemon.signal("INT");
    assert_eq!(daemon.end(), Some(0), "{}", stage.stderr());
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn a_signal_during_a_round_ends_it_at_once_and_the_round_is_made_again() {
    let stage = imported();
    for number in 0..2000 {
        stage.write(&format!("many/{number}"), "x");
    }
    let daemon = stage.start(&stage.daemon());
    until("the round is under way", || stage.at("destination/many").exists());
    let began = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0), "{}", stage.stderr());
    assert!(began.elapsed() < GENEROUS, "{:?}", began.elapsed());
    assert!(stage.stderr().contains("ended in order"), "{}", stage.stderr());
    let daemon = stage.start(&stage.daemon());
    until("all arrive", || binary::walk(&stage.at("destination")).len() == 2002);
    daemon.signal("TERM");
    daemon.end();
    stage.apply("").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
    assert!(stage.leftovers().is_empty(), "{:?}", stage.leftovers());
}

#[test]
fn a_file_that_changed_a_moment_ago_is_looked_at_again_and_then_left_alone() {
    let stage = imported();
    let daemon = stage.start(&stage.daemon());
    stage.write("fresh", "1");
    arrives(&stage, "fresh");
    until("nothing is watched", || {
        stage.run(&[binary::split("status --json --state-dir"), vec![stage.text("state")]].concat()).json()["watched_files"]
            == 0
    });
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    stage.status().ends(0).says("destination equals source as of");
}

#[test]
fn logs_that_come_later_are_waited_for() {
    let stage = Stage::new();
    fs::write(stage.at("source/one"), "1").expect("writes");
    stage.import().ends(0);
    fs::remove_dir(stage.at("logs")).expect("removes");
    let daemon = stage.start(&stage.daemon());
    until("it says so", || stage.stderr().contains("no audit log in the log directory"));
    fs::create_dir(stage.at("logs")).expect("makes");
    stage.write("two", "2");
    assert!(arrives(&stage, "two") < PATIENCE);
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0), "{}", stage.stderr());
}

#[test]
fn a_daemon_that_has_nothing_to_do_is_quiet() {
    let stage = imported();
    let daemon = stage.start(&stage.daemon());
    stage.write("one", "1");
    arrives(&stage, "one");
    until("nothing is watched", || {
        stage.status().err.contains("; the log had no gap") && {
            let page = fs::read_to_string(stage.at("state/status.json")).expect("reads");
            page.contains("\"watched_files\": 0")
        }
    });
    let at = |page: &str| page.lines().find(|line| line.contains("\"at\"")).map(str::to_owned);
    let read = || fs::read_to_string(stage.at("state/status.json")).expect("reads");
    let (lines, mut seen) = (stage.stderr().lines().count(), vec![at(&read())]);
    until("two more polls", || {
        let now = at(&read());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        seen.len() > 2
    });
    assert_eq!(stage.stderr().lines().count(), lines, "idle polls are not told:\n{}", stage.stderr());
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0.id())).expect("reads");
    let ticks: u64 =
        stat.split_whitespace().skip(13).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    println!("processor time of the whole life: {} ms", ticks * 10);
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}
