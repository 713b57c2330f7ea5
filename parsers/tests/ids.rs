//! Logs that name things by ids, read and resolved: what the log itself tells becomes a path, all else a scan, and no
//! id leaves.

use std::fs;
use std::path::Path;
use syncd_parsers::dialect::by_name;
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Entry, Op};

fn resolved(dialect: &str, log: &[u8]) -> Vec<Entry> {
    let dialect = by_name(dialect).expect("a dialect");
    let mut parsed = Parsed::default();
    records::parse_block(dialect, log, 0, End::Closed, &mut parsed);
    let mut resolver = dialect.resolver().expect("a log with ids");
    let mut out = Vec::new();
    parsed.entries.into_iter().for_each(|(_, entry)| resolver.resolve(entry, &mut out));
    out
}

fn lines(dialect: &str, log: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |entry: &Entry| match &entry.to {
        Some(to) => format!("{:?} {} -> {}", entry.op, text(&entry.path), text(to)),
        None => format!("{:?} {}", entry.op, text(&entry.path)),
    };
    resolved(dialect, log).iter().map(line).collect()
}

fn case(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/logs").join(name)).expect("a case")
}

#[test]
fn a_file_of_gluster_tells_where_the_files_are_that_it_made() {
    let found = lines("gluster-changelog", &case("gluster-changelog/a-file-of-version-1-1.log"));
    assert_eq!(found, ["Mkdir /dir1", "Write /dir1/hello.txt", "Write /dir1/hello.txt"]);
    let found = lines("gluster-changelog", &case("gluster-changelog/a-file-of-version-1-2.log"));
    assert_eq!(found, ["Write /f3", "Rename /f3 -> /f4", "Write /f4"]);
}

#[test]
fn a_lustre_file_that_was_made_renamed_and_closed_is_found_under_its_new_name() {
    let log = b"1 02MKDIR 02:52:19.794 2026.03.16 0x0 t=[0x200000401:0x2:0x0] p=[0x200000007:0x1:0x0] mydir
2 01CREAT 02:52:19.797 2026.03.16 0x0 t=[0x200000401:0x3:0x0] p=[0x200000401:0x2:0x0] file1.txt
3 08RENME 02:52:19.805 2026.03.16 0x0 t=[0:0x0:0x0] p=[0x200000401:0x2:0x0] renamed.txt s=[0x200000401:0x3:0x0] sp=[0x200000401:0x2:0x0] file1.txt
4 08RENME 02:52:19.806 2026.03.16 0x0 t=[0:0x0:0x0] p=[0x200000007:0x1:0x0] yours s=[0x200000401:0x2:0x0] sp=[0x200000007:0x1:0x0] mydir
5 11CLOSE 02:52:19.807 2026.03.16 0x242 t=[0x200000401:0x3:0x0]
6 06UNLNK 02:52:19.808 2026.03.16 0x1 t=[0x200000401:0x3:0x0] p=[0x200000401:0x2:0x0] renamed.txt
7 11CLOSE 02:52:19.809 2026.03.16 0x242 t=[0x200000401:0x3:0x0]
8 11CLOSE 02:52:19.809 2026.03.16 0x242 t=[0x200000401:0x9:0x0]
";
    let expected = [
        "Mkdir /mydir",
        "Write /mydir/file1.txt",
        "Rename /mydir/file1.txt -> /mydir/renamed.txt",
        "Rename /mydir -> /yours",
        "Write /yours/renamed.txt",
        "Delete /yours/renamed.txt",
        "Rescan /",
    ];
    assert_eq!(lines("lustre-changelog", log), expected);
}

#[test]
fn no_id_leaves_whatever_the_log() {
    for dialect in ["gluster-changelog", "lustre-changelog"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/logs").join(dialect);
        let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("readable").path());
        for log in files.filter(|file| file.extension().is_some_and(|ext| ext == "log")) {
            for entry in resolved(dialect, &fs::read(&log).expect("readable")) {
                let is_path = |path: &[u8]| path.starts_with(b"/") && !path.contains(&0);
                assert!(
                    is_path(&entry.path) && entry.to.as_deref().is_none_or(is_path),
                    "{}: {entry:?}",
                    log.display()
                );
                assert_eq!(entry.op == Op::Rename, entry.to.is_some());
            }
        }
    }
}

#[test]
fn the_name_of_a_gluster_file_tells_its_time() {
    let dialect = by_name("gluster-changelog").expect("a dialect");
    let time = |name| dialect.time_of_file(name).map(|time| time.to_string());
    assert_eq!(time("CHANGELOG.1439463377").as_deref(), Some("2015-08-13 10:56:17"));
    assert_eq!(
        time("b1/.glusterfs/changelogs/2015/08/13/CHANGELOG.1439463377").as_deref(),
        Some("2015-08-13 10:56:17")
    );
    assert_eq!(
        (time("CHANGELOG"), time("CHANGELOG.SNAP"), time("HTIME.1439463377"), time("CHANGELOG.+1")),
        (None, None, None, None)
    );
}
