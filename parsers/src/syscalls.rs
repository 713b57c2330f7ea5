//! What the system calls of Linux do to names, by processor and number. Reading their arguments and names is
//! `linux_auditd.rs`.

use crate::change::Op;

/// What a call does to the names of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Ignored,
    /// Opens a file: writes if its flags, the argument with this index, say so.
    Open {
        flags: usize,
    },
    /// Opens a file with flags that are not among the arguments.
    OpenBy,
    /// Changes content, by name or by descriptor.
    Write,
    Make(Op),
    Delete,
    Rename,
    Attr,
    /// Not known here.
    Unknown,
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub effect: Effect,
    /// Which arguments are descriptors of directories that names are relative to.
    pub directories: &'static [usize],
}

impl Call {
    pub(crate) const UNKNOWN: Self = Self::new(Effect::Unknown, &[]);

    const fn new(effect: Effect, directories: &'static [usize]) -> Self {
        Self { effect, directories }
    }
}

/// Whether a file that is opened with these flags may change; if they are not known, it may.
pub(crate) fn writes(flags: Option<u64>) -> bool {
    const WRONLY_RDWR_CREAT_TRUNC: u64 = 0x1 | 0x2 | 0x40 | 0x200;
    flags.is_none_or(|flags| flags & WRONLY_RDWR_CREAT_TRUNC != 0)
}

/// What a call is; [`Effect::Unknown`] for processors that are not known here.
pub(crate) fn call(arch: u64, number: u64) -> Call {
    let table = match arch {
        0xc000_003e => X86_64,
        0x4000_0003 => I386,
        // aarch64, riscv64, loongarch64: the numbers that new processors share.
        0xc000_00b7 | 0xc000_00f3 | 0xc000_0102 => GENERIC,
        _ => return Call::UNKNOWN,
    };
    table.iter().find(|(_, numbers)| numbers.contains(&number)).map_or(Call::UNKNOWN, |(call, _)| *call)
}

const OPEN: Call = Call::new(Effect::Open { flags: 1 }, &[]);
const OPENAT: Call = Call::new(Effect::Open { flags: 2 }, &[0]);
const OPENAT2: Call = Call::new(Effect::OpenBy, &[0]);
/// By a handle, without a name.
const OPEN_HANDLE: Call = Call::new(Effect::Open { flags: 2 }, &[]);
const WRITE: Call = Call::new(Effect::Write, &[]);
const MAKE: Call = Call::new(Effect::Make(Op::Write), &[]);
const MAKE_AT: Call = Call::new(Effect::Make(Op::Write), &[0]);
const LINK_AT: Call = Call::new(Effect::Make(Op::Write), &[0, 2]);
const SYMLINK_AT: Call = Call::new(Effect::Make(Op::Write), &[1]);
const MKDIR: Call = Call::new(Effect::Make(Op::Mkdir), &[]);
const MKDIR_AT: Call = Call::new(Effect::Make(Op::Mkdir), &[0]);
const DELETE: Call = Call::new(Effect::Delete, &[]);
const DELETE_AT: Call = Call::new(Effect::Delete, &[0]);
const RENAME: Call = Call::new(Effect::Rename, &[]);
const RENAME_AT: Call = Call::new(Effect::Rename, &[0, 2]);
const ATTR: Call = Call::new(Effect::Attr, &[]);
const ATTR_AT: Call = Call::new(Effect::Attr, &[0]);
const IGNORED: Call = Call::new(Effect::Ignored, &[]);

type Table = &'static [(Call, &'static [u64])];

/// Of `arch/x86/entry/syscalls/syscall_64.tbl`.
const X86_64: Table = &[
    (OPENAT, &[257]),
    (OPEN, &[2]),
    // creat, truncate, ftruncate, fallocate, write, pwrite64, writev, pwritev, pwritev2, sendfile, splice,
    // copy_file_range
    (WRITE, &[85, 76, 77, 285, 1, 18, 20, 296, 328, 40, 275, 326]),
    (OPENAT2, &[437]),
    (OPEN_HANDLE, &[304]),
    // link, symlink, mknod
    (MAKE, &[86, 88, 133]),
    // mknodat
    (MAKE_AT, &[259]),
    (LINK_AT, &[265]),
    (SYMLINK_AT, &[266]),
    (MKDIR, &[83]),
    (MKDIR_AT, &[258]),
    // unlink, rmdir
    (DELETE, &[87, 84]),
    (DELETE_AT, &[263]),
    (RENAME, &[82]),
    // renameat, renameat2
    (RENAME_AT, &[264, 316]),
    // chmod, fchmod, chown, fchown, lchown, utime, utimes, setxattr and removexattr with l and f
    (ATTR, &[90, 91, 92, 93, 94, 132, 235, 188, 189, 190, 197, 198, 199]),
    // fchmodat, fchmodat2, fchownat, futimesat, utimensat
    (ATTR_AT, &[268, 452, 260, 261, 280]),
    // read, close, stat, fstat, lstat, access, connect, accept, execve, chdir, fchdir, readlink, statfs, fstatfs,
    // chroot, getxattr and listxattr with l and f, inotify_add_watch, newfstatat, readlinkat, faccessat,
    // name_to_handle_at, execveat, statx, faccessat2
    (
        IGNORED,
        &[
            0, 3, 4, 5, 6, 21, 42, 43, 59, 80, 81, 89, 137, 138, 161, 191, 192, 193, 194, 195, 196, 254, 262, 267, 269,
            303, 322, 332, 439,
        ],
    ),
];

/// Of `include/uapi/asm-generic/unistd.h`.
const GENERIC: Table = &[
    (OPENAT, &[56]),
    // truncate, ftruncate, fallocate, write, writev, pwrite64, pwritev, sendfile, splice, copy_file_range, pwritev2
    (WRITE, &[45, 46, 47, 64, 66, 68, 70, 71, 76, 285, 287]),
    (OPENAT2, &[437]),
    (OPEN_HANDLE, &[265]),
    (MAKE_AT, &[33]),
    (LINK_AT, &[37]),
    (SYMLINK_AT, &[36]),
    (MKDIR_AT, &[34]),
    (DELETE_AT, &[35]),
    (RENAME_AT, &[38, 276]),
    // setxattr and removexattr with l and f, fchmod, fchown
    (ATTR, &[5, 6, 7, 14, 15, 16, 52, 55]),
    // fchmodat, fchmodat2, fchownat, utimensat
    (ATTR_AT, &[53, 452, 54, 88]),
    // getxattr and listxattr with l and f, inotify_add_watch, statfs, fstatfs, faccessat, chdir, fchdir, chroot,
    // close, read, readlinkat, newfstatat, fstat, accept, connect, execve, name_to_handle_at, execveat, statx,
    // faccessat2
    (
        IGNORED,
        &[8, 9, 10, 11, 12, 13, 27, 43, 44, 48, 49, 50, 51, 57, 63, 78, 79, 80, 202, 203, 221, 264, 281, 291, 439],
    ),
];

/// Of `arch/x86/entry/syscalls/syscall_32.tbl`.
const I386: Table = &[
    (OPENAT, &[295]),
    (OPEN, &[5]),
    // creat, truncate and ftruncate with 64, fallocate, write, writev, pwrite64, pwritev, pwritev2, sendfile with 64,
    // splice, copy_file_range
    (WRITE, &[8, 92, 93, 193, 194, 324, 4, 146, 181, 334, 379, 187, 239, 313, 377]),
    (OPENAT2, &[437]),
    (OPEN_HANDLE, &[342]),
    // link, mknod, symlink
    (MAKE, &[9, 14, 83]),
    (MAKE_AT, &[297]),
    (LINK_AT, &[303]),
    (SYMLINK_AT, &[304]),
    (MKDIR, &[39]),
    (MKDIR_AT, &[296]),
    (DELETE, &[10, 40]),
    (DELETE_AT, &[301]),
    (RENAME, &[38]),
    (RENAME_AT, &[302, 353]),
    // chmod, lchown, utime, fchmod, fchown, chown, the three with 32, setxattr and removexattr with l and f, utimes
    (ATTR, &[15, 16, 30, 94, 95, 182, 198, 207, 212, 226, 227, 228, 235, 236, 237, 271]),
    // fchownat, futimesat, fchmodat, utimensat, utimensat_time64, fchmodat2
    (ATTR_AT, &[298, 299, 306, 320, 412, 452]),
    // read, close, execve, chdir, access, chroot, readlink, statfs, fstatfs, stat, lstat, fstat, and those with 64,
    // getxattr and listxattr with l and f, inotify_add_watch, fstatat64, readlinkat, faccessat, execveat, connect,
    // statx, faccessat2
    (
        IGNORED,
        &[
            3, 6, 11, 12, 33, 61, 85, 99, 100, 106, 107, 108, 195, 196, 197, 229, 230, 231, 232, 233, 234, 292, 300,
            305, 307, 358, 362, 383, 439,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_has_another_number_on_another_processor() {
        for (arch, number) in [(0xc000_003e, 263), (0xc000_00b7, 35), (0x4000_0003, 301)] {
            assert_eq!(call(arch, number), DELETE_AT);
        }
        assert_eq!(call(0xc000_003e, 35), Call::UNKNOWN);
    }

    #[test]
    fn a_processor_or_a_call_that_is_not_known_is_unknown() {
        assert_eq!(call(0x8000_0016, 263), Call::UNKNOWN);
        assert_eq!(call(0xc000_003e, 9999), Call::UNKNOWN);
    }

    #[test]
    fn no_number_stands_for_two_calls() {
        for table in [X86_64, GENERIC, I386] {
            let mut numbers: Vec<u64> = table.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect();
            numbers.sort_unstable();
            assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        }
    }

    #[test]
    fn a_file_that_is_opened_to_read_does_not_change() {
        assert!(!writes(Some(0o2_000_000)));
        assert!(writes(Some(0x241)) && writes(Some(0x2)) && writes(Some(0x40)) && writes(None));
    }
}
