//! Keeps the arrows of `docs/architecture.md`: which module may know which, and where each foreign crate is named. Reads the
//! source as text; test code inside it may know what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each foreign crate that is more than a help, and the files (or beginnings of their paths) that may name it.
const FOREIGN: &[(&str, &[&str])] = &[
    ("anyhow", &["cli", "config.rs", "demo.rs"]),
    ("async_compression", &["changelog/read.rs", "tail/open.rs"]),
    ("aws_config", &["store/s3"]),
    ("aws_sdk_s3", &["store/s3"]),
    ("backon", &["apply/"]),
    ("chrono_tz", &["zone.rs"]),
    ("clap", &["cli/"]),
    ("globset", &["publish.rs"]),
    ("hdfs_native", &["store/hdfs"]),
    ("humantime", &["report.rs", "zone.rs"]),
    ("indicatif", &["cli/output.rs", "report.rs"]),
    ("notify", &["wake.rs"]),
    ("rayon", &["changelog/lines.rs"]),
    ("reqwest", &["store/hdfs"]),
    ("roxmltree", &["store/hdfs"]),
    ("rustix", &["store/local", "main.rs"]),
    ("sha2", &["changelog/", "tail.rs"]),
    ("sled", &["checkpoint.rs"]),
    ("tempfile", &["changelog/spool.rs", "cli.rs", "demo.rs", "spool.rs"]),
    ("toml", &["config.rs"]),
    ("tracing_subscriber", &["cli.rs"]),
    ("whoami", &["store/hdfs"]),
    ("zstd", &["changelog/spool.rs"]),
];

/// Modules that compute and nothing else.
const PURE: &[&str] = &["names", "publish", "scope", "settle", "zone"];

/// What must never be known, whatever `docs/architecture.md` is made to say.
const NEVER: &[(&str, &[&str])] = &[
    ("apply", &["changelog", "checkpoint", "cli", "config", "daemon", "job", "round", "tail"]),
    ("changelog", &["apply", "checkpoint", "job", "moves", "names", "settle"]),
    ("store", &["apply", "changelog", "job", "moves", "names", "settle", "tail"]),
    ("tail", &["apply", "changelog", "job", "names", "scope", "zone"]),
    ("wake", &["apply", "changelog", "job", "round", "store", "tail"]),
];

/// A file of `src/`, without comments and tests.
struct Source {
    /// Below `src/`.
    path: String,
    code: String,
}

impl Source {
    /// The module at the top that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The names that follow `prefix` where that stands as a word: one, or all of a braced list.
    fn after(&self, prefix: &str) -> BTreeSet<String> {
        let ends: Vec<usize> = self.code.match_indices(prefix).map(|(at, _)| at).collect();
        let whole =
            ends.into_iter().filter(|at| !self.code[..*at].ends_with(|c: char| is_word(c) || ":.$".contains(c)));
        whole.flat_map(|at| names(&self.code[at + prefix.len()..])).collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn names(text: &str) -> Vec<String> {
    let word = |text: &str| text.trim().chars().take_while(|c| is_word(*c)).collect::<String>();
    match text.strip_prefix('{') {
        Some(list) => {
            list.split('}').next().unwrap_or_default().split(',').map(word).filter(|w| !w.is_empty()).collect()
        }
        None => vec![word(text)],
    }
}

fn sources(root: &Path) -> Vec<Source> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let code = without_tests(&fs::read_to_string(&path).expect("text"));
                let path = path.strip_prefix(root).expect("below the root").display().to_string();
                found.push(Source { path, code });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Without whole lines of comment, and without the tests at the end. What follows code on its line stays.
fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn ours() -> Vec<Source> {
    sources(&repository().join("src"))
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// From module to the modules that its code names.
fn real_arrows() -> Arrows {
    let mut arrows = Arrows::new();
    for source in ours().iter().filter(|source| !["lib", "main"].contains(&source.module())) {
        let known = arrows.entry(source.module().to_owned()).or_default();
        known.extend(source.after("crate::").into_iter().filter(|name| name != source.module()));
    }
    arrows
}

/// The lines `module -> module, module` in the document's block that begins with ```arrows.
fn drawn_arrows() -> Arrows {
    let text = fs::read_to_string(repository().join("docs/architecture.md")).expect("the document");
    let block = text.split("```arrows\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of arrows");
    let line = |line: &str| {
        let (from, to) = line.split_once("->")?;
        Some((
            from.trim().to_owned(),
            to.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect(),
        ))
    };
    block.lines().filter_map(line).collect()
}

#[test]
fn the_arrows_between_modules_are_those_that_are_drawn() {
    let (real, drawn) = (real_arrows(), drawn_arrows());
    for module in real.keys().chain(drawn.keys()).collect::<BTreeSet<_>>() {
        assert_eq!(
            drawn.get(module).cloned().unwrap_or_default(),
            real.get(module).cloned().unwrap_or_default(),
            "{module}: left what docs/architecture.md draws, right what the code names; a new arrow is a design decision"
        );
    }
}

#[test]
fn what_must_not_be_known_is_not_drawn_either() {
    let real = real_arrows();
    for (module, never) in NEVER {
        let known = real.get(*module).unwrap_or_else(|| panic!("there is no module {module}"));
        for other in *never {
            assert!(real.contains_key(*other), "there is no module {other}");
            assert!(!known.contains(*other), "{module} knows {other}");
        }
    }
}

#[test]
fn pure_modules_do_no_io_and_wait_for_nothing() {
    for source in ours().iter().filter(|source| PURE.contains(&source.module())) {
        for word in ["async ", "await", "tokio", "futures", "std::fs", "std::io", "std::net", "Instant", "SystemTime"] {
            assert!(!source.code.contains(word), "{} is pure, and says {word:?}", source.path);
        }
    }
}

#[test]
fn what_is_pure_knows_of_stores_what_they_show_and_no_store() {
    let allowed = BTreeMap::from([
        ("names", vec!["RESERVED"]),
        ("settle", vec!["Capabilities", "Kind", "Meta", "Owner", "Owners", "Time"]),
    ]);
    for source in ours() {
        let Some(allowed) = allowed.get(source.module()) else { continue };
        let known = source.after("crate::store::");
        let more: Vec<_> = known.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(more.is_empty(), "{} names {more:?} of the stores", source.path);
    }
}

#[test]
fn reading_logs_knows_no_dialect() {
    for source in ours().iter().filter(|source| source.module() == "tail") {
        let known = source.after("syncd_parsers::");
        assert!(known.iter().all(|name| name == "RelPath"), "{} names {known:?}", source.path);
    }
}

#[test]
fn only_the_change_log_reads_lines_and_only_settings_choose_a_dialect() {
    for source in ours() {
        let known = source.after("syncd_parsers::");
        let reads = known.contains("records");
        let may_read = ["changelog/lines.rs", "changelog/memory.rs"].contains(&source.path.as_str());
        assert!(!reads || may_read, "{} reads records", source.path);
        let chooses = known.contains("dialect");
        assert!(!chooses || ["changelog", "config"].contains(&source.module()), "{} chooses a dialect", source.path);
    }
}

#[test]
fn each_foreign_crate_is_named_where_it_belongs() {
    for (name, places) in FOREIGN {
        let using: Vec<Source> =
            ours().into_iter().filter(|source| !source.after(&format!("{name}::")).is_empty()).collect();
        assert!(!using.is_empty(), "nothing names {name}: is it still needed?");
        for source in using {
            assert!(places.iter().any(|place| source.path.starts_with(place)), "{} names {name}", source.path);
        }
    }
}

#[test]
fn no_store_names_another_one() {
    for source in ours() {
        let kind =
            source.path.strip_prefix("store/").and_then(|rest| rest.split(['/', '.']).next()).unwrap_or_default();
        for other in
            ["hdfs", "local", "mem", "s3"].iter().filter(|other| **other != kind && !kind.is_empty() && kind != "mod")
        {
            let named =
                source.code.contains(&format!("store::{other}")) || source.code.contains(&format!("super::{other}::"));
            assert!(!named, "{} names the store {other}", source.path);
        }
    }
}

#[test]
fn parsers_depend_on_nothing_that_waits_or_connects() {
    let manifest = fs::read_to_string(repository().join("parsers/Cargo.toml")).expect("a manifest");
    let section =
        manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("dependencies");
    let named: BTreeSet<&str> =
        section.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim()).collect();
    let allowed = BTreeSet::from(["chrono", "memchr", "nom", "percent-encoding", "serde", "serde_json", "thiserror"]);
    let more: Vec<_> = named.difference(&allowed).collect();
    assert!(more.is_empty(), "parsers depend on {more:?}");
    for source in sources(&repository().join("parsers/src")) {
        for word in ["std::fs", "std::net", "async fn", "Utc::now"] {
            assert!(!source.code.contains(word), "parsers/src/{} says {word:?}", source.path);
        }
    }
}

#[test]
fn this_test_sees_what_it_looks_for() {
    let source = |code: &str| Source { path: "a.rs".into(), code: without_tests(code) };
    let words = |code: &str| source(code).after("crate::").into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(words("use crate::store::{Kind, Meta};\nfn f(x: &crate::moves::Routes) {}"), "moves store");
    assert_eq!(words("use crate::{names, store::Kind};"), "names store");
    assert_eq!(words("// crate::names\nuse other_crate::names; use a::crate::b;"), "");
    assert_eq!(words("fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::names;\n}\n"), "");
    assert_eq!(source("let x: sled::Db;").after("sled::").len(), 1);
}
