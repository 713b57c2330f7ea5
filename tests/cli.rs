//! The binary as an operator meets it: help, exit codes, messages, JSON, over local folders and lines as a NameNode
//! writes them.

#[path = "common/binary.rs"]
mod binary;

use binary::{Ran, Stage, append, line, line_at, split};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

/// A stage with three files that are imported, and two changes since.
fn imported() -> Stage {
    let stage = Stage::new();
    stage.write("a/one", "1");
    stage.write("a/two", "22");
    stage.write("b/three", "333");
    stage.import().ends(0);
    stage
}

fn window(stage: &Stage) -> Value {
    stage.mkchangelog("--json").ends(0).json()
}

fn seconds_ago(seconds: i64) -> DateTime<Utc> {
    syncd::clock::now() - TimeDelta::seconds(seconds)
}

/// The changes of a window, as `zstd -dc` would print them.
fn unpacked(stage: &Stage, data: &str) -> String {
    let file = fs::File::open(stage.at("changes").join(data)).expect("opens");
    String::from_utf8(zstd::decode_all(file).expect("is zstd")).expect("is text")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip starts");
    child.stdin.take().expect("is piped").write_all(content).expect("fits into the pipe");
    child.wait_with_output().expect("gzip ends").stdout
}

/// Makes something stand at a path that no store can hold.
fn pipe(stage: &Stage, path: &str) {
    let made = Command::new("mkfifo").arg(stage.at("source").join(path)).status().expect("mkfifo runs");
    assert!(made.success());
    stage.log(&line("create", path, None));
}

#[test]
fn the_help_of_every_command_shows_examples_and_exit_codes() {
    let stage = Stage::new();
    let top = stage.run(&split("--help")).ends(0);
    for command in ["migrate-import", "mkchangelog", "apply", "run", "verify", "status", "demo"] {
        assert!(top.out.contains(command), "{command} in {}", top.out);
        let help = stage.run(&split(&format!("{command} --help"))).ends(0);
        for part in ["Examples:", &format!("  syncd {command}"), "Exit codes:", "  0  ", "  1  ", "  2  "] {
            assert!(help.out.contains(part), "{part:?} in the help of {command}:\n{}", help.out);
        }
    }
    for command in ["migrate-import", "apply", "run", "verify", "mkchangelog"] {
        let help = stage.run(&split(&format!("{command} --help"))).ends(0);
        assert!(help.out.contains("  4  refused"), "{}", help.out);
    }
    assert!(top.out.contains("Exit codes: 0 done"), "{}", top.out);
    assert!(stage.run(&split("--version")).ends(0).out.starts_with("syncd "));
}

#[test]
fn a_migration_from_import_to_status() {
    let stage = imported();
    stage.write("b/four", "4444");
    stage.rename("a", "c");
    stage.remove("b/three");
    stage.mkchangelog("").ends(0).says("window 1 [");
    stage.apply("").ends(0).says("applied 1 windows with").says("1 files removed");
    assert_eq!(stage.differences(), [""; 0]);
    stage.pass("verify").ends(0);
    let status = stage.status().ends(0).says("destination equals source as of ");
    assert!(status.err.contains("the log had no gap since") && status.err.contains("last full verification"));
    stage.mkchangelog("").ends(0).says("nothing new in the audit logs");
    stage.apply("").ends(0).says("applied 0 windows");
}

/// Runs a command as somebody who cannot override modes: root without these capabilities, or who runs the tests.
fn run_bound_by_modes(stage: &Stage, args: &[String]) -> Ran {
    let plain = stage.command(args);
    if !rustix::process::geteuid().is_root() {
        return stage.run(args);
    }
    let without = "-dac_override,-dac_read_search";
    let mut bound = Command::new("setpriv");
    bound.arg(format!("--bounding-set={without}")).arg(format!("--inh-caps={without}")).arg(plain.get_program());
    bound.args(plain.get_args()).current_dir(stage.at(".")).stdin(Stdio::null());
    bound.output().expect("setpriv starts").into()
}

#[test]
fn modes_of_the_source_do_not_lock_the_destination() {
    let (stage, mode) = (Stage::new(), |path: &str, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("sets");
    });
    stage.write("p/old", "1");
    stage.write("p/other", "2");
    stage.write("q", "3");
    let p = stage.text("source/p");
    mode(&p, 0o555);
    run_bound_by_modes(
        &stage,
        &[split("migrate-import --audit-log-dir"), vec![stage.text("logs")], stage.pair()].concat(),
    )
    .ends(0);
    let once = [stage.daemon(), split("--once")].concat();
    mode(&p, 0o755);
    stage.write("p/new", "3");
    stage.remove("p/old");
    mode(&p, 0o555);
    run_bound_by_modes(&stage, &once).ends(0);
    let differences = stage.differences();
    assert!(differences.len() == 1 && differences[0].starts_with("p: "), "{differences:?}");
    assert_eq!(fs::metadata(stage.at("destination/p")).expect("is there").mode() & 0o777, 0o755);
    run_bound_by_modes(&stage, &[split("verify"), stage.pair()].concat()).ends(0);
    stage.rename("p", "r");
    run_bound_by_modes(&stage, &once).ends(0);
    mode(&stage.text("source/r"), 0o755);
    stage.remove("r");
    run_bound_by_modes(&stage, &once).ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn one_pass_of_run_does_both_steps() {
    let stage = imported();
    stage.write("new", "n");
    let once = stage.run(&[stage.daemon(), split("--once --json")].concat()).ends(0);
    assert_eq!(once.json()["windows"], 1);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn a_configuration_file_has_the_names_of_the_options() {
    let stage = imported();
    stage.write("new", "n");
    let line = |name: &str, value: String| format!("{name} = '{value}'\n");
    let file = [
        line("src", stage.text("source")),
        line("dest", stage.text("destination")),
        line("state-dir", stage.text("state")),
        line("audit-log-dir", stage.text("logs")),
        line("change-log-dir", stage.text("changes")),
        line("audit-root", "/data".into()),
        line("log-timezone", "UTC".into()),
        line("max-delete", "50%".into()),
    ];
    fs::write(stage.at("syncd.toml"), file.concat()).expect("writes");
    stage.run(&split("run --once --config syncd.toml")).ends(0);
    assert_eq!(stage.differences(), [""; 0]);
    append(&stage.at("syncd.toml"), "sauce = 1\n");
    stage.run(&split("run --once --config syncd.toml")).ends(2).says("sauce");
    stage.run(&split("run --once --config no.toml")).ends(2).says("no.toml");
    stage.run(&split("run --once")).ends(2).says("--src: is needed");
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_would_be_right() {
    let stage = imported();
    stage.pass("migrate-import --sauce").ends(2).says("--sauce");
    stage.run(&split("apply")).ends(2).says("--update");
    stage.mkchangelog("--dialect klingon").ends(2).says("klingon is not known; known are hdfs");
    stage.mkchangelog("--log-timezone Mars").ends(2).says("examples: UTC, Asia/Shanghai");
    stage.mkchangelog("--since yesterday").ends(2).says("2h (before now)");
    stage.apply("--max-delete lots").ends(2).says("neither a number of files nor a share");
    for (src, dest) in
        [("source", "source/below"), ("source/below", "source"), ("source", "source"), ("s3://b", "s3://b/x")]
    {
        let args = format!("migrate-import --src {src} --dest {dest} --state-dir s");
        stage.run(&split(&args)).ends(2).says("one within the other");
    }
    stage.run(&split("migrate-import --src ftp://x --dest y --state-dir s")).ends(2).says("ftp:// is not a store");
    stage.run(&split("migrate-import --src source --dest d --state-dir d/s")).ends(2).says("within the destination");
    stage.run(&split("migrate-import --src source --dest d --state-dir source/s")).ends(2).says("within the source");
}

#[test]
fn an_apply_before_an_import_says_what_comes_first() {
    let stage = Stage::new();
    stage.write("a", "1");
    fs::create_dir(stage.at("destination")).expect("makes");
    stage.mkchangelog("").ends(2).says("give --since TIME, or --state-dir of an import");
    stage.apply("").ends(2).says("run `syncd migrate-import` with it first");
    stage.run(&stage.daemon()).ends(2);
    fs::create_dir(stage.at("nowhere")).expect("makes");
    stage.run(&split("status --state-dir nowhere")).ends(1).says("has `syncd migrate-import` run");
}

#[test]
fn what_fails_is_exit_code_1_with_its_cause() {
    let stage = imported();
    let args = format!("mkchangelog --audit-log-dir none --change-log-dir c --state-dir {}", stage.text("state"));
    stage.run(&split(&args)).ends(1).says("no audit log in the log directory");
    fs::create_dir(stage.at("prose")).expect("makes");
    fs::write(stage.at("prose/a.log"), "Call me Ishmael.\n").expect("writes");
    let args = "mkchangelog --audit-log-dir prose --change-log-dir c --since 1h";
    stage.run(&split(args)).ends(1).says("name its dialect with --dialect");
    let args = "mkchangelog --audit-log-dir prose --change-log-dir c --since 1h --dialect hdfs";
    stage.run(&split(args)).ends(1).says("1 of 1 lines of a.log are not of the dialect hdfs");
}

#[test]
fn a_path_that_cannot_be_settled_is_owed_and_visible_until_it_can() {
    let stage = imported();
    pipe(&stage, "a/pipe");
    stage.write("a/more", "m");
    stage.mkchangelog("").ends(0);
    stage.apply("").ends(3).says("1 owed").says("a/pipe");
    let page = stage.run(&[split("status --json --state-dir"), vec![stage.text("state")]].concat()).ends(3).json();
    assert_eq!(page["owed"][0]["path"], "a/pipe");
    assert!(page["owed"][0]["reason"].as_str().is_some_and(|reason| reason.contains("pipe")), "{page}");
    assert!(fs::exists(stage.at("destination/a/more")).expect("looks"), "the others are settled");
    stage.apply("").ends(3).says("except 1 owed path");
    fs::remove_file(stage.at("source/a/pipe")).expect("removes");
    stage.apply("").ends(0);
    stage.status().ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn a_source_that_was_replaced_is_refused_and_nothing_is_deleted() {
    let stage = imported();
    stage.remove("a/one");
    stage.mkchangelog("").ends(0);
    let kept = binary::walk(&stage.at("destination"));
    fs::rename(stage.at("source"), stage.at("other")).expect("moves");
    stage.apply("").ends(4).says("there is no source root");
    fs::create_dir(stage.at("source")).expect("makes");
    stage.apply("").ends(4).says("the source root is not the one that was imported");
    stage.pass("verify --repair").ends(4);
    stage.run(&stage.daemon()).ends(4).says("source root");
    fs::remove_dir(stage.at("source")).expect("removes");
    fs::create_dir(stage.at("other/hidden")).expect("makes");
    fs::rename(stage.at("other"), stage.at("source")).expect("moves back");
    assert_eq!(binary::walk(&stage.at("destination")), kept, "nothing was touched");
    for name in ["a", "b", "hidden"] {
        fs::rename(stage.at("source").join(name), stage.at(name)).expect("moves");
    }
    stage.apply("").ends(4).says("is empty, and the destination is not; nothing was deleted");
    assert_eq!(binary::walk(&stage.at("destination")), kept, "nothing was touched");
    for name in ["a", "b"] {
        fs::rename(stage.at(name), stage.at("source").join(name)).expect("moves back");
    }
    stage.apply("").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn more_deletes_than_allowed_are_refused_and_none_is_made() {
    let stage = imported();
    stage.remove("a");
    stage.mkchangelog("").ends(0);
    let refused = stage.apply("--max-delete 1").ends(4).says("2 files would be removed, more than the 1 allowed");
    assert!(refused.err.contains("nothing was removed"), "{}", refused.err);
    assert!(fs::exists(stage.at("destination/a/one")).expect("looks"));
    stage.apply("--max-delete 50%").ends(4);
    assert!(stage.status().ends(0).err.contains("the last run failed: at least 2 files would be removed"));
    stage.apply("--max-delete 67%").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn a_gap_is_refused_until_it_is_accepted_and_then_everything_is_looked_at() {
    let stage = Stage::new();
    stage.write("a/one", "1");
    stage.import().ends(0);
    fs::write(stage.at("source/unlogged"), "nobody said so").expect("writes");
    let refused = stage.mkchangelog("--since 2100-01-01T00:00:00Z").ends(4);
    assert!(
        refused.err.contains("audit log lines are missing") && refused.err.contains("--accept-gap"),
        "{}",
        refused.err
    );
    stage.log(&line("mkdirs", "", None));
    stage.mkchangelog("--since 2100-01-01T00:00:00Z --accept-gap").ends(0);
    stage.apply("").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn windows_that_begin_after_the_import_are_refused() {
    let stage = imported();
    stage.write("late", "l");
    let later = (syncd::clock::now() + TimeDelta::seconds(1)).to_rfc3339();
    let args = [split("mkchangelog --since"), vec![later], stage.logs()].concat();
    stage.run(&args).ends(0);
    stage.apply("").ends(4).says("what changed between is in no window").says("--accept-gap");
}

#[test]
fn a_state_directory_belongs_to_one_pair() {
    let stage = imported();
    let args = |src: &str, dest: &str| {
        let pair = format!("--src {} --dest {} --state-dir {}", stage.text(src), stage.text(dest), stage.text("state"));
        split(&format!("migrate-import {pair}"))
    };
    fs::create_dir(stage.at("elsewhere")).expect("makes");
    stage.run(&args("elsewhere", "destination")).ends(4).says("the source is not the one that was imported");
    stage.run(&args("source", "elsewhere")).ends(4).says("the destination is not the one that was imported");
}

#[test]
fn status_works_beside_a_daemon_and_a_second_writer_is_refused_with_its_pid() {
    let stage = imported();
    let daemon = stage.start(&stage.daemon());
    stage.write("new", "n");
    binary::until("the daemon follows", || fs::exists(stage.at("destination/new")).expect("looks"));
    stage.status().ends(0).says("destination equals source as of");
    stage.apply("").ends(4).says(&format!("in use by process {}", daemon.0.id()));
    stage.mkchangelog("").ends(4).says(&format!("in use by process {}", daemon.0.id()));
    stage.pass("migrate-import --json").ends(4).json();
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    stage.apply("").ends(0);
}

#[test]
fn json_is_one_document_on_stdout_whatever_happens() {
    let stage = Stage::new();
    stage.write("a/one", "1");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    fs::File::open(stage.at("source/a/one")).expect("opens").set_modified(long_ago).expect("sets"); // or it would be watched
    let json = |args: &str| stage.run(&split(args));
    assert!(json("apply --json").ends(2).json()["error"].as_str().is_some_and(|text| text.contains("--update")));
    let args = format!("migrate-import --json --src ftp://x --dest d --state-dir {}", stage.text("state"));
    assert!(json(&args).ends(2).json()["error"].is_string());
    assert!(json("status --json --state-dir none").ends(1).json()["error"].is_string());
    assert_eq!(stage.pass("migrate-import --json").ends(0).json()["copied_files"], 1);
    stage.write("a/two", "2");
    assert_eq!(window(&stage)["data"]["changes"], 2, "the import noted no position, so both lines are read");
    assert_eq!(window(&stage), Value::Null, "nothing new");
    assert_eq!(stage.apply("--json").ends(0).json()["report"]["copied_files"], 1);
    assert_eq!(stage.apply("--json").ends(0).json()["windows"], 0);
    assert!(stage.pass("verify --json").ends(0).json()["differences"].as_array().is_some_and(Vec::is_empty));
    fs::write(stage.at("destination/a/one"), "other").expect("writes");
    let found = stage.pass("verify --json").ends(3).json();
    assert_eq!(found["differing_paths"], 1);
    assert_eq!(found["differences"][0]["path"], "a/one");
    let page = stage.run(&[split("status --json --state-dir"), vec![stage.text("state")]].concat()).ends(3).json();
    assert!(page["sentence"].as_str().is_some_and(|text| text.contains("with 1 difference")), "{page}");
    fs::remove_dir_all(stage.at("source")).expect("removes");
    assert!(stage.apply("--json").ends(4).json()["error"].as_str().is_some_and(|text| text.contains("source root")));
    assert!(json("--json demo").ends(0).json()["differences"] == 0);
}

#[test]
fn a_dry_run_explains_itself_and_changes_nothing() {
    let stage = imported();
    stage.write("new", "n");
    stage.remove("a/one");
    stage.rename("b", "d");
    stage.mkchangelog("").ends(0);
    let kept = binary::walk(&stage.at("destination"));
    let told = stage.apply("--dry-run --explain --json").ends(0);
    let lines: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of =
        |path: &str| lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path} in {}", told.out));
    assert_eq!((&of("new")["did"], &of("a/one")["did"]), (&"copy".into(), &"remove".into()));
    assert_eq!(of("a/one")["because"]["op"], "delete");
    assert_eq!(of("a/one")["because"]["user"], "etl");
    assert_eq!(of("d")["because"]["log"], "hdfs-audit.log");
    assert!(of("d")["because"]["offset"].is_u64());
    assert_eq!(binary::walk(&stage.at("destination")), kept, "nothing was touched");
    stage
        .apply("--dry-run --explain")
        .ends(0)
        .says("remove  a/one")
        .says("nothing was changed")
        .says("delete by etl at ");
    assert_eq!(binary::walk(&stage.at("destination")), kept, "nothing was touched");
    stage.apply("").ends(0).says("applied 1 windows");
    assert_eq!(stage.differences(), [""; 0]);
}

/// A log of one line in each of the last minutes, of a clock in Shanghai; which of the paths a window then names.
fn named_since(option: &str, value: &str, more: &str) -> Vec<String> {
    let stage = Stage::new();
    for minutes in [50, 40, 30, 20, 10] {
        let shanghai = seconds_ago(minutes * 60) + TimeDelta::hours(8);
        stage.log(&line_at(shanghai, "create", &format!("{minutes}"), None));
    }
    let zone = split(&format!("--log-timezone Asia/Shanghai --json {option} {value} {more}"));
    let made = stage.run(&[split("mkchangelog"), stage.logs(), zone].concat()).ends(0);
    let data = made.json()["data"]["name"].as_str().expect("a name").to_owned();
    let lines = unpacked(&stage, &data);
    let path =
        |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["path"].as_str().expect("a path").to_owned();
    lines.lines().map(path).collect()
}

#[test]
fn a_beginning_is_given_in_utc_in_the_zone_of_the_log_or_as_an_age() {
    let cut = seconds_ago(25 * 60);
    let utc = cut.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let local = (cut + TimeDelta::hours(8)).format("%Y-%m-%d-%H:%M:%S").to_string();
    assert_eq!(named_since("--since", &utc, ""), ["20", "10"]);
    assert_eq!(named_since("--since", &local, ""), ["20", "10"]);
    assert_eq!(named_since("--start-time", &local, ""), ["20", "10"]);
    assert_eq!(named_since("--since", "25m", ""), ["20", "10"]);
    assert_eq!(named_since("--since", "45m", "--until 15m"), ["40", "30", "20"]);
}

#[test]
fn packed_logs_are_read_like_plain_ones() {
    let stage = imported();
    let packed = |name: &str, content: &[u8]| match name {
        "zst" => zstd::encode_all(content, 0).expect("packs"),
        _ => gzip(content),
    };
    for name in ["gz", "zst"] {
        fs::write(stage.at("source").join(name), name).expect("writes");
        let log = packed(name, line("create", name, None).as_bytes());
        fs::write(stage.at("logs").join(format!("hdfs-audit.log.1.{name}")), log).expect("writes");
    }
    assert_eq!(window(&stage)["data"]["changes"], 2);
    stage.apply("").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn the_log_of_jindofs_leads_to_the_same() {
    let stage = Stage::new();
    let log = |command: &str, src: &str, dst: &str| {
        let time = syncd::clock::now().format("%Y-%m-%d %H:%M:%S.%3f");
        let uri = |path: &str| if path == "null" { path.to_owned() } else { format!("jfs://lake/data/{path}") };
        let line = format!(
            "{time} allowed=true ugi=hadoop (auth:SIMPLE) ip=127.0.0.1 ns=lake cmd={command} src={} dst={} perm=::rwxrwxr-x\n",
            uri(src),
            uri(dst)
        );
        append(&stage.at("logs/audit.log"), &line);
    };
    fs::create_dir(stage.at("source/t")).expect("makes");
    fs::write(stage.at("source/t/x"), "x").expect("writes");
    stage.import().ends(0);
    fs::write(stage.at("source/t/y"), "y").expect("writes");
    log("CreateFileletRequest", "t/y", "null");
    fs::rename(stage.at("source/t/x"), stage.at("source/t/z")).expect("renames");
    log("RenameRequest", "t/x", "t/z");
    assert_eq!(stage.mkchangelog("--dialect jindofs --json").ends(0).json()["dialect"], "jindofs");
    stage.apply("").ends(0);
    assert_eq!(stage.differences(), [""; 0]);
}

#[test]
fn a_change_log_is_read_with_zstd_and_any_json_reader() {
    let stage = imported();
    stage.rename("a", "c");
    let manifest = window(&stage);
    let data = manifest["data"]["name"].as_str().expect("a name");
    let change: Value = serde_json::from_str(&unpacked(&stage, data)).expect("one change");
    assert_eq!((&change["op"], &change["path"], &change["to"]), (&"rename".into(), &"a".into(), &"c".into()));
    assert_eq!((&change["log"], &change["user"]), (&"hdfs-audit.log".into(), &"etl".into()));
    let files: Vec<String> = binary::files_below(&stage.at("changes"))
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    assert!(files.iter().any(|name| name.ends_with(".manifest.json")), "{files:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let stage = imported();
    (0..200).for_each(|number| stage.write(&format!("many/{number}"), "x"));
    stage.mkchangelog("").ends(0);
    let args = [split("apply --update --explain --json --change-log-dir"), vec![stage.text("changes")], stage.pair()];
    let mut child =
        stage.command(&args.concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut err).expect("reads");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert_eq!(stage.differences(), [""; 0]);
    let ran: Ran = stage.command(&split("--help")).stdout(Stdio::null()).output().expect("runs").into();
    ran.ends(0);
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_the_system_allows() {
    let stage = imported();
    let args = stage.daemon().iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    let script = format!("ulimit -Sn 256; exec {} {args}", env!("CARGO_BIN_EXE_syncd"));
    let child = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let daemon = binary::Running(child.expect("starts"));
    stage.write("new", "n");
    binary::until("the daemon follows", || fs::exists(stage.at("destination/new")).expect("looks"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.0.id())).expect("reads");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("is there");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}
