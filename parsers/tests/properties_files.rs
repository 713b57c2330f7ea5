//! The same as `properties.rs` for logs of file servers and file systems: any name that its producer writes comes back,
//! and no bytes make a parser panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use syncd_parsers::dialect::by_name;
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Entry, Op};

const DIALECTS: [&str; 6] =
    ["ozone", "samba-full-audit", "samba-full-audit-relative", "linux-auditd", "gluster-changelog", "lustre-changelog"];
const GFID: &str = "c5250af6-720e-4bfe-b938-827614304f39";

/// What a log gives, with its ids resolved.
fn entries(dialect: &str, log: &[u8]) -> Vec<Entry> {
    let dialect = by_name(dialect).expect("a dialect");
    let mut parsed = Parsed::default();
    records::parse_block(dialect, log, 0, End::Closed, &mut parsed);
    let entries = parsed.entries.into_iter().map(|(_, entry)| entry);
    let Some(mut resolver) = dialect.resolver() else { return entries.collect() };
    let mut out = Vec::new();
    entries.for_each(|entry| resolver.resolve(entry, &mut out));
    out
}

fn names(entries: &[Entry], op: Op, path: &[u8], to: Option<&[u8]>) -> bool {
    entries.iter().any(|entry| entry.op == op && entry.path == path && entry.to.as_deref() == to)
}

/// A path is looked at: by itself, or with all in its directory.
fn is_looked_at(entries: &[Entry], op: Op, path: &[u8]) -> bool {
    let is_above = |above: &[u8]| above == b"/" || path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"));
    names(entries, op, path, None) || entries.iter().any(|entry| entry.op == Op::Rescan && is_above(&entry.path))
}

/// Any bytes that a name of a file may have, with what logs use around names, and without `not`.
fn name(not: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    const PARTS: [&str; 20] = [
        "|",
        "|/",
        "|ok|",
        "|unlinkat|ok|/",
        "#011",
        "#",
        "\n",
        "\t",
        " ",
        "  ",
        "\"",
        ", ",
        ", key=",
        ", dataSize=",
        "=",
        "} | ret=FAILURE",
        " s=[0x1:0x2:0x3] sp=[0x1:0x2:0x3] ",
        " p=[0x1:0x2:0x3] ",
        "ü",
        ":",
    ];
    let part = prop_oneof![vec(any::<u8>(), 1..5), select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec())];
    vec(part, 0..6).prop_map(move |parts| {
        let name = parts.concat().into_iter().filter(|byte| !matches!(byte, 0 | b'/') && !not.contains(byte));
        [&b"n"[..], &name.collect::<Vec<u8>>(), b"z"].concat()
    })
}

/// As rsyslog writes control characters.
fn rsyslog(name: &[u8]) -> Vec<u8> {
    let spell =
        |byte: &u8| if *byte < b' ' || *byte == 0x7f { format!("#{byte:03o}").into_bytes() } else { vec![*byte] };
    name.iter().flat_map(spell).collect()
}

fn samba(arguments: &[&[u8]]) -> Vec<u8> {
    [b"Nov 21 06:08:58 vm smbd_audit: u|1.2.3.4|", &arguments.concat()[..], b"\n"].concat()
}

/// As the kernel writes texts into the audit log.
fn kernel(text: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && *byte != b'"';
    if text.iter().all(is_plain) {
        return [b"\"", text, b"\""].concat();
    }
    text.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_name_that_samba_gave_to_syslog_comes_back(name in name(b"")) {
        let path = [b"/srv/s/", &name[..]].concat();
        let entries = entries("samba-full-audit", &samba(&[b"unlinkat|ok|", &rsyslog(&path)]));
        prop_assert!(is_looked_at(&entries, Op::Delete, &path), "{entries:?}");
    }

    #[test]
    fn both_names_of_a_rename_of_samba_come_back(old in name(b""), new in name(b"")) {
        let (old, new) = ([b"/srv/s/", &old[..]].concat(), [b"/srv/s/", &new[..]].concat());
        let entries = entries("samba-full-audit", &samba(&[b"renameat|ok|", &rsyslog(&old), b"|", &rsyslog(&new)]));
        let are_looked_at = is_looked_at(&entries, Op::Delete, &old) && is_looked_at(&entries, Op::Write, &new);
        prop_assert!(names(&entries, Op::Rename, &old, Some(&new)) || are_looked_at, "{entries:?}");
    }

    #[test]
    fn a_name_in_smbd_s_own_log_comes_back(name in name(b"")) {
        let path = [b"/srv/s/", &name[..]].concat();
        let head = b"[2026/11/21 11:39:50.707779,  1] ../../source3/modules/vfs_full_audit.c:643(do_log)\n  u|1.2.3.4|unlinkat|ok|";
        let text: Vec<&[u8]> = path.split(|byte| *byte == b'\n').collect();
        let entries = entries("samba-full-audit", &[head, &text.join(&b"\n  "[..])[..], b"\n"].concat());
        prop_assert!(names(&entries, Op::Delete, &path, None), "{entries:?}");
    }

    #[test]
    fn a_key_in_a_java_map_comes_back(key in name(b"\n")) {
        let head = b"2020-07-09 18:29:24,689 | INFO  | OMAudit | user=u | ip=1.2.3.4 | op=COMMIT_KEY {volume=v, bucket=b, key=";
        let log = [head, &key[..], b", dataSize=9, replicationConfig=RATIS/THREE, clientID=1} | ret=SUCCESS |  \n"].concat();
        let entries = entries("ozone", &log);
        prop_assert!(names(&entries, Op::Write, &[b"/v/b/", &key[..]].concat(), None), "{entries:?}");
    }

    #[test]
    fn both_keys_of_a_rename_in_a_java_map_come_back(from in name(b"\n"), to in name(b"\n")) {
        let head = b"2020-07-09 18:29:24,689 | INFO  | OMAudit | user=u | ip=1.2.3.4 | op=RENAME_KEY {volume=v, bucket=b, dataSize=0, srcKey=";
        let entries = entries("ozone", &[head, &from[..], b", dstKey=", &to, b"} | ret=SUCCESS |  \n"].concat());
        let (from, to) = ([b"/v/b/", &from[..]].concat(), [b"/v/b/", &to[..]].concat());
        prop_assert!(names(&entries, Op::Rename, &from, Some(&to)), "{entries:?}");
    }

    #[test]
    fn a_key_in_json_comes_back(key in name(b"")) {
        let key = String::from_utf8_lossy(&key).into_owned();
        let json = serde_json::json!({"volume": "v", "bucket": "b", "key": key, "dataSize": "9"});
        let log = format!("2025-11-21 18:29:24,689 | INFO  | OMAudit | user=u | ip=1.2.3.4 | op=COMMIT_KEY {json} | ret=SUCCESS |  \n");
        let entries = entries("ozone", log.as_bytes());
        prop_assert!(names(&entries, Op::Write, format!("/v/b/{key}").as_bytes(), None), "{entries:?}");
    }

    #[test]
    fn a_name_of_a_system_call_comes_back(name in name(b""), cwd in name(b""), is_absolute in any::<bool>()) {
        let cwd = [b"/home/", &cwd[..]].concat();
        let path = [&cwd[..], b"/", &name].concat();
        let given = if is_absolute { &path } else { &name };
        let log = [
            &b"type=SYSCALL msg=audit(1600000000.125:7): arch=c000003e syscall=263 success=yes exit=0 a0=ffffff9c a1=7f a2=0 a3=0 items=1\n"[..],
            b"type=CWD msg=audit(1600000000.125:7):  cwd=", &kernel(&cwd),
            b"\ntype=PATH msg=audit(1600000000.125:7): item=0 name=", &kernel(given), b" inode=2 dev=08:01 nametype=DELETE\n",
        ];
        let entries = entries("linux-auditd", &log.concat());
        prop_assert!(names(&entries, Op::Delete, &path, None), "{entries:?}");
    }

    #[test]
    fn a_name_of_gluster_comes_back(name in name(b""), other in name(b"")) {
        let root = "00000000-0000-0000-0000-000000000001";
        let head = format!("GlusterFS Changelog | version: v1.2 | encoding : 2\nE{GFID}\0{}\0{}\0{}\0{}\0{root}/", 23, 33188, 0, 0);
        let middle = format!("\0D{GFID}\0E{GFID}\0{}\0{root}/", 8);
        let log = [head.as_bytes(), &name, middle.as_bytes(), &name, b"\0", root.as_bytes(), b"/", &other, b"\0"].concat();
        let entries = entries("gluster-changelog", &log);
        let (path, other) = ([b"/", &name[..]].concat(), [b"/", &other[..]].concat());
        prop_assert!(names(&entries, Op::Write, &path, None), "{entries:?}");
        prop_assert!(names(&entries, Op::Rename, &path, Some(&other)), "{entries:?}");
        prop_assert!(names(&entries, Op::Write, &other, None), "{entries:?}");
    }

    #[test]
    fn names_of_lustre_come_back(new in name(b"\n"), old in name(b"\n")) {
        let record = |number, kind| format!("{number} {kind} 15:15:21.977666834 2018.01.09 0x0 t=[0x1:0x1:0x0] j=x u=0:0 p=[0x200000007:0x1:0x0] ");
        let middle = " s=[0x1:0x1:0x0] sp=[0x200000007:0x1:0x0] ";
        let log = [record(1, "01CREAT").as_bytes(), &old, b"\n", record(2, "08RENME").as_bytes(), &new, middle.as_bytes(), &old, b"\n", record(3, "06UNLNK").as_bytes(), &new, b"\n"].concat();
        let entries = entries("lustre-changelog", &log);
        let (old, new) = ([b"/", &old[..]].concat(), [b"/", &new[..]].concat());
        prop_assert!(is_looked_at(&entries, Op::Write, &old), "{entries:?}");
        prop_assert!(names(&entries, Op::Rename, &old, Some(&new)) || is_looked_at(&entries, Op::Rescan, b"/x"), "{entries:?}");
        prop_assert!(is_looked_at(&entries, Op::Delete, &new), "{entries:?}");
    }

    #[test]
    fn no_bytes_make_a_parser_panic_and_no_id_leaves(
        dialect in select(&DIALECTS[..]),
        parts in vec(prop_oneof![
            vec(any::<u8>(), 0..8),
            select(&[
                "2020-07-09 18:29:24,689 | INFO  | OMAudit | user=u | ip=1 | op=", "RENAME_KEY", "DELETE_KEYS", " {", "{\"volume\":\"", "volume=v, bucket=b, ", "srcKey=", ", dstKey=", "deletedKeysList=a,b", "} | ret=SUCCESS",
                "Nov 21 06:08:58 vm smbd_audit: ", "u|", "|renameat|ok|", "|create_file|ok|0x", "|file|open|", "/a|/b", "#01", "[2026/11/21 11:39:50.7,  1] a.c:1(do_log)\n  ",
                "type=SYSCALL msg=audit(1.125:7): arch=c000003e syscall=82 success=yes", "type=PATH msg=audit(1.125:7): item=0 name=", "\"", "(null)", " nametype=CREATE", " inode=1", "\n", "type=CWD msg=audit(1.125:7): cwd=\"/",
                "GlusterFS Changelog | version: v1.2 | encoding : 2\n", "E", "D", "M", GFID, "\0", "8\0", "5\0", "/x\0",
                "1 08RENME 15:15:21.9 2018.01.09 0x0 t=[0x1:0x1:0x0]", " p=[0x200000007:0x1:0x0] ", " s=[0x1:0x1:0x0] sp=[0x1:0x1:0x0] ", "02MKDIR",
            ][..]).prop_map(|part| part.as_bytes().to_vec()),
        ], 0..24),
    ) {
        let log = parts.concat();
        for entry in entries(dialect, &log) {
            let resolved = by_name(dialect).is_some_and(|dialect| dialect.resolver().is_some());
            let is_path = |path: &[u8]| path.starts_with(b"/") && !(resolved && path.contains(&0));
            prop_assert!(is_path(&entry.path) && entry.to.as_deref().is_none_or(is_path), "{entry:?}");
        }
        let mut out = Vec::new();
        by_name(dialect).expect("a dialect").salvage(&log, &mut out);
    }
}

#[test]
fn a_long_line_of_what_repeats_takes_no_long_time() {
    let starts: [(&str, &str); 6] = [
        ("lustre-changelog", "1 08RENME 15:15:21.9 2018.01.09 0x0 t=[0x1:0x1:0x0]"),
        ("lustre-changelog", "1 01CREAT 15:15:21.9 2018.01.09 0x0 t=[0x1:0x1:0x0]"),
        ("samba-full-audit", "Nov 21 06:08:58 vm smbd_audit: u|renameat|ok|/a"),
        ("samba-full-audit", "Nov 21 06:08:58 vm smbd_audit: u|"),
        (
            "ozone",
            "2020-07-09 18:29:24,689 | INFO  | OMAudit | user=u | ip=1 | op=COMMIT_KEY {volume=v, bucket=b, key=",
        ),
        ("linux-auditd", "type=SYSCALL msg=audit(1.125:7): arch=c000003e syscall=82 success=yes "),
    ];
    let repeats = [
        " p=[0x1:0x1:0x0] a",
        " s=[0x1:0x1:0x0] sp=[0x1:0x1:0x0] a",
        "|/a",
        "|a|fail (",
        "#011|/",
        ", dataSize=1",
        "} | ret=",
        "a0=",
    ];
    for (dialect, start) in starts {
        for repeat in repeats {
            let log = [start, &repeat.repeat((256 * 1024) / repeat.len()), "} | ret=SUCCESS\n"].concat();
            let size: usize = entries(dialect, log.as_bytes()).iter().map(|entry| entry.path.len()).sum();
            assert!(size <= 100 * records::LINE_MAX, "{dialect} {repeat}: {size} bytes");
        }
    }
}
