//! A node's `~/.ssh/authorized_keys`: the line that lets a Main in, among lines that are none of ours.
//!
//! The format is that of sshd(8), AUTHORIZED_KEYS FILE FORMAT. Deciding what the file becomes is pure, over
//! its bytes; what is not one of our lines stays byte for byte.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

/// What the comment of our lines begins with; Main follows.
const COMMENT: &str = "xds-sync from ";

/// A line that lets a Main in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Main's key.
    pub key: KeyData,
    /// The program whose agent is all that the key may run.
    pub program: PathBuf,
    /// Hosts that the key may be used from: a pattern list, as in sshd(8) `from=`.
    pub from: Option<String>,
    /// Main as the administrator named it: HOST or HOST:PORT.
    pub main: String,
}

impl Entry {
    /// The line, without its end.
    pub fn line(&self) -> anyhow::Result<String> {
        let program = self.program.to_str().filter(|program| !program.contains(char::is_control));
        let program = program.with_context(|| {
            format!("{} cannot stand in authorized_keys: install it elsewhere", self.program.display())
        })?;
        // sshd hands the command to the user's shell.
        let command = format!("{} agent", shell_word(program));
        let mut options = format!("restrict,command=\"{}\"", command.replace('"', "\\\""));
        if let Some(from) = &self.from {
            if !is_pattern(from) {
                bail!(
                    "'{from}' is no pattern list for from=: give hosts, addresses or CIDR ranges, with commas between"
                );
            }
            options.push_str(&format!(",from=\"{from}\""));
        }
        let key = PublicKey::new(self.key.clone(), format!("{COMMENT}{}", self.main));
        Ok(format!("{options} {}", key.to_openssh().context("writing a public key as text")?))
    }
}

/// A word that a shell reads as it is meant.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Host patterns with commas between, as sshd(8) takes them in `from=`.
fn is_pattern(from: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:/*?!,%[]".contains(c);
    !from.is_empty() && from.chars().all(allowed)
}

/// The file's bytes with this entry in it, once: in the place of the first line that is of the same Main or
/// has its key, else at the end. All other lines stay as they are.
pub fn with(before: &[u8], entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let new = entry.line()?;
    let mut after = Vec::with_capacity(before.len() + new.len() + 1);
    let mut placed = false;
    for line in before.split_inclusive(|&byte| byte == b'\n') {
        let (text, end) = without_end(line);
        let parsed = Line::parse(text);
        let replaced = parsed.is_some_and(|line| {
            line.key.as_ref() == Some(&entry.key)
                || line.main().is_some_and(|main| same_host(main, &entry.main))
        });
        if !replaced {
            after.extend_from_slice(line);
        } else if !placed {
            placed = true;
            after.extend_from_slice(new.as_bytes());
            after.extend_from_slice(end);
        }
    }
    if !placed {
        if after.last().is_some_and(|&last| last != b'\n') {
            after.push(b'\n');
        }
        after.extend_from_slice(new.as_bytes());
        after.push(b'\n');
    }
    Ok(after)
}

/// The file's bytes without the lines of one Main.
#[must_use]
pub fn without(before: &[u8], main: &str) -> Vec<u8> {
    let stays = |line: &&[u8]| {
        let parsed = Line::parse(without_end(line).0);
        !parsed.is_some_and(|line| line.main().is_some_and(|of| same_host(of, main)))
    };
    before.split_inclusive(|&byte| byte == b'\n').filter(stays).flatten().copied().collect()
}

/// The file's bytes with a line for `new` after each one for `old`: the same options, the same comment. None
/// where nobody has `old`.
pub fn beside(before: &[u8], old: &KeyData, new: &KeyData) -> anyhow::Result<Option<Vec<u8>>> {
    let mut after = Vec::with_capacity(before.len() * 2);
    let mut found = has(before, new);
    let is_there = found;
    for line in before.split_inclusive(|&byte| byte == b'\n') {
        after.extend_from_slice(line);
        let (text, end) = without_end(line);
        let Some(line) = Line::parse(text).filter(|line| line.key.as_ref() == Some(old)) else { continue };
        if is_there {
            continue;
        }
        found = true;
        // A last line may end without one, and yet with a carriage return.
        if !end.ends_with(b"\n") {
            after.push(b'\n');
        }
        let key = PublicKey::new(new.clone(), line.comment).to_openssh().context("writing a public key")?;
        after.extend_from_slice(format!("{}{key}", line.before).as_bytes());
        after.extend_from_slice(end);
    }
    Ok(found.then_some(after))
}

/// The file's bytes without the lines for `old`.
#[must_use]
pub fn without_key(before: &[u8], old: &KeyData) -> Vec<u8> {
    let stays =
        |line: &&[u8]| Line::parse(without_end(line).0).is_none_or(|line| line.key.as_ref() != Some(old));
    before.split_inclusive(|&byte| byte == b'\n').filter(stays).flatten().copied().collect()
}

/// Whether a line is for this key.
#[must_use]
pub fn has(content: &[u8], key: &KeyData) -> bool {
    let mut lines = content.split(|&byte| byte == b'\n').filter_map(|line| Line::parse(without_end(line).0));
    lines.any(|line| line.key.as_ref() == Some(key))
}

/// Every Main that a line lets in, as it was named, without repetition.
#[must_use]
pub fn mains(content: &[u8]) -> Vec<String> {
    let mut mains: Vec<String> = Vec::new();
    for line in content.split(|&byte| byte == b'\n') {
        let Some(line) = Line::parse(without_end(line).0) else { continue };
        if let Some(main) = line.main()
            && !mains.iter().any(|known| same_host(known, main))
        {
            mains.push(main.to_owned());
        }
    }
    mains
}

/// Whether two names of a Main mean the same host: it may publish its key at one port today and at another
/// one tomorrow.
#[must_use]
pub fn same_host(a: &str, b: &str) -> bool {
    host_of(a).eq_ignore_ascii_case(host_of(b))
}

fn host_of(main: &str) -> &str {
    if let Some((host, _)) = main.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return host;
    }
    match main.split_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((host, port)) if !port.contains(':') => host,
        _ => main,
    }
}

fn without_end(line: &[u8]) -> (&[u8], &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    (text, line.get(text.len()..).unwrap_or_default())
}

/// A line that sshd takes for a key.
struct Line<'a> {
    /// What stands before the key: options, or nothing.
    before: &'a str,
    /// None for a key of a kind that is not known here.
    key: Option<KeyData>,
    comment: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        // Comments may be in any encoding; ours is not.
        let text = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let (options, rest) = text.split_at(text.len() - after_options(text).len());
        Line::without_options("", text).or_else(|| Line::without_options(options, rest))
    }

    fn without_options(before: &'a str, text: &'a str) -> Option<Line<'a>> {
        let (algorithm, rest) = split_word(text)?;
        let (key, comment) = split_word(rest).unwrap_or((rest, ""));
        let is_key = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| algorithm.starts_with(kind))
            && key.starts_with("AAAA")
            && !algorithm.contains(['"', ',', '=']);
        let parsed = PublicKey::from_openssh(&format!("{algorithm} {key}"));
        is_key.then(|| Line { before, key: parsed.ok().map(|key| key.key_data().clone()), comment })
    }

    /// Which Main the line lets in, if it is one of ours.
    fn main(&self) -> Option<&'a str> {
        self.comment.strip_prefix(COMMENT).map(str::trim).filter(|main| !main.is_empty())
    }
}

fn split_word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once([' ', '\t'])?;
    Some((word, rest.trim_start_matches([' ', '\t'])))
}

/// What follows the options: they end at the first blank outside of quotes, in which `\"` is a quote.
fn after_options(text: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ' ' | '\t' if !quoted => return text.get(at..).unwrap_or("").trim_start_matches([' ', '\t']),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}

/// What [`change`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// There was no file.
    Made,
    /// There was another one.
    Replaced,
    /// It was as it should be already; nothing was written.
    Kept,
}

/// The file's bytes; empty when there is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Makes the file what `edit` says, in one step: sshd never reads half of it. Its owner stays and its mode,
/// but for what others could write, which sshd would refuse. A file that is missing is made (0600), and so is
/// the directory it is in (0700), both of whoever owns the home.
pub fn change(path: &Path, edit: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Changed> {
    let path = &target(path)?;
    let before = read(path)?;
    let after = edit(&before)?;
    if after == before {
        return Ok(Changed::Kept);
    }
    let old = fs::metadata(path).ok();
    replace(path, old.as_ref(), &after).with_context(|| format!("writing {}", path.display()))?;
    Ok(if old.is_some() { Changed::Replaced } else { Changed::Made })
}

/// The file itself, where the path is a symlink: that stays.
fn target(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            path.canonicalize().with_context(|| format!("{} is a symlink that leads nowhere", path.display()))
        }
        Ok(metadata) if !metadata.is_file() => bail!("{} is no file", path.display()),
        _ => Ok(path.to_owned()),
    }
}

fn replace(path: &Path, old: Option<&fs::Metadata>, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".xds-sync");
    let new = dir.join(name);
    let owner = match old {
        Some(old) => (old.uid(), old.gid()),
        None => fs::metadata(dir).map(|dir| (dir.uid(), dir.gid()))?,
    };
    let mode = old.map_or(0o600, |old| old.mode() & 0o7755);
    // Of a command that was killed.
    let _ = fs::remove_file(&new);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        give(&file, owner)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let home = dir.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().mode(0o700).create(dir)?;
    let home = fs::metadata(home)?;
    give(&File::open(dir)?, (home.uid(), home.gid()))
}

fn give(file: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) == (uid, gid) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(uid), Some(gid))
}

/// Where sshd looks for the keys of whoever has this home.
#[must_use]
pub fn path_below(home: &Path) -> PathBuf {
    home.join(".ssh/authorized_keys")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE3S91yHs/PeTECLiDVksr06hnmsy4TykL5+d8/70Laf";

    fn key(text: &str) -> KeyData {
        PublicKey::from_openssh(text).unwrap().key_data().clone()
    }

    fn entry() -> Entry {
        Entry { key: key(KEY), program: "/usr/bin/xds-sync".into(), from: None, main: "main".into() }
    }

    fn ours() -> String {
        format!("restrict,command=\"/usr/bin/xds-sync agent\" {KEY} xds-sync from main")
    }

    fn added(before: &str) -> String {
        String::from_utf8(with(before.as_bytes(), &entry()).unwrap()).unwrap()
    }

    #[test]
    fn a_line_allows_the_agent_and_nothing_else() {
        assert_eq!(entry().line().unwrap(), ours());
        let from = Entry { from: Some("10.0.0.0/8,!10.0.0.9".to_owned()), ..entry() };
        let line = from.line().unwrap();
        assert!(
            line.starts_with(
                "restrict,command=\"/usr/bin/xds-sync agent\",from=\"10.0.0.0/8,!10.0.0.9\" ssh-"
            )
        );
        for pattern in ["", "a\" ssh-rsa", "a b", "a\nb", "a\\"] {
            assert!(Entry { from: Some(pattern.to_owned()), ..entry() }.line().is_err(), "{pattern}");
        }
        let odd = Entry { program: "/srv/it's \"x\"/xds-sync".into(), ..entry() };
        let line = odd.line().unwrap();
        assert!(line.starts_with(r#"restrict,command="'/srv/it'\''s \"x\"/xds-sync' agent" ssh-"#), "{line}");
        assert_eq!(added(&format!("{line}\n")), format!("{}\n", ours()), "our own odd line is found again");
    }

    #[test]
    fn a_line_is_appended_where_there_is_none() {
        let ours = ours();
        for before in [
            "",
            "# a comment\n",
            "\n\n",
            &format!("{OTHER} admin@desk\n"),
            // Neither the comment of a comment line, nor of another program, is ours.
            &format!("# {KEY} xds-sync from main\n"),
            &format!("{OTHER} not xds-sync from main\n"),
            &format!("{OTHER} xds-sync from main2\n"),
            &format!("from=\"a b\",command=\"echo \\\" ssh-rsa AAAA xds-sync from main\" {OTHER} x\n"),
            "ssh-ed25519\n",
            "garbage \"without an end\n",
        ] {
            assert_eq!(added(before), format!("{before}{ours}\n"), "{before:?}");
        }
        assert_eq!(added(&format!("{OTHER} x")), format!("{OTHER} x\n{ours}\n"), "no newline at the end");
    }

    #[test]
    fn the_lines_of_the_same_main_or_key_are_replaced() {
        let ours = ours();
        for old in [
            KEY.to_owned(),
            format!("{KEY} root@xivo"),
            format!("  {KEY}\txds"),
            format!("no-pty,command=\"echo \\\"hi there\\\"\" {KEY} root@xivo"),
            format!("{OTHER} xds-sync from main"),
            format!("{OTHER} xds-sync from MAIN:8443"),
            format!("restrict,from=\"a, b\" {OTHER} xds-sync from main "),
            // Keys that are not known here are still lines of ours.
            "sk-ssh-ed25519@openssh.com AAAAgarbage xds-sync from main".to_owned(),
        ] {
            for (start, end) in
                [("", "\n"), ("# one\n", "\nthree\n"), ("one\r\n", "\r\nthree\r\n"), ("\n", "")]
            {
                let expected = format!("{start}{ours}{end}");
                assert_eq!(added(&format!("{start}{old}{end}")), expected, "{old}");
                assert_eq!(added(&expected), expected, "again");
            }
        }
        let twice = format!("{KEY} a\n{OTHER} b\n{OTHER} xds-sync from main\n");
        assert_eq!(added(&twice), format!("{ours}\n{OTHER} b\n"), "one line is left");
    }

    #[test]
    fn what_is_not_text_stays() {
        let before = [b"\xff\xfe # x\n".as_slice(), OTHER.as_bytes(), b" caf\xe9\n"].concat();
        let after = with(&before, &entry()).unwrap();
        assert_eq!(after, [before.as_slice(), ours().as_bytes(), b"\n"].concat());
    }

    #[test]
    fn a_main_is_known_by_its_host() {
        for (a, b, same) in [
            ("main", "MAIN", true),
            ("main", "main:8443", true),
            ("[2001:db8::1]:8443", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("main", "main2", false),
        ] {
            assert_eq!(same_host(a, b), same, "{a} {b}");
        }
    }

    #[test]
    fn a_key_beside_another_has_a_line_of_its_own() {
        let new = key(OTHER);
        for end in ["", "\n", "\r\n", "\r"] {
            let before = ours() + end;
            let after = beside(before.as_bytes(), &key(KEY), &new).unwrap().unwrap();
            assert!(
                has(&after, &key(KEY)) && has(&after, &new),
                "{end:?}: {}",
                String::from_utf8_lossy(&after)
            );
        }
    }

    #[test]
    fn leaving_removes_the_lines_of_that_main_alone() {
        let content =
            format!("# x\r\n{KEY} xds-sync from main:8443\n{OTHER} xds-sync from second\n{OTHER} me");
        assert_eq!(mains(content.as_bytes()), ["main:8443", "second"]);
        let left = without(content.as_bytes(), "main");
        assert_eq!(left, format!("# x\r\n{OTHER} xds-sync from second\n{OTHER} me").as_bytes());
        assert_eq!(without(&left, "main"), left);
    }

    proptest! {
        #[test]
        fn leaving_undoes_joining_and_joining_again_changes_nothing(
            lines in proptest::collection::vec("[a-z#\"\\\\ ,=]{0,12}|\\PC{0,12}", 0..6)
        ) {
            let before: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let joined = with(before.as_bytes(), &entry()).unwrap();
            prop_assert_eq!(&with(&joined, &entry()).unwrap(), &joined);
            prop_assert_eq!(without(&joined, "main"), before.as_bytes());
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_file_is_made_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = path_below(home.path());
        let join = || change(&path, |before| with(before, &entry())).unwrap();
        assert_eq!(join(), Changed::Made);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let inode = fs::metadata(&path).unwrap().ino();
        assert_eq!(join(), Changed::Kept);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "nothing was written");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn mode_owner_and_symlinks_stay() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        let real = home.path().join("keys");
        fs::write(&real, format!("{OTHER} me\n")).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o664)).unwrap();
        let path = path_below(home.path());
        std::os::unix::fs::symlink("../keys", &path).unwrap();
        let is_root = fs::metadata(home.path()).unwrap().uid() == 0;
        if is_root {
            std::os::unix::fs::chown(&real, Some(12), Some(34)).unwrap();
        }
        assert_eq!(change(&path, |before| with(before, &entry())).unwrap(), Changed::Replaced);
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("{OTHER} me\n{}\n", ours()));
        assert_eq!(mode(&real), 0o644, "sshd refuses what others can write");
        if is_root {
            let metadata = fs::metadata(&real).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
        }
        fs::remove_file(&real).unwrap();
        let error = change(&path, |before| with(before, &entry())).unwrap_err();
        assert!(error.to_string().contains("leads nowhere"), "{error}");
    }

    #[test]
    fn a_failed_edit_leaves_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_keys");
        fs::write(&path, "x\n").unwrap();
        assert!(change(&path, |_| bail!("no")).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"x\n");
    }
}
