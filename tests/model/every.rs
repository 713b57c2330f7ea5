//! All short histories over a few paths, with every cut, every moment of every look, and each line read at once or a window late.

use crate::deed::{Cut, Deed, HDFS, Step, every_deed, path};
use crate::replay::{Bench, play};
use crate::{number, wait};

/// Two names on top that may be files or directories, and a name below one.
const PATHS: [&str; 3] = ["a", "b", "a/c"];

/// What is there before: nothing, two files, a directory and a file.
fn beginnings() -> Vec<Vec<Deed>> {
    let write = |text: &str| Deed::Write(path(text), 1);
    vec![vec![], vec![write("a"), write("b")], vec![write("a/c"), write("b")]]
}

fn sequences(length: u64) -> Vec<Vec<Deed>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        let longer = |deeds: &Vec<Deed>| {
            let deeds = deeds.clone();
            every_deed(&PATHS).into_iter().map(move |deed| [deeds.clone(), vec![deed]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Where windows end, as bits: after the first deed, after the second, …; and which lines are a window late.
fn steps(deeds: &[Deed], cuts: u32, late: u32) -> Vec<Step> {
    let step = |(at, deed): (usize, &Deed)| Step {
        cut: (cuts >> at & 1 == 1).then(Cut::default),
        late: (late >> at & 1) as usize,
        ..Step::plain(deed.clone())
    };
    deeds.iter().enumerate().map(step).collect()
}

/// How many runs there were; an error says which ended wrong.
fn play_all(length: u64) -> Result<u64, String> {
    let mut runs = 0;
    for before in beginnings() {
        for deeds in sequences(length) {
            for pattern in 0..1 << (2 * deeds.len()) {
                let (cuts, late) = (pattern >> deeds.len(), pattern & ((1 << deeds.len()) - 1));
                let steps = steps(&deeds, cuts, late);
                runs += 1;
                wait(play(HDFS, before.clone(), steps.clone()))
                    .map_err(|error| format!("{before:?} {steps:?}: {error}"))?;
            }
            runs += play_at_every_call(&before, &deeds)?;
        }
    }
    Ok(runs)
}

/// The first deed, then a window; the others happen in the middle of it, at every call.
fn play_at_every_call(before: &[Deed], deeds: &[Deed]) -> Result<u64, String> {
    let mut at = 0;
    while deeds.len() > 1 {
        let mut steps = vec![];
        steps.extend(deeds[1..].iter().map(|deed| Step { at_call: Some(at), ..Step::plain(deed.clone()) }));
        steps.push(Step { cut: Some(Cut::default()), ..Step::plain(deeds[0].clone()) });
        let reached = wait(play_and_see(before, &steps)).map_err(|error| format!("{before:?} {steps:?}: {error}"))?;
        at += 1;
        if !reached {
            break;
        }
    }
    Ok(at as u64)
}

/// Whether all happened before the window was over.
async fn play_and_see(before: &[Deed], steps: &[Step]) -> Result<bool, String> {
    let mut bench = Bench::new(HDFS, before).await;
    for step in steps {
        bench.step(step.clone()).await?;
    }
    let reached = bench.is_all_done();
    bench.end().await.map(|()| reached)
}

#[test]
fn every_short_history_ends_with_both_sides_equal() {
    // Three deeds take a core some minutes if syncd is optimized, else half an hour.
    let length = number("SYNCD_MODEL_DEEDS").unwrap_or(2);
    let mut runs = 0;
    for length in 1..=length {
        runs += play_all(length).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{runs} runs");
}
