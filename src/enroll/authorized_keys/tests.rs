#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::bail;
use proptest::prelude::*;
use ssh_key::PublicKey;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE3S91yHs/PeTECLiDVksr06hnmsy4TykL5+d8/70Laf";

fn key(text: &str) -> KeyData {
    PublicKey::from_openssh(text).unwrap().key_data().clone()
}

fn ours_of_main() -> KeyLine {
    KeyLine { key: key(KEY), program: "/usr/bin/xds-sync".into(), from: None, main: "main".into() }
}

fn ours() -> String {
    format!("restrict,command=\"/usr/bin/xds-sync agent\" {KEY} xds-sync from main")
}

fn added(before: &str) -> String {
    String::from_utf8(with(before.as_bytes(), &ours_of_main()).unwrap()).unwrap()
}

#[test]
fn a_line_allows_the_agent_and_nothing_else() {
    assert_eq!(ours_of_main().line().unwrap(), ours());
    let from = KeyLine { from: Some("10.0.0.0/8,!10.0.0.9".to_owned()), ..ours_of_main() };
    let line = from.line().unwrap();
    assert!(
        line.starts_with("restrict,command=\"/usr/bin/xds-sync agent\",from=\"10.0.0.0/8,!10.0.0.9\" ssh-")
    );
    for pattern in ["", "a\" ssh-rsa", "a b", "a\nb", "a\\"] {
        assert!(KeyLine { from: Some(pattern.to_owned()), ..ours_of_main() }.line().is_err(), "{pattern}");
    }
    let odd = KeyLine { program: "/srv/it's \"x\"/xds-sync".into(), ..ours_of_main() };
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
        for (start, end) in [("", "\n"), ("# one\n", "\nthree\n"), ("one\r\n", "\r\nthree\r\n"), ("\n", "")] {
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
    let after = with(&before, &ours_of_main()).unwrap();
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
        assert!(has(&after, &key(KEY)) && has(&after, &new), "{end:?}: {}", String::from_utf8_lossy(&after));
    }
}

#[test]
fn leaving_removes_the_lines_of_that_main_alone() {
    let content = format!("# x\r\n{KEY} xds-sync from main:8443\n{OTHER} xds-sync from second\n{OTHER} me");
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
        let joined = with(before.as_bytes(), &ours_of_main()).unwrap();
        prop_assert_eq!(&with(&joined, &ours_of_main()).unwrap(), &joined);
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
    let join = || change(&path, |before| with(before, &ours_of_main())).unwrap();
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
    assert_eq!(change(&path, |before| with(before, &ours_of_main())).unwrap(), Changed::Replaced);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), format!("{OTHER} me\n{}\n", ours()));
    assert_eq!(mode(&real), 0o644, "sshd refuses what others can write");
    if is_root {
        let metadata = fs::metadata(&real).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
    }
    fs::remove_file(&real).unwrap();
    let error = change(&path, |before| with(before, &ours_of_main())).unwrap_err();
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

#[test]
fn of_several_edits_at_the_same_time_none_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let path = path_below(home.path());
    let append = |n: usize| change(&path, |before| Ok([before, format!("line {n}\n").as_bytes()].concat()));
    std::thread::scope(|scope| {
        for n in 0..16 {
            let append = &append;
            scope.spawn(move || append(n).unwrap());
        }
    });
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 16);
}
