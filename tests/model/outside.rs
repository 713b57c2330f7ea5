//! Nothing outside the destination's root is touched, also if somebody swaps its directories for links in the middle of a run.

use crate::wait;
use crate::world::{Notes, line, options};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncd::apply::Run;
use syncd::names::Names;
use syncd::store::local::Local;
use syncd::store::mem::Memory;
use syncd_parsers::{Op, RelPath};

/// Each path with its bytes.
fn plant(dir: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().expect("a directory")).expect("makes");
        fs::write(file, text).expect("writes");
    }
}

fn found(dir: &Path, below: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir.join(below)).expect("lists") {
        let path = below.join(entry.expect("lists").file_name());
        if dir.join(&path).is_dir() {
            all.push((path.display().to_string(), Vec::new()));
            all.extend(found(dir, &path));
        } else {
            all.push((path.display().to_string(), fs::read(dir.join(&path)).expect("reads")));
        }
    }
    all.sort();
    all
}

fn source() -> Memory {
    let source = Memory::tree();
    for (file, text) in [("d/x", "newer"), ("d/sub/z", "new"), ("e/kept", "kept")] {
        source.write(&RelPath::new(file).expect("a path"), text);
    }
    source
}

/// Settles everything, and a rename of `gone` to `e`; at one call of the source `d` is swapped for a link. Whether that call came.
fn swapped_at(call: usize) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    let theirs = [("x", "theirs"), ("old", "theirs"), ("sub/y", "theirs"), ("sub/z", "theirs")];
    plant(&root, &[("d/x", "x"), ("d/old", "old"), ("d/sub/y", "y"), ("gone/kept", "kept")]);
    plant(&outside, &theirs);
    let (before, calls) = (found(&outside, Path::new("")), Arc::new(AtomicUsize::new(0)));
    let (source, counted) = (source(), calls.clone());
    let (swapped, hidden, link) = (root.join("d"), dir.path().join("hidden"), outside.clone());
    source.on_call(move |_, _| {
        if counted.fetch_add(1, Ordering::Relaxed) == call && swapped.exists() {
            fs::rename(&swapped, &hidden).expect("renames");
            symlink(&link, &swapped).expect("links");
        }
        None
    });
    wait(async {
        let destination = Local::open(&root).expect("opens");
        let run = Run::new(Arc::new(source), Arc::new(destination), Arc::<Notes>::default(), options());
        let rename = line(Op::Rename, RelPath::new("gone").expect("a path"), RelPath::new("e").ok());
        let names = Names::of(&[line(Op::Rescan, RelPath::root(), None), rename]);
        if run.part(names).await.is_ok() {
            drop(run.finish().await); // it may well owe, or stop
        }
    });
    assert_eq!(found(&outside, Path::new("")), before, "swapped at call {call}");
    calls.load(Ordering::Relaxed) > call
}

#[test]
fn a_directory_swapped_for_a_link_at_any_call_leads_nothing_out_of_the_root() {
    let calls = (0..).take_while(|call| swapped_at(*call)).count();
    assert!(calls > 10, "{calls} calls");
}
