//! Files that somebody is still writing.
//!
//! Asterisk records under the final name. While it does, the file is open for writing; a GSM recording has
//! size 0 for up to 20 s, and a WAV bears the RIFF size 0 until it is closed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// After this a WAV whose RIFF size is 0 was left behind by a crash, and is as final as it will be. So is an empty
/// recording that nobody has open: of a call that was never bridged, MixMonitor leaves one.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of a WAV tells whether it is finished: `RIFF`, and the size as 32 bits.
pub(super) const RIFF_HEADER: usize = 8;

/// Whether a file modified `age` nanoseconds ago was so less than `settle` ago. One from further ahead
/// of the clock than that was not modified just now: its time was set.
pub(super) fn is_young(age: i64, settle: Duration) -> bool {
    u128::from(age.unsigned_abs()) < settle.as_nanos()
}

/// Whether a file named so, of that age in nanoseconds, may be an unfinished WAV: its beginning tells.
pub(super) fn may_be_unfinished(name: &[u8], age: i64) -> bool {
    let extension = name.rsplit(|&b| b == b'.').next().unwrap_or_default();
    extension.eq_ignore_ascii_case(b"wav") && extension.len() < name.len() && !is_abandoned(age)
}

/// Whether a recording of that age in nanoseconds is as final as it will be.
pub(super) fn is_abandoned(age: i64) -> bool {
    u128::try_from(age).unwrap_or(0) >= ABANDONED.as_nanos()
}

/// Whether a WAV's first bytes say that its size is not known yet.
pub(super) fn is_unfinished(header: &[u8]) -> bool {
    header.starts_with(b"RIFF") && header.get(4..RIFF_HEADER) == Some(&[0; 4])
}

/// The files that processes of this host have open for writing.
#[derive(Debug)]
pub(super) struct OpenFiles(HashSet<(u64, u64)>);

impl OpenFiles {
    /// Asks `/proc` (proc(5)). Processes whose descriptors we may not see, and ourselves, are left out.
    pub(super) fn look() -> OpenFiles {
        let mut open = HashSet::new();
        let own = std::process::id().to_string();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name();
            let is_process = name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
            if is_process && *name != *own {
                add_files_of(&process.path(), &mut open);
            }
        }
        OpenFiles(open)
    }

    /// Whether the file with this device and inode number is among them.
    pub(super) fn contains(&self, device: u64, inode: u64) -> bool {
        self.0.contains(&(device, inode))
    }
}

fn add_files_of(process: &Path, open: &mut HashSet<(u64, u64)>) {
    // Processes and descriptors come and go meanwhile: what cannot be read is not there any more.
    for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(file) = fs::metadata(descriptor.path()) else { continue };
        if !file.is_file() || open.contains(&(file.dev(), file.ino())) {
            continue;
        }
        let info = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()));
        if info.is_ok_and(|info| is_for_writing(&info)) {
            open.insert((file.dev(), file.ino()));
        }
    }
}

/// Whether the `fdinfo` of a descriptor says that it is for writing; `flags` are those of open(2), octal.
fn is_for_writing(info: &str) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| matches!(flags & ACCESS_MODE, 1 | 2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn young_is_less_than_settle_ago() {
        let settle = Duration::from_nanos(100);
        for (age, young) in
            [(0, true), (99, true), (100, false), (-99, true), (-100, false), (i64::MIN, false)]
        {
            assert_eq!(is_young(age, settle), young, "{age}");
        }
        assert!(!is_young(0, Duration::ZERO));
    }

    #[test]
    fn which_files_may_be_unfinished() {
        let day = 24 * 60 * 60 * 1_000_000_000;
        for (name, age, may) in [
            ("a.wav", 0, true),
            ("a.WAV", day - 1, true),
            ("a.wav", -1, true),
            ("a.wav", day, false),
            ("a.gsm", 0, false),
            ("wav", 0, false),
            ("a.wav.txt", 0, false),
        ] {
            assert_eq!(may_be_unfinished(name.as_bytes(), age), may, "{name} {age}");
        }
    }

    #[test]
    fn a_riff_size_of_zero_is_unfinished() {
        for (header, unfinished) in [
            (&b"RIFF\0\0\0\0WAVE"[..], true),
            (b"RIFF\x24\0\0\0WAVE", false),
            (b"RIFF\0\0\0", false),
            (b"RIFX\0\0\0\0", false),
            (b"", false),
        ] {
            assert_eq!(is_unfinished(header), unfinished, "{header:?}");
        }
    }

    #[test]
    fn access_modes() {
        for (flags, writing) in
            [("0100000", false), ("0100001", true), ("0102002", true), ("010000000", false), ("?", false)]
        {
            assert_eq!(
                is_for_writing(&format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n")),
                writing,
                "{flags}"
            );
        }
        assert!(!is_for_writing(""));
    }

    #[test]
    fn a_file_another_process_writes_is_open_until_it_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (written, read) = (dir.path().join("written"), dir.path().join("read"));
        fs::write(&read, "x").unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", r#"exec 3>>"$0" 4<"$1"; echo open; read line; exec 3>&-; echo closed; read line"#])
            .args([&written, &read])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(shell.stdout.take().unwrap());
        let mut tell = shell.stdin.take().unwrap();
        let mut line = String::new();
        let is_open = |path: &Path| {
            let file = fs::metadata(path).unwrap();
            OpenFiles::look().contains(file.dev(), file.ino())
        };

        said.read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        assert!(is_open(&written));
        assert!(!is_open(&read));

        std::io::Write::write_all(&mut tell, b"\n").unwrap();
        said.read_line(&mut line).unwrap();
        assert!(!is_open(&written));
        drop(tell);
        shell.wait().unwrap();
    }
}
