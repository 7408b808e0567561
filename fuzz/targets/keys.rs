//! A node's authorized_keys: what is not ours stays byte for byte, and ours is there once.

use std::path::PathBuf;

use ssh_key::PublicKey;
use xds_sync::enroll::authorized_keys::{self, KeyLine};
use xds_sync::enroll::join::{read_fingerprint, read_key};

const OURS: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGN1i5HnB/5Mc0zxJwcxnnV3rXtXQC/Ai3OB3nTz1xQP";
const NEXT: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBX0vGoLnWlTZ5gu0eNlvhVVMLIcS8ZGHhFtxHJ8G3Yy";

pub(super) fn edit(before: &[u8]) {
    let key = |text: &str| PublicKey::from_openssh(text).expect("a key").key_data().clone();
    let entry = KeyLine {
        key: key(OURS),
        program: PathBuf::from("/usr/bin/xds-sync"),
        from: Some("10.0.0.0/8".to_owned()),
        main: "main.example.org".to_owned(),
    };
    let ours = entry.line().expect("a line").into_bytes();

    let after = authorized_keys::with(before, &entry).expect("an entry that can be written");
    assert_eq!(lines(&after).filter(|line| *line == ours).count(), 1, "our line is there once");
    assert!(is_part_of(lines(&after).filter(|line| *line != ours), lines(before)), "others' lines stay");
    assert_eq!(
        authorized_keys::with(&after, &entry).expect("again"),
        after,
        "the second time changes nothing"
    );
    assert!(authorized_keys::has(&after, &entry.key));

    let without = authorized_keys::without(&after, &entry.main);
    assert!(is_part_of(lines(&without), lines(before)), "others' lines stay");
    assert!(!lines(&without).any(|line| line == ours), "our line is gone");

    let next = key(NEXT);
    if let Some(beside) =
        authorized_keys::beside(&after, &entry.key, &next).expect("a key that can be written")
    {
        // Of one Main there is the old key and the new one, and no other.
        let strangers = authorized_keys::without(&after, &entry.main);
        assert!(is_part_of(lines(&strangers), lines(&beside)), "others' lines stay beside the new ones");
        assert!(authorized_keys::has(&beside, &entry.key) && authorized_keys::has(&beside, &next));
        let left = authorized_keys::with_new_alone(&beside, &entry.key, &next);
        assert!(is_part_of(lines(&left), lines(&beside)) && authorized_keys::has(&left, &next));
        assert!(!authorized_keys::has(&left, &entry.key));
        assert!(is_part_of(lines(&strangers), lines(&left)), "others' lines stay");
        let _ = authorized_keys::ours(&left);
    }
    assert!(authorized_keys::mains(&after).iter().any(|main| authorized_keys::same_host(main, &entry.main)));

    // What a server may answer in the place of Main's key, and what may be typed in the place of its fingerprint.
    if let Ok(key) = read_key(before) {
        assert!(!String::from_utf8_lossy(before).contains("PRIVATE KEY"), "a private key was taken");
        let _ = key.to_openssh().expect("a key that was read can be written");
    }
    let _ = read_fingerprint(&String::from_utf8_lossy(before));
}

/// Lines without their ends; the empty one behind the last end is none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether all of `some` are in `all`, in that order.
fn is_part_of<'a>(some: impl Iterator<Item = &'a [u8]>, mut all: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut some = some;
    some.all(|line| all.any(|other| other == line))
}
