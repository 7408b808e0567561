//! What Asterisk shows of what it has loaded. The samples in the tests are what an Asterisk 16.28 printed; an Asterisk 22.10
//! prints the same.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What of a line of `dialplan show` matters here: of those of extensions, which can be many megabytes, the place that
/// they come from.
pub(super) fn what_matters(line: &[u8]) -> &[u8] {
    match line.windows(2).rposition(|window| window == b" [") {
        Some(place) if is_extension(line) => &line[place..],
        None if is_extension(line) => b"",
        _ => line,
    }
}

/// Whether a line of `dialplan show` is that of a priority or a hint.
fn is_extension(line: &[u8]) -> bool {
    const OTHERS: [&[u8]; 3] = [b"  Include =>", b"  Ignore pattern =>", b"  Alt. Switch =>"];
    line.starts_with(b"  ") && !OTHERS.iter().any(|other| line.starts_with(other))
}

/// What `dialplan show` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialplan {
    /// Names of contexts, whoever made them.
    pub(super) contexts: BTreeSet<Vec<u8>>,
    /// Whether these are all. Asterisk drops lines for a reader who is slow, and goes on.
    pub(super) has_all_contexts: bool,
    /// Names of the files that extensions come from, without directories.
    files: BTreeSet<Vec<u8>>,
    /// Whether no line of an extension was dropped.
    pub(super) has_all_extensions: bool,
}

impl Dialplan {
    /// Reads lines of which [`what_matters`] was kept.
    pub(super) fn read(shown: &[u8]) -> Dialplan {
        let mut dialplan = Dialplan::default();
        let mut priorities = 0;
        let mut counted = (None, None);
        for line in shown.split(|&byte| byte == b'\n') {
            if let Some(rest) = line.strip_prefix(b"[ Context '") {
                // A name may have quotes of its own.
                const END: &[u8] = b"' created by '";
                if let Some(end) = rest.windows(END.len()).rposition(|window| window == END) {
                    dialplan.contexts.insert(rest[..end].to_vec());
                }
            } else if let Some(rest) = line.strip_prefix(b"-= ") {
                counted = counts(rest);
            } else if let Some(place) = line.strip_prefix(b" [") {
                priorities += 1;
                // "extensions.conf:3]"; without a number it is the name of what made it.
                if let Some(colon) = place.iter().rposition(|&byte| byte == b':') {
                    dialplan.files.insert(place[..colon].to_vec());
                }
            }
        }
        dialplan.has_all_contexts = counted.1 == Some(dialplan.contexts.len());
        dialplan.has_all_extensions = counted.0 == Some(priorities);
        dialplan
    }

    /// Whether an extension of this file shows.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.files.contains(name.as_bytes()))
    }
}

/// How many priorities and contexts there are: `3 extensions (3 priorities) in 2 contexts. =-`.
fn counts(sum: &[u8]) -> (Option<usize>, Option<usize>) {
    let words: Vec<&[u8]> = sum.split(|&byte| byte == b' ').collect();
    let before = |word: &[u8]| {
        let pair = words.windows(2).find(|pair| pair[1].starts_with(word))?;
        std::str::from_utf8(pair[0].strip_prefix(b"(").unwrap_or(pair[0])).ok()?.parse().ok()
    };
    (before(b"priorit"), before(b"context"))
}

/// A directory in `core show settings`.
///
/// ```text
///   Configuration directory:     /etc/asterisk
/// ```
pub(super) fn setting(shown: &[u8], name: &str) -> Option<PathBuf> {
    let value = |line: &[u8]| -> Option<PathBuf> {
        let value = line.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(PathBuf::from(OsStr::from_bytes(value.trim_ascii())))
    };
    shown.split(|&byte| byte == b'\n').find_map(value)
}

/// A class of `moh show classes` with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MohClass<'a> {
    pub(super) directory: &'a [u8],
    /// Whether it is played file by file; otherwise a program plays it.
    pub(super) is_files: bool,
}

/// ```text
/// Class: default
///     Mode: files
///     Directory: /var/lib/asterisk/moh
/// ```
pub(super) fn moh_classes(shown: &[u8]) -> Vec<MohClass<'_>> {
    let mut classes = Vec::new();
    let mut is_files = false;
    for line in shown.split(|&byte| byte == b'\n') {
        if line.starts_with(b"Class: ") {
            is_files = false;
        } else if let Some(mode) = line.strip_prefix(b"\tMode: ") {
            is_files = mode == b"files";
        } else if let Some(directory) = line.strip_prefix(b"\tDirectory: ") {
            classes.push(MohClass { directory, is_files });
        }
    }
    classes
}

/// The extensions of `core show file formats`, which are those that a loaded module plays.
///
/// ```text
/// Format     Name       Extensions
/// ------     ----       ----------
/// alaw       alaw       alaw|al|alw
/// ```
pub(super) fn file_extensions(shown: &[u8]) -> BTreeSet<Vec<u8>> {
    let rows = shown.split(|&byte| byte == b'\n').skip_while(|line| !line.starts_with(b"------")).skip(1);
    let extensions = rows.filter_map(|row| {
        let mut columns = row.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match (columns.next(), columns.next(), columns.next(), columns.next()) {
            (Some(_), Some(_), Some(extensions), None) => Some(extensions),
            // "7 file formats registered."
            _ => None,
        }
    });
    extensions.flat_map(|extensions| extensions.split(|&byte| byte == b'|')).map(<[u8]>::to_vec).collect()
}

/// The paths of `moh show files`, which lack the extensions.
///
/// ```text
/// Class: default
///     File: /var/lib/asterisk/moh/jingle
/// ```
pub(super) fn moh_files(shown: &[u8]) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    let shown = shown.strip_suffix(b"\n").unwrap_or(shown);
    let mut in_files = false;
    for line in shown.split(|&byte| byte == b'\n') {
        if let Some(file) = line.strip_prefix(b"\tFile: ") {
            files.push(file.to_vec());
            in_files = true;
        } else if line.starts_with(b"Class: ") {
            in_files = false;
        } else if in_files && let Some(file) = files.last_mut() {
            // A name with a line break in it.
            file.push(b'\n');
            file.extend_from_slice(line);
        }
    }
    files
}

/// How `moh show files` shows a file of this name; none for what Asterisk does not take for music.
pub(super) fn moh_entry(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let extension = name.len() - dot - 1;
    (!name.starts_with(b".") && extension >= 2).then_some(&name[..dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALPLAN: &str = "\
[ Context 'after' created by 'pbx_config' ]
  's' (CID match '123') =>  1. NoOp(cid)                                  [extensions.conf:9]
  's' =>            hint: SIP/x                                   [extensions.conf:4]

[ Context ' a 'b' created by ' created by 'pbx_config' ]
  '1' =>            1. NoOp([ Context 'no' created by 'pbx_config' ])       [10-one.conf:2]
     [label]        2. Hangup()                                   [10-[x] two.conf:3]
                    3. Hangup()                                   [pbx_lua]
  Include =>        'after'                                       [pbx_config]
  Ignore pattern => '9'                                           [pbx_config]
  Alt. Switch =>    'Realtime/x'                                  [pbx_config]

-= 3 extensions (5 priorities) in 2 contexts. =-
";

    fn read(text: &str) -> Dialplan {
        let kept: Vec<u8> =
            text.split_inclusive('\n').flat_map(|line| what_matters(line.as_bytes())).copied().collect();
        Dialplan::read(&kept)
    }

    #[test]
    fn what_a_dialplan_shows() {
        let dialplan = read(DIALPLAN);
        assert_eq!(
            dialplan.contexts,
            ["after", " a 'b' created by "].map(|name| name.as_bytes().to_vec()).into()
        );
        assert!(dialplan.has_all_contexts && dialplan.has_all_extensions);
        for (file, is_shown) in
            [("extensions.conf", true), ("x/10-one.conf", true), ("pbx_lua", false), ("2.conf", false)]
        {
            assert_eq!(dialplan.has_file(Path::new(file)), is_shown, "{file}");
        }
        let empty = read("-= 0 extensions (0 priorities) in 0 contexts. =-\n");
        assert!(empty.has_all_contexts && empty.has_all_extensions);
        let one = read("[ Context 'a' created by 'x' ]\n-= 1 extension (1 priority) in 1 context. =-\n");
        assert!(one.has_all_contexts && !one.has_all_extensions);
    }

    #[test]
    fn lines_that_asterisk_drops_are_noticed() {
        let part = read(&DIALPLAN.replace("[ Context 'after' created by 'pbx_config' ]\n", ""));
        assert!(!part.has_all_contexts && part.has_all_extensions);
        let part = read(&DIALPLAN.replace(
            "  's' =>            hint: SIP/x                                   [extensions.conf:4]\n",
            "",
        ));
        assert!(part.has_all_contexts && !part.has_all_extensions);
        for unknown in [read(&DIALPLAN.replace("-= ", "")), read("")] {
            assert!(!unknown.has_all_contexts && !unknown.has_all_extensions);
        }
    }

    #[test]
    fn settings() {
        let shown = b"* Directories\n  -------------\n  Configuration file:          /x/asterisk.conf\n  \
                      Configuration directory:     /srv/a b\n  Data directory:              /usr/share/asterisk\n";
        assert_eq!(setting(shown, "Configuration directory"), Some(PathBuf::from("/srv/a b")));
        assert_eq!(setting(shown, "Data directory"), Some(PathBuf::from("/usr/share/asterisk")));
        assert_eq!(setting(b"Usage: x\n", "Data directory"), None);
    }

    #[test]
    fn music_on_hold() {
        let classes = "Class: default\n\tMode: files\n\tDirectory: /m/default\n\
                       Class: play\n\tMode: playlist\n\tDirectory: nodir\n\tFormat: slin\n\
                       Class: a b\n\tMode: files\n\tDirectory: /m/a b/\n";
        let class =
            |directory: &'static str, is_files| MohClass { directory: directory.as_bytes(), is_files };
        let expected = [class("/m/default", true), class("nodir", false), class("/m/a b/", true)];
        assert_eq!(moh_classes(classes.as_bytes()), expected);
        let files = "Class: default\n\tFile: /m/default/beep\n\tFile: /m/default/new\nline\n\tFile: /m/default/trail \n\
                     Class: a b\n\tFile: /m/a b//x.y\n";
        let expected = ["/m/default/beep", "/m/default/new\nline", "/m/default/trail ", "/m/a b//x.y"];
        assert_eq!(moh_files(files.as_bytes()), expected.map(|file| file.as_bytes().to_vec()));
        assert!(moh_files(b"").is_empty());
    }

    #[test]
    fn extensions_of_formats() {
        let shown = "Format     Name       Extensions          \n------     ----       ----------          \n\
                     alaw       alaw       alaw|al|alw         \nslin       wav        wav                 \n\
                     2 file formats registered.\n";
        let expected = ["al", "alaw", "alw", "wav"].map(|extension| extension.as_bytes().to_vec());
        assert_eq!(file_extensions(shown.as_bytes()), expected.into());
        assert!(file_extensions(b"Usage: x y z\n").is_empty());
    }

    /// As Asterisk 16 shows a directory with each of these in it.
    #[test]
    fn names_of_music() {
        for (name, shown) in [
            ("a.wav", Some("a")),
            ("a.b.c.wav", Some("a.b.c")),
            ("b.mp3", Some("b")),
            ("readme.txt", Some("readme")),
            ("song.wav.part", Some("song.wav")),
            (" lead.wav", Some(" lead")),
            ("x.yy", Some("x")),
            ("x.y", None),
            ("xx.y", None),
            ("dot.", None),
            ("noext", None),
            (".hid.wav", None),
            ("..wav", None),
        ] {
            assert_eq!(moh_entry(name.as_bytes()), shown.map(str::as_bytes), "{name}");
        }
    }
}
