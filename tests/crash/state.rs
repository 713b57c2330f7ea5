//! The state's file, cut at every place: what opens is what was there after one of the steps, never a mixture.

use chrono::{DateTime, Utc};
use std::fs;
use std::path::Path;
use syncd::apply::Watch;
use syncd::checkpoint::{Key, Owed, State, Watched, set, unset};
use syncd_parsers::RelPath;

/// Cuts of one change of the file.
const CUTS: usize = 60;

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// Everything that the state holds, as text.
fn content(state: &State) -> String {
    let files: Option<u64> = state.get(Key::Files).expect("reads");
    let running: Option<bool> = state.get(Key::Running).expect("reads");
    let owed: Vec<_> =
        state.owed().map(|item| item.expect("reads")).map(|(at, owed)| format!("{at} {}", owed.reason)).collect();
    let watched: Vec<_> = state.watched().map(|item| item.expect("reads").0.to_string()).collect();
    format!("files {files:?} running {running:?} owed {owed:?} watched {watched:?}")
}

type Step = Box<dyn Fn(&State)>;

fn owe(at: String) -> Step {
    Box::new(move |state| {
        let reason = format!("because {}", "x".repeat(at.len() * 20));
        state
            .owe(&path(&at), Owed { reason, since: DateTime::<Utc>::UNIX_EPOCH, tried: None, line: None })
            .expect("notes");
    })
}

fn watch(at: String) -> Step {
    Box::new(move |state| {
        let watched = Watched { reason: Watch::Open, since: DateTime::<Utc>::UNIX_EPOCH, tried: None };
        state.watch(&path(&at), watched).expect("notes");
    })
}

/// What a run does with it: begins, notes, ends.
fn steps(round: u64) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![Box::new(|state| state.commit(&[set(Key::Running, &true)]).expect("commits"))];
    for number in 0..4 {
        steps.push(owe(format!("owed{number}/{round}")));
        steps.push(watch(format!("watched{number}")));
    }
    steps.push(Box::new(move |state| state.not_owed(&path(&format!("owed0/{round}"))).expect("notes")));
    steps.push(Box::new(|state| state.not_watched(&path("watched0")).expect("notes")));
    steps.push(Box::new(move |state| {
        state.commit(&[set(Key::Files, &round), unset(Key::Running)]).expect("commits");
    }));
    steps
}

#[test]
fn a_state_whose_file_was_written_in_part_is_that_of_one_moment() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let live = dir.path().join("live");
    let state = State::open(&live).expect("opens");
    state.commit(&[set(Key::Files, &0_u64)]).expect("commits");
    let file = live.join("db/db");
    let (mut cuts, mut before) = (0, fs::read(&file).expect("reads"));
    for round in 1..=3 {
        let mut moments = vec![content(&state)];
        for step in steps(round) {
            step(&state);
            moments.push(content(&state));
            let now = fs::read(&file).expect("reads");
            if now != before {
                cuts += cut_everywhere(&dir.path().join("cut"), &live, &before, &now, &moments);
                moments = moments.split_off(moments.len() - 1);
                before = now;
            }
        }
        assert_eq!(moments.len(), 1, "the last step made everything durable");
    }
    println!("{cuts} cuts");
    assert!(cuts > 100, "{cuts} cuts");
}

/// As if only the first bytes of a change of the file had reached the disk.
fn cut_everywhere(at: &Path, live: &Path, before: &[u8], now: &[u8], moments: &[String]) -> usize {
    let first = (0..now.len()).find(|byte| before.get(*byte) != now.get(*byte)).unwrap_or_default();
    let last = (0..now.len()).rfind(|byte| before.get(*byte) != now.get(*byte)).unwrap_or_default() + 1;
    let step = (last - first).div_ceil(CUTS);
    let mut cuts = 0;
    for cut in (first..last).step_by(step).chain([last]) {
        let mut bytes = now[..cut].to_vec();
        bytes.extend(before.get(cut..).unwrap_or_default());
        let _: std::io::Result<()> = fs::remove_dir_all(at);
        fs::create_dir_all(at.join("db")).expect("a directory");
        fs::copy(live.join("db/conf"), at.join("db/conf")).expect("copies");
        fs::write(at.join("db/db"), bytes).expect("writes");
        let found = content(&State::open(at).expect("opens"));
        assert!(moments.contains(&found), "cut at {cut} of {first}..{last}: {found}\n{moments:#?}");
        cuts += 1;
    }
    cuts
}
